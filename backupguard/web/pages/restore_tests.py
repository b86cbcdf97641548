"""Restore tests: the list of them, and one as it was recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from backupguard.model import REPLAYED, Fact, Subject, Verdict, application_subject, from_us
from backupguard.web.pages.rendering import Mark, View

KIND = "restore-test.result"
#: Tests on one page of the list.
SIZE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A restore test as a line; `repository` and `job` (APPLICATION.JOB) None where not recorded."""

    seq: int
    address: str
    at: datetime
    application: str
    about: str
    repository: str | None
    job: str | None
    engine: str | None
    point_at: datetime | None
    mark: Mark
    why: str
    level: int
    origin: str
    replayed: bool  # of a demonstration: told again with another clock
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check as a line; `seen` are counts and times, never a value of the data."""

    name: str
    by_site: bool
    level: int
    mark: Mark
    why: str
    seen: str


def newest_tests(
    view: View, subject: Subject | None, *, before: int | None = None, limit: int = SIZE
) -> tuple[list[Told], int | None]:
    """Return restore tests, newest first, and the number before which older ones follow.

    That is None where there are no more.
    """
    records = view.outputs.records
    if records is None:
        return [], None
    found = records.store.newest([KIND], subject, before, limit + 1)
    shown = [_told(view, fact) for fact in found[:limit] if fact.observation.data is not None]
    return shown, found[limit - 1].seq if len(found) > limit else None


def _told(view: View, fact: Fact) -> Told:
    data = fact.observation.data
    name, verdict = str(data["application"]), Verdict(data["verdict"])
    known = view.found is not None and name in view.found.applications
    return Told(
        seq=fact.seq,
        address=view.asked.link(f"/restore-tests/{fact.seq}"),
        at=fact.observation.observed_at,
        application=view.application(name),
        about=view.asked.link(f"/applications/{name}") if known else "",
        repository=data["repository"],
        job=data.get("job"),
        engine=data["engine"],
        point_at=from_us(data["point_at"]) if data["point_at"] is not None else None,
        mark=view.mark(verdict),
        why="" if verdict is Verdict.PASSED else view.label("code", data["code"]),
        level=data["level"],
        origin=view.label("origin", fact.observation.origin.value),
        replayed=fact.author == REPLAYED,
        duration_ms=data["duration_ms"],
    )


def listing(view: View) -> str:
    """Return the list of restore tests, of one application or of all, newest first."""
    chosen = view.asked.choice("application")
    subject = application_subject(chosen) if chosen else None
    before = view.asked.number("before")
    tests, older = newest_tests(view, subject, before=before)
    return view.render(
        "restore-tests.html",
        tests=tests,
        chosen=chosen,
        applications=_applications(view),
        older=view.asked.same(before=older) if older is not None else "",
        newest=view.asked.same(before=None) if before is not None else "",
    )


def _applications(view: View) -> list[tuple[str, str]]:
    known = view.found.applications if view.found is not None else {}
    return sorted(((name, view.application(name)) for name in known), key=lambda one: one[1])


def page(view: View) -> str | None:
    """Return the page of one restore test, by the number of its record; None where that is none."""
    number, records = view.asked.parts["test"], view.outputs.records
    if records is None or not (number.isascii() and number.isdigit() and len(number) <= 15):
        return None
    fact = records.store.fact(int(number))
    if fact is None or fact.observation.kind != KIND:
        return None
    if fact.observation.data is None:
        return view.render("restore-test-pruned.html", seq=fact.seq, hash=fact.hash.hex())
    data = fact.observation.data
    return view.render(
        "restore-test.html",
        test=data,
        fact=fact,
        told=_told(view, fact),
        percent=(data.get("partial") or {}).get("percent", 100),
        point_at=from_us(data["point_at"]) if data["point_at"] is not None else None,
        phases=[
            (view.label("phase", one["phase"]), view.mark(Verdict(one["verdict"])), one)
            for one in data["phases"]
        ],
        checks=_checks(view, data["checks"]),
        tools=sorted(data["tools"].items()),
        declared=data.get("declared"),
        sealed=_sealed(view, fact),
    )


def _sealed(view: View, fact: Fact) -> str:
    """Return up to where the chain is sealed, where that is after this record."""
    assert view.outputs.records is not None
    sealed = view.outputs.records.store.sealed()
    if sealed is None or sealed[0] < fact.seq:
        return ""
    return view.text("web.test.sealed", seq=sealed[0], at=view.words.time(sealed[1]))


def _checks(view: View, checks: Sequence[Mapping[str, object]]) -> list[Check]:
    """Return the site's own checks first: they are what the level rests on."""
    return [_check(view, one) for one in sorted(checks, key=lambda one: not one["configured"])]


def _check(view: View, data: Mapping[str, object]) -> Check:
    verdict, code = Verdict(str(data["verdict"])), str(data["code"])
    mark = view.mark(verdict)
    warned = verdict is Verdict.PASSED and code.startswith("warning_")
    if warned:
        mark = Mark(look="due", sign="!", label=view.text("web.status.warning"))
    numbers, times = data["numbers"], data["times"]
    assert isinstance(numbers, Mapping)
    assert isinstance(times, Mapping)
    seen = [
        view.text("web.figure", label=view.label("number", name), figure=view.words.number(count))
        for name, count in sorted(numbers.items())
    ]
    seen += [
        view.text("web.figure", label=view.label("time", name), figure=view.words.time(from_us(at)))
        for name, at in sorted(times.items())
    ]
    return Check(
        name=view.label("check", str(data["name"])),
        by_site=bool(data["configured"]),
        level=int(str(data["level"])),
        mark=mark,
        why=view.label("code", code) if warned or verdict is not Verdict.PASSED else "",
        seen=" · ".join(seen) or "—",
    )
