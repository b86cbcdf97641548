"""A PostgreSQL server of the dump's own major version, inside the sandbox and for one test only.

It is tuned for throughput and for nothing else: it may lose everything at a power cut, because what it
holds is a copy of a copy that is thrown away at the end. Server and clients are separate sandboxes that
meet only in `/shared/pg`, where the Unix socket lies; clients never see the data directory.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import psutil

from backupguard.contracts import Completed, Program, Sandbox, Server, Trial
from backupguard.errors import BackupGuardError, MissingMeans, Misunderstood
from restore_tests import inside as programs_inside
from restore_tests.empty_server import put_empty_server

SUPERUSER = "postgres"
SOCKETS = "pg"  # the shared directory
LOGS = "/scratch/log"
DATA = "/scratch/data"
FIELD, RECORD = "\x1f", "\x1e"

OLDEST, NEWEST = 13, 18
_ROOTS = ("/usr/lib/postgresql", "/opt/backupguard/engines/postgresql")
_LOCALES = (Path("/usr/lib/locale"), Path("/usr/lib/locale/locale-archive"))
_MIB = 1 << 20
#: Stays below the sandbox's own limit with everything that runs beside the server.
_DEFAULT_MEMORY = 3 << 30

ENVIRONMENT: Mapping[str, str] = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/tmp"}  # noqa: S108


def directories(version: str | None) -> tuple[Path, ...]:
    """Return where the programs of a major version may be; of the newest first when unknown."""
    versions = [version] if version else [str(n) for n in range(NEWEST, OLDEST - 1, -1)]
    return tuple(Path(root) / number / "bin" for number in versions for root in _ROOTS)


def program(version: str | None) -> Program:
    """Return the program whose presence tells that this major version is installed.

    The package is Debian's or, of the versions that a Debian does not have, that of PostgreSQL's own
    archive (apt.postgresql.org), under the same name. Raise MissingMeans (version_unsupported) for a
    version that is older or newer than those that are known.
    """
    if version is not None and not (version.isdecimal() and OLDEST <= int(version) <= NEWEST):
        raise MissingMeans("version_unsupported", program="postgresql", version=version)
    package = f"postgresql-{version}" if version else "postgresql"
    return Program(name="postgres", directories=directories(version), package=package)


def programs_directory(version: str | None) -> Path:
    """Return the directory of the version's programs.

    Raise MissingMeans: program_missing with the package, version_unsupported as `program` does.
    """
    wanted = program(version)
    for directory in wanted.directories:
        if (directory / wanted.name).exists():
            return directory
    raise MissingMeans("program_missing", program=wanted.name, package=wanted.package)


def no_shell() -> str:
    """Return the program that the server finds instead of a shell: it tells the log, and no more.

    Raise MissingMeans when this host has no awk.
    """
    for name in ("mawk", "gawk", "original-awk"):
        if (Path("/usr/bin") / name).exists():
            # without the --, what the server wanted run would be read as options
            return f"#!/usr/bin/env -S {name} -f /bin/sh --\n" + programs_inside.text(
                "postgresql_no_shell.awk"
            )
    raise MissingMeans("program_missing", program="awk", package="mawk")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of the host the server may use, in MiB and processors."""

    shared_buffers: int
    maintenance_work_mem: int
    jobs: int

    @classmethod
    def of_host(cls, memory: int | None, jobs: int | None) -> Sizes:
        """Return sizes for `memory` bytes and `jobs` processors, left out: by what the host has."""
        budget = (memory or min(psutil.virtual_memory().available // 2, _DEFAULT_MEMORY)) // _MIB
        cores = jobs or psutil.cpu_count() or 1
        # Copies of the page cache beyond a gibibyte bought nothing when measured; index builds want
        # their whole sort in memory, and there may be one per job.
        return cls(
            shared_buffers=max(64, min(1024, budget // 4)),
            maintenance_work_mem=max(32, min(1024, budget // (4 * cores))),
            jobs=cores,
        )

    def settings(self) -> dict[str, str]:
        """Return the server's settings."""
        return {
            "listen_addresses": "",
            "unix_socket_directories": f"/shared/{SOCKETS}",
            "max_connections": str(20 + self.jobs),
            "shared_buffers": f"{self.shared_buffers}MB",
            "maintenance_work_mem": f"{self.maintenance_work_mem}MB",
            "work_mem": "64MB",
            "max_parallel_maintenance_workers": str(max(1, self.jobs - 1)),
            "max_worker_processes": str(max(8, self.jobs * 2)),
            # Parallel workers share memory through files of the data directory: /dev/shm is tiny here.
            "dynamic_shared_memory_type": "mmap",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "autovacuum": "off",
            # One of its processes killed, and it would start again by itself with whatever was there.
            "restart_after_crash": "off",
            "jit": "off",
            "wal_level": "minimal",
            "max_wal_senders": "0",
            "max_wal_size": "16GB",
            "checkpoint_timeout": "1h",
            # One transaction holds a lock per table, index and large object it creates.
            "max_locks_per_transaction": "4096",
            # What the engine says goes to a file that only the sandbox sees; it is summed up there.
            "logging_collector": "on",
            "log_directory": LOGS,
            "log_filename": "server",
            "log_rotation_size": "0",
            "log_rotation_age": "0",
            "log_file_mode": "0600",
            "log_line_prefix": "BG|%e|%a|",
            "log_error_verbosity": "terse",
            "log_min_error_statement": "panic",
            "log_min_messages": "warning",
            "log_statement": "none",
            "log_checkpoints": "off",
            "log_temp_files": "-1",
            "log_autovacuum_min_duration": "-1",
            "lc_messages": "C",
        }


@dataclass(slots=True, kw_only=True)
class PostgresqlServer:
    """The server of one trial, and how its clients are run."""

    sandbox: Sandbox
    programs: Path
    database: str
    sizes: Sizes
    trial: Trial
    server: Server | None = field(default=None)

    @property
    def timeout_s(self) -> int:
        """The seconds the running phase has."""
        return int(self.trial.memory.get("timeout_s", 3600))

    def start(self) -> None:
        """Make an empty cluster and start it; raise MissingMeans when it does not come up."""
        initdb = self.programs / "initdb"
        put_empty_server(
            self.trial,
            [
                *(str(initdb), "--pgdata", DATA, "--username", SUPERUSER),
                *("--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"),
            ],
            name=f"postgresql{self.programs.parent.name}",
            data=PurePosixPath(DATA),
            # Besides its programs: it lists the host's locales.
            made_with=[self.programs / "postgres", initdb, *_LOCALES],
            environment=ENVIRONMENT,
            timeout_s=min(300, self.timeout_s),
        )
        argv = [str(self.programs / "postgres"), "-D", DATA]
        for name, value in self.sizes.settings().items():
            argv += ["-c", f"{name}={value}"]
        self.server = self.sandbox.start(
            argv,
            scratch=True,
            shared=(SOCKETS,),
            environment=ENVIRONMENT,
            log="postgres",
            shell=no_shell(),
        )
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        for attempt in range(600):
            if self.server is None or not self.server.alive():
                raise MissingMeans("server_refused", program="postgres", status=-1)
            ready = self.client(["pg_isready", "-q"], timeout_s=20)
            if ready.returncode == 0:
                return
            self.trial.context.cancel.raise_if_set()
            self.trial.context.cancel.wait(0.02 if attempt < 50 else 0.2)
        raise MissingMeans("server_refused", program="postgres", status=-1)

    def stop(self) -> None:
        """Stop the server at once; nothing in it is worth a checkpoint."""
        server, self.server = self.server, None
        if server is not None:
            server.stop(signal.SIGQUIT, 5)

    def client(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        timeout_s: int | None = None,
        shared: Sequence[str] = (),
        output_limit: int = 1 << 20,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run a client program of this version in a sandbox that sees the socket and the artifact."""
        return self.sandbox.run(
            [str(self.programs / argv[0]), *argv[1:]] if "/" not in argv[0] else argv,
            scratch=False,
            shared=(SOCKETS, *shared),
            stdin=stdin,
            environment={**self.connection(), **(environment or {})},
            timeout_s=timeout_s or self.timeout_s,
            output_limit=output_limit,
        )

    def connection(self) -> dict[str, str]:
        """Return the environment by which libpq finds this server."""
        return {
            **ENVIRONMENT,
            "PGHOST": f"/shared/{SOCKETS}",
            "PGUSER": SUPERUSER,
            "PGDATABASE": "postgres",
            "PGCONNECT_TIMEOUT": "20",
        }

    def query(
        self,
        script: str,
        *,
        database: str | None = None,
        user: str = SUPERUSER,
        timeout_s: int | None = None,
        output_limit: int = 32 << 20,
    ) -> list[list[str]]:
        """Run a script of ours in one client and return its rows, whatever statement they are of.

        Errors inside the script leave no row; a client that could not work raises MissingMeans, output
        that was cut raises Misunderstood.
        """
        done = self.client(
            [
                *("psql", "-X", "-q", "-A", "-t", "-F", FIELD, "-R", RECORD),
                *(
                    "-v",
                    "VERBOSITY=sqlstate",
                    "-d",
                    database or self.database,
                    "-U",
                    user,
                    "-f",
                    "-",
                ),
            ],
            stdin=script.encode(),
            timeout_s=timeout_s,
            output_limit=output_limit,
            environment={"PGAPPNAME": "backupguard"},
        )
        if done.returncode != 0:
            raise MissingMeans("server_refused", program="psql", status=done.returncode)
        if done.truncated:
            raise Misunderstood("output_unparsable", program="psql")
        text = done.stdout.decode("utf-8", "replace").rstrip("\n")
        # psql ends each result with a newline: it separates results as RECORD separates rows.
        return [
            row.split(FIELD)
            for row in text.replace("\n", RECORD).split(RECORD)
            if row and FIELD in row
        ]

    def log_lines(self, script: str, arguments: Sequence[str] = ()) -> bytes:
        """Run a fixed shell script over the server's log, in a sandbox that sees the scratch space.

        Raises Misunderstood when it could not be read to its end: silence would be taken for consent.
        """
        done = self.sandbox.run(
            ["/bin/sh", "-c", script, "sh", f"{LOGS}/server", *arguments],
            scratch=True,
            environment=ENVIRONMENT,
            timeout_s=min(600, self.timeout_s),
        )
        if done.returncode != 0 or done.truncated:
            raise Misunderstood("output_unparsable", program="postgres", status=done.returncode)
        return done.stdout


def of(trial: Trial) -> PostgresqlServer:
    """Return the server that `prepare` started for this trial."""
    server: PostgresqlServer = trial.memory["postgresql"]
    return server


def stop_quietly(trial: Trial) -> None:
    """Stop the trial's server if there is one; the sandbox ends whatever does not obey."""
    server = trial.memory.get("postgresql")
    if isinstance(server, PostgresqlServer):
        try:
            server.stop()
        except (BackupGuardError, OSError):
            server.server = None


def inside(artifact: PurePosixPath, path: str) -> str:
    """Return where a file of the artifact is seen inside the sandbox."""
    return str(artifact) if path in {".", ""} else str(artifact / path)
