"""The nouns of BackupGuard: what was copied, what was seen, what was judged.

Every class here is a frozen, keyword-only dataclass without behaviour beyond validation. Times are
aware and in UTC, durations are integer milliseconds, sizes are integer bytes; no float appears in
anything that may be recorded. This module imports nothing else of BackupGuard.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

#: A JSON value without floats: what may stand in a record.
Json = Any

#: What a fact or finding is about: "site", "application/dpi", "job/dpi.nightly", "repository/nas".
Subject = str

SITE: Subject = "site"

#: The author of records that were told again for a demonstration, with a clock that was set back.
REPLAYED = "demo/replay"

#: The channel of notifications that every installation has: the host's journal.
JOURNAL = "events"

#: The channel of a SOC's syslog collector.
SYSLOG = "syslog"

#: The channel of mail: it is told of notices only, each of which is one mail.
MAIL = "mail"

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")


def is_id(text: str) -> bool:
    """Tell whether `text` may name something in the configuration: `[a-z0-9][a-z0-9-]{0,62}`."""
    return _ID.match(text) is not None


def application_subject(application: str) -> Subject:
    """Return the subject of an application id: `application/dpi`."""
    return f"application/{application}"


def repository_subject(repository: str) -> Subject:
    """Return the subject of a repository id: `repository/nas`."""
    return f"repository/{repository}"


def instance_subject(instance: str) -> Subject:
    """Return the subject of a scratch server that the site gives: `instance/scratch-sql`."""
    return f"instance/{instance}"


def medium_subject(medium: str) -> Subject:
    """Return the subject of an offline medium."""
    return f"medium/{medium}"


def job_subject(application: str, job: str) -> Subject:
    """Return the subject of a backup job: `job/dpi.nightly`."""
    return f"job/{application}.{job}"


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_us(moment: datetime) -> int:
    """Return an aware time as integer microseconds since 1970: how times stand in records."""
    return (require_utc(moment) - _EPOCH) // timedelta(microseconds=1)


def from_us(microseconds: int) -> datetime:
    """Return the time of integer microseconds since 1970, aware and in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


def require_utc(moment: datetime) -> datetime:
    """Return `moment` in UTC; raise ValueError when it carries no time zone."""
    if moment.tzinfo is None:
        raise ValueError(f"a time without a time zone: {moment!r}")
    return moment.astimezone(UTC)


class Verdict(StrEnum):
    """How a probe or restore test ended."""

    PASSED = "passed"
    FAILED = "failed"
    COULD_NOT_VERIFY = "could_not_verify"
    SKIPPED = "skipped"


#: Worst first.
VERDICTS = (Verdict.FAILED, Verdict.COULD_NOT_VERIFY, Verdict.SKIPPED, Verdict.PASSED)


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the worst of `verdicts`; nothing at all proves nothing, so it is `could_not_verify`."""
    return next((v for v in VERDICTS if v in verdicts), Verdict.COULD_NOT_VERIFY)


class Status(StrEnum):
    """The state of a finding: a judgement, never an observation."""

    COMPLIANT = "compliant"
    WARNING = "warning"
    NON_COMPLIANT = "non_compliant"
    NOT_MEASURABLE = "not_measurable"
    NOT_APPLICABLE = "not_applicable"
    WAIVED = "waived"


#: Worst first; what was not measured may be anything.
STATUSES = (
    Status.NON_COMPLIANT,
    Status.WARNING,
    Status.NOT_MEASURABLE,
    Status.WAIVED,
    Status.COMPLIANT,
    Status.NOT_APPLICABLE,
)


class NotMeasurableCause(StrEnum):
    """Why something could not be judged: it never was set up, or it was measured and is lost."""

    NEVER_SET_UP = "never_set_up"
    LOST = "lost"


class Severity(StrEnum):
    """How soon somebody must act: page, same day, this week, no hurry."""

    CRITICAL = "critical"
    HIGH = "high"
    WARNING = "warning"
    INFO = "info"


class Criticality(StrEnum):
    """How vital an application is: C1 vital, C2 important, C3 standard."""

    C1 = "C1"
    C2 = "C2"
    C3 = "C3"


class Origin(StrEnum):
    """Where a fact comes from; origins are shown beside every level and never added together."""

    OBSERVED = "observed"
    IMPORTED = "imported"
    ATTESTED = "attested"


class Scope(StrEnum):
    """What kind of subject a control or probe speaks about."""

    SITE = "site"
    APPLICATION = "application"
    JOB = "job"
    REPOSITORY = "repository"
    MEDIUM = "medium"


class Phase(StrEnum):
    """The phases of a restore test, in order."""

    SELECT = "select"
    FETCH = "fetch"
    PREPARE = "prepare"
    LOAD = "load"
    OPEN = "open"
    VERIFY = "verify"
    DISCARD = "discard"


class PointKind(StrEnum):
    """How a recovery point relates to others."""

    FULL = "full"
    INCREMENTAL = "incremental"
    DIFFERENTIAL = "differential"
    SNAPSHOT = "snapshot"


class PointState(StrEnum):
    """What the backup tool says of the run that made a point."""

    COMPLETE = "complete"
    WARNING = "warning"
    FAILED = "failed"
    RUNNING = "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Something to say, put into French or English only where it is shown.

    `id` is a key of `backupguard.language`'s catalogue; `values` fill its placeholders.
    """

    id: str
    values: Mapping[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Something seen, before it is recorded. `key` names it for ever: a second one is a no-op."""

    kind: str
    kind_version: int = 1
    subject: Subject
    origin: Origin = Origin.OBSERVED
    observed_at: datetime
    data: Json
    key: str

    def __post_init__(self) -> None:
        require_utc(self.observed_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """An observation that was recorded: its place in the chain, when, by which run, by whom."""

    seq: int
    recorded_at: datetime
    run: str | None
    author: str | None
    hash: bytes
    observation: Observation


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPoint:
    """One point in time that a repository claims to be able to bring back."""

    repository: str
    job: str  # "dpi.nightly"
    native_id: str
    at: datetime
    covers_until: datetime  # later than `at` only where WAL or logs follow
    kind: PointKind = PointKind.SNAPSHOT
    needs: tuple[str, ...] = ()
    state: PointState = PointState.COMPLETE
    started_at: datetime | None = None
    ended_at: datetime | None = None
    bytes: int | None = None
    bytes_added: int | None = None
    files: int | None = None
    content_id: str | None = None  # equal content_id = copies of one another
    source_host: str | None = None
    encrypted: bool | None = None
    extra: Json = None  # at most 2 KiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a repository holds for its jobs, as one listing that ended normally.

    `jobs` names every job that was asked for, so that a job without any point is known to be empty.
    A listing that did not end normally is never made, so nothing vanishes by accident. `points` may
    be gone through several times.

    A `partial` one holds only points that are new or changed since the one before: nothing vanishes
    by it, and `standing` says how many points the repository has for each job in all. `mark` is what
    the next partial listing goes on from; it is remembered only where `standing` comes out right.
    One of `some_jobs` says nothing of the repository's other jobs, and is followed by one that does.
    """

    repository: str
    jobs: tuple[str, ...]
    points: Collection[RecoveryPoint]
    observed_at: datetime
    origin: Origin = Origin.OBSERVED  # imported, where somebody else's word is all there is
    partial: bool = False
    some_jobs: bool = False
    standing: Mapping[str, int] = field(default_factory=dict)
    mark: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """When a repository was last asked, and what came of it. Remembered, no evidence.

    `listed_at` is when it was last known to the end what it holds, `listed_fully_at` when all of it
    was last named one by one, `inspected_at` when it last answered and nothing was wrong, `asked_at`
    when it was last asked, whatever came of that.
    """

    repository: str
    asked_at: datetime | None = None
    listed_at: datetime | None = None
    listed_fully_at: datetime | None = None
    inspected_at: datetime | None = None
    mark: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSummary:
    """What stands for one job over all its repositories' points, or for one job × repository.

    Everything but `standing` speaks of usable points only: complete ones (or complete with a
    warning) that are not dated in the future. `standing` counts all that stand, whatever their state.
    `point_days` are the days with at least one usable point, ascending: days since 1970 of the site's
    local calendar (`date.fromordinal(day + date(1970, 1, 1).toordinal())`).
    """

    job: str
    repository: str
    newest: datetime | None
    oldest: datetime | None
    newest_bytes: int | None
    newest_state: PointState | None
    points: int
    days: int
    standing: int = 0
    point_days: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PointsLost:
    """Usable points of a job that one listing no longer showed.

    `before` and `after` are how many usable ones stood around that listing, appearing ones included
    in `after`; `at_first` how many stood when the job was listed for the first time. `oldest` and
    `newest` are the times of the lost ones, `standing_oldest` of the oldest that was left.
    """

    job: str
    repository: str
    seq: int  # of the last fact of that listing
    seen_at: datetime
    lost: int
    before: int
    after: int
    at_first: int
    oldest: datetime
    newest: datetime
    standing_oldest: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a control concludes about a subject, why, on which facts, since when."""

    control: str
    subject: Subject
    status: Status
    cause: NotMeasurableCause | None = None
    severity: Severity
    reason: Message
    facts: tuple[int, ...] = ()
    since: datetime
    last_non_compliant: datetime | None = None
    waiver: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A control's answer for one subject, before waivers and before it is compared with the last."""

    status: Status
    cause: NotMeasurableCause | None = None
    severity: Severity = Severity.INFO
    reason: Message
    facts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseResult:
    """How one phase of a restore test went."""

    phase: Phase
    verdict: Verdict
    duration_ms: int
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check of restored content: a verdict, a code, counts and times; never a text of the data."""

    name: str
    level: int
    verdict: Verdict
    code: str
    numbers: Mapping[str, int] = field(default_factory=dict)
    times: Mapping[str, datetime] = field(default_factory=dict)
    configured: bool = False  # by the site; only these can raise the level to 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """The shape of restored data: counts per object, and no value of it.

    `tables` maps "schema.table" to its row count; `objects` maps a kind of object ("index",
    "routine", "trigger", "view", "sequence", "large-object", "constraint", "extension", …) to how
    many there are; `columns` maps "schema.table" to its number of columns.
    """

    tables: Mapping[str, int]
    objects: Mapping[str, int] = field(default_factory=dict)
    columns: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What an invariant was measured to be in one recovery point.

    `value` is a number that may only grow, or how many rows a closed set has; `digest` is that set's,
    keyed, and None for a number. `definition` names the question that was asked.
    """

    name: str
    definition: str
    value: int
    digest: str | None = None

    def breaks(self, older: Measured) -> bool | None:
        """Tell whether this breaks what held in an older point; None where they cannot be compared."""
        if self.definition != older.definition or (self.digest is None) is not (
            older.digest is None
        ):
            return None
        if self.digest is None or older.digest is None:
            return self.value < older.value
        if self.value != older.value:
            return True
        if self.digest.partition(":")[0] != older.digest.partition(":")[0]:
            return None  # made with another key
        return self.digest != older.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanPoint:
    """What was measured in a recovery point that a restore test found clean."""

    at: datetime
    repository: str
    point: str
    engine: str
    measured: Mapping[str, Measured] = field(default_factory=dict)
    canary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The accepted shape of an application's data. `accepted` is False while it is provisional.

    `point_at` is the time of the recovery point it was seen in: an older one owes it nothing.
    """

    fingerprint: Fingerprint
    accepted: bool
    seq: int
    point_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialTest:
    """A declared test of a part: bytes and shares of all there are.

    Every share was read since `covered_since` (µs); None: some were never. It is to be at most
    `within_ms` ago.
    """

    bytes: int
    total_bytes: int
    shares: int
    shares_total: int
    within_ms: int
    covered_since: int | None

    @property
    def percent(self) -> int:
        """The share of all bytes, rounded down, so that 100 is everything."""
        return 100 * self.bytes // max(1, self.total_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreTestResult:
    """Everything a restore test saw; recorded as the fact `restore-test.result`."""

    application: str
    engine: str
    repository: str
    point: str
    point_at: datetime
    target: datetime | None
    verdict: Verdict
    level: int
    phases: tuple[PhaseResult, ...]
    checks: tuple[CheckResult, ...]
    data_loss_ms: int | None
    bytes: int
    fingerprint: Fingerprint | None
    tools: Mapping[str, str]
    code: str | None
    freshness_heuristic: datetime | None = None  # newest plausible timestamp, unconfigured
    baseline_accepted: bool = False
    checks_configured: int = 0
    age: AgeClass | None = None  # of the point; None: none was chosen
    job: str | None = None  # the backup job that the point is of
    canary_at: datetime | None = None  # when the newest canary in it was written
    measured: tuple[Measured, ...] = ()
    partial: PartialTest | None = None  # None: everything was restored
    lacked: str | None = None  # the package this host lacked for it, or the program and its version


class AgeClass(StrEnum):
    """How old a point is when it is restored: what is wrong with old ones shows in no new one."""

    NEWEST = "newest"
    WEEK = "week"  # up to 7 days, and not the newest
    MONTH = "month"  # up to 35 days
    OLDER = "older"

    @classmethod
    def of(cls, age: timedelta) -> AgeClass:
        """Return the class of a point that is not the newest."""
        if age <= timedelta(days=7):
            return cls.WEEK
        return cls.MONTH if age <= timedelta(days=35) else cls.OLDER


def age_tested(result: Fact) -> AgeClass | None:
    """Return the age class of the point that a `restore-test.result` restored; None without a point.

    Tests recorded before the class was are taken for those of a point that was not the newest.
    """
    data = result.observation.data
    if not isinstance(data, Mapping) or data.get("point_at") is None:
        return None
    if data.get("age") is not None:
        return AgeClass(data["age"])
    return AgeClass.of(result.observation.observed_at - from_us(data["point_at"]))


class RunState(StrEnum):
    """Where a run stands in the diary."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """Something to be performed. Same task, subject and due_at: the same run."""

    task: str  # "inventory", "integrity", "restore-test", "report"
    subject: Subject
    due_at: datetime | None
    exclusive: str  # two runs with one value are never running together
    resource: str  # which bound it counts against: "restore-test", "probe", "report"
    requested_by: str
    options: Json = field(default_factory=dict)
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A request that was recorded in `runs`, with its fate."""

    id: str  # ULID
    request: RunRequest
    state: RunState
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    host: str | None = None
    verdict: Verdict | None = None
    code: str | None = None
    progress: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """How a run ends, written in the same transaction as its closing fact."""

    run: str
    state: RunState
    verdict: Verdict
    code: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What one control demands: thresholds from the catalogue with the site's overrides applied."""

    control: str
    severity: Severity
    thresholds: Mapping[str, int | str | bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """An immutable picture of one subject: all that a control may look at.

    `settings` holds what the configuration says of the subject, as plain JSON-like values with
    durations in seconds; `latest` the latest fact per kind; `summaries` the job summaries below the
    subject; `children` the views below it (an application's jobs, the site's applications);
    `known` what was derived from the store beside them, times in microseconds. The names used in
    `settings`, `latest` and `known` are listed in `backupguard.controls.facts`.
    """

    scope: Scope
    subject: Subject
    settings: Mapping[str, Json]
    latest: Mapping[str, Fact] = field(default_factory=dict)
    summaries: tuple[JobSummary, ...] = ()
    children: tuple[View, ...] = ()
    first_seen: datetime | None = None
    known: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedCoverage:
    """One unit of a repository (a pack bucket, a file) and when it was last read and found right."""

    repository: str
    unit: str
    verified_at: datetime
    seq: int
