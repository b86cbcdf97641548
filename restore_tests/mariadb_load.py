"""Loads a dump of mariadb-dump or mysqldump, and judges what the client said meanwhile.

The dump passes through a fixed filter on its way to the client, both inside the sandbox: it looks for
what the dump's own tool never writes and for the line that it writes last, and leaves the server's own
tables out. An error leaves the sandbox as its number and state.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import structlog

from backupguard.contracts import Completed, Trial
from backupguard.errors import BackupDefect, BackupGuardError, MissingMeans, Misunderstood
from restore_tests import inside
from restore_tests.mariadb_server import MariadbServer, of
from restore_tests.unpacking import READ

log = structlog.get_logger(__name__)

_LOAD = (
    READ
    + """
compression=$1 file=$2 filter=$3 messages=$4; shift 4
export LC_ALL=C  # bytes, not characters: several times as fast
{ opened "$compression" "$file" 2>/tmp/opening; echo "opened $?" >/tmp/opened; } \\
  | awk -v status=/tmp/status "$filter" \\
  | { "$@" 2>&1 >/dev/null; echo "client $?" >/tmp/client; } | awk "$messages"
cat /tmp/opened /tmp/status /tmp/client
"""
)
_FACT = re.compile(r"(opened|trailer|hostile|skipped|client) (\d{1,12})\Z")
_ERROR = re.compile(r"error (\d{1,6}) ([0-9A-Z]{5}) (\d{1,12})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerError:
    """A kind of error and how often it was said: number and SQLSTATE as the client prints them."""

    number: int
    state: str
    count: int


#: What an error says of the backup, by number (https://mariadb.com/kb/en/mariadb-error-codes/); the
#: others by the class of their SQLSTATE.
_HOSTILE = frozenset({1290, 1148, 4166, 1123, 1126, 1127, 1085, 1086, 29})
_BENIGN = frozenset({
    1193,  # a system variable that this server lacks
    1238,  # one that only reads
    1235,  # "not supported": a hint in a comment of another version
})  # fmt: skip
_VERSION = frozenset({1115, 1273, 1253})  # character set or collation of another version or maker
_EXTENSION = frozenset({1286, 1524, 1911})  # storage engine or plug-in that is not installed
_NO_DISK = frozenset({3, 28, 1021, 1026, 1114})
_NO_MEMORY = frozenset({5, 1037, 1038, 1041, 1135})
_SERVER = frozenset({2002, 2003, 2006, 2013, 2055, 1053, 1927})
_REFUSED_STATES = ("21", "22", "23", "42", "45", "0A", "3D")
#: Of the general state HY000, those that speak of the dump's own rows and objects.
_REFUSED = frozenset({
    1005, 1071, 1118, 1170, 1215, 1264, 1265, 1292, 1356, 1364, 1366, 1406, 1442, 1449,
    1901, 1905, 4025, 1419, 1832, 1833,
})  # fmt: skip


def load(trial: Trial) -> None:
    """Load the dump; raise what its messages amount to."""
    server = of(trial)
    server.query(f"create database `{server.database}` character set utf8mb4")
    path = trial.match.extra["path"]
    source = trial.artifact if path in {".", ""} else trial.artifact / path
    facts, errors = _read(_load(trial, server, source))
    trial.memory["skipped"] = facts.get("skipped", 0)
    trial.memory["benign"] = sum(error.count for error in errors if error.number in _BENIGN)
    if errors:
        # Who wonders about an error finds its number here; nothing is quoted.
        said = [f"{error.number} {error.state} {error.count}" for error in errors[:20]]
        log.info("mariadb.messages", messages=said)
    error = concluded(facts, errors, trial.match.compression)
    if error is not None:
        raise error


def concluded(
    facts: Mapping[str, int], errors: Sequence[ServerError], compression: str | None
) -> BackupGuardError | None:
    """Return what a load's facts and errors amount to; None where all of the dump was taken.

    What explains the others comes first. Only a filter that read to the end of its input knows whether
    the dump's last line is there: one that was cut off by a client that died knows nothing.
    """
    if facts.get("hostile"):
        return BackupDefect("hostile", count=facts["hostile"])
    error = judge(errors)
    if isinstance(error, MissingMeans) or (error is not None and error.code == "hostile"):
        return error
    # Said before any refused row, and before what nobody understands: the row that was cut in two is
    # refused as well, and what a damaged stream yields may be anything.
    if facts.get("opened") in {1, 2} and compression:
        return BackupDefect("truncated")
    if error is not None and not isinstance(error, BackupDefect):
        return error
    if facts.get("opened") != 0:
        status = facts.get("opened", -1)
        return Misunderstood("unknown_exit", program=compression or "cat", status=status)
    client = facts.get("client", -1)
    if client not in {0, 1} or "trailer" not in facts or (client == 1 and not errors):
        return Misunderstood("unknown_exit", program="mariadb", status=client)
    return error if facts["trailer"] else BackupDefect("truncated")


def _load(trial: Trial, server: MariadbServer, source: PurePosixPath) -> Completed:
    # One that connects again in silence has lost the settings of the dump's head.
    client = server.argv(
        "--sandbox", "--force", "--skip-reconnect", f"--database={server.database}"
    )
    arguments: Sequence[str] = (
        trial.match.compression or "none",
        str(source),
        inside.text("mariadb_dump.awk"),
        inside.text("mariadb_client.awk"),
        *client,
    )
    return server.run(["/bin/sh", "-c", _LOAD, "sh", *arguments])


def _read(done: Completed) -> tuple[dict[str, int], list[ServerError]]:
    lines = done.stdout.decode("ascii", "replace").splitlines()
    facts = {match[1]: int(match[2]) for line in lines if (match := _FACT.match(line))}
    errors = [
        ServerError(number=int(match[1]), state=match[2], count=int(match[3]))
        for line in lines
        if (match := _ERROR.match(line))
    ]
    return facts, errors


def judge(errors: Sequence[ServerError]) -> BackupGuardError | None:
    """Return the error that a load's errors amount to, or None when all of them are benign."""
    kinds: dict[str, int] = {}
    for error in errors:
        kind = _kind(error)
        kinds[kind] = kinds.get(kind, 0) + error.count
    if "hostile" in kinds:
        return BackupDefect("hostile", count=kinds["hostile"])
    for kind in ("no_disk", "no_memory", "version_unsupported", "extension_missing"):
        if kind in kinds:
            return MissingMeans(kind, count=kinds[kind], program="mariadb")
    if "load_refused" in kinds and "unclassified_stderr" not in kinds:
        return BackupDefect("load_refused", count=kinds["load_refused"])
    if "server_refused" in kinds:
        return MissingMeans("server_refused", program="mariadbd", status=-1)
    if "unclassified_stderr" in kinds:
        return Misunderstood(
            "unclassified_stderr", count=kinds["unclassified_stderr"], program="mariadb"
        )
    return None


def _kind(error: ServerError) -> str:
    if error.number in _HOSTILE or error.state == "SANDB":
        return "hostile"
    for numbers, kind in (
        (_BENIGN, "benign"),
        (_VERSION, "version_unsupported"),
        (_EXTENSION, "extension_missing"),
        (_NO_DISK, "no_disk"),
        (_NO_MEMORY, "no_memory"),
        (_SERVER, "server_refused"),
        (_REFUSED, "load_refused"),
    ):
        if error.number in numbers:
            return kind
    return "load_refused" if error.state.startswith(_REFUSED_STATES) else "unclassified_stderr"
