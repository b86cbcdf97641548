"""Unpacks an engine archive into a fresh directory, and nothing outside it.

The archive was signed; what could reach out of the directory, be more than a program, or fill the disk
is refused all the same: absolute names, "..", files below links, links that lead out, devices, and
more bytes than it announced.
"""

from __future__ import annotations

import lzma
import os
import tarfile
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from backupguard.engines.described import (
    DIGEST,
    LARGEST,
    NAME,
    Description,
    not_an_engine,
    parsed,
)
from backupguard.errors import MissingMeans, Misunderstood
from backupguard.model import Message

_BLOCK = 1 << 20
_MEMBERS = 100_000


def unpack(source: BinaryIO, name: str, into: Path, digest: str) -> Description:
    """Unpack the archive `name` into the new directory `into` and return what it is.

    Raises Misunderstood (output_unparsable) for what is no engine archive or reaches out of its
    place, MissingMeans (version_unsupported, no_disk), OSError.
    """
    try:
        with tarfile.open(fileobj=source, mode="r|xz") as archive:
            first = archive.next()
            if first is None or first.name != NAME or not first.isreg() or first.size > LARGEST:
                raise not_an_engine(name)
            text = _file(archive, first).read()
            description = parsed(text, name)
            description.require_here()
            into.mkdir(mode=0o755)
            require_room(into, description.bytes)
            (into / NAME).write_bytes(text)
            _members(archive, name, into, description.bytes)
    except (tarfile.TarError, lzma.LZMAError, EOFError, UnicodeError) as error:
        raise not_an_engine(name) from error
    (into / DIGEST).write_text(f"{digest}\n", encoding="ascii")
    return description


def require_room(place: Path, needed: int) -> None:
    """Raise MissingMeans (no_disk) where fewer bytes are free."""
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        values: dict[str, int | str] = {"path": str(place.parent), "total_bytes": needed}
        message = Message(id="engines.no-room", values=values)
        raise MissingMeans("no_disk", message, Message(id="engines.do.room", values={}))


def full(place: Path) -> MissingMeans:
    """Return the error of a disk that filled up although there had been room."""
    return MissingMeans(
        "no_disk",
        Message(id="engines.full", values={"path": str(place)}),
        Message(id="engines.do.room", values={}),
    )


def _members(archive: tarfile.TarFile, name: str, into: Path, announced: int) -> None:
    directories, seen = {PurePosixPath()}, {PurePosixPath(NAME)}
    left = announced
    while (member := archive.next()) is not None:
        path = _place(member.name)
        if path is None or path in seen or path.parent not in directories or len(seen) > _MEMBERS:
            raise _reaches_out(name, member.name)
        seen.add(path)
        if member.isdir():
            (into / path).mkdir(mode=0o755)
            directories.add(path)
        elif member.issym():
            if not _stays_inside(path, member.linkname):
                raise _reaches_out(name, member.name)
            (into / path).symlink_to(member.linkname)
        elif member.isreg():
            left -= member.size
            if left < 0:
                raise _reaches_out(name, member.name)
            _write(_file(archive, member), into / path, member.mode)
        else:
            raise _reaches_out(name, member.name)


def _place(name: str) -> PurePosixPath | None:
    """Return where a member goes, below the engine's directory; None when that is elsewhere."""
    path = PurePosixPath(name)
    wrong = path.is_absolute() or not path.parts or {"..", DIGEST} & set(path.parts)
    return None if wrong or "\0" in name else path


def _stays_inside(path: PurePosixPath, target: str) -> bool:
    """Tell whether a link at `path` leads to somewhere below the engine's directory.

    Its ".." stand first: behind the name of another link they would count from where that leads.
    """
    parts = PurePosixPath(target).parts
    up = len(list(takewhile(lambda part: part == "..", parts)))
    plain = bool(parts) and not target.startswith("/") and "\0" not in target
    return plain and ".." not in parts[up:] and up <= len(path.parent.parts)


def _write(content: IO[bytes], place: Path, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(place, flags, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while block := content.read(_BLOCK):
            file.write(block)
        os.fchmod(file.fileno(), 0o755 if mode & 0o100 else 0o644)


def _file(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(member)
    assert content is not None
    return content


def _reaches_out(name: str, member: str) -> Misunderstood:
    return Misunderstood(
        "output_unparsable",
        Message(id="engines.reaches-out", values={"file": name, "name": member[:200]}),
        Message(id="engines.do.rebuild", values={}),
    )
