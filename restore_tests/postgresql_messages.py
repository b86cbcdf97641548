"""What PostgreSQL and its clients say during a load, reduced to severity, SQLSTATE and template.

The reduction happens inside the sandbox, by two awk programs (`inside/`): a line leaves it only as
three tokens of a closed alphabet and a count. Whatever a message quotes (a value, a row, a statement)
stays where it is. Then `judge` decides by table what each means; what no row of the table knows is
never a pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from backupguard.errors import (
    BackupDefect,
    BackupGuardError,
    MissingMeans,
    Misunderstood,
    TimedOut,
)
from restore_tests import inside

#: The programs: what the server logged, what psql and pg_restore said.
SERVER_LOG = inside.text("postgresql_server_log.awk")
CLIENT = inside.text("postgresql_client.awk")

_LINE = re.compile(r"(WARNING|ERROR|FATAL|PANIC) ([0-9A-Z]{5}|client) ([a-z_]{1,40}) (\d{1,12})\Z")
_MAX_LINES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMessage:
    """A kind of message and how often it was said. `sqlstate` is "client" for a client's own."""

    severity: str
    sqlstate: str
    template: str
    count: int


class Meaning(Enum):
    """What a message says of the backup, most decisive first."""

    HOSTILE = "hostile"
    SCRATCH = "scratch_limit"
    NO_DISK = "no_disk"
    NO_MEMORY = "no_memory"
    EXTENSION = "extension_missing"
    LOCALE = "locale_missing"
    VERSION = "version_unsupported"
    TRUNCATED = "truncated"
    MISSING = "missing_object"
    DAMAGED = "corrupt"
    REFUSED = "load_refused"
    SERVER = "server_refused"
    UNKNOWN = "unclassified_stderr"
    CONSEQUENCE = "consequence"  # of something else that was said; alone it is unknown
    BENIGN = "benign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A row of the table: SQLSTATE by prefix, template or any, what it means and why."""

    sqlstate: str
    template: str | None
    meaning: Meaning
    reason: str


#: First match wins.
RULES: Sequence[Rule] = tuple(
    Rule(sqlstate=state, template=template, meaning=meaning, reason=reason)
    for state, template, meaning, reason in (
        (
            "42P06",
            "schema_public_exists",
            Meaning.BENIGN,
            "every new database has the schema public",
        ),
        ("42710", "language_exists", Meaning.BENIGN, "every new database has plpgsql"),
        (
            "42710",
            "role_exists",
            Meaning.BENIGN,
            "roles are made beforehand, from the dump's own list",
        ),
        (
            "42704",
            "parameter_unknown",
            Meaning.BENIGN,
            "a newer pg_dump sets what this server lacks",
        ),
        (
            "42704",
            "role_missing",
            Meaning.BENIGN,
            "owners and rights are not part of a dump; data are",
        ),
        (
            "42704",
            "tablespace_missing",
            Meaning.BENIGN,
            "places on the source's disks are not here",
        ),
        ("25001", "transaction_nested", Meaning.BENIGN, "the load runs in a transaction of ours"),
        ("25P01", "transaction_none", Meaning.BENIGN, "the dump ended the transaction of ours"),
        ("0A000", "extension_unavailable", Meaning.EXTENSION, "not installed on this host"),
        ("58P01", "extension_unavailable", Meaning.EXTENSION, "not installed on this host"),
        (
            "58P01",
            "library_missing",
            Meaning.EXTENSION,
            "its library is not installed on this host",
        ),
        ("58", "file_opened", Meaning.HOSTILE, "pg_dump never reads a file of the server"),
        ("42501", "file_opened", Meaning.HOSTILE, "pg_dump never reads a file of the server"),
        ("", "program_run", Meaning.HOSTILE, "pg_dump never starts a program"),
        ("42704", "collation_missing", Meaning.LOCALE, "the source's locale is not installed here"),
        ("22023", "collation_missing", Meaning.LOCALE, "the source's locale is not installed here"),
        # The kernel's limit on one file is the whole share: it may be met before the watcher looks.
        ("", "file_limit", Meaning.SCRATCH, "one file took the whole share of the scratch space"),
        ("53100", None, Meaning.NO_DISK, "the scratch space is full"),
        ("53", None, Meaning.NO_MEMORY, "the server ran out of a resource"),
        ("25P02", None, Meaning.CONSEQUENCE, "said after an error inside a transaction"),
        ("57014", None, Meaning.CONSEQUENCE, "pg_restore ends its other workers after an error"),
        ("57", None, Meaning.SERVER, "the server was stopped"),
        ("08", None, Meaning.CONSEQUENCE, "the client broke off"),
        ("21", None, Meaning.REFUSED, "the data break a rule of their own"),
        ("22", None, Meaning.REFUSED, "a value cannot be what its column says"),
        ("23", None, Meaning.REFUSED, "rows break a constraint of the dump"),
        ("2B", None, Meaning.REFUSED, "objects of the dump depend on what it lacks"),
        ("42", None, Meaning.REFUSED, "the dump names or defines what cannot be"),
        ("P0", None, Meaning.REFUSED, "code of the dump refused its own data"),
        ("client", "restricted", Meaning.HOSTILE, "pg_dump never writes commands for the client"),
        ("client", "archive_newer", Meaning.VERSION, "made by a newer pg_dump"),
        ("client", "not_an_archive", Meaning.DAMAGED, "its head is not what it was"),
        ("client", "truncated", Meaning.TRUNCATED, "it ends too early"),
        ("client", "file_missing", Meaning.MISSING, "a file of the dump is not there"),
        ("client", "damaged", Meaning.DAMAGED, "it cannot be read through"),
        (
            "client",
            "invalid_command",
            Meaning.REFUSED,
            "rows of a refused COPY were read as commands",
        ),
        ("client", "connection_lost", Meaning.CONSEQUENCE, "the server said why, or died"),
        ("client", "worker_died", Meaning.CONSEQUENCE, "the worker said why"),
        ("client", "write_failed", Meaning.NO_DISK, "the scratch space is full"),
        ("client", "out_of_memory", Meaning.NO_MEMORY, "the client ran out of memory"),
    )
)


def parse(output: bytes) -> tuple[EngineMessage, ...]:
    """Return the messages of what an awk program printed; lines of another shape are dropped.

    What prints here may be an attacker's: nothing but the closed alphabet of `_LINE` passes.
    """
    messages = []
    for line in output.decode("ascii", "replace").splitlines()[:_MAX_LINES]:
        if match := _LINE.match(line):
            severity, state, template, count = match.groups()
            messages.append(
                EngineMessage(
                    severity=severity, sqlstate=state, template=template, count=int(count)
                )
            )
    return tuple(messages)


def meaning_of(message: EngineMessage) -> Meaning:
    """Return what a message means; a warning that no row knows is no more than a warning."""
    for rule in RULES:
        if message.sqlstate.startswith(rule.sqlstate) and rule.template in (None, message.template):
            if message.severity == "WARNING" and rule.meaning is not Meaning.HOSTILE:
                return Meaning.BENIGN
            return rule.meaning
    return Meaning.BENIGN if message.severity == "WARNING" else Meaning.UNKNOWN


_DEFECTS = {
    Meaning.HOSTILE,
    Meaning.TRUNCATED,
    Meaning.MISSING,
    Meaning.DAMAGED,
    Meaning.REFUSED,
}
_MEANS = {
    Meaning.NO_DISK,
    Meaning.NO_MEMORY,
    Meaning.EXTENSION,
    Meaning.LOCALE,
    Meaning.VERSION,
    Meaning.SERVER,
}


def judge(messages: Iterable[EngineMessage]) -> BackupGuardError | None:
    """Return the error that a load's messages amount to, or None when all of them are benign."""
    counts: dict[Meaning, int] = {}
    for message in messages:
        meaning = meaning_of(message)
        counts[meaning] = counts.get(meaning, 0) + message.count
    for meaning in Meaning:
        count = counts.get(meaning)
        if not count or meaning is Meaning.BENIGN:
            continue
        if meaning in _DEFECTS:
            return BackupDefect(meaning.value, count=count)
        if meaning is Meaning.SCRATCH:
            return TimedOut(meaning.value, count=count, program="postgresql")
        if meaning in _MEANS:
            return MissingMeans(meaning.value, count=count, program="postgresql")
        return Misunderstood("unclassified_stderr", count=count, program="postgresql")
    return None
