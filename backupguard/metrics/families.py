"""Every family of metrics: the one table that rendering, the reference page and the tests read.

Every series carries `site` besides the labels named here. Label values come from the configuration and
the catalogue only; `job` and `instance` are Prometheus' own and are never used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

PREFIX = "backupguard_"
SITE = "site"

#: What Prometheus puts on every series by itself.
RESERVED = frozenset({"job", "instance"})

_PROBE = ("probe", "subject")
_JOB = ("application", "backup_job", "repository")
_APPLICATION = ("application",)
_TEST = ("application", "engine", "repository", "origin")
_CONTROL = ("care_domain", "control", "subject", "criticality")
_REPOSITORY = ("repository",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One family: `kind` is "gauge" or "counter", `unit` what a value counts, `text` its meaning.

    `part` is the heading it stands under in the reference.
    """

    part: str
    name: str
    labels: tuple[str, ...]
    unit: str
    text: str
    kind: str = "gauge"

    @property
    def full(self) -> str:
        """The name as it is scraped."""
        return PREFIX + self.name


#: Part, name, labels besides `site`, unit, meaning.
_GAUGES: tuple[tuple[str, str, tuple[str, ...], str, str], ...] = (
    (
        "BackupGuard itself", "build_info", ("version", "python"), "1",
        "Version of BackupGuard and of Python; always 1.",
    ),
    (
        "BackupGuard itself", "last_cycle_timestamp_seconds", (), "timestamp",
        "When the last cycle of judging ended.",
    ),
    (
        "BackupGuard itself", "findings_evaluated_timestamp_seconds", (), "timestamp",
        "When the findings were last evaluated.",
    ),
    (
        "BackupGuard itself", "evidence_valid", (), "0 or 1",
        "Whether the chain of evidence was found whole (1) or broken (0).",
    ),
    (
        "BackupGuard itself", "evidence_anchor_timestamp_seconds", (), "timestamp",
        "When the chain's head was last anchored off this host, 0 for never.",
    ),
    (
        "BackupGuard itself", "self_test_timestamp_seconds", (), "timestamp",
        "When a copy was last broken on purpose and restored to a verdict, 0 for never.",
    ),
    (
        "BackupGuard itself", "self_test_noticed", (), "0 or 1",
        ("Whether the copy broken on purpose was found damaged (1), or passed all the same (0); absent "
        "before the first one."),
    ),
    (
        "BackupGuard itself", "paused_until_timestamp_seconds", (), "timestamp",
        "Until when the daemon's own runs are paused, 0 when they are not, +Inf without an end.",
    ),
    (
        "BackupGuard itself", "commissioning_until_timestamp_seconds", (), "timestamp",
        "End of the commissioning period, 0 for none.",
    ),
    (
        "Probes", "probe_success", _PROBE, "0 or 1",
        "Whether the last run of a probe could see what it looks at; what it saw is in the controls.",
    ),
    (
        "Probes", "probe_last_run_timestamp_seconds", _PROBE, "timestamp",
        "When a probe last ended, 0 for never.",
    ),
    (
        "Probes", "probe_duration_seconds", _PROBE, "seconds",
        "How long the last run of a probe took; absent before the first one.",
    ),
    (
        "Probes", "probe_expected_interval_seconds", _PROBE, "seconds",
        "How often a probe is meant to run.",
    ),
    (
        "Backup jobs", "backup_last_success_timestamp_seconds", _JOB, "timestamp",
        "Time of a backup job's newest restorable point, 0 for none; future points are set aside.",
    ),
    (
        "Backup jobs", "backup_expected_interval_seconds", _JOB, "seconds",
        "Longest time between two points of a backup job, as it is scheduled.",
    ),
    (
        "Backup jobs", "backup_recovery_points", _JOB, "points",
        "Recovery points of a backup job that stand in its repository.",
    ),
    (
        "Backup jobs", "backup_oldest_point_timestamp_seconds", _JOB, "timestamp",
        "Time of a backup job's oldest restorable point: how far back one can go, 0 for none.",
    ),
    (
        "Backup jobs", "backup_consecutive_failures", _JOB, "runs",
        "Newest runs of a backup job that failed one after the other.",
    ),
    (
        "Backup jobs", "backup_newest_point_bytes", _JOB, "bytes",
        "Size of a backup job's newest point; absent where its tool does not tell it.",
    ),
    (
        "Applications", "application_rpo_target_seconds", _APPLICATION, "seconds",
        "Declared RPO (PDMA) of an application; absent where none is declared.",
    ),
    (
        "Applications", "application_rto_target_seconds", _APPLICATION, "seconds",
        "Declared RTO (DMIA) of an application; absent where none is declared.",
    ),
    (
        "Applications", "backup_worst_exposure_seconds", _APPLICATION, "seconds",
        "Worst loss an application was really exposed to in the last month; absent below two points.",
    ),
    (
        "Applications", "recovery_forecast_seconds", _APPLICATION, "seconds",
        ("When an application would be back if everything had to be restored, from the start; absent "
        "without declared steps, without a passed test, or behind something that has no figure."),
    ),
    (
        "Applications", "restore_test_copies_overdue", _APPLICATION, "copies",
        "Repositories and ages of points of an application whose restore test is due and not done.",
    ),
    (
        "Applications", "restore_test_clean_point_timestamp_seconds", _APPLICATION, "timestamp",
        "Time of the newest point whose restored content was found clean, gone or not; 0 for none.",
    ),
    (
        "Applications", "restore_test_first_bad_point_timestamp_seconds", _APPLICATION, "timestamp",
        "Time of the oldest point known to be damaged that no clean one follows, 0 for none.",
    ),
    (
        "Restore tests", "restore_test_last_run_timestamp_seconds", _TEST, "timestamp",
        "When a restore test last ended, however it ended; 0 for never.",
    ),
    (
        "Restore tests", "restore_test_last_success_timestamp_seconds", _TEST, "timestamp",
        "When a restore test last passed, 0 for never.",
    ),
    (
        "Restore tests", "restore_test_last_failure_timestamp_seconds", _TEST, "timestamp",
        "When a restore test last failed because of the backup, 0 for never.",
    ),
    (
        "Restore tests", "restore_test_level", _TEST, "0 to 4",
        "Level the last restore test reached: 1 bytes, 2 opened, 3 content, 4 replayed; 0 none.",
    ),
    (
        "Restore tests", "restore_test_program_missing", _TEST, "0 or 1",
        "Whether the last restore test lacked a program, an extension or a version on this host.",
    ),
    (
        "Restore tests", "restore_test_data_ratio", _TEST, "ratio",
        "Part of the bytes that the last restore test restored; 1 unless the site declares less.",
    ),
    (
        "Restore tests", "restore_test_duration_seconds", _TEST, "seconds",
        "Duration of the last restore test: a lower bound of a recovery, and no RTO.",
    ),
    (
        "Restore tests", "restore_test_phase_duration_seconds", (*_TEST, "phase"), "seconds",
        "Duration of each phase of the last restore test.",
    ),
    (
        "Restore tests", "restore_test_data_loss_seconds", _TEST, "seconds",
        ("Data missing from the last restored copy, as a check of the site's own measured it; absent "
        "where none did."),
    ),
    (
        "Restore tests", "restore_test_freshness_heuristic_seconds", _TEST, "seconds",
        "How much older than its point the newest data of the last good copy look; a guess.",
    ),
    (
        "Restore tests", "restore_test_canary_timestamp_seconds", _TEST, "timestamp",
        "When the newest canary in the last good copy was written; absent where none was found.",
    ),
    (
        "Restore tests", "restore_test_expected_interval_seconds", _TEST, "seconds",
        "How often an application is meant to be restored.",
    ),
    (
        "Protections", "offline_copy_timestamp_seconds", ("application", "medium_id"), "timestamp",
        "Time of an application's newest point on a medium that is proved away, 0 for none.",
    ),
    (
        "Protections", "offline_medium_connected", ("medium_id",), "0 or 1",
        "Whether an offline medium is attached (1) or not (0); absent where nobody can tell.",
    ),
    (
        "Protections", "immutability_verdict", (*_REPOSITORY, "attacker"), "0 to 2",
        "What an attacker was shown to achieve: 2 nothing (proved), 1 unknown, 0 something (refuted).",
    ),
    (
        "Protections", "immutability_locked_until_timestamp_seconds", _REPOSITORY, "timestamp",
        ("Earliest end of the locks of a repository's newest points, 0 where one is not locked; absent "
        "where nobody knows."),
    ),
    (
        "Protections", "isolation_verdict", ("target", "vantage"), "0 to 2",
        ("What a vantage point reached of a store that must not answer: 2 nothing (proved lately), "
        "1 unknown, 0 something."),
    ),
    (
        "Protections", "isolation_last_look_timestamp_seconds", ("vantage",), "timestamp",
        "When a vantage point last told what it reached, 0 for never.",
    ),
    (
        "Controls", "control_status", _CONTROL, "0 to 5",
        ("State of a control: 0 compliant, 1 warning, 2 non-compliant, 3 not measurable, "
        "4 not applicable, 5 waived."),
    ),
    (
        "Controls", "control_severity", _CONTROL, "0 to 3",
        ("How soon somebody must act on a control: 0 no hurry, 1 this week, 2 same day, 3 now; at most "
        "1 during commissioning."),
    ),
    (
        "Controls", "control_last_non_compliant_timestamp_seconds", _CONTROL, "timestamp",
        "When a control was last non-compliant, or had not been seen to recover since; 0 for never.",
    ),
    (
        "Controls", "waivers", ("state",), "waivers",
        "Accepted exceptions that stand (in_force) or wait for their second person (waiting).",
    ),
    (
        "Controls", "control_overrides", ("state",), "overrides",
        ("Thresholds that people changed: those that hold (in_force) or wait for their second person "
        "(waiting)."),
    ),
    (
        "Controls", "waivers_next_end_timestamp_seconds", (), "timestamp",
        "When the first of the accepted exceptions in force ends, 0 for none.",
    ),
    (
        "Controls", "control_overrides_next_end_timestamp_seconds", (), "timestamp",
        "When the first of the changed thresholds in force ends, 0 for none.",
    ),
)  # fmt: skip

#: Part of the families that are read at each scrape and not rendered with an assessment.
LIVE = "The living process"

_LIVE: tuple[tuple[str, str, tuple[str, ...], str, str], ...] = (
    (
        LIVE, "scheduler_last_tick_timestamp_seconds", (), "timestamp",
        "When the scheduler last looked at what is due; it does so every few seconds.",
    ),
    (
        LIVE, "http_certificate_expiry_timestamp_seconds", (), "timestamp",
        "When the certificate of this port ends; absent without TLS.",
    ),
)  # fmt: skip

_COUNTERS: tuple[tuple[str, str, tuple[str, ...], str, str], ...] = (
    (
        "BackupGuard itself", "evidence_records_total", (), "records",
        "Records in the chain of evidence.",
    ),
    (
        "Restore tests", "restore_tests_total", (*_TEST, "outcome"), "tests",
        "Restore tests by how they ended.",
    ),
)  # fmt: skip


def _families() -> tuple[Family, ...]:
    """Return gauges and counters, each part together, in the order of its first family."""
    made = [
        Family(part=part, name=name, labels=labels, unit=unit, text=text, kind=kind)
        for kind, rows in (("gauge", _GAUGES), ("counter", _COUNTERS), ("gauge", _LIVE))
        for part, name, labels, unit, text in rows
    ]
    parts = list(dict.fromkeys(family.part for family in made))
    return tuple(sorted(made, key=lambda family: parts.index(family.part)))


FAMILIES: tuple[Family, ...] = _families()
BY_NAME: Mapping[str, Family] = MappingProxyType({one.name: one for one in FAMILIES})
