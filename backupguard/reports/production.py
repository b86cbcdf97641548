"""Production commands of a recovery, from templates per tool and per engine.

They are what a person types on the server that becomes production again: durable writes, the
engine's own defaults, nothing of what makes a restore test quick. `$RESTORE` is an empty directory
with enough room, `$KEY` and `$ACCESS` files that the person made of the keys; no secret stands here.
Sources: the manual pages of each program (restic-restore, borg-extract, pgbackrest, barman-recover,
aws s3api get-object, pg_restore, psql, mariadb, slapadd, rsync).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from backupguard.contracts import RepositorySettings
from backupguard.model import RecoveryPoint
from backupguard.repositories.s3_objects import key_and_version

#: borg's names are recorded cut at this length: a longer one cannot be typed.
_LONGEST_NAME = 200

_TIMED = re.compile(r"(.+)@\d{8}T\d{6}Z(?:\+(.+))?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One point of one job, and where it lies. `database` is what the job says it saves."""

    repository: str
    settings: RepositorySettings
    point: RecoveryPoint
    paths: tuple[str, ...]
    name: str | None
    database: str
    version: str  # of the engine, "15"; "VERSION" where nobody knows it


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """How a copy is brought back, and where the artifact is then: a file, a directory or a cluster."""

    commands: tuple[str, ...]
    artifacts: tuple[str, ...]  # as shell words
    cluster: bool = False  # a data directory in its place: nothing is loaded


def quoted(text: str) -> str:
    """Return a text as one word of the shell, on one line and printable."""
    if text.isprintable():
        return shlex.quote(text)
    plain = text.replace("\\", "\\\\").replace("'", "\\'")
    escaped = "".join(
        c
        if c.isprintable()
        else "".join(f"\\x{b:02x}" for b in c.encode("utf-8", "surrogateescape"))
        for c in plain
    )
    return f"$'{escaped}'"


def _below(directory: str, path: str) -> str:
    return f'"{directory}"/{quoted(path.lstrip("/"))}'


def _restic(copy: Copy) -> Fetched:
    settings: Any = copy.settings
    lines = [
        f"export RESTIC_REPOSITORY={quoted(settings.url)}",
        'export RESTIC_PASSWORD_FILE="$KEY"',
    ]
    if settings.url.startswith("s3:"):
        lines.append('export AWS_SHARED_CREDENTIALS_FILE="$ACCESS"')
    elif settings.url.startswith("rest:") and settings.credentials.backend is not None:
        lines.append('export RESTIC_REST_USERNAME="$(cut -d: -f1 "$ACCESS")"')
        lines.append('export RESTIC_REST_PASSWORD="$(cut -d: -f2- "$ACCESS")"')
    words = [
        "restic",
        "restore",
        quoted(copy.point.native_id),
        "--target",
        '"$RESTORE"',
        "--verify",
    ]
    for path in copy.paths:
        words += ["--include", quoted(path)]
    lines.append(" ".join(words))
    return Fetched(commands=tuple(lines), artifacts=_artifacts(copy.paths))


def _borg(copy: Copy) -> Fetched | None:
    settings: Any = copy.settings
    name = unquote(str((copy.point.extra or {}).get("name") or ""))
    if not name or len(name) >= _LONGEST_NAME:
        return None
    archive = quoted(f"{settings.url}::{name}")
    paths = " ".join(quoted(path.lstrip("/")) for path in copy.paths)
    return Fetched(
        commands=(
            'export BORG_PASSCOMMAND="cat $KEY"',
            f'cd "$RESTORE" && borg extract --list {archive} {paths}'.rstrip(),
        ),
        artifacts=_artifacts(copy.paths),
    )


def _pgbackrest(copy: Copy) -> Fetched:
    settings: Any = copy.settings
    lines: list[str] = []
    user = "sudo -u postgres"
    if settings.credentials.reader is not None:  # the passphrase of the repository
        user = "sudo --preserve-env -u postgres"
        lines.append(f"export PGBACKREST_REPO{settings.repo}_CIPHER_TYPE=aes-256-cbc")
        lines.append(f'export PGBACKREST_REPO{settings.repo}_CIPHER_PASS="$(cat "$KEY")"')
    words = [f"{user} pgbackrest", f"--stanza={quoted(copy.name or 'STANZA')}"]
    if settings.credentials.backend is not None:
        words.append('--config="$ACCESS"')
    words.append(f"--repo={settings.repo}")
    if settings.path is not None:
        words.append(f"--repo{settings.repo}-path={quoted(str(settings.path))}")
    words.append(f"--pg1-path=/var/lib/postgresql/{copy.version}/main")
    words += [f"--set={quoted(copy.point.native_id)}", "restore"]
    return Fetched(commands=(*lines, " ".join(words)), artifacts=(), cluster=True)


def _barman(copy: Copy) -> Fetched:
    words = ["sudo -u barman barman recover", quoted(copy.name or "SERVER")]
    words += [quoted(copy.point.native_id), f"/var/lib/postgresql/{copy.version}/main"]
    words.append("--remote-ssh-command 'ssh postgres@SERVER'")
    return Fetched(commands=(" ".join(words),), artifacts=(), cluster=True)


def _directory(copy: Copy) -> Fetched:
    settings: Any = copy.settings
    copied = "cp --recursive --preserve=timestamps"
    # What an incremental copy builds on comes first; a directory each, for names may be equal.
    bases = [name for name in reversed(copy.point.needs) if not name.startswith("lsn:")]
    chain = [_path_of(name) for name in (*bases, copy.point.native_id)]
    sources = [str(PurePosixPath(settings.path) / path) for path in chain]
    if len(sources) > 1:
        return Fetched(
            commands=tuple(
                f'{copied} {quoted(one)} "$RESTORE"/{n}' for n, one in enumerate(sources)
            ),
            artifacts=tuple(f'"$RESTORE"/{n}' for n in range(len(sources))),
        )
    return Fetched(
        commands=(f'{copied} {quoted(sources[0])} "$RESTORE"/',),
        artifacts=(_below("$RESTORE", PurePosixPath(sources[0]).name),),
    )


def _path_of(native_id: str) -> str:
    """Return where a point of a directory lies: a name without a date has a time behind it."""
    found = _TIMED.match(native_id)
    return unquote((found[2] or found[1]) if found else native_id)


def _s3(copy: Copy) -> Fetched | None:
    settings: Any = copy.settings
    named = key_and_version(copy.point.native_id)
    if named is None:
        return None
    key, version = named
    target = _below("$RESTORE", PurePosixPath(key).name)
    words = ["aws s3api get-object", f"--bucket {quoted(settings.bucket)}", f"--key {quoted(key)}"]
    if version != "null":
        words.append(f"--version-id {quoted(version)}")
    if settings.endpoint is not None:
        words.append(f"--endpoint-url {quoted(settings.endpoint)}")
    words += [f"--region {quoted(settings.region)}", target]
    return Fetched(
        commands=('export AWS_SHARED_CREDENTIALS_FILE="$ACCESS"', " ".join(words)),
        artifacts=(target,),
    )


def _artifacts(paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(_below("$RESTORE", path) for path in paths) or ('"$RESTORE"',)


_TOOLS: Mapping[str, Callable[[Copy], Fetched | None]] = {
    "restic": _restic,
    "borg": _borg,
    "pgbackrest": _pgbackrest,
    "barman": _barman,
    "directory": _directory,
    "s3": _s3,
}


def fetch(copy: Copy) -> Fetched | None:
    """Return how a copy is brought back; None for a tool without a template."""
    template = _TOOLS.get(copy.settings.type)
    return template(copy) if template is not None else None


# -------------------------------------------------------------------------------------- engines


def _postgresql(artifact: str, copy: Copy) -> tuple[str, ...]:
    database = quoted(copy.database)
    create = f"sudo -u postgres createdb --template=template0 {database}"
    psql = f"sudo -u postgres psql --no-psqlrc --set=ON_ERROR_STOP=1 --dbname={database}"
    name = artifact.rstrip("'\"").lower()
    if name.endswith((".sql.gz", ".sql.zst", ".sql.xz")):
        load = f"{_unpack(name)} {artifact} | {psql}"
    elif name.endswith(".sql"):
        load = f"{psql} < {artifact}"
    else:
        load = (
            "sudo -u postgres pg_restore --exit-on-error --jobs=$(nproc) "
            f"--dbname={database} {artifact}"
        )
    analyze = f"sudo -u postgres vacuumdb --analyze-only {database}"
    return 'chown --recursive postgres: "$RESTORE"', create, load, analyze


def _mariadb(artifact: str, copy: Copy) -> tuple[str, ...]:
    database = copy.database.replace("`", "``")
    name = artifact.rstrip("'\"").lower()
    packed = name.endswith((".gz", ".zst", ".xz"))
    target = f"mariadb {quoted(copy.database)}"
    load = f"{_unpack(name)} {artifact} | {target}" if packed else f"{target} < {artifact}"
    create = "mariadb --execute=" + quoted(f"create database `{database}`")
    check = f"mariadb-check --check {quoted(copy.database)}"
    return create, load, check


def _mariadb_physical(artifacts: Sequence[str], copy: Copy) -> tuple[str, ...]:
    """Copies of mariadb-backup: the full one, then what builds on it, prepared into one.

    A tree of them is laid out by whoever made it: which is the full one, its name tells.
    """
    first, *more = artifacts
    unpacked: tuple[str, ...] = ()
    name = first.rstrip("'\"").lower()
    if any(f".{kind}" in name for kind in ("mbstream", "xbstream", "xb")):
        packed = name.endswith((".gz", ".zst", ".xz"))
        stream = f"{_unpack(name)} {first} |" if packed else f"cat {first} |"
        unpacked = ('mkdir "$RESTORE"/full', f'{stream} mbstream -x -C "$RESTORE"/full')
        first = '"$RESTORE"/full'
    elif copy.settings.type != "directory":
        first, more = f"{first}/FULL-COPY", [f"{first}/EACH-INCREMENTAL-COPY-IN-ITS-ORDER"]
    prepare = f"mariadb-backup --prepare --target-dir={first}"
    return (
        *unpacked,
        prepare,
        *(f"{prepare} --incremental-dir={one}" for one in more),
        "systemctl stop mariadb",
        "mv /var/lib/mysql /var/lib/mysql.before",
        "install --directory --owner=mysql --group=mysql --mode=0700 /var/lib/mysql",
        f"mariadb-backup --copy-back --target-dir={first}",
        "chown --recursive mysql:mysql /var/lib/mysql",
        "systemctl start mariadb",
        "mariadb-check --all-databases --check",
    )


def _sqlite(artifact: str, _copy: Copy) -> tuple[str, ...]:
    return (
        f"sqlite3 {artifact} 'pragma integrity_check'",
        f"install --owner=ACCOUNT --group=ACCOUNT --mode=0640 {artifact} PRODUCTION-FILE",
    )


def _firebird(artifact: str, _copy: Copy) -> tuple[str, ...]:
    name = artifact.rstrip("'\"").lower()
    own = "chown firebird: PRODUCTION-DATABASE"
    if name.endswith((".fdb", ".gdb")):
        return f"cp {artifact} PRODUCTION-DATABASE", own, "gfix -v -full PRODUCTION-DATABASE"
    create = "gbak -create_database"
    if name.endswith((".gz", ".zst", ".xz")):
        return f"{_unpack(name)} {artifact} | {create} stdin PRODUCTION-DATABASE", own
    return f"{create} {artifact} PRODUCTION-DATABASE", own


def _openldap(artifact: str, _copy: Copy) -> tuple[str, ...]:
    name = artifact.rstrip("'\"").lower()
    add = "sudo -u openldap slapadd -n 1 -F /etc/ldap/slapd.d"
    packed = name.endswith((".gz", ".zst", ".xz"))
    return (
        "systemctl stop slapd",
        "mv /var/lib/ldap /var/lib/ldap.before",
        "install --directory --owner=openldap --group=openldap --mode=0700 /var/lib/ldap",
        f"{_unpack(name)} {artifact} | {add}" if packed else f"{add} < {artifact}",
        "systemctl start slapd",
    )


def _samba_ad(artifact: str, _copy: Copy) -> tuple[str, ...]:
    place = "--targetdir=/var/lib/samba-restored"
    return (
        "systemctl stop samba-ad-dc",
        f"samba-tool domain backup restore --newservername=NEW-NAME --backup-file={artifact} {place}",
        "samba -s /var/lib/samba-restored/etc/smb.conf",
        "samba-tool dbcheck --cross-ncs -s /var/lib/samba-restored/etc/smb.conf",
    )


def _files(artifact: str, _copy: Copy) -> tuple[str, ...]:
    options = "--archive --hard-links --acls --xattrs --numeric-ids"
    return (f"rsync {options} {artifact}/ PRODUCTION-DIRECTORY/",)


def _instance(artifact: str, copy: Copy) -> tuple[str, ...]:
    """A copy that is tested on a scratch server: SQL Server's by its name, else PostgreSQL's.

    Nothing says REPLACE: a database that stands is never overwritten by a command of a plan.
    """
    if not artifact.rstrip("'\"").lower().endswith(".bak"):
        return _postgresql(artifact, copy)
    database = copy.database.replace("]", "]]")
    disk = "FROM DISK = N'SERVER-DIRECTORY/$(FILE)'"
    text = copy.database.replace("'", "''")
    statements = (
        f"RESTORE FILELISTONLY {disk}",
        f"RESTORE VERIFYONLY {disk}",
        f"RESTORE DATABASE [{database}] {disk} WITH RECOVERY, STATS = 5",
        f"DBCC CHECKDB (N'{text}') WITH NO_INFOMSGS",
    )
    ask = 'sqlcmd -S PRODUCTION-SERVER -b -v FILE="$FILE" -Q '
    return (
        f'FILE="$(basename {artifact})"',
        f"cp {artifact} SERVER-DIRECTORY/",
        *(ask + quoted(statement) for statement in statements),
    )


def _unpack(name: str) -> str:
    return {"gz": "zcat", "zst": "zstdcat", "xz": "xzcat"}[name.rpartition(".")[2]]


_ENGINES: Mapping[str, Callable[[str, Copy], tuple[str, ...]]] = {
    "postgresql": _postgresql,
    "mariadb": _mariadb,
    "sqlite": _sqlite,
    "firebird": _firebird,
    "openldap": _openldap,
    "samba-ad": _samba_ad,
    "files": _files,
    "instance": _instance,
}


def load(engine: str, fetched: Fetched, copy: Copy) -> tuple[str, ...] | None:
    """Return how a fetched copy becomes production; None for an engine without a template."""
    if fetched.cluster:
        service = f"postgresql@{copy.version}-main"
        return f"systemctl start {service}", "sudo -u postgres vacuumdb --all --analyze-only"
    if engine == "mariadb-physical":
        return _mariadb_physical(fetched.artifacts, copy)
    template = _ENGINES.get(engine)
    if template is None:
        return None
    return tuple(line for one in fetched.artifacts for line in template(one, copy))


def before(fetched: Fetched, copy: Copy) -> tuple[str, ...]:
    """Return what must be done before the fetch: room, or an empty place for the cluster."""
    if fetched.cluster:
        place = f"/var/lib/postgresql/{copy.version}/main"
        owner = "--owner=postgres --group=postgres --mode=0700"
        return (
            f"systemctl stop postgresql@{copy.version}-main",
            f"mv {place} {place}.before",
            f"install --directory {owner} {place}",
        )
    return ('mkdir --parents --mode=0700 "$RESTORE"', 'df -h "$RESTORE"')
