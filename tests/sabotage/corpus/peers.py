"""What one would use instead, where it can judge the case at all: does it complain, by its exit status?

A restore script as sites write them (load it, look at the exit status), restic's and borg's own checks,
restverify and borgmatic's extract check. The last two come from PyPI into a directory of their own,
which PEERS names (script/sabotage --peers makes it); without it their columns stay empty.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from tests.integration.repositories.borg_maker import Borg
from tests.integration.repositories.restic_maker import Restic
from tests.postgres import SUPERUSER
from tests.programs import program
from tests.sabotage.corpus.case import Material
from tests.sabotage.corpus.sources import SUFFIX, Sources

#: Complained, did not, or cannot judge such a thing.
Word = bool | None
Peer = Callable[[Sources, Material, str], Word]
_LIMIT_S = 300


def _fails(*argv: object, **more: object) -> bool:
    done = subprocess.run(
        [str(word) for word in argv], capture_output=True, timeout=_LIMIT_S, **more
    )
    return done.returncode != 0


def _bash(text: str, *arguments: object, **more: object) -> bool:
    return _fails("bash", "-c", f"set -eo pipefail\n{text}", "script", *arguments, **more)


_OPENED = """
opened() { case $1 in *.gz) gzip -dc "$1";; *.zst) zstd -dqc "$1";; *) cat "$1";; esac; }
"""
_SQLITE = """
found=0
for each in $(find "$1" -name '*.db*' ! -name '*-wal' ! -name '*-journal' ! -name '*-shm'); do
  found=1
  opened "$each" > "$2/copy"
  for end in wal journal; do [ ! -e "$each-$end" ] || cp "$each-$end" "$2/copy-$end"; done
  [ "$(sqlite3 "$2/copy" 'pragma integrity_check')" = ok ]
done
for each in $(find "$1" -name '*.sql*'); do found=1; opened "$each" | sqlite3 "$2/made"; done
[ $found = 1 ]
"""


def script(sources: Sources, material: Material, engine: str) -> Word:
    """Restore it and load it; what counts is the exit status, and integrity_check of SQLite."""
    place = sources.place()
    if isinstance(material, Restic):
        argv = [program(f"restic-{material.version}"), "--repo", material.root, "--password-file"]
        argv += [material.password, "--no-cache", "restore", "latest", "--target", place / "r"]
        return _fails(*argv) or _bash(_OPENED + _SQLITE, place / "r", _sub(place))
    if isinstance(material, Borg):
        (place / "r").mkdir()
        if _borg(material, "extract", f"{material.root}::dpi-1", cwd=place / "r"):
            return True
        return _bash(_OPENED + _SQLITE, place / "r", _sub(place))
    if engine == "sqlite":
        return _bash(_OPENED + _SQLITE, material, _sub(place))
    if engine == "files":
        return _fails("cp", "-a", material, place / "restored")
    return {
        "postgresql": _postgresql,
        "postgresql-physical": _postgresql_physical,
        "mariadb": _mariadb,
        "mariadb-physical": _mariadb_physical,
        "firebird": _firebird,
        "openldap": _openldap,
        "samba-ad": _samba,
    }[engine](sources, material, place)


def _sub(place: Path) -> Path:
    made = place / "s"
    made.mkdir()
    return made


def _postgresql(sources: Sources, path: Path, place: Path) -> bool:
    cluster = sources.postgresql.cluster
    bins = "/usr/lib/postgresql/15/bin"
    # The owners are there, as they are on the server that one restores to.
    text = f"""
export PATH={bins}:$PATH
trap 'dropdb --if-exists drill' EXIT
createdb -T template0 drill
if [ -d "$1" ] || head -c 5 "$1" | grep -q PGDMP || tar -tf "$1" >/dev/null 2>&1
then pg_restore -d drill "$1"
else opened "$1" | psql -q -X -v ON_ERROR_STOP=1 -d drill -f - >/dev/null
fi
"""
    return _bash(_OPENED + text, path, env=cluster.environment())


def _postgresql_physical(_sources: Sources, path: Path, place: Path) -> bool:
    """Unpack it, link its tablespaces anew and start it with the log that lies beside it."""
    text = """
export PATH=/usr/lib/postgresql/15/bin:$PATH
cp -r "$1" "$2/c"; cd "$2/c"; wal=$PWD/wal
if [ -e base.tar.gz ]; then
  mkdir data; tar -xzf base.tar.gz -C data; mkdir -p data/pg_wal data/pg_tblspc
  [ ! -e pg_wal.tar.gz ] || tar -xzf pg_wal.tar.gz -C data/pg_wal
  for each in [0-9]*.tar.gz; do
    [ -e "$each" ] || continue
    mkdir "s${each%%.*}"; tar -xzf "$each" -C "s${each%%.*}"
    ln -sfn "$PWD/s${each%%.*}" "data/pg_tblspc/${each%%.*}"
  done
  rm -f data/tablespace_map
else
  for each in data/pg_tblspc/*; do ln -sfn "$PWD/spaces" "$each"; done
fi
chmod 700 data; mkdir "$2/k"
[ ! -d "$wal" ] || touch data/recovery.signal
settings="-c shared_preload_libraries= -c archive_mode=off -c listen_addresses="
trap 'pg_ctl -D data -m immediate stop >/dev/null 2>&1' EXIT
pg_ctl -D data -l "$2/log" -w -t 60 start -o "$settings -k $2/k -c restore_command='cp $wal/%f %p'"
psql -h "$2/k" -U "$3" -d dpi -c 'select 1'
"""
    return _bash(text, path, place, SUPERUSER, stdin=subprocess.DEVNULL)


def _firebird(sources: Sources, path: Path, place: Path) -> bool:
    """Restore it with gbak; of a file, what gfix says."""
    programs, _ = sources.firebird
    if path.suffix == ".gz" and _bash('gzip -dc "$1" >"$2"', path, place / "sang.fbk"):
        return True
    copy = place / "copy.fdb"
    try:
        if path.suffix == ".fdb":
            shutil.copy(path, copy)
            with suppress(AssertionError):  # refused unless it was copied under nbackup's lock
                programs.run("nbackup", "-F", copy)
            return bool(programs.run("gfix", "-validate", "-full", copy))
        unpacked = place / "sang.fbk" if path.suffix == ".gz" else path
        programs.run("gbak", "-create_database", unpacked, copy)
    except AssertionError:
        return True
    return False


def _samba(_sources: Sources, path: Path, place: Path) -> bool:
    text = """
tar -xf "$1" -C "$2"
samba-tool dbcheck --cross-ncs -H "tdb://$2/private/sam.ldb" --option="private dir=$2/private"
"""
    return _bash(text, path, place)


def _mariadb(sources: Sources, path: Path, place: Path) -> bool:
    text = """
client="mariadb --no-defaults --socket=$2 --user=root"
$client -e 'drop database if exists drill; create database drill'
opened "$1" | sed '/^CREATE DATABASE /d; /^USE /d' | $client drill >/dev/null
"""
    return _bash(_OPENED + text, path, sources.mariadb.socket)


def _mariadb_physical(_sources: Sources, path: Path, place: Path) -> bool:
    """Prepare what is there in the order of its own marks: the exit status counts."""
    text = """
cp -r "$1"/. "$2"; cd "$2" || exit 1
first=
for one in $(grep -H ^to_lsn */xtrabackup_checkpoints | sort -t= -k2n | cut -d/ -f1); do
  increment=${first:+--incremental-dir="$2/$one"} first=${first:-$one}
  mariadb-backup --prepare --target-dir="$2/$first" $increment || exit 1
done
[ -n "$first" ]
"""
    return _bash(text, path, place)


def _openldap(sources: Sources, path: Path, place: Path) -> bool:
    assert sources.ldif
    conf = (sources.directory / "ldap" / "slapd.conf").read_text()
    conf = conf.replace(f"directory {sources.directory / 'ldap'}", f"directory {place}")
    (place / "slapd.conf").write_text(conf)
    if path.name == "data.mdb":
        shutil.copy(path, place / "data.mdb")
        return _fails("/usr/sbin/slapcat", "-f", place / "slapd.conf", "-b", SUFFIX)
    return _bash(_OPENED + 'opened "$1" | /usr/sbin/slapadd -q -f "$2"', path, place / "slapd.conf")


def _restic_check(*options: str) -> Peer:
    def judge(sources: Sources, material: Material, engine: str) -> Word:
        if not isinstance(material, Restic):
            return None
        argv = [program(f"restic-{material.version}"), "--repo", material.root, "--password-file"]
        return _fails(*argv, material.password, "--no-cache", "check", *options)

    return judge


def _borg(made: Borg, *arguments: object, **more: object) -> bool:
    try:
        made.run(*map(str, arguments), timeout=_LIMIT_S, **more)
    except subprocess.CalledProcessError:
        return True
    return False


def _borg_check(sources: Sources, material: Material, engine: str) -> Word:
    if not isinstance(material, Borg):
        return None
    return _borg(material, "check", "--verify-data", material.root)


def _installed(name: str) -> Path | None:
    path = Path(os.environ.get("PEERS", "/nonexistent")) / "bin" / name
    return path if os.access(path, os.X_OK) else None


def _restverify(sources: Sources, material: Material, engine: str) -> Word:
    tool = _installed("restverify")
    if tool is None or not isinstance(material, Restic):
        return None
    home = sources.place()
    restic = program(f"restic-{material.version}")
    (home / "restic").symlink_to(restic)
    environment = {**os.environ, "HOME": str(home), "RESTIC_PASSWORD_FILE": str(material.password),
                   "PATH": f"{home}:{os.environ['PATH']}"}  # fmt: skip
    return _fails(tool, "run", "-r", material.root, "-s", material.source, env=environment)


def _borgmatic(sources: Sources, material: Material, engine: str) -> Word:
    tool = _installed("borgmatic")
    if tool is None or not isinstance(material, Borg):
        return None
    home = sources.place()
    (home / "c.yaml").write_text(
        f"repositories:\n  - path: {material.root}\nsource_directories:\n  - {material.source}\n"
        f"encryption_passcommand: cat {material.passphrase}\n"
        "relocated_repo_access_is_ok: true\nunknown_unencrypted_repo_access_is_ok: true\n"
        f"borg_base_directory: {material.root.with_name(material.root.name + '-writer')}\n"
        "checks:\n  - name: extract\n"
    )
    environment = {**os.environ, "HOME": str(home)}
    argv = [tool, "--config", home / "c.yaml", "check", "--force", "--only", "extract"]
    return _fails(*argv, env=environment)


PEERS: Mapping[str, Peer] = {
    "restore script": script,
    "restic check": _restic_check(),
    "restic check --read-data": _restic_check("--read-data"),
    "restverify": _restverify,
    "borg check --verify-data": _borg_check,
    "borgmatic extract": _borgmatic,
}
