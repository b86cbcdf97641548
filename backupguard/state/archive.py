"""The file of an export: a `.tar.gz` that begins with a list of what follows, each with its hash.

    manifest.json     format, versions, the store's id and head, and the files in their order
    state/PATH        the files of the state directory

Read in one pass, in the order of the list; a name, size or hash that differs ends the reading.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from backupguard.errors import StoreError
from backupguard.model import Message

FORMAT = "backupguard-state-1"
_MANIFEST = "manifest.json"
_PREFIX = "state/"
_MANIFEST_BYTES = 64 * 2**20
_BLOCK = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file of the state: its path below the state directory, its size in bytes, its SHA-256."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an export says of itself; times are ISO 8601 in UTC."""

    format: str
    program_version: str
    exported_at: str
    host: str
    schema: str
    store: str
    head_seq: int
    head_hash: str
    files: tuple[Entry, ...]

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(entry.bytes for entry in self.files)


def unusable(what: str) -> StoreError:
    """Return the error of a file that is no whole export; `what` is the end of a message id."""
    return StoreError("corrupt_store", Message(id="state.unusable", values={"what": f"@{what}"}))


def listed(directory: Path, paths: Sequence[str]) -> tuple[Entry, ...]:
    """Return the entries of files below a directory, in the order given."""
    found = []
    for path in paths:
        with (directory / path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            found.append(Entry(path=path, bytes=file.tell(), sha256=digest))
    return tuple(found)


def write(target: BinaryIO, manifest: Manifest, places: Sequence[Path]) -> None:
    """Write an export: the manifest, and the files of its entries from `places`, in its order."""
    with tarfile.open(fileobj=target, mode="w|gz", format=tarfile.PAX_FORMAT) as archive:
        text = json.dumps(asdict(manifest), ensure_ascii=False, indent=1).encode()
        archive.addfile(_member(_MANIFEST, len(text)), io.BytesIO(text))
        for entry, place in zip(manifest.files, places, strict=True):
            with place.open("rb") as file:
                archive.addfile(_member(_PREFIX + entry.path, entry.bytes), file)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


@contextmanager
def reading(source: BinaryIO) -> Iterator[tuple[Manifest, Iterator[tuple[Entry, BinaryIO]]]]:
    """Open an export: its manifest, and its files one after the other as streams.

    Raises StoreError (corrupt_store) for what is no export, or none that is whole.
    """
    try:
        with tarfile.open(fileobj=source, mode="r|gz") as archive:
            manifest = _manifest(archive)
            yield manifest, _members(archive, manifest)
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise unusable("state.no-archive") from error


def _manifest(archive: tarfile.TarFile) -> Manifest:
    first = archive.next()
    if first is None or first.name != _MANIFEST or first.size > _MANIFEST_BYTES:
        raise unusable("state.no-archive")
    content = archive.extractfile(first)
    assert content is not None
    try:
        read = json.loads(content.read())
        if read.get("format") != FORMAT:
            raise unusable("state.other-format")
        entries = tuple(Entry(**entry) for entry in read.pop("files"))
        manifest = Manifest(**read, files=entries)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise unusable("state.no-archive") from error
    names = [entry.path for entry in entries]
    if len(set(names)) != len(names) or not all(map(_is_safe, names)):
        raise unusable("state.bad-name")
    return manifest


def _is_safe(name: object) -> bool:
    """Tell whether a name leads below the state directory, plainly."""
    if not isinstance(name, str) or not name or "\0" in name or "\\" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and str(path) == name and ".." not in path.parts


def _members(archive: tarfile.TarFile, manifest: Manifest) -> Iterator[tuple[Entry, BinaryIO]]:
    for entry in manifest.files:
        member = archive.next()
        if member is None:
            raise unusable("state.cut-off")
        content = archive.extractfile(member) if member.isreg() else None
        if content is None or member.name != _PREFIX + entry.path or member.size != entry.bytes:
            raise unusable("state.other-files")
        yield entry, content  # type: ignore[misc] # a stream of the archive, only read
    if archive.next() is not None:
        raise unusable("state.other-files")


def unpack(entry: Entry, content: BinaryIO, directory: Path) -> None:
    """Write one file of an export below a directory (0600); raise when its hash is another."""
    place = directory / entry.path
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(place, flags, 0o600), "wb") as file:
        while block := content.read(_BLOCK):
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != entry.sha256:
        raise unusable("state.changed")
