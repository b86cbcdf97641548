"""Cases of `promtool test rules`, made: each alert is shown to fire and to stay silent.

`python -m tests.unit.assess.rule_cases` writes `config/prometheus/backupguard.rules.test.yml`; a test
fails when the two differ, so that a rule is never changed without its cases.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from backupguard.alerts import Rule, rules
from backupguard.resources import shipped

FILE = "prometheus/backupguard.rules.test.yml"
#: Labels that Prometheus and the site give.
HERE = {"job": "backupguard", "instance": "srv:9789", "site": "CH"}
#: What each alert about a control is tried on. RST-01 has three alerts, and cases of its own.
SUBJECTS = {
    "BackupGuardJobFailed": "job/dpi.nightly",
    "BackupGuardCoverageIncomplete": "site",
    "BackupGuardCoreServiceStale": "site",
    "BackupGuardRule321Broken": "application/dpi",
    "BackupGuardOfflineCopyStale": "application/dpi",
    "BackupGuardImmutabilityMissing": "repository/nas",
    "BackupGuardImmutabilityProbeFailed": "repository/nas",
    "BackupGuardRepositoryReachable": "repository/nas",
    "BackupGuardPrivilegedAccessWeak": "site",
    "BackupGuardCopyUnencrypted": "repository/nas",
    "BackupGuardPolicyWeakened": "site",
    "BackupGuardRpoBreached": "application/dpi",
    "BackupGuardRetentionShort": "application/dpi",
    "BackupGuardBackupAnomaly": "job/dpi.nightly",
    "BackupGuardIntegrityNotProven": "repository/nas",
    "BackupGuardRestoredDataInvalid": "application/dpi",
    "BackupGuardRtoExceeded": "application/dpi",
    "BackupGuardDirectoryRebuildOverdue": "site",
    "BackupGuardEvidenceGap": "site",
}
_HEAD = """\
# Cases of promtool test rules: for each alert some in which it fires and some in which it stays silent.
# Made by `python -m tests.unit.assess.rule_cases`. Times are minutes after 1970, so that "when it was
# judged" is a simple series.

"""

Series = dict[str, str]
Fired = Mapping[str, str]


def series(metric: str, values: str, /, **labels: str) -> Series:
    """Return one input series, by its name and labels."""
    shown = ", ".join(f'{name}="{value}"' for name, value in {**HERE, **labels}.items())
    return {"series": f"backupguard_{metric}{{{shown}}}", "values": values}


def finding(
    control: str, subject: str, status: str, last: str, severity: str = "3x60", level: str = "C1"
) -> list[Series]:
    """Return the three series of a finding and when all findings were evaluated."""
    labels = {"control": control, "subject": subject, "care_domain": "D4", "criticality": level}
    return [
        series("control_status", status, **labels),
        series("control_severity", severity, **labels),
        series("control_last_non_compliant_timestamp_seconds", last, **labels),
        series("findings_evaluated_timestamp_seconds", "0+60x60"),
    ]


def points(application: str, job: str, repository: str, values: str = "9x60") -> Series:
    """Return how many points a job has: the series that says which repository it writes to."""
    return series(
        "backup_recovery_points", values,
        application=application, backup_job=job, repository=repository,
    )  # fmt: skip


def about(subject: str) -> dict[str, str]:
    """Return the labels that the rules add for a subject."""
    kind, _, name = subject.partition("/")
    if kind == "job":
        return {"application": name.partition(".")[0], "repository": "nas"}
    return {kind: name} if kind in {"application", "repository"} else {}


class Cases:
    """Collects tests; knows the rules, to say what an alert carries when it fires."""

    def __init__(self) -> None:
        self.tests: list[dict[str, Any]] = []
        self._rules: dict[tuple[str, str, str], Rule] = {}
        for rule in rules():
            dynamic = "{{" in rule.labels["severity"]
            key = ("" if dynamic else rule.labels["severity"], rule.labels.get("extent", ""))
            self._rules[rule.name, *key] = rule

    def add(
        self,
        alert: str,
        told: str,
        given: Iterable[Series],
        *checks: tuple[str, Iterable[Fired]],
        value: str = "",
    ) -> None:
        """Add a test: at each time of `checks` exactly these alerts fire, by their labels."""
        self.tests.append(
            {
                "name": f"{alert}: {told}",
                "interval": "1m",
                "input_series": list(given),
                "alert_rule_test": [
                    {
                        "eval_time": at,
                        "alertname": alert,
                        "exp_alerts": [self._expected(alert, one, value) for one in fired],
                    }
                    for at, fired in checks
                ],
            }
        )

    def _expected(self, alert: str, fired: Fired, value: str) -> dict[str, Any]:
        severity, extent = fired["severity"], fired.get("extent", "")
        rule = self._rules.get((alert, "", extent)) or self._rules[alert, severity, extent]
        labels = {**rule.labels, **fired}

        def filled(text: str) -> str:
            told = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda m: labels.get(m[1], ""), text)
            return re.sub(r"\{\{ \$value[^}]*\}\}", value, told)

        return {
            "exp_labels": dict(sorted(labels.items())),
            "exp_annotations": {name: filled(text) for name, text in rule.annotations.items()},
        }


def _of_a_control(cases: Cases, alert: str, control: str, subject: str) -> None:
    """Add what holds for the alert of any control: three sites at once, a test costs a database."""
    labels = {**HERE, "subject": subject, "criticality": "C1", **about(subject)}
    if alert == "BackupGuardBackupAnomaly":  # one for all jobs of an application
        labels = {**HERE, "application": "dpi", "criticality": "C1"}
    lesser = {**labels, "site": "minor", "criticality": "C2"}
    given = [
        *finding(control, subject, "0x4 2x9 3x9 1x9 0x9", "0x4 300+60x28 2040x9"),
        points("dpi", "nightly", "nas"),
    ]
    for site, one in (
        ("quiet", finding(control, subject, "1x9 3x9 4x9 5x20", "0x60")),
        ("minor", finding(control, subject, "2x38 4x20", "0+60x60", "2x11 1x60", "C2")),
    ):
        given += [
            {**row, "series": row["series"].replace('site="CH"', f'site="{site}"')}
            for row in [*one, points("dpi", "nightly", "nas")]
        ]
    page = {**labels, "severity": "critical"}
    high, warning = {**lesser, "severity": "high"}, {**lesser, "severity": "warning"}
    cases.add(
        alert,
        "fires on 2, goes on through 3 and 1, ends on 0; of the finding's own severity; silent on 1 "
        "and 3 that never were 2, and on 4 and 5",
        given,
        *[("2m", [high]), ("10m", [page, high]), ("20m", [page, warning])],
        *[("30m", [page, warning]), ("44m", [])],
    )


def _of_anomalies(cases: Cases) -> None:
    """Add that two jobs of an application make one alert, and a job of another one its own."""
    alert = "BackupGuardBackupAnomaly"
    jobs = {"dpi.nightly": "nas", "dpi.weekly": "tape", "labo.nightly": "nas"}
    given = [points(*job.split("."), place) for job, place in jobs.items()]
    for number, job in enumerate(jobs):
        given += finding("ANO-01", f"job/{job}", f"0x{4 + 4 * number} 2x60", "0+60x60", "2x60")[
            : 4 if number == 0 else 3
        ]
    one = {**HERE, "application": "dpi", "criticality": "C1", "severity": "high"}
    cases.add(
        alert, "one alert for all jobs of an application", given,
        ("2m", []), ("10m", [one]), ("20m", [one, {**one, "application": "labo"}]),
    )  # fmt: skip


def _of_restore_tests(cases: Cases) -> None:
    subject = "application/dpi"
    labels = {**HERE, "subject": subject, "criticality": "C1", "application": "dpi"}
    fired = [{**labels, "severity": "critical"}]

    def tests(success: str, failure: str) -> list[Series]:
        copy = {
            "application": "dpi", "engine": "files", "repository": "nas", "origin": "observed",
        }  # fmt: skip
        return [
            series("restore_test_last_success_timestamp_seconds", success, **copy),
            series("restore_test_last_failure_timestamp_seconds", failure, **copy),
        ]

    bad = finding("RST-01", subject, "2x9 3x30", "0+60x60")
    good = finding("RST-01", subject, "0x60", "0x60")
    failed, overdue = "BackupGuardRestoreTestFailed", "BackupGuardRestoreTestOverdue"
    never = "BackupGuardRestoreNeverProved"
    for alert, success, failure in (
        (failed, "60x60", "120x60"),
        (overdue, "120x60", "60x60"),
        (never, "0x60", "0x60"),
    ):
        cases.add(
            alert, "fires on 2 and goes on through 3",
            [*bad, *tests(success, failure)], ("5m", fired), ("20m", fired),
        )  # fmt: skip
        cases.add(
            alert, "silent while compliant", [*good, *tests(success, failure)],
            ("5m", []), ("20m", []),
        )  # fmt: skip
        for other in sorted({failed, overdue, never} - {alert}):
            cases.add(
                other, f"silent where {alert} speaks",
                [*bad, *tests(success, failure)], ("5m", []),
            )  # fmt: skip


def _of_a_storm(cases: Cases) -> None:
    alert = "BackupGuardAnomalyStorm"

    def strange(applications: Iterable[str], severity: str = "2x60") -> Iterator[Series]:
        for name in applications:
            yield from finding("ANO-01", f"job/{name}.nightly", "2x60", "0+60x60", severity)[:3]
            yield points(name, "nightly", "nas")
        yield series("findings_evaluated_timestamp_seconds", "0+60x60")

    fired = [{**HERE, "severity": "critical"}]
    cases.add(
        alert, "fires on three applications at once",
        strange(["dpi", "labo", "pacs"]), ("5m", fired), value="3",
    )  # fmt: skip
    cases.add(alert, "silent on two", strange(["dpi", "labo"]), ("5m", []))
    cases.add(
        alert, "silent during commissioning", strange(["dpi", "labo", "pacs"], "1x60"), ("5m", [])
    )


def _of_the_evidence(cases: Cases) -> None:
    critical, high = [{**HERE, "severity": "critical"}], [{**HERE, "severity": "high"}]
    site = "site"
    bad = finding("PRV-01", site, "2x60", "0+60x60")
    for alert, metric in (
        ("BackupGuardEvidenceBroken", "evidence_valid"),
        ("BackupGuardSelfTestMissed", "self_test_noticed"),
    ):
        cases.add(
            alert, "fires on 0, ends on 1", [series(metric, "1x4 0x9 1x30")],
            ("3m", []), ("10m", critical), ("20m", []),
        )  # fmt: skip
        cases.add(
            "BackupGuardEvidenceGap", f"silent where {alert} speaks",
            [*bad, series(metric, "0x60")], ("10m", []),
        )  # fmt: skip
    late = [{**HERE, "severity": "warning"}]
    for alert, metric, days, fired in (
        ("BackupGuardAnchorStale", "evidence_anchor_timestamp_seconds", 35, high),
        ("BackupGuardSelfTestStale", "self_test_timestamp_seconds", 40, late),
    ):
        # Before 1970, because a test begins there: ten minutes later it is too old.
        done = 600 - days * 86_400
        cases.add(
            alert, f"fires an hour after {days} days", [series(metric, f"{done}x200")],
            ("30m", []), ("80m", fired), value=str(done),
        )  # fmt: skip
        cases.add(
            alert, "silent on never: the control says what was not set up",
            [series(metric, "0x200")], ("80m", []),
        )  # fmt: skip
        cases.add(
            alert, "silent when it was done again",
            [series(metric, f"{done}x5 60x200")], ("80m", []),
        )  # fmt: skip


def _of_programs(cases: Cases) -> None:
    alert = "BackupGuardProgramMissing"
    copy = {"application": "dpi", "engine": "mariadb", "origin": "observed"}

    def missing(values: str, repository: str) -> Series:
        return series("restore_test_program_missing", values, repository=repository, **copy)

    fired = [{**HERE, "application": "dpi", "engine": "mariadb", "severity": "high"}]
    cases.add(
        alert, "fires once for all copies, ends with a test that finds its program",
        [missing("0x4 1x20 0x20", "nas"), missing("0x4 1x20 0x20", "tape")],
        ("3m", []), ("10m", fired), ("40m", []),
    )  # fmt: skip
    cases.add(
        alert, "silent on a test that failed for another reason",
        [missing("0x40", "nas")], ("10m", []),
    )  # fmt: skip


def _of_repositories(cases: Cases) -> None:
    alert, unseen = "BackupGuardRepositoryUnavailable", "BackupGuardCopiesUnseen"

    def inventory(success: str, last: str = "60x240", repository: str = "nas") -> list[Series]:
        labels = {"probe": "inventory", "subject": f"repository/{repository}"}
        return [
            series("probe_success", success, **labels),
            series("probe_last_run_timestamp_seconds", last, **labels),
        ]

    subject = {"subject": "repository/nas", "repository": "nas"}
    cases.add(
        alert, "fires after an hour, ends when it is read again",
        inventory("1x4 0x100 1x30"),
        ("50m", []), ("70m", [{**HERE, **subject, "severity": "high"}]), ("110m", []),
    )  # fmt: skip
    cases.add(alert, "silent on half an hour", inventory("1x4 0x30 1x60"), ("60m", []))
    cases.add(alert, "silent before its first inventory", inventory("0x90", "0x90"), ("80m", []))
    helper = {**HERE, "application": "dpi", "severity": "none"}
    some, every = {**helper, "extent": "some"}, {**helper, "extent": "all"}
    one = [points("dpi", "nightly", "nas", "9x120")]
    two = [*one, points("dpi", "weekly", "tape", "9x120")]
    gone = inventory("0x120")
    cases.add(unseen, "says all of the only repository", [*one, *gone], ("50m", [some, every]))
    cases.add(unseen, "says some of one of two", [*two, *gone], ("30m", []), ("50m", [some]))
    cases.add(unseen, "silent while it is read", [*two, *inventory("1x120")], ("50m", []))


def _of_silence(cases: Cases) -> None:
    silent, absent, cycle = "BackupGuardSilent", "BackupGuardAbsent", "last_cycle_timestamp_seconds"
    high, critical = {**HERE, "severity": "high"}, {**HERE, "severity": "critical"}
    gone = [series(cycle, "0+60x4 stale _x400")]
    cases.add(
        silent, "fires after 15 minutes, is a page after three hours",
        gone, ("15m", []), ("25m", [high]), ("200m", [high, critical]),
    )  # fmt: skip
    cases.add(
        silent, "silent on ten minutes", [series(cycle, "0+60x4 _x10 900+60x30")], ("16m", [])
    )
    moved = series(cycle, "0+60x100", instance="new:9789")
    cases.add(
        silent, "silent where another daemon speaks for the site", [*gone, moved], ("60m", [])
    )
    nobody = {"severity": "high"}
    other = [{"series": 'up{job="other"}', "values": "1x60"}]
    cases.add(absent, "fires where none was ever seen", other, ("10m", []), ("20m", [nobody]))
    cases.add(absent, "silent where one went silent: that has an alert", gone, ("60m", []))


def _of_findings_gone(cases: Cases) -> None:
    alert = "BackupGuardControlAbsent"
    alive = series("last_cycle_timestamp_seconds", "0+60x100")

    def status(values: str, control: str = "JOB-01", subject: str = "job/dpi.nightly") -> Series:
        labels = {"care_domain": "D4", "criticality": "C1"}
        return series("control_status", values, control=control, subject=subject, **labels)

    fired = [{**HERE, "missing": "JOB-01", "severity": "high"}]
    stays = status("0x1600", "INV-01", "site")
    cases.add(
        alert, "fires on a control that is gone",
        [alive, stays, status("0x9 stale _x60")],
        ("20m", []), ("30m", fired),
    )  # fmt: skip
    cases.add(
        alert, "fires where there is no finding at all", [alive],
        ("20m", [{**HERE, "missing": "all", "severity": "high"}]),
    )  # fmt: skip
    cases.add(
        alert, "silent where one of a control's subjects is gone, and where the daemon is silent",
        [alive, stays, status("0x9 stale _x60"), status("0x60", subject="job/labo.hourly")],
        ("40m", []),
    )  # fmt: skip
    cases.add(
        alert, "silent while the daemon is: that has an alert",
        [series("last_cycle_timestamp_seconds", "0+60x9 stale _x60"), status("0x9 stale _x60")],
        ("40m", []),
    )  # fmt: skip


def _of_the_daemon(cases: Cases) -> None:
    stalled, dead = "BackupGuardStalled", "BackupGuardSchedulerDead"
    cycle = "last_cycle_timestamp_seconds"
    critical = [{**HERE, "severity": "critical"}]
    cases.add(
        stalled, "fires when the last cycle is 15 minutes old",
        [series(cycle, "0+60x9 600x60")], ("20m", []), ("40m", critical), value="30m 0s",
    )  # fmt: skip
    cases.add(stalled, "silent while it judges", [series(cycle, "0+60x60")], ("40m", []))

    def probes(last: str, paused: str = "0x400") -> list[Series]:
        inventory = {"probe": "inventory", "subject": "repository/nas"}
        drift = {"probe": "drift", "subject": "site"}
        return [
            series("probe_last_run_timestamp_seconds", last, **inventory),
            series("probe_last_run_timestamp_seconds", "0x400", **drift),
            series("probe_expected_interval_seconds", "900x400", **inventory),
            series("probe_expected_interval_seconds", "3600x400", **drift),
            series("paused_until_timestamp_seconds", paused),
            series(cycle, "0+60x400"),
        ]

    cases.add(
        dead, "fires when no probe ended for two intervals and an hour, though it judges",
        probes("60+60x9 600x400"), ("100m", []), ("130m", critical), value="2h 0m 0s",
    )  # fmt: skip
    cases.add(dead, "silent while one of them ends", probes("60+60x400"), ("150m", []))
    cases.add(
        dead, "silent during a pause", probes("600x400", "9000000000x400"), ("150m", []),
    )  # fmt: skip
    cases.add(dead, "silent before the first", probes("0x400"), ("150m", []))
    tick = "scheduler_last_tick_timestamp_seconds"
    cases.add(
        dead, "fires when the scheduler does not move, though the newest probe is young",
        [*probes("60+60x400"), series(tick, "0+60x9 600x60")],
        ("14m", []), ("30m", critical), value="20m 0s",
    )  # fmt: skip
    cases.add(
        dead, "silent while the scheduler moves",
        [*probes("60+60x400"), series(tick, "0+60x400")], ("150m", []),
    )  # fmt: skip
    paused, until = "BackupGuardPaused", "paused_until_timestamp_seconds"
    ended = series(until, "6000x1600", site="ended")
    cases.add(
        paused, "fires after a day, silent on a pause that ended",
        [series(until, "9000000000x1600"), ended],
        ("100m", []), ("1500m", [{**HERE, "severity": "warning"}]),
    )  # fmt: skip


def _of_exceptions(cases: Cases) -> None:
    """Add the days before an exception ends: one ends after 10140 minutes, the other after 600."""
    alert = "BackupGuardExceptionEnding"
    for metric, what in (("waivers", "waiver"), ("control_overrides", "override")):
        name = f"{metric}_next_end_timestamp_seconds"
        fired = [{**HERE, "what": what, "severity": "warning"}]
        cases.add(
            alert, f"fires a week before the end of a {what}, silent before that",
            [series(name, "608400x200")], ("50m", []), ("180m", fired), value="6d 22h 0m 0s",
        )  # fmt: skip
        cases.add(
            alert, f"is over with the {what}",
            [series(name, "36000x600 0x60")], ("500m", fired), ("640m", []), value="1h 40m 0s",
        )  # fmt: skip
        none = [series(f"{metric}_next_end_timestamp_seconds", "0x600")]
        cases.add(alert, f"silent where no {what} holds", none, ("600m", []))


def _of_gaps(cases: Cases) -> None:
    """Add what a gap in the scrapes does: nothing, unless it is long."""
    alert, subject = "BackupGuardImmutabilityMissing", "repository/nas"
    gap = finding(
        "IMM-01", subject, "2x9 stale _x13 2x20", "0+60x9 stale _x13 1440+60x20",
        "3x9 stale _x13 3x20",
    )  # fmt: skip
    gap[-1]["values"] = "0+60x9 stale _x13 1440+60x20"
    fired = [
        {**HERE, "subject": subject, "criticality": "C1", "repository": "nas"}
        | {"severity": "critical"}
    ]
    cases.add(
        alert, "goes on through a restart of the daemon",
        gap, ("9m", fired), ("15m", fired), ("22m", fired), ("30m", fired),
    )  # fmt: skip


def document() -> str:
    """Return the whole file."""
    cases = Cases()
    controls = {rule.name: rule.labels["control"] for rule in rules()}
    for alert, subject in SUBJECTS.items():
        _of_a_control(cases, alert, controls[alert], subject)
    for more in (
        _of_anomalies, _of_restore_tests, _of_a_storm, _of_the_evidence, _of_programs, _of_repositories,
        _of_silence, _of_findings_gone, _of_the_daemon, _of_exceptions, _of_gaps,
    ):  # fmt: skip
        more(cases)
    told = {
        "rule_files": ["backupguard.rules.yml"],
        "evaluation_interval": "2m",
        "tests": cases.tests,
    }

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    return _HEAD + yaml.dump(told, Dumper=Plain, sort_keys=False, allow_unicode=True, width=10_000)


if __name__ == "__main__":
    shipped(FILE).write_text(document(), encoding="utf-8")
    sys.stdout.write(f"{shipped(FILE)}\n")
