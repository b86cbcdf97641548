"""Where shipped files are found: inside the installed package, else in the checkout's `config/`."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
_PLACES = (_PACKAGE / "_config", _PACKAGE.parent / "config")


def shipped(name: str) -> Path:
    """Return the path of a shipped file or directory, for example "controls/care-d4.toml".

    Raises FileNotFoundError naming the places that were looked in.
    """
    for place in _PLACES:
        if (place / name).exists():
            return place / name
    raise FileNotFoundError(f"{name}: neither in {_PLACES[0]} nor in {_PLACES[1]}")
