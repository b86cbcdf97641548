"""A MariaDB server inside the sandbox, for one test only.

It is tuned for throughput and may lose everything at a power cut: what it holds is a copy of a copy.
Server and clients are separate sandboxes that meet only in `/shared/my`, where the socket lies.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import psutil

from backupguard.contracts import Completed, Program, Sandbox, Server, Trial
from backupguard.errors import BackupGuardError, MissingMeans, Misunderstood
from restore_tests.empty_server import put_empty_server

SOCKETS = "my"  # the shared directory
SOCKET = f"/shared/{SOCKETS}/socket"
DATA = PurePosixPath("/scratch/data")
#: Where a dump goes that names no database, or several.
DATABASE = "restored"
_ROOT = Path("/opt/backupguard/engines/mariadb")
_SYSTEM = Path("/usr/sbin")
_MIB = 1 << 20
_DEFAULT_MEMORY = 3 << 30
_VERSION = re.compile(rb"Ver (\d+)\.(\d+)\.\d+-MariaDB")


def program() -> Program:
    """Return the program whose presence tells that a server is installed."""
    return Program(name="mariadbd", directories=places(), package="mariadb-server")


def places(series: tuple[int, ...] | None = None) -> tuple[Path, ...]:
    """Return where a server may be, the nearest to a series first: (10, 11).

    That is one of this very series that was unpacked for BackupGuard, then the system's, then the other
    unpacked ones, newer before older, the nearest newer one first.
    """
    unpacked = sorted(_ROOT.glob("*/sbin"), key=_series) if _ROOT.is_dir() else []
    wanted = tuple(series or ())[:2]
    own = [place for place in unpacked if wanted and _series(place)[:2] == wanted]
    newer = [place for place in unpacked if place not in own and _series(place) > wanted]
    older = [place for place in unpacked if place not in own and place not in newer]
    return (*own, _SYSTEM, *newer, *reversed(older))


def _series(place: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", place.parent.name))


def directories(series: tuple[int, ...] | None = None) -> tuple[Path, ...]:
    """Return where server programs are, in the order of `places`.

    Raise MissingMeans (program_missing) naming the package where there is none.
    """
    found = tuple(place for place in places(series) if (place / "mariadbd").exists())
    if not found:
        raise MissingMeans("program_missing", program="mariadbd", package="mariadb-server")
    return found


def directory() -> Path:
    """Return where the server's program is; raise MissingMeans naming the package."""
    return directories()[0]


def environment(programs: Path | None = None) -> Mapping[str, str]:
    """Return the environment of a server's programs: its own clients first, the system's next.

    Without `programs` those of any server that was unpacked come last.
    """
    own = [programs.parent / "bin"] if programs not in {None, _SYSTEM} else []
    path = [*map(str, own), "/usr/sbin", "/usr/bin", "/bin"]
    if programs is None:
        path += [str(place.parent / "bin") for place in places() if place != _SYSTEM]
    return {"PATH": ":".join(path), "LC_ALL": "C.UTF-8", "HOME": "/tmp"}  # noqa: S108


@dataclass(slots=True, kw_only=True)
class MariadbServer:
    """The server of one trial, and how its clients are run."""

    sandbox: Sandbox
    trial: Trial
    memory: int | None = None  # bytes for everything
    server: Server | None = field(default=None)
    version: tuple[int, int] = (0, 0)
    programs: Path = field(default_factory=directory)
    database: str = DATABASE  # in which a dump of one database is loaded
    superuser: str = "root"  # who may do everything

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of its programs."""
        return environment(self.programs)

    @property
    def _basedir(self) -> tuple[str, ...]:
        """How a server that does not lie in /usr finds its messages and tables."""
        if self.programs == _SYSTEM:
            return ()
        return (f"--basedir={self.programs.resolve().parent}",)

    @property
    def timeout_s(self) -> int:
        """The seconds the running phase has."""
        return int(self.trial.memory.get("timeout_s", 3600))

    def find_version(self) -> None:
        """Ask the server's program for its version; raise MissingMeans when it does not say it."""
        done = self.sandbox.run(
            [str(self.programs / "mariadbd"), "--no-defaults", "--version"],
            scratch=False,
            environment=self.environment,
            timeout_s=60,
        )
        found = _VERSION.search(done.stdout)
        if found is None:
            raise MissingMeans("server_refused", program="mariadbd", status=done.returncode)
        self.version = (int(found[1]), int(found[2]))

    def make(self) -> None:
        """Make an empty server's data."""
        programs = self.programs
        install = programs.parent / "bin" / "mariadb-install-db"
        put_empty_server(
            self.trial,
            [
                *(str(install), "--no-defaults", *self._basedir, "--force", f"--datadir={DATA}"),
                *("--auth-root-authentication-method=normal", "--skip-test-db"),
                *("--skip-name-resolve", "--tmpdir=/tmp", "--innodb-log-file-size=16M"),
            ],
            name="mariadb",
            data=DATA,
            made_with=[programs / "mariadbd", install],
            environment=self.environment,
            timeout_s=min(300, self.timeout_s),
        )

    def start(self, *more: str) -> None:
        """Start the server on its data; raise MissingMeans when it does not come up."""
        self.sandbox.run(
            ["mkdir", "-p", "/scratch/none", "/scratch/tmp"],
            scratch=True,
            environment=self.environment,
            timeout_s=60,
        )
        self.server = self.sandbox.start(
            [str(self.programs / "mariadbd"), *self._options(), *more],
            scratch=True,
            shared=(SOCKETS,),
            environment=self.environment,
            log="mariadb",
        )
        self._wait_until_ready()

    def _options(self) -> list[str]:
        budget = (
            self.memory or min(psutil.virtual_memory().available // 2, _DEFAULT_MEMORY)
        ) // _MIB
        return [
            *("--no-defaults", *self._basedir, f"--datadir={DATA}", f"--socket={SOCKET}"),
            "--skip-networking",
            *("--pid-file=/scratch/pid", "--tmpdir=/scratch/tmp", "--skip-log-bin"),
            *("--skip-name-resolve", "--character-set-server=utf8mb4", "--max-allowed-packet=1G"),
            # What a dump could reach out by: files of the server's and the client's side, events.
            *("--secure-file-priv=/scratch/none", "--local-infile=0", "--symbolic-links=0"),
            *("--skip-event-scheduler", "--performance-schema=off", "--skip-slave-start"),
            # What it holds may be lost at any moment.
            *("--innodb-flush-log-at-trx-commit=0", "--loose-innodb-flush-method=nosync"),
            *("--innodb-doublewrite=0", "--loose-innodb-log-file-size=512M"),
            f"--innodb-buffer-pool-size={max(64, min(2048, budget // 2))}M",
            *("--innodb-autoinc-lock-mode=2", "--innodb-stats-persistent=OFF"),
            *("--innodb-buffer-pool-load-at-startup=OFF", "--innodb-sort-buffer-size=32M"),
            *("--sync-frm=OFF", "--aria-sync-log-dir=NEVER"),
            f"--key-buffer-size={max(16, min(256, budget // 8))}M",
            f"--myisam-sort-buffer-size={max(16, min(256, budget // 8))}M",
        ]

    def _wait_until_ready(self) -> None:
        for attempt in range(1200):
            if self.server is None or not self.server.alive():
                raise MissingMeans("server_refused", program="mariadbd", status=-1)
            if self.client(["-e", "select 1"], timeout_s=20).returncode == 0:
                return
            self.trial.context.cancel.raise_if_set()
            self.trial.context.cancel.wait(0.02 if attempt < 50 else 0.2)
        raise MissingMeans("server_refused", program="mariadbd", status=-1)

    def stop(self) -> None:
        """Stop the server at once; nothing in it is worth writing back."""
        server, self.server = self.server, None
        if server is not None:
            server.stop(signal.SIGKILL, 5)

    def argv(self, *options: str, user: str | None = None) -> list[str]:
        """Return how a client of this server is called."""
        return [
            *("mariadb", "--no-defaults", f"--socket={SOCKET}", f"--user={user or self.superuser}"),
            *("--default-character-set=utf8mb4", "--max-allowed-packet=1G", *options),
        ]

    def client(
        self,
        options: Sequence[str],
        *,
        user: str | None = None,
        stdin: bytes | None = None,
        timeout_s: int | None = None,
        output_limit: int = 1 << 20,
    ) -> Completed:
        """Run a client in a sandbox that sees the socket and the artifact."""
        return self.run(
            self.argv(*options, user=user),
            stdin=stdin,
            timeout_s=timeout_s,
            output_limit=output_limit,
        )

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        timeout_s: int | None = None,
        output_limit: int = 1 << 20,
    ) -> Completed:
        """Run any program in such a sandbox."""
        return self.sandbox.run(
            argv,
            scratch=False,
            shared=(SOCKETS,),
            stdin=stdin,
            environment=self.environment,
            timeout_s=timeout_s or self.timeout_s,
            output_limit=output_limit,
        )

    def query(self, script: str, *, database: str | None = None) -> list[list[str]]:
        """Run a script of ours in one client and return its rows, whatever statement they are of.

        Raises MissingMeans for a client that could not work, Misunderstood for output that was cut.
        """
        options = [
            "--batch",
            "--skip-column-names",
            *([f"--database={database}"] if database else []),
        ]
        done = self.client(options, stdin=script.encode(), output_limit=32 << 20)
        if done.returncode != 0:
            raise MissingMeans("server_refused", program="mariadb", status=done.returncode)
        if done.truncated:
            raise Misunderstood("output_unparsable", program="mariadb")
        return [line.split("\t") for line in done.stdout.decode("utf-8", "replace").splitlines()]


def of(trial: Trial) -> MariadbServer:
    """Return the server that `prepare` started for this trial."""
    server: MariadbServer = trial.memory["mariadb"]
    return server


def stop_quietly(trial: Trial) -> None:
    """Stop the trial's server if there is one; the sandbox ends whatever does not obey."""
    server = trial.memory.get("mariadb")
    if isinstance(server, MariadbServer):
        try:
            server.stop()
        except (BackupGuardError, OSError):
            server.server = None
