"""Looks at a fetched artifact before anything parses it, and finds the engine it belongs to.

The artifact is hostile: no link is followed, no special file is opened, a bounded number of files is
looked at, a bounded number of bytes is read and decompressed. gzip and xz are opened by the standard
library; zstd, which Python lacks before 3.14, by the `zstd` program in the jail.
"""

from __future__ import annotations

import lzma
import os
import stat
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from backupguard.contracts import Command, Context, Engine, Match, Sample, SampledFile
from backupguard.errors import (
    AccessRefused,
    BackupDefect,
    BackupGuardError,
    Cancelled,
    MissingMeans,
)

HEAD_BYTES = 64 * 1024
TAIL_BYTES = 4 * 1024
#: Most that is decompressed of one file to fill its head.
DECOMPRESSED_BYTES = 1024 * 1024
#: Most compressed bytes handed to a decompressor: zstd needs a whole block, at most 128 KiB.
COMPRESSED_BYTES = 256 * 1024
_PIECE_BYTES = 4 * 1024
#: What any compressor makes of nothing is shorter, its file's name included.
_NOTHING_COMPRESSED_BYTES = 512
MAX_FILES = 200
#: Most directory entries that are counted; a larger tree is measured as far as this.
MAX_ENTRIES = 1_000_000

#: bzip2, lz4, lzip, compress, zip, 7z, rar, OpenPGP in letters, age, OpenSSL, LUKS.
_WRAPPINGS = (
    *(b"BZh", b"\x04\x22\x4d\x18", b"LZIP", b"\x1f\x9d", b"PK\x03\x04", b"7z\xbc\xaf\x27\x1c"),
    *(b"Rar!", b"-----BEGIN PGP MESSAGE", b"age-encryption.org/", b"Salted__", b"LUKS\xba\xbe"),
)
_MAGIC = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def take_sample(root: Path, artifact: PurePosixPath, context: Context) -> Sample:
    """Return what engines may look at of `root/artifact`; raise MissingMeans without `zstd`."""
    path = root / artifact
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        raise BackupDefect("selection_absent") from error
    if stat.S_ISREG(mode):
        size = path.lstat().st_size
        file = _sampled(path, PurePosixPath("."), context)
        return Sample(artifact=artifact, is_directory=False, files=(file,), total_bytes=size)
    if not stat.S_ISDIR(mode):
        raise BackupDefect("not_a_dump")
    total = 0
    chosen: list[str] = []
    for count, (entry, size) in enumerate(_regular_files(path)):
        total += size
        if len(chosen) < MAX_FILES:
            chosen.append(entry)
        if count >= MAX_ENTRIES:
            break
    files = tuple(_sampled(path / entry, PurePosixPath(entry), context) for entry in sorted(chosen))
    return Sample(artifact=artifact, is_directory=True, files=files, total_bytes=total)


def recognise(sample: Sample, engines: Mapping[str, Engine]) -> Match:
    """Return the match of the engine that is surest.

    Raises BackupDefect (empty) when there is nothing in the artifact, and MissingMeans
    (ambiguous_artifact when two engines are equally sure, unrecognised_artifact when none is).
    """
    if _is_empty(sample):
        raise BackupDefect("empty")
    matches = [match for engine in engines.values() if (match := engine.recognise(sample))]
    if not matches:
        raise MissingMeans("unrecognised_artifact")
    best = max(match.certainty for match in matches)
    surest = [match for match in matches if match.certainty == best]
    if len(surest) > 1:
        raise MissingMeans("ambiguous_artifact", engines=", ".join(m.engine for m in surest))
    return surest[0]


def wrapped(sample: Sample) -> bool:
    """Tell whether something lies in a wrapping that nothing here opens: encrypted, or another archive.

    What is inside may be a perfect dump: that it cannot be seen from here accuses nobody.
    """
    return any(_is_wrapping(file.head) for file in sample.files)


def _is_wrapping(head: bytes) -> bool:
    if head.startswith(_WRAPPINGS) or head[257:262] == b"ustar":
        return True
    # OpenPGP packets: a session key, for a public key (version 3, 6) or a password (version 4 to 6).
    kind, version = head[:1], head[3:4] if head[:1] == b"\x85" else head[2:3]
    if kind in {b"\x84", b"\x85", b"\xc1"}:
        return version in {b"\x03", b"\x06"}
    return kind in {b"\x8c", b"\xc3"} and version in {b"\x04", b"\x05", b"\x06"}


def _is_empty(sample: Sample) -> bool:
    # A compressor that was fed nothing still writes a few bytes: `pg_dump … | gzip` after a failure.
    return all(
        not file.head
        and (not file.size or (file.compression and file.size < _NOTHING_COMPRESSED_BYTES))
        for file in sample.files
    )


def _regular_files(root: Path) -> Iterator[tuple[str, int]]:
    """Yield relative path and size of regular files, shallow ones first, without following links."""
    waiting = [(str(root), "")]
    seen = 0
    while waiting:
        directory, prefix = waiting.pop(0)
        try:
            with os.scandir(directory) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            continue  # unreadable for us: the engine inside will say what it misses
        for entry in found:
            seen += 1
            if seen > MAX_ENTRIES:
                return
            relative = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                waiting.append((entry.path, relative + "/"))
            elif entry.is_file(follow_symlinks=False):
                yield relative, entry.stat(follow_symlinks=False).st_size


def _sampled(path: Path, name: PurePosixPath, context: Context) -> SampledFile:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise AccessRefused("permission") from error
    except OSError as error:
        raise BackupDefect("selection_absent") from error
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(COMPRESSED_BYTES)
        compression = next((n for magic, n in _MAGIC.items() if start.startswith(magic)), None)
        if compression is None:
            file.seek(max(0, size - TAIL_BYTES))
            head, tail = start[:HEAD_BYTES], file.read(TAIL_BYTES)
        else:
            head, tail = _decompressed(start, compression, context)[:HEAD_BYTES], b""
    return SampledFile(path=name, size=size, head=head, tail=tail, compression=compression)


def _decompressed(start: bytes, compression: str, context: Context) -> bytes:
    """Return the first decompressed bytes; whatever came before an error, even nothing."""
    if compression == "zstd":
        return _unzstd(start, context)
    opener: zlib._Decompress | lzma.LZMADecompressor
    opener = (
        zlib.decompressobj(wbits=31)
        if compression == "gzip"
        else lzma.LZMADecompressor(memlimit=256 * 1024 * 1024)
    )
    made = bytearray()
    try:
        # In small pieces: an error says nothing of what the pieces before it held.
        for at in range(0, len(start), _PIECE_BYTES):
            made += opener.decompress(start[at : at + _PIECE_BYTES], DECOMPRESSED_BYTES)
            if len(made) >= HEAD_BYTES:
                break
    except MemoryError as error:
        raise MissingMeans("no_memory") from error
    except lzma.LZMAError as error:
        if "emory" in str(error):  # liblzma's own words for our limit
            raise MissingMeans("no_memory") from error
    except (zlib.error, EOFError):
        pass
    return bytes(made)


def _unzstd(start: bytes, context: Context) -> bytes:
    """Let `zstd` in the jail open the first blocks: its output is capped by the jail."""
    if context.tools.which("zstd") is None:
        raise MissingMeans("program_missing", program="zstd", package="zstd")
    piece = context.work / "sample.zst"
    piece.write_bytes(start)
    try:
        # The piece ends inside a frame, so zstd always complains at its end; what counts came before.
        # Windows up to what the format allows: without being told so, zstd refuses beyond 128 MiB.
        argv = ("zstd", "-dcq", "--long=31", str(piece))
        done = context.tools.run(Command(argv=argv, read=(piece,), timeout_s=30))
        if done.oom or done.returncode >= 126 or (not done.stdout and b"emory" in done.stderr):
            raise MissingMeans("no_memory")
        return done.stdout[:DECOMPRESSED_BYTES]
    except (Cancelled, MissingMeans):
        raise
    except BackupGuardError as error:
        raise MissingMeans("unrecognised_artifact") from error
    finally:
        piece.unlink(missing_ok=True)
