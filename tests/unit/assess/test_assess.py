"""Assess: a finding for everything from the first second, changes recorded once, history kept."""

from __future__ import annotations

import json
import sqlite3
import stat
from datetime import timedelta

import pytest
import structlog

from backupguard.assess import is_open
from backupguard.assess.history import History
from backupguard.assess.published import STALE_AFTER
from backupguard.assess.views import Views
from backupguard.controls import BUILT
from backupguard.model import (
    Closing,
    Observation,
    Origin,
    RunRequest,
    RunState,
    Scope,
    Status,
    Verdict,
    to_us,
)
from backupguard.settings import Settings
from backupguard.settings.model import Select

from .conftest import START, Hospital

NIGHT = START - timedelta(hours=15)


def changes(hospital: Hospital) -> list[tuple[str, str, str | None, str]]:
    return [
        (
            fact.observation.data["control"],
            fact.observation.subject,
            fact.observation.data["before"],
            fact.observation.data["after"],
        )
        for fact in hospital.store.facts(kinds=("finding.changed",))
    ]


def test_every_configured_subject_has_its_findings_from_the_first_second(
    hospital: Hospital,
) -> None:
    findings = hospital.assess().findings
    judged = {(f.control, f.subject) for f in findings if f.status is not Status.NOT_APPLICABLE}
    configured = {
        Scope.APPLICATION: ("application/dpi", "application/labo"),
        Scope.JOB: ("job/dpi.nightly", "job/dpi.weekly", "job/labo.nightly"),
        Scope.REPOSITORY: ("repository/nas", "repository/tape"),
        Scope.SITE: ("site",),
    }
    expected = {(c.id, subject) for c in BUILT.values() for subject in configured[c.scope]}
    # Here nothing leaves the site, and nothing claims to be immutable.
    assert judged == {one for one in expected if one[0] not in {"CHF-01", "IMM-01"}}
    assert len(findings) == len(expected) + 20 - len(BUILT)
    assert not [f for f in findings if f.status is Status.COMPLIANT]


def test_changes_are_recorded_once_and_survive_a_restart(hospital: Hospital) -> None:
    hospital.assess()
    first = changes(hospital)
    assert len(first) == len(hospital.store.findings())
    hospital.pass_time(minutes=5)
    hospital.assess()
    hospital.assessor = hospital.new_assessor()
    hospital.assess()
    assert changes(hospital) == first
    hospital.tested()
    with structlog.testing.capture_logs() as logs:
        hospital.assess()
    new = [change for change in changes(hospital) if change not in first]
    assert ("RST-01", "application/dpi", "not_measurable", "compliant") in new
    assert {log["event"] for log in logs} == {"finding.changed"}
    assert {(log["control"], log["log_level"]) for log in logs} >= {("RST-01", "info")}


def test_a_failure_is_a_warning_in_the_log(hospital: Hospital) -> None:
    hospital.assess()
    hospital.tested(verdict="failed", code="corrupt", level=0)
    with structlog.testing.capture_logs() as logs:
        hospital.assess()
    (event,) = [log for log in logs if log["control"] == "RST-01"]
    assert event["log_level"] == "warning"
    assert (event["before"], event["after"]) == ("not_measurable", "non_compliant")


def test_what_the_restore_test_and_the_integrity_probe_find_shows_in_both(
    hospital: Hospital,
) -> None:
    hospital.tested(verdict="failed", code="missing_object", level=0)
    assert hospital.finding("RST-01", "application/dpi").status is Status.NON_COMPLIANT
    assert hospital.finding("INT-01", "repository/nas").status is Status.NOT_MEASURABLE
    hospital.verified(("bucket/1", "failed"), verdict="failed")
    damaged = hospital.finding("INT-01", "repository/nas")
    assert (damaged.status, damaged.severity) == ("non_compliant", "critical")
    # reading other units proves nothing about the damaged one
    hospital.pass_time(hours=1)
    hospital.verified(("bucket/2", "passed"))
    assert hospital.finding("INT-01", "repository/nas").status is Status.NON_COMPLIANT
    hospital.verified(("bucket/1", "passed"), complete=True)
    assert hospital.finding("INT-01", "repository/nas").status is Status.COMPLIANT


def test_a_unit_that_is_gone_is_forgotten_once_everything_was_read_again(
    hospital: Hospital,
) -> None:
    hospital.verified(("old-file", "failed"), verdict="failed")
    assert hospital.finding("INT-01", "repository/nas").status is Status.NON_COMPLIANT
    hospital.pass_time(days=1)
    hospital.verified(("new-file", "passed"), complete=True)
    assert hospital.finding("INT-01", "repository/nas").status is Status.COMPLIANT


def test_points_decide_jobs_and_rpo(hospital: Hospital) -> None:
    hospital.list_points("nas", ("dpi.nightly", NIGHT), ("labo.nightly", NIGHT))
    hospital.list_points("tape", ("dpi.weekly", NIGHT - timedelta(days=5)))
    assert hospital.finding("JOB-01", "job/dpi.nightly").status is Status.COMPLIANT
    assert hospital.finding("JOB-01", "job/dpi.weekly").status is Status.COMPLIANT
    assert hospital.finding("PDM-01", "application/dpi").status is Status.COMPLIANT
    hospital.pass_time(hours=20)
    hospital.list_points("nas", ("dpi.nightly", NIGHT), ("labo.nightly", NIGHT))
    hospital.inspect("tape")
    late = hospital.finding("JOB-01", "job/dpi.nightly")
    assert (late.status, late.reason.id) == ("non_compliant", "reason.JOB-01.missed")
    assert hospital.finding("PDM-01", "application/dpi").status is Status.NON_COMPLIANT
    assert hospital.finding("PDM-01", "application/labo").status is Status.COMPLIANT
    hospital.list_points(
        "nas", ("dpi.nightly", NIGHT), ("dpi.nightly", hospital.now), ("labo.nightly", NIGHT)
    )
    assert hospital.finding("JOB-01", "job/dpi.nightly").status is Status.COMPLIANT
    exposed = hospital.finding("PDM-01", "application/dpi")  # the month remembers the late night
    assert (exposed.status, exposed.reason.id) == ("warning", "reason.PDM-01.exposed")
    assert exposed.reason.values["exposure_ms"] == 35 * 3_600_000


def test_a_repository_that_is_gone_is_lost_and_not_called_a_missing_backup(
    hospital: Hospital,
) -> None:
    hospital.list_points("nas", ("dpi.nightly", NIGHT), ("labo.nightly", NIGHT))
    hospital.assess()
    hospital.pass_time(hours=14)
    hospital.inspect("nas", "timeout")
    lost = hospital.finding("JOB-01", "job/dpi.nightly")
    assert (lost.status, lost.cause) == ("not_measurable", "lost")
    hospital.pass_time(hours=24)
    assert hospital.finding("JOB-01", "job/dpi.nightly").status is Status.WARNING
    hospital.pass_time(hours=48)
    counted = hospital.finding("JOB-01", "job/dpi.nightly")
    assert (counted.status, counted.cause) == ("non_compliant", "lost")


def test_future_points_are_set_aside(hospital: Hospital) -> None:
    hospital.list_points(
        "nas", ("dpi.nightly", START + timedelta(days=1500)), ("dpi.nightly", NIGHT)
    )
    future = hospital.finding("JOB-01", "job/dpi.nightly")
    assert (future.status, future.reason.id) == ("warning", "reason.JOB-01.future")
    (nightly,) = [j for j in hospital.assess().jobs if (j.application, j.job) == ("dpi", "nightly")]
    assert nightly.restorable_at == to_us(NIGHT)


def test_a_point_that_its_tool_calls_failed_is_no_success(hospital: Hospital) -> None:
    hospital.list_points("nas", ("dpi.nightly", NIGHT), state="failed")
    assert hospital.finding("JOB-01", "job/dpi.nightly").reason.id == "reason.JOB-01.failed"
    assert hospital.finding("PDM-01", "application/labo").reason.id == "reason.PDM-01.no_point"


def test_a_clock_behind_the_records_measures_nothing(hospital: Hospital) -> None:
    hospital.tested()
    hospital.pass_time(days=-1)
    behind = hospital.finding("RST-01", "application/dpi")
    assert (behind.status, behind.reason.id) == ("not_measurable", "reason.clock_behind")


def test_a_non_compliance_ends_only_when_it_is_seen_to_have_ended(hospital: Hospital) -> None:
    hospital.tested(verdict="failed", code="corrupt", level=0)
    failed = hospital.finding("RST-01", "application/dpi")
    assert is_open(failed)
    hospital.pass_time(days=-1)  # the clock is set back: nothing can be measured
    blind = hospital.finding("RST-01", "application/dpi")
    assert blind.status is Status.NOT_MEASURABLE
    assert is_open(blind)
    assert blind.severity == failed.severity
    hospital.assessor = hospital.new_assessor()  # and a restart forgets none of it
    assert is_open(hospital.finding("RST-01", "application/dpi"))
    hospital.pass_time(days=1, hours=1)
    hospital.tested()
    passed = hospital.finding("RST-01", "application/dpi")
    assert not is_open(passed)
    assert passed.last_non_compliant is not None
    hospital.pass_time(minutes=1)
    hospital.tested(verdict="could_not_verify", code="timeout", level=0)
    unverified = hospital.finding("RST-01", "application/dpi")
    assert unverified.status is Status.WARNING
    assert not is_open(unverified)


def test_since_is_kept_while_the_status_stays(hospital: Hospital) -> None:
    hospital.tested(verdict="failed", code="corrupt", level=0)
    since = hospital.finding("RST-01", "application/dpi").since
    hospital.pass_time(days=1)
    hospital.tested(verdict="failed", code="truncated", level=0)
    again = hospital.finding("RST-01", "application/dpi")
    assert again.since == since
    assert again.reason.values["code"] == "@code.truncated"


def test_only_subjects_with_new_facts_are_judged_when_not_everything_is(
    hospital: Hospital,
) -> None:
    hospital.assess()
    hospital.assess(full=False)
    hospital.pass_time(days=40)  # everything is overdue, and only dpi has news
    hospital.tested("dpi")
    assessment = hospital.assess(full=False)
    dpi = assessment.finding("RST-01", "application/dpi")
    labo = assessment.finding("RST-01", "application/labo")
    assert dpi is not None
    assert labo is not None
    assert dpi.status is Status.COMPLIANT
    assert labo.since == START
    full = hospital.assess().finding("INT-01", "repository/nas")
    assert full is not None
    assert full.status is Status.NON_COMPLIANT


def test_a_failing_application_does_not_vanish_with_its_lines(hospital: Hospital) -> None:
    hospital.tested("dpi", verdict="failed", code="corrupt", level=0)
    hospital.assess()
    left = {"labo": hospital.settings.applications["labo"]}
    hospital.settings = hospital.settings.model_copy(update={"applications": left})
    hospital.assessor = hospital.new_assessor()
    removed = hospital.finding("RST-01", "application/dpi")
    assert (removed.status, removed.reason.id) == ("warning", "reason.removed")
    assert hospital.assess().finding("RST-03", "application/dpi") is None
    hospital.pass_time(days=300)
    assert hospital.finding("RST-01", "application/dpi").status is Status.WARNING
    count = len(changes(hospital))
    hospital.assess()
    assert len(changes(hospital)) == count
    hospital.pass_time(days=100)
    assert hospital.assess().finding("RST-01", "application/dpi") is None


def test_a_control_that_raises_silences_no_other(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backupguard.controls.rst_01 import PeriodicRestoreTest

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(PeriodicRestoreTest, "judge", broken)
    with structlog.testing.capture_logs() as logs:
        bug = hospital.finding("RST-01", "application/dpi")
    assert (bug.status, bug.reason.id) == ("not_measurable", "reason.bug")
    assert "control.bug" in {log["event"] for log in logs}
    assert hospital.finding("RST-02", "application/dpi").reason.id == "reason.RST-02.never"


def test_while_another_process_records_nothing_is_recorded_twice(hospital: Hospital) -> None:
    from backupguard.store import open_store

    other = open_store(hospital.settings.state_directory)
    with other.lock("assess"):
        assert hospital.assess().findings
        assert changes(hospital) == []
    other.close()
    hospital.assess()
    assert changes(hospital)


def test_judging_alone_writes_nothing(hospital: Hospital) -> None:
    head = hospital.store.head()
    hospital.assessor.judge(hospital.now)
    assert hospital.store.head() == head
    assert not list(hospital.settings.state_directory.rglob("status.json"))


def test_status_json_lies_in_the_runtime_directory_when_there_is_one(hospital: Hospital) -> None:
    hospital.assess()
    state = hospital.settings.state_directory / "status.json"
    assert stat.S_IMODE(state.stat().st_mode) & ~0o640 == 0
    document = json.loads(state.read_text(encoding="utf-8"))
    assert document["judged_at"] == to_us(START)
    assert document["stale_after"] == to_us(START + STALE_AFTER)
    assert {f["control"] for f in document["findings"]} >= set(BUILT)
    assert document["copies"] == {"dpi": ["nas", "tape"], "labo": ["nas"]}
    hospital.settings.runtime_directory.mkdir()
    hospital.assess()
    assert (hospital.settings.runtime_directory / "status.json").exists()
    assert not list(hospital.settings.state_directory.glob(".status*"))


def test_a_status_that_cannot_be_written_is_logged(hospital: Hospital) -> None:
    hospital.settings.runtime_directory.mkdir(mode=0o500)
    with structlog.testing.capture_logs() as logs:
        hospital.assess()
    assert "status.unwritable" in {log["event"] for log in logs}


def test_a_broken_chain_is_seen_and_a_whole_one_is_silent(hospital: Hospital) -> None:
    import sqlite3

    hospital.assess()
    whole = hospital.finding("PRV-01", "site")
    assert whole.reason.id == "reason.PRV-01.no_anchor"
    database = hospital.settings.state_directory / "store.sqlite3"
    with sqlite3.connect(database) as connection:
        body = connection.execute("SELECT body FROM facts WHERE seq = 2").fetchone()[0]
        changed = bytes(body).replace(b"not_", b"xot_", 1)
        connection.execute("UPDATE facts SET body = ? WHERE seq = 2", (changed,))
    connection.close()
    hospital.pass_time(hours=25)
    with structlog.testing.capture_logs():
        broken = hospital.finding("PRV-01", "site")
    assert (broken.status, broken.severity) == ("non_compliant", "critical")
    assert broken.reason.values["seq"] == 2


def test_the_report_of_last_month_is_due(hospital: Hospital) -> None:
    hospital.assess()
    hospital.pass_time(days=30)  # 1 July
    assert hospital.finding("PRV-01", "site").reason.id == "reason.PRV-01.no_anchor"
    hospital.pass_time(days=5)
    missing = hospital.finding("PRV-01", "site")
    assert (missing.reason.id, missing.reason.values) == (
        "reason.PRV-01.no_report",
        {"month": "2026-06"},
    )
    hospital.record(
        "report.issued",
        "site",
        {"month": "2026-06", "format": "html", "language": "fr", "sha256": "00", "bytes": 1},
    )
    assert hospital.finding("PRV-01", "site").reason.id == "reason.PRV-01.no_anchor"


def inventoried(hospital: Hospital, *repositories: str) -> None:
    """Let an inventory pass that found nothing new, and so left no fact but its end."""
    request = RunRequest(
        task="inventory",
        subject="site",
        due_at=None,
        exclusive="inventory",
        resource="inventory",
        requested_by="test",
        options={"repositories": list(repositories)} if repositories else {},
    )
    run = hospital.store.enqueue(request)
    assert hospital.store.start_run(run.id, "here")
    closing = Closing(run=run.id, state=RunState.FINISHED, verdict=Verdict.PASSED, code=None)
    hospital.store.append([], run=run.id, closing=closing)


def test_an_inventory_of_one_repository_says_nothing_of_another(hospital: Hospital) -> None:
    hospital.list_points("tape", ("dpi.weekly", hospital.now))
    hospital.assess()
    listed_at = to_us(hospital.now)
    hospital.pass_time(hours=1)
    inventoried(hospital, "nas")
    assessment = hospital.assess()
    runs = {(probe.probe, probe.subject): probe.last_run_at for probe in assessment.probes}
    assert runs["inventory", "repository/tape"] == listed_at
    hospital.pass_time(days=9)
    hospital.inspect("tape", code="timeout")
    inventoried(hospital, "nas")
    # Nobody has seen the tape since it was due: that is no late backup.
    assert hospital.finding("JOB-01", "job/dpi.weekly").reason.id == "reason.unseen"
    inventoried(hospital)
    assert hospital.finding("JOB-01", "job/dpi.weekly").reason.id == "reason.JOB-01.late"


def test_a_damaged_listing_is_no_successful_probe(hospital: Hospital) -> None:
    def success() -> bool:
        probes = hospital.assess().probes
        return next(p.success for p in probes if (p.probe, p.subject) == INVENTORY_OF_NAS)

    hospital.list_points("nas", ("dpi.nightly", hospital.now))
    assert success()
    hospital.pass_time(minutes=15)
    hospital.inspect("nas", code="corrupt", reachable=True)
    assert not success()


INVENTORY_OF_NAS = ("inventory", "repository/nas")


def test_seals_that_were_taken_away_are_missed(hospital: Hospital) -> None:
    for _ in range(25):
        inventoried(hospital)
        hospital.record("inventory.closed", "site", CLOSED)
    hospital.store.seal()
    assert hospital.assess().evidence.valid is True
    with sqlite3.connect(hospital.settings.state_directory / "store.sqlite3") as connection:
        connection.execute("DELETE FROM seals")
    hospital.pass_time(days=1)
    assert hospital.assess().evidence.valid is False
    assert hospital.finding("PRV-01", "site").reason.id == "reason.PRV-01.broken"


CLOSED = {
    "task": "inventory",
    "verdict": "passed",
    "code": None,
    "state": "finished",
    "started_at": None,
    "ended_at": 1,
    "attempt": 1,
    "due_at": None,
    "requested_by": "test",
    "tools": {},
}


def test_a_point_that_failed_is_told_of_until_it_passes(hospital: Hospital) -> None:
    hospital.tested(verdict="failed", code="corrupt", level=0, point="old")
    hospital.pass_time(hours=1)
    hospital.tested(point="new")
    told = hospital.finding("RST-01", "application/dpi")
    assert (told.status, told.reason.id) == (Status.WARNING, "reason.RST-01.point_failed")
    assert (told.reason.values["point"], told.reason.values["code"]) == ("old", "@code.corrupt")
    # a restart forgets nothing
    hospital.assessor = hospital.new_assessor()
    assert hospital.finding("RST-01", "application/dpi").status is Status.WARNING
    hospital.tested(verdict="could_not_verify", code="timeout", level=0, point="old")
    hospital.tested(point="old")
    assert hospital.finding("RST-01", "application/dpi").status is Status.COMPLIANT


def test_a_point_that_failed_is_forgotten_once_it_is_gone(hospital: Hospital) -> None:
    old, new = hospital.now - timedelta(days=2), hospital.now
    name = f"dpi.nightly/{old.isoformat()}"
    hospital.list_points("nas", ("dpi.nightly", old), ("dpi.nightly", new))
    hospital.tested(verdict="failed", code="corrupt", level=0, point=name)
    hospital.tested(point=f"dpi.nightly/{new.isoformat()}")
    assert hospital.finding("RST-01", "application/dpi").status is Status.WARNING
    hospital.list_points("nas", ("dpi.nightly", new))
    assert hospital.finding("RST-01", "application/dpi").status is Status.COMPLIANT


def test_a_point_that_failed_is_told_of_for_no_longer_than_set(hospital: Hospital) -> None:
    hospital.tested(verdict="failed", code="corrupt", level=0, point="old")
    for _ in range(4):
        hospital.pass_time(days=30)
        hospital.tested(point="new")
    assert hospital.finding("RST-01", "application/dpi").status is Status.COMPLIANT


def test_only_jobs_that_select_the_same_are_peers(hospital: Hospital) -> None:
    def peers(settings: Settings) -> int:
        history = History(hospital.store)
        view = Views(hospital.store, settings, history, START).of("job/dpi.nightly")
        return len(view.known["peers"])

    assert peers(hospital.settings) == 1
    owner = hospital.settings.applications["dpi"]
    all_of_it = {
        name: job.model_copy(update={"select": Select()}) for name, job in owner.backups.items()
    }
    dpi = owner.model_copy(update={"backups": all_of_it})
    applications = {**hospital.settings.applications, "dpi": dpi}
    assert peers(hospital.settings.model_copy(update={"applications": applications})) == 0


def test_an_anchor_is_known_by_its_place_unless_somebody_only_told_of_it(
    hospital: Hospital,
) -> None:
    data = {"place": "soc", "seq": 1, "hash": "00" * 32, "receipt": None}
    hospital.record("evidence.anchored", "site", data)
    told = Observation(
        kind="evidence.anchored",
        subject="site",
        origin=Origin.ATTESTED,
        observed_at=START,
        data={**data, "place": "safe"},
        key="told",
    )
    hospital.store.append([told])
    history = History(hospital.store)
    history.update()
    view = Views(hospital.store, hospital.settings, history, START).of("site")
    assert [kind for kind in view.latest if kind.startswith("evidence.anchored/")] == [
        "evidence.anchored/soc"
    ]
    assert view.settings["anchors"] == []
    assert hospital.finding("PRV-01", "site").reason.id == "reason.PRV-01.by_hand"
