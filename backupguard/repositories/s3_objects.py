"""Which objects of a bucket are recovery points, read page by page in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote_to_bytes
from zoneinfo import ZoneInfo

from backupguard.contracts import JobSelector
from backupguard.errors import ConfigurationError, ConfigurationProblem
from backupguard.model import Message
from backupguard.repositories.attempting import CANARY
from backupguard.repositories.directory_names import Named, expression, percent, read_name

_DAY = timedelta(hours=25)
_SPECIAL = "%*?"


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of one object. `hidden`: a delete marker lies over it."""

    key: str
    version: str  # "null" where the bucket keeps none
    size: int
    changed_at: datetime
    etag: str
    hidden: bool
    named: Named

    @property
    def at(self) -> datetime:
        """The time the key tells, made precise by the object's own where it names only the day."""
        named = self.named
        if named.at is None:
            return self.changed_at
        if named.day_only and timedelta() <= self.changed_at - named.at < _DAY:
            return self.changed_at
        return named.at

    @property
    def native_id(self) -> str:
        """Key and version."""
        return f"{percent(self.key)}@{self.version}"


def key_and_version(native_id: str) -> tuple[str, str] | None:
    """Return what a native id was made of, None when it is none of this type."""
    name, at, version = native_id.rpartition("@")
    if not at:
        return None
    return unquote_to_bytes(name).decode("utf-8", "surrogateescape"), version


@dataclass(frozen=True, slots=True)
class Pattern:
    """A job's pattern: its components, and the part before the first that is not literal."""

    job: str
    components: tuple[str, ...]
    literal: str

    def read(self, key: str, zone: ZoneInfo | None) -> Named | None:
        """Return what a key says when it matches, else None."""
        parts = key.split("/")
        if len(parts) != len(self.components):
            return None
        told: Mapping[str, str | None] = {}
        named: Named | None = None
        for component, part in zip(self.components, parts, strict=True):
            read = read_name(component, part, zone, told)
            if read is None:
                return None
            named, told = read
        return named


def patterns_of(selector: JobSelector, prefix: str) -> tuple[Pattern, ...]:
    """Return the patterns of a job below `prefix`. Raises ConfigurationError for a broken one."""
    wanted = (selector.pattern,) if selector.pattern is not None else selector.paths or ("*",)
    found = []
    for text in wanted:
        # A prefix is literal, whatever characters it has.
        whole = prefix.replace("%", "%%") + text.lstrip("/")
        components = tuple(whole.split("/"))
        try:
            for component in components:
                expression(component)
        except ValueError as error:
            message = Message(id="repositories.pattern", values={"pattern": text})
            problem = ConfigurationProblem(
                file="", line=None, column=None, key="select.pattern", message=message
            )
            raise ConfigurationError([problem]) from error
        cut = next(
            (i for i, character in enumerate(text.lstrip("/")) if character in _SPECIAL), None
        )
        literal = prefix + (text.lstrip("/") if cut is None else text.lstrip("/")[:cut])
        found.append(Pattern(job=selector.job, components=components, literal=literal))
    return tuple(found)


#: Called with a prefix, returns the pages that S3 answers.
Lister = Callable[[str], Iterable[Mapping[str, Any]]]


def objects(
    patterns: Sequence[Pattern], pages: Lister, zone: ZoneInfo | None
) -> Iterator[tuple[str, Stored]]:
    """Yield job and version for every match; each literal prefix is listed once.

    Nothing is kept between two pages but the key before, which tells whether an older version lies
    below a delete marker: versions of a key come together, the newest first. Canaries of the
    immutability probe are no points, whatever a pattern says.
    """
    by_prefix: dict[str, list[Pattern]] = {}
    for pattern in patterns:
        by_prefix.setdefault(pattern.literal, []).append(pattern)
    for prefix, group in by_prefix.items():
        last_key, last_hidden = None, False
        for page in pages(prefix):
            for entry in page.get("Versions") or page.get("Contents") or ():
                key = entry["Key"]
                if key != last_key:
                    last_key, last_hidden = key, not entry.get("IsLatest", True)
                if CANARY in key:
                    continue
                for pattern in group:
                    named = pattern.read(key, zone)
                    if named is not None:
                        yield pattern.job, _stored(entry, named, hidden=last_hidden)


def _stored(entry: Mapping[str, Any], named: Named, *, hidden: bool) -> Stored:
    return Stored(
        key=entry["Key"],
        version=entry.get("VersionId") or "null",
        size=entry["Size"],
        changed_at=entry["LastModified"].astimezone(UTC),
        etag=str(entry.get("ETag", "")).strip('"'),
        hidden=hidden,
        named=named,
    )
