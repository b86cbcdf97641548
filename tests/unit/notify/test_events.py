"""Each event that can be emitted is in the catalogue, and each of the catalogue is emitted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

from backupguard.evidence.announced import ANNOUNCED, COMPARED
from backupguard.evidence.kinds import KINDS as KINDS_OF_FACTS
from backupguard.evidence.kinds import check_payload
from backupguard.evidence.records import canonical, fact_of, sha256
from backupguard.language import LANGUAGES, Words, catalogue
from backupguard.notify import EVENTS, Event, Level, derive, samples
from backupguard.notify.derive import KINDS
from backupguard.notify.telling import PlainWords, sentence

SPECIMENS = Path(__file__).parents[1] / "evidence" / "specimens"

#: What ECS 8 allows together: category, types.
ECS_TYPES = {
    "configuration": {"access", "change", "creation", "deletion", "info"},
    "database": {"access", "change", "info", "error"},
    "file": {"access", "change", "creation", "deletion", "info"},
    "host": {"access", "change", "end", "info", "start"},
    "iam": {"admin", "change", "creation", "deletion", "group", "info", "user"},
    "intrusion_detection": {"allowed", "denied", "info"},
    "network": {"access", "allowed", "connection", "denied", "end", "info", "protocol", "start"},
    "process": {"access", "change", "end", "info", "start"},
}


def told(kind: str, subject: str, data: Any, before: Any = None) -> list[Event]:
    fact = next(fact for fact, _ in samples.facts() if fact.observation.kind == kind)
    now = replace(fact, observation=replace(fact.observation, subject=subject, data=data))
    then = (
        None
        if before is None
        else replace(fact, observation=replace(fact.observation, subject=subject, data=before))
    )
    return list(derive(now, then, "S"))


def codes(kind: str, subject: str, data: Any, before: Any = None) -> list[str]:
    return [one.code for one in told(kind, subject, data, before)]


def sample(kind: str, number: int = 0) -> tuple[str, dict[str, Any]]:
    found = [(subject, data) for name, subject, data in samples.FACTS if name == kind]
    return found[number]


def test_the_samples_are_facts_as_they_are_recorded() -> None:
    for kind, _, data in samples.FACTS:
        check_payload(kind, KINDS_OF_FACTS[kind].version, data)


def test_every_event_of_the_catalogue_is_emitted_and_no_other() -> None:
    assert {event.code for event in samples.events()} == set(EVENTS)


def test_what_is_put_in_line_is_what_something_is_told_of() -> None:
    assert KINDS == ANNOUNCED
    assert COMPARED <= ANNOUNCED


def test_every_event_has_an_id_of_its_own_that_stays() -> None:
    counted = Counter(event.id for event in samples.events())
    assert max(counted.values()) == 1
    assert [event.id for event in samples.events()] == list(counted)


def test_an_event_has_the_fields_that_the_catalogue_names_and_no_other() -> None:
    for event in samples.events():
        assert set(event.values) <= set(event.type.fields), event.code


def test_every_field_of_the_catalogue_is_used() -> None:
    seen: dict[str, set[str]] = {}
    for event in samples.events():
        seen.setdefault(event.code, set()).update(event.values)
    #: None in every sample: there is nothing to tell.
    rare = {"cause", "before", "code", "worked", "refused", "after"}
    for code, kind in EVENTS.items():
        assert set(kind.fields) - rare <= seen[code], code


@pytest.mark.parametrize("code", sorted(EVENTS))
def test_kind_category_and_type_are_those_of_ecs(code: str) -> None:
    kind = EVENTS[code]
    assert kind.kind in {"alert", "event"}
    assert kind.type in ECS_TYPES[kind.category]
    assert kind.outcome in {"success", "failure", "unknown", None}
    assert (kind.kind == "alert") == (kind.level <= Level.WARNING)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_event_is_said_in_words(language: str) -> None:
    words = Words(language, "Europe/Paris")
    for event in samples.events():
        text = sentence(event, words, samples.names())
        assert not text.startswith("event."), event
        assert "{" not in text
        assert "\n" not in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_sentence_needs_only_what_the_event_has(language: str) -> None:
    known = catalogue(language)
    for code, kind in EVENTS.items():
        needed = {name for _, name, _, _ in Formatter().parse(known[f"event.{code}"]) if name}
        assert needed <= {*kind.fields, "name", "reason", "state", "why", "what"}, code
    ids = {name.removeprefix("event.") for name in known if name.startswith("event.")}
    assert ids == {*EVENTS, "no-code"}


@pytest.mark.parametrize("path", sorted(SPECIMENS.glob("*.json")), ids=lambda path: path.stem)
def test_no_fact_that_was_ever_written_is_stumbled_over(path: Path) -> None:
    body = path.read_bytes().removesuffix(b"\n")
    fact = fact_of(canonical(json.loads(body)), sha256(body))
    for event in derive(fact, None, "S"):
        assert set(event.values) <= set(event.type.fields)
        assert sentence(event, Words("fr"))


def test_times_and_figures_are_plain() -> None:
    words = PlainWords("fr", "Europe/Paris")
    at = datetime(2026, 7, 14, 9, 30, tzinfo=UTC)
    assert (words.time(at), words.time(None)) == ("2026-07-14T11:30+02:00", "—")
    assert (words.day(at.date()), words.day(None)) == ("2026-07-14", "—")
    assert (words.number(12345), words.number(1.5, 1), words.number(2.0, 1)) == (
        "12345",
        "1.5",
        "2",
    )
    assert words.duration(3_600_000) == "1 h"
    assert words.size(1_400_000_000) == "1.4 Go"


def test_what_was_pruned_tells_nothing() -> None:
    for fact, before in samples.facts():
        assert (
            derive(replace(fact, observation=replace(fact.observation, data=None)), before, "S")
            == ()
        )


def test_what_people_wrote_is_not_told() -> None:
    """A reason or a text may name a patient: it stays in the evidence."""
    secret = "DUPONT Jeanne, 1 84 05"
    for fact, before in samples.facts():
        data = _with(fact.observation.data, {"reason", "text", "holder", "place"}, secret)
        if fact.observation.kind in {"finding.changed", "daemon.stopped", "evidence.anchored"}:
            continue  # what these hold under the same names are ids of our own
        changed = replace(fact, observation=replace(fact.observation, data=data))
        for event in derive(changed, before, "S"):
            assert "DUPONT" not in repr(event.values) + sentence(event, Words("fr")), event.code


def _with(data: Mapping[str, Any], names: set[str], value: str) -> dict[str, Any]:
    return {name: value if name in names else was for name, was in data.items()}


# ----------------------------------------------------------------------------- only what is news


def test_a_repository_is_told_when_it_goes_and_when_it_comes_back() -> None:
    subject, up = sample("repository.inspected", 0)
    _, down = sample("repository.inspected", 1)
    assert codes("repository.inspected", subject, up) == []
    assert codes("repository.inspected", subject, up, up) == []
    assert codes("repository.inspected", subject, down, up) == ["repository.unreachable"]
    assert codes("repository.inspected", subject, down, down) == [], "the next day"
    other = {**down, "code": "authentication"}
    assert codes("repository.inspected", subject, other, down) == ["repository.unreachable"]
    assert codes("repository.inspected", subject, up, down) == ["repository.reachable"]


def finding(before: str | None, after: str, **more: Any) -> dict[str, Any]:
    return {**sample("finding.changed")[1], "before": before, "after": after, **more}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, "compliant", []),
        (None, "not_applicable", []),
        ("compliant", "not_applicable", []),
        (None, "not_measurable", ["finding.opened"]),
        ("compliant", "non_compliant", ["finding.opened"]),
        ("warning", "warning", []),
        ("non_compliant", "not_measurable", ["finding.changed"]),
        ("non_compliant", "compliant", ["finding.closed"]),
        ("warning", "waived", ["finding.waived"]),
        ("waived", "non_compliant", ["waiver.lapsed", "finding.opened"]),
        ("waived", "compliant", []),
    ],
    ids=str,
)
def test_a_finding_is_told_when_it_opens_changes_and_closes(
    before: str | None, after: str, expected: list[str]
) -> None:
    assert codes("finding.changed", "application/dpi", finding(before, after)) == expected


@pytest.mark.parametrize(
    ("severity", "after", "level"),
    [
        ("critical", "non_compliant", Level.CRITICAL),
        ("high", "non_compliant", Level.ERROR),
        ("warning", "non_compliant", Level.WARNING),
        ("critical", "not_measurable", Level.WARNING),
        ("critical", "warning", Level.WARNING),
        ("info", "warning", Level.NOTICE),
    ],
)
def test_the_level_of_a_finding_follows_its_severity(
    severity: str, after: str, level: Level
) -> None:
    (event,) = told("finding.changed", "site", finding(None, after, severity=severity))
    assert event.level is level


def test_each_weakening_of_a_policy_is_an_event_of_its_own() -> None:
    assert codes("policy.changed", *sample("policy.changed")) == [
        "retention.shortened",
        "lock.lost",
        "administrator.added",
        "policy.weakened",
    ]


def test_what_is_left_out_of_a_backup_is_not_quoted() -> None:
    """Only figures and modes are told with their value; a pattern may name anything."""
    for event in told("policy.changed", *sample("policy.changed")):
        has = {"before", "after"} & set(event.values)
        assert has == (
            {"before", "after"} if event.code in {"retention.shortened", "lock.lost"} else set()
        )


@pytest.mark.parametrize(
    ("before", "verdict", "expected"),
    [
        (None, "passed", ["immutability.proved"]),
        ("passed", "passed", []),
        ("passed", "failed", ["immutability.refuted"]),
        ("failed", "failed", ["immutability.refuted"]),
        ("passed", "could_not_verify", ["immutability.inconclusive"]),
        ("could_not_verify", "could_not_verify", []),
    ],
    ids=str,
)
def test_an_immutability_verdict_is_told_when_it_flips_and_a_refuted_one_always(
    before: str | None, verdict: str, expected: list[str]
) -> None:
    subject, data = sample("immutability.tried")
    given = {**data, "verdict": verdict, "before": before}
    assert codes("immutability.tried", subject, given) == expected


def test_an_intent_is_no_event_and_its_result_is() -> None:
    subject, data = sample("immutability.attempt")
    assert codes("immutability.attempt", subject, {**data, "outcome": None}) == []
    assert codes("immutability.attempt", subject, data) == ["immutability.attempted"]


def test_a_port_is_told_when_it_opens_and_not_every_hour() -> None:
    subject, data = sample("isolation.seen")
    row = data["rows"][0]
    assert codes("isolation.seen", subject, data, {**data, "rows": []}) == ["isolation.open"]
    assert codes("isolation.seen", subject, data, data) == []
    announced = {**data, "rows": [{**row, "announced": True}]}
    assert codes("isolation.seen", subject, announced) == []
    two = {**data, "rows": [row, {**row, "port": 22}]}
    (event,) = told("isolation.seen", subject, two, data)
    assert (event.values["port"], event.values["ports"]) == (22, 1)


def test_media_are_told_when_they_come_and_go() -> None:
    subject, here = sample("medium.seen", 0)
    _, away = sample("medium.seen", 1)
    assert codes("medium.seen", subject, here) == ["medium.attached"]
    assert codes("medium.seen", subject, here, here) == []
    assert codes("medium.seen", subject, away, here) == ["medium.detached"]
    assert codes("medium.seen", subject, away) == []
    subject, unknown = sample("media.unknown")
    assert codes("media.unknown", subject, unknown, unknown) == []


def test_a_configuration_that_says_the_same_is_no_event() -> None:
    subject, data = sample("configuration.loaded")
    assert codes("configuration.loaded", subject, {**data, "differences": []}) == []
