"""Weakenings of policies and protections, in words: all of them, or those a finding rests on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from backupguard.cli import common
from backupguard.model import SITE

if TYPE_CHECKING:
    from backupguard.contracts import Store
    from backupguard.language import Words
    from backupguard.settings import Settings

#: That `why` tells of one finding.
MOST = 4
_LONGEST = 160


def show(settings: Settings) -> None:
    """Print every weakening that stands, and what could not be read."""
    from datetime import UTC, datetime

    from backupguard.assess.attestations import KINDS as STATEMENTS
    from backupguard.assess.attestations import Attestations

    words, answered = common.words(), Attestations()
    with closing(common.store(settings, replace_corrupt=False)) as store:
        standing, policies = read(store)
        for fact in store.facts(kinds=STATEMENTS):
            answered.learn(fact)
    made = answered.of(SITE, datetime.now(UTC))
    lines = []
    for one in standing:
        person = made.get(f"change/{one['seq']}")
        lines.append(line(one, words, person if person and not person["expired"] else None))
    lines += [
        words.text("weakenings.unread", where=name.replace("|", " ").strip())
        for name in [*policies["unread"], *policies["never_read"]]
    ]
    title = "title" if standing else "never" if policies["seen_at"] is None else "none"
    common.result(f"weakenings.{title}")
    for text in lines:
        print(f"  {text}")


def read(store: Store) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the weakenings that stand, oldest first, and how the last look went."""
    from backupguard.assess.weakenings import KINDS, Weakenings

    found = Weakenings()
    for fact in store.facts(kinds=KINDS):
        found.learn(fact)
    return found.standing(), found.policies()


def said(store: Store, finding: Mapping[str, Any], words: Words) -> Iterator[str]:
    """Yield a line per weakening that a finding of CFG-01 rests on, the newest first.

    Nothing for a single one, which its reason names.
    """
    if finding["control"] != "CFG-01":
        return
    seqs: Collection[int] = finding["facts"]
    about = [one for one in reversed(read(store)[0]) if one["seq"] in seqs]
    for one in about[:MOST] if len(about) > 1 else ():
        yield line(one, words)
    if len(about) > MOST:
        yield words.text("weakenings.more", count=len(about) - MOST)


def line(one: Mapping[str, Any], words: Words, answer: Mapping[str, Any] | None = None) -> str:
    """Return what was weakened, where, from what to what, when, and who answers for it."""
    values: dict[str, int | str] = {
        "what": f"@weakening.{one['what']}",
        "where": str(one["path"]).replace("|", " ")[:_LONGEST],
        "before": _value(one.get("before")),
        "after": _value(one.get("after")),
        "weakened_at": one["at"],
        "seq": one["seq"],
    }
    if answer is None:
        return words.text("weakenings.line", **values)
    person = str(answer.get("person") or answer.get("author") or "—")
    return words.text("weakenings.answered", person=person, **values)


def _value(value: object) -> str:
    if value is None:
        return "—"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text[:_LONGEST].lstrip("@")
