"""The sandbox itself: one bubblewrap per program, a watcher over all of them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from backupguard.contracts import Cancel, Completed
from backupguard.errors import BackupGuardError, MissingMeans, TimedOut
from backupguard.outputs import KILLED, require_not_killed
from backupguard.processes import Cancellation
from backupguard.processes.bubblewrap import (
    Confinement,
    Program,
    anonymous_file,
    not_started,
    sandbox_unavailable,
)
from backupguard.processes.masking import Masker
from backupguard.processes.supervision import Head, HeadAndTail, attend
from backupguard.sandbox.cgroups import Group, delegated
from backupguard.sandbox.limits import SandboxLimits
from backupguard.sandbox.memory import check_memory, namespace_of
from backupguard.sandbox.paths import move, open_regular, read_regular, write_new
from backupguard.sandbox.seccomp import seccomp_filter
from backupguard.sandbox.space import ScratchGuard

#: Where a site unpacks database engines that its distribution does not have; shown read-only.
ENGINES = Path("/opt/backupguard/engines")
WATCH_SECONDS = 0.2
ERROR_LIMIT = 1 << 20
_LOG_TAIL = 64 << 10
_UID = 1000
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
#: What programs say when the kernel refuses them more than their limits (RLIMIT_FSIZE, RLIMIT_DATA) or
#: the disk has: the usage that is measured then stays below them for ever.
_SHORT = {
    "scratch_limit": re.compile(
        rb"No space left on device|File too large|[Ff]ile size limit|Disk quota exceeded"
        rb"|[Ee]rror(?: number| code)?:? (?:27|28)\b|Errcode: (?:27|28)\b"
    ),
    "no_memory": re.compile(
        rb"[Cc]annot allocate memory|[Oo]ut of memory|MemoryError|bad_alloc|memory exhausted"
        rb"|failed to map segment|[Ee]rrcode: 12\b"
    ),
}
#: Errors that something else may be behind.
_UNEXPLAINED = frozenset(
    {
        "server_refused",
        "unknown_exit",
        "program_killed",
        "unclassified_stderr",
        "output_unparsable",
    }
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENVIRONMENT = {
    "PATH": "/usr/bin:/usr/sbin",
    "HOME": "/tmp",  # noqa: S108 - the sandbox's own
    "TMPDIR": "/tmp",  # noqa: S108
    "LANG": "C.UTF-8",
    "TZ": "UTC",
}
_PASSWD = f"sandbox:x:{_UID}:{_UID}:sandbox:/tmp:/bin/sh\n".encode()
_GROUP = f"sandbox:x:{_UID}:\n".encode()
_BASE = (
    *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-net", "--unshare-uts"),
    *("--unshare-cgroup-try", "--uid", str(_UID), "--gid", str(_UID)),
    *("--hostname", "sandbox", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
    *("--clearenv", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin"),
    *("--symlink", "usr/sbin", "/sbin", "--symlink", "usr/lib", "/lib"),
    *("--symlink", "usr/lib64", "/lib64", "--dir", "/etc"),
    *("--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"),
    *("--ro-bind-try", "/etc/alternatives", "/etc/alternatives"),
    # which character sets Firebird has: where a package's link below /usr leads
    *(
        part
        for version in ("3.0", "4.0")
        for name in (f"/etc/firebird/{version}/fbintl.conf",)
        for part in ("--ro-bind-try", name, name)
    ),
    *("--ro-bind-try", str(ENGINES), str(ENGINES), "--proc", "/proc", "--dev", "/dev"),
)


def _no_namespaces_inside() -> tuple[str, ...]:
    """Return what makes bubblewrap forbid further user namespaces inside, where it can.

    It writes a count below /proc/sys, which is mounted read-only in a hardened unit
    (ProtectKernelTunables=, systemd.exec(5)) and in containers: there bubblewrap would refuse to
    start. What forbids them in any case is the filter of system calls: unshare, setns, clone, clone3.
    """
    try:
        read_only = os.statvfs("/proc/sys/user").f_flag & os.ST_RDONLY
    except OSError:
        return ()
    return () if read_only else ("--disable-userns",)


class SandboxServer:
    """Implements `contracts.Server`: a program that keeps running in its sandbox."""

    def __init__(self, box: Box, program: Program, command: int) -> None:
        self._box = box
        self._program = program
        self._command = -1
        with contextlib.suppress(OSError):
            if command:
                self._command = os.pidfd_open(command)
        self._returncode: int | None = None
        self._closed = False

    def alive(self) -> bool:
        """Tell whether it still runs; raises the sandbox's error when a limit has ended it."""
        self._box.raise_if_ended()
        return not self._closed and self._program.running()

    def stop(self, signal_number: int = signal.SIGTERM, timeout_s: int = 30) -> Completed:
        """Send the signal to the program inside, wait, kill the sandbox if it does not end.

        Never raises. The status of a program that had to be killed is 137. Its output is in its log.
        """
        if not self._closed:
            if self._program.running():
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(self._command, signal_number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._program.process.wait(timeout_s)
            self.end()
        passed = round((time.monotonic() - self._program.started) * 1000)
        code = KILLED if self._returncode is None else self._returncode
        return Completed(returncode=code, stdout=b"", stderr=b"", duration_ms=passed)

    def end(self) -> int | None:
        """End it at once if it still runs; return its own status, None when there is none.

        Never raises.
        """
        if self._closed:
            return self._returncode
        self._closed = True
        if self._program.running():
            self._program.kill()
        else:
            self._returncode = self._program.finish()
        self._box.forget(self._program)
        self._program.close()
        if self._command >= 0:
            os.close(self._command)
        return self._returncode


class Box:
    """Implements `contracts.Sandbox`. Made by `open_sandbox`."""

    def __init__(
        self, directory: Path, artifact: Path, limits: SandboxLimits, cancel: Cancel
    ) -> None:
        self.directory = directory
        self.artifact = artifact
        self.limits = limits
        self.cancel = cancel
        self.ended: BackupGuardError | None = None
        self._short: str | None = None  # what a program that failed said it was refused
        self._logs: list[str] = []
        self._closing = Cancellation()  # ends a measurement too
        self._guard = ScratchGuard(directory, limits, self._closing)
        self._guard.check()
        self._filter = seccomp_filter()
        self._group = Group.make(limits, delegated())
        self._lock = threading.Lock()
        self._programs: dict[Program, int] = {}
        self._servers: list[SandboxServer] = []
        # two, because measuring a large tree takes longer than filling the memory
        self._watchers = [
            threading.Thread(target=self._watch, args=(check,), name="sandbox-watch", daemon=True)
            for check in (self._guard.check, self._check_memory)
        ]
        for name in ("scratch", "shared", "logs"):
            (directory / name).mkdir(mode=0o700, exist_ok=True)

    # -- what a program is given

    def _options(
        self,
        scratch: bool,
        shared: Sequence[str],
        environment: Mapping[str, str],
        filter_fd: int,
        site: Path | None = None,
    ) -> list[str]:
        limits = self.limits
        options = [
            *_BASE,
            *_no_namespaces_inside(),
            *("--size", str(limits.shared_memory_bytes), "--tmpfs", "/dev/shm"),  # noqa: S108
            *("--size", str(limits.tmp_bytes), "--perms", "1777", "--tmpfs", "/tmp"),  # noqa: S108
            *("--ro-bind", str(self.artifact), "/in", "--chdir", "/tmp"),  # noqa: S108
        ]
        if scratch:
            options += ["--bind", str(self.directory / "scratch"), "/scratch"]
        for name in shared:
            options += ["--bind", str(self._shared(name)), f"/shared/{name}"]
        if site is not None:
            options += ["--ro-bind", str(site), "/site"]
        for name, value in (_ENVIRONMENT | dict(environment)).items():
            if not _VARIABLE.fullmatch(name) or "\0" in value:
                raise ValueError(f"{name!r} is no name of an environment variable")
            options += ["--setenv", name, value]
        return [*options, "--remount-ro", "/dev", "--seccomp", str(filter_fd)]

    def _shared(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a shared directory")
        place = self.directory / "shared" / name
        place.mkdir(mode=0o700, exist_ok=True)
        return place

    def _launch(
        self,
        argv: Sequence[str],
        *,
        scratch: bool,
        shared: Sequence[str],
        environment: Mapping[str, str] | None,
        stdin: int,
        stdout: int,
        stderr: int,
        shell: str | None = None,
        site: Path | None = None,
    ) -> Program:
        self.raise_if_ended()
        self.cancel.raise_if_set()
        filter_fd = anonymous_file("seccomp", self._filter)
        try:
            program = Program(
                self._options(scratch, shared, environment or {}, filter_fd, site),
                argv,
                confinement=Confinement(
                    rlimits=self.limits.rlimits(),
                    niceness=self.limits.niceness,
                    oom_score=1000,
                    enter=self._group.enter,
                ),
                data={"/etc/passwd": _PASSWD, "/etc/group": _GROUP},
                # in place, for /usr is read-only: the file that /bin/sh leads to
                programs={} if shell is None else {os.path.realpath("/bin/sh"): shell.encode()},
                also_pass=(filter_fd,),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
            )
        finally:
            os.close(filter_fd)
        self._remember(program)
        if self.ended is not None:  # the watcher struck between the two
            self.forget(program)
            program.kill()
            program.close()
            raise self.ended
        return program

    # -- contracts.Sandbox

    def run(
        self,
        argv: Sequence[str],
        *,
        scratch: bool,
        shared: Sequence[str] = (),
        stdin: Path | PurePosixPath | bytes | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_s: int,
        output_limit: int = 1 << 20,
        site: Path | None = None,
    ) -> Completed:
        """Run a program inside to its end; see `contracts.Sandbox.run`.

        `stdin` is bytes, a regular file of the host (`Path`), or one below /in, /scratch or /shared
        (`PurePosixPath`). An exit status of 128 + N stands for signal N; SIGKILL raises Misunderstood
        (program_killed) or MissingMeans (no_memory), but for a site's own program.
        """
        with self._input(stdin) as source:
            program = self._launch(
                argv,
                scratch=scratch,
                shared=shared,
                environment=environment,
                stdin=subprocess.DEVNULL if source is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                site=site,
            )
            try:
                completed = attend(
                    program,
                    name=PurePosixPath(argv[0]).name,
                    stdout=Head(output_limit),
                    stderr=HeadAndTail(max(output_limit, ERROR_LIMIT)),
                    stdin=source,
                    timeout_s=timeout_s,
                    cancel=self.cancel,
                    watch=self.raise_if_ended,
                    mask=Masker(()),
                )
            finally:
                self.forget(program)
        self.raise_if_ended()  # a program the watcher has killed did not end by itself
        if completed.returncode == KILLED and self._group.killed():
            raise MissingMeans("no_memory", limit=self.limits.memory_cap())
        if site is None:  # a site's own program may well choose this very status
            require_not_killed(completed, PurePosixPath(argv[0]).name)
        if completed.returncode == 128 + signal.SIGXFSZ:
            self._short = "scratch_limit"
        elif completed.returncode != 0:
            self._listen(completed.stderr)
        return completed

    def start(
        self,
        argv: Sequence[str],
        *,
        scratch: bool,
        shared: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        log: str,
        shell: str | None = None,
    ) -> SandboxServer:
        """Start a server inside; see `contracts.Sandbox.start`.

        Raises RuntimeError outside the main thread: a sandbox dies with the thread that started it.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("a server is started in the main thread: it dies with its thread")
        if not _NAME.fullmatch(log):
            raise ValueError(f"{log!r} is no name of a log")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        output = os.open(self.directory / "logs" / log, flags, 0o600)
        try:
            program = self._launch(
                argv,
                scratch=scratch,
                shared=shared,
                environment=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                shell=shell,
            )
        finally:
            os.close(output)
        command = program.command()
        if not command and not program.running() and program.finish() is None:
            self.forget(program)
            program.close()
            self.raise_if_ended()
            raise not_started(PurePosixPath(argv[0]).name, self.log(log, 500))
        server = SandboxServer(self, program, command)
        self._servers.append(server)
        self._logs.append(log)
        return server

    def write(self, path: PurePosixPath, content: bytes) -> None:
        """Put a file (0600) below `/scratch` or `/shared`; follows no link; makes directories."""
        self.raise_if_ended()
        root, parts = self._host(path, writable=True)
        write_new(root, parts, content)

    def take(self, path: PurePosixPath, to: PurePosixPath) -> bool:
        """Move what lies at `path` below `/in` to `to` below `/scratch`; see `contracts.Sandbox`."""
        self.raise_if_ended()
        source, parts = self._host(path)
        target, below = self._host(to, writable=True)
        return move(source, parts, target, below)

    def read(self, path: PurePosixPath, limit: int) -> bytes:
        """Read at most `limit` bytes of a regular file below `/scratch`, `/shared` or `/in`.

        Raises FileNotFoundError, Misunderstood (output_unparsable) for anything but a regular file
        reached without links.
        """
        self.raise_if_ended()
        root, parts = self._host(path)
        return read_regular(root, parts, limit)

    def log(self, name: str, limit: int) -> bytes:
        """Return the last `limit` bytes of a started server's log; empty when there is none."""
        try:
            return read_regular(self.directory / "logs", [name], limit, tail=True)
        except FileNotFoundError:
            return b""

    # -- limits

    def explain(self, error: BaseException) -> None:
        """After an error: see whether a limit was behind it, since nobody may have looked yet.

        What is full is measured. What programs only said of it explains an error that nothing else
        does, and never a defect that was seen.
        """
        if self.ended is not None:
            return
        try:
            self._guard.look()
        except BackupGuardError as limit:
            self._end_all(limit)
            return
        if isinstance(error, BackupGuardError) and error.code in _UNEXPLAINED:
            for server in self._servers:
                if server.end() == 128 + signal.SIGXFSZ:
                    self._short = "scratch_limit"
            for name in self._logs:
                self._listen(self.log(name, _LOG_TAIL))
            if self._short == "no_memory":
                self._end_all(MissingMeans("no_memory", limit=self.limits.memory_cap()))
            elif self._short is not None:
                self._end_all(self._full())

    def _listen(self, said: bytes) -> None:
        for short, words in _SHORT.items():
            if words.search(said):
                self._short = self._short or short

    def _full(self) -> BackupGuardError:
        limit = self.limits.disk_bytes
        if limit is None:
            return MissingMeans("no_disk")
        return TimedOut("scratch_limit", used=self._guard.used(), limit=limit)

    def raise_if_ended(self) -> None:
        """Raise the error with which the watcher ended this sandbox, if it did."""
        if self.ended is not None:
            raise self.ended

    def _watch(self, check: Callable[[], None]) -> None:
        while not self._closing.wait(WATCH_SECONDS):
            try:
                check()
            except BackupGuardError as error:
                if not self._closing.is_set():
                    self._end_all(error)
                return
            except OSError as error:  # what cannot be watched does not run
                self._end_all(sandbox_unavailable(f"watch: {error.strerror}"))
                return

    def _check_memory(self) -> None:
        with self._lock:
            namespaces = set(self._programs.values())
        if self._group.killed():
            raise MissingMeans("no_memory", limit=self.limits.memory_cap())
        if namespaces:
            check_memory(namespaces, self.limits)

    def _end_all(self, error: BackupGuardError) -> None:
        """End every program: this sandbox has taken more than its share. The first error stays."""
        if self.ended is None:
            self.ended = error
        with self._lock:
            for program in self._programs:
                program.signal_all()

    def _remember(self, program: Program) -> None:
        with contextlib.suppress(OSError):
            namespace = namespace_of(program.child) if program.child else 0
            with self._lock:
                self._programs[program] = namespace

    def forget(self, program: Program) -> None:
        """Stop watching a program that has ended."""
        with self._lock:
            self._programs.pop(program, None)

    # -- paths

    def _host(self, path: PurePosixPath, *, writable: bool = False) -> tuple[Path, list[str]]:
        """Return the host directory and the parts below it of a path as seen inside."""
        match path.parts:
            case ("/", "scratch", *parts):
                return self.directory / "scratch", parts
            case ("/", "shared", *parts) if len(parts) > 1:
                return self.directory / "shared", parts
            case ("/", "in", *parts) if not writable:
                return self.artifact, parts
        raise ValueError(f"{path} is not below the sandbox's directories")

    @contextlib.contextmanager
    def _input(self, stdin: Path | PurePosixPath | bytes | None) -> Iterator[bytes | int | None]:
        """Yield what a program is fed: bytes, a descriptor, or nothing."""
        if stdin is None or isinstance(stdin, bytes):
            yield stdin
            return
        if isinstance(stdin, Path):
            descriptor = open_regular(stdin.parent, [stdin.name])
        else:
            descriptor = open_regular(*self._host(stdin))
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    # -- life

    def open(self) -> None:
        """Begin to watch."""
        for watcher in self._watchers:
            watcher.start()

    def close(self) -> None:
        """End everything that still runs and stop watching. Never raises."""
        for server in self._servers:
            server.end()
        self._closing.set("by_stop")
        for watcher in self._watchers:
            watcher.join()
        self._group.remove()
        self._servers.clear()  # they know us: a circle would keep descriptors until it is collected
