"""321-01: each way of not being 3-2-1 fires in its own words, and the sound twin only warns."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupguard.controls.copies import count, parts
from backupguard.language import Words
from backupguard.model import NotMeasurableCause, Severity, Status, View, to_us
from tests.unit.controls.control_facts import DAY, HOUR, NOW, application, judge

LADDER = (Status.COMPLIANT, Status.NOT_MEASURABLE, Status.WARNING, Status.NON_COMPLIANT)


def copy(repository: str, **changed: Any) -> dict[str, Any]:
    """Return a sound copy on disk in a domain of its own, listed an hour ago."""
    return {
        "repository": repository,
        "type": "restic",
        "jobs": ["nightly"],
        "covers": [],
        "kind": "backup",
        "medium": "disk",
        "medium_id": None,
        "offline_at": None,
        "online": None,
        "immutable": None,
        "domain": f"site/{repository}",
        "declared_at": to_us(NOW - 30 * DAY),
        "off_site": False,
        "claims": [],
        "device": [f"fs:{repository}"],
        "repository_id": repository,
        "code": None,
        "points": 30,
        "newest_at": to_us(NOW - 10 * HOUR),
        "seen_at": to_us(NOW - HOUR),
        "allowed_s": 2 * 86_400,
        "broken": None,
        "unproven": False,
        **changed,
    }


def sound(**of_tape: Any) -> list[dict[str, Any]]:
    """Return copies that are sound but for one proof: one on disk, one on tape elsewhere."""
    return [copy("nas"), copy("tape", **{"medium": "tape", "off_site": True, **of_tape})]


#: What is seen of a copy whose medium was read here, seen to leave, and declared to be out.
AWAY = {"medium": "removable", "medium_id": "usb", "offline_at": to_us(NOW - 11 * HOUR)}


def view(copies: list[dict[str, Any]], **changed: Any) -> View:
    made = application(failure_domain=changed.pop("production", "site/production"), **changed)
    return View(
        **{
            **{name: getattr(made, name) for name in made.__slots__},
            "known": {**made.known, "copies": copies},
        }
    )


def test_the_sound_twin_only_says_that_offline_is_not_proven() -> None:
    judgement = judge("321-01", view(sound()))
    assert judgement.status is Status.WARNING
    assert judgement.reason.id == "reason.321-01.offline_declared"
    said = Words("fr").say(judgement.reason)
    assert (
        said == "Copie déclarée hors ligne, non prouvée\u00a0: tape. Copies indépendantes\u00a0: 2."
    )


def test_a_copy_proved_offline_keeps_the_rule() -> None:
    judgement = judge("321-01", view(sound(**AWAY)))
    assert judgement.status is Status.COMPLIANT
    assert judgement.reason.values == {
        "count": 2,
        "offline": "tape",
        "off_site": "tape",
        "immutable": "@copies.none_immutable",
    }
    proved = judge("321-01", view([copy("nas", immutable="proved"), *sound(**AWAY)[1:]]))
    assert proved.reason.values["immutable"] == "nas"
    for language in ("fr", "en"):
        assert "{" not in Words(language).say(judgement.reason)


@pytest.mark.parametrize("immutable", ["refuted", "inconclusive"])
def test_only_what_was_proved_is_said_to_be_immutable(immutable: str) -> None:
    judgement = judge("321-01", view([copy("nas", immutable=immutable), *sound(**AWAY)[1:]]))
    assert judgement.reason.values["immutable"] == "@copies.none_immutable"


def test_an_old_declaration_is_said_beside_what_is_proved() -> None:
    judgement = judge("321-01", view(sound(**AWAY, declared_at=None)))
    assert judgement.status is Status.WARNING
    assert judgement.reason.id == "reason.321-01.attestation_proved"


STALE = {"newest_at": to_us(NOW - 5 * DAY)}
BROKEN: Mapping[str, tuple[list[dict[str, Any]], str, str]] = {
    "one copy": ([copy("nas")], "few", "nas"),
    "same declared domain": (sound(domain="site/nas"), "few_one_domain", "nas, tape"),
    "same file system": (sound(device=["fs:nas", "disk:x"]), "few_one_place", "nas, tape"),
    "same repository twice": (sound(repository_id="nas"), "few_one_place", "nas, tape"),
    "restore test failed": (sound(broken="restore"), "few_broken", "tape"),
    "integrity failed": (sound(broken="integrity"), "few_broken", "tape"),
    "no recent point": (sound(**STALE), "few_stale", "tape"),
    "no point": (sound(newest_at=None), "few_empty", "tape"),
    "snapshot beside production": (
        sound(kind="snapshot", domain="site/production"),
        "few_snapshot",
        "tape",
    ),
    "replica, nobody knows where": (sound(kind="replica", domain=None), "few_snapshot", "tape"),
    "in the domain of production": (sound(domain="site/production"), "few_production", "tape"),
    "nothing offline": ([copy("nas"), copy("far", off_site=True)], "no_offline", ""),
    "a virtual tape library": (
        [copy("nas"), copy("vtl", medium="vtl", off_site=True, claims=["offline"])],
        "no_offline",
        "",
    ),
    "immutable, and nothing offline": (
        [copy("nas"), copy("far", off_site=True, immutable="proved")],
        "no_offline_immutable",
        "far",
    ),
    "declared offline, left attached": (
        sound(medium="removable", medium_id="usb", online="attached"),
        "offline_reached",
        "tape",
    ),
    "declared offline, left attached after it was away": (
        sound(**AWAY, online="attached"),
        "offline_reached",
        "tape",
    ),
    "NAS offline that answers on 445": (
        [copy("nas"), copy("far", off_site=True, claims=["offline"], online="answers")],
        "offline_reached",
        "far",
    ),
    "two independent copies on one filesystem, one of them proved away": (
        sound(**AWAY, device=["fs:nas"]),
        "few_one_place",
        "nas, tape",
    ),
    "proved away, and nothing off-site": (sound(**AWAY, off_site=False), "no_off_site", ""),
    "a virtual tape library, seen to leave": (
        sound(**{**AWAY, "medium": "vtl"}),
        "no_offline",
        "",
    ),
    "proved away too long ago": (
        sound(**AWAY, newest_at=to_us(NOW - 9 * DAY)),
        "few_stale",
        "tape",
    ),
    "nothing off-site": (sound(off_site=False), "no_off_site", ""),
    "off-site, found beside one on site": (
        [copy("nas"), *sound(device=["host:a"])[1:], copy("near", device=["host:a"])],
        "no_off_site",
        "",
    ),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_each_way_of_failing_has_its_words(name: str) -> None:
    copies, reason, repositories = BROKEN[name]
    judgement = judge("321-01", view(copies))
    assert judgement.status is Status.NON_COMPLIANT
    assert judgement.reason.id == f"reason.321-01.{reason}"
    if repositories:
        assert judgement.reason.values["repository"] == repositories
    for language in ("fr", "en"):
        said = Words(language).say(judgement.reason)
        assert "reason." not in said
        assert "{" not in said


def test_how_urgent_it_is() -> None:
    few = [copy("nas")]
    assert judge("321-01", view(few)).severity is Severity.CRITICAL
    assert judge("321-01", view(few, criticality="C2")).severity is Severity.HIGH
    assert judge("321-01", view(few, criticality="C3")).severity is Severity.WARNING
    alone_but_offline = sound(domain="site/nas")
    assert judge("321-01", view(alone_but_offline)).severity is Severity.HIGH
    no_offline = [copy("nas"), copy("far", off_site=True)]
    assert judge("321-01", view(no_offline)).severity is Severity.HIGH


@pytest.mark.parametrize(
    ("copies", "production", "reason"),
    [
        ([], "site/production", "reason.321-01.no_job"),
        (sound(domain=None), "site/production", "reason.321-01.undeclared"),
        (sound(), None, "reason.321-01.production_undeclared"),
        (sound(unproven=True), "site/production", "reason.unproven"),
        (
            [copy("nas"), *sound(seen_at=None, newest_at=None)[1:]],
            "site/production",
            "reason.never_seen",
        ),
        ([copy("nas", seen_at=None, newest_at=None)], "site/production", "reason.never_seen"),
    ],
)
def test_what_is_not_known_yet_is_not_measurable(
    copies: list[dict[str, Any]], production: str | None, reason: str
) -> None:
    judgement = judge("321-01", view(copies, production=production))
    assert judgement.status is Status.NOT_MEASURABLE
    assert judgement.cause is NotMeasurableCause.NEVER_SET_UP
    assert judgement.reason.id == reason


@pytest.mark.parametrize(
    ("unseen_for", "status"),
    [
        (2 * DAY, Status.WARNING),  # seen lately: what stays is that offline is only declared
        (3 * DAY + HOUR, Status.WARNING),
        (4 * DAY + HOUR, Status.WARNING),
        (6 * DAY + HOUR, Status.NON_COMPLIANT),
    ],
)
def test_a_copy_lost_from_sight_is_not_called_missing(
    unseen_for: timedelta, status: Status
) -> None:
    seen = {"seen_at": to_us(NOW - unseen_for), "newest_at": to_us(NOW - unseen_for - HOUR)}
    weekly = {"allowed_s": 14 * 86_400}
    judgement = judge("321-01", view([copy("nas", **seen, **weekly), *sound()[1:]]))
    assert judgement.status is status
    if status is Status.NON_COMPLIANT:
        assert judgement.cause is NotMeasurableCause.LOST
        assert judgement.reason.id == "reason.321-01.unseen"
        assert judgement.reason.values["repository"] == "nas"


def test_a_medium_that_is_away_is_not_lost() -> None:
    away = {"seen_at": to_us(NOW - 6 * DAY), "newest_at": to_us(NOW - 6 * DAY)}
    judgement = judge("321-01", view(sound(**away, allowed_s=14 * 86_400)))
    assert judgement.reason.id == "reason.321-01.offline_declared"


@pytest.mark.parametrize("declared", [None, to_us(NOW - 367 * DAY)])
def test_an_old_declaration_is_a_warning(declared: int | None) -> None:
    judgement = judge("321-01", view(sound(declared_at=declared)))
    assert judgement.status is Status.WARNING
    assert judgement.reason.id == "reason.321-01.attestation"
    assert judgement.reason.values == {"repository": "tape", "offline": "tape"}


def test_snapshots_elsewhere_count_and_claims_are_only_declarations() -> None:
    copies = [copy("nas", kind="snapshot"), copy("far", off_site=True, claims=["air-gapped"])]
    assert judge("321-01", view(copies)).reason.id == "reason.321-01.offline_declared"


def test_each_covered_database_needs_its_own_copies() -> None:
    copies = [
        copy("nas", covers=["postgresql://a/dpi"]),
        copy("tape", covers=["postgresql://a/dpi"], medium="tape", off_site=True),
        copy("nas", covers=["postgresql://a/audit"]),
    ]
    assert {name: len(each) for name, each in parts(copies).items()} == {
        "postgresql://a/dpi": 2,
        "postgresql://a/audit": 1,
    }
    assert judge("321-01", view(copies)).reason.id == "reason.321-01.few"
    whole = [*copies, copy("tape", medium="tape", off_site=True)]
    assert judge("321-01", view(whole)).status is Status.WARNING


def test_one_record_of_two_copies_is_no_place_of_theirs() -> None:
    catalogue = {"device": ["catalogue:bareos/main"]}
    copies = [copy("disk", **catalogue), copy("tape", medium="tape", off_site=True, **catalogue)]
    assert judge("321-01", view(copies)).reason.id == "reason.321-01.offline_declared"


def test_looking_can_only_lower_the_count() -> None:
    copies = [copy("a"), copy("b"), copy("c", device=["fs:a"])]
    found = count(copies, "site/production", NOW, attested_s=86_400 * 366)
    blind = [{**one, "device": [], "repository_id": None} for one in copies]
    declared = count(blind, "site/production", NOW, attested_s=86_400 * 366)
    assert len(found.independent) == 2
    assert len(declared.independent) == 3
    assert found.contradicted == ("a", "c")


# ------------------------------------------------------------------------------------- properties

moments = st.none() | st.integers(0, 500 * 24).map(lambda hours: to_us(NOW - hours * HOUR))
words = st.sampled_from(["fs:1", "fs:2", "host:3", "bucket:4"])


@st.composite
def copies(draw: st.DrawFn) -> dict[str, Any]:
    return copy(
        draw(st.sampled_from(["nas", "tape", "far", "usb"])),
        covers=draw(st.sampled_from([[], [], ["postgresql://a/b"]])),
        kind=draw(st.sampled_from(["backup", "backup", "snapshot", "replica"])),
        medium=draw(st.sampled_from(["disk", "tape", "vtl", "object", "removable"])),
        domain=draw(st.sampled_from([None, "site/1", "site/2", "site/3", "site/production"])),
        declared_at=draw(moments),
        off_site=draw(st.booleans()),
        claims=draw(st.lists(st.sampled_from(["offline", "append-only"]), max_size=1)),
        device=draw(st.lists(words, max_size=2)),
        repository_id=draw(st.sampled_from([None, "r1", "r2"])),
        newest_at=draw(moments),
        seen_at=draw(moments),
        allowed_s=draw(st.sampled_from([0, 86_400, 30 * 86_400])),
        broken=draw(st.sampled_from([None, None, "restore"])),
        unproven=draw(st.sampled_from([False, False, True])),
        medium_id=draw(st.sampled_from([None, "usb"])),
        offline_at=draw(moments),
        online=draw(st.sampled_from([None, None, "attached", "answers"])),
        immutable=draw(st.sampled_from([None, "proved", "refuted", "inconclusive"])),
    )


views = st.builds(
    view,
    st.lists(copies(), max_size=5),
    production=st.sampled_from([None, "site/production", "site/1"]),
    criticality=st.sampled_from(["C1", "C2", "C3"]),
)


@settings(max_examples=400, deadline=None)
@given(views, st.lists(st.integers(0, 5000), min_size=2, max_size=4))
def test_time_alone_only_worsens_and_nothing_raises(made: View, hours: list[int]) -> None:
    at: list[datetime] = [NOW + later * HOUR for later in sorted(hours)]
    states = [judge("321-01", made, now).status for now in at]
    assert states == sorted(states, key=LADDER.index)


@settings(max_examples=200, deadline=None)
@given(st.lists(copies(), max_size=5))
def test_more_that_is_found_never_raises_the_count(every: list[dict[str, Any]]) -> None:
    blind = [{**one, "device": [], "repository_id": None} for one in every]
    kept = {"production": "site/production", "now": NOW, "attested_s": 1}
    assert len(count(every, **kept).independent) <= len(count(blind, **kept).independent)


@settings(max_examples=200, deadline=None)
@given(st.lists(copies(), max_size=5))
def test_nothing_declared_alone_keeps_the_rule(every: list[dict[str, Any]]) -> None:
    declared = [{**one, "offline_at": None} for one in every]
    assert judge("321-01", view(declared)).status is not Status.COMPLIANT
    reached = [{**one, "online": "answers"} for one in every]
    assert judge("321-01", view(reached)).status is not Status.COMPLIANT


@settings(max_examples=200, deadline=None)
@given(st.lists(copies(), max_size=5), st.integers(0, 4))
def test_bad_news_never_improves_the_rule(every: list[dict[str, Any]], which: int) -> None:
    before = judge("321-01", view(every)).status
    for worse in ({"online": "attached"}, {"offline_at": None}, {"immutable": "refuted"}):
        changed = [{**one, **worse} if at == which else one for at, one in enumerate(every)]
        after = judge("321-01", view(changed)).status
        assert LADDER.index(after) >= LADDER.index(before), worse


@given(st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=3)))
def test_a_copy_of_another_shape_raises_nothing(odd: dict[str, Any]) -> None:
    judge("321-01", view([odd, copy("nas")]))
