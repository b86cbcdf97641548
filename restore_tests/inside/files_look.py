"""Looks at a restored tree of files, inside the sandbox: what it prints are counts, sizes and times.

Started as `python3 -I -S -c TEXT` with a request as JSON on standard input; prints one JSON object. No
link is followed, nothing special is opened, and no name leaves: a file is its extension and a number.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import math
import os
import re
import stat
import sys
from collections.abc import Iterator
from typing import Any

#: What files of these extensions begin with; several where there are several. At 128: DICOM (PS3.10).
_HEADS: dict[str, tuple[tuple[int, bytes], ...]] = {
    "pdf": ((0, b"%PDF-"),),
    "jpg": ((0, b"\xff\xd8\xff"),),
    "jpeg": ((0, b"\xff\xd8\xff"),),
    "png": ((0, b"\x89PNG\r\n\x1a\n"),),
    "gif": ((0, b"GIF8"),),
    "tif": ((0, b"II*\0"), (0, b"MM\0*")),
    "tiff": ((0, b"II*\0"), (0, b"MM\0*")),
    "docx": ((0, b"PK\x03\x04"),),
    "xlsx": ((0, b"PK\x03\x04"),),
    "pptx": ((0, b"PK\x03\x04"),),
    "odt": ((0, b"PK\x03\x04"),),
    "ods": ((0, b"PK\x03\x04"),),
    "zip": ((0, b"PK\x03\x04"), (0, b"PK\x05\x06")),
    "jar": ((0, b"PK\x03\x04"),),
    "doc": ((0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),),
    "xls": ((0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),),
    "gz": ((0, b"\x1f\x8b"),),
    "xz": ((0, b"\xfd7zXZ\0"),),
    "zst": ((0, b"\x28\xb5\x2f\xfd"),),
    "7z": ((0, b"7z\xbc\xaf\x27\x1c"),),
    "dcm": ((128, b"DICM"),),
    "rtf": ((0, b"{\\rtf"),),
}
#: Formats of health care in plain text: HL7 v2 begins with MSH, CDA and FHIR in XML with a tag.
_HL7 = frozenset({"hl7"})
_XML = frozenset({"xml", "cda"})
_NOTES = re.compile(
    r"(decrypt|recover|restore|ransom|unlock).{0,20}(files?|instructions?|me|note|data|readme)"
    r"|(readme|read.me|how.to|help).{0,20}(decrypt|recover|unlock|restore)",
    re.IGNORECASE,
)
_NOTE_EXTENSIONS = frozenset({"txt", "html", "hta", "htm", ""})
_HEAD_BYTES = 4096
_SAMPLES = 2000
_EXTENSION = re.compile(r"[a-z0-9_-]{1,12}\Z")


def main(request: dict[str, Any]) -> None:
    """Look at the tree and print what was found."""
    found: dict[str, Any] = {
        "extensions": {}, "files": 0, "directories": 0, "links": 0, "special": 0, "bytes": 0,
        "empty": 0, "unreadable": 0, "headed": 0, "strange": 0, "even": 0, "sampled": 0,
        "notes": 0, "newest": {},
    }  # fmt: skip
    checks = [{"matched": 0, "newest": None, "right": None} for _ in request["checks"]]
    for place, path, status in walk(request["root"], found):
        kind = status.st_mode
        if stat.S_ISDIR(kind):
            found["directories"] += 1
        elif stat.S_ISLNK(kind):
            found["links"] += 1
        elif stat.S_ISREG(kind):
            look(path, status, found, request)
            for check, seen in zip(request["checks"], checks, strict=True):
                compare(place, path, status, check, seen)
        else:
            found["special"] += 1
    print(json.dumps({**found, "checks": checks}))


def walk(root: str, found: dict[str, Any]) -> Iterator[tuple[str, str, os.stat_result]]:
    """Yield every entry below the root by its place in the tree; the root alone, if it is a file.

    A directory that may not be opened is counted: what it holds must not look as if it were gone.
    """
    if not os.path.isdir(root):
        yield os.path.basename(root), root, os.lstat(root)
        return
    waiting = [""]
    while waiting:
        directory = waiting.pop()
        try:
            entries = list(os.scandir(os.path.join(root, directory)))
        except OSError:
            found["unreadable"] += 1
            continue
        for entry in entries:
            place = os.path.join(directory, entry.name)
            status = entry.stat(follow_symlinks=False)
            yield place, entry.path, status
            if stat.S_ISDIR(status.st_mode):
                waiting.append(place)


def look(path: str, status: os.stat_result, found: dict[str, Any], request: dict[str, Any]) -> None:
    """Count one file."""
    name = os.path.basename(path)
    extension = os.path.splitext(name)[1][1:].lower()
    known = extension if _EXTENSION.match(extension) else "-" if extension else "none"
    found["extensions"][known] = found["extensions"].get(known, 0) + 1
    found["files"] += 1
    found["bytes"] += status.st_size
    found["empty"] += status.st_size == 0
    at = int(status.st_mtime * 1_000_000)
    if request["floor"] <= at <= request["limit"]:
        found["newest"][known] = max(at, found["newest"].get(known, at))
    if extension in _NOTE_EXTENSIONS and _NOTES.search(name) and status.st_size < 1 << 20:
        found["notes"] += 1
    if status.st_size == 0:
        return
    typed = extension in _HEADS or extension in _HL7 or extension in _XML
    if not typed and found["sampled"] >= _SAMPLES:
        return
    try:
        head = head_of(path)
    except OSError:
        found["unreadable"] += 1
        return
    if typed:
        found["headed"] += 1
        found["strange"] += not begins_right(extension, head)
    if not typed:
        found["sampled"] += 1
        found["even"] += entropy(head) >= 7.5 and len(head) >= 1024


def head_of(path: str) -> bytes:
    """Return a file's first bytes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _HEAD_BYTES)
    finally:
        os.close(descriptor)


def begins_right(extension: str, head: bytes) -> bool:
    """Tell whether a file begins as its extension says."""
    if extension in _HL7:
        return head.lstrip(b"\x0b\r\n \xef\xbb\xbf").startswith((b"MSH|", b"FHS|", b"BHS|"))
    if extension in _XML:
        return head.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \r\n\t").startswith(b"<")
    return any(head[at : at + len(magic)] == magic for at, magic in _HEADS[extension])


def entropy(head: bytes) -> float:
    """Return the bits per byte of some bytes."""
    counts = [head.count(value) for value in set(head)]
    return -sum(n / len(head) * math.log2(n / len(head)) for n in counts) if head else 0.0


def compare(
    place: str, path: str, status: os.stat_result, check: dict[str, Any], seen: dict[str, Any]
) -> None:
    """Count a file for a check of the site's that it belongs to."""
    if not fnmatch.fnmatchcase(place, check["files"]):
        return
    seen["matched"] += 1
    at = int(status.st_mtime * 1_000_000)
    seen["newest"] = at if seen["newest"] is None else max(at, seen["newest"])
    if check["sha256"] is not None:
        seen["right"] = digest(path) == check["sha256"] and seen["right"] is not False


def digest(path: str) -> str:
    """Return a file's SHA-256."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main(json.load(sys.stdin))
