"""Fixed programs that run inside the sandbox, beside the data they look at; never on the host."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent


@cache
def text(*names: str) -> str:
    """Return the text of programs by file name, one after the other."""
    return "\n".join((_HERE / name).read_text(encoding="utf-8") for name in names)
