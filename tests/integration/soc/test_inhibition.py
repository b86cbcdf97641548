"""Each inhibition rule that is shipped, in a real Alertmanager: what it holds back, and what not.

Every case is a site of its own, with the alert that holds others back; its twin is a site without it.
Prometheus adds nothing here: alerts are handed to Alertmanager as it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from backupguard.alerts import rules
from backupguard.resources import shipped
from tests.alertmanager import Alertmanager, alertmanager

Labels = dict[str, str]
_KNOWN = {rule.name: rule.labels for rule in rules()}


def alert(name: str, **labels: str) -> Labels:
    """Return an alert as the shipped rule of its name makes it; `labels` are those of its series."""
    usual = {"care_domain": "D4", "severity": "high", "instance": "srv:9789", "job": "backupguard"}
    own = {key: value for key, value in _KNOWN.get(name, {}).items() if "{{" not in value}
    return {"alertname": f"{name}", **usual, **own, **labels}


@dataclass(frozen=True)
class Case:
    """A rule by its number in the file: what it silences while `source` fires, and what it does not."""

    rule: int
    source: Labels
    held: tuple[Labels, ...]
    free: tuple[Labels, ...]


def _named(prefix: str, *names: str, **labels: str) -> tuple[Labels, ...]:
    return tuple(alert(f"{prefix}{name}", **labels) for name in names)


OTHER = {"care_domain": "D2"}
_OF_TESTS = ("RestoreTestOverdue", "RestoreNeverProved", "RestoredDataInvalid", "RtoExceeded")
_DPI, _LABO = {"application": "dpi"}, {"application": "labo"}
B = "BackupGuard"
CASES = {
    "silent": Case(
        0,
        alert("BackupGuardSilent", severity="high"),
        _named(B, "JobFailed", "EvidenceBroken", "SchedulerDead", subject="x"),
        (alert("Other", **OTHER),),
    ),
    "site-silent": Case(
        1,
        alert("BackupGuardSiteSilent", severity="critical"),
        _named(B, "SchedulerDead", "JobFailed", "RetentionShort", severity="critical"),
        (alert("Other", **OTHER),),
    ),
    "silent-for-long": Case(
        2,
        alert("BackupGuardSilent", severity="critical"),
        (alert("BackupGuardSilent", severity="high"),),
        (alert("BackupGuardSilent", severity="high", instance="second:9789"),),
    ),
    "repository": Case(
        3,
        alert("BackupGuardRepositoryUnavailable", repository="nas", subject="repository/nas"),
        (
            *_named(B, "JobFailed", repository="nas", **_DPI),
            *_named(B, "ImmutabilityMissing", "ImmutabilityProbeFailed", repository="nas"),
            *_named(B, "IntegrityNotProven", "CopyUnencrypted", repository="nas"),
        ),
        (
            *_named(B, "JobFailed", "ImmutabilityMissing", repository="tape", **_DPI),
            *_named(B, "RepositoryReachable", "PolicyWeakened", repository="nas"),
            *_named(B, "RestoreTestFailed", "BackupAnomaly", **_DPI),
        ),
    ),
    "copies": Case(
        4,
        alert("BackupGuardCopiesUnseen", extent="some", severity="none", **_DPI),
        _named(
            B,
            "Rule321Broken",
            "OfflineCopyStale",
            "RestoreTestOverdue",
            "RestoreNeverProved",
            **_DPI,
        ),
        (
            *_named(B, "RestoreTestFailed", "RestoredDataInvalid", "RtoExceeded", **_DPI),
            *_named(B, "Rule321Broken", "RestoreTestOverdue", **_LABO),
        ),
    ),
    "lost-from-sight": Case(
        5,
        alert("BackupGuardCopiesUnseen", extent="some", severity="none", **_DPI),
        _named(B, "RpoBreached", "RetentionShort", **_DPI, severity="warning"),
        (
            *_named(B, "RpoBreached", "RetentionShort", **_DPI, severity="critical"),
            *_named(B, "RpoBreached", **_LABO),
        ),
    ),
    "all-copies": Case(
        6,
        alert("BackupGuardCopiesUnseen", extent="all", severity="none", **_DPI),
        _named(B, "RestoredDataInvalid", "RtoExceeded", **_DPI),
        (*_named(B, "RestoreTestFailed", **_DPI), *_named(B, "RestoredDataInvalid", **_LABO)),
    ),
    "program": Case(
        7,
        alert("BackupGuardProgramMissing", engine="postgresql", **_DPI),
        _named(B, *_OF_TESTS, **_DPI),
        (
            *_named(B, "RestoreTestFailed", "RetentionShort", **_DPI),
            *_named(B, "RestoreTestOverdue", **_LABO),
        ),
    ),
    "storm": Case(
        8,
        alert("BackupGuardAnomalyStorm"),
        (*_named(B, "BackupAnomaly", **_DPI), *_named(B, "BackupAnomaly", **_LABO)),
        _named(B, "JobFailed", "RetentionShort", **_DPI),
    ),
    "evidence": Case(
        9,
        alert("BackupGuardEvidenceBroken"),
        _named(B, "EvidenceGap", subject="site"),
        _named(B, "SelfTestMissed", "AnchorStale"),
    ),
    "anchor": Case(
        9,
        alert("BackupGuardAnchorStale"),
        _named(B, "EvidenceGap", subject="site"),
        _named(B, "SelfTestMissed", "PrivilegedAccessWeak"),
    ),
}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    """Hold an Alertmanager to which every case was told at once."""
    with alertmanager(tmp_path_factory.mktemp("inhibition") / "alertmanager") as manager:
        posted = []
        for name, case in CASES.items():
            following = [*case.held, *case.free]
            posted += [{**one, "site": name} for one in (case.source, *following)]
            posted += [{**one, "site": f"{name}-twin"} for one in following]
        manager.post([_told(labels) for labels in posted])
        manager.until(lambda: len(manager.alerts()) == len(posted))
        yield manager


def _told(labels: Labels, lasts: timedelta = timedelta(hours=1)) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "labels": labels,
        "startsAt": (now - timedelta(minutes=1)).isoformat(),
        "endsAt": (now + lasts).isoformat(),
    }


def held_by(manager: Alertmanager, site: str) -> dict[frozenset[tuple[str, str]], list[str]]:
    """Return each alert of a site by its labels, with what holds it back, by its name."""
    found = manager.alerts()
    names = {one["fingerprint"]: one["labels"]["alertname"] for one in found}
    return {
        frozenset(one["labels"].items()): [names[by] for by in one["status"]["inhibitedBy"]]
        for one in found
        if one["labels"].get("site") == site
    }


@pytest.mark.parametrize("name", CASES)
def test_it_holds_back_what_follows_and_nothing_else(known: Alertmanager, name: str) -> None:
    case, found = CASES[name], held_by(known, name)
    assert len(found) == 1 + len(case.held) + len(case.free)
    for labels in case.held:
        by = found[frozenset({**labels, "site": name}.items())]
        assert by == [case.source["alertname"]], labels
    for labels in (case.source, *case.free):
        by = found[frozenset({**labels, "site": name}.items())]
        assert case.source["alertname"] not in by, labels


@pytest.mark.parametrize("name", CASES)
def test_without_the_cause_nothing_is_held_back(known: Alertmanager, name: str) -> None:
    source = CASES[name].source["alertname"]
    for labels, by in held_by(known, f"{name}-twin").items():
        assert source not in by or source == dict(labels)["alertname"], labels


def test_what_was_held_back_is_told_when_the_cause_ends(known: Alertmanager) -> None:
    case = CASES["storm"]
    labels = {**case.source, "site": "storm"}
    known.post([_told(labels, timedelta(seconds=-1))])
    known.until(lambda: not any(held_by(known, "storm").values()))


def test_every_rule_of_the_file_has_a_case() -> None:
    text = shipped("alertmanager/alertmanager.yml").read_text(encoding="utf-8")
    written = yaml.safe_load(text)["inhibit_rules"]
    assert {case.rule for case in CASES.values()} == set(range(len(written)))
