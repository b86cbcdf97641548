"""The schemas of MariaDB and MySQL servers, from their own catalogues, in read-only sessions.

Sources: MariaDB's "mariadb Command-Line Client", "Information Schema SCHEMATA Table" (a schema on
which an account has no right is left out there: so the right to see all is asked for first), "SET
TRANSACTION"; MySQL's manual for `--ssl-mode`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backupguard.contracts import SECRETS, Command, Completed, Context, Secret
from backupguard.databases import is_here
from backupguard.errors import BackupGuardError, Cancelled, MissingMeans, TimedOut
from probes.discovery_found import Catalogue, Database, Found, Server
from probes.discovery_host import Host, Process, is_gone

ENGINE = "mariadb"
_SOCKET = re.compile(r".*/[^/]*(?:mysql|mariadb)[^/]*\.sock")
_OPTIONS = "MARIADB_OPTIONS"
_TIMEOUT_S = 60
_ROLES = {"mariadbd", "mysqld", "mariadbd-safe"}
#: One line of JSON per answer. The right that shows every schema is global and one's own.
QUERY = """
select json_array('server', @@port, @@datadir);
select json_array('all', count(*)) from information_schema.user_privileges
  where privilege_type in ('SHOW DATABASES', 'SELECT') and grantee = concat('''',
    substring_index(current_user(), '@', 1), '''@''', substring_index(current_user(), '@', -1), '''');
select json_array('database', s.schema_name,
  (select cast(sum(t.data_length + t.index_length) as unsigned) from information_schema.tables t
   where t.table_schema = s.schema_name))
  from information_schema.schemata s
  where s.schema_name not in ('mysql', 'information_schema', 'performance_schema', 'sys');
"""
#: MariaDB's client goes on in clear where the server has no TLS, unless it also verifies.
_ENCRYPTED = """
select json_array('tls', variable_value <> '') from information_schema.session_status
  where variable_name = 'Ssl_cipher';
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """How one server is reached: a Unix socket's path or a host, and its password if it has one."""

    user: str
    socket: Path | None = None
    host: str = ""
    port: int = 3306
    tls: str = "prefer"
    ca: Path | None = None
    password: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    port: int
    directory: str
    all: bool
    encrypted: bool
    databases: tuple[tuple[str, int | None], ...]


def client(session: Session, sql: str, context: Context) -> Completed:
    """Run queries in a session whose transactions are read-only.

    Raises MissingMeans (program_missing), TimedOut, Cancelled.
    """
    program = _program(context)
    secret = session.password is not None
    argv = [program, f"--defaults-file={SECRETS}/{_OPTIONS}" if secret else "--no-defaults"]
    argv += [f"--user={session.user}", "--connect-timeout=10", "--batch", "--raw"]
    argv += ["--skip-column-names", "--default-character-set=utf8mb4"]
    if session.socket is not None:
        argv += ["--protocol=socket", f"--socket={session.socket}"]
    else:
        argv += ["--protocol=tcp", f"--host={session.host}", f"--port={session.port}"]
        argv += _tls(program, session)
    argv += ["--init-command=SET SESSION TRANSACTION READ ONLY", f"--execute={sql}"]
    return context.tools.run(
        Command(
            argv=tuple(argv),
            read=(session.socket.parent,) if session.socket is not None else (),
            network=session.socket is None,
            secrets={_OPTIONS: _options(session.password)} if session.password is not None else {},
            timeout_s=_TIMEOUT_S,
        )
    )


def _program(context: Context) -> str:
    return "mariadb" if context.tools.which("mariadb") else "mysql"


def _tls(program: str, session: Session) -> list[str]:
    ca = [f"--ssl-ca={session.ca}"] if session.ca is not None else []
    if session.tls == "prefer":
        return ca
    if program == "mysql":
        mode = "VERIFY_IDENTITY" if session.tls == "verify" else "REQUIRED"
        return [*ca, f"--ssl-mode={mode}"]
    return [*ca, "--ssl", *(["--ssl-verify-server-cert"] if session.tls == "verify" else [])]


def _options(password: Secret) -> Secret:
    value = password.reveal().replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return Secret(password.name, b'[client]\npassword="' + value + b'"\n')


def local(host: Host, role: str, found: Found, context: Context) -> None:
    """Add the schemas of every server that runs on this host, by its Unix socket."""
    servers = [p for p in host.processes if p.name in _ROLES and not _is_ours(p)]
    paths = [path for path in host.sockets if _SOCKET.fullmatch(path)]
    paths += [path for p in servers if (path := p.option("--socket")) and path.startswith("/")]
    directories: set[str] = set()
    refused = 0
    for socket in dict.fromkeys(Path(path).parent.resolve() / Path(path).name for path in paths):
        if is_gone(socket):
            continue
        session = Session(user=role, socket=socket)
        answer = _ask(
            session, f"{ENGINE}/{host.name}/{socket}", f"{role} ({socket})", found, context
        )
        if answer is None:
            refused += 1
        elif answer.directory not in directories:
            directories.add(answer.directory)
            _add(answer, host.name, answer.port, found)
    _unseen(host.name, servers, directories, refused, found)


def declared(server: Server, password: Secret | None, found: Found, context: Context) -> None:
    """Add the schemas of a declared server."""
    session = Session(
        user=server.user,
        host=server.host,
        port=server.port,
        tls=server.tls,
        ca=server.ca,
        password=password,
    )
    name = found.host if is_here(server.host, found.host) else server.host.lower()
    what = f"{ENGINE}/{name}/{server.port}"
    answer = _ask(session, what, f"{server.user} ({server.id})", found, context)
    if answer is not None:
        _add(answer, name, server.port, found)


def _is_ours(process: Process) -> bool:
    return (process.option("--datadir") or "").startswith("/scratch/")


def _ask(session: Session, what: str, about: str, found: Found, context: Context) -> _Answer | None:
    """Return a server's catalogue, or note why it could not be read, or not to its end."""
    try:
        program = _program(context)
        asked = _ENCRYPTED + QUERY if session.tls == "require" and program == "mariadb" else QUERY
        completed = client(session, asked, context)
        if completed.returncode == 0 and not completed.truncated:
            answer = _parsed(completed.stdout)
            if asked is not QUERY and not answer.encrypted:
                found.lack(what, "tls", about, "databases")
                return None
            if not answer.all:
                found.lack(what, "rights", f"SHOW DATABASES, {about}", "databases")
            return answer
        code = _why(completed)
    except MissingMeans:
        code, about = "program_missing", "mariadb (mariadb-client)"
    except TimedOut:
        code = "timeout"
    except Cancelled:
        raise
    except (BackupGuardError, ValueError, TypeError, IndexError):
        code = "unparsable"
    found.lack(what, code, about, "databases")
    return None


def _why(completed: Completed) -> str:
    """Return why the client could not read, by the number of its error; the rest is dropped."""
    match = re.search(rb"ERROR (\d+)", completed.stderr)
    number = int(match[1]) if match else 0
    if number in {1045, 1130, 1698, 1044, 1049, 1251, 1862, 4151, 2059}:
        return "role"
    if number in {1142, 1143, 1227, 1370}:
        return "rights"
    return "tls" if number == 2026 else "unreachable"


def _parsed(output: bytes) -> _Answer:
    port, directory, everything, encrypted = 0, "", False, False
    databases: list[tuple[str, int | None]] = []
    for line in output.decode("utf-8").splitlines():
        row = json.loads(line)
        if row[0] == "server":
            port, directory = int(row[1]), str(row[2]).rstrip("/")
        elif row[0] == "tls":
            encrypted = bool(int(row[1]))
        elif row[0] == "all":
            everything = int(row[1]) > 0
        else:
            databases.append((str(row[1]), int(row[2]) if row[2] is not None else None))
    if not directory:
        raise ValueError("no server")
    return _Answer(
        port=port,
        directory=directory,
        all=everything,
        encrypted=encrypted,
        databases=tuple(sorted(databases)),
    )


def _add(answer: _Answer, host: str, port: int, found: Found) -> None:
    # A server without TCP says port 0: it is told apart by its data directory alone.
    databases = [
        Database(
            engine=ENGINE,
            host=host,
            port=port or None,
            server=str(port or answer.directory),
            name=name,
            bytes=size,
            directory=answer.directory,
        )
        for name, size in answer.databases
    ]
    if answer.all:
        catalogue = Catalogue(
            engine=ENGINE, host=host, port=port or None, directory=answer.directory
        )
        found.catalogue(catalogue, databases)
    else:  # some of them, nobody knows how many: not a catalogue
        found.databases += databases


def _unseen(
    host: str, servers: Sequence[Process], directories: set[str], refused: int, found: Found
) -> None:
    """Note the servers that run and were not read."""
    known = {directory.rstrip("/") for directory in directories}
    left = [
        directory.rstrip("/")
        for process in servers
        if (directory := process.option("--datadir") or "") == ""
        or directory.rstrip("/") not in known
    ]
    named = [directory for directory in left if directory]
    nameless = len(left) - len(named)
    # one that names no data directory may be any of those that answered
    spare = max(0, len(directories) - (len(servers) - len(left)))
    if len(left) > refused + (spare if nameless else 0):
        for directory in named or ["mariadbd"]:
            found.lack(f"{ENGINE}/{host}/{directory}", "hidden", directory, "databases")
