"""What the outputs read: one picture, made after each assessment and swapped by reference."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backupguard.model import Finding, Json, Message, Subject

if TYPE_CHECKING:
    from backupguard.assess import Assessment
    from backupguard.settings import Settings
    from backupguard.store.sql import SqlStore

_LEVEL = 4
#: A member without a name or a time, of an unknown system.
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Squeezed:
    """A text as the beginning of one gzip member (RFC 1952), to which more can be added cheaply.

    Several members strung together would be shorter to make, and are not read by every client.
    """

    begun: bytes
    crc: int
    length: int

    def ended(self, more: bytes = b"") -> bytes:
        """Return the whole member: what was begun, then `more`."""
        rest = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        crc, length = zlib.crc32(more, self.crc), self.length + len(more)
        trailer = struct.pack("<LL", crc, length & 0xFFFFFFFF)
        return b"".join((self.begun, rest.compress(more), rest.flush(), trailer))


def compress(text: bytes) -> Squeezed:
    """Return `text` squeezed, to be ended at each answer."""
    first = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    begun = _GZIP_HEAD + first.compress(text) + first.flush(zlib.Z_SYNC_FLUSH)
    return Squeezed(begun=begun, crc=zlib.crc32(text), length=len(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What was concluded by one assessment, ready to be read. Never changed afterwards.

    `statements` are the lines about exceptions and statements of people, under their headings;
    `text` are the metrics in text format 0.0.4, `compressed` the same squeezed; `names`
    are what people call the subjects; `document` is what `status.json` holds. `titles` are those of the
    controls in the site's language, `alerts` the alert that tells of a finding that is not quiet, and
    `applications` the repositories that keep copies of each.
    """

    site: str
    language: str
    timezone: str
    judged_at: datetime
    findings: tuple[Finding, ...]
    names: Mapping[Subject, str]
    text: bytes
    compressed: Squeezed
    paused: bool = False
    paused_until: datetime | None = None
    statements: Mapping[str, tuple[Message, ...]] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    alerts: Mapping[tuple[str, Subject], str] = field(default_factory=dict)
    applications: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    document: Json = None
    assessment: Assessment | None = None  # what all this was made of


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Where pages look that show more than what stands: a page at a time, and never all of it.

    `media` gives the register of offline media, as `backupguard media --json` prints it; `bundles` is
    the directory of exported evidence.
    """

    store: SqlStore
    settings: Callable[[], Settings]
    media: Callable[[], list[dict[str, Json]]]
    bundles: Path


def _nothing() -> tuple[Message, ...]:
    return ()


def _no_figures() -> Mapping[str, float]:
    return {}


@dataclass(slots=True, kw_only=True)
class Outputs:
    """What the pages stand on. The daemon swaps `published`; the pages only read.

    `unhealthy` says why the daemon's threads do not move, `unready` why it cannot do its work; both
    are empty when all is well. `living` gives the metrics that are read at each scrape. `take_report`
    takes what a backup job posts of its own run, with the bearer token, and answers with an HTTP status
    and a line; `take_vantage` the same of what a vantage point saw, with its id and its signature. None
    where nothing is taken. `records` is None where nothing but what stands can be shown.
    """

    reports: Path
    runbooks: Path | None
    published: Published | None = None
    unhealthy: Callable[[], tuple[Message, ...]] = field(default=_nothing)
    unready: Callable[[], tuple[Message, ...]] = field(default=_nothing)
    living: Callable[[], Mapping[str, float]] = field(default=_no_figures)
    take_report: Callable[[str | None, bytes], tuple[int, str]] | None = None
    take_vantage: Callable[[str | None, str | None, bytes], tuple[int, str]] | None = None
    records: Records | None = None
