"""Starts a program in namespaces of its own by bubblewrap, and ends it with all it started.

What was learned by running it, and is done here for the jail and the sandbox alike:

- bwrap stays as process 1 inside and shows its own environment there: it is started with none.
- Its command line shows inside too: its options come over a descriptor, not by argv.
- It is held (`--block-fd`) until the process inside is known by a pidfd and limited by prlimit, so
  that nothing hostile runs before there is a sure way to end it.
- Killing process 1 of the namespace makes the kernel kill all the others and wait for them; no walk
  through process trees. `--die-with-parent` does the same when this process dies.
- An exit status of 1 may be the program's or bwrap's; only the program's is reported on the status
  descriptor.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backupguard.errors import MissingMeans
from backupguard.model import Message
from backupguard.processes.programs import program_missing, require_program

#: How long the making of namespaces may take on a loaded host.
SETUP_SECONDS = 60
#: How long the kernel may take to end a killed namespace before we no longer wait for it.
KILL_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What is done to a program from outside, between its making and its first instruction."""

    rlimits: Mapping[int, int] = field(default_factory=dict)  # soft = hard
    niceness: int = 0
    oom_score: int = 0  # added to the kernel's choice of whom to kill; 1000 = first
    enter: Callable[[int], None] | None = None  # called with the process id: control groups


def anonymous_file(name: str, content: bytes) -> int:
    """Return a descriptor of a file that exists only in memory, at its start. The caller closes it."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def sandbox_unavailable(detail: str) -> MissingMeans:
    """Return the error of a host on which bubblewrap cannot make its namespaces."""
    return MissingMeans(
        "sandbox_unavailable",
        Message(id="processes.sandbox_unavailable", values={"detail": detail}),
        Message(id="remedy.sandbox_unavailable", values={}),
    )


def not_started(name: str, errors: bytes) -> MissingMeans:
    """Return the error of a program that bubblewrap did not start, from what bwrap said."""
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    if lines and lines[-1].startswith("bwrap: execvp"):
        return program_missing(name)
    return sandbox_unavailable(lines[-1][:200] if lines else "bwrap")


class Program:
    """A program in its own namespaces: running, or ended."""

    def __init__(
        self,
        options: Sequence[str],
        argv: Sequence[str],
        *,
        confinement: Confinement,
        data: Mapping[str, bytes],
        programs: Mapping[str, bytes] | None = None,
        also_pass: Sequence[int] = (),
        stdin: int,
        stdout: int,
        stderr: int,
    ) -> None:
        """Start `argv` behind bwrap's `options`; `stdin`… are descriptors or subprocess constants.

        `data` maps paths inside to the content of read-only files there, `programs` to that of files
        that can be run; `also_pass` are descriptors that the options name. Raises MissingMeans
        (program_missing).
        """
        bwrap = require_program("bwrap").resolve()
        self._bwrap = str(bwrap)
        self.started = time.monotonic()
        self._status = b""
        self.child = 0  # process 1 of the namespace, as the host counts
        self._child_fd = self._status_fd = -1
        self._lock = (
            threading.Lock()
        )  # a watcher in another thread must not use a closed descriptor
        self._status_fd, status_end = os.pipe()
        block_end, release = os.pipe()
        given = [status_end, block_end]
        try:
            options = [*options, "--json-status-fd", str(status_end), "--block-fd", str(block_end)]
            for path, content in data.items():
                given.append(anonymous_file("data", content))
                options += ["--ro-bind-data", str(given[-1]), path]
            for path, content in (programs or {}).items():
                given.append(anonymous_file("program", content))
                options += ["--perms", "0555", "--ro-bind-data", str(given[-1]), path]
            options += ["--remount-ro", "/"]  # last: nothing can be mounted below it afterwards
            given.append(
                anonymous_file("options", b"".join(os.fsencode(o) + b"\0" for o in options))
            )
            self.process = subprocess.Popen(
                [bwrap, "--args", str(given[-1]), "--", *argv],
                env={},
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=given + list(also_pass),
                start_new_session=True,  # Ctrl-C is for us; we end the program
            )
        except BaseException:
            os.close(release)
            self.close()
            raise
        finally:
            for descriptor in given:  # ours of the status pipe too, else it never ends
                os.close(descriptor)
        try:
            self._hold_and_release(confinement, release)
        except BaseException:
            self.kill()
            self.close()
            raise
        finally:
            os.close(release)

    def _hold_and_release(self, confinement: Confinement, release: int) -> None:
        """Wait for the process inside, limit it while it is held, let it go."""
        deadline = time.monotonic() + SETUP_SECONDS
        while self.child == 0 and self._read_status(deadline):
            for document in self._documents():
                self.child = int(document.get("child-pid", self.child))
        if self.child == 0:
            return  # bwrap failed; its words are on stderr, its end is seen by who waits for it
        try:
            self._child_fd = os.pidfd_open(self.child)
            self._confine(confinement)
        except ProcessLookupError:
            return
        except PermissionError as error:  # what cannot be limited does not run
            raise sandbox_unavailable(f"limits: {error.strerror}") from error
        with contextlib.suppress(BrokenPipeError):
            os.write(release, b"x")

    def _confine(self, confinement: Confinement) -> None:
        """Limit the process inside while it is held."""
        for limit, value in confinement.rlimits.items():
            hard = resource.prlimit(self.child, limit)[1]
            allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.prlimit(self.child, limit, (allowed, allowed))
        with contextlib.suppress(PermissionError):  # courtesies to the host, no containment
            if confinement.niceness:
                os.setpriority(os.PRIO_PROCESS, self.child, confinement.niceness)
            if confinement.oom_score:
                adjustment = Path(f"/proc/{self.child}/oom_score_adj")
                adjustment.write_text(str(confinement.oom_score), encoding="ascii")
        if confinement.enter is not None:
            confinement.enter(self.child)

    def _read_status(self, deadline: float) -> bool:
        """Read more of what bwrap says about its child; False at the end or the deadline."""
        poll = select.poll()
        poll.register(self._status_fd, select.POLLIN)
        if not poll.poll(max(0, round((deadline - time.monotonic()) * 1000))):
            return False
        more = os.read(self._status_fd, 4096)
        self._status += more
        return bool(more)

    def _documents(self) -> list[dict[str, int]]:
        """Return what bwrap has said so far, complete documents only."""
        decoder, text, found = json.JSONDecoder(), self._status.decode("ascii", "replace"), []
        while text := text.lstrip():
            try:
                document, end = decoder.raw_decode(text)
            except ValueError:
                break
            found.append(document)
            text = text[end:]
        return found

    def running(self) -> bool:
        """Tell whether the program still runs."""
        return self.process.poll() is None

    def command(self) -> int:
        """Return the process id of the program itself, as the host counts; 0 when it has ended.

        Process 1 of the namespace is bwrap's, which starts the program as its first child.
        """
        deadline = time.monotonic() + SETUP_SECONDS
        children = Path(f"/proc/{self.child}/task/{self.child}/children")
        while self.child and self.running() and time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                first = children.read_text(encoding="ascii").split()[:1]
                # until it is bwrap no longer it may still turn out that there is no such program
                if first and self._is_another(int(first[0])):
                    return int(first[0])
            time.sleep(0.002)
        return 0

    def _is_another(self, process: int) -> bool:
        """Tell whether a process runs another program than bwrap; yes where we may not look."""
        try:
            return os.readlink(f"/proc/{process}/exe") != self._bwrap  # noqa: PTH115
        except PermissionError:
            return True

    def signal_all(self) -> None:
        """Kill the program and all it started, without waiting; from any thread. Never raises."""
        with self._lock, contextlib.suppress(OSError):
            if self._child_fd >= 0:
                signal.pidfd_send_signal(self._child_fd, signal.SIGKILL)

    def kill(self) -> None:
        """End the program and all it started, at once, and wait until they are gone. Never raises."""
        self.signal_all()
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._child_fd >= 0:
                self.process.wait(KILL_SECONDS)
        with contextlib.suppress(OSError):
            self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(KILL_SECONDS)
        self._await_namespace()

    def _await_namespace(self) -> None:
        """Wait until the last process inside is gone: bwrap ends a moment before its namespace."""
        if self._child_fd >= 0:
            poll = select.poll()
            poll.register(self._child_fd, select.POLLIN)
            poll.poll(KILL_SECONDS * 1000)

    def finish(self) -> int | None:
        """After the process has ended: return the program's own exit status.

        128 + N stands for signal N. None means that the program was never started, or killed with
        its whole namespace.
        """
        self.process.wait()
        self._await_namespace()
        while self._read_status(time.monotonic() + 1):
            pass
        for document in self._documents():
            if "exit-code" in document:
                return int(document["exit-code"])
        return None

    def close(self) -> None:
        """Give the descriptors back. The program must have ended."""
        with self._lock:
            for descriptor in (self._status_fd, self._child_fd):
                if descriptor >= 0:
                    os.close(descriptor)
            self._status_fd = self._child_fd = -1
