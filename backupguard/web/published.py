"""What the outputs read: one picture, made after each assessment and swapped by reference."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from backupguard.model import Finding, Message, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What was concluded by one assessment, ready to be read. Never changed afterwards.

    `statements` are the lines about exceptions and statements of people, under their headings;
    `text` are the metrics in text format 0.0.4, `compressed` the same as one gzip member; `names`
    are what people call the subjects.
    """

    site: str
    language: str
    timezone: str
    judged_at: datetime
    findings: tuple[Finding, ...]
    names: Mapping[Subject, str]
    text: bytes
    compressed: bytes
    paused: bool = False
    paused_until: datetime | None = None
    statements: Mapping[str, tuple[Message, ...]] = field(default_factory=dict)


def compress(text: bytes) -> bytes:
    """Return `text` as one gzip member; members may be strung together (RFC 1952, 2.2)."""
    return gzip.compress(text, compresslevel=4, mtime=0)


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
    where nothing is taken.
    """

    reports: Path
    runbooks: Path | None
    published: Published | None = None
    unhealthy: Callable[[], tuple[Message, ...]] = field(default=_nothing)
    unready: Callable[[], tuple[Message, ...]] = field(default=_nothing)
    living: Callable[[], Mapping[str, float]] = field(default=_no_figures)
    take_report: Callable[[str | None, bytes], tuple[int, str]] | None = None
    take_vantage: Callable[[str | None, str | None, bytes], tuple[int, str]] | None = None
