"""What an engine archive says of itself: `engine.json`, its first member."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backupguard.errors import MissingMeans, Misunderstood
from backupguard.model import Message

FORMAT = "backupguard-engine-1"
NAME = "engine.json"
#: Holds the SHA-256 of the archive an engine came from; written here, not by the archive.
DIGEST = "archive.sha256"
LARGEST = 1 << 20
_ENGINE = re.compile(r"[a-z][a-z0-9-]{0,30}")
_VERSION = re.compile(r"[0-9][0-9A-Za-z]*([.+~-][0-9A-Za-z]+){0,8}")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def not_an_engine(file: str) -> Misunderstood:
    """Return the error of a file that is no engine archive."""
    return Misunderstood(
        "output_unparsable",
        Message(id="engines.no-archive", values={"file": file}),
        Message(id="engines.do.rebuild", values={}),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """An engine: what it is, for which processor, and the packages it was taken from.

    `bytes` is the room its files take; `packages` maps a Debian package to its version.
    """

    engine: str
    version: str
    architecture: str
    release: str
    bytes: int
    packages: Mapping[str, str]

    def require_here(self) -> None:
        """Raise MissingMeans (version_unsupported) for programs of another processor."""
        if self.architecture != this_architecture():
            raise MissingMeans(
                "version_unsupported",
                Message(
                    id="engines.other-architecture",
                    values={"found": self.architecture, "host": this_architecture()},
                ),
                Message(id="engines.do.other-bundle", values={}),
            )


def this_architecture() -> str:
    """Return Debian's name for this host's processor."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, machine)


def is_name(engine: str, version: str) -> bool:
    """Tell whether these two may be names of directories below the engines'."""
    return bool(_ENGINE.fullmatch(engine) and _VERSION.fullmatch(version))


def parsed(text: bytes, file: str) -> Description:
    """Return the description in a text; raises Misunderstood (output_unparsable) naming `file`."""
    try:
        read = json.loads(text)
        if read.pop("format") != FORMAT:
            raise ValueError("another format")
        found = Description(**read)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise not_an_engine(file) from error
    texts = (found.engine, found.version, found.architecture, found.release)
    sound = all(isinstance(text, str) for text in texts) and isinstance(found.packages, dict)
    if not sound or not isinstance(found.bytes, int) or not is_name(found.engine, found.version):
        raise not_an_engine(file)
    return found


def of(place: Path) -> Description | None:
    """Return the description of an unpacked engine; None for one that came by another way."""
    try:
        with (place / NAME).open("rb") as file:
            return parsed(file.read(LARGEST), str(place / NAME))
    except (OSError, Misunderstood):
        return None


def digest(place: Path) -> str | None:
    """Return the hash of the archive that an unpacked engine came from; None where unknown."""
    try:
        return (place / DIGEST).read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        return None
