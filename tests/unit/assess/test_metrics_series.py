"""Series: how many there are, what they are called, and that they outlive restarts and clocks."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from backupguard.assess import Assessment
from backupguard.assess.picture import OverridePicture, WaiverPicture, WaiverState
from backupguard.metrics import living, reference, render
from backupguard.metrics.families import FAMILIES, LIVE, RESERVED, SITE, Family
from backupguard.model import Observation, to_us
from backupguard.settings import load

from .conftest import CONFIGURATION, START, Hospital

ROOT = Path(__file__).parents[3]
Series = frozenset[tuple[str, tuple[tuple[str, str], ...]]]

MORE = """
[isolation]
witness = "127.0.0.1:9"
[isolation.targets.vault]
hosts = ["vault.example"]
ports = [22]
repositories = ["nas"]
[isolation.vantages.ward]
zone = "soins"
witness = "127.0.0.1:9"
key.file = "ward.key"
[media.disk-a]
kind = "removable"
filesystem-uuid = "1b2c-3d4e"
mount = "HERE/disk"
"""


def series(text: bytes) -> Series:
    return frozenset(
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    )


def value(assessment: Assessment, name: str, **labels: str) -> float:
    (only,) = [
        sample.value
        for family in text_string_to_metric_families(render(assessment).decode())
        for sample in family.samples
        if sample.name == f"backupguard_{name}" and labels.items() <= sample.labels.items()
    ]
    return only


@pytest.fixture
def whole(tmp_path: Path) -> Any:
    """Return a hospital that has everything a metric tells of."""
    for name in ("nas", "tape", "disk"):
        (tmp_path / name).mkdir()
    (tmp_path / "state").mkdir(mode=0o700)
    file = tmp_path / "backupguard.toml"
    text = CONFIGURATION.replace(
        "[repositories.tape]", '[repositories.tape]\nmedium-kind = "tape"'
    ).replace('name = "Dossier patient"', 'name = "Dossier \\"patient\\"\\n\\\\ 🏥"')
    text = text.replace('name = "CH de \\"Belle-Rive\\""', 'name = "CH \\"A\\"\\n\\\\ 🏥"')
    file.write_text((text + MORE).replace("HERE", str(tmp_path)), encoding="utf-8")
    made = Hospital(load(file, environ={}, check_secrets=False))
    yield made
    made.store.close()


def looked(hospital: Hospital, outcome: str, vantage: str = "ward") -> None:
    row = {
        "target": "vault", "name": "vault.example", "address": "192.0.2.1", "family": "ipv4",
        "port": 22, "outcome": outcome, "announced": False,
    }  # fmt: skip
    found = {
        "vantage": vantage, "zone": "soins", "witness": True, "families": ["ipv4"],
        "code": None, "rows": [row],
        "began_at": to_us(hospital.now), "ended_at": to_us(hospital.now),
    }  # fmt: skip
    hospital.record("isolation.seen", f"vantage/{vantage}", found)


def everything(hospital: Hospital) -> Assessment:
    """Let everything happen once that a metric tells of."""
    times = (START - timedelta(days=1), START)
    jobs = ("dpi.nightly", "labo.nightly")
    hospital.list_points("nas", *[(job, at) for job in jobs for at in times])
    hospital.tested(canary_at=to_us(START))
    hospital.tested(verdict="failed", code="empty", level=0, point="q")
    looked(hospital, "refused")
    return hospital.assess()


# ----------------------------------------------------------------------------------- the reference


def test_the_reference_page_is_the_table_as_it_is() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert page == reference.reference(), "run script/reference"


def test_the_table_keeps_its_own_rules() -> None:
    names = Counter(family.name for family in FAMILIES)
    assert set(names.values()) == {1}
    for family in FAMILIES:
        assert not {SITE, *RESERVED} & set(family.labels), family.name
        assert (family.kind == "counter") is family.name.endswith("_total"), family.name
        assert (family.unit == "timestamp") is family.name.endswith("_timestamp_seconds")
        assert family.unit != "seconds" or family.name.endswith("_seconds")
        assert family.text.endswith(".")


def rendered(text: bytes) -> dict[str, set[tuple[str, ...]]]:
    """Return the labels that the series of each family have."""
    return {
        sample.name: {tuple(sample.labels)}
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


#: Told of a site that has more than a directory: shown in tests of their own.
ELSEWHERE = {
    "self_test_noticed", "recovery_forecast_seconds", "backup_worst_exposure_seconds",
    "offline_copy_timestamp_seconds", "offline_medium_connected", "probe_duration_seconds",
    "immutability_locked_until_timestamp_seconds",
}  # fmt: skip


def test_what_is_rendered_is_in_the_table_with_its_labels(whole: Hospital) -> None:
    figures = {family.name: 1.0 for family in FAMILIES if family.part == LIVE}
    found = rendered(render(everything(whole)) + living.render("CH", figures))
    table = {family.full: family for family in FAMILIES}
    for name, labels in found.items():
        if name.startswith(("process_", "python_")):
            assert all(SITE in one for one in labels), name
            continue
        family: Family = table.pop(name)
        assert labels == {(SITE, *family.labels)}, name
    assert {family.name for family in table.values()} <= ELSEWHERE


def test_a_family_or_a_label_outside_the_table_cannot_be_rendered() -> None:
    from backupguard.metrics.page import Page

    with pytest.raises(KeyError):
        Page("CH").one("invented", "1")
    with pytest.raises(ValueError, match="zip"):
        Page("CH").one("waivers", "1")


# ------------------------------------------------------------------------------------- cardinality


def test_ten_thousand_refreshes_add_no_series(whole: Hospital) -> None:
    """Every one brings other points, times, messages, sizes and outcomes."""
    everything(whole)
    looked(whole, "open", "self")
    before = series(render(whole.assess()))
    refreshes, batch = 10_000, 1000
    for first in range(0, refreshes, batch):
        whole.pass_time(minutes=batch)
        whole.store.append([told(whole, number) for number in range(first, first + batch)])
        whole.list_points("nas", ("dpi.nightly", whole.now), ("labo.nightly", whole.now))
        after = series(render(whole.assess()))
        assert after == before
    outcomes = value(
        whole.assess(), "restore_tests_total", application="dpi", repository="nas", outcome="passed"
    )
    assert outcomes > refreshes / 5


def told(hospital: Hospital, number: int) -> Observation:
    """Return what one refresh, or one test beside it, leaves."""
    if number % 2:
        kind, subject, verdict = "restore-test.result", "application/dpi", number % 4 == 1
        data: dict[str, Any] = {
            "application": "dpi", "engine": "postgresql", "repository": "nas",
            "point": f"point-{number}", "point_at": to_us(hospital.now) - number,
            "verdict": "passed" if verdict else "could_not_verify",
            "code": None if verdict else "timeout", "level": number % 4,
            "phases": [{"phase": "load", "verdict": "passed", "duration_ms": number, "code": None}],
            "checks": [], "checks_configured": 1, "baseline_accepted": True, "bytes": number,
            "duration_ms": number, "data_loss_ms": number, "target_at": None, "fingerprint": None,
            "tools": {"psql": str(number)},
            "freshness_heuristic_at": to_us(hospital.now) - number, "canary_at": number,
        }  # fmt: skip
    else:
        kind, subject = "repository.inspected", "repository/nas"
        data = {
            "reachable": number % 3 > 0, "code": None if number % 3 else "timeout",
            "type": "directory", "tool": f"tool-{number}", "tool_version": str(number),
            "repository_id": f"id-{number}", "format_version": str(number), "encrypted": None,
            "locks": [], "device": None,
        }  # fmt: skip
    key = f"refresh/{number}"
    return Observation(kind=kind, subject=subject, observed_at=hospital.now, data=data, key=key)


def test_series_grow_with_jobs_and_findings_and_nothing_else(tmp_path: Path) -> None:
    counted = {}
    for jobs in (2, 4, 8):
        place = tmp_path / str(jobs)
        (place / "nas").mkdir(parents=True)
        (place / "state").mkdir(mode=0o700)
        lines = [CONFIGURATION.split("[repositories.tape]")[0].replace("HERE", str(place))]
        lines += [
            f'[applications.a{n}]\nname = "A{n}"\ncriticality = "C2"\n'
            f'[applications.a{n}.backups.nightly]\nrepository = "nas"\n'
            'select.pattern = "x-%Y%m%d.dump"\nevery = "24h"\n'
            for n in range(jobs)
        ]
        (place / "backupguard.toml").write_text("".join(lines), encoding="utf-8")
        hospital = Hospital(load(place / "backupguard.toml", environ={}))
        counted[jobs] = len(series(render(hospital.assess())))
        hospital.store.close()
    assert counted[8] - counted[4] == 2 * (counted[4] - counted[2])


# ------------------------------------------------------------------------------- what must survive


def test_values_of_labels_come_back_as_they_were(whole: Hospital) -> None:
    for _, labels in series(render(everything(whole)) + living.render('"\n\\🏥', {})):
        assert dict(labels)[SITE] in ('CH "A"\n\\ 🏥', '"\n\\🏥')


def test_a_restart_with_everything_unreachable_keeps_what_was_known(whole: Hospital) -> None:
    """An alert must not end because nobody can look any more."""
    everything(whole)
    whole.pass_time(minutes=5)
    before = whole.assess()
    failed = {"control": "RST-01", "subject": "application/dpi"}
    assert value(before, "control_status", **failed) == 2
    for name in ("nas", "tape", "disk"):
        shutil.rmtree(whole.settings.state_directory.parent / name)
    whole.inspect("nas", "unmounted", reachable=False)
    whole.assessor = whole.new_assessor()  # a new daemon, from the store alone
    after = whole.assess()
    assert series(render(after)) == series(render(before))
    assert value(after, "control_status", **failed) == 2
    for metric in ("control_severity", "control_last_non_compliant_timestamp_seconds"):
        assert value(after, metric, **failed) >= value(before, metric, **failed)
    job = {"backup_job": "nightly", "application": "dpi"}
    for metric in ("backup_last_success_timestamp_seconds", "backup_recovery_points"):
        assert value(after, metric, **job) == value(before, metric, **job) > 0
    assert value(after, "probe_success", probe="inventory", subject="repository/nas") == 0


@pytest.mark.parametrize("step", [-6 * 3600, -40 * 86_400, 6 * 3600], ids=str)
def test_a_step_of_the_clock_takes_no_series_away_and_ends_no_alert(
    whole: Hospital, step: int
) -> None:
    before = everything(whole)
    whole.pass_time(seconds=step)
    after = whole.assess()
    # points of a future say nothing of now
    told = {"backupguard_backup_worst_exposure_seconds", "backupguard_backup_newest_point_bytes"}
    gone = series(render(before)) - series(render(after))
    assert {name for name, _ in gone} <= told
    judged_at = value(after, "findings_evaluated_timestamp_seconds")
    assert judged_at == whole.now.timestamp()
    failed = {"control": "RST-01", "subject": "application/dpi"}
    assert value(after, "control_status", **failed) not in (0, 4, 5)
    assert value(after, "control_last_non_compliant_timestamp_seconds", **failed) == judged_at


# ---------------------------------------------------------------------------------- what was added


def test_what_a_vantage_point_reached(whole: Hospital) -> None:
    ward = {"target": "vault", "vantage": "ward"}
    before = whole.assess()
    assert value(before, "isolation_verdict", **ward) == 1
    assert value(before, "isolation_verdict", target="vault", vantage="self") == 1
    assert value(before, "isolation_last_look_timestamp_seconds", vantage="ward") == 0
    looked(whole, "refused")
    assert value(whole.assess(), "isolation_verdict", **ward) == 2
    whole.pass_time(hours=27)  # beyond `max-age`
    assert value(whole.assess(), "isolation_verdict", **ward) == 1
    looked(whole, "open")
    whole.pass_time(days=9)
    after = whole.assess()
    assert value(after, "isolation_verdict", **ward) == 0
    looked_at = value(after, "isolation_last_look_timestamp_seconds", vantage="ward")
    assert looked_at == (whole.now - timedelta(days=9)).timestamp()


def test_the_newest_clean_point_and_the_first_bad_one(whole: Hospital) -> None:
    dpi = {"application": "dpi"}
    clean, bad = (f"restore_test_{name}_point_timestamp_seconds" for name in ("clean", "first_bad"))
    assert (value(whole.assess(), clean, **dpi), value(whole.assess(), bad, **dpi)) == (0, 0)
    whole.tested(point="a")
    good_at = whole.now.timestamp()
    whole.pass_time(days=1)
    whole.tested(point="b", verdict="failed", code="random_text", level=2)
    bad_at = whole.now.timestamp()
    found = whole.assess()
    assert (value(found, clean, **dpi), value(found, bad, **dpi)) == (good_at, bad_at)
    whole.pass_time(days=1)
    whole.tested(point="c")
    found = whole.assess()
    assert (value(found, clean, **dpi), value(found, bad, **dpi)) == (whole.now.timestamp(), 0)


def test_canaries_copies_overdue_and_waivers(whole: Hospital) -> None:
    before = whole.assess()
    assert value(before, "restore_test_copies_overdue", application="dpi") == 0
    for name in ("waivers", "control_overrides"):
        assert value(before, name, state="in_force") == 0
        assert value(before, name, state="waiting") == 0
    assert value(before, "waivers_next_end_timestamp_seconds") == 0
    whole.tested(canary_at=to_us(START))
    whole.pass_time(days=200)
    after = whole.assess()
    assert value(after, "restore_test_copies_overdue", application="dpi") > 0
    assert value(after, "restore_test_canary_timestamp_seconds") == START.timestamp()


def test_accepted_exceptions_are_counted_by_what_became_of_them(whole: Hospital) -> None:
    def waiver(days: int, state: WaiverState) -> WaiverPicture:
        return WaiverPicture(
            seq=days, control="JOB-01", subject="site", reason="travaux", owner="dsi", person=None,
            author=None, asked_at=0, until_at=to_us(START + timedelta(days=days)), state=state,
            needs_second=False,
        )  # fmt: skip

    override = OverridePicture(
        seq=1, control="JOB-01", threshold="interval", given="2d", subject="site", reason="x",
        person=None, author=None, asked_at=0, until_at=1, loosens=True, state=WaiverState.WAITING,
    )  # fmt: skip
    found = replace(
        whole.assess(),
        waivers=(
            waiver(9, WaiverState.IN_FORCE),
            waiver(5, WaiverState.IN_FORCE),
            waiver(1, WaiverState.WAITING),
        ),
        overrides=(override,),
    )
    assert value(found, "waivers", state="in_force") == 2
    assert value(found, "waivers", state="waiting") == 1
    assert value(found, "waivers_next_end_timestamp_seconds") == START.timestamp() + 5 * 86_400
    assert value(found, "control_overrides", state="waiting") == 1
