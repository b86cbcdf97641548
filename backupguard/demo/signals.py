"""What Ctrl-C and a stop mean to the demonstration: while it works, and while it waits for a daemon."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from backupguard.processes import Cancellation

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Have SIGINT and SIGTERM raise KeyboardInterrupt again, as long as a daemon is waited for."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def cancelled_by_signals() -> Iterator[Cancellation]:
    """Turn SIGINT and SIGTERM into a cancel, so that what runs is discarded and its run closed."""
    cancel = Cancellation()

    def wanted(_number: int, _frame: FrameType | None) -> None:
        cancel.set("by_operator")

    before = {number: signal.signal(number, wanted) for number in _SIGNALS}
    try:
        yield cancel
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
