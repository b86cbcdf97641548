"""Locks that were seen in repositories, in words: whose, since when, whether their holder lives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from backupguard.model import Fact, from_us

if TYPE_CHECKING:
    from backupguard.language import Words

#: Locks that are told of one repository.
MOST = 3


def seen(fact: Fact | None) -> list[Mapping[str, Any]]:
    """Return the locks in a `repository.inspected`; none in any other fact."""
    if fact is None or fact.observation.kind != "repository.inspected":
        return []
    data = fact.observation.data
    return list(data["locks"]) if data is not None else []  # None: pruned


def said(fact: Fact | None, words: Words) -> Iterator[str]:
    """Yield a sentence per lock, the oldest first, and one for those that are too many."""
    found = sorted(seen(fact), key=lambda lock: lock["since_at"] or 0)
    for lock in found[:MOST]:
        yield _said(lock, words)
    if len(found) > MOST:
        yield words.text("lock.more", count=len(found) - MOST)


def _said(lock: Mapping[str, Any], words: Words) -> str:
    life = {True: "alive", False: "dead", None: "unknown"}[lock["alive"]]
    since = lock["since_at"]
    return words.text(
        "lock.exclusive" if lock["exclusive"] else "lock.shared",
        host=lock["host"] or "?",
        process=str(lock["pid"]) if lock["pid"] is not None else "?",
        since=words.time(from_us(since)) if since is not None else "?",
        life=words.text(f"lock.{life}"),
    )
