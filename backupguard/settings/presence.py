"""Whether anything was configured at all: the file that a package brings says nothing yet."""

from __future__ import annotations

import tomllib
from pathlib import Path


def says_nothing(path: Path) -> bool:
    """Tell whether there is no configuration: no main file, or comments only, in `conf.d/` as well.

    A file that cannot be read, or is no TOML, says something: what, is for `loading.load` to tell.
    """
    for file in (path, *sorted((path.parent / "conf.d").glob("*.toml"))):
        try:
            if tomllib.loads(file.read_text(encoding="utf-8")):
                return False
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            return False
    return True
