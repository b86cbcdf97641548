"""The jail of backup tools: they see the host read-only, and nothing outlives their call."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from backupguard.contracts import SECRETS, Cancel, Command, Completed
from backupguard.errors import Unreachable
from backupguard.processes.bubblewrap import Confinement, Program
from backupguard.processes.masking import Masker
from backupguard.processes.programs import PROGRAM_PATH, find_program, require_program
from backupguard.processes.supervision import Head, HeadAndTail, Lines, Receiver, attend

#: What is kept of a tool's standard output when it has no sink: listings of 100,000 points fit.
OUTPUT_LIMIT = 64 << 20
ERROR_LIMIT = 1 << 20
#: Private /tmp is memory: a tool that needs more is given a `write` directory and TMPDIR.
TMP_BYTES = 256 << 20

#: Hidden from a tool by something private: a path below is shown only when `read` or `write` names it.
_HIDDEN = ("/tmp", "/run", "/dev/shm")  # noqa: S108 - names of mounts
_SECRETS = SECRETS
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BASE = (
    *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--die-with-parent", "--new-session"),
    *("--cap-drop", "ALL", "--clearenv", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"),
    *("--size", str(TMP_BYTES), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"),  # noqa: S108
    *("--size", str(TMP_BYTES), "--tmpfs", "/tmp", "--size", "1048576", "--tmpfs", "/run"),  # noqa: S108
    # where systemd-resolved keeps what /etc/resolv.conf points to
    *("--ro-bind-try", "/run/systemd/resolve", "/run/systemd/resolve"),
)


class Jail:
    """Implements `contracts.Tools` with bubblewrap.

    A tool sees the whole host read-only, a private /tmp and /run (so no socket of a daemon), its own
    processes, and the network only when asked. It can write to what `Command.write` names and to
    `cache`. It has the rights of this process without any capability: set-user-id helpers do not work,
    read rights come by group. Secrets exist as files below /run, inside only.
    """

    def __init__(
        self,
        work: Path,
        cancel: Cancel,
        *,
        cache: Path | None = None,
        watch: Callable[[], None] | None = None,
        private: Sequence[Path] = (),
    ) -> None:
        """Make a jail for a run.

        `work` is the run's directory, where tools start; `cache` outlives the run and is
        XDG_CACHE_HOME inside; `watch` is called every 0.2 s while a tool runs and raises to end it
        (`sandbox.ScratchGuard.check`, so that a fetch cannot fill the disk). `private` are files and
        directories of ours that no tool sees, whatever else is shown to it: one that a hostile server
        took over would read there what it was not handed.
        """
        self.work = work
        self.cancel = cancel
        self.cache = cache
        self.watch = watch
        self.private = private

    def which(self, program: str) -> Path | None:
        """Return where `program` is found on the fixed path, or None."""
        return find_program(program)

    def run(self, command: Command) -> Completed:
        """Run `command` to its end, blocking this thread; see `contracts.Tools.run`.

        An exit status of 128 + N stands for signal N. Raises MissingMeans (program_missing,
        sandbox_unavailable), TimedOut (phase_limit), Cancelled, Unreachable (not_found) for a `write`
        path that does not exist, FileExistsError for a `sink` that exists, and what a line sink raises.
        """
        self.cancel.raise_if_set()
        executable = require_program(command.argv[0])
        mask = Masker(command.secrets.values())
        stdout: Receiver | None = Head(OUTPUT_LIMIT)
        if callable(command.sink):
            stdout = Lines(command.sink, mask)
        elif command.sink is not None:
            stdout = None
        with _sink(command.sink) as output:
            program = Program(
                self._options(command, executable),
                [str(executable), *command.argv[1:]],
                confinement=Confinement(rlimits={resource.RLIMIT_CORE: 0}),
                data={
                    f"{_SECRETS}/{name}": secret.reveal()
                    for name, secret in command.secrets.items()
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
            )
            return attend(
                program,
                name=executable.name,
                stdout=stdout,
                stderr=HeadAndTail(ERROR_LIMIT),
                stdin=None,
                timeout_s=command.timeout_s,
                cancel=self.cancel,
                watch=self.watch,
                mask=mask,
            )

    def _options(self, command: Command, executable: Path) -> list[str]:
        """Return bwrap's options for a command."""
        writable = [*command.write, *([self.cache] if self.cache is not None else [])]
        work = str(self.work.absolute())
        options = [*_BASE, *([] if command.network else ["--unshare-net"])]
        # shown where it is hidden; a mount anyway, by which the sweep knows whose processes these are
        options += ["--ro-bind-try", work, work]
        for path in (*command.read, executable):
            if path.is_absolute() and _is_hidden(path):
                options += ["--ro-bind-try", str(path), str(path)]
        for path in writable:
            if not path.exists():
                raise Unreachable("not_found", path=str(path))
            options += ["--bind", str(path.absolute()), str(path.absolute())]
        options += self._covers([self.work, *command.read, *writable])
        if self.work.is_dir():
            options += ["--chdir", work]
        for name, value in self._environment(command).items():
            if not _NAME.fullmatch(name) or "\0" in value:
                raise ValueError(f"{name!r} is no name of an environment variable")
            options += ["--setenv", name, value]
        return options

    def _covers(self, shown: Sequence[Path]) -> Iterator[str]:
        """Yield the options that put nothing in the place of each private file and directory.

        Last of all mounts, so that none shows it again; what is hidden anyway has no place to cover.
        """
        below = [path.absolute().resolve() for path in shown]
        for path in self.private:
            real = Path(os.path.realpath(path))  # a link's own place cannot be mounted upon
            if _is_hidden(real) and not any(real.is_relative_to(place) for place in below):
                continue
            if os.path.isdir(real):  # noqa: PTH112 - Path.is_dir() raises where we may not look
                yield from ("--size", "4096", "--tmpfs", str(real), "--remount-ro", str(real))
            elif os.path.exists(real):  # noqa: PTH110 - as above
                yield from ("--ro-bind", "/dev/null", str(real))

    def _environment(self, command: Command) -> dict[str, str]:
        """Return the environment inside: the fixed part, what is no secret, paths of secrets."""
        environment = {"PATH": PROGRAM_PATH, "LANG": "C.UTF-8", "HOME": "/tmp"}  # noqa: S108
        if self.cache is not None:
            environment["XDG_CACHE_HOME"] = str(self.cache.absolute())
        environment |= command.environment
        return environment | {name: f"{_SECRETS}/{name}" for name in command.secrets}


def _is_hidden(path: Path) -> bool:
    return any(path.is_relative_to(place) for place in _HIDDEN)


@contextlib.contextmanager
def _sink(sink: object) -> Iterator[int]:
    """Yield where standard output goes: a new file nobody else may read, or a pipe."""
    if not isinstance(sink, Path):
        yield subprocess.PIPE
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(sink, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
