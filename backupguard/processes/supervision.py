"""Attends a running program: drains its output, feeds its input, watches time, cancel and limits."""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import time
from collections import deque
from collections.abc import Callable
from typing import IO, Protocol

from backupguard.contracts import Cancel, Completed, LineSink
from backupguard.errors import TimedOut
from backupguard.model import Message
from backupguard.processes.bubblewrap import Program, not_started
from backupguard.processes.masking import Masker

#: How often cancel and limits are looked at while a program is silent.
TICK_SECONDS = 0.2
#: A longer line of output is cut: no line of any tool we read is meant to be longer.
LINE_LIMIT = 16 << 20
_CHUNK = 1 << 20


class Receiver(Protocol):
    """Takes output as it comes."""

    truncated: bool

    def take(self, chunk: bytes) -> None:
        """Take a piece of output."""

    def end(self) -> bytes:
        """Return what was kept."""


class Head:
    """Keeps the first `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.room = limit
        self._chunks: list[bytes] = []
        self.truncated = False

    def take(self, chunk: bytes) -> None:
        """Take a piece of output."""
        kept = chunk[: self.room]
        self.truncated |= len(kept) < len(chunk)
        if kept:
            self.room -= len(kept)
            self._chunks.append(kept)

    def end(self) -> bytes:
        """Return the first bytes."""
        return b"".join(self._chunks)


class HeadAndTail:
    """Keeps the first and the last half of `limit` bytes: errors begin and end with the cause."""

    def __init__(self, limit: int) -> None:
        self._head = Head(limit // 2)
        self._half = limit - limit // 2
        self._tail: deque[bytes] = deque()
        self._held = 0
        self.truncated = False

    def take(self, chunk: bytes) -> None:
        """Take a piece of output."""
        room = self._head.room
        self._head.take(chunk[:room])
        rest = chunk[room:]
        if rest:
            self._tail.append(rest)
            self._held += len(rest)
        while self._tail and self._held - len(self._tail[0]) >= self._half:
            self._held -= len(self._tail.popleft())
            self.truncated = True

    def end(self) -> bytes:
        """Return head and tail, with a line between them that says so where bytes were dropped."""
        tail = b"".join(self._tail)
        if len(tail) > self._half:
            tail = tail[-self._half :]
            self.truncated = True
        return self._head.end() + (b"\n[...]\n" if self.truncated else b"") + tail


class Lines:
    """Hands complete lines to a callable; keeps nothing."""

    def __init__(self, sink: LineSink, mask: Masker, limit: int = LINE_LIMIT) -> None:
        self._sink = sink
        self._mask = mask
        self._limit = limit
        self._rest = b""
        self.truncated = False

    def take(self, chunk: bytes) -> None:
        """Take a piece of output."""
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            self._hand(self._rest + line)
            self._rest = b""
        room = self._limit - len(self._rest)
        self.truncated |= len(rest) > room
        self._rest += rest[:room]

    def _hand(self, line: bytes) -> None:
        self.truncated |= len(line) > self._limit
        self._sink(self._mask(line[: self._limit]))

    def end(self) -> bytes:
        """Hand over a last line without its end; nothing was kept."""
        if self._rest:
            self._hand(self._rest)
            self._rest = b""
        return b""


class _Attendance:
    """One program's pipes and limits while it runs."""

    def __init__(
        self,
        program: Program,
        receivers: dict[int, Receiver],
        feed: tuple[int, bytes | int] | None,
        cancel: Cancel,
        watch: Callable[[], None] | None,
    ) -> None:
        self.program = program
        self.receivers = receivers
        self.cancel = cancel
        self.watch = watch
        self.selector = selectors.DefaultSelector()
        self.ended = os.pidfd_open(program.process.pid)
        self.selector.register(self.ended, selectors.EVENT_READ)
        for descriptor in receivers:
            os.set_blocking(descriptor, False)
            self.selector.register(descriptor, selectors.EVENT_READ)
        self.open = set(receivers)
        self.input: memoryview | int = 0
        self.input_fd = -1
        if feed is not None:
            self.input_fd = feed[0]
            self.input = memoryview(feed[1]) if isinstance(feed[1], bytes) else feed[1]
            os.set_blocking(self.input_fd, False)
            self.selector.register(self.input_fd, selectors.EVENT_WRITE)
        event = getattr(cancel, "fileno", None)
        if event is not None:  # ours wakes us at once; any other is looked at every tick
            self.selector.register(event(), selectors.EVENT_READ)

    def close(self) -> None:
        self.selector.close()
        os.close(self.ended)
        if self.input_fd >= 0:
            os.close(self.input_fd)

    def until_end(self, deadline: float, late: Callable[[], Exception]) -> None:
        """Serve the pipes until the program has ended. Raises what `cancel` and `watch` raise."""
        while self.program.running():
            self.cancel.raise_if_set()
            if self.watch is not None:
                self.watch()
            left = deadline - time.monotonic()
            if left <= 0:
                raise late()
            self._serve(min(TICK_SECONDS, left))

    def drain(self) -> None:
        """Take what is still in the pipes; every process that could add to it is gone."""
        while self.open:
            before = set(self.open)
            if not self._serve(0.0) and before == self.open:
                return

    def _serve(self, seconds: float) -> bool:
        served = False
        for key, _ in self.selector.select(seconds):
            if key.fd in self.receivers:
                self._take(key.fd)
                served = True
            elif key.fd == self.input_fd:
                self._feed()
        return served

    def _take(self, descriptor: int) -> None:
        try:
            chunk = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return
        if chunk:
            self.receivers[descriptor].take(chunk)
        else:
            self.selector.unregister(descriptor)
            self.open.discard(descriptor)

    def _feed(self) -> None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            if isinstance(self.input, int):
                # a descriptor of the file itself could be opened anew for writing by /proc inside
                if os.splice(self.input, self.input_fd, _CHUNK):
                    return
            else:
                self.input = self.input[os.write(self.input_fd, self.input[:_CHUNK]) :]
                if self.input:
                    return
        self.selector.unregister(self.input_fd)
        os.close(self.input_fd)
        self.input_fd = -1


def _duplicate(pipe: IO[bytes] | None) -> int:
    """Return a descriptor of our own for a pipe of Popen, which is closed."""
    assert pipe is not None
    descriptor = os.dup(pipe.fileno())
    with contextlib.suppress(
        OSError
    ):  # fewer wake-ups; an unprivileged user's share may be used up
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _CHUNK)
    with contextlib.suppress(OSError):
        pipe.close()
    return descriptor


def attend(
    program: Program,
    *,
    name: str,
    stdout: Receiver | None,
    stderr: Receiver,
    stdin: bytes | int | None,
    timeout_s: float,
    cancel: Cancel,
    watch: Callable[[], None] | None,
    mask: Masker,
) -> Completed:
    """Attend `program` to its end and return how it ended; it is gone whatever happens.

    `stdout` is None when it goes to a file; `stdin` is bytes, or the descriptor of a file, to be
    fed. `watch` is called at least every 0.2 s and raises to end the program. Raises TimedOut
    (phase_limit), what `cancel` and `watch` raise, what a line sink raises, MissingMeans
    (program_missing, sandbox_unavailable) when bubblewrap could not start the program.
    """
    receivers: dict[int, Receiver] = {_duplicate(program.process.stderr): stderr}
    if stdout is not None:
        receivers[_duplicate(program.process.stdout)] = stdout
    feed = None if stdin is None else (_duplicate(program.process.stdin), stdin)
    attendance = _Attendance(program, receivers, feed, cancel, watch)
    killed_before = _kills_for_memory()
    try:
        attendance.until_end(
            program.started + timeout_s,
            lambda: TimedOut(
                "phase_limit",
                Message(
                    id="processes.phase_limit",
                    values={"program": name, "seconds": round(timeout_s)},
                ),
            ),
        )
        returncode = program.finish()
        attendance.drain()
    except BaseException:
        program.kill()
        raise
    finally:
        attendance.close()
        for descriptor in receivers:
            os.close(descriptor)
        program.close()
    ended = stdout.end() if stdout is not None else b""
    errors = mask(stderr.end())
    if returncode is None:
        returncode = _unstarted(program, name, errors)
    return Completed(
        returncode=returncode,
        stdout=mask(ended),
        stderr=errors,
        truncated=stderr.truncated or (stdout is not None and stdout.truncated),
        oom=returncode == 137 and _kills_for_memory() > killed_before,
        duration_ms=round((time.monotonic() - program.started) * 1000),
    )


def _unstarted(program: Program, name: str, errors: bytes) -> int:
    """Return 137 for a namespace that was killed; raise for one that could not be made."""
    if program.process.returncode < 0 or program.process.returncode == 137:
        return 137
    raise not_started(name, errors)


def _kills_for_memory() -> int:
    """Return how many processes this host has killed for want of memory since it was started."""
    with contextlib.suppress(OSError), open("/proc/vmstat", encoding="ascii") as file:  # noqa: PTH123
        for line in file:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
