"""The site's own catalogue of controls and maps of identifiers: files in a directory, read at load.

Their texts become a part of the settings, so that runners judge by what the daemon accepted, whatever
lies in the directory by then. What they say is checked where controls are known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from backupguard.contracts import SettingsModel
from backupguard.model import Message
from backupguard.settings.files import Trouble

#: How such files are called.
NAMES = re.compile(r"(care-d4|map-[a-z0-9-]{1,40})\.toml\Z")
#: Bytes that a file may have, and how many files: forty times what is shipped.
MOST_BYTES = 512 * 1024
MOST_FILES = 64
_HERE = ("controls", "directory")


class Controls(SettingsModel):
    """Where the site's own catalogue and maps lie; `files` are their texts by name, read by us."""

    directory: Path | None = None
    files: Mapping[str, str] = Field(default_factory=dict)

    def place(self, name: str) -> str:
        """Return the path of a file, for errors."""
        return str(self.directory / name) if self.directory is not None else name


def expand(data: dict[str, Any]) -> Iterator[Trouble]:
    """Put the texts of the files in the place of `controls.files`; yield what cannot be read."""
    table = data.get("controls")
    if not isinstance(table, dict):
        return
    if "files" in table:
        yield _trouble(("controls", "files"), "controls-files")
        return
    directory = table.get("directory")
    if not isinstance(directory, str) or not directory or "\0" in directory:
        return  # the type is checked with all others
    texts: dict[str, str] = {}
    try:
        names = sorted(p.name for p in Path(directory).iterdir() if p.name.endswith(".toml"))
    except OSError as error:
        yield _trouble(_HERE, "controls-unreadable", file=directory, why=_why(error))
        return
    if len(names) > MOST_FILES:
        yield _trouble(_HERE, "controls-too-many", found=len(names), most=MOST_FILES)
        return
    for name in names:
        path = Path(directory) / name
        if not NAMES.match(name):
            yield _trouble(_HERE, "controls-name", file=str(path)[:200])
            continue
        try:
            with path.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
            if len(content) > MOST_BYTES:
                yield _trouble(_HERE, "controls-too-large", file=str(path), most=MOST_BYTES)
                continue
            texts[name] = content.decode()
        except (OSError, UnicodeDecodeError) as error:
            yield _trouble(_HERE, "controls-unreadable", file=str(path), why=_why(error))
    table["files"] = texts


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or "" if isinstance(error, OSError) else "UTF-8"


def _trouble(path: tuple[str, ...], sentence: str, **values: int | str) -> Trouble:
    return Trouble(path=path, message=Message(id=f"settings.{sentence}", values=values))
