"""Secrets that nobody else has, and what finds them wherever and however they were written down."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import re
import stat
import threading
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pypdf import PdfReader

#: What every canary holds: letters and digits only, so that no quoting changes it.
STEM = "kNrYq7ZxVb3M"
#: What a password may hold, and what careless quoting, joining and escaping stumble over.
AWKWARD = "/+\"&%'$ {0}"
#: Larger files below a run are data of the site's, not something of ours.
_SCRATCH_LIMIT = 1 << 20
_PROC = Path("/proc")


def canary(name: str, *, awkward: bool = True) -> str:
    """Return the secret of that name; one that is not `awkward` fits where a format is narrow."""
    own = base64.b32encode(hashlib.sha256(name.encode()).digest()).decode()[:10]
    return f"{STEM}{own}{AWKWARD if awkward else ''}"


def _in_base64(text: bytes, shift: int) -> bytes:
    """Return what stands in base64 of anything that holds `text`, `shift` bytes after a whole third."""
    encoded = base64.b64encode(b"\0" * shift + text)
    return encoded[(shift * 8 + 5) // 6 : (shift + len(text)) * 8 // 6]


def _in_tds(text: str) -> bytes:
    """Return a password as a login of SQL Server's protocol hides it: [MS-TDS] 2.2.6.4."""
    return bytes(((one << 4 | one >> 4) & 0xFF) ^ 0xA5 for one in text.encode("utf-16-le"))


def _forms() -> dict[str, bytes]:
    raw = STEM.encode()
    return {
        "as it is": raw,
        "in lower case": raw.lower(),
        "in upper case": raw.upper(),
        "backwards": raw[::-1],
        "in hexadecimal": raw.hex().encode(),
        "in upper hexadecimal": raw.hex().upper().encode(),
        "in UTF-16": STEM.encode("utf-16-le"),
        "in UTF-16, big end first": STEM.encode("utf-16-be"),
        "as TDS hides it": _in_tds(STEM),
        **{f"in base64, shifted by {shift}": _in_base64(raw, shift) for shift in range(3)},
    }


class Searcher:
    """Finds canaries in bytes: in any form, and the lines of private keys."""

    def __init__(self, keys: Mapping[str, bytes] | None = None) -> None:
        """Make one; `keys` are private keys (PEM) by name, which cannot hold the stem."""
        self.needles = dict(_forms())
        self._clean: set[bytes] = set()
        for name, pem in (keys or {}).items():
            for number, line in enumerate(pem.splitlines()):
                if len(line) > 30 and b"---" not in line:
                    self.needles[f"line {number} of {name}"] = line

    def find(self, data: bytes) -> list[str]:
        """Return what was found: which form, and what stands around it."""
        found = []
        for form, needle in self.needles.items():
            at = data.find(needle)
            if at >= 0:
                around = data[max(0, at - 60) : at + len(needle) + 60]
                found.append(f"{form}: {around!r}")
        return found

    def find_in_file(self, path: Path) -> list[str]:
        """Look into a file, and into what is packed in it."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return []
        digest = hashlib.sha256(data).digest()
        if digest in self._clean:  # a copy of what was looked into
            return []
        found = [f"{path}: {what}" for view in views(data) for what in self.find(view)]
        if not found:
            self._clean.add(digest)
        return found

    def find_below(self, directory: Path, allowed: Iterable[Path] = ()) -> list[str]:
        """Look into every file below a directory, names included, but for what is `allowed`."""
        kept = tuple(allowed)
        found = []
        for path in sorted(directory.rglob("*")):
            found += [f"the name {path}" for _ in self.find(os.fsencode(path.name))]
            if any(path.is_relative_to(one) for one in kept):
                continue
            if stat.S_ISREG(path.lstat().st_mode):
                found += self.find_in_file(path)
        return found


def views(data: bytes) -> Iterator[bytes]:
    """Yield bytes as they are, and what is packed in them."""
    yield data
    if data.startswith(b"\x1f\x8b"):
        yield from views(gzip.decompress(data))
    elif data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield from views(archive.read(name))
    elif data.startswith(b"%PDF"):
        for packed in re.findall(rb"stream\r?\n(.*?)endstream", data, re.DOTALL):
            with suppress(zlib.error):
                yield zlib.decompressobj().decompress(packed)
        reader = PdfReader(io.BytesIO(data))
        # text is broken into lines anywhere
        yield "".join(page.extract_text() for page in reader.pages).replace("\n", "").encode()
        yield repr(reader.metadata).encode()


# ----------------------------------------------------------------------- what other people may see


@dataclass(frozen=True, slots=True)
class Seen:
    """A process: its command line, its parent, the most a core dump may have, whose its files are."""

    line: bytes
    parent: int
    core: tuple[bytes, bytes]
    owner: int

    @property
    def program(self) -> bytes:
        return self.line.split(b"\0", 1)[0].rsplit(b"/", 1)[-1]


@dataclass
class Watcher:
    """Reads, all the while, the command line and environment of every process of this user.

    Sandboxes and jails included: they are processes of this user. `scratch` are directories whose
    small files are read as well. `seen` is every process as it was seen last.
    """

    searcher: Searcher
    scratch: tuple[Path, ...] = ()
    hits: set[str] = field(default_factory=set)
    environments: set[bytes] = field(default_factory=set)  # of which programs one was read
    seen: dict[int, Seen] = field(default_factory=dict)

    def __enter__(self) -> Watcher:
        self._passed = {entry.name for entry in _PROC.iterdir()}  # older ones, and others' ones
        self._read: dict[str, bytes] = {}  # whose environment was read under this command line
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        turns = 0
        while not self._ended.wait(0.02):
            for entry in os.scandir(_PROC):
                if entry.name not in self._passed and entry.name.isdigit():
                    with suppress(OSError, IndexError):
                        self._look(_PROC / entry.name)
            turns += 1
            for directory in self.scratch if turns % 10 == 0 else ():
                self._scratch(directory)

    def _look(self, place: Path) -> None:
        pid = place.name
        if pid not in self._read:
            user = int((place / "status").read_bytes().partition(b"Uid:")[2].split()[0])
            if user != os.getuid():
                self._passed.add(pid)
                return
            self._read[pid] = b""
        line = (place / "cmdline").read_bytes()
        # the files of a process that nobody may look into are root's: proc(5)
        owner = (place / "environ").stat().st_uid
        known = self.seen.get(int(pid))
        if not line and known is not None:
            return  # it has ended, and nobody has asked how
        if known is None or (known.line, known.owner) != (line, owner) or known.core[1] != b"0":
            parent = int((place / "stat").read_bytes().rpartition(b")")[2].split()[1])
            core = (place / "limits").read_bytes().partition(b"Max core file size")[2].split()[:2]
            parent = known.parent if known is not None and parent == 1 else parent
            self.seen[int(pid)] = Seen(line, parent, (core[0], core[1]), owner)
            self.hits |= {f"command line of {what}" for what in self.searcher.find(line)}
        if line and self._read[pid] != line:
            environment = (place / "environ").read_bytes()
            self.hits |= {f"environment of {what}" for what in self.searcher.find(environment)}
            self.environments.add(self.seen[int(pid)].program)
            self._read[pid] = line

    def below(self, ancestor: int) -> dict[int, Seen]:
        """Return the processes that came of one, that one included."""
        found = {ancestor}
        while more := {p for p, one in self.seen.items() if one.parent in found} - found:
            found |= more
        return {pid: self.seen[pid] for pid in found if pid in self.seen}

    def _scratch(self, directory: Path) -> None:
        for place, _, names in os.walk(directory):
            for name in names:
                path = Path(place, name)
                with suppress(OSError):
                    status = path.lstat()
                    if stat.S_ISREG(status.st_mode) and status.st_size <= _SCRATCH_LIMIT:
                        found = self.searcher.find(path.read_bytes())
                        self.hits |= {f"{path}: {what}" for what in found}
