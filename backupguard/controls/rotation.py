"""Which copies and which ages of points were restored from, when each is due again, why it is not done.

A pure function of an application's view and of what RST-01 demands. What is tested next is chosen by
`restore_tests.selection`; here is told what that leaves open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from backupguard.controls import facts
from backupguard.errors import MEDIUM_AWAY
from backupguard.model import AgeClass, Fact, Policy, View, to_us

AGED = "restore-test.age/"


class Of(StrEnum):
    """What a restore test is due of."""

    REPOSITORY = "repository"
    AGE = "age"


@dataclass(frozen=True, slots=True, kw_only=True)
class DueTest:
    """One thing to restore from: a repository that holds the application, or an age class of points.

    `name` is the repository's id or the age class. Times in microseconds: `last_at` is the newest
    restore test that passed or failed (None: none), `due_at` when the next one must have been (None:
    no end is set). `why` is the code of what keeps it from being done now, None for nothing.
    """

    of: Of
    name: str
    last_at: int | None
    due_at: int | None
    why: str | None
    fact: Fact | None = None

    def overdue(self, now: datetime) -> bool:
        """Tell whether it is due and not done."""
        return self.due_at is not None and self.due_at < to_us(now)


def due_tests(view: View, policy: Policy, now: datetime) -> tuple[DueTest, ...]:
    """Return everything an application can be restored from, repositories first, by `due_at`."""
    found = [*_repositories(view, policy, now), *_ages(view, policy, now)]
    return tuple(sorted(found, key=lambda one: (one.of is Of.AGE, one.due_at or 2**62, one.name)))


def _repositories(view: View, policy: Policy, now: datetime) -> Iterator[DueTest]:
    concluded = facts.concluded(view, now)
    period = facts.seconds(policy, "repository-period")
    copies: dict[str, list[Mapping[str, Any]]] = {}
    for copy in view.known.get("copies") or ():
        copies.setdefault(str(copy["repository"]), []).append(copy)
    since = view.known.get("repositories_since") or {}
    fetchable = view.settings.get("fetchable") or ()
    for name in view.settings.get("repositories") or ():
        fact = concluded.get(name)
        why: str | None
        if name not in fetchable:
            why = "not_fetchable"
        else:
            held = copies.get(name, [])
            codes = [str(copy["code"]) for copy in held if copy.get("code") is not None]
            empty = None if any(copy.get("points") for copy in held) else "no_point"
            why = next(iter(codes), empty)
        yield _due(Of.REPOSITORY, name, fact, since.get(name), period, why)


def _ages(view: View, policy: Policy, now: datetime) -> Iterator[DueTest]:
    """Yield the age classes that there are points of."""
    summaries = [one for job in view.children for one in job.summaries if one.points]
    if not summaries or not view.settings.get("fetchable"):
        return
    oldest = min((one.oldest for one in summaries if one.oldest is not None), default=None)
    deepest = AgeClass.NEWEST
    if oldest is not None and max(one.points for one in summaries) > 1:
        deepest = AgeClass.of(now - oldest)
    first = to_us(view.first_seen) if view.first_seen is not None else None
    for age in AgeClass:
        fact = facts.not_in_future(view.latest.get(AGED + age), now)
        period = facts.seconds(policy, "age-period")
        yield _due(Of.AGE, age.value, fact, first, period, None)
        if age is deepest:
            return


def _due(
    of: Of, name: str, fact: Fact | None, since: int | None, period_s: int, why: str | None
) -> DueTest:
    last_at = facts.seen_at(fact) if fact is not None else None
    begun = last_at if last_at is not None else since
    due_at = begun + period_s * facts.SECOND if begun is not None and period_s else None
    return DueTest(of=of, name=name, last_at=last_at, due_at=due_at, why=why, fact=fact)


def overdue_copy(view: View, policy: Policy, now: datetime) -> DueTest | None:
    """Return the copy that has been due for longest although it can be restored from, None for none.

    A copy whose medium is away could have been restored from while it was here. One that can't be
    fetched, or has no point, is another control's matter.
    """
    grace = facts.seconds(policy, "grace") * facts.SECOND
    late = [
        one
        for one in due_tests(view, policy, now)
        if one.of is Of.REPOSITORY
        and one.why in (None, MEDIUM_AWAY)
        and one.due_at is not None
        and one.due_at + grace < to_us(now)
    ]
    return min(late, key=lambda one: (one.due_at or 0, one.name), default=None)
