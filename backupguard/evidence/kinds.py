"""Every kind of fact, declared once: its name, version, payload and how long its body is kept.

Times inside payloads are integer microseconds (`backupguard.model.to_us`) and end in `_at`;
durations end in `_ms`. A payload never holds a value of restored data, a secret, or a sentence.
Kinds of third-party plug-ins start with `x-NAME.` and are not checked beyond being canonical JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import (
    Any,
    NotRequired,  # pydantic needs this one below 3.12
)

from typing_extensions import TypedDict

from backupguard.errors import EvidenceError
from backupguard.model import Json

FIVE_YEARS = 5 * 366
ONE_YEAR = 400


class MessageData(TypedDict):
    """A `Message` at rest."""

    id: str
    values: dict[str, int | str]


class Difference(TypedDict):
    """One line of what a load of settings or catalogue changed."""

    path: str  # "applications.dpi.rpo"
    change: str  # "added", "removed", "changed"
    before: NotRequired[str]
    after: NotRequired[str]
    before_sha256: NotRequired[str]  # of the whole value, where it was cut
    after_sha256: NotRequired[str]
    weakened: bool


class EstateStep(TypedDict):
    """Something people do before an application is back."""

    name: str
    duration_ms: int
    source: str | None


class EstateJob(TypedDict):
    """A backup job: where its copies go, and a digest of what it saves."""

    repository: str
    data: str  # equal digests: copies of the same data


class EstateApplication(TypedDict):
    """What was declared of an application, by whom."""

    name: str
    criticality: str
    rpo_ms: int | None
    rto_ms: int | None
    declared_by: str | None
    declared_on: str | None  # "2026-03-02"
    bia_reference: str | None
    failure_domain: str | None
    depends_on: list[str]
    steps: list[EstateStep]
    jobs: dict[str, EstateJob]


class EstateRepository(TypedDict):
    """What was declared of a repository. `fetchable`: copies can be restored from it."""

    type: str
    host: str
    copy_kind: str
    medium_kind: str
    failure_domain: str | None
    off_site: bool
    declared_by: str | None
    declared_on: str | None
    fetchable: bool


class EstateData(TypedDict):
    """What was declared at a load, as far as a report counts with it.

    `periods`: of restore tests, in seconds, by criticality and by the catalogue's name of the
    threshold. A report of that time is made again from this, whatever is configured by then.
    """

    applications: dict[str, EstateApplication]
    repositories: dict[str, EstateRepository]
    periods: dict[str, dict[str, int]]
    parallel: int
    durable_percent: int
    commissioning_until: str | None


class ConfigurationLoaded(TypedDict):
    """The settings that hold from now on. `estate` is left out where it is as it was before."""

    sha256: str
    catalogue_sha256: str
    maps: NotRequired[dict[str, str]]  # the hash of each map of identifiers, by its file's name
    program_version: str
    files: list[str]
    differences: list[Difference]
    estate: NotRequired[EstateData]


class ConfigurationRejected(TypedDict):
    """A reload that was refused; the settings before it stay."""

    problems: int
    first_file: str
    first_line: int | None
    first_key: str


class DaemonStarted(TypedDict):
    """The daemon took up its work. `recovered` are the runs the sweep closed."""

    program_version: str
    host: str
    recovered: list[str]
    clean: bool  # whether the daemon before it had stopped cleanly


class DaemonStopped(TypedDict):
    """The daemon ended as it was asked to."""

    host: str
    reason: str


class ClockStepped(TypedDict):
    """Wall and monotonic clock disagree by more than a minute."""

    step_ms: int


class PauseStarted(TypedDict):
    """Somebody paused the daemon's own runs."""

    until_at: int | None
    reason: str


class PauseEnded(TypedDict):
    """The pause is over."""

    reason: str


class LockData(TypedDict):
    """A lock seen in a repository."""

    host: str | None
    pid: int | None
    since_at: int | None
    exclusive: bool
    alive: bool | None


class RepositoryInspected(TypedDict):
    """What a repository is, or (`reachable` false, `code` set) why it could not be seen."""

    reachable: bool
    code: str | None
    type: str
    tool: str | None
    tool_version: str | None
    repository_id: str | None
    format_version: str | None
    encrypted: bool | None
    locks: list[LockData]
    device: str | None
    warnings: NotRequired[list[str]]  # codes
    said: NotRequired[MessageData]  # where the code alone does not say what is wrong
    remedy: NotRequired[MessageData]


class RepositoryConfirmed(TypedDict):
    """A person compared a sample of points with what the vendor's console shows, and it was right."""

    repository: str
    type: str
    tool: str | None
    tool_version: str | None
    tool_major: str | None  # it is needed again when this differs
    digest: str  # SHA-256 over the sampled points, as they were shown
    count: int


class InstanceConfirmed(TypedDict):
    """A person compared what was restored on a scratch server with what its own tools show."""

    instance: str
    kind: str
    tool_version: str
    tool_major: str  # it is needed again when this differs
    result: str  # key of the restore test's fact that was compared
    tables: int
    rows: int


class PointData(TypedDict):
    """A recovery point in a listing."""

    job: str
    native_id: str
    at: int
    covers_until: int
    kind: str
    needs: list[str]
    state: str
    started_at: int | None
    ended_at: int | None
    bytes: int | None
    bytes_added: int | None
    files: int | None
    content_id: str | None
    source_host: str | None
    encrypted: bool | None
    extra: Any


class PointName(TypedDict):
    """A recovery point that is gone."""

    job: str
    native_id: str
    at: int


class InventoryListed(TypedDict):
    """What appeared, changed and vanished in a repository: at most 500 points a fact."""

    part: int
    parts: int
    standing: int  # points standing after this listing
    appeared: list[PointData]
    changed: list[PointData]
    vanished: list[PointName]
    jobs: NotRequired[list[str]]  # asked for here for the first time, points or not


class InventoryConfirmed(TypedDict):
    """Once a day: how many points stand in a repository, and a digest of them."""

    count: int
    digest: str


class JobRunData(TypedDict):
    """A backup tool's own record of one of its runs."""

    job: str
    native_id: str
    started_at: int
    ended_at: int | None
    state: str
    bytes: int | None
    files: int | None
    duration_ms: int | None
    bytes_added: int | None
    bytes_stored: int | None
    files_new: int | None
    files_changed: int | None
    files_removed: int | None


class BackupRuns(TypedDict):
    """Runs that a backup tool recorded, new or changed since the last look: at most 500 a fact."""

    runs: list[JobRunData]


class UnitData(TypedDict):
    """One verified unit of a repository."""

    unit: str
    verdict: str
    bytes: int
    code: str | None
    objects: NotRequired[list[str]]  # ids of what is damaged


class RepositoryVerified(TypedDict):
    """What an integrity probe read and what it found. `complete_at`: all units read since then."""

    units: list[UnitData]
    units_total: int
    verdict: str
    code: str | None
    complete_at: int | None


class RunClosed(TypedDict):
    """How a run ended; every run leaves exactly one."""

    task: str
    verdict: str
    code: str | None
    state: str
    started_at: int | None
    ended_at: int
    attempt: int
    due_at: int | None
    requested_by: str
    tools: dict[str, str]


class PhaseEnded(TypedDict):
    """A phase of a restore test ended."""

    application: str
    repository: str | None
    phase: str
    verdict: str
    duration_ms: int
    code: str | None


class PhaseData(TypedDict):
    """A phase inside a restore test's result."""

    phase: str
    verdict: str
    duration_ms: int
    code: str | None


class CheckData(TypedDict):
    """A check inside a restore test's result: counts and times only."""

    name: str
    level: int
    verdict: str
    code: str
    numbers: dict[str, int]
    times: dict[str, int]
    configured: bool


class FingerprintData(TypedDict):
    """The shape of restored data."""

    tables: dict[str, int]
    objects: dict[str, int]
    columns: dict[str, int]


class DeclaredTestData(TypedDict):
    """Where a restore test is known from that BackupGuard did not do; its origin is the fact's."""

    format: str  # "dbatools", "surebackup", "rman", "dbcc", "iris", "attested"
    sha256: str  # of the record
    who: str | None  # did it, in the words of whoever tells
    checked: list[str]  # what was looked at, in the words of whoever tells
    order: list[str]  # base services and applications, as they were brought back
    person: str | None  # of `[people]`, by the account that handed it in
    signature: Signature | None  # None: nobody signed it


class MeasuredData(TypedDict):
    """What an invariant was measured to be in one recovery point."""

    name: str
    definition: str  # of the question, as a digest
    value: int
    digest: str | None  # of a closed set: the key's name, then a keyed digest


class PartialTestData(TypedDict):
    """A declared test of a part of over-size data."""

    percent: int  # of the bytes, rounded down
    bytes: int
    total_bytes: int
    shares: int
    shares_total: int
    within_ms: int  # in which all shares are to be read, as declared
    covered_since: int | None  # all shares were read since; None: some never were


class RestoreTestResultData(TypedDict):
    """Everything a restore test saw."""

    application: str
    engine: str | None
    repository: str | None
    point: str | None
    point_at: int | None
    target_at: int | None
    verdict: str
    code: str | None
    level: int
    phases: list[PhaseData]
    checks: list[CheckData]
    checks_configured: int
    baseline_accepted: bool
    data_loss_ms: int | None
    freshness_heuristic_at: int | None
    bytes: int
    duration_ms: int
    fingerprint: FingerprintData | None
    tools: dict[str, str]
    key: NotRequired[str]  # "reader", or "escrow": no other key of the repository was used
    declared: NotRequired[DeclaredTestData]  # done elsewhere
    age: NotRequired[str | None]  # of the point: "newest", "week", "month", "older"
    job: NotRequired[str | None]  # the backup job that the point is of
    canary_at: NotRequired[int | None]  # when the newest canary in it was written
    measured: NotRequired[list[MeasuredData]]  # its invariants, as far as they were answered
    partial: NotRequired[PartialTestData]  # left out: everything was restored
    lacked: NotRequired[str]  # what this host lacked: a package, or a program and its version


class SelfTestData(TypedDict):
    """A copy was broken on purpose, and what its restore test said; no test of the application."""

    application: str
    repository: str
    point: str | None
    engine: str
    harm: str | None  # "truncated", "flipped", "trailer", "overwritten"; None: it came not so far
    verdict: str  # of the restore test
    code: str | None
    noticed: bool | None  # None: nobody can tell


class BaselineAccepted(TypedDict):
    """Somebody accepted the shape of an application's data."""

    fingerprint: FingerprintData
    from_seq: int  # the restore-test.result it was taken from
    reason: str


class BaselineReset(TypedDict):
    """Somebody withdrew the accepted shape."""

    reason: str


class FindingChanged(TypedDict):
    """A judgement that differs from the one before."""

    control: str
    before: str | None
    after: str
    cause: str | None
    severity: str
    reason: MessageData
    facts: list[int]


class DatabaseSeen(TypedDict):
    """A database that exists, and the backup jobs that say they cover it."""

    engine: str  # "postgresql", "mariadb", "sqlite", "openldap"
    host: str
    server: str  # which server or cluster of that host: "15/main", "3306", a directory
    name: str
    bytes: int | None
    covered_by: list[str]  # "dpi.nightly"
    ignored: bool  # the configuration says, with a reason, that it needs no backup
    found_jobs: NotRequired[list[str]]  # "pgbackrest/main": found, and not in the configuration


class JobSeen(TypedDict):
    """A backup job that some tool on this host is set up to run."""

    tool: str  # "borgmatic", "systemd", "cron", "pgbackrest", "barman", "bareos"
    name: str
    enabled: bool
    last_run_at: int | None
    configured_as: list[str]  # the backup jobs of the configuration that it is
    never_ran: NotRequired[bool]  # the tool says so; `last_run_at` None alone may be ignorance
    source: NotRequired[str]  # "/etc/borgmatic/config.yaml" or "/etc/cron.d/dpi line 3"
    schedule: NotRequired[str]  # as the tool writes it: "0 2 * * *", "daily"
    repositories: NotRequired[list[str]]  # where its copies go, without any password
    covers: NotRequired[list[str]]  # the databases it saves: "postgresql://srv1:5432/*"
    paths: NotRequired[list[str]]  # the directories it saves
    secrets: NotRequired[list[str]]  # where a secret stands, never the secret: "FILE line 12"


class Lacking(TypedDict):
    """What could not be looked at, and the right or program that is missing for it."""

    what: str  # "postgresql/15/main"
    code: str
    need: str  # "role with pg_monitor", "read access to FILE"
    about: NotRequired[str]  # the file, role or program that `need` names
    hides: NotRequired[str]  # what may be missing for it: "databases", "jobs", "reference"


class DatabaseMissing(TypedDict):
    """A database that a job says it saves, and that is not there."""

    job: str  # "dpi.nightly", or of a job that is not in the configuration "borgmatic/config"
    pattern: str  # "postgresql://srv1/dpi"
    configured: bool


class DiscoverySeen(TypedDict):
    """What runs and what is backed up on a host. Empty lists mean "none" only without `lacking`."""

    host: str
    databases: list[DatabaseSeen]
    jobs: list[JobSeen]
    lacking: list[Lacking]
    covers_nothing: list[str]  # configured jobs whose database is not there
    catalogues: NotRequired[list[str]]  # servers whose catalogue was read to its end
    missing: NotRequired[list[DatabaseMissing]]


class ReferenceLoaded(TypedDict):
    """A list of what exists that BackupGuard did not write: a CMDB, vCenter or DNS export."""

    sha256: str
    dated_at: int  # of the export itself
    entries: int
    unmatched: list[str]  # entries found in no application, at most 200
    unmatched_total: int
    absent: list[str]  # applications found in no entry
    dated_by: NotRequired[str]  # "column", "name", "modified"
    max_age_ms: NotRequired[int]  # after which it no longer says what exists
    duplicates: NotRequired[int]  # rows that say again what another said


class WeaknessData(TypedDict):
    """What is wrong with a protection as it is set up: a code of `weakness.CODE`."""

    code: str
    values: dict[str, int | str]


class PointProtection(TypedDict):
    """How long one recovery point survives, over every object it needs."""

    job: str | None
    native_id: str
    at: int | None
    locked_until_at: int | None
    mode: str | None
    objects: int
    unlocked: int
    exact: bool
    hidden: bool
    code: str | None


class ProtectionSeen(TypedDict):
    """How a repository is protected by its settings and by the locks of its newest points: no proof."""

    mechanism: str  # "s3-object-lock", "append-only", "file-attributes", "vendor", "none"
    mode: str | None
    retention_ms: int | None
    weaknesses: list[WeaknessData]
    bypass_holders: list[str]
    unread: list[str]
    settings: dict[str, int | str | bool]
    points: list[PointProtection]  # of the newest points, newest first
    locked_until_at: int | None  # the earliest of them; None when any is not locked
    requests: dict[str, int]  # by operation
    cost_micro_eur: int | None  # estimated, at list prices
    verdict: str  # passed: it could be read; could_not_verify
    code: str | None


class AttemptMade(TypedDict):
    """An attempt against a canary: its intent (`outcome` None), recorded before anything is done."""

    attacker: str
    name: str
    target: str
    destructive: bool
    outcome: str | None  # "refused", "worked", "untried"
    code: str | None
    request_id: str | None


class ImmutabilityTried(TypedDict):
    """What came of everything that was tried against a repository as one attacker.

    `verdict`: passed (proved: everything tried was refused), failed (refuted: `worked` says what),
    could_not_verify (inconclusive: `code` says why). `before` is the verdict of the time before.
    """

    attacker: str
    verdict: str
    code: str | None
    worked: list[str]
    refused: list[str]
    untried: list[str]
    credentials: str  # "writer", "administrator", "read_only", "unknown"
    reaches_data: bool
    before: str | None
    canaries: list[str]  # that still lie there, because their locks have not ended; newest first
    attempts: list[int]  # the numbers of the facts of the attempts
    notes: NotRequired[list[str]]  # codes of `bearing.CODE`: what stands in the way of nothing


class MediumSeen(TypedDict):
    """Whether an offline medium is attached to this host, and since when: by its own look."""

    medium: str
    attached: bool
    attached_since_at: int | None
    attached_last_at: NotRequired[int | None]  # since when it was, the last time that it was
    device: str | None
    mounted: bool
    identity: str | None  # recognised by: "filesystem-uuid", "luks-uuid", "serial", "barcode"
    mismatch: str | None  # an identity that was declared and is another one
    slot: str | None  # of a library: "3", "drive 0", "mail slot 1"
    code: str | None


class MediumCopy(TypedDict):
    """The copy on an attached medium: opened, listed, sampled. `may_leave`: it is good to go."""

    medium: str
    repository: str
    newest_at: int | None
    applications: dict[str, int | None]  # the newest point of each
    verdict: str
    code: str | None
    bytes_read: int
    may_leave: bool
    restore_test: int | None  # number of the fact of a restore test from it since it was attached


class MediaUnknown(TypedDict):
    """Media attached to this host that no register knows and that hold a backup."""

    media: list[dict[str, str]]  # "device", "identity", "value", "tool"


class MediumMoved(TypedDict):
    """A person says where a medium went, or that it came back: custody."""

    medium: str
    direction: str  # "out", "in"
    holder: str
    place: str
    seal: str | None
    at: int
    content: dict[str, int | None]  # the newest point of each application, as known then


class ReachRow(TypedDict):
    """One port of one address, as one vantage point sees it."""

    target: str
    name: str  # as configured
    address: str | None  # as resolved in this run; None where it could not be
    family: str | None  # "ipv4", "ipv6"
    port: int
    outcome: str  # "open", "refused", "filtered", "unreachable", "unresolved", "untried"
    announced: bool  # inside a window of the target, by the settings of that time


class IsolationSeen(TypedDict):
    """What one vantage point reached of the places that must not answer.

    `witness`: the declared witness answered before and after; without it only an open port is proved.
    `families` are those over which it answered: a port closed over another one proves nothing.
    """

    vantage: str  # "self" for this host
    zone: str | None  # as configured; None for this host
    witness: bool
    families: list[str]
    began_at: int
    ended_at: int
    rows: list[ReachRow]
    code: str | None  # "witness_silent", "no_witness"
    sequence: NotRequired[int]  # of a report: rises with each, so that none counts twice
    skew_ms: NotRequired[int]  # its clock before ours when it was taken


class HostJoined(TypedDict):
    """Whether a host is joined to a directory, and how that was seen."""

    host: str
    joined: bool
    domains: list[str]
    seen_by: list[str]  # "realmd", "sssd", "samba", "krb5"
    unread: list[str]


class PolicyItem(TypedDict):
    """One thing a policy says."""

    path: str  # "borgmatic|/etc/borgmatic/config.yaml|retention.keep_daily"
    before: NotRequired[int | str | bool | None]
    after: NotRequired[int | str | bool | None]
    weakening: str | None  # "retention_shortened", "lock_removed", …; None: no weaker


class PolicySeen(TypedDict):
    """The policies and protections as they stand; of what could not be read, what it said last."""

    items: dict[str, int | str | bool]
    unread: list[str]  # "cron|/var/spool/cron/crontabs", or a whole source: "systemd|"


class PolicyChanged(TypedDict):
    """What differs from the last time a place's policies were seen."""

    changes: list[PolicyItem]
    from_seq: int | None  # the `policy.seen` it is compared with


class SecretSeen(TypedDict):
    """When the file of one technical account's secret was last written; never what is in it."""

    repository: str
    use: str  # "reader", "backend", "writer-for-probe"
    written_at: int | None  # None: not to be seen (a systemd credential is a copy)
    code: str | None  # why it cannot be used


class SecretsSeen(TypedDict):
    """The secrets of technical accounts. `shared`: repositories read with the writer's own."""

    secrets: list[SecretSeen]
    shared: list[str]


class Signature(TypedDict):
    """Who signed a statement, by which key: `ssh-keygen -Y verify` said so.

    Statement and signature are kept as they were, so that anybody can verify them again.
    """

    person: str
    key: str  # its fingerprint: "SHA256:…"
    statement: str  # the exact text that is signed
    armored: str  # the signature as ssh-keygen wrote it


class AttestationMade(TypedDict):
    """A statement of a person, until when it holds. `signature` None: not authenticated."""

    topic: str
    person: str | None  # of `[people]`, by the account that made it
    text: str
    values: dict[str, int | str]
    expires_at: int
    signature: Signature | None


class AttestationWithdrawn(TypedDict):
    """A statement that does not hold any more."""

    attestation: int
    reason: str


class WaiverAsked(TypedDict):
    """An exception that a person asks for: it counts once it is confirmed, where that is needed."""

    control: str
    reason: str
    owner: str
    person: str | None
    until_at: int
    needs_confirmation: bool


class WaiverConfirmed(TypedDict):
    """A second person accepts an exception."""

    waiver: int
    person: str


class WaiverEnded(TypedDict):
    """An exception that ends before its day."""

    waiver: int
    reason: str


class NoticeEvent(TypedDict):
    """One cause in a notice: that it began, got worse, lasts or ended; or that judging works."""

    cause: str  # names it for as long as it stands: "INT-01/repository/nas"
    event: str  # "opened", "worse", "reminder", "ended", "passed", "alive"
    alert: str | None  # whose runbook says what to do
    control: str | None
    subject: str
    severity: str
    reason: MessageData
    since_at: int
    opened_by: str | None  # the key of the notice that it began with


class NoticeDue(TypedDict):
    """People are to be told of these by mail: written before the mail is sent, one per mail."""

    events: list[NoticeEvent]


class OverrideAsked(TypedDict):
    """Another value for a threshold of a control, for a time, in the place of the catalogue's."""

    control: str
    threshold: str
    value: int  # as the control counts it: seconds, percent, count
    given: str  # as it was written: "45d"
    reason: str
    person: str | None
    until_at: int
    loosens: bool  # it demanded less than the catalogue did at the time
    needs_confirmation: bool


class OverrideConfirmed(TypedDict):
    """A second person accepts another value for a threshold."""

    override: int
    person: str


class OverrideEnded(TypedDict):
    """Another value for a threshold that ends before its day."""

    override: int
    reason: str


class ReportIssued(TypedDict):
    """A monthly report was written, or (`annex` is there) a document that goes with it.

    `annex`: "controls", "applications", "minutes" (of the restore test whose record is `test`). No
    report is known by an annex: whoever asks for a month's report leaves those out.
    """

    month: str
    format: str
    language: str
    sha256: str
    bytes: int
    file: NotRequired[str]
    annex: NotRequired[str]
    test: NotRequired[int]


class ReportAcknowledged(TypedDict):
    """A report came back signed. `provisional`: it was issued before its month was over.

    `method` "signature": the signature over the whole file is right, by the key of `certificate`; who
    that is, is the certificate's word, and its issuer was judged only where `issuer_checked`. "scan": a
    picture and the declaration `text` of whoever brought it, not authenticated.
    """

    month: str
    language: str
    report: int  # the number of its `report.issued`
    report_sha256: str
    provisional: bool
    sha256: str  # of the file that came back
    bytes: int
    file: str  # its name beside the reports
    method: str
    person: str | None  # of `[people]`, by the account that brought it
    signer: str | None
    certificate: str | None  # SHA-256, in hexadecimal
    signed_at: int | None  # as the signer says
    issuer_checked: bool
    text: str | None


class ReportFile(TypedDict):
    """A file of a report."""

    file: str  # its name
    sha256: str
    bytes: int


class ReportMailed(TypedDict):
    """A month's report is to be mailed: written before the mail is sent, once per month."""

    month: str
    directory: str
    files: list[ReportFile]  # the PDF first
    attached: bool  # False: too large, only told where it lies


class ReportReminded(TypedDict):
    """A month's report has not come back signed, and people are reminded of it."""

    month: str
    issued_at: int
    time: int  # the first reminder is 1


class PlanIssued(TypedDict):
    """The recovery plan was written to a directory, the configured one or another."""

    file: str
    sha256: str
    bytes: int
    same_device: bool  # it lies on the disk that also holds BackupGuard's own state
    configured: bool


class EvidencePruned(TypedDict):
    """Bodies of records that were dropped, on purpose."""

    first_seq: int
    last_seq: int
    kinds: list[str]
    reason: str
    missing_sha256: NotRequired[str]  # over every body that is missing now, as verifying counts it


class EvidenceAnchored(TypedDict):
    """The chain's head was put somewhere off this host."""

    place: str
    seq: int
    hash: str
    receipt: str | None


class KeyCreated(TypedDict):
    """The store's signing key."""

    key_id: str
    fingerprint: str
    public_key: NotRequired[str]  # 32 raw bytes in hexadecimal


class KeyRotated(TypedDict):
    """Another key signs from here on; both keys signed the statement that says so."""

    key_id: str
    fingerprint: str
    public_key: str
    previous_key_id: str
    previous_fingerprint: str
    signed_by_previous: str  # Ed25519, in hexadecimal
    signed_by_new: str
    reason: str


class CommissioningIssued(TypedDict):
    """The sheet with the key's fingerprint was written."""

    file: str
    language: str
    sha256: str
    bytes: int
    fingerprint: str


class StoreReplaced(TypedDict):
    """A corrupt store was set aside and this one begun."""

    old_file: str
    old_sha256: str
    last_anchored_seq: int | None
    last_anchored_hash: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of fact. `upgrades` turn payloads of older versions into the newest, one step each."""

    name: str
    version: int = 1
    payload: Any
    keep_days: int = FIVE_YEARS
    upgrades: Mapping[int, Callable[[Json], Json]] = field(default_factory=dict)


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(name="configuration.loaded", payload=ConfigurationLoaded),
        Kind(name="configuration.rejected", payload=ConfigurationRejected),
        Kind(name="daemon.started", payload=DaemonStarted),
        Kind(name="daemon.stopped", payload=DaemonStopped),
        Kind(name="clock.stepped", payload=ClockStepped),
        Kind(name="pause.started", payload=PauseStarted),
        Kind(name="pause.ended", payload=PauseEnded),
        Kind(name="repository.inspected", payload=RepositoryInspected, keep_days=ONE_YEAR),
        Kind(name="repository.confirmed", payload=RepositoryConfirmed),
        Kind(name="instance.confirmed", payload=InstanceConfirmed),
        Kind(name="inventory.listed", payload=InventoryListed, keep_days=ONE_YEAR),
        Kind(name="inventory.confirmed", payload=InventoryConfirmed, keep_days=ONE_YEAR),
        Kind(name="backup.runs", payload=BackupRuns, keep_days=ONE_YEAR),
        Kind(name="repository.verified", payload=RepositoryVerified),
        Kind(name="inventory.closed", payload=RunClosed, keep_days=ONE_YEAR),
        Kind(name="integrity.closed", payload=RunClosed),
        Kind(name="restore-test.closed", payload=RunClosed),
        Kind(name="report.closed", payload=RunClosed),
        Kind(name="restore-test.phase", payload=PhaseEnded),
        Kind(name="restore-test.result", payload=RestoreTestResultData),
        Kind(name="self-test.result", payload=SelfTestData),
        Kind(name="self-test.closed", payload=RunClosed),
        Kind(name="baseline.accepted", payload=BaselineAccepted),
        Kind(name="baseline.reset", payload=BaselineReset),
        Kind(name="finding.changed", payload=FindingChanged),
        Kind(name="discovery.seen", payload=DiscoverySeen, keep_days=ONE_YEAR),
        Kind(name="discovery.closed", payload=RunClosed, keep_days=ONE_YEAR),
        Kind(name="reference.loaded", payload=ReferenceLoaded),
        Kind(name="protection.seen", payload=ProtectionSeen),
        Kind(name="immutability.attempt", payload=AttemptMade),
        Kind(name="immutability.tried", payload=ImmutabilityTried),
        Kind(name="immutability.closed", payload=RunClosed),
        Kind(name="medium.seen", payload=MediumSeen),
        Kind(name="medium.copy", payload=MediumCopy),
        Kind(name="medium.moved", payload=MediumMoved),
        Kind(name="media.unknown", payload=MediaUnknown),
        Kind(name="offline.closed", payload=RunClosed, keep_days=ONE_YEAR),
        Kind(name="isolation.seen", payload=IsolationSeen, keep_days=ONE_YEAR),
        Kind(name="host.joined", payload=HostJoined),
        Kind(name="isolation.closed", payload=RunClosed, keep_days=ONE_YEAR),
        Kind(name="policy.seen", payload=PolicySeen),
        Kind(name="policy.changed", payload=PolicyChanged),
        Kind(name="drift.closed", payload=RunClosed, keep_days=ONE_YEAR),
        Kind(name="imports.closed", payload=RunClosed, keep_days=ONE_YEAR),
        Kind(name="secrets.seen", payload=SecretsSeen),
        Kind(name="attestation.made", payload=AttestationMade),
        Kind(name="attestation.withdrawn", payload=AttestationWithdrawn),
        Kind(name="waiver.asked", payload=WaiverAsked),
        Kind(name="waiver.confirmed", payload=WaiverConfirmed),
        Kind(name="waiver.ended", payload=WaiverEnded),
        Kind(name="override.asked", payload=OverrideAsked),
        Kind(name="override.confirmed", payload=OverrideConfirmed),
        Kind(name="override.ended", payload=OverrideEnded),
        Kind(name="notice.due", payload=NoticeDue),
        Kind(name="report.issued", payload=ReportIssued),
        Kind(name="report.acknowledged", payload=ReportAcknowledged),
        Kind(name="report.mailed", payload=ReportMailed),
        Kind(name="report.reminded", payload=ReportReminded),
        Kind(name="plan.issued", payload=PlanIssued),
        Kind(name="plan.closed", payload=RunClosed),
        Kind(name="evidence.pruned", payload=EvidencePruned),
        Kind(name="evidence.anchored", payload=EvidenceAnchored),
        Kind(name="evidence.key-created", payload=KeyCreated),
        Kind(name="evidence.key-rotated", payload=KeyRotated),
        Kind(name="commissioning.issued", payload=CommissioningIssued),
        Kind(name="anchor.closed", payload=RunClosed, keep_days=ONE_YEAR),
        Kind(name="store.replaced", payload=StoreReplaced),
    )
}


def closed_kind(task: str) -> str:
    """Return the kind of the closing fact of a task's runs: "restore-test.closed"."""
    return f"{task}.closed"


@cache
def _adapter(name: str) -> Any:
    from pydantic import ConfigDict, TypeAdapter, with_config

    return TypeAdapter(with_config(ConfigDict(extra="forbid", strict=True))(KINDS[name].payload))


def check_payload(name: str, version: int, data: Json) -> None:
    """Raise EvidenceError unless `data` has the shape that its kind declares for this version.

    Only the newest version may be written; older ones are only read.
    """
    if name.startswith("x-") and "." in name:
        return
    kind = KINDS.get(name)
    if kind is None or kind.version != version:
        raise EvidenceError("unknown_kind", kind=name, version=version)
    from pydantic import ValidationError

    try:
        _adapter(name).validate_python(data)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise EvidenceError("bad_payload", kind=name, where=where) from error


def upgraded(name: str, version: int, data: Json) -> Json:
    """Return `data` as the newest version of its kind, whatever version it was written with."""
    kind = KINDS.get(name)
    if kind is None:
        return data
    for step in range(version, kind.version):
        data = kind.upgrades[step](data)
    return data
