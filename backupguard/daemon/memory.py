"""How the daemon stays small: what the C library keeps for itself, given back."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress

_M_ARENA_MAX = -8


def be_small() -> None:
    """Use one heap for all threads instead of up to eight per core; call before threads start.

    A C library without these calls (musl) has no such heaps.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Return freed memory to the system."""
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def without_ornaments() -> None:
    """Keep `rich` out of this process; call before structlog is imported.

    structlog imports it for coloured tracebacks on a terminal, which no journal shows: 3 MiB and a
    tenth of a second for nothing.
    """
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
