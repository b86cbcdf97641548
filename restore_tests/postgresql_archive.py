"""Recognises PostgreSQL's own dump formats from their bytes; starts nothing, imports no parser.

An archive begins with "PGDMP", three version bytes, the sizes of an integer and of an offset, and the
format; then (source: pg_backup_archiver.c, ReadHead) the compression, seven integers of local time,
the database's name, the version of the server and the version of pg_dump.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

from backupguard.contracts import Match, Sample, SampledFile
from backupguard.errors import MissingMeans
from backupguard.model import Json

ENGINE = "postgresql"

_FORMATS = {1: "custom", 3: "tar", 5: "directory"}
#: Since this archive version the compression is one byte naming the algorithm (PostgreSQL 16).
_COMPRESSION_BYTE = (1, 15)
_PLAIN = b"-- PostgreSQL database dump\n"
_CLUSTER = b"-- PostgreSQL database cluster dump\n"
_DUMPED = re.compile(rb"^-- Dumped (?:from database|by pg_dump) version (\d+)", re.MULTILINE)
_ENCODING = re.compile(rb"^SET client_encoding = '([A-Za-z0-9_]+)';", re.MULTILINE)
_TAR_BLOCK = 512
_MAX_TEXT = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveHead:
    """What the head of an archive says of itself. `made_at` is the dumping host's local time."""

    format: str
    archive_version: tuple[int, int]
    server_major: int | None
    tool_major: int | None
    made_at: datetime | None


class _Reader:
    def __init__(self, data: bytes, int_size: int) -> None:
        self.data, self.at, self.int_size = data, 0, int_size

    def byte(self) -> int:
        value = self.data[self.at]
        self.at += 1
        return value

    def integer(self) -> int:
        sign = self.byte()
        size = self.int_size
        raw = self.data[self.at : self.at + size]
        if len(raw) < size:
            raise IndexError("the head ends inside a number")
        self.at += size
        return -int.from_bytes(raw, "little") if sign else int.from_bytes(raw, "little")

    def text(self) -> str:
        length = self.integer()
        if length < 0:
            return ""
        if length > _MAX_TEXT or self.at + length > len(self.data):
            raise IndexError("the head ends inside a text")
        raw = self.data[self.at : self.at + length]
        self.at += length
        return raw.decode("utf-8", "replace")


def read_head(data: bytes) -> ArchiveHead | None:
    """Return what an archive's first bytes say, or None when they are no archive's."""
    if not data.startswith(b"PGDMP"):
        return None
    try:
        reader = _Reader(data, 4)
        reader.at = 5
        version = (reader.byte(), reader.byte())
        reader.byte()  # revision
        reader.int_size = reader.byte()
        reader.byte()  # size of an offset
        kind = _FORMATS.get(reader.byte())
        if kind is None or not 1 <= reader.int_size <= 8:
            return None
        if version >= _COMPRESSION_BYTE:
            reader.byte()
        else:
            reader.integer()
        second, minute, hour, day, month, year, _dst = (reader.integer() for _ in range(7))
        reader.text()  # the database's name is nobody's business
        server, tool = reader.text(), reader.text()
    except IndexError:
        return None
    try:
        # struct tm counts months from 0 and years from 1900.
        made_at = datetime(1900 + year, month + 1, day, hour, minute, min(second, 59))  # noqa: DTZ001
    except ValueError:
        made_at = None
    return ArchiveHead(
        format=kind,
        archive_version=version,
        server_major=_major(server),
        tool_major=_major(tool),
        made_at=made_at,
    )


def _major(version: str) -> int | None:
    digits = re.match(r"\d+", version)
    return int(digits.group()) if digits else None


def recognise(sample: Sample) -> Match | None:
    """Return what kind of PostgreSQL dump a sample is; None when it is none.

    An artifact that is a directory may be a dump in directory format, hold one below it, or hold one
    dump file. Raises MissingMeans (ambiguous_artifact) when several different dumps lie in it.
    """
    tables_of_contents = [file for file in sample.files if file.path.name == "toc.dat"]
    directories = [match for file in tables_of_contents if (match := _directory(file))]
    inside = {PurePosixPath(match.extra["path"]) for match in directories}
    files = [
        match
        for file in sample.files
        if not inside & set(file.path.parents) and (match := _file(file))
    ]
    found = directories + files
    if len(found) > 1:
        raise MissingMeans("ambiguous_artifact", engines=ENGINE)
    return found[0] if found else None


def _directory(toc: SampledFile) -> Match | None:
    head = read_head(toc.head)
    # The table of contents of a directory is written with the tar format's number.
    if head is None or head.format == "custom":
        return None
    return _archive(head, "directory", str(toc.path.parent), toc.compression)


def _file(file: SampledFile) -> Match | None:
    path = str(file.path)
    head = read_head(file.head)
    if head is not None:
        return _archive(head, head.format, path, file.compression)
    if file.head[:7] == b"toc.dat" and file.head[257:262] == b"ustar":
        head = read_head(file.head[_TAR_BLOCK:])
        return _archive(head, "tar", path, file.compression) if head else None
    if _CLUSTER in file.head[:4096]:
        return _plain(file, path, "cluster")
    return _plain(file, path, "plain") if _PLAIN in file.head else None


def _archive(head: ArchiveHead, form: str, path: str, compression: str | None) -> Match:
    majors = [major for major in (head.server_major, head.tool_major) if major]
    extra: dict[str, Json] = {"path": path}
    if head.made_at:
        extra["made_at"] = head.made_at.isoformat()
    return Match(
        engine=ENGINE,
        certainty=100,
        format=form,
        # What pg_dump N writes is promised to load into servers of N or later, not of earlier ones.
        version=str(max(majors)) if majors else None,
        compression=compression,
        extra=extra,
    )


def _plain(file: SampledFile, path: str, form: str) -> Match:
    majors = [int(found) for found in _DUMPED.findall(file.head)]
    encoding = _ENCODING.search(file.head)
    return Match(
        engine=ENGINE,
        certainty=90,
        format=form,
        version=str(max(majors)) if majors else None,
        compression=file.compression,
        extra={"path": path, "encoding": encoding.group(1).decode() if encoding else "UTF8"},
    )
