"""Fact tables of the controls that judge jobs and their points."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from backupguard.model import View, to_us
from tests.unit.controls.control_facts import DAY, HOUR, NOW, application, day, job

NEVER, LOST = "never_set_up", "lost"
Row = tuple[View, str, str | None, str, str]


def nightly(newest: datetime, worst: timedelta, **settings: Any) -> View:
    """Return an application whose worst exposure of the month was `worst`."""
    first, there = NOW - 9 * DAY, NOW - 9 * DAY + worst
    pairs = [[to_us(first), to_us(first + HOUR)], [to_us(first + DAY), to_us(there)]]
    return application(jobs=(job(newest, exposure=pairs),), **settings)


def left_out(hours: int, **known: Any) -> View:
    """Return an application whose nightly run had no hour in spring; its newest point is so old."""
    awaited = {"due_at": to_us(NOW + HOUR), "doubtful_at": to_us(NOW - 20 * HOUR)} | known
    return application(jobs=(job(NOW - hours * HOUR, **awaited),))


JOB_01: list[Row] = [
    (job(NOW - 20 * HOUR), "compliant", None, "info", "done"),
    (job(NOW - 26 * HOUR), "compliant", None, "info", "done"),  # the longest night, and its grace
    (job(NOW - 27 * HOUR), "non_compliant", None, "high", "late"),
    (job(NOW - 27 * HOUR, criticality="C2"), "non_compliant", None, "warning", "late"),
    (job(NOW - 6 * DAY, interval=None, criticality="C3"), "compliant", None, "info", "done"),
    (job(NOW - 27 * HOUR, interval=None), "non_compliant", None, "high", "late"),
    (job(NOW - HOUR, newest_state="failed"), "non_compliant", None, "high", "failed"),
    (job(None, newest_state="failed"), "non_compliant", None, "high", "failed"),
    (job(NOW - HOUR, newest_bytes=0), "non_compliant", None, "high", "empty"),
    (job(NOW - HOUR, newest_bytes=None), "compliant", None, "info", "done"),
    (job(NOW - HOUR, newest_state="warning"), "warning", None, "warning", "warning"),
    (job(NOW - HOUR, future=2), "warning", None, "warning", "future"),
    (job(None), "non_compliant", None, "high", "no_point"),
    (job(None, first_seen=None), "non_compliant", None, "high", "no_point"),
    (job(None, first_seen=NOW - HOUR), "not_measurable", NEVER, "info", "not_due"),
    (
        job(None, seen=NOW - 9 * DAY, first_seen=NOW - 2 * DAY),
        "not_measurable",
        LOST,
        "info",
        "unseen",
    ),
    (job(None, seen=None), "not_measurable", NEVER, "info", "never_seen"),
    (job(NOW - 27 * HOUR, NOW - 2 * HOUR), "not_measurable", LOST, "info", "unseen"),
    (job(NOW - 51 * HOUR, NOW - 26 * HOUR), "warning", LOST, "warning", "unseen"),
    (job(NOW - 99 * HOUR, NOW - 98 * HOUR), "non_compliant", LOST, "high", "unseen"),
    (
        job(NOW - 25 * HOUR, newest_state="failed", failures=2),
        "non_compliant",
        None,
        "critical",
        "failed_again",
    ),
    (
        job(NOW - 25 * HOUR, newest_state="failed", failures=2, criticality="C2"),
        "non_compliant",
        None,
        "warning",
        "failed_again",
    ),
    (job(NOW - HOUR, newest_files=0), "non_compliant", None, "high", "no_files"),
    (job(NOW - HOUR, newest_files=1), "compliant", None, "info", "done"),
    (
        job(NOW - HOUR, newest_files=0, newest_kind="incremental"),
        "warning",
        None,
        "warning",
        "nothing_new",
    ),
    (
        job(NOW - HOUR, newest_bytes=0, newest_kind="full"),
        "non_compliant",
        None,
        "high",
        "empty",
    ),
    # a calendar: Friday evening is enough until Monday evening, Tuesday's is due on Tuesday
    (job(NOW - 64 * HOUR, due_at=to_us(NOW + 8 * HOUR)), "compliant", None, "info", "done"),
    (job(NOW - 20 * HOUR, due_at=to_us(NOW - HOUR)), "compliant", None, "info", "done"),
    (job(NOW - 20 * HOUR, due_at=to_us(NOW - 2 * HOUR)), "non_compliant", None, "high", "missed"),
    (
        job(NOW - 20 * HOUR, NOW - 3 * HOUR, due_at=to_us(NOW - 2 * HOUR)),
        "not_measurable",
        LOST,
        "info",
        "unseen",
    ),
    (
        job(None, due_at=to_us(NOW - 9 * HOUR), first_seen=NOW - 10 * HOUR),
        "non_compliant",
        None,
        "high",
        "no_point",
    ),
    # the night that leaves the time out raises a word and no alarm, and hides nothing
    (
        job(NOW - 20 * HOUR, due_at=to_us(NOW + HOUR), doubtful_at=to_us(NOW - 2 * HOUR)),
        "warning",
        None,
        "warning",
        "clock_change",
    ),
    (
        job(NOW - 40 * HOUR, due_at=to_us(NOW - 3 * HOUR), doubtful_at=to_us(NOW - 27 * HOUR)),
        "non_compliant",
        None,
        "high",
        "missed",
    ),
    (
        job(NOW - HOUR, running_since=to_us(NOW - 4 * HOUR), usual_ms=4_000_000),
        "warning",
        None,
        "warning",
        "hung",
    ),
    (
        job(NOW - HOUR, running_since=to_us(NOW - 3 * HOUR), usual_ms=4_000_000),
        "compliant",
        None,
        "info",
        "done",
    ),
    (
        job(NOW - HOUR, running_since=to_us(NOW - 90 * HOUR), usual_ms=None),
        "compliant",
        None,
        "info",
        "done",
    ),
    (job(NOW - HOUR, week_runs=7, week_done=6), "warning", None, "warning", "rate"),
    (job(NOW - HOUR, week_runs=6, week_done=6, week_missed=1), "warning", None, "warning", "rate"),
    (job(NOW - HOUR, week_runs=168, week_done=160), "compliant", None, "info", "done"),
    (job(NOW - HOUR, week_runs=168, week_done=159), "warning", None, "warning", "rate"),
    (job(NOW - HOUR, week_runs=7, week_done=7), "compliant", None, "info", "done"),
]

OLD, NEW = job(NOW - 9 * DAY), job(NOW - HOUR, repository="tape")
PDM_01: list[Row] = [
    # the night without its hour: the calendar's next run is awaited, and nobody is woken meanwhile
    (left_out(44), "warning", None, "warning", "exposed"),
    (left_out(49), "warning", None, "warning", "exposed"),
    (left_out(53), "non_compliant", None, "critical", "breached"),
    (left_out(44, due_at=to_us(NOW - 9 * HOUR)), "non_compliant", None, "high", "breached"),
    (left_out(44, doubtful_at=None), "non_compliant", None, "high", "breached"),
    (application(jobs=(job(NOW - 20 * HOUR),)), "compliant", None, "info", "met"),
    (application(jobs=(job(NOW - HOUR),), rpo_s=None), "warning", None, "warning", "met_default"),
    (application(jobs=(job(NOW - 26 * HOUR),)), "compliant", None, "info", "met"),
    (application(jobs=(job(NOW - 27 * HOUR),)), "non_compliant", None, "high", "breached"),
    (application(jobs=(job(NOW - 49 * HOUR),)), "non_compliant", None, "critical", "breached"),
    (
        application(jobs=(job(NOW - 49 * HOUR),), criticality="C2"),
        "non_compliant",
        None,
        "high",
        "breached",
    ),
    (
        application(jobs=(job(NOW - 27 * HOUR),), rpo_s=None),
        "non_compliant",
        None,
        "high",
        "breached_default",
    ),
    (
        application(jobs=(job(NOW - 6 * DAY, criticality="C3"),), rpo_s=None, criticality="C3"),
        "warning",
        None,
        "warning",
        "met_default",
    ),
    # copies of one selection stand for one another, different data do not
    (application(jobs=(OLD, NEW)), "compliant", None, "info", "met"),
    (
        application(jobs=(OLD, job(NOW - HOUR, selection="files"))),
        "non_compliant",
        None,
        "critical",
        "breached",
    ),
    (application(jobs=(job(None),)), "non_compliant", None, "critical", "no_point"),
    (
        application(jobs=(job(NOW - HOUR, newest_state="warning"),)),
        "warning",
        None,
        "warning",
        "warning",
    ),
    (application(), "not_measurable", NEVER, "info", "no_job"),
    (application(jobs=(job(None, None),)), "not_measurable", NEVER, "info", "never_seen"),
    (
        application(jobs=(job(None, None), job(None)), first_seen=NOW - HOUR),
        "not_measurable",
        LOST,
        "info",
        "never_seen",
    ),
    (
        application(jobs=(job(NOW - 27 * HOUR, NOW - 2 * HOUR),)),
        "not_measurable",
        LOST,
        "info",
        "unseen",
    ),
    (
        application(jobs=(job(NOW - 51 * HOUR, NOW - 40 * HOUR),)),
        "warning",
        LOST,
        "warning",
        "unseen",
    ),
    (
        application(jobs=(job(NOW - 99 * HOUR, NOW - 98 * HOUR),)),
        "non_compliant",
        LOST,
        "high",
        "unseen",
    ),
    # 27 h at worst for an RPO of 24 h: said by day, and nobody is woken as long as it is usual
    (nightly(NOW - 20 * HOUR, 27 * HOUR), "warning", None, "warning", "exposed"),
    (nightly(NOW - 27 * HOUR, 27 * HOUR), "warning", None, "warning", "exposed"),
    (nightly(NOW - 28 * HOUR, 27 * HOUR), "warning", None, "warning", "exposed"),
    (nightly(NOW - 29 * HOUR, 27 * HOUR), "non_compliant", None, "critical", "breached"),
    (
        nightly(NOW - 29 * HOUR, 27 * HOUR, criticality="C2"),
        "non_compliant",
        None,
        "high",
        "breached",
    ),
    # an hour more is one night of autumn; no more than that is no finding
    (nightly(NOW - 20 * HOUR, 25 * HOUR), "compliant", None, "info", "met"),
    (nightly(NOW - 27 * HOUR, 24 * HOUR), "non_compliant", None, "critical", "breached"),
    # no weekend backups: known and said by day, until it is twice the RPO
    (nightly(NOW - 40 * HOUR, 75 * HOUR), "warning", None, "warning", "exposed"),
    (nightly(NOW - 49 * HOUR, 75 * HOUR), "non_compliant", None, "critical", "breached"),
    # a promise below a day needs logs
    (
        application(jobs=(job(NOW - HOUR),), rpo_s=4 * 3600),
        "warning",
        None,
        "warning",
        "no_logs",
    ),
    (
        application(jobs=(job(NOW - 30 * HOUR, covers_until=to_us(NOW - HOUR)),), rpo_s=4 * 3600),
        "compliant",
        None,
        "info",
        "met",
    ),
    (
        application(jobs=(job(NOW - HOUR, covers_until=to_us(NOW - 6 * HOUR)),), rpo_s=2 * 3600),
        "compliant",
        None,
        "info",
        "met",
    ),
    (
        application(
            jobs=(job(NOW - 30 * HOUR, covers_until=to_us(NOW - 6 * HOUR)),), rpo_s=4 * 3600
        ),
        "non_compliant",
        None,
        "high",
        "breached",
    ),
    (
        application(jobs=(job(NOW - HOUR),), declared_by=None),
        "warning",
        None,
        "warning",
        "undeclared",
    ),
    (
        application(jobs=(job(NOW - HOUR),), declared_at=None),
        "warning",
        None,
        "warning",
        "undeclared",
    ),
    (
        application(jobs=(job(NOW - HOUR),), declared_at=to_us(NOW - 367 * DAY)),
        "warning",
        None,
        "warning",
        "stale_declaration",
    ),
    (
        application(jobs=(job(NOW - HOUR),), declared_at=to_us(NOW - 366 * DAY)),
        "compliant",
        None,
        "info",
        "met",
    ),
]


# --------------------------------------------------------------------------------------- retention

TODAY = day(NOW)
GFS = (
    [TODAY - n for n in range(36)]
    + [
        day(datetime(2025 + (n + 6) // 12, (n + 6) % 12 + 1, 1, tzinfo=NOW.tzinfo))
        for n in range(11)
    ]
    + [day(datetime(year, 12, 31, tzinfo=NOW.tzinfo)) for year in (2022, 2023, 2024, 2025)]
)


def without(*gone: int) -> list[int]:
    return [one for one in GFS if TODAY - one not in gone]


def history(days: Any = GFS, *, seen: datetime = NOW, **known: Any) -> View:
    """Return a job with a restorable point on each of these days."""
    return job(NOW - HOUR, seen, days=tuple(sorted(set(days))), **known)


def kept(days: Any = GFS, *, asked: bool = True, **settings: Any) -> View:
    settings.setdefault("first_seen", NOW - 4000 * DAY)
    calendar = {"asked_days": tuple(range(TODAY - 40, TODAY + 1))} if asked else {}
    return application(jobs=(history(days, **calendar),), **settings)


NEW_SITE = {"first_seen": NOW - 3 * DAY}
LOSS = {"seen_at": to_us(NOW - HOUR), "lost": 6, "before": 30, "after": 24}
RET_01: list[Row] = [
    (kept(), "compliant", None, "info", "kept"),
    (kept(asked=False), "compliant", None, "info", "kept"),
    # one day lacks a point: named; more than a fifth of them: no gap any more
    (kept(without(5)), "warning", None, "warning", "gaps"),
    (kept(without(5), asked=False), "warning", None, "warning", "gaps"),
    (kept(without(5, 6, 7, 8)), "non_compliant", None, "high", "gaps"),
    (kept(without(5, 6, 7, 8), criticality="C3"), "non_compliant", None, "warning", "gaps"),
    # yesterday's may be under way: that is JOB-01's
    (kept(without(0, 1)), "compliant", None, "info", "kept"),
    # no run was asked for on those days
    (
        application(
            jobs=(
                history(
                    without(*[n for n in range(36) if (TODAY - n + 3) % 7 >= 5]),
                    asked_days=tuple(d for d in range(TODAY - 40, TODAY) if (d + 3) % 7 < 5),
                ),
            ),
            first_seen=NOW - 4000 * DAY,
        ),
        "compliant",
        None,
        "info",
        "kept",
    ),
    # a month in the middle is a gap; the oldest ones are a short history
    (
        kept(
            [
                d
                for d in GFS
                if d != day(datetime(2025, 12, 1, tzinfo=NOW.tzinfo))
                and d != day(datetime(2025, 12, 31, tzinfo=NOW.tzinfo))
            ]
        ),
        "warning",
        None,
        "warning",
        "gaps",
    ),
    (kept(range(TODAY - 300, TODAY)), "non_compliant", None, "high", "short_periods"),
    (kept(range(TODAY - 13, TODAY)), "non_compliant", None, "high", "short"),
    (kept(range(TODAY - 13, TODAY), criticality="C2"), "non_compliant", None, "high", "short"),
    (
        kept(range(TODAY - 20, TODAY), criticality="C2", retention={"monthly": 0, "yearly": 0}),
        "compliant",
        None,
        "info",
        "kept",
    ),
    (
        kept(range(TODAY - 20, TODAY), criticality="C1", retention={"monthly": 0, "yearly": 0}),
        "non_compliant",
        None,
        "high",
        "short",
    ),
    (
        kept(range(TODAY - 20, TODAY), criticality="C3", retention={"daily": 30}),
        "non_compliant",
        None,
        "warning",
        "short",
    ),
    # younger than its retention: judged on what can exist
    (kept(range(TODAY - 13, TODAY), **NEW_SITE), "not_measurable", NEVER, "info", "young"),
    (kept(range(TODAY - 40, TODAY), **NEW_SITE), "compliant", None, "info", "kept"),
    (
        application(
            jobs=(history(range(TODAY - 13, TODAY), kept_us=14 * 86_400_000_000),), **NEW_SITE
        ),
        "non_compliant",
        None,
        "high",
        "pruned",
    ),
    (
        application(jobs=(history(kept_us=14 * 86_400_000_000),)),
        "compliant",
        None,
        "info",
        "kept",
    ),
    (application(jobs=(job(None, days=()),)), "non_compliant", None, "high", "no_point"),
    (
        application(jobs=(job(None, days=()),), **NEW_SITE),
        "not_measurable",
        NEVER,
        "info",
        "no_point_yet",
    ),
    (application(jobs=(job(NOW - HOUR, days=()),)), "not_measurable", NEVER, "info", "uncounted"),
    (application(jobs=(history(loss=LOSS),)), "non_compliant", None, "critical", "loss"),
    (
        application(jobs=(history(loss=LOSS),), criticality="C3"),
        "non_compliant",
        None,
        "critical",
        "loss",
    ),
    (application(jobs=(history(loss=LOSS | {"lost": 5}),)), "compliant", None, "info", "kept"),
    (application(jobs=(history(seen=NOW - 3 * HOUR),)), "not_measurable", LOST, "info", "unseen"),
    (application(jobs=(history(seen=NOW - 27 * HOUR),)), "warning", LOST, "warning", "unseen"),
    (application(jobs=(history(seen=NOW - 99 * HOUR),)), "non_compliant", LOST, "high", "unseen"),
    # another copy reaches back as far and was looked at
    (
        application(jobs=(history(seen=NOW - 99 * HOUR), history())),
        "compliant",
        None,
        "info",
        "kept",
    ),
]

# --------------------------------------------------------------------------------------- anomalies

MIB = 1 << 20


def usual(number: int, **changed: Any) -> dict[str, Any]:
    """Return a backup `number` nights ago, a little different from each other one."""
    at = NOW - number * DAY - HOUR
    return {
        "at": to_us(at),
        "weekday": at.isoweekday(),
        "kind": "snapshot",
        "bytes": 1000 * MIB + number * MIB,
        "bytes_added": 20 * MIB + number % 3 * MIB,
        "bytes_stored": 8 * MIB,
        "files": 5000 + number,
        "files_new": 30 + number % 5,
        "files_changed": 40 + number % 7,
        "files_removed": number % 4,
        "duration_ms": 1_800_000 + number * 1000,
    } | changed


def month(count: int = 30, before: Any = None, **changed: Any) -> View:
    samples = [usual(0, **changed), *(usual(n, **(before or {})) for n in range(1, count))]
    return job(NOW - HOUR, samples=samples)


def weekly_full(newest: int) -> View:
    """Return a job that writes 50 times as much on Sundays, its newest `newest` nights ago."""
    nights = [usual(n) for n in range(newest, newest + 39)]
    for one in nights:
        if one["weekday"] == 7:
            one["bytes"] *= 50
    return job(NOW - HOUR, samples=nights)


#: What a job adds from day to day, in MiB: three times as much or a third are nothing unusual.
_ADDED = (20, 35, 9, 24, 60, 14, 31, 11, 47, 18, 26, 7, 39, 22, 12, 53, 16, 28, 10, 33)


def lively(newest: int, kind: str = "incremental") -> View:
    """Return a job whose incremental backups differ much, the newest of `newest` MiB."""
    sizes = [newest, *_ADDED, *_ADDED]
    of = "bytes" if kind == "incremental" else "bytes_added"
    return job(
        NOW - HOUR,
        samples=[
            usual(n, kind=kind, files=300, bytes_stored=None) | {of: size * MIB}
            for n, size in enumerate(sizes)
        ],
    )


def weekly_chain(full: int) -> View:
    """Return a job of one full backup a week, the newest of `full` MiB, with incrementals after it."""
    nights = [usual(n, kind="incremental", bytes=30 * MIB) for n in range(40)]
    for one in nights:
        if one["weekday"] == 7:
            one |= {"kind": "full", "bytes": 2000 * MIB}
    next(one for one in nights if one["kind"] == "full")["bytes"] = full * MIB
    return job(NOW - HOUR, samples=nights)


def only(**numbers: int) -> View:
    samples = [
        {"at": to_us(NOW - n * DAY), "weekday": 1, "kind": None, **numbers} for n in range(9)
    ]
    return job(NOW - HOUR, samples=samples)


HIGH = ("non_compliant", None, "high")
FINE = ("compliant", None, "info", "usual")
ANO_01: list[Row] = [
    (month(), *FINE),
    (month(8), *FINE),
    (month(7), "not_measurable", NEVER, "info", "young"),
    (job(None, samples=[]), "not_measurable", NEVER, "info", "none"),
    (only(), "not_measurable", NEVER, "info", "no_numbers"),
    (only(bytes=0), *FINE),
    (month(bytes=3300 * MIB), *HIGH, "rose_bytes"),
    (month(bytes=1100 * MIB), *FINE),
    (month(bytes=1250 * MIB), *HIGH, "rose_bytes"),  # four times the floor of the spread
    (month(bytes=500 * MIB), *HIGH, "fell_bytes"),
    (month(bytes=900 * MIB), *FINE),
    (month(files=2500), *HIGH, "fell_count"),
    (month(files=0), *HIGH, "fell_count"),
    (month(files=16000), *HIGH, "rose_count"),
    (month(files=5300), *FINE),
    (month(files_removed=2000), *HIGH, "rose_count"),
    (month(files_changed=4000), *HIGH, "rose_count"),
    (month(files_new=4000), *HIGH, "rose_count"),
    (month(files_new=0, files_changed=0, files_removed=0, bytes_added=0), *FINE),  # a quiet day
    (month(bytes_added=900 * MIB), *HIGH, "rose_bytes"),
    (month(bytes_added=40 * MIB), *FINE),
    # nearly all of it is new though the whole is as large: deduplication finds nothing any more
    (month(before={"bytes_added": None}, bytes_added=900 * MIB), *FINE),
    (month(bytes_stored=20 * MIB), *HIGH, "rose_count"),  # encrypted data do not compress
    (month(bytes_stored=9 * MIB), *FINE),
    (month(duration_ms=4 * 3_600_000), "warning", None, "warning", "rose_ms"),
    (month(duration_ms=60_000), *FINE),
    (month(kind="full"), "not_measurable", NEVER, "info", "young"),
    (weekly_full(1), *FINE),  # a Sunday among Sundays
    (weekly_full(0), *FINE),
    (only(bytes_added=5, bytes=100), *FINE),
    # what changed on a day is a third or three times of what changed on another, every week
    *((lively(size), *FINE) for size in (7, 60, 75)),
    *((lively(size, "snapshot"), *FINE) for size in (1, 7, 60, 75)),
    (lively(900), *HIGH, "rose_bytes"),
    (lively(900, "snapshot"), *HIGH, "rose_bytes"),
    (lively(0), *HIGH, "fell_bytes"),
    # a full backup is judged as long as others stand on it
    (weekly_chain(2050), *FINE),
    (weekly_chain(300), *HIGH, "fell_bytes"),
    (weekly_chain(9000), *HIGH, "rose_bytes"),
    # a job whose files can be counted on one hand
    (job(NOW, samples=[usual(0, files=1), *(usual(n, files=3) for n in range(1, 9))]), *FINE),
    (
        job(
            NOW,
            criticality="C3",
            samples=[usual(0, files=1), *(usual(n, files=9) for n in range(1, 9))],
        ),
        "non_compliant",
        None,
        "warning",
        "fell_count",
    ),
]
