"""Compares the shape of restored data with what was accepted, or seen last: counts, never values.

Every result that is wrong has a verdict: `failed` when a person accepted the shape it is compared with,
else `passed` with a code that begins with `warning_`, which outputs show and which raises no level.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from backupguard.model import Baseline, CheckResult, Fingerprint, Verdict

OK = "ok"
WARNING = "warning_"

#: A table that held fewer rows says little when it shrinks: queues, settings, sessions.
SMALL_TABLE_ROWS = 100
#: Purges and archiving move tables by a few percent between two tests; half is another thing.
COLLAPSED_PERCENT = 50
#: Slow shrinkage of everything together is seen before any table collapses.
SHRUNK_PERCENT = 90
#: Tables in common with the shape known, below which this is another database.
OVERLAP_PERCENT = 50
#: Kinds of objects an application calls by name; fewer of them is a loss, more is an update.
_CALLED = (
    *("routine", "trigger", "view", "materialized-view", "sequence", "constraint", "index"),
    *("large-object", "extension", "type", "foreign-table", "event", "grant"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The shape to compare with, and whether somebody accepted it."""

    shape: Fingerprint
    accepted: bool


def known_shape(baseline: Baseline | None, previous: Fingerprint | None) -> Known | None:
    """Return what to compare with: the accepted baseline, else the last test, else what there is."""
    if baseline is not None and baseline.accepted:
        return Known(shape=baseline.fingerprint, accepted=True)
    if previous is not None:
        return Known(shape=previous, accepted=False)
    return Known(shape=baseline.fingerprint, accepted=False) if baseline is not None else None


def verdict(code: str, *, proved: bool) -> tuple[Verdict, str]:
    """Return the verdict and code of something wrong: a failure when proved, else a warning."""
    return (Verdict.FAILED, code) if proved else (Verdict.PASSED, WARNING + code)


def result(
    name: str,
    code: str,
    *,
    wrong: bool,
    proved: bool = False,
    level: int = 2,
    numbers: Mapping[str, int] | None = None,
    times: Mapping[str, datetime] | None = None,
) -> CheckResult:
    """Return one unconfigured check's result."""
    outcome = verdict(code, proved=proved) if wrong else (Verdict.PASSED, OK)
    return CheckResult(
        name=name,
        level=level,
        verdict=outcome[0],
        code=outcome[1],
        numbers=dict(numbers or {}),
        times=dict(times or {}),
    )


def compare(
    now: Fingerprint,
    baseline: Baseline | None,
    previous: Fingerprint | None,
    *,
    small: int = SMALL_TABLE_ROWS,
) -> Iterator[CheckResult]:
    """Yield what the shape says by itself, and against what was accepted or seen last.

    `small`: a table that held fewer rows says little when it shrinks.
    """
    rows = sum(now.tables.values())
    yield result(
        "tables",
        "no_tables",
        wrong=not now.tables,
        proved=True,
        numbers={"tables": len(now.tables)},
    )
    # A dump of definitions restores without an error and brings back nobody's record.
    yield result(
        "rows",
        "schema_only",
        wrong=bool(now.tables) and rows == 0,
        proved=True,
        numbers={"tables": len(now.tables), "rows": rows},
    )
    known = known_shape(baseline, previous)
    if known is None or not known.shape.tables:
        return
    yield from _same_database(now, known)
    yield _tables_lost(now, known)
    yield _rows_lost(now, known, small)
    yield _shrinking(now, known)
    yield _objects_lost(now, known)
    yield _columns_lost(now, known)


def _same_database(now: Fingerprint, known: Known) -> Iterator[CheckResult]:
    common = len(now.tables.keys() & known.shape.tables.keys())
    percent = 100 * common // len(known.shape.tables)
    yield result(
        "same-database",
        "wrong_content",
        wrong=percent < OVERLAP_PERCENT,
        proved=known.accepted,
        numbers={"common": common, "known": len(known.shape.tables)},
    )


def _tables_lost(now: Fingerprint, known: Known) -> CheckResult:
    lost = known.shape.tables.keys() - now.tables.keys()
    added = now.tables.keys() - known.shape.tables.keys()
    numbers = {"lost": len(lost), "added": len(added)}
    return result(
        "tables-lost", "tables_lost", wrong=bool(lost), proved=known.accepted, numbers=numbers
    )


def _rows_lost(now: Fingerprint, known: Known, least: int) -> CheckResult:
    """Tables that became empty, or lost half of the rows they had or more."""
    emptied = collapsed = 0
    small = 0
    for table, before in known.shape.tables.items():
        after = now.tables.get(table)
        if after is None or not before:
            continue
        if before < least:
            small += after == 0
        elif after == 0:
            emptied += 1
        elif after * 100 <= before * COLLAPSED_PERCENT:
            collapsed += 1
    serious = emptied + collapsed > 0
    numbers = {"emptied": emptied + small, "collapsed": collapsed}
    wrong = serious or small > 0
    return result(
        "rows-lost", "rows_lost", wrong=wrong, proved=known.accepted and serious, numbers=numbers
    )


def _shrinking(now: Fingerprint, known: Known) -> CheckResult:
    before, after = sum(known.shape.tables.values()), sum(now.tables.values())
    wrong = before >= SMALL_TABLE_ROWS and after * 100 < before * SHRUNK_PERCENT
    return result(
        "rows-shrinking", "rows_shrinking", wrong=wrong, numbers={"before": before, "after": after}
    )


def _objects_lost(now: Fingerprint, known: Known) -> CheckResult:
    """Routines, triggers, views…: fewer is a warning; all, or half, of an accepted kind a loss."""
    fewer = halved = 0
    for kind in _CALLED:
        before, after = known.shape.objects.get(kind, 0), now.objects.get(kind, 0)
        fewer += max(0, before - after)
        halved += before > 0 and after * 100 < before * COLLAPSED_PERCENT
    return result(
        "objects-lost",
        "missing_object",
        wrong=fewer > 0,
        proved=known.accepted and halved > 0,
        numbers={"lost": fewer, "kinds": halved},
    )


def _columns_lost(now: Fingerprint, known: Known) -> CheckResult:
    lost = sum(
        max(0, before - now.columns.get(table, before))
        for table, before in known.shape.columns.items()
    )
    return result("columns-lost", "columns_lost", wrong=lost > 0, numbers={"lost": lost})
