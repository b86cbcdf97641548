"""Metrics: parsed by Prometheus' own parsers, there from the first second, and right."""

from __future__ import annotations

import subprocess
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from backupguard.assess import Assessment
from backupguard.metrics import render
from backupguard.model import Closing, RunRequest, RunState, Verdict
from backupguard.settings.model import Recovery, RecoveryStep

from .conftest import START, Hospital

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(assessment: Assessment) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(render(assessment).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def value(assessment: Assessment, metric: str, **labels: str) -> float:
    """Return the one sample that carries these labels."""
    (only,) = [
        number
        for given, number in samples(assessment)[f"backupguard_{metric}"]
        if labels.items() <= given.items()
    ]
    return only


@pytest.fixture
def used(hospital: Hospital) -> Hospital:
    """Return a hospital in which everything has happened once."""
    hospital.list_points("nas", ("dpi.nightly", START), ("labo.nightly", START))
    hospital.tested()
    hospital.tested(verdict="failed", code="corrupt", level=0, data_loss_ms=None)
    hospital.verified(("b/1", "failed"), verdict="failed")
    hospital.record("pause.started", "site", {"until_at": None, "reason": "travaux"})
    hospital.pass_time(seconds=0.25)
    return hospital


def promtool(text: bytes) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", "check", "metrics"], input=text.decode(), text=True, capture_output=True
    )


def test_promtool_finds_nothing_to_say(hospital: Hospital, used: Hospital) -> None:
    for assessment in (hospital.assess(), used.assess()):
        checked = promtool(render(assessment))
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_promtool_would_have_said_it() -> None:
    assert promtool(b"# TYPE x_total gauge\nx_total 1\n").returncode != 0


def test_series_for_every_configured_subject_before_the_first_cycle(hospital: Hospital) -> None:
    found = samples(hospital.assess())
    copies = {("dpi", "nas"), ("dpi", "tape"), ("labo", "nas")}
    for metric in ("last_success_timestamp_seconds", "last_run_timestamp_seconds", "level"):
        given = found[f"backupguard_restore_test_{metric}"]
        assert {(labels["application"], labels["repository"]) for labels, _ in given} == copies
        assert {number for _, number in given} == {0}
    outcomes = found["backupguard_restore_tests_total"]
    assert len(outcomes) == len(copies) * 4
    jobs = found["backupguard_backup_last_success_timestamp_seconds"]
    assert [number for _, number in jobs] == [0, 0, 0]
    probes = found["backupguard_probe_success"]
    assert {(labels["probe"], labels["subject"]) for labels, _ in probes} == {
        (probe, f"repository/{name}")
        for probe in ("inventory", "integrity", "immutability")
        for name in ("nas", "tape")
    } | {("isolation", "site"), ("drift", "site")}
    statuses = found["backupguard_control_status"]
    assert {number for _, number in statuses} == {3, 4}
    assert len(found["backupguard_control_last_non_compliant_timestamp_seconds"]) == len(statuses)


def test_labels(used: Hospital) -> None:
    for metric, given in samples(used.assess()).items():
        for labels, _ in given:
            assert labels["site"] == 'CH de "Belle-Rive"', metric
            assert not {"job", "instance"} & set(labels), metric
    text = render(used.assess()).decode()
    assert text.count("# HELP ") == text.count("# TYPE ")
    assert 'site="CH de \\"Belle-Rive\\""' in text


def test_values(used: Hospital) -> None:
    assessment = used.assess()
    dpi = {"application": "dpi", "repository": "nas", "engine": "postgresql", "origin": "observed"}
    now, then = START.timestamp() + 0.25, START.timestamp()
    assert value(assessment, "findings_evaluated_timestamp_seconds") == now
    assert value(assessment, "last_cycle_timestamp_seconds") == now
    assert value(assessment, "restore_test_last_success_timestamp_seconds", **dpi) == then
    assert value(assessment, "restore_test_last_failure_timestamp_seconds", **dpi) == then
    assert value(assessment, "restore_test_level", **dpi) == 0
    assert value(assessment, "restore_test_duration_seconds", **dpi) == 2.5
    assert value(assessment, "restore_test_phase_duration_seconds", phase="load", **dpi) == 1.5
    assert value(assessment, "restore_test_data_loss_seconds", **dpi) == 7
    assert value(assessment, "restore_test_freshness_heuristic_seconds", **dpi) == 3600
    assert value(assessment, "restore_test_expected_interval_seconds", **dpi) == 31 * 86_400
    assert value(assessment, "restore_tests_total", outcome="passed", **dpi) == 1
    assert value(assessment, "restore_tests_total", outcome="failed", **dpi) == 1
    job = {"application": "dpi", "backup_job": "nightly"}
    assert value(assessment, "backup_last_success_timestamp_seconds", **job) == then
    assert value(assessment, "backup_expected_interval_seconds", **job) == 25 * 3600
    assert value(assessment, "backup_recovery_points", **job) == 1
    assert value(assessment, "backup_newest_point_bytes", **job) == 1000
    assert value(assessment, "backup_oldest_point_timestamp_seconds", **job) == then
    assert value(assessment, "backup_consecutive_failures", **job) == 0
    assert value(assessment, "application_rpo_target_seconds", application="dpi") == 86_400
    assert value(assessment, "application_rto_target_seconds", application="dpi") == 14_400
    nas = {"subject": "repository/nas"}
    assert value(assessment, "probe_success", probe="inventory", **nas) == 1
    assert value(assessment, "probe_success", probe="integrity", **nas) == 1
    status = {"control": "RST-01", "subject": "application/dpi", "criticality": "C1"}
    assert value(assessment, "control_status", care_domain="D4", **status) == 2
    assert value(assessment, "control_severity", **status) == 3
    assert value(assessment, "control_last_non_compliant_timestamp_seconds", **status) == now
    assert value(assessment, "paused_until_timestamp_seconds") == float("inf")
    assert value(assessment, "evidence_valid") == 1
    assert value(assessment, "evidence_records_total") == used.store.head()[0]


def test_a_non_compliance_that_cannot_be_measured_any_more_stays_open(hospital: Hospital) -> None:
    hospital.tested(verdict="failed", code="corrupt", level=0)
    hospital.assess()
    hospital.pass_time(hours=-5)
    assessment = hospital.assess()
    status = {"control": "RST-01", "subject": "application/dpi"}
    assert value(assessment, "control_status", **status) == 3
    last = value(assessment, "control_last_non_compliant_timestamp_seconds", **status)
    assert last == value(assessment, "findings_evaluated_timestamp_seconds")
    assert value(assessment, "control_severity", **status) == 3


def test_commissioning_softens_severity_only(hospital: Hospital) -> None:
    site = hospital.settings.site.model_copy(
        update={"commissioning_until": (START + timedelta(days=30)).date()}
    )
    hospital.settings = hospital.settings.model_copy(update={"site": site})
    hospital.assessor = hospital.new_assessor()
    hospital.tested(verdict="failed", code="corrupt", level=0)
    assessment = hospital.assess()
    status = {"control": "RST-01", "subject": "application/dpi"}
    assert value(assessment, "control_status", **status) == 2
    assert value(assessment, "control_severity", **status) == 1
    finding = assessment.finding("RST-01", "application/dpi")
    assert finding is not None
    assert finding.severity == "critical"
    hospital.pass_time(days=31)
    assert value(hospital.assess(), "control_severity", **status) == 3


def test_an_engine_is_named_once_it_is_known(hospital: Hospital) -> None:
    before = samples(hospital.assess())["backupguard_restore_test_level"]
    assert {labels["engine"] for labels, _ in before} == {"unknown"}
    hospital.tested()
    after = samples(hospital.assess())["backupguard_restore_test_level"]
    named = {
        labels["repository"]: labels["engine"]
        for labels, _ in after
        if labels["application"] == "dpi"
    }
    assert named == {"nas": "postgresql", "tape": "postgresql"}


def test_a_large_estate_is_rendered_quickly(hospital: Hospital) -> None:
    import time
    from dataclasses import replace

    assessment = hospital.assess()
    finding = assessment.findings[0]
    many = tuple(replace(finding, subject=f"application/a{n}") for n in range(20_000))
    large = replace(
        assessment,
        findings=many,
        criticalities=dict.fromkeys((f.subject for f in many), assessment.criticalities["site"]),
    )
    render(large)  # label strings are made once
    began = time.perf_counter()
    text = render(large)
    assert text.count(b"\n") > 60_000
    assert time.perf_counter() - began < 5


def test_probes_of_the_site_are_known_by_their_last_runs(hospital: Hospital) -> None:
    """One that finds nothing new leaves no fact of its own, and has run all the same."""
    store = hospital.store
    before = hospital.assess()
    assert value(before, "probe_success", probe="drift", subject="site") == 0
    assert value(before, "probe_last_run_timestamp_seconds", probe="drift", subject="site") == 0
    wanted = RunRequest(
        task="drift",
        subject="site",
        due_at=hospital.now,
        exclusive="drift",
        resource="probe",
        requested_by="schedule",
    )
    run = store.enqueue(wanted)
    assert store.start_run(run.id, "srv1")
    hospital.pass_time(seconds=3)
    store.append(
        [],
        run=run.id,
        closing=Closing(
            run=run.id, state=RunState.FINISHED, verdict=Verdict.COULD_NOT_VERIFY, code="permission"
        ),
    )
    after = hospital.assess()
    site = {"probe": "drift", "subject": "site"}
    assert value(after, "probe_success", **site) == 0
    assert value(after, "probe_duration_seconds", **site) == 3
    assert value(after, "probe_expected_interval_seconds", **site) == 900
    assert value(after, "probe_last_run_timestamp_seconds", **site) == hospital.now.timestamp()


def test_a_forecast_is_there_only_where_one_can_be_made(hospital: Hospital, used: Hospital) -> None:
    assert "backupguard_recovery_forecast_seconds" not in samples(used.assess())
    plan = hospital.assessor._settings  # the same records, judged with declared steps
    owner = plan.applications["dpi"]
    step = RecoveryStep(name="serveur", duration=timedelta(minutes=90))
    declared = owner.model_copy(update={"recovery": Recovery(steps=(step,))})
    hospital.settings = plan.model_copy(
        update={"applications": {**plan.applications, "dpi": declared}}
    )
    hospital.assessor = hospital.new_assessor()
    # 90 minutes; a load of 1.5 s, with durable writes and of a thousand times as much
    assert value(hospital.assess(), "recovery_forecast_seconds", application="dpi") == 7875
