"""OFF-01 on views alone: what proves that a copy is offline, and that nothing else does."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupguard.controls import offline
from backupguard.model import Severity, Status, View, to_us
from tests.unit.controls.control_facts import DAY, HOUR, NOW, application, judge

LADDER = (Status.COMPLIANT, Status.NOT_MEASURABLE, Status.WARNING, Status.NON_COMPLIANT)


def us(moment: datetime | None) -> int | None:
    return None if moment is None else to_us(moment)


def medium(
    name: str = "usb-a", *, out: datetime | None = NOW - DAY, **changed: Any
) -> dict[str, Any]:
    """Return a medium that is proved away; what `changed` says differs."""
    copy = {
        "repository": f"on-{name}",
        "seen_at": us(NOW - DAY - HOUR),
        "newest_at": us(NOW - DAY - 2 * HOUR),
        "verdict": "passed",
        "code": None,
        "may_leave": True,
        "restore_test": None,
    }
    copy |= changed.pop("copy", {})
    moved = {
        "direction": "out",
        "at": us(out),
        "holder": "M. Martin",
        "place": "coffre",
        "seal": None,
    }
    return {
        "medium": name,
        "kind": "removable",
        "may_stay_s": 12 * 3600,
        "every_s": None,
        "seen_at": us(NOW),
        "here_at": us(NOW - DAY - HOUR),
        "attached": False,
        "attached_since_at": None,
        "mismatch": None,
        "code": None,
        "slot": None,
        "copies": [copy],
        "moved": moved if out is not None else None,
    } | changed


def reach(*names: str, **changed: Any) -> dict[str, Any]:
    looked = {"targets": 1, "vantages": 1, "proved_at": us(NOW), "fresh_until": us(NOW + DAY)}
    return {name: {**looked, "answers": None, **changed} for name in names or ("usb-a",)}


def view(*media: dict[str, Any], criticality: str = "C1", **known: Any) -> View:
    plain = application(criticality=criticality)
    found = {"media": list(media), "reach": reach(*(one["medium"] for one in media)), **known}
    return replace(plain, known={**plain.known, **found})


ATTACHED = {"attached": True, "attached_since_at": us(NOW - HOUR), "here_at": us(NOW)}


@pytest.mark.parametrize(
    ("seen", "status", "reason"),
    [
        (view(medium()), "compliant", "away"),
        (view(), "not_measurable", "no_medium"),
        (view(medium(out=None)), "non_compliant", "undeclared"),
        (view(medium(out=None, here_at=us(NOW - HOUR))), "warning", "undeclared"),
        # came back and left again since the exit that was declared
        (view(medium(out=NOW - 5 * DAY)), "non_compliant", "undeclared"),
        (view(medium(**ATTACHED, out=None)), "warning", "attached"),
        (view(medium(**{**ATTACHED, "attached_since_at": us(NOW - DAY)})), "non_compliant",
         "left_attached"),
        (view(medium(**ATTACHED, out=NOW - timedelta(minutes=30))), "warning", "attached"),
        (view(medium(**{**ATTACHED, "attached_since_at": us(NOW - 9 * HOUR)}, out=NOW - 2 * HOUR)),
         "non_compliant", "still_attached"),
        (view(medium(mismatch="serial", attached=True)), "non_compliant", "swapped"),
        (view(medium(kind="vtl")), "non_compliant", "vtl"),
        (view(medium(copy={"verdict": "failed", "code": "corrupt"})), "non_compliant", "corrupt"),
        (view(medium(copy={"verdict": "could_not_verify", "code": "only_listed"})), "warning",
         "unread"),
        (view(medium(copy={"newest_at": us(NOW - 9 * DAY)})), "non_compliant", "stale"),
        (view(medium(copies=[])), "non_compliant", "never_seen"),
        (view(medium(code="barcode_unread")), "not_measurable", "no_look"),
        (view(medium(seen_at=us(NOW - 50 * HOUR))), "not_measurable", "unlooked"),
        (view(medium(every_s=3600)), "non_compliant", "not_brought"),
        (view(medium(), reach={}), "not_measurable", "no_target"),
        (view(medium(), reach=reach(fresh_until=None)), "not_measurable", "no_vantage"),
        (view(medium(), reach=reach(fresh_until=us(NOW - HOUR))), "not_measurable",
         "vantage_silent"),
        (view(medium(), reach=reach(answers={"target": "nas", "port": 445, "vantage": "ward"})),
         "non_compliant", "answers"),
        (view(medium(), medium("usb-b", **ATTACHED, out=None)), "compliant", "away"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_cases(seen: View, status: str, reason: str) -> None:
    if reason == "not_brought":
        seen = view(medium(every_s=3600, here_at=us(NOW - 2 * DAY), out=NOW - 2 * DAY))
    found = judge("OFF-01", seen)
    assert (found.status.value, found.reason.id) == (status, f"reason.OFF-01.{reason}")


@pytest.mark.parametrize(
    ("criticality", "age", "status", "severity"),
    [
        ("C1", 7 * DAY, Status.COMPLIANT, Severity.INFO),
        ("C1", 7 * DAY + HOUR, Status.WARNING, Severity.WARNING),
        ("C1", 8 * DAY + 13 * HOUR, Status.NON_COMPLIANT, Severity.HIGH),
        ("C1", 14 * DAY + HOUR, Status.NON_COMPLIANT, Severity.CRITICAL),
        ("C2", 31 * DAY, Status.COMPLIANT, Severity.INFO),
        ("C2", 31 * DAY + HOUR, Status.WARNING, Severity.WARNING),
        ("C2", 33 * DAY, Status.NON_COMPLIANT, Severity.HIGH),
        ("C2", 63 * DAY, Status.NON_COMPLIANT, Severity.CRITICAL),
    ],
    ids=["C1-week", "C1-due", "C1-late", "C1-twice", "C2-month", "C2-due", "C2-late", "C2-twice"],
)
def test_the_age_of_the_newest_offline_copy(
    criticality: str, age: timedelta, status: Status, severity: Severity
) -> None:
    copy = {"newest_at": us(NOW - age), "seen_at": us(NOW - age)}
    one = medium(out=NOW - age, here_at=us(NOW - age), copy=copy)
    found = judge("OFF-01", view(one, criticality=criticality))
    assert (found.status, found.severity) == (status, severity)


def test_every_part_of_an_application_needs_its_offline_copy() -> None:
    copies = [
        {"repository": "on-usb-a", "covers": ["postgresql://srv/dpi"], "newest_at": us(NOW - DAY)},
        {"repository": "nas", "covers": ["postgresql://srv/labo"], "newest_at": us(NOW - HOUR)},
    ]
    alone = view(medium(), copies=copies[:1])
    assert judge("OFF-01", alone).status is Status.COMPLIANT
    assert judge("OFF-01", view(medium(), copies=copies)).status is not Status.COMPLIANT


# ----------------------------------------------------------------------------------------- properties

past = st.integers(0, 60 * 24).map(lambda hours: NOW - timedelta(hours=hours))
maybe = st.none() | past.map(us)


@st.composite
def media(draw: st.DrawFn) -> dict[str, Any]:
    copy = {
        "verdict": draw(st.sampled_from(["passed", "failed", "could_not_verify"])),
        "code": draw(st.sampled_from([None, "corrupt", "only_listed"])),
        "newest_at": draw(maybe),
    }
    return medium(
        draw(st.sampled_from(["usb-a", "usb-b"])),
        out=draw(st.none() | past),
        kind=draw(st.sampled_from(["removable", "tape", "vault", "vtl"])),
        seen_at=draw(maybe),
        here_at=draw(maybe),
        attached=draw(st.booleans()),
        attached_since_at=draw(maybe),
        mismatch=draw(st.sampled_from([None, None, "serial"])),
        code=draw(st.sampled_from([None, None, "barcode_unread"])),
        every_s=draw(st.none() | st.integers(3600, 10**6)),
        **({"copy": copy} if draw(st.booleans()) else {"copies": []}),
    )


views = st.builds(
    lambda found, fresh: view(*found, reach=reach("usb-a", "usb-b", fresh_until=fresh)),
    st.lists(media(), max_size=3),
    st.none() | st.integers(-50, 500).map(lambda hours: us(NOW + timedelta(hours=hours))),
)


@settings(max_examples=120, deadline=None)
@given(views, st.lists(st.integers(0, 3000), min_size=2, max_size=4))
def test_time_alone_only_worsens(seen: View, hours: list[int]) -> None:
    states = [judge("OFF-01", seen, NOW + timedelta(hours=h)).status for h in sorted(hours)]
    assert states == sorted(states, key=LADDER.index)


@settings(max_examples=120, deadline=None)
@given(views)
def test_compliant_only_with_every_proof(seen: View) -> None:
    found = judge("OFF-01", seen)
    if found.status is not Status.COMPLIANT:
        return
    proofs = [
        one
        for one in seen.known["media"]
        for copy in one["copies"]
        if one["kind"] != "vtl"
        and not one["attached"]
        and one["moved"] is not None
        and one["moved"]["direction"] == "out"
        and copy["verdict"] == "passed"
        and offline.proved(one, copy["repository"], NOW) is not None
    ]
    assert proofs


@settings(max_examples=80, deadline=None)
@given(views)
def test_bad_news_never_improves(seen: View) -> None:
    worse = dict(seen.known)
    worse["media"] = [
        *seen.known["media"],
        medium("usb-b", mismatch="serial", attached=True, seen_at=us(NOW)),
    ]
    before = judge("OFF-01", seen).status
    after = judge("OFF-01", replace(seen, known=worse)).status
    assert LADDER.index(after) >= LADDER.index(before)
