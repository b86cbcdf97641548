"""Evidence that leaves the house: a bundle of exact bytes that is checked without BackupGuard.

A bundle is a directory, or the same in a `.tar.gz`:

    README.txt      what this is, in French and English
    manifest.json   the store's id, its head, its public keys, from where on bodies are here
    records.jsonl   one record a line, the exact bytes that were hashed; `null` where there is none
    chain.tsv       place, kind, hash of the body, hash in the chain, one line per record
    seals.jsonl     the seals
    anchors/        receipts of what was put down elsewhere, time stamps as text
    documents/      reports, records of restore tests, the commissioning record
    verify.py       a short verifier that needs only Python and `cryptography`
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import Any, Protocol

from backupguard.errors import EvidenceError, StoreError
from backupguard.evidence.records import Record, canonical, parse_body
from backupguard.evidence.seals import Seal, key_id
from backupguard.evidence.verify import Pruning, in_every_slice, prunings
from backupguard.model import Json, to_us
from backupguard.resources import shipped

_FORMAT = "backupguard-bundle-1"
_DATA = ("manifest.json", "records.jsonl", "chain.tsv", "seals.jsonl")
_ARCHIVES = (".tar.gz", ".tgz")


class Source(Protocol):
    """What a bundle is made from: a store."""

    store_id: str

    def head(self) -> tuple[int, bytes]:
        """Return sequence number and hash of the newest record."""

    def records(self) -> Iterator[Record]:
        """Yield every record in order."""

    def seals(self) -> tuple[Seal, ...]:
        """Return every seal, oldest first."""


def write_bundle(
    source: Source,
    output: Path,
    *,
    since: datetime | None = None,
    documents: Mapping[str, Path] | None = None,
) -> int:
    """Write a bundle to `output` (a new directory, or a file ending in .tar.gz); count its records.

    Of records made before `since` only the hashes are put in, so that the chain stays whole.
    `documents` are files by the name they get. What is appended meanwhile is left out. Raises
    FileExistsError when `output` exists already.
    """
    if output.exists():
        raise FileExistsError(output)
    try:
        if not output.name.endswith(_ARCHIVES):
            output.mkdir(mode=0o700, parents=True)
            return _fill(source, output, since, documents or {})
        with tempfile.TemporaryDirectory(prefix="backupguard-evidence-") as name:
            directory = Path(name) / "evidence"
            directory.mkdir()
            count = _fill(source, directory, since, documents or {})
            unfinished = output.with_name(f".{output.name}.unfinished")
            unfinished.unlink(missing_ok=True)
            handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with (
                os.fdopen(handle, "wb") as file,
                tarfile.open(fileobj=file, mode="w:gz", compresslevel=6) as archive,
            ):
                archive.add(directory, arcname=output.name.removesuffix(_suffix(output)))
            unfinished.rename(output)
            return count
    except OSError as error:
        raise StoreError("unreadable", path=str(output)) from error


def _suffix(output: Path) -> str:
    return next(ending for ending in _ARCHIVES if output.name.endswith(ending))


def _fill(
    source: Source, directory: Path, since: datetime | None, documents: Mapping[str, Path]
) -> int:
    # Seals first, then the head: no seal can then speak of a record that is left out.
    sealed = source.seals()
    seq, digest = source.head()
    gathered = _Gathered(directory, to_us(since) if since is not None else None)
    with (
        (directory / "records.jsonl").open("wb") as records,
        (directory / "chain.tsv").open("wb") as chain,
    ):
        for record in takewhile(lambda one: one.seq <= seq, source.records()):
            body = gathered.body(record)
            records.write((body if body is not None else b"null") + b"\n")
            place = f"{record.seq}\t{record.kind}\t{record.body_hash.hex()}\t{record.hash.hex()}\n"
            chain.write(place.encode("utf-8"))
    with (directory / "seals.jsonl").open("wb") as seals:
        for seal in sealed:
            line = canonical(
                {
                    "seq": seal.seq,
                    "key_id": seal.key_id,
                    "document": seal.document.decode("utf-8"),
                    "signature": seal.signature.hex(),
                }
            )
            seals.write(line + b"\n")
    manifest = {
        "format": _FORMAT,
        "store": source.store_id,
        "head": {"seq": seq, "hash": digest.hex()},
        "keys": gathered.keys,
        "bodies_from": gathered.omitted + 1,
    }
    text = json.dumps(manifest, indent=2, sort_keys=True)
    (directory / "manifest.json").write_text(f"{text}\n", encoding="utf-8")
    for name in ("README.txt", "verify.py"):
        shutil.copyfile(shipped(f"evidence/{name}"), directory / name)
    for name, path in documents.items():
        target = directory / "documents" / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return seq


class _Gathered:
    """What is picked out of the records while they are written."""

    def __init__(self, directory: Path, since: int | None) -> None:
        self.keys: dict[str, str] = {}
        self.omitted = 0  # the last record of which only the hashes are put in
        self._since = since
        self._anchors = directory / "anchors"

    def body(self, record: Record) -> bytes | None:
        """Return what is put in of a record."""
        if record.body is None:
            return None
        if record.kind.startswith("evidence."):
            self._pick(record, parse_body(record.body)["data"])
        if in_every_slice(record.kind):
            return record.body
        if self._since is not None:
            if parse_body(record.body)["recorded_at"] < self._since:
                self.omitted = record.seq
                return None
            self._since = None  # the clock may have gone back since: a slice has one beginning
        return record.body

    def _pick(self, record: Record, data: Json) -> None:
        key = data.get("public_key")
        if key is not None:
            self.keys[key_id(bytes.fromhex(key))] = key
        if record.kind == "evidence.anchored":
            self._anchors.mkdir(mode=0o700, exist_ok=True)
            text = "".join(f"{name}: {data[name]}\n" for name in ("place", "seq", "hash"))
            file = self._anchors / f"record-{record.seq:09d}.txt"
            file.write_text(f"{text}\n{data['receipt'] or ''}\n", encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle that was opened: what `verify` needs of it."""

    directory: Path
    store: str
    keys: tuple[bytes, ...]
    head: tuple[int, bytes]
    omitted: int = 0  # up to which record there are hashes only

    def records(self) -> Iterator[Record]:
        """Yield the records in order; raises EvidenceError (bad_record) for what is no record."""
        with (
            (self.directory / "records.jsonl").open("rb") as records,
            (self.directory / "chain.tsv").open("rb") as chain,
            _understood(),
        ):
            for line, place in zip_longest(records, chain):
                if line is None:
                    return  # the end of the records was cut off; the chain's own end tells
                body = None if line == b"null\n" else line.removesuffix(b"\n")
                yield _record(body, place)

    def prunings(self) -> tuple[Pruning, ...]:
        """Return what the bundle's `evidence.pruned` facts allow to be missing."""
        # Any record that says so, whatever the chain calls its kind: verifying compares the two.
        with (self.directory / "records.jsonl").open("rb") as records, _understood():
            found = [
                Record(
                    seq=int(parse_body(line)["seq"]),
                    body=line.rstrip(b"\n"),
                    body_hash=b"",
                    hash=b"",
                    kind="evidence.pruned",
                )
                for line in records
                if b'"kind":"evidence.pruned"' in line
            ]
        return tuple(prunings(found))

    def seals(self) -> Iterator[Seal]:
        """Yield the seals, oldest first."""
        with (self.directory / "seals.jsonl").open("rb") as file, _understood():
            for line in file:
                said = json.loads(line)
                yield Seal(
                    seq=int(said["seq"]),
                    document=str(said["document"]).encode("utf-8"),
                    signature=bytes.fromhex(said["signature"]),
                    key_id=str(said["key_id"]),
                )


def _record(body: bytes | None, place: bytes | None) -> Record:
    if place is None:  # a record that the chain does not know
        members: dict[str, Any] = parse_body(body or b"")
        return Record(
            seq=int(members["seq"]), body=body, body_hash=b"", hash=b"", kind=str(members["kind"])
        )
    seq, kind, body_hash, digest = place.decode("utf-8").rstrip("\n").split("\t")
    return Record(
        seq=int(seq),
        body=body,
        body_hash=bytes.fromhex(body_hash),
        hash=bytes.fromhex(digest),
        kind=kind,
        columns={"kind": kind} if body is not None else None,
    )


@contextmanager
def _understood() -> Iterator[None]:
    """Turn whatever a damaged file provokes into one error."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvidenceError("bad_record", why=type(error).__name__) from error


@contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """Open a bundle, directory or archive. Raises EvidenceError (bad_record) when it is none.

    Of an archive only the few known files are taken out, into a private directory that goes again.
    """
    if path.is_dir():
        yield _opened(path)
        return
    with tempfile.TemporaryDirectory(prefix="backupguard-evidence-") as name:
        directory = Path(name)
        try:
            with tarfile.open(path, "r:*") as archive:
                for member in archive:
                    file = Path(member.name).name
                    if member.isfile() and file in _DATA:
                        content = archive.extractfile(member)
                        if content is not None:
                            with (directory / file).open("wb") as target:
                                shutil.copyfileobj(content, target)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise EvidenceError("bad_record", why="archive") from error
        except OSError as error:
            raise StoreError("unreadable", path=str(path)) from error
        yield _opened(directory)


def _opened(directory: Path) -> Bundle:
    missing = [name for name in _DATA if not (directory / name).is_file()]
    if missing:
        raise EvidenceError("bad_record", missing=missing[0])
    with _understood():
        manifest = json.loads((directory / "manifest.json").read_bytes())
        if manifest["format"] != _FORMAT:
            raise EvidenceError("bad_record", why="format")
        return Bundle(
            directory=directory,
            store=str(manifest["store"]),
            keys=tuple(bytes.fromhex(key) for key in manifest["keys"].values()),
            head=(int(manifest["head"]["seq"]), bytes.fromhex(manifest["head"]["hash"])),
            omitted=int(manifest.get("bodies_from", 1)) - 1,
        )
