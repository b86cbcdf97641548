"""Which waiting runs start: bounds, what excludes what, windows, pauses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from backupguard.daemon.cadence import Schedule
from backupguard.daemon.dispatch import may_start
from backupguard.daemon.requests import SCHEDULE, request
from backupguard.model import Run, RunState

NOW = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)  # a Thursday, 10:00 in Paris


def run(
    number: int, task: str = "restore-test", subject: str = "application/dpi", by: str = SCHEDULE,
    **options: str,
) -> Run:  # fmt: skip
    return Run(
        id=f"{number:026}",
        request=request(task, subject, requested_by=by, options=options),
        state=RunState.WAITING,
        created_at=NOW + timedelta(seconds=number),
    )


def chosen(waiting: list[Run], **changes: object) -> list[int]:
    values = {
        "allowed": {"restore-test": 2, "probe": 4, "report": 1},
        "used": {},
        "excluded": (),
        "schedules": {},
        "paused": False,
        "now": NOW,
    }
    return [int(found.id) for found in may_start(waiting, **(values | changes))]  # type: ignore[arg-type]


def test_the_longest_waiting_start_first_within_bounds() -> None:
    waiting = [run(n, subject=f"application/a{n}") for n in (3, 1, 2)]
    assert chosen(waiting) == [1, 2]
    assert chosen(waiting, used={"restore-test": 1}) == [1]
    assert chosen(waiting, used={"restore-test": 2}) == []


def test_one_subject_is_never_tested_twice_at_once() -> None:
    assert chosen([run(1), run(2, by="uid/1000")]) == [1]
    assert chosen([run(1)], excluded={"restore-test/application/dpi"}) == []


def test_a_full_bound_of_one_kind_does_not_hold_up_another() -> None:
    waiting = [run(1), run(2, "inventory", "site")]
    assert chosen(waiting, used={"restore-test": 2}) == [2]


def test_a_pause_holds_the_agenda_and_not_people() -> None:
    waiting = [run(1), run(2, "inventory", "site", by="uid/1000 (alice)")]
    assert chosen(waiting, paused=True) == [2]


def schedules(**windows: tuple[str, ...]) -> dict[tuple[str, str], Schedule]:
    one = Schedule(
        task="restore-test",
        subject="application/dpi",
        when="0 3 * * *",
        timezone="Europe/Paris",
        windows=windows,
    )
    return {one.key: one}


def test_a_window_that_closed_meanwhile_holds_a_waiting_run() -> None:
    assert chosen([run(1)], schedules=schedules(nas=("22:00-06:00",))) == []
    assert chosen([run(1)], schedules=schedules(nas=("09:00-17:00",))) == [1]
    assert chosen([run(1, by="uid/0")], schedules=schedules(nas=("22:00-06:00",))) == [1]


def test_a_run_bound_to_a_repository_waits_for_that_one() -> None:
    some = schedules(nas=("22:00-06:00",), s3=())
    assert chosen([run(1, repository="s3")], schedules=some) == [1]
    assert chosen([run(1, repository="nas")], schedules=some) == []
    assert chosen([run(1)], schedules=some) == []
