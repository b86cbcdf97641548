"""How the daemon stays small: what the C library keeps for itself, given back."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress
from types import ModuleType

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
    """Keep what only a terminal needs out of this process; call before structlog and uvicorn.

    structlog imports `rich` for coloured tracebacks, which no journal shows: 3 MiB and a tenth of a
    second for nothing. uvicorn imports a command line of its own, and click for it: another MiB.
    """
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    command_line = ModuleType("uvicorn.main")
    command_line.__dict__.update(dict.fromkeys(("Server", "main", "run")))
    sys.modules.setdefault("uvicorn.main", command_line)
