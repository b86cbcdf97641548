"""Looks at a restored tree of files, inside the sandbox: what it prints are counts, sizes and times.

Started as `python3 -I -S -c TEXT` with a request as JSON on standard input; prints one JSON object. No
link is followed, nothing special is opened, and no name leaves: a file is its extension and a number.

Whole contents are hashed while the tree is gone through, by two threads: of the files that a manifest
of the site's lists, of canaries, and of those whose turn it is to be compared with an earlier test.
What an earlier test saw, and what this one leaves for a later one, is record after record in a file of
the scratch directory: a keyed hash of place, size and time, then one of the content.
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
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
_EVEN_BYTES = 1024  # random ones have 7.8 bits each, base64 has 6; more of them say the same
#: Extensions that leave as they are. What else stands behind a dot may be a patient ("IRM.DUPONT", a
#: number): it is counted in one of 256 shares, too few to tell which word it was.
_WELL_KNOWN = """
7z aac accdb acr ai asc asp aspx avi avif bak bat bin bmp bz2 c cab cda cer cfg chm class cmd conf cpp
cr2 crt css csv ctl cur dat db db3 dbf dcm dcx dic dicom dit dll dmp doc docm docx dot dotx dwg dxf edf
eml emf emz env eps epub exe fdb fhir fla flac flv fmp12 gdb gif gpg gz h hdr hl7 hpp hta htm html ico
ics idx ima img inc ini iso jar java jfif jks jp2 jpe jpeg jpg js json jsonl key ldf ldif lnk lock log
lua lz4 lzma m4a m4v map md mdb mdf mht mid mkv mov mp3 mp4 mpeg mpg msg msi myd myi ndf nef nii numbers
nrrd odb odg odp ods odt ogg old one opus ora orf ost otf p12 p7m p7s pages par pas pcx pdb pdf pem pfx
php pic pl png pot potx ppm pps ppsx ppt pptm pptx prn properties ps ps1 psd pst pub py pyc qbw r rar
raw rb rdp rels reg rpt rst rtf sas7bdat sav sbs sdf sh so sql sqlite sqlite3 stl svg swf swp sys tar
tex tgz tif tiff tmp toml ts tsv ttf txt url vbs vcf vhd vhdx vmdk vob vsd vsdx war wav wbk webm webp
wmf wmv wpd wps xcf xhtml xls xlsb xlsm xlsx xml xps xsd xsl xslt xz yaml yml z zip zst
"""
_NAMED = frozenset(_WELL_KNOWN.split())
#: A line of sha256sum: digest, space, "*" for a binary file, name; before it "\\" if that is escaped.
_LISTED = re.compile(r"(\\?)([0-9a-fA-F]{64}) [ *](.+)\Z")
_MANIFEST_BYTES = 1 << 30
_HALF = 8  # bytes of a hash in a record
_THREADS = 2
_WAITING = 64  # files handed to the threads at once


def main(request: dict[str, Any]) -> None:
    """Look at the tree and print what was found."""
    found: dict[str, Any] = {
        "extensions": {}, "files": 0, "directories": 0, "links": 0, "special": 0, "bytes": 0,
        "empty": 0, "unreadable": 0, "headed": 0, "strange": 0, "even": 0, "sampled": 0,
        "notes": 0, "newest": {},
    }  # fmt: skip
    checks = [{"matched": 0, "newest": None, "right": None} for _ in request["checks"]]
    manifest = Manifest(request)
    earlier = Earlier(request)
    with ThreadPoolExecutor(_THREADS) as pool:
        hashing = Hashing(pool, manifest, earlier, found)
        for place, path, status in walk(request["root"], found):
            kind = status.st_mode
            if stat.S_ISDIR(kind):
                found["directories"] += 1
            elif stat.S_ISLNK(kind):
                found["links"] += 1
            elif stat.S_ISREG(kind):
                look(path, status, found, request)
                canaries = [
                    (check["sha256"], seen)
                    for check, seen in zip(request["checks"], checks, strict=True)
                    if belongs(place, status, check, seen)
                ]
                hashing.look(place, path, status, canaries)
            else:
                found["special"] += 1
        hashing.finish()
    earlier.leave()
    print(json.dumps(
        {**found, "checks": checks, "manifest": manifest.said(), "earlier": earlier.said()}
    ))  # fmt: skip


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
    known = share_of(extension)
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
        found["even"] += len(head) >= _EVEN_BYTES and entropy(head[:_EVEN_BYTES]) >= 7.5


def share_of(extension: str) -> str:
    """Return what an extension is called outside: no word that nobody knows beforehand."""
    if not extension or extension in _NAMED:
        return extension or "none"
    share = hashlib.blake2b(os.fsencode(extension), digest_size=1).hexdigest()
    return f"other-{share}"


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


def belongs(
    place: str, status: os.stat_result, check: dict[str, Any], seen: dict[str, Any]
) -> bool:
    """Count a file for a check of the site's that it belongs to; tell whether its content counts."""
    if not fnmatch.fnmatchcase(place, check["files"]):
        return False
    seen["matched"] += 1
    at = int(status.st_mtime * 1_000_000)
    seen["newest"] = at if seen["newest"] is None else max(at, seen["newest"])
    return check["sha256"] is not None


class Manifest:
    """What the site's own manifests (of sha256sum) say that the tree holds."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.listed: dict[bytes, bytes] = {}
        self.counts = {"files": 0, "listed": 0, "unread": 0, "wrong": 0, "right": 0}
        wanted = request["manifests"]
        if not wanted:
            return
        unseen = {"unreadable": 0}  # the walk that looks at everything counts those
        for place, path, status in walk(request["root"], unseen):
            if stat.S_ISREG(status.st_mode) and any(fnmatch.fnmatchcase(place, w) for w in wanted):
                self._take(place, path, status)
        self.counts["listed"] = len(self.listed)

    def _take(self, place: str, path: str, status: os.stat_result) -> None:
        self.counts["files"] += 1
        if status.st_size > _MANIFEST_BYTES:
            self.counts["unread"] += 1
            return
        with open_file(path) as file:
            for raw in file:
                line = _LISTED.match(os.fsdecode(raw.rstrip(b"\r\n")))
                if line is None:
                    self.counts["unread"] += bool(raw.strip())
                    continue
                name = line[3]
                if line[1]:
                    name = re.sub(r"\\(.)", lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]), name)
                there = os.path.normpath(os.path.join(os.path.dirname(place), name))
                self.listed[os.fsencode(there)] = bytes.fromhex(line[2])

    def wants(self, place: str) -> bool:
        """Tell whether a file is listed."""
        return bool(self.listed) and os.fsencode(place) in self.listed

    def take(self, place: str, digest: bytes) -> None:
        """Compare a file that is listed; what is never taken is missing."""
        expected = self.listed.get(os.fsencode(place))
        if expected is not None:
            self.counts["right" if digest == expected else "wrong"] += 1

    def said(self) -> dict[str, int]:
        """Return the counts."""
        counts = self.counts
        return {**counts, "missing": counts["listed"] - counts["right"] - counts["wrong"]}


class Earlier:
    """What an earlier test saw of the files whose turn it is, and what this one saw of them.

    A file is known by a keyed hash of its place, size and time: one that is the same in all of these is
    taken for unchanged by whoever lists files, and its content must be.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        self.turn: int | None = request["turn"]
        self.turns = int(request["turns"])
        self.key = bytes.fromhex(request["key"])
        self.counts = {"hashed": 0, "bytes": 0, "compared": 0, "changed": 0}
        self.known: dict[bytes, bytes] = {}
        self.seen: list[bytes] = []
        self.most = int(request["most"])
        self.part = bool(request["part"])  # files that were not restored are still there
        self.path = request["records"]
        if self.turn is not None and os.path.exists(self.path + ".known"):
            with open(self.path + ".known", "rb") as file:
                while len(record := file.read(2 * _HALF)) == 2 * _HALF:
                    self.known[record[:_HALF]] = record[_HALF:]

    def identity(self, place: str, status: os.stat_result) -> bytes | None:
        """Return a file's identity when it is its turn, else None."""
        if self.turn is None:
            return None
        what = b"%b\0%d\0%d" % (os.fsencode(place), status.st_size, status.st_mtime_ns)
        digest = hashlib.blake2b(what, key=self.key, digest_size=_HALF + 1).digest()
        return digest[1:] if digest[0] % self.turns == self.turn else None

    def take(self, identity: bytes, content: bytes, size: int) -> None:
        """Compare a file's content with what it was, and remember what it is."""
        kept = hashlib.blake2b(content, key=self.key, digest_size=_HALF).digest()
        self.counts["hashed"] += 1
        self.counts["bytes"] += size
        before = self.known.get(identity)
        if before is not None:
            self.counts["compared"] += 1
            self.counts["changed"] += before != kept
        if len(self.seen) < self.most:
            self.seen.append(identity + kept)

    def leave(self) -> None:
        """Write down what was seen."""
        if self.turn is not None:
            with open(self.path + ".seen", "wb") as file:
                file.writelines(self.seen)
                if self.part:
                    new = {record[:_HALF] for record in self.seen}
                    kept = [one + was for one, was in self.known.items() if one not in new]
                    file.writelines(kept[: self.most - len(self.seen)])

    def said(self) -> dict[str, int]:
        """Return the counts."""
        return self.counts


class Hashing:
    """Hashes whole files while the tree is gone through."""

    def __init__(
        self, pool: ThreadPoolExecutor, manifest: Manifest, earlier: Earlier, found: dict[str, Any]
    ) -> None:
        self.pool, self.manifest, self.earlier, self.found = pool, manifest, earlier, found
        self.waiting: deque[tuple[Future[bytes], Any]] = deque()

    def look(self, place: str, path: str, status: os.stat_result, canaries: list[Any]) -> None:
        """Have a file hashed if anything is to be compared with it."""
        identity = self.earlier.identity(place, status)
        if identity is None and not canaries and not self.manifest.wants(place):
            return
        if len(self.waiting) >= _WAITING:
            self.take()
        about = (place, status.st_size, identity, canaries)
        self.waiting.append((self.pool.submit(digest, path), about))

    def finish(self) -> None:
        """Wait for the last ones."""
        while self.waiting:
            self.take()

    def take(self) -> None:
        """Compare the file that was handed over first."""
        future, (place, size, identity, canaries) = self.waiting.popleft()
        try:
            hashed = future.result()
        except OSError:
            self.found["unreadable"] += 1
            return
        self.manifest.take(place, hashed)
        if identity is not None:
            self.earlier.take(identity, hashed, size)
        for expected, seen in canaries:
            seen["right"] = hashed.hex() == expected and seen["right"] is not False


def open_file(path: str) -> Any:
    """Open a regular file for reading, through no link."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def digest(path: str) -> bytes:
    """Return a file's SHA-256."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").digest()


if __name__ == "__main__":
    main(json.load(sys.stdin))
