"""Rows of what the first pages answer: when what is back, what protects it, what to do first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from backupguard.model import Criticality, Message, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthMark:
    """What a month says of an application: its last conclusive test of each copy, taken together.

    `outcome`: "passed", "failed" (of any copy), "none" (no conclusive test). Level and duration are
    those of the last test that passed.
    """

    month: str  # "2026-11"
    outcome: str
    level: int = 0
    duration_ms: int | None = None
    observed: bool = True  # by BackupGuard itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Tonight:
    """How much would be lost if everything stopped at the end of the report's time.

    `loss_ms` is the age of the newest restorable point of the data that is the furthest behind; with
    `at_least` no point came in the month, so it is older than that. None: nothing is kept of it, or,
    with `pruned`, the listings that would tell were pruned.
    """

    loss_ms: int | None = None
    at_least: bool = False
    pruned: bool = False
    job: str | None = None  # of the data that is the furthest behind
    repository: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnRow:
    """When an application would be back, in the order of return. A lower bound unless `measured`."""

    position: int
    application: str
    name: str
    criticality: Criticality
    end_ms: int
    rto_ms: int | None
    late: bool
    measured: bool
    missing: tuple[str, ...]  # "steps", "test"
    waits_for: tuple[str, ...]
    behind: int  # applications without a figure that come before it
    repository: str | None
    tested_at: datetime | None
    record: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """The order of return, and under which assumptions."""

    returns: tuple[ReturnRow, ...]
    parallel: int
    durable_percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackerRow:
    """An attacker against a repository whom nobody plays: what a person said of him, or nothing."""

    attacker: str  # "storage_admin", "hypervisor_admin", "physical", "clock"
    attested_by: str | None
    attested_until: datetime | None
    signed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectionRow:
    """What protects a repository: as it is set up, as it was tried, and against whom it was not."""

    repository: str
    mechanism: str | None  # None: never read
    mode: str | None
    seen_at: datetime | None
    locked_until: datetime | None
    weaknesses: int
    verdict: Verdict | None  # of the last conclusive attempts with the backup writer's rights
    tried_at: datetime | None
    refused: int
    worked: tuple[str, ...]
    unsure_at: datetime | None  # newer attempts that concluded nothing
    unsure_code: str | None
    record: int | None
    others: tuple[AttackerRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineRow:
    """An offline medium: the copy last seen on it, whether it was away, and who says where it is."""

    medium: str
    repository: str | None
    verified_at: datetime | None
    newest_at: datetime | None
    verdict: Verdict | None
    code: str | None
    attached: bool | None  # None: never looked
    looked_at: datetime | None
    direction: str | None  # "out", "in": what a person said last
    moved_at: datetime | None
    holder: str | None
    place: str | None
    author: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """The program, the catalogue or a map of identifiers that is another one than before."""

    at: datetime
    author: str | None
    what: str  # "program", "catalogue", or a map's file name
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing to do, with why it comes at its place. `names` are the applications or repositories."""

    kind: str
    criticality: Criticality | None
    count: int
    names: tuple[str, ...]
    what: Message
    why: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One of the six questions of a RSSI, answered in sentences of counts, names and dates."""

    question: str
    sentences: tuple[Message, ...]
