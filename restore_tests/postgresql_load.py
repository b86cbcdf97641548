"""Loads a PostgreSQL dump, whatever its format, and judges what was said meanwhile.

Everything that touches the dump's bytes runs inside the sandbox, as fixed shell and awk programs whose
only inputs are positional arguments. A plain dump passes through one filter on its way to psql: it
takes out psql's own `restrict` lines and the commands for other databases, makes roles before they
are named, and looks for what pg_dump never writes and for the trailer that it always does.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from backupguard.contracts import Completed, Trial
from backupguard.errors import BackupDefect, BackupGuardError, MissingMeans, Misunderstood
from restore_tests.inside import text as programs
from restore_tests.postgresql_cluster import CLUSTER, choose
from restore_tests.postgresql_messages import (
    CLIENT,
    SERVER_LOG,
    EngineMessage,
    Meaning,
    judge,
    meaning_of,
    parse,
)
from restore_tests.postgresql_server import PostgresqlServer, inside, of
from restore_tests.unpacking import READ

log = structlog.get_logger(__name__)

_AWK = "A=$(command -v mawk || command -v gawk || command -v original-awk) || exit 90\n"
_PLAIN = programs("postgresql_statements.awk", "postgresql_plain.awk")
_CLUSTER = programs("postgresql_statements.awk", "postgresql_cluster.awk")
_SCHEMA = programs("postgresql_statements.awk", "postgresql_schema.awk")

_LOAD_PLAIN = (
    _AWK
    + READ
    + """
compression=$1 file=$2 key=$3 filter=$4 client=$5 database=$6 psql=$7 once=$8
{ opened "$compression" "$file" 2>/tmp/opening; echo "opened $?" >/tmp/opened; } \
  | "$A" -v key="$key" -v status=/tmp/status "$filter" \
  | { "$psql" -X -q -v VERBOSITY=sqlstate -v ON_ERROR_STOP=0 -v ON_ERROR_ROLLBACK=on $once -f - \
        -d "$database" 2>&1 >/dev/null; echo "client $?" >/tmp/client; } \
  | "$A" "$client"
cat /tmp/opened /tmp/status /tmp/client
"""
)

SCAN_ARCHIVE = (
    _AWK
    + """
file=$1 program=$2 client=$3 roles=$4 restore=$5
{ "$restore" -C -s -f - "$file" 2>/tmp/stderr; echo "client $?" >/tmp/client; } \
  | "$A" -v roles_file="$roles" "$program"
"$A" "$client" /tmp/stderr
cat /tmp/client
"""
)

_LOAD_ARCHIVE = (
    _AWK
    + """
client=$1; shift
{ "$@" 2>&1 >/dev/null; echo "client $?" >/tmp/client; } | "$A" "$client"
cat /tmp/client
"""
)

_TAR_WHOLE = 'tar -tf "$1" >/dev/null 2>&1'
_UNPACK = (
    READ
    + """
opened "$1" "$2" >"$3" 2>/tmp/opening; status=$?
grep -qE "No space left|File too large|quota" /tmp/opening && exit 91
exit $status
"""
)
_UNPACKED = "/shared/unpacked/dump"
_NO_SPACE = 91
#: Refusals that depend on how texts are sorted: no partition or check takes the row, an exclusion.
_BY_ORDER = frozenset({"23514", "23P01"})
#: Programs that check what they read; one that only copies bytes finds no fault in them.
_READERS = frozenset({"gzip", "xz", "zstd", "tar"})
_PACKAGES = {"xz": "xz-utils"}
#: How often, and how long in between, the server's log is looked at until it holds every error.
_LOG_LOOKS, _LOG_PAUSE_S = 25, 0.2
_ROLES_FILE = "/shared/pg/roles.sql"
_SERVER_LOG = _AWK + '"$A" "$2" "$1"'
_FACT = re.compile(r"([a-z]{2,20}) ([A-Za-z0-9_.@-]{1,63})\Z")


@dataclass(slots=True, kw_only=True)
class Report:
    """What a script inside said: messages to judge, and facts of a closed alphabet."""

    messages: tuple[EngineMessage, ...]
    facts: dict[str, list[str]]

    @classmethod
    def of(cls, done: Completed) -> Report:
        """Read a script's output; raise MissingMeans when the sandbox lacks awk."""
        if done.returncode == 90:
            raise MissingMeans("program_missing", program="awk", package="mawk")
        facts: dict[str, list[str]] = {}
        for line in done.stdout.decode("ascii", "replace").splitlines():
            if match := _FACT.match(line):
                facts.setdefault(match.group(1), []).append(match.group(2))
        return cls(messages=parse(done.stdout), facts=facts)

    def last(self, name: str) -> str | None:
        """Return the last value of a fact."""
        return self.facts.get(name, [None])[-1]


def artifact(trial: Trial) -> str:
    """Return where the dump itself is seen inside."""
    return inside(trial.artifact, trial.match.extra["path"])


def shell(
    server: PostgresqlServer, script: str, *arguments: str, unpacked: bool = False
) -> Completed:
    """Run a fixed script in a client's sandbox."""
    return server.client(
        ["/bin/sh", "-c", script, "sh", *arguments], shared=("unpacked",) if unpacked else ()
    )


def prepare(trial: Trial) -> None:
    """Make the database, the roles and what else the dump needs; refuse what cannot be loaded here.

    Raises MissingMeans (extension_missing, no_disk…) and BackupDefect (hostile, truncated, corrupt).
    """
    server = of(trial)
    if trial.match.format == CLUSTER:
        trial.memory["dump"] = artifact(trial)
        return
    if trial.match.format == "plain":
        trial.memory["dump"] = artifact(trial)
        _create_database(server, trial.match.extra.get("encoding", "UTF8"), None, None)
        return
    trial.memory["dump"] = _archive_file(trial, server)
    if trial.match.format == "tar":
        # pg_restore 15 reads on for ever at the end of a tar archive that was cut.
        done = shell(server, _TAR_WHOLE, trial.memory["dump"], unpacked=True)
        raise_unread(done.returncode, "tar")
    report = Report.of(
        shell(
            server,
            SCAN_ARCHIVE,
            trial.memory["dump"],
            _SCHEMA,
            CLIENT,
            _ROLES_FILE,
            str(server.programs / "pg_restore"),
            unpacked=True,
        )
    )
    if report.facts.get("hostile"):
        raise BackupDefect("hostile", count=len(report.facts["hostile"]))
    raise_for(report.messages, report.last("client"))
    _need_extensions(server, report.facts.get("extension", []))
    encoding, collate = report.last("encoding") or "UTF8", report.last("collate")
    used = _create_database(server, encoding, collate, report.last("ctype"))
    trial.memory["locale_missing"] = collate if collate is not None and used != collate else None
    server.client(["psql", "-X", "-q", "-f", _ROLES_FILE, "-d", "postgres"])


def _archive_file(trial: Trial, server: PostgresqlServer) -> str:
    """Return the archive's path inside; one that was compressed once more is unpacked first."""
    path, compression = artifact(trial), trial.match.compression
    if compression is None or trial.match.format == "directory":
        return path
    done = shell(server, _UNPACK, compression, path, _UNPACKED, unpacked=True)
    raise_unread(done.returncode, compression)
    return _UNPACKED


def raise_unread(status: int | None, program: str) -> None:
    """Raise what it means that `program` did not read the dump to its end; return for status 0.

    Only what the program itself says of its input accuses the backup: one that is not there, was
    killed or could not write does not. None: nobody knows how it ended.
    """
    if status == 0:
        return
    if status == _NO_SPACE:
        raise MissingMeans("no_disk", program=program)
    if status in {126, 127}:
        package = _PACKAGES.get(program, program)
        raise MissingMeans("program_missing", program=program, package=package)
    if status is None or status >= 128 or program not in _READERS:
        raise Misunderstood(
            "unknown_exit", program=program, status=-1 if status is None else status
        )
    raise BackupDefect("truncated")


def _need_extensions(server: PostgresqlServer, wanted: list[str]) -> None:
    available = {
        row[1]
        for row in server.query(
            "select 'extension', name from pg_available_extensions;", database="postgres"
        )
    }
    missing = sorted(set(wanted) - available)
    if missing:
        raise MissingMeans("extension_missing", program=", ".join(missing[:5]), count=len(missing))


def _create_database(
    server: PostgresqlServer, encoding: str, collate: str | None, ctype: str | None
) -> str:
    """Create the database with the source's locale where this host has it, else without one.

    Return the one it has. Sort order decides which rows a partition or a check takes, so the source's
    is better than ours; see `by_locale` for what a fallback may refuse.
    """
    kept = encoding if encoding == "SQL_ASCII" else "UTF8"
    plain = "C" if kept == "SQL_ASCII" else "C.UTF-8"
    choices = [(collate, ctype or collate)] if collate and kept == "UTF8" else []
    for order, kind in [*choices, ("C", plain)]:
        server.query(
            f"create database {server.database} template template0 encoding '{kept}'"
            f" lc_collate '{order}' lc_ctype '{kind}';",
            database="postgres",
        )
        if server.query(
            f"select 'database', datname from pg_database where datname = '{server.database}';",  # noqa: S608
            database="postgres",
        ):
            return order
    raise MissingMeans("server_refused", program="createdb", status=1)


def by_locale(
    error: BackupGuardError | None, messages: Iterable[EngineMessage], missing: str | None
) -> BackupGuardError | None:
    """Return the error of a load, which is ours where only a sort order we lack can explain it.

    `missing` is the source's locale when this host does not have it.
    """
    refused = {m.sqlstate for m in messages if meaning_of(m) is Meaning.REFUSED}
    if missing and isinstance(error, BackupDefect) and refused and refused <= _BY_ORDER:
        return MissingMeans("locale_missing", program=missing)
    return error


def load(trial: Trial) -> None:
    """Load the dump; raise what its messages amount to."""
    if trial.match.format == CLUSTER:
        _load_plain(trial, of(trial), _CLUSTER, "postgres", "")
        choose(trial, of(trial))
    elif trial.match.format == "plain":
        _load_plain(trial, of(trial), _PLAIN, of(trial).database, "-1")
    else:
        _load_archive(trial, of(trial))


def _server_messages(server: PostgresqlServer) -> tuple[EngineMessage, ...]:
    return parse(server.log_lines(_SERVER_LOG, [SERVER_LOG]))


def _logged(
    trial: Trial, server: PostgresqlServer, report: Report
) -> tuple[tuple[EngineMessage, ...], int]:
    """Return what the server logged, and how many errors its clients were told beyond that.

    Another process writes the log, a moment later; and a dump can switch it off. An error that only
    the client saw is one that nobody has classified.
    """
    told = int(report.last("refused") or 0)
    for look in range(_LOG_LOOKS):
        messages = _server_messages(server)
        missing = told - sum(m.count for m in messages if m.severity != "WARNING")
        if missing <= 0 or look == _LOG_LOOKS - 1:
            break
        trial.context.cancel.wait(_LOG_PAUSE_S)
        trial.context.cancel.raise_if_set()
    return messages, max(0, missing)


def _remember(trial: Trial, messages: tuple[EngineMessage, ...]) -> None:
    trial.memory["messages"] = messages
    if messages:
        # Who wonders about an unclassified message finds its SQLSTATE here; nothing is quoted.
        said = [f"{m.severity} {m.sqlstate} {m.template} {m.count}" for m in messages[:20]]
        log.info("postgresql.messages", messages=said)


def _load_plain(
    trial: Trial, server: PostgresqlServer, program: str, database: str, once: str
) -> None:
    """Load a dump of text through a filter; `once` is "-1" where it is one transaction."""
    report = Report.of(
        shell(
            server,
            _LOAD_PLAIN,
            trial.match.compression or "none",
            trial.memory["dump"],
            secrets.token_hex(24),
            program,
            CLIENT,
            database,
            str(server.programs / "psql"),
            once,
        )
    )
    logged, missing = _logged(trial, server, report)
    messages = (*report.messages, *logged)
    _remember(trial, messages)
    if report.last("hostile") == "1":
        raise BackupDefect("hostile", count=1)
    # A dump of all databases is loaded in sort orders that are not the source's.
    error = by_locale(judge(messages), messages, None if once else "LC_COLLATE")
    if report.last("odd") == "1":
        raise Misunderstood("output_unparsable", program="pg_dumpall")
    if error is not None and (not isinstance(error, BackupDefect) or error.code == "hostile"):
        raise error
    # Said before any refused row: the row that was cut in two is refused as well.
    opened = report.last("opened")
    raise_unread(
        int(opened) if opened and opened.isdigit() else None, trial.match.compression or "cat"
    )
    if report.last("trailer") == "0":
        raise BackupDefect("truncated")
    if error is not None:
        raise error
    if report.last("client") != "0" or report.last("trailer") != "1":
        raise Misunderstood("unknown_exit", program="psql")
    _need_all_said(report, missing, "psql")


def _load_archive(trial: Trial, server: PostgresqlServer) -> None:
    restore = [str(server.programs / "pg_restore"), "-d", server.database]
    report = Report.of(
        shell(
            server,
            _LOAD_ARCHIVE,
            CLIENT,
            *restore,
            *parallelism(trial.match.format, server.sizes.jobs),
            trial.memory["dump"],
            unpacked=True,
        )
    )
    logged, missing = _logged(trial, server, report)
    messages = (*report.messages, *logged)
    _remember(trial, messages)
    raise_for(messages, report.last("client"), trial.memory.get("locale_missing"))
    _need_all_said(report, missing, "pg_restore")


def _need_all_said(report: Report, missing: int, program: str) -> None:
    """Raise Misunderstood unless every error the client was told of is among those judged."""
    if missing or report.last("refused") is None:
        raise Misunderstood("unclassified_stderr", program=program, count=max(1, missing))


def parallelism(form: str, jobs: int) -> list[str]:
    """Return the options by which pg_restore loads fastest here.

    One transaction writes no WAL for tables it made itself, and so does each worker of a parallel
    load; a tar archive can be read by one worker only.
    """
    if form == "tar":
        return ["-1"] if jobs < 2 else []
    return ["-j", str(2 * jobs)]


def raise_for(
    messages: tuple[EngineMessage, ...], status: str | None, locale_missing: str | None = None
) -> None:
    """Raise what a client's messages and exit status amount to; return where all was taken."""
    error = by_locale(judge(messages), messages, locale_missing)
    if error is not None:
        raise error
    benign_errors = any(message.severity != "WARNING" for message in messages)
    if status != "0" and not (status == "1" and benign_errors):
        raise Misunderstood("unknown_exit", program="pg_restore")
