"""`POST /api/v1/vantage`: a vantage point in production tells what it could reach.

It signs the exact bytes with a key of its own, so no TLS is needed to believe them. What it saw is an
observation of BackupGuard's own program. What is answered tells a stranger nothing: not which vantage
points there are. A report proves something for the targets of now, by our clock, and once.
"""

from __future__ import annotations

import hmac
import ipaddress
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Literal

import structlog
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from backupguard.contracts import Store
from backupguard.daemon.isolation import announced_by
from backupguard.errors import BackupGuardError, StoreError
from backupguard.model import Observation, from_us, to_us
from backupguard.settings import Settings
from backupguard.settings.isolation import TRIED_LIMIT, Vantage, wanted
from backupguard.settings.secrets import read_secret
from probes.isolation import seen_data
from probes.isolation_vantage import ADDRESSES_LIMIT, KEY_BYTES, signature

events = structlog.get_logger(__name__)

#: Reports of one vantage point in a minute, and of all who show no right signature together.
PER_MINUTE = 60
#: Its clock and ours may differ by this much.
SKEW_LIMIT = timedelta(minutes=5)
#: A look takes seconds, minutes where a resolver hangs.
LONGEST_LOOK = timedelta(minutes=30)
_STRANGER = (401, "not a report of a known vantage point")
_TOO_MANY = (429, "too many reports, try again in a minute")
_LARGEST = 2**53 - 1

_Moment = Annotated[int, Field(ge=0, le=_LARGEST)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=253)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Row(_Strict):
    """One port of one address, as `isolation.seen` keeps it."""

    target: _Name
    name: _Name
    address: Annotated[str, StringConstraints(max_length=45)] | None
    family: Literal["ipv4", "ipv6"] | None
    port: Annotated[int, Field(ge=1, le=65535)]
    outcome: Literal["open", "refused", "filtered", "unreachable", "unresolved", "untried"]

    @model_validator(mode="after")
    def _sound(self) -> Row:
        if self.address is None:
            if self.family is not None or self.outcome not in ("unresolved", "untried"):
                raise ValueError("an outcome without an address")
        elif self.family != f"ipv{ipaddress.ip_address(self.address).version}":
            raise ValueError("an address of another family")
        elif self.outcome == "unresolved":
            raise ValueError("an address that was not resolved")
        return self


class VantageReport(_Strict):
    """What a vantage point posts. Times are microseconds since 1970 by its own clock."""

    version: Literal[1]
    vantage: _Name
    nonce: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    sequence: _Moment
    sent_at: _Moment
    began_at: _Moment
    ended_at: _Moment
    witness: _Name
    families: Annotated[list[Literal["ipv4", "ipv6"]], Field(max_length=2)]
    rows: Annotated[list[Row], Field(max_length=TRIED_LIMIT * (ADDRESSES_LIMIT + 1))]

    @model_validator(mode="after")
    def _sound(self) -> VantageReport:
        if not self.began_at <= self.ended_at <= self.sent_at:
            raise ValueError("a look ends after it began and before it is sent")
        return self


class VantageReports:
    """Takes reports of vantage points for the settings that hold now.

    `in_store` performs what touches the store where the daemon does such things.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        store: Store,
        now: Callable[[], datetime],
        in_store: Callable[[Callable[[], tuple[int, str]]], tuple[int, str]] = lambda work: work(),
    ) -> None:
        self._settings = settings
        self._store = store
        self._now = now
        self._in_store = in_store
        self._turn = threading.Lock()
        self._minute = 0
        self._seen: Counter[str] = Counter()

    def take(self, vantage: str | None, signed: str | None, body: bytes) -> tuple[int, str]:
        """Given both headers and the body of a request, return the status and one line.

        201 recorded · 200 known already · 400 no report · 401 signature wrong, or of nobody known ·
        409 older than the last one, or of other targets than now · 422 its times cannot be · 429 too
        many · 503 it cannot be recorded.
        """
        settings = self._settings()
        known = settings.isolation.vantages.get(vantage or "")
        key = self._key(str(vantage), known) if known is not None else b""
        # Compared also where there is none: it takes as long for a vantage point that does not exist.
        right = hmac.compare_digest(signature(key or b"-", body), _plain(signed))
        if known is None or not key or not right:
            if self._too_many(""):
                return _TOO_MANY
            events.warning("vantage.refused", code="authentication")
            return _STRANGER
        # Counted by vantage point, once it has signed: no stranger can use up what is its own.
        if self._too_many(str(vantage)):
            return _TOO_MANY
        try:
            report = VantageReport.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "JSON"
            return 400, f"no report: {where}: {first['type']}"  # never the value
        if report.vantage != vantage:
            return 400, "no report: vantage"
        return self._checked(report, known, settings)

    def _checked(
        self, report: VantageReport, known: Vantage, settings: Settings
    ) -> tuple[int, str]:
        now = self._now()
        skew = timedelta(microseconds=report.sent_at) - timedelta(microseconds=to_us(now))
        if abs(skew) > SKEW_LIMIT:
            events.warning("vantage.skew", vantage=report.vantage, skew_s=int(skew.total_seconds()))
            return 422, f"its clock differs by {int(skew.total_seconds())} s"
        age = timedelta(microseconds=report.sent_at - report.ended_at)
        took = timedelta(microseconds=report.ended_at - report.began_at)
        if age > known.max_age or took > LONGEST_LOOK:
            return 422, "too old to prove anything"
        if report.sequence > to_us(now + 2 * SKEW_LIMIT):
            return 422, "its sequence is of the future"
        asked = set(wanted(settings.isolation, report.vantage, settings.repositories))
        told = {(row.target, row.name, row.port) for row in report.rows}
        if told != asked or report.witness != known.witness:
            events.warning("vantage.other-targets", vantage=report.vantage)
            return 409, "what is to be tried has changed: fetch the configuration again"
        observation = self._observation(report, known, settings, now - age, skew)

        def record() -> tuple[int, str]:
            return self._record(report, observation)

        try:
            return self._in_store(record)
        except (StoreError, RuntimeError):  # RuntimeError: the daemon is ending
            events.exception("vantage.unrecorded", vantage=report.vantage)
            return 503, "it cannot be recorded now"

    def _observation(
        self,
        report: VantageReport,
        known: Vantage,
        settings: Settings,
        ended: datetime,
        skew: timedelta,
    ) -> Observation:
        """Return the fact of a report, in our time: how long ago it was is its clock's word."""
        took = report.ended_at - report.began_at
        seen = {
            "families": sorted(set(report.families)),
            "began_at": to_us(ended) - took,
            "ended_at": to_us(ended),
            "rows": [row.model_dump() for row in report.rows],
        }
        code = None if report.families else "witness_silent"
        data = seen_data(report.vantage, known.zone, seen, announced_by(settings), code)
        return Observation(
            kind="isolation.seen",
            subject=f"vantage/{report.vantage}",
            observed_at=from_us(to_us(ended)),
            data={
                **data,
                "sequence": report.sequence,
                "skew_ms": skew // timedelta(milliseconds=1),
            },
            key=f"vantage/{report.vantage}/{report.sequence}",
        )

    def _record(self, report: VantageReport, observation: Observation) -> tuple[int, str]:
        with self._turn:
            kind, subject = observation.kind, observation.subject
            last = self._store.latest([subject], [kind]).get(subject, {}).get(kind)
            data = last.observation.data if last is not None else None
            before = data.get("sequence", -1) if data is not None else -1
            if report.sequence == before:
                return 200, "known"
            if report.sequence < before:
                return 409, "a newer one was taken"
            self._store.append([observation])
            self._store.seal()
        events.info("vantage.taken", vantage=report.vantage, witness=observation.data["witness"])
        return 201, "taken"

    def _key(self, name: str, known: Vantage) -> bytes:
        """Return the key of a vantage point, empty where it cannot be used: the log says why."""
        try:
            key = read_secret(known.key).reveal()
        except BackupGuardError as error:
            events.error("vantage.key", vantage=name, code=error.code)
            return b""
        if len(key) < KEY_BYTES:
            events.error("vantage.key", vantage=name, code="too_short")
            return b""
        return key

    def _too_many(self, who: str) -> bool:
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._seen = minute, Counter()
        self._seen[who] += 1
        return self._seen[who] > PER_MINUTE


def _plain(text: str | None) -> str:
    """Return a header as ASCII, for a comparison that takes nothing else."""
    return text if text is not None and text.isascii() else ""
