"""Bad news never improves a status, and a stricter threshold never does: every kind, every control.

What is not here has its own property beside its cases: 321-01, OFF-01, IMM-02, ISO-01, CFG-01, CHF-01.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backupguard.controls import BUILT
from backupguard.controls.directions import Looser, loosens, looser
from backupguard.model import Criticality, Fact, Status, View, to_us
from tests.unit.controls import lock_tables, test_acc_01, test_coverage
from tests.unit.controls.control_facts import (
    CATALOGUE,
    DAY,
    HOUR,
    NOW,
    check,
    fact,
    judge,
    result_of,
    verified,
)
from tests.unit.controls.test_controls_properties import LADDER, VIEWS

#: When the news comes: after whatever a made-up view tells, which reaches up to NOW itself.
SOON = NOW + timedelta(minutes=1)
News = Callable[[View], View]


def told(view: View, **latest: Fact) -> View:
    """Return the view with newer facts: `restore_test__result` is "restore-test.result"."""
    names = {n.replace("__", ".").replace("_", "-"): one for n, one in latest.items()}
    return replace(view, latest={**view.latest, **names})


def after_test(**values: Any) -> News:
    """Return the news that a newer restore test went as `values` say."""

    def news(view: View) -> View:
        one = result_of(SOON, seq=90, **values)
        found = told(view, restore_test__result=one)
        if values.get("verdict") == "failed":
            concluded = {"restore-test.concluded/nas": one, "restore-test.failed-point/nas": one}
            found = replace(found, latest={**found.latest, **concluded})
        return found

    return news


def known(**values: Any) -> News:
    return lambda view: replace(view, known={**view.known, **values})


def forecast(**values: Any) -> News:
    return lambda view: replace(
        view, known={**view.known, "forecast": {**(view.known.get("forecast") or {}), **values}}
    )


def of_jobs(change: News) -> News:
    return lambda view: replace(view, children=tuple(change(one) for one in view.children))


def demanding(**values: Any) -> News:
    return lambda view: replace(view, settings={**view.settings, **values})


def longer_forecast(view: View) -> View:
    found = view.known.get("forecast") or {}
    return forecast(end_ms=int(found.get("end_ms") or 0) + 10**8)(view)


def one_failure_more(view: View) -> View:
    return known(failures=(view.known.get("failures") or 0) + 1)(view)


def one_missed_more(view: View) -> View:
    return known(
        week_missed=(view.known.get("week_missed") or 0) + 1,
        week_runs=(view.known.get("week_runs") or 0) + 1,
    )(view)


def uncovered(view: View) -> View:
    applications = {**view.settings["applications"], "pacs": {"criticality": "C1", "jobs": []}}
    return demanding(applications=applications)(view)


CORRUPT = verified(SOON, "failed", units=(("b/1", "failed", "corrupt"),), seq=91)
BLIND = {
    "application": "dpi", "repository": "nas", "point": "abc", "engine": "postgresql",
    "harm": "truncated", "verdict": "passed", "code": None, "noticed": False,
}  # fmt: skip

#: By control: what may happen.
NEWS: Mapping[str, Mapping[str, News]] = {
    "RST-01": {
        "a test failed": after_test(verdict="failed", code="corrupt", level=0),
        "a test could not verify": after_test(verdict="could_not_verify", code="timeout", level=0),
    },
    "RST-02": {
        "a check failed": after_test(
            verdict="failed", code="check_failed", level=2, checks=[check("lits", "failed")]
        ),
    },
    "RST-03": {
        "a longer forecast": longer_forecast,
        "a test failed": forecast(failed=True),
        "one behind": forecast(behind=3),
        "less time": demanding(rto_s=1),
    },
    "JOB-01": {
        "one more failure": one_failure_more,
        "one more missed": one_missed_more,
        "a failed point": known(newest_state="failed"),
    },
    "PDM-01": {
        "its newest point is gone": of_jobs(known(restorable_at=None, newest_state=None)),
        "an older one": of_jobs(known(restorable_at=to_us(NOW - 900 * DAY), covers_until=None)),
        "nothing declared": demanding(declared_by=None),
    },
    "RET-01": {
        "half is lost": of_jobs(
            known(loss={"seen_at": to_us(SOON), "lost": 50, "before": 60, "after": 10})
        ),
        "more is asked": demanding(retention={"daily": 500, "monthly": 200, "yearly": 30}),
    },
    "INT-01": {
        "a unit is corrupt": lambda view: replace(
            view, latest={**view.latest, "repository.verified/failed": CORRUPT}
        ),
    },
    "PRV-01": {
        "the chain is broken": known(evidence_valid=False, evidence_wrong_seq=4),
        "damage went unnoticed": lambda view: told(
            view, self_test__concluded=fact("self-test.result", "site", SOON, BLIND, 92)
        ),
        "no report": known(reported=None),
        "a report is not signed": lambda view: told(
            view,
            **{
                "report__issued/awaited": fact(
                    "report.issued",
                    "site",
                    NOW - 30 * DAY,
                    {
                        "month": "2026-04",
                        "format": "pdf",
                        "language": "fr",
                        "sha256": "00",
                        "bytes": 1,
                    },
                    93,
                )
            },
        ),
    },
}


def possible(view: View) -> bool:
    """Tell whether a view can be: nobody knows a point of a repository that was never listed."""
    return view.known.get("restorable_at") is None or view.known.get("seen_at") is not None


@pytest.mark.parametrize(
    ("control", "name"),
    [pytest.param(c, name, id=f"{c}-{name}") for c, every in NEWS.items() for name in every],
)
def test_bad_news_never_improves(control: str, name: str) -> None:
    @settings(max_examples=25, deadline=None, database=None)
    @given(VIEWS[BUILT[control].scope.value], st.integers(-10, 1000))
    def never(view: View, hours: int) -> None:
        assume(all(map(possible, (view, *view.children))))
        now = SOON + hours * HOUR
        order = [judge(control, one, now).status for one in (view, NEWS[control][name](view))]
        assert order == sorted(order, key=LADDER.index)

    never()


@settings(max_examples=25, deadline=None)
@given(test_coverage.places(), st.integers(0, 1000))
def test_one_more_uncovered_application_never_improves_the_coverage(view: View, hours: int) -> None:
    now = SOON + hours * HOUR
    order = [judge("INV-01", one, now).status for one in (view, uncovered(view))]
    assert order == sorted(order, key=LADDER.index)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(-3, 800) | st.none(), min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from(["old", "shared", "withdrawn"]),
)
def test_bad_news_of_accounts_never_improves(
    ages: list[int | None], signed: bool, news: str
) -> None:
    secrets = [test_acc_01.secret(age=None if n is None else n * DAY) for n in ages]
    stated = test_acc_01.all_stated(
        admins=test_acc_01.stated(count=3, **({} if signed else {"authenticated": False}))
    )
    good = test_acc_01.site(stated, test_acc_01.looked(*secrets))
    worse = {
        "old": lambda: test_acc_01.site(
            stated, test_acc_01.looked(*secrets, test_acc_01.secret("writer", age=900 * DAY))
        ),
        "shared": lambda: test_acc_01.site(stated, test_acc_01.looked(*secrets, shared=("nas",))),
        "withdrawn": lambda: replace(good, known={**good.known, "attestations": {}}),
    }[news]()
    if news == "withdrawn" and not signed:
        return  # a word that nobody signed was worth a warning; without it nothing is known
    order = [judge("ACC-01", one).status for one in (good, worse)]
    assert order == sorted(order, key=LADDER.index)


WEAK = ("no_lock", "governance", "versioning_suspended", "removable", "bypass_allowed")
locks = st.builds(
    lambda age, days, weak, mechanism, seen: lock_tables.view(
        lock_tables.read(
            lock_tables.point(age * HOUR, days), weak=weak, mechanism=mechanism, age=seen * HOUR
        )
    ),
    st.integers(0, 2000),
    st.integers(0, 60),
    st.lists(st.sampled_from(WEAK), unique=True, max_size=2),
    st.sampled_from([lock_tables.LOCK, "append-only", "vendor"]),
    st.integers(0, 500),
)


@settings(max_examples=60, deadline=None)
@given(locks, st.sampled_from([*WEAK, "tried", "unreadable"]))
def test_bad_news_of_a_lock_never_improves(view: View, news: str) -> None:
    seen = view.latest["protection.seen"]
    data = dict(seen.observation.data)
    if news == "tried":
        worse = replace(
            view, latest={**view.latest, lock_tables.CONCLUDED: lock_tables.tried("failed")}
        )
    elif news == "unreadable":
        worse = replace(view, latest={**view.latest, "protection.seen": lock_tables.UNREAD})
    else:
        data["weaknesses"] = [*data["weaknesses"], {"code": news, "values": {}}]
        changed = replace(seen, observation=replace(seen.observation, data=data))
        worse = replace(
            view,
            latest={**view.latest, "protection.seen": changed, lock_tables.READ: changed},
        )
    order = [judge("IMM-01", one).status for one in (view, worse)]
    assert order == sorted(order, key=LADDER.index)


@settings(max_examples=25, deadline=None)
@given(locks, st.lists(st.integers(0, 3000), min_size=2, max_size=4))
def test_time_alone_only_worsens_a_lock(view: View, hours: list[int]) -> None:
    states = [judge("IMM-01", view, NOW + n * HOUR).status for n in sorted(hours)]
    assert states == sorted(states, key=LADDER.index)


# --------------------------------------------------------------------------------------- thresholds

THRESHOLDS = [
    (control, name)
    for control, entry in CATALOGUE.entries.items()
    for name in entry.thresholds
    if control not in {"INV-01", "INV-02", "321-01", "OFF-01", "ISO-01", "CFG-01", "CHF-01"}
    and control not in {"ACC-01", "IMM-02", "RST-04"}
]


@pytest.mark.parametrize(
    ("control", "name"), [pytest.param(*pair, id="-".join(pair)) for pair in THRESHOLDS]
)
def test_a_threshold_that_demands_more_never_improves_a_status(control: str, name: str) -> None:
    """Which way each threshold is loosened is written down; here it is tried."""
    of = locks if control == "IMM-01" else VIEWS[BUILT[control].scope.value]

    @settings(max_examples=20, deadline=None, database=None)
    @given(of, st.integers(0, 300), st.integers(1, 300))
    def never(view: View, hours: int, percent: int) -> None:
        criticality = Criticality(view.settings["criticality"])
        policy = CATALOGUE.policy(control, criticality)
        if name not in policy.thresholds:
            return
        before = int(policy.thresholds[name])
        after = before * percent // 100
        stricter, weaker = (
            (after, before) if loosens(control, name, after, before) else (before, after)
        )
        now = SOON + hours * HOUR
        order = [
            BUILT[control]
            .judge(view, replace(policy, thresholds={**policy.thresholds, name: value}), now)
            .status
            for value in (weaker, stricter)
        ]
        assert order == sorted(order, key=LADDER.index), (before, after)

    never()


def test_every_threshold_has_its_direction() -> None:
    for control, entry in CATALOGUE.entries.items():
        for name in entry.thresholds:
            assert looser(control, name) is not None, (control, name)
    assert loosens("RST-01", "period", 31, 45)
    assert not loosens("RST-01", "period", 31, 20)
    assert loosens("ACC-01", "mfa", 100, 90)
    assert loosens("XXX-99", "none", 1, 2), "of what nobody knows, any other value demands less"
    assert looser("XXX-99", "none") is None
    assert {Looser.HIGHER, Looser.LOWER} == {looser(control, name) for control, name in THRESHOLDS}
    assert Status.COMPLIANT is LADDER[0]
