"""What `backupguard probe immutability` shows: per repository and attacker, what was tried."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from backupguard.cli import common
from backupguard.cli.acting import label, sentence
from backupguard.contracts import AttackerKind
from backupguard.model import Subject, Verdict, to_us

if TYPE_CHECKING:
    from backupguard.settings import Settings

#: As verdicts of immutability are called wherever they are shown.
VERDICTS = {
    Verdict.PASSED.value: "proved",
    Verdict.FAILED.value: "refuted",
    Verdict.COULD_NOT_VERIFY.value: "inconclusive",
}
_OUTCOMES = ("worked", "refused", "untried")


def tried(settings: Settings, subjects: Collection[Subject]) -> dict[Subject, dict[str, Any]]:
    """Return what stands about each repository: the newest attempts, and who nobody has played.

    `verdict` is "proved", "refuted", "inconclusive", or None before the first attempt; `attackers`
    maps each that is not tried to "attested" or "untested"; `protection` is what the settings say.
    """
    from datetime import UTC, datetime

    from backupguard.assess.attestations import KINDS, Attestations

    made = Attestations()
    kinds = ("immutability.tried", "protection.seen")
    with closing(common.store(settings, replace_corrupt=False)) as store:
        latest = store.latest(list(subjects), kinds)
        for statement in store.facts(kinds=KINDS):
            made.learn(statement)
    found = {}
    for subject in subjects:
        facts = latest.get(subject, {})
        fact, seen = facts.get("immutability.tried"), facts.get("protection.seen")
        data = fact.observation.data if fact is not None else None
        standing = made.of(subject, datetime.now(UTC))
        found[subject] = {
            "verdict": VERDICTS.get(data["verdict"]) if data else None,
            "tried_at": to_us(fact.observation.observed_at) if fact is not None else None,
            "attempts": {name: list(data[name]) if data else [] for name in _OUTCOMES},
            **{name: data[name] if data else None for name in ("attacker", "code", "credentials")},
            "notes": list(data.get("notes", ())) if data else [],
            "attackers": {
                kind.value: _attested(standing.get(f"attacker/{kind.value}"))
                for kind in AttackerKind
                if kind is not AttackerKind.BACKUP_WRITER
            },
            "protection": dict(seen.observation.data or {}) if seen is not None else None,
        }
    return found


def _attested(statement: Any) -> str:
    return "attested" if statement and not statement["expired"] else "untested"


def show(found: dict[Subject, dict[str, Any]]) -> None:
    """Print a paragraph per repository."""
    for subject, one in found.items():
        common.result(f"tampering.{one['verdict'] or 'never'}", repository=subject)
        for line in _lines(one):
            print(f"  {line}")


def _lines(one: dict[str, Any]) -> Iterator[str]:
    words = common.words()
    if one["code"] is not None:
        yield words.text("tampering.why", why=sentence(one["code"]))
        remedy = f"remedy.{one['code']}"
        if label("remedy", one["code"]) != one["code"]:
            yield words.text(remedy)
    for outcome in _OUTCOMES:
        names = one["attempts"][outcome]
        if names:
            yield words.text(f"tampering.{outcome}", what=_named("attempt", names))
    wrong = one["credentials"] in ("administrator", "read_only")
    if wrong and one["code"] != one["credentials"]:
        yield words.text("tampering.why", why=sentence(one["credentials"]))
    for note in one["notes"]:
        yield words.text("tampering.note", what=label("bearing", note))
    for state in ("untested", "attested"):
        kinds = [kind for kind, told in one["attackers"].items() if told == state]
        if kinds:
            yield words.text(f"tampering.{state}", who=_named("attacker", kinds))


def _named(family: str, names: Sequence[str]) -> str:
    return ", ".join(label(family, name) for name in names)
