"""INV-01 and INV-02: what is uncovered is named, what nobody could see is never covered."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupguard.language import Words
from backupguard.model import Fact, Judgement, NotMeasurableCause, Severity, Status, View, to_us
from tests.unit.controls.control_facts import DAY, HOUR, NOW, fact, judge, site
from tests.unit.controls.test_copies import LADDER, copies, copy

APPLICATIONS = {
    "dpi": {"criticality": "C1", "jobs": ["dpi.nightly", "dpi.weekly"]},
    "labo": {"criticality": "C3", "jobs": ["labo.nightly"]},
}


def database(name: str, *covered_by: str, ignored: bool = False) -> dict[str, Any]:
    return {
        "engine": "postgresql",
        "host": "srv1",
        "server": "15/main",
        "name": name,
        "bytes": 1,
        "covered_by": list(covered_by),
        "ignored": ignored,
    }


def job_seen(name: str, *configured_as: str, enabled: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "tool": "cron",
        "name": name,
        "enabled": enabled,
        "last_run_at": None,
        "configured_as": list(configured_as),
        **more,
    }


def discovery(at: datetime = NOW - HOUR, **changed: Any) -> Fact:
    data = {
        "host": "srv1",
        "databases": [database("dpi", "dpi.nightly"), database("tests", ignored=True)],
        "jobs": [job_seen("save-dpi", "dpi.nightly")],
        "lacking": [],
        "covers_nothing": [],
    }
    return fact("discovery.seen", "host/srv1", at, data | changed, seq=11)


def reference(dated: datetime = NOW - 5 * DAY, **changed: Any) -> Fact:
    data = {
        "sha256": "0",
        "dated_at": to_us(dated),
        "entries": 2,
        "unmatched": [],
        "unmatched_total": 0,
        "absent": [],
    }
    return fact("reference.loaded", "site", NOW - HOUR, data | changed, seq=12)


def place(
    *facts: Fact,
    applications: Mapping[str, Any] = APPLICATIONS,
    services: Mapping[str, Any] | None = None,
    without: Mapping[str, str] | None = None,
    servers: int = 0,
) -> View:
    made = site()
    latest = {f"{f.observation.kind}/{f.observation.subject}": f for f in facts}
    closed = {f.observation.kind: f for f in facts if f.observation.kind.endswith(".closed")}
    given = {
        "settings": {
            **made.settings,
            "applications": applications,
            "without": without or {},
            "servers": servers,
        },
        "latest": {**made.latest, **latest, **closed},
        "known": {**made.known, "services": services or {}},
    }
    return View(**{**{name: getattr(made, name) for name in made.__slots__}, **given})


def said(judgement: Judgement) -> str:
    for language in ("en", "fr"):
        words = Words(language).say(judgement.reason)
        assert not words.startswith("reason.")
        assert "{" not in words
    return words


def test_everything_covered_beside_a_reference_is_compliant() -> None:
    judgement = judge("INV-01", place(discovery(), reference()))
    assert judgement.status is Status.COMPLIANT
    assert judgement.reason.values == {"applications": 2, "databases": 2, "entries": 2}
    assert judgement.facts == (11, 12)
    said(judgement)


BARE = {**APPLICATIONS, "pacs": {"criticality": "C1", "jobs": []}}
BARE_C2 = {**APPLICATIONS, "rh": {"criticality": "C2", "jobs": []}}
OFF = (
    job_seen("off", "dpi.nightly", "dpi.weekly", enabled=False),
    job_seen("labo", "labo.nightly"),
)


@pytest.mark.parametrize(
    ("view", "reason", "severity", "names"),
    [
        (place(discovery(), reference(), applications=BARE), "no_job", "critical", "pacs"),
        (place(applications=BARE), "no_job", "critical", "pacs"),
        (place(discovery(), reference(), applications=BARE_C2), "no_job", "high", "rh"),
        (place(discovery(jobs=list(OFF)), reference()), "no_job", "critical", "dpi"),
        (
            place(discovery(databases=[database("paie"), database("dpi", "dpi.nightly")])),
            "uncovered",
            "high",
            "paie (postgresql, srv1)",
        ),
        (
            place(discovery(), reference(unmatched=["srv-anapath"], unmatched_total=1)),
            "unmatched",
            "warning",
            "srv-anapath",
        ),
    ],
    ids=["no-job", "no-job-unseen", "no-job-c2", "all-disabled", "database", "reference"],
)
def test_what_is_uncovered_is_named(view: View, reason: str, severity: str, names: str) -> None:
    judgement = judge("INV-01", view)
    assert judgement.status is Status.NON_COMPLIANT
    assert judgement.severity is Severity(severity)
    assert judgement.reason.id == f"reason.INV-01.{reason}"
    assert judgement.reason.values["names"] == names
    assert judgement.reason.values["count"] == 1
    said(judgement)


def test_the_first_few_are_named_and_all_are_counted() -> None:
    many = [database(f"base{n}") for n in range(8)]
    judgement = judge("INV-01", place(discovery(databases=many)))
    assert judgement.reason.values["count"] == 8
    assert str(judgement.reason.values["names"]).count(",") == 10
    assert str(judgement.reason.values["names"]).endswith("…")
    cut = reference(unmatched=[f"srv{n}" for n in range(200)], unmatched_total=950)
    assert judge("INV-01", place(discovery(), cut)).reason.values["count"] == 950


def test_without_an_independent_reference_nothing_is_measured() -> None:
    judgement = judge("INV-01", place(discovery()))
    assert judgement.status is Status.NOT_MEASURABLE
    assert judgement.cause is NotMeasurableCause.NEVER_SET_UP
    assert said(judgement) == "Le périmètre n’a pas de référence indépendante."
    own = discovery(catalogues=["srv1:5432"])
    assert judge("INV-01", place(own)).status is Status.NOT_MEASURABLE
    assert judge("INV-01", place(own, servers=1)).status is Status.COMPLIANT


LACK = {
    "what": "postgresql/15/main",
    "code": "permission",
    "need": "read access to /var/run",
    "about": "/var/run",
}


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (place(reference()), "no_discovery"),
        (place(discovery(lacking=[LACK]), reference()), "lacking"),
        (place(discovery(databases=[], lacking=[LACK]), reference()), "lacking"),
    ],
    ids=["no-look", "a-right", "empty-list"],
)
def test_what_was_not_looked_at_is_not_covered(view: View, reason: str) -> None:
    judgement = judge("INV-01", view)
    assert judgement.status is Status.NOT_MEASURABLE
    assert judgement.reason.id == f"reason.INV-01.{reason}"
    said(judgement)


@pytest.mark.parametrize(
    ("age", "status"),
    [
        (31 * DAY - HOUR, Status.COMPLIANT),
        (31 * DAY + HOUR, Status.NOT_MEASURABLE),
        (32 * DAY + HOUR, Status.WARNING),
        (34 * DAY + HOUR, Status.NON_COMPLIANT),
    ],
)
def test_a_reference_that_is_no_longer_refreshed_is_lost(age: timedelta, status: Status) -> None:
    judgement = judge("INV-01", place(discovery(), reference(NOW - age)))
    assert judgement.status is status
    if status is not Status.COMPLIANT:
        assert judgement.cause is NotMeasurableCause.LOST
        assert judgement.reason.id == "reason.INV-01.old_reference"
        assert judgement.severity is not Severity.CRITICAL
        said(judgement)


def test_a_reference_may_set_its_own_age() -> None:
    short = reference(NOW - 2 * DAY, max_age_ms=86_400_000)
    assert judge("INV-01", place(discovery(), short)).reason.id == "reason.INV-01.old_reference"


def test_an_old_look_is_lost_unless_one_since_found_nothing_new() -> None:
    old = discovery(NOW - 9 * DAY)
    judgement = judge("INV-01", place(old, reference()))
    assert judgement.reason.id == "reason.INV-01.old_discovery"
    assert judgement.status is Status.WARNING
    said(judgement)
    closing = {
        "task": "discovery",
        "verdict": "passed",
        "code": None,
        "state": "finished",
        "started_at": None,
        "ended_at": to_us(NOW),
        "attempt": 1,
        "due_at": None,
        "requested_by": "agenda",
        "tools": {},
    }
    again = fact("discovery.closed", "site", NOW - HOUR, closing)
    assert judge("INV-01", place(old, reference(), again)).status is Status.COMPLIANT


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (place(discovery(covers_nothing=["labo.nightly"]), reference()), "covers_nothing"),
        (
            place(discovery(jobs=[job_seen("off", "dpi.weekly", enabled=False)]), reference()),
            "disabled",
        ),
        (place(discovery(jobs=[job_seen("new", never_ran=True)]), reference()), "never_ran"),
        (place(discovery(), reference(absent=["labo"])), "absent"),
        (
            place(
                discovery(),
                reference(),
                applications={**APPLICATIONS, "x": {"criticality": "C3", "jobs": []}},
            ),
            "no_job",
        ),
    ],
    ids=["covers-nothing", "disabled", "never-ran", "absent", "c3"],
)
def test_what_asks_for_a_look_is_a_warning(view: View, reason: str) -> None:
    judgement = judge("INV-01", view)
    assert judgement.status is Status.WARNING
    assert judgement.reason.id == f"reason.INV-01.{reason}"
    said(judgement)


def test_a_missing_right_is_named_with_what_it_is_for() -> None:
    words = said(judge("INV-01", place(discovery(lacking=[LACK]), reference())))
    assert words == (
        "La découverte n’a pas tout vu (1)\u00a0: postgresql/15/main, il faut un droit de lecture "
        "(/var/run)."
    )
    other = {**LACK, "code": "not_declared"}
    assert "[discovery.servers]" in said(
        judge("INV-01", place(discovery(lacking=[other]), reference()))
    )


# ----------------------------------------------------------------------------------------- INV-02

ALL = ("directory", "dns", "pki", "vault", "hypervisor", "network", "backup-catalogue")


def provider(application: str, *every: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {
        "application": application,
        "production": "site/production",
        "grace_s": 3600,
        "copies": list(every),
        **changed,
    }


def core(**changed: Any) -> View:
    """Return a site with a directory as given, a sound catalogue, and without anything else."""
    return place(
        services={
            "directory": [provider("annuaire", **changed.pop("about", {}))]
            if not changed
            else [provider("annuaire", copy("nas", **changed))],
            "backup-catalogue": [provider("veeam", copy("far"))],
        },
        without=dict.fromkeys(ALL[1:6], "pas ici"),
    )


def test_base_services_saved_elsewhere_are_compliant() -> None:
    judgement = judge("INV-02", core(points=3))
    assert judgement.status is Status.COMPLIANT
    assert judgement.reason.values == {"count": 2, "absent": 5}
    said(judgement)


OLD = {"newest_at": to_us(NOW - 30 * HOUR)}


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (core(**OLD), "old"),
        (core(newest_at=None), "no_point"),
        (core(), "no_job"),
        (core(domain="site/production"), "same_place"),
        (core(broken="restore"), "no_sound_copy"),
        (core(kind="replica", domain=None), "no_sound_copy"),
    ],
    ids=["old", "no-point", "no-job", "on-itself", "broken", "replica"],
)
def test_a_base_service_without_a_good_copy_is_urgent(view: View, reason: str) -> None:
    judgement = judge("INV-02", view)
    assert judgement.status is Status.NON_COMPLIANT
    assert judgement.severity is Severity.CRITICAL
    assert judgement.reason.id == f"reason.INV-02.{reason}"
    assert said(judgement).startswith("Annuaire\u00a0: ")


def test_other_services_may_be_a_week_old() -> None:
    def dns(age: timedelta) -> Judgement:
        services = {"dns": [provider("dns", copy("nas", newest_at=to_us(NOW - age)))]}
        without = dict.fromkeys({*ALL} - {"dns"}, "pas ici")
        return judge("INV-02", place(services=services, without=without))

    assert dns(7 * DAY).status is Status.COMPLIANT
    assert dns(8 * DAY).status is Status.NON_COMPLIANT
    assert dns(8 * DAY).severity is Severity.HIGH


def test_what_is_not_declared_is_asked_for() -> None:
    nothing = judge("INV-02", place())
    assert nothing.cause is NotMeasurableCause.NEVER_SET_UP
    assert "provides" in said(nothing)
    some = judge("INV-02", place(services={"dns": [provider("dns", copy("nas"))]}))
    assert some.cause is NotMeasurableCause.NEVER_SET_UP
    assert some.reason.values["services"] == (
        "directory, backup-catalogue, pki, vault, hypervisor, network"
    )
    where = judge("INV-02", core(domain=None))
    assert where.reason.id == "reason.INV-02.place_undeclared"
    unproven = judge("INV-02", core(unproven=True))
    assert unproven.reason.id == "reason.unproven"
    never = judge("INV-02", core(seen_at=None, newest_at=None))
    assert never.reason.id == "reason.never_seen"


def test_a_base_service_lost_from_sight_is_not_called_old() -> None:
    unseen = {"newest_at": to_us(NOW - 30 * HOUR), "seen_at": to_us(NOW - HOUR)}
    assert judge("INV-02", core(**unseen)).status is Status.NON_COMPLIANT
    unseen["seen_at"] = to_us(NOW - 29 * HOUR)
    judgement = judge("INV-02", core(**unseen))
    assert judgement.status is Status.NOT_MEASURABLE
    assert judgement.reason.id == "reason.INV-02.unseen"
    said(judgement)


# ------------------------------------------------------------------------------------- properties

names = st.sampled_from(["dpi.nightly", "dpi.weekly", "labo.nightly", "gone.job"])
past = st.integers(0, 500 * 24).map(lambda hours: NOW - hours * HOUR)


@st.composite
def places(draw: st.DrawFn) -> View:
    found: list[Fact] = []
    if draw(st.booleans()):
        databases = st.builds(database, st.just("x"), ignored=st.booleans()) | st.just(
            database("y", "dpi.nightly")
        )
        jobs = st.builds(job_seen, st.just("j"), names, enabled=st.booleans())
        found.append(
            discovery(
                draw(past),
                databases=draw(st.lists(databases, max_size=2)),
                jobs=draw(st.lists(jobs, max_size=2)),
                lacking=draw(st.sampled_from([[], [], [LACK]])),
                covers_nothing=draw(st.sampled_from([[], [], ["labo.nightly"]])),
                catalogues=draw(st.sampled_from([[], ["srv1"]])),
            )
        )
    if draw(st.booleans()):
        found.append(
            reference(
                draw(past),
                unmatched_total=draw(st.sampled_from([0, 0, 3])),
                absent=draw(st.sampled_from([[], ["labo"]])),
            )
        )
    providers = st.builds(
        lambda every, production: provider("annuaire", *every, production=production),
        st.lists(copies(), max_size=3),
        st.sampled_from([None, "site/production", "site/1"]),
    )
    return place(
        *found,
        applications=draw(st.sampled_from([{}, APPLICATIONS, BARE, BARE_C2])),
        services=draw(
            st.dictionaries(
                st.sampled_from(ALL), st.lists(providers, min_size=1, max_size=2), max_size=3
            )
        ),
        without=draw(st.dictionaries(st.sampled_from(ALL), st.just("pas ici"), max_size=7)),
        servers=draw(st.integers(0, 1)),
    )


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["INV-01", "INV-02"]),
    places(),
    st.lists(st.integers(0, 5000), min_size=2, max_size=4),
)
def test_time_alone_only_worsens_and_nothing_raises(
    control: str, view: View, hours: list[int]
) -> None:
    found = [judge(control, view, NOW + later * HOUR) for later in sorted(hours)]
    states = [judgement.status for judgement in found]
    assert states == sorted(states, key=LADDER.index)
    for judgement in found:
        assert judgement.status is not Status.NOT_MEASURABLE or judgement.cause is not None
        said(judgement)
