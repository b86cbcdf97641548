"""Looks for canary files in a restored tree, inside the sandbox: "missing", "altered", or a time.

Started as `python3 -I -S -c TEXT ROOT FILE BEGINNING`; prints one JSON list of two texts. No link is
followed. A canary file is "TIME TOKEN" and a line's end, to the byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from datetime import datetime
from pathlib import Path

_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) ([0-9a-f]{64})\n\Z")
_LONGEST = 4096
_WORSE = ("missing", "found", "error", "altered")


def main(root: str, name: str, beginning: str) -> None:
    """Print what the canaries of the tree say together: the newest, or what is wrong with any."""
    said = ["missing", ""]
    for directory, _, names in os.walk(root):  # follows no link
        if name in names:
            said = worse(said, look(Path(directory) / name, beginning))
    top = Path(root)
    if not top.is_dir() and top.name == name:
        said = look(top, beginning)
    print(json.dumps(said))


def look(path: Path, beginning: str) -> list[str]:
    """Return when a canary file was written; every byte of it is known from that."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(_LONGEST)
    except OSError:
        return ["error", "check_error"]
    match = _LINE.match(content.decode("ascii", "replace"))
    if match is None:
        return ["altered", ""]
    if match[2] != hashlib.sha256(f"{beginning}{match[1]}".encode()).hexdigest():
        return ["altered", ""]
    try:
        moment = datetime.fromisoformat(match[1])
    except ValueError:
        return ["altered", ""]
    return ["found", str(int(moment.timestamp()) * 1_000_000)]


def worse(one: list[str], other: list[str]) -> list[str]:
    """Return what two canaries say together."""
    if one[0] == other[0] == "found":
        return max(one, other, key=lambda said: int(said[1]))
    return max(one, other, key=lambda said: _WORSE.index(said[0]))


if __name__ == "__main__":
    main(*sys.argv[1:4])
