"""Recognises backup tools in command lines and scripts, and what they say of what they save.

Command lines hold passwords in places nobody foresees. So nothing of one is kept but the tool's name,
addresses of repositories without their passwords, and names of databases that are later compared with
those that exist.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

from backupguard.databases import DatabasePattern
from probes.discovery_files import is_secret_key, without_password
from probes.discovery_found import clean

TOOLS = frozenset(
    {
        *(
            "restic",
            "rustic",
            "resticprofile",
            "autorestic",
            "borg",
            "borgmatic",
            "kopia",
            "duplicity",
        ),
        *("duplicati-cli", "rdiff-backup", "rsnapshot", "backupninja", "bup", "tarsnap", "rclone"),
        *("pgbackrest", "barman", "barman-cloud-backup", "pg_dump", "pg_dumpall", "pg_basebackup"),
        *("pg_probackup", "wal-g", "autopostgresqlbackup", "pg_back", "mysqldump", "mariadb-dump"),
        *("mariadb-backup", "mariabackup", "xtrabackup", "mydumper", "automysqlbackup", "slapcat"),
        *("mongodump", "proxmox-backup-client", "vzdump", "rear", "bconsole", "dsmc", "nsrsave"),
        *("influxd-backup", "samba-tool"),
    }
)
#: Housekeeping of Debian and our own timers: no backup of the hospital's data.
_NOT_BACKUPS = re.compile(
    r"dpkg|alternatives|backupguard|backup-?manager-?clean|e2scrub", re.IGNORECASE
)
_NAMED_SO = re.compile(r"backup|sauvegarde|\bsauv|bkp|dump", re.IGNORECASE)
_WORD = re.compile(r"(?<![\w./-])(?:/[\w./-]*/)?([a-z][a-z0-9_-]+)(?![\w.-])")
_WRAPPERS = frozenset(
    {
        *("sudo", "nice", "ionice", "chronic", "timeout", "flock", "env", "exec", "time", "setsid"),
        *("systemd-cat", "systemd-inhibit", "su", "runuser", "sh", "bash", "dash", "test", "cd"),
    }
)
#: What these tools do when they do not save anything.
_READS_ONLY = frozenset(
    {
        *("check", "prune", "forget", "snapshots", "list", "info", "stats", "expire", "cron"),
        *("verify", "unlock", "compact", "version", "rest-server"),
    }
)
_SAVES = frozenset({"backup", "create", "sync", "copy"})
#: Options of dump programs that take the next word.
_TAKES_VALUE = {
    "postgresql": frozenset(f"-{letter}" for letter in "UhpdfFnNtTZjESD"),
    "mariadb": frozenset(f"-{letter}" for letter in "uhPSrwT"),
}
SCRIPT_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """A backup tool in a command: its name, where copies go, which databases it seems to save."""

    tool: str
    repositories: tuple[str, ...] = ()
    claims: tuple[DatabasePattern, ...] = ()
    secret: bool = False


def recognise(command: str, host: str) -> Recognised | None:
    """Return which backup tool a command line starts, or None; "script" for one only named so."""
    words = _words(command)
    secret = any(_is_secret_word(word) for word in words)
    for position, word in enumerate(words):
        name = PurePosixPath(word).name
        if name in TOOLS and (position == 0 or not word.startswith("-")):
            rest = words[position + 1 :]
            if _READS_ONLY & set(rest) and not _SAVES & set(rest):
                continue
            claims = tuple(_claims(name, rest, host))
            repositories = tuple(dict.fromkeys(_repositories(name, words)))
            if name[:2] in {"my", "ma"}:  # -pPASSWORD
                secret = secret or any(re.match(r"-p.", option) for option in rest)
            return Recognised(tool=name, repositories=repositories, claims=claims, secret=secret)
    program = _program(words)
    if program and _NAMED_SO.search(program) and not _NOT_BACKUPS.search(program):
        return Recognised(tool="script", secret=secret)
    return None


def script_of(command: str) -> Path | None:
    """Return the file that a command runs, where it is one by an absolute path."""
    for word in _words(command):
        if word.startswith("/") and PurePosixPath(word).name not in _WRAPPERS | TOOLS:
            return Path(word)
    return None


def tools_in_script(text: str) -> str | None:
    """Return the first backup tool that a shell script calls, or None."""
    if not text.startswith("#!"):
        return None
    for line in text.splitlines()[1:]:
        if line.lstrip().startswith("#"):
            continue
        for match in _WORD.finditer(line):
            if match[1] in TOOLS and match[1] not in {"rclone", "samba-tool", "rear"}:
                return match[1]
    return None


def not_a_backup(name: str) -> bool:
    """Tell whether a unit or script of this name is known to be no backup of data."""
    return _NOT_BACKUPS.search(name) is not None


def has_secret(command: str) -> bool:
    """Tell whether a command line seems to hold a secret, so that its place can be named."""
    return any(_is_secret_word(word) for word in _words(command))


def _words(command: str) -> list[str]:
    """Split a command line; what no shell could split is split at spaces."""
    try:
        words = shlex.split(command, comments=False)
    except ValueError:
        words = command.split()
    split: list[str] = []
    for word in words:
        # the text of `sh -c '…'` is a command line of its own
        split += word.split() if " " in word and any(f"{t} " in word for t in TOOLS) else [word]
    return [part for word in split for part in re.split(r"[;|&()`]+", word) if part]


def _program(words: Sequence[str]) -> str:
    for word in words:
        if re.match(r"[A-Za-z_]\w*=", word) or word.startswith("-"):
            continue
        name = PurePosixPath(word).name
        if name not in _WRAPPERS and not word.isdigit():
            return name
    return ""


def _is_secret_word(word: str) -> bool:
    key, mark, value = word.partition("=")
    if mark and value and is_secret_key(key):
        return True
    return without_password(word)[1] and "@" in word


def _repositories(tool: str, words: Sequence[str]) -> Iterator[str]:
    """Yield where the copies go, without passwords."""
    for word in words:
        for name in ("RESTIC_REPOSITORY=", "BORG_REPO=", "--repo=", "--repository="):
            if word.startswith(name):
                yield clean(without_password(word.removeprefix(name))[0])
    if tool == "restic":
        for option, value in pairwise(words):
            if option in {"-r", "--repo"}:
                yield clean(without_password(value)[0])
    if tool == "borg":
        for word in words:
            if "::" in word:
                yield clean(without_password(word.partition("::")[0])[0])


def _claims(tool: str, words: Sequence[str], host: str) -> Iterator[DatabasePattern]:
    """Yield the databases that the arguments of a dump program seem to name."""
    engine = {"pg": "postgresql", "my": "mariadb", "ma": "mariadb"}.get(tool[:2])
    if engine is None or tool in {"pg_probackup", "pg_back", "mydumper"}:
        return
    place = _value(words, "-h", "--host") or ""
    port = _value(words, "-p" if engine == "postgresql" else "-P", "--port")
    names = _positional(words, _TAKES_VALUE[engine])
    if tool in {"pg_dumpall", "pg_basebackup", "mariadb-backup", "mariabackup"} or any(
        word in {"--all-databases", "-A"} for word in words
    ):
        names = ["*"]
    elif engine == "postgresql":
        named = (_value(words, "-d", "--dbname") or "").partition("?")[0]
        within = re.search(r"\bdbname=(\S+)", named)
        names = [within[1] if within else named.rpartition("/")[2]] if named else names[:1]
    elif not {"--databases", "-B"} & set(words):
        names = names[:1]  # the others are tables
    for name in dict.fromkeys(names):
        yield DatabasePattern(
            engine=engine,
            host=place.lower() if not place.startswith("/") and place else host,
            port=int(port) if port and port.isdigit() else None,
            name=name,
        )


def _positional(words: Sequence[str], takes_value: frozenset[str]) -> list[str]:
    """Return the words that are no options, their values or redirections."""
    found, skip = [], False
    for word in words:
        if word.startswith((">", "<", "2>")):
            break
        if not skip and re.fullmatch(r"[A-Za-z_][\w$.-]*", word):
            found.append(word)
        skip = word in takes_value
    return found


def _value(words: Sequence[str], short: str, long: str) -> str | None:
    for position, word in enumerate(words):
        if word in {short, long}:
            return words[position + 1] if position + 1 < len(words) else None
        if word.startswith(f"{long}="):
            return word.partition("=")[2]
        if word.startswith(short) and len(word) > 2 and not word.startswith("--"):
            return word[2:]
    return None
