"""`backupguard restore-test --bisect`: test points until the last clean one is known."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backupguard.assess import clean_points
from backupguard.cli import common
from backupguard.cli.acting import Wanted, act
from backupguard.errors import EXIT_DONE, EXIT_NOT_PROVED
from backupguard.model import Json, application_subject, from_us, to_us

if TYPE_CHECKING:
    from backupguard.settings import Settings

#: Halving this often tells any two points apart; what goes on for longer goes round in circles.
_MOST = 200


def bisect(settings: Settings, applications: list[str], *, as_json: bool) -> int:
    """Test points of each application in turn; every result is kept, so it can be interrupted."""
    found = [(name, *_bisected(settings, name, as_json=as_json)) for name in applications]
    if as_json:
        common.print_json([_json(name, search, tests) for name, search, tests in found])
    proved = all(
        search is None or (search.clean is not None and not search.between)
        for _, search, _ in found
    )
    return EXIT_DONE if proved else EXIT_NOT_PROVED


def _bisected(
    settings: Settings, application: str, *, as_json: bool
) -> tuple[clean_points.Search | None, int]:
    """Return what one application's search came to, and after how many tests."""
    began, tried = to_us(datetime.now(UTC)), set[clean_points.PointKey]()
    search = _search(settings, application, began, tried)
    tests = 0
    while search is not None and search.next is not None and tests < _MOST:
        wanted = search.next
        if not as_json:
            common.say(
                "bisect.next",
                application=application,
                time=common.words().time(from_us(wanted.at)),
                point=wanted.point,
                count=search.between,
            )
        options: dict[str, Json] = {"repository": wanted.repository, "point": wanted.point}
        subject = application_subject(application)
        act(settings, [Wanted(task="restore-test", subject=subject, options=options)])
        tests += 1
        tried.add(wanted.key)  # whatever came of it: never twice
        search = _search(settings, application, began, tried)
    if not as_json:
        _show(application, search, tests)
    return search, tests


def _search(
    settings: Settings, application: str, began: int, tried: set[clean_points.PointKey]
) -> clean_points.Search | None:
    with closing(common.store(settings)) as store:
        tested = clean_points.of_store(store, application)
        aside = tried | {key for key, tries in tested.tries.items() if tries.last_at >= began}
        return clean_points.of_application(
            store, settings, application, tested, datetime.now(UTC), aside=aside
        )


def _show(application: str, search: clean_points.Search | None, tests: int) -> None:
    words = common.words()
    if search is None:
        common.result("bisect.none", application=application)
        return
    bad = words.time(from_us(search.bad.at))
    if search.clean is None:
        common.result("bisect.no_clean", application=application, bad=bad, tests=tests)
        return
    clean = words.time(from_us(search.clean.at))
    common.result(
        "bisect.found",
        application=application,
        clean=clean,
        clean_point=search.clean.point,
        repository=search.clean.repository,
        bad=bad,
        bad_point=search.bad.point,
        tests=tests,
    )
    if search.between:
        common.result("bisect.between", count=search.between)


def _json(application: str, search: clean_points.Search | None, tests: int) -> dict[str, Json]:
    def point(one: clean_points.TestedPoint | None) -> Json:
        if one is None:
            return None
        at = from_us(one.at).isoformat()
        return {"repository": one.repository, "point": one.point, "point_at": at, "code": one.code}

    return {
        "application": application,
        "first_bad": point(search.bad) if search is not None else None,
        "last_clean": point(search.clean) if search is not None else None,
        "between": search.between if search is not None else 0,
        "tests": tests,
    }
