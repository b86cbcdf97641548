"""What a monthly report says, as data: frozen, in no language, made of recorded facts only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from backupguard.model import (
    CheckResult,
    Criticality,
    Message,
    Origin,
    PhaseResult,
    Severity,
    Status,
    Verdict,
)
from backupguard.reports.outlook import (
    Action,
    Answer,
    MonthMark,
    OfflineRow,
    ProtectionRow,
    Recovery,
    ReturnRow,
    Tonight,
    VersionRow,
)
from backupguard.reports.statement_rows import AttestationRow, OverrideRow, WaiverRow


class Standing(StrEnum):
    """Where an application stands at the end of the month: exactly one each, so counts add up."""

    CONTROLLED = "controlled"  # restored and checked by the site's own checks: level 3 or more
    OPENED = "opened"  # restored and opened, level 2: no check of the site proved its content
    BYTES_ONLY = "bytes_only"  # bytes read and found right, never opened
    DECLARED = "declared"  # imported or attested: not seen by BackupGuard itself
    FAILED = "failed"  # the last conclusive test of at least one copy failed
    DUE = "due"  # no conclusive test, or the last one is older than its period
    NO_ENGINE = "no_engine"  # nothing here can restore it


#: Nothing is kept of an application: no backup job is declared.
NOTHING_KEPT = Tonight()
#: The order in which standings are counted and printed.
STANDINGS = tuple(Standing)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRow:
    """One restore test as it was recorded. Durations in milliseconds, sizes in bytes."""

    __test__ = False  # no test case, whatever pytest thinks of the name

    seq: int
    hash: str
    at: datetime
    application: str
    name: str
    repository: str | None
    point: str | None
    point_at: datetime | None
    engine: str | None
    origin: Origin
    verdict: Verdict
    code: str | None
    level: int
    percent: int  # of the bytes; less than 100 where the site declares partial tests
    duration_ms: int
    data_loss_ms: int | None
    freshness_heuristic: datetime | None
    bytes: int
    checks_configured: int
    baseline_accepted: bool
    phases: tuple[PhaseResult, ...]
    checks: tuple[CheckResult, ...]
    tools: Mapping[str, str]
    replayed: bool = False  # told again for a demonstration, with a clock that was set back


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationRow:
    """An application as it stands. `copies` is the last conclusive test of each of its copies.

    `forecast` is when it would be back, `tonight` what would be lost, `trend` its last twelve months.
    """

    application: str
    name: str
    criticality: Criticality | None  # None: no longer in the configuration
    standing: Standing
    last: TestRow | None
    copies: tuple[TestRow, ...]
    rpo_ms: int | None
    rto_ms: int | None
    declared_by: str | None
    declared_on: date | None
    bia_reference: str | None
    tonight: Tonight = NOTHING_KEPT
    forecast: ReturnRow | None = None
    trend: tuple[MonthMark, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DueRow:
    """A restore test that was due and was not done."""

    application: str
    name: str
    criticality: Criticality
    last_at: datetime | None  # the last conclusive test; None = never
    due_at: datetime | None  # None = since the application has been in the configuration
    period_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyDueRow:
    """A repository that an application was not restored from within its period."""

    application: str
    name: str
    criticality: Criticality
    repository: str
    last_at: datetime | None  # the last conclusive test of it; None = never
    period_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UndecidedRow:
    """A run that was started or due and decided nothing: the reason is on our side."""

    run: str
    at: datetime
    task: str
    subject: str
    verdict: Verdict
    code: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRow:
    """A judgement that stood at the end of the month.

    `owner` and `due_at` are those of a waiver that covers it: nothing else records them.
    """

    seq: int
    control: str
    title: str
    subject: str
    criticality: Criticality | None
    status: Status
    cause: str | None
    severity: Severity
    reason: Message
    since: datetime
    owner: str | None = None
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRow:
    """One thing that changed in the configuration or in a policy that was looked at, and who did it.

    `reason` is what a person stated of the record `seq`; None: nobody did.
    """

    seq: int
    at: datetime
    author: str | None
    path: str
    change: str
    before: str | None
    after: str | None
    weakened: bool
    reason: str | None = None
    reason_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryRow:
    """A repository at the end of the month."""

    repository: str
    type: str | None
    configured: bool
    reachable: bool | None  # None: never seen
    code: str | None
    seen_at: datetime | None
    tool: str | None
    points: int | None
    origin: Origin | None  # whose word the points are; None: never listed
    warnings: tuple[str, ...]  # codes of what is wrong with how it is read
    medium_kind: str | None
    failure_domain: str | None
    device: str | None  # where it was found when it was last seen
    encrypted: bool | None
    verified_at: datetime | None
    verified_verdict: Verdict | None
    verified_code: str | None
    verified_complete_at: datetime | None
    detection_ms: int | None  # damage done longer ago than this was found; None: nobody can say


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRow:
    """A copy of an application: what is declared of it, and where it was found."""

    application: str
    name: str
    production: str | None  # the failure domain of production
    repository: str
    kind: str
    medium_kind: str
    failure_domain: str | None
    declared_by: str | None
    declared_on: date | None
    off_site: bool
    device: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRow:
    """A clause that a control is aligned on; `confidence` is of identifier and text."""

    reference: str
    identifier: str | None
    text: str
    confidence: str  # "verified", "quoted", "deduced"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRow:
    """A control of the catalogue: how many of its findings stand how, and what it is aligned on."""

    control: str
    title: str
    counts: Mapping[Status, int]
    references: tuple[ReferenceRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """The annex on controls; `notes` are id, version and what is to be known of each reference."""

    name: str
    controls: tuple[ControlRow, ...]
    notes: tuple[tuple[str, str, str], ...]
    unverified: tuple[str, ...] = ()  # references with a row that was not read in the source


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """Something that happened to BackupGuard itself: a pause, a stop, a baseline, an anchor."""

    seq: int
    at: datetime
    author: str | None
    subject: str
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A span of more than a day and a half in which nothing at all was recorded."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnexRow:
    """A document of its own that goes with the report, which names it by what is in it.

    `file` is its name beside the report, `title` in the report's language, `bytes` its size.
    """

    file: str
    title: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceData:
    """What ties the report to the chain of records."""

    store_id: str
    head_seq: int
    head_hash: str
    sealed_seq: int | None
    sealed_at: datetime | None
    key_fingerprint: str | None
    anchored_at: datetime | None
    anchored_place: str | None
    anchored_seq: int | None
    settings_sha256: str
    recorded_settings_sha256: str | None
    catalogue_sha256: str | None
    maps_sha256: Mapping[str, str]
    program_version: str
    recorded_program_version: str | None = None
    anchor_old: bool = False  # older than PRV-01 allows


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthlyReport:
    """A month, from recorded facts only; `as_of` is the end of the month, or now if sooner."""

    site: str
    timezone: str
    language: str
    month: str  # "2026-11"
    start: datetime
    end: datetime
    as_of: datetime
    issued_at: datetime
    provisional: bool
    declared_now: bool  # nothing recorded what was declared then: the settings of today were taken
    first_record_at: datetime | None
    records_in_month: int
    pruned_in_month: int  # of them, those whose body was pruned: what they said is missing
    replayed: int  # restore tests of the year that were told again for a demonstration
    commissioning_until: date | None
    counts: Mapping[Criticality, Mapping[Standing, int]]
    applications: tuple[ApplicationRow, ...]
    removed: tuple[ApplicationRow, ...]
    newly_failing: tuple[str, ...]  # names: failed this month, and the last time did not
    recovered: tuple[str, ...]  # names: passed this month, and the last time had failed
    tests: tuple[TestRow, ...]
    due: tuple[DueRow, ...]
    copies_due: tuple[CopyDueRow, ...]
    undecided: tuple[UndecidedRow, ...]
    finding_counts: Mapping[Status, int]
    findings: tuple[FindingRow, ...]
    changes: tuple[ChangeRow, ...]
    weakenings: tuple[ChangeRow, ...]
    repositories: tuple[RepositoryRow, ...]
    copies: tuple[CopyRow, ...]
    attestations: tuple[AttestationRow, ...]
    waivers: tuple[WaiverRow, ...]
    overrides: tuple[OverrideRow, ...]
    alignment: Alignment
    events: tuple[EventRow, ...]
    versions: tuple[VersionRow, ...]
    recovery: Recovery
    protections: tuple[ProtectionRow, ...]
    offline: tuple[OfflineRow, ...]
    actions: tuple[Action, ...]
    answers: tuple[Answer, ...]
    gaps: tuple[Gap, ...]
    evidence: EvidenceData
    annexes: tuple[AnnexRow, ...] = ()
