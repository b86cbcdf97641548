"""ISO-01: what answers is named, and only a fresh look from production, with its witness, is proof."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupguard.assess.reach import Looks, settings_of
from backupguard.language import Words
from backupguard.model import (
    Fact,
    Judgement,
    NotMeasurableCause,
    Scope,
    Severity,
    Status,
    View,
    to_us,
)
from backupguard.settings import Settings
from backupguard.settings.loading import model_for
from tests.unit.controls.control_facts import DAY, HOUR, NOW, fact, judge
from tests.unit.controls.test_copies import LADDER

HOST = {"host": "srv", "joined": False, "domains": [], "seen_by": [], "unread": []}


def row(outcome: str = "filtered", **changed: Any) -> dict[str, Any]:
    unresolved = outcome == "unresolved"
    return {
        "target": "coffre",
        "name": "nas.example",
        "address": None if unresolved else "192.0.2.9",
        "family": None if unresolved else "ipv4",
        "port": 445,
        "outcome": outcome,
        "announced": False,
        **changed,
    }


def look(
    *rows: dict[str, Any],
    at: datetime = NOW - HOUR,
    vantage: str = "bureautique",
    families: tuple[str, ...] = ("ipv4",),
    seq: int = 21,
) -> Fact:
    data = {
        "vantage": vantage,
        "zone": None if vantage == "self" else "postes",
        "witness": bool(families),
        "families": list(families),
        "began_at": to_us(at) - 5,
        "ended_at": to_us(at),
        "rows": list(rows) or [row()],
        "code": None if families else "witness_silent",
    }
    return fact("isolation.seen", f"vantage/{vantage}", at, data, seq)


def host(at: datetime = NOW - HOUR, **changed: Any) -> Fact:
    return fact("host.joined", "host/srv", at, HOST | changed, 31)


def configured(**isolation: Any) -> Settings:
    target = {"hosts": ["nas.example"], "ports": [445], "repositories": ["coffre"]}
    vantage = {"zone": "postes", "witness": "dc:389", "key": {"credential": "v"}}
    data = {
        "site": {"name": "x"},
        "repositories": {
            "coffre": {"type": "directory", "path": "/srv"},
            "disque": {"type": "directory", "path": "/srv2"},
        },
        "isolation": {"targets": {"coffre": target}, "vantages": {"bureautique": vantage}}
        | isolation,
    }
    return model_for(data).model_validate(data)


SETTINGS = configured()


def place(
    *facts: Fact,
    of: Settings = SETTINGS,
    joined: Fact | None = None,
    attestations: Mapping[str, Any] | None = None,
    repository: str = "coffre",
) -> View:
    """Return the view of a repository as `assess` builds it from these facts, oldest first."""
    looks = Looks()
    for one in (*facts, joined or host()):
        looks.learn(one)
    return View(
        scope=Scope.REPOSITORY,
        subject=f"repository/{repository}",
        settings={"criticality": "C1", **settings_of(repository, of)},
        latest=looks.of_repository(repository, of),
        first_seen=NOW - 10 * DAY,
        known={"newest_record_at": None, "attestations": attestations or {}},
    )


def said(judgement: Judgement) -> str:
    for language in ("en", "fr"):
        words = Words(language).say(judgement.reason)
        assert not words.startswith("reason.")
        assert "{" not in words
        assert "192.0.2.9" not in words, "addresses stay in the facts"
    return words


def reason(judgement: Judgement) -> str:
    return judgement.reason.id.removeprefix("reason.ISO-01.")


def test_closed_from_production_beside_its_witness_is_compliant() -> None:
    judgement = judge("ISO-01", place(look()))
    assert judgement.status is Status.COMPLIANT
    assert judgement.facts == (21, 31)
    assert "postes" in said(judgement)


@pytest.mark.parametrize("outcome", ["refused", "filtered", "unreachable"])
def test_refused_or_silent_an_isolated_store_is_closed(outcome: str) -> None:
    assert judge("ISO-01", place(look(row(outcome)))).status is Status.COMPLIANT


def test_what_answers_is_named_with_port_and_zone() -> None:
    judgement = judge("ISO-01", place(look(row("open"), row("open", port=22), row())))
    assert judgement.status is Status.NON_COMPLIANT
    assert judgement.severity is Severity.CRITICAL
    assert judgement.reason.values["places"] == "nas.example:445"
    assert "postes" in said(judgement)


def test_an_answer_inside_the_window_is_no_finding_and_proves_nothing() -> None:
    inside = look(row("open", announced=True), seq=22)
    assert judge("ISO-01", place(look(at=NOW - 5 * HOUR), inside)).status is Status.COMPLIANT
    only = judge("ISO-01", place(inside))
    assert only.cause is NotMeasurableCause.NEVER_SET_UP
    assert reason(only) == "not_yet"
    said(only)


def test_an_answer_counts_without_a_witness_and_until_it_is_seen_closed() -> None:
    opened = look(row("open"), families=())
    assert judge("ISO-01", place(opened)).status is Status.NON_COMPLIANT
    blind = look(families=(), seq=22, at=NOW)
    gone = look(row("unresolved"), seq=23, at=NOW)
    assert judge("ISO-01", place(opened, blind, gone)).status is Status.NON_COMPLIANT
    assert judge("ISO-01", place(opened, look(seq=22, at=NOW))).status is Status.COMPLIANT


def test_a_dead_uplink_is_no_air_gap() -> None:
    """Sabotage: everything looks closed because nothing at all can be reached."""
    judgement = judge("ISO-01", place(look(row("unreachable"), families=())))
    assert judgement.status is Status.WARNING
    assert reason(judgement) == "witness"
    said(judgement)


def test_a_name_that_leads_nowhere_is_not_isolated() -> None:
    """Sabotage: the target was renamed, and nothing is tried any more."""
    judgement = judge("ISO-01", place(look(row("unresolved"))))
    assert judgement.status is Status.WARNING
    assert reason(judgement) == "unresolved"
    assert "nas.example" in said(judgement)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"outcome": "untried"}, "untried"),
        ({"family": "ipv6", "address": "2001:db8::9", "outcome": "unreachable"}, "family"),
    ],
    ids=["own-rules", "no-ipv6-here"],
)
def test_what_could_not_be_tried_is_said(changed: dict[str, Any], expected: str) -> None:
    judgement = judge("ISO-01", place(look(row(), row() | changed)))
    assert judgement.status is Status.WARNING
    assert reason(judgement) == expected
    said(judgement)


def test_a_vantage_point_that_has_gone_silent_is_lost() -> None:
    """Sabotage: the vantage point was switched off."""
    for age, status in (
        (25 * HOUR, Status.COMPLIANT),
        (27 * HOUR, Status.NOT_MEASURABLE),
        (51 * HOUR, Status.WARNING),
        (99 * HOUR, Status.NON_COMPLIANT),
    ):
        judgement = judge("ISO-01", place(look(at=NOW - age)))
        assert judgement.status is status
        if status is not Status.COMPLIANT:
            assert judgement.cause is NotMeasurableCause.LOST
            assert judgement.severity is not Severity.CRITICAL, "nobody is woken for a silence"
            assert reason(judgement) == "silent"
            said(judgement)


def test_this_host_alone_proves_nothing() -> None:
    mine = look(vantage="self")
    judgement = judge("ISO-01", place(mine))
    assert judgement.status is Status.NOT_MEASURABLE
    assert reason(judgement) == "never_reported"
    said(judgement)
    opened = judge("ISO-01", place(look(), look(row("open"), vantage="self", seq=22)))
    assert opened.status is Status.NON_COMPLIANT, "an answer is one from anywhere"
    assert "cet hôte" in said(opened)


@pytest.mark.parametrize(
    ("of", "repository", "expected"),
    [
        (SETTINGS, "disque", "no_target"),
        (configured(vantages={}), "coffre", "no_vantage"),
        (SETTINGS, "coffre", "never_reported"),
    ],
    ids=["no-target", "no-vantage", "never-reported"],
)
def test_what_was_never_set_up_is_work_to_do(of: Settings, repository: str, expected: str) -> None:
    judgement = judge("ISO-01", place(of=of, repository=repository))
    assert judgement.status is Status.NOT_MEASURABLE
    assert judgement.cause is NotMeasurableCause.NEVER_SET_UP
    assert reason(judgement) == expected
    said(judgement)


def test_yesterdays_ports_prove_nothing_for_todays() -> None:
    target = {"hosts": ["nas.example"], "ports": [445, 22], "repositories": ["coffre"]}
    more = configured(targets={"coffre": target})
    judgement = judge("ISO-01", place(look(), of=more))
    assert judgement.status is Status.NOT_MEASURABLE
    assert reason(judgement) == "changed"
    said(judgement)
    assert reason(judge("ISO-01", place(look(at=NOW - 3 * DAY), of=more))) == "silent"


def attested(**changed: Any) -> dict[str, Any]:
    values = {
        "seq": 41,
        "made_at": to_us(NOW - 10 * DAY),
        "expires_at": to_us(NOW + 300 * DAY),
        "person": "m-durand",
        "author": "uid/1000 (durand)",
    }
    return {"isolation": values | changed}


def test_a_persons_word_counts_only_where_nothing_is_measured_and_not_as_proof() -> None:
    without = configured(vantages={})
    judgement = judge("ISO-01", place(of=without, attestations=attested()))
    assert judgement.status is Status.WARNING
    assert reason(judgement) == "attested"
    assert judgement.facts == (41,)
    assert "m-durand" in said(judgement)
    old = attested(made_at=to_us(NOW - 181 * DAY))
    assert reason(judge("ISO-01", place(of=without, attestations=old))) == "attestation_over"
    assert judge("ISO-01", place(look(row("open")), attestations=attested())).status is (
        Status.NON_COMPLIANT
    )
    assert reason(judge("ISO-01", place(look(), attestations=attested()))) == "closed"


# --------------------------------------------------------------------------------------- the host

JOINED = {"joined": True, "domains": ["ch.local"], "seen_by": ["realmd", "sssd"]}


def test_a_backup_host_in_the_directory_of_production_is_a_finding() -> None:
    """Sabotage: domain-joined backup host."""
    judgement = judge("ISO-01", place(look(), joined=host(**JOINED)))
    assert judgement.status is Status.NON_COMPLIANT
    assert judgement.severity is Severity.CRITICAL
    assert reason(judgement) == "joined"
    assert "ch.local" in said(judgement)
    also_open = judge("ISO-01", place(look(row("open")), joined=host(**JOINED)))
    assert reason(also_open) == "open"
    assert also_open.severity is Severity.CRITICAL


def test_a_directory_of_the_backups_own_is_accepted_by_name() -> None:
    own = configured(**{"backup-domains": ["CH.local"]})
    assert judge("ISO-01", place(look(), of=own, joined=host(**JOINED))).status is Status.COMPLIANT
    nameless = host(**(JOINED | {"domains": []}))
    assert reason(judge("ISO-01", place(look(), of=own, joined=nameless))) == "joined"


def test_a_file_that_may_not_be_read_excludes_nothing() -> None:
    judgement = judge("ISO-01", place(look(), joined=host(unread=["/etc/sssd/sssd.conf"])))
    assert judgement.status is Status.WARNING
    assert "/etc/sssd/sssd.conf" in said(judgement)


def test_a_host_that_is_no_longer_looked_at_is_lost() -> None:
    judgement = judge("ISO-01", place(look(), joined=host(NOW - 4 * DAY)))
    assert judgement.status is Status.WARNING
    assert reason(judgement) == "join_old"
    said(judgement)


# ------------------------------------------------------------------------------ an offline medium

CARRIED = {
    "media": {
        "nas-froid": {
            "kind": "removable",
            "filesystem-uuid": "9c1f4b2e-6a0d-4c57-8f0e-2b7d5a31c644",
        }
    }
}


def offline(**target: Any) -> Settings:
    data = {
        "site": {"name": "x"},
        "repositories": {
            "coffre": {"type": "directory", "path": "/mnt/froid", "medium": "nas-froid"}
        },
        "isolation": {
            "targets": {
                "coffre": {"hosts": ["nas.example"], "ports": [445], "media": ["nas-froid"]}
                | target
            },
            "vantages": {
                "bureautique": {"zone": "postes", "witness": "dc:389", "key": {"credential": "v"}}
            },
        },
        **CARRIED,
    }
    return model_for(data).model_validate(data)


def test_an_offline_nas_that_answers_on_445_is_a_finding() -> None:
    """Sabotage: NAS "offline" that answers on 445. Its clean twin is silent."""
    of = offline()
    assert judge("ISO-01", place(look(row("filtered")), of=of)).status is Status.COMPLIANT
    for vantage in ("self", "bureautique"):
        seen = look(row("open"), vantage=vantage, seq=22, at=NOW)
        judgement = judge("ISO-01", place(look(), seen, of=of))
        assert judgement.status is Status.NON_COMPLIANT
        assert judgement.reason.values["places"] == "nas.example:445"


def test_an_offline_nas_that_refuses_is_switched_on() -> None:
    judgement = judge("ISO-01", place(look(row("refused")), of=offline()))
    assert judgement.status is Status.WARNING
    assert reason(judgement) == "switched_on"
    said(judgement)


def test_what_a_medium_lies_behind_is_told_with_its_age() -> None:
    of = offline()

    def told(*facts: Fact) -> Any:
        looks = Looks()
        for one in facts:
            looks.learn(one)
        return looks.of_medium("nas-froid", of)

    nothing = {"targets": 1, "vantages": 1, "proved_at": None, "fresh_until": None, "answers": None}
    assert told() == nothing
    assert told(look(vantage="self")) == nothing
    assert told(look(families=())) == nothing
    proved = told(look())
    assert proved["proved_at"] == to_us(NOW - HOUR)
    assert proved["fresh_until"] == to_us(NOW + 25 * HOUR)
    answering = told(look(), look(row("open"), vantage="self", seq=22))
    assert answering["proved_at"] is None
    assert answering["answers"]["port"] == 445


# ------------------------------------------------------------------------------------- properties

outcomes = st.sampled_from(["open", "refused", "filtered", "unreachable", "unresolved", "untried"])
past = st.integers(0, 200).map(lambda hours: NOW - hours * HOUR)
rows = st.builds(
    lambda outcome, port, announced: row(outcome, port=port, announced=announced),
    outcomes,
    st.sampled_from([445, 22]),
    st.booleans(),
)
seen = st.builds(
    lambda found, at, vantage, families: look(*found, at=at, vantage=vantage, families=families),
    st.lists(rows, min_size=1, max_size=3),
    past,
    st.sampled_from(["self", "bureautique", "gone"]),
    st.sampled_from([(), ("ipv4",), ("ipv4", "ipv6")]),
)
joins = st.builds(
    lambda at, joined, unread: host(at, **(JOINED if joined else {}), unread=unread),
    past,
    st.booleans(),
    st.sampled_from([[], ["/etc/sssd/sssd.conf"]]),
)
words = st.sampled_from(
    [{}, attested(), attested(expires_at=to_us(NOW + 2 * DAY)), attested(expires_at=0)]
)


@settings(max_examples=200, deadline=None)
@given(
    found=st.lists(seen, max_size=4),
    joined=joins,
    of=st.sampled_from([SETTINGS, configured(vantages={}), configured(targets={}), offline()]),
    word=words,
    later=st.integers(0, 300),
)
def test_nothing_raises_and_time_alone_only_worsens(
    found: list[Fact], joined: Fact, of: Settings, word: dict[str, Any], later: int
) -> None:
    ordered = sorted(found, key=lambda one: one.observation.observed_at)
    view = place(*ordered, of=of, joined=joined, attestations=word)
    now = judge("ISO-01", view)
    then = judge("ISO-01", view, NOW + timedelta(hours=later))
    said(now)
    assert LADDER.index(then.status) >= LADDER.index(now.status)
    if now.status is Status.COMPLIANT:
        assert any(one.observation.data["vantage"] == "bureautique" for one in found)


@settings(max_examples=200, deadline=None)
@given(
    found=st.lists(seen, max_size=3), joined=joins, vantage=st.sampled_from(["self", "bureautique"])
)
def test_an_answer_never_improves_anything(found: list[Fact], joined: Fact, vantage: str) -> None:
    ordered = sorted(found, key=lambda one: one.observation.observed_at)
    before = judge("ISO-01", place(*ordered, joined=joined))
    worse = look(row("open"), at=NOW, vantage=vantage, seq=99)
    after = judge("ISO-01", place(*ordered, worse, joined=joined))
    assert LADDER.index(after.status) >= LADDER.index(before.status)
    assert after.status is Status.NON_COMPLIANT
