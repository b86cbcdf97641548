"""The databases of PostgreSQL clusters, from their own catalogues, in sessions that cannot write.

Sources: libpq's environment variables, psql(1), the catalogue `pg_database` (readable by every role),
`pg_settings` (a role without `pg_read_all_settings` does not see `data_directory` there).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backupguard.contracts import Command, Completed, Context, Secret
from backupguard.databases import is_here
from backupguard.errors import BackupGuardError, Cancelled, MissingMeans, TimedOut
from probes.discovery_files import read_text
from probes.discovery_found import Catalogue, Database, Found, Server
from probes.discovery_host import Host, Process, is_gone

ENGINE = "postgresql"
_SOCKET = re.compile(r"(.*)/\.s\.PGSQL\.(\d+)")
_NOT_COUNTED = ("template0", "template1", "postgres")
_TIMEOUT_S = 60
_READ_ONLY = "-c default_transaction_read_only=on -c statement_timeout=30000 -c lock_timeout=5000"
#: One line of JSON per answer; whoever may not see a size or a setting gets null for it.
QUERY = """
select json_build_array('server', current_setting('port')::int,
  (select setting from pg_settings where name = 'data_directory'),
  extract(epoch from pg_postmaster_start_time())::bigint)::text
union all
select json_build_array('database', datname,
  case when has_database_privilege(oid, 'CONNECT') or pg_has_role('pg_read_all_stats', 'USAGE')
  then pg_database_size(oid) end)::text
from pg_database
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """How one server is reached: libpq's variables, and its password where there is one."""

    host: str
    port: int
    user: str
    database: str
    tls: str = "prefer"
    ca: Path | None = None
    password: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    port: int
    directory: str | None
    started: int
    databases: tuple[tuple[str, int | None], ...]


def psql(session: Session, sql: str, context: Context) -> Completed:
    """Run one query in a session whose transactions are read-only.

    Raises MissingMeans (program_missing), TimedOut, Cancelled.
    """
    environment = {
        "PGHOST": session.host,
        "PGPORT": str(session.port),
        "PGUSER": session.user,
        "PGDATABASE": session.database,
        "PGOPTIONS": _READ_ONLY,
        "PGCONNECT_TIMEOUT": "10",
        "PGAPPNAME": "backupguard",
        "PGCLIENTENCODING": "UTF8",
        "PGSSLMODE": {"verify": "verify-full"}.get(session.tls, session.tls),
    }
    if session.ca is not None:
        environment["PGSSLROOTCERT"] = str(session.ca)
    local = session.host.startswith("/")
    return context.tools.run(
        Command(
            argv=("psql", "-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-c", sql),
            read=(Path(session.host),) if local else (),
            network=not local,
            secrets={"PGPASSFILE": _passfile(session)} if session.password is not None else {},
            environment=environment,
            timeout_s=_TIMEOUT_S,
        )
    )


def _passfile(session: Session) -> Secret:
    """Return the password as libpq reads it from a file: host:port:database:user:password."""
    assert session.password is not None
    value = session.password.reveal().replace(b"\\", b"\\\\").replace(b":", b"\\:")
    return Secret(session.password.name, b"*:*:*:*:" + value + b"\n")


def local(host: Host, role: str, found: Found, context: Context) -> None:
    """Add the databases of every cluster that runs on this host, by its Unix socket."""
    seen: dict[tuple[int, int], _Answer] = {}
    refused: list[int] = []
    for socket, port in _sockets(host.sockets):
        what = f"{ENGINE}/{host.name}/{port}"
        if is_gone(socket):
            continue  # it lies in another mount namespace: its process tells of it
        session = Session(host=str(socket.parent), port=port, user=role, database="postgres")
        answer = _ask(session, what, f"{role} ({socket})", found, context)
        if answer is None:
            refused.append(port)
        else:
            seen.setdefault((answer.port, answer.started), answer)
    for answer in seen.values():
        _add(answer, host.name, found)
    _unseen(host, tuple(seen.values()), refused, found)


def declared(server: Server, password: Secret | None, found: Found, context: Context) -> None:
    """Add the databases of a declared server."""
    session = Session(
        host=server.host,
        port=server.port,
        user=server.user,
        database=server.database,
        tls=server.tls,
        ca=server.ca,
        password=password,
    )
    name = found.host if is_here(server.host, found.host) else server.host.lower()
    answer = _ask(
        session, f"{ENGINE}/{name}/{server.port}", f"{server.user} ({server.id})", found, context
    )
    if answer is not None:
        # The port is the one that was declared: a server behind a proxy has another of its own.
        _add(answer, name, found, port=server.port)


def _sockets(paths: Sequence[str]) -> list[tuple[Path, int]]:
    """Return the servers' sockets, each once: /var/run is /run."""
    found: dict[Path, int] = {}
    for path in paths:
        match = _SOCKET.fullmatch(path)
        if match:
            found[Path(match[1]).resolve() / Path(path).name] = int(match[2])
    return list(found.items())


def _ask(session: Session, what: str, about: str, found: Found, context: Context) -> _Answer | None:
    """Return a server's catalogue, or note why it could not be read."""
    code = "unparsable"
    try:
        completed = psql(session, QUERY, context)
        if completed.returncode == 0 and not completed.truncated:
            return _parsed(completed.stdout)
        code = _why(completed)
        if code == "role" and session.host.startswith("/") and session.database == "postgres":
            # A cluster may be without its maintenance database; this one it must have.
            other = Session(
                host=session.host, port=session.port, user=session.user, database="template1"
            )
            completed = psql(other, QUERY, context)
            if completed.returncode == 0 and not completed.truncated:
                return _parsed(completed.stdout)
    except MissingMeans:
        code, about = "program_missing", "psql (postgresql-client)"
    except TimedOut:
        code = "timeout"
    except Cancelled:
        raise
    except (BackupGuardError, ValueError, TypeError, IndexError):
        code = "unparsable"
    found.lack(what, code, about, "databases")
    return None


def _why(completed: Completed) -> str:
    """Return why psql could not read; what it printed is looked at and dropped.

    psql exits with 2 when there was no connection. "FATAL" is in every language's messages: the
    server answered, and refused.
    """
    words = completed.stderr.decode("utf-8", "replace")
    if completed.returncode != 2:
        return "rights"
    if re.search(r"certificate|SSL|TLS", words) and "FATAL" not in words:
        return "tls"
    if re.search(r"starting up|shutting down|too many clients|recovery mode", words):
        return "unreachable"
    if "FATAL" in words or "password" in words:
        return "role"
    if "Permission denied" in words:
        return "permission"
    return "timeout" if "timeout expired" in words else "unreachable"


def _parsed(output: bytes) -> _Answer:
    port, directory, started = 0, None, 0
    databases: list[tuple[str, int | None]] = []
    for line in output.decode("utf-8").splitlines():
        if not line.startswith("["):
            continue
        row = json.loads(line)
        if row[0] == "server":
            port, directory, started = int(row[1]), row[2], int(row[3])
        elif row[1] not in _NOT_COUNTED:
            databases.append((str(row[1]), row[2]))
    if not port:
        raise ValueError("no server")
    return _Answer(
        port=port, directory=directory, started=started, databases=tuple(sorted(databases))
    )


def _add(answer: _Answer, host: str, found: Found, *, port: int | None = None) -> None:
    port = port or answer.port
    found.catalogue(
        Catalogue(engine=ENGINE, host=host, port=port, directory=answer.directory),
        [
            Database(
                engine=ENGINE,
                host=host,
                port=port,
                server=str(port),
                name=name,
                bytes=size,
                directory=answer.directory,
            )
            for name, size in answer.databases
        ],
    )


def _unseen(host: Host, answers: Sequence[_Answer], refused: Sequence[int], found: Found) -> None:
    """Note the servers that run and were not read: in a container, or without a Unix socket.

    A role that may not see `data_directory` leaves its cluster without one; where as many clusters
    answered so as processes are left, they are the same.
    """
    directories = {answer.directory for answer in answers if answer.directory}
    ports = {answer.port for answer in answers}
    left: dict[str, Process] = {}
    for process in _servers(host.processes):
        directory, port = _about(process)
        if directory in directories or port in ports or port in refused:
            continue
        left.setdefault(directory or "postgres", process)
    nameless = sum(1 for answer in answers if not answer.directory) + len(refused)
    if len(left) > nameless:
        for directory in left:
            found.lack(f"{ENGINE}/{host.name}/{directory}", "hidden", directory, "databases")


def _servers(processes: Sequence[Process]) -> list[Process]:
    """Return the main process of each server; those of our own sandbox are no hospital's."""
    return [
        process
        for process in processes
        if process.name in {"postgres", "postmaster"}
        and not process.argv[0].startswith(("postgres:", "postmaster:"))
        and not (process.option("-D") or "").startswith("/scratch/")
    ]


def _about(process: Process) -> tuple[str | None, int | None]:
    """Return a server's data directory and port as its arguments or configuration file say them."""
    settings = _settings(process.argv)
    directory = process.option("-D", "--data-directory") or settings.get("data_directory")
    port = process.option("-p", "--port") or settings.get("port")
    file = settings.get("config_file") or (f"{directory}/postgresql.conf" if directory else None)
    if port is None and file:
        text = read_text(Path(file), Found(host="")) or ""
        match = re.search(r"^\s*port\s*=\s*'?(\d+)", text, re.MULTILINE)
        port = match[1] if match else None
    return (directory.rstrip("/") if directory else None), int(
        port
    ) if port and port.isdigit() else None


def _settings(argv: Sequence[str]) -> Mapping[str, str]:
    pairs = (word.removeprefix("-c").removeprefix("--").partition("=") for word in argv[1:])
    return {key: value for key, mark, value in pairs if mark}
