"""The wish that a run end: set by a signal handler or another thread, seen by whoever waits."""

from __future__ import annotations

import os
import select

from backupguard.errors import Cancelled


class Cancellation:
    """Implements `contracts.Cancel`.

    Built on an eventfd and not on `threading.Event`: a signal handler that calls `Event.set` while
    its own thread is inside `Event.wait` never returns. An eventfd can also be waited for together
    with pipes.
    """

    def __init__(self) -> None:
        self._reason: str | None = None
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def set(self, reason: str = "by_operator") -> None:
        """Ask the run to end; the first reason (a code of `Cancelled`) stays. Safe in signal handlers.

        Raises ValueError for a reason that is no code of `Cancelled`.
        """
        if reason not in Cancelled.codes:
            raise ValueError(f"{reason!r} is not a code of Cancelled")
        if self._reason is None:
            self._reason = reason
            os.eventfd_write(self._event, 1)

    def is_set(self) -> bool:
        """Tell whether the run is to end."""
        return self._reason is not None

    @property
    def reason(self) -> str | None:
        """The first reason given, None while nobody asked."""
        return self._reason

    def raise_if_set(self) -> None:
        """Raise Cancelled when the run is to end."""
        if self._reason is not None:
            raise Cancelled(self._reason)

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds`; return whether the run is to end."""
        if self._reason is None:
            poll = select.poll()
            poll.register(self._event, select.POLLIN)
            poll.poll(max(0, round(seconds * 1000)))
        return self._reason is not None

    def fileno(self) -> int:
        """Return a descriptor that becomes readable, and stays so, when the run is to end."""
        return self._event

    def __del__(self) -> None:
        event = getattr(self, "_event", -1)
        if event >= 0:
            os.close(event)
