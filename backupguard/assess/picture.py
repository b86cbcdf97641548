"""What an assessment leaves: findings, and the facts that metrics and pages show beside them.

Times are integer microseconds since 1970 and None for "never"; durations are milliseconds, intervals
seconds. Everything here is frozen: outputs hold one reference and only read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from backupguard.assess.forecast import Forecast
from backupguard.model import Criticality, Finding, Status, Subject

#: States that neither end a non-compliance nor are one.
UNSETTLED = frozenset({Status.WARNING, Status.NOT_MEASURABLE})


def is_open(finding: Finding) -> bool:
    """Tell whether a non-compliance stands: it is there, or nothing has shown since that it ended.

    Only compliant, not applicable and waived end one; going from non-compliant to a warning or to not
    measurable does not.
    """
    if finding.status is Status.NON_COMPLIANT:
        return True
    return (
        finding.status in UNSETTLED
        and finding.last_non_compliant is not None
        and finding.last_non_compliant >= finding.since
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceState:
    """How the chain of records stands. `valid` None: it was not checked."""

    valid: bool | None = None
    wrong_seq: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPicture:
    """One backup job: its newest restorable point, and when one is expected."""

    application: str
    job: str
    repository: str
    interval_s: int
    restorable_at: int | None
    points: int
    newest_bytes: int | None
    oldest_at: int | None = None
    failures: int = 0  # in a row, the newest ones


@dataclass(frozen=True, slots=True, kw_only=True)
class TestPicture:
    """The restore tests of one application from one repository by one engine, of one origin."""

    __test__ = False  # no test case, whatever pytest thinks of the name

    application: str
    engine: str
    repository: str
    origin: str
    interval_s: int
    last_run_at: int | None = None
    last_success_at: int | None = None
    last_failure_at: int | None = None
    level: int = 0
    percent: int = 100  # of the bytes that the last test restored; fewer where the site declares it
    duration_ms: int | None = None
    phases: Mapping[str, int] = field(default_factory=dict)
    data_loss_ms: int | None = None
    freshness_ms: int | None = None  # how much older than its point the newest data look
    canary_at: int | None = None  # when the newest canary in the last good copy was written
    outcomes: Mapping[str, int] = field(default_factory=dict)
    program_missing: bool = False  # the last test lacked a program, an extension or a version of it


@dataclass(frozen=True, slots=True, kw_only=True)
class DuePicture:
    """One repository, or age class of points, of an application: when it must be restored from again.

    `of`: "repository" or "age". `last_at` is the newest conclusive test of it; `due_at` None: no end
    is set. `why` is the code of what keeps it from being restored from now.
    """

    application: str
    of: str
    name: str
    last_at: int | None
    due_at: int | None
    why: str | None
    overdue: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationPicture:
    """One application: what was promised for it, None where nothing was declared."""

    application: str
    name: str
    criticality: Criticality
    rpo_s: int | None
    rto_s: int | None
    worst_exposure_ms: int | None = None  # of the last month, over all that it keeps
    forecast_ms: int | None = None  # when it would be back if everything had to be restored
    clean_point_at: int | None = None  # the newest point found clean, gone or not
    first_bad_point_at: int | None = None  # the oldest damaged one that no clean one follows


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumPicture:
    """One offline medium: where it stands (`controls.offline.Where`), and what is proved away on it.

    `connected` None: nobody could tell. `offline_at` by application: the newest point, None for none.
    """

    medium: str
    kind: str
    where: str
    connected: bool | None
    offline_at: Mapping[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePicture:
    """One probe on one subject. `success` tells whether its last run could see anything."""

    probe: str
    subject: Subject
    interval_s: int
    success: bool = False
    last_run_at: int | None = None
    duration_ms: int | None = None


class AttestationState(StrEnum):
    """Where a statement of a person stands at a moment."""

    IN_FORCE = "in_force"
    EXPIRED = "expired"
    REPLACED = "replaced"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationPicture:
    """One statement of a person. `key` is the fingerprint it was signed with; None: not signed."""

    seq: int
    subject: Subject
    topic: str
    text: str
    values: Mapping[str, int | str]
    person: str | None
    author: str | None
    made_at: int
    expires_at: int
    key: str | None
    state: AttestationState
    withdrawn_by: str | None = None
    withdrawn_for: str | None = None


class WaiverState(StrEnum):
    """Where a waiver stands at a moment."""

    IN_FORCE = "in_force"
    WAITING = "waiting"  # for the second person
    EXPIRED = "expired"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaiverPicture:
    """One exception: who asked for it, who answers for it, who confirmed or ended it, until when."""

    seq: int
    control: str
    subject: Subject
    reason: str
    owner: str
    person: str | None
    author: str | None
    asked_at: int
    until_at: int
    state: WaiverState
    needs_second: bool
    confirmed_by: str | None = None  # the person
    confirmed_author: str | None = None
    ended_by: str | None = None
    ended_for: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OverridePicture:
    """Another value for a threshold: whose wish it is, who confirmed or ended it, until when."""

    seq: int
    control: str
    threshold: str
    given: str
    subject: Subject
    reason: str
    person: str | None
    author: str | None
    asked_at: int
    until_at: int
    loosens: bool
    state: WaiverState
    confirmed_by: str | None = None  # the person
    confirmed_author: str | None = None
    ended_by: str | None = None
    ended_for: str | None = None


#: What neither stands nor waits any more is in the records and in the lists, not in the picture.
STANDING_WAIVERS = frozenset({WaiverState.IN_FORCE, WaiverState.WAITING})


@dataclass(frozen=True, slots=True, kw_only=True)
class ImmutabilityPicture:
    """What is known of one repository's immutability.

    `verdicts`, by attacker: 2 proved, 1 inconclusive or not tested, 0 refuted. `locked_until_at` is the
    earliest end of the locks of its newest points, 0 where one has none, None where nobody knows.
    """

    repository: str
    verdicts: Mapping[str, int]
    locked_until_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolationPicture:
    """What one vantage point reached. `verdicts`, by target: 2 nothing, 1 unknown, 0 something."""

    vantage: str
    looked_at: int | None
    verdicts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """Everything that one assessment concluded and saw."""

    site: str
    language: str
    timezone: str
    judged_at: datetime
    head_seq: int
    findings: tuple[Finding, ...]
    criticalities: Mapping[Subject, Criticality]
    names: Mapping[Subject, str]
    titles: Mapping[str, Mapping[str, str]]
    applications: tuple[ApplicationPicture, ...] = ()
    jobs: tuple[JobPicture, ...] = ()
    tests: tuple[TestPicture, ...] = ()
    due: tuple[DuePicture, ...] = ()
    probes: tuple[ProbePicture, ...] = ()
    media: tuple[MediumPicture, ...] = ()
    immutability: tuple[ImmutabilityPicture, ...] = ()
    isolation: tuple[IsolationPicture, ...] = ()
    evidence: EvidenceState = EvidenceState()
    anchored_at: int | None = None
    self_tested_at: int | None = None  # the newest that came to a conclusion
    self_test_noticed: bool | None = None
    paused: bool = False
    paused_until: int | None = None
    last_cycle_at: int | None = None
    commissioning_until: int | None = None
    care_domain: str = "D4"
    attestations: tuple[AttestationPicture, ...] = ()
    waivers: tuple[WaiverPicture, ...] = ()
    overrides: tuple[OverridePicture, ...] = ()
    #: What the catalogue is called, by language; and by control the clauses it is aligned on:
    #: `reference`, `identifier` (None: not known), `text`, `confidence`.
    catalogue_name: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, tuple[Mapping[str, str | None], ...]] = field(default_factory=dict)
    forecast: Forecast | None = None

    def finding(self, control: str, subject: Subject) -> Finding | None:
        """Return one finding, None when there is none."""
        return next(
            (f for f in self.findings if f.control == control and f.subject == subject), None
        )
