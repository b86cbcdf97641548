"""ANO-01: does a job's newest backup look like the ones before it?

Each number is held against the median of the job's own backups, of the same weekday where there are
enough of them, and against their median absolute deviation. Sizes double and halve rather than grow
by so much, so deviations are those of their logarithms: what changes from one day to the next by a
factor of three does so every week, and must not wake anybody. The newest full backup is judged beside
the newest incremental one, which would hide it the day after. All arithmetic is on whole numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from backupguard.controls import facts
from backupguard.model import Judgement, PointKind, Policy, Scope, Severity, Status, View

#: Fewer backups than this are no baseline; fewer of a weekday than that, and all days count.
ENOUGH, ENOUGH_OF_A_WEEKDAY = 7, 4
#: So many of the full backups that come once a week tell at least whether one is half as large.
FEW = 4
_ON_TOP = frozenset({PointKind.INCREMENTAL.value, PointKind.DIFFERENTIAL.value})
#: A value that came twice before is no surprise, such as a full backup once a week.
SEEN_BEFORE = 2
_KIB, _MIB = 1024, 1024 * 1024
#: Of a number, as a difference of `magnitude`.
_FIVE_PERCENT = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number that can stray. `least` is the smallest difference that is worth a word.

    What changes from one day to the next by its nature may only rise, and must rise threefold; a
    duration is no sign of lost data, so it is never urgent.
    """

    name: str
    least: int
    falls: bool = False
    steady: bool = False  # far from the usual spread is enough; otherwise it must be threefold too
    urgent: bool = True


#: In the order in which they are told.
MEASURES = (
    Measure(name="files", least=10, falls=True, steady=True),
    Measure(name="bytes", least=64 * _KIB, falls=True, steady=True),
    Measure(name="files_removed", least=100),
    Measure(name="files_changed", least=100),
    Measure(name="files_new", least=100),
    Measure(name="bytes_added", least=_MIB),
    Measure(name="new_permille", least=100),
    Measure(name="packed_permille", least=200, steady=True),
    Measure(name="duration_ms", least=10 * 60_000, urgent=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """A number that strays: what it is, and what it usually is."""

    measure: Measure
    value: int
    usual: int
    days: int  # how many backups "usual" rests on
    fell: bool


class BackupAnomaly:
    """Judges the newest backup of a job against the ones before it."""

    id: ClassVar[str] = "ANO-01"
    scope: ClassVar[Scope] = Scope.JOB
    reads: ClassVar[frozenset[str]] = frozenset({"repository.inspected"})

    def judge(self, view: View, policy: Policy, now: datetime) -> Judgement:
        """Judge one job."""
        behind = facts.clock_behind(view, now)
        if behind is not None:
            return behind
        inspected = view.latest.get("repository.inspected")
        samples = [one for one in view.known.get("samples") or () if isinstance(one, Mapping)]
        if not samples:
            return facts.never_set_up("reason.ANO-01.none", inspected)
        of_kind: dict[object, list[Mapping[str, Any]]] = {}
        for one in samples:
            of_kind.setdefault(one.get("kind"), []).append(one)
        known = [same for same in of_kind.values() if len(same) > _least(of_kind)]
        found = [_kind(same, view, policy) for same in known]
        if all(same[0] is not samples[0] for same in known):
            found.append(facts.never_set_up("reason.ANO-01.young", inspected, wanted=ENOUGH))
        return facts.worst_of(found)


def _least(of_kind: Mapping[object, object]) -> int:
    """Return how many backups of a kind are needed: a job of several kinds has few of the rare one."""
    return FEW if len(of_kind) > 1 else ENOUGH


def _kind(samples: Sequence[Mapping[str, Any]], view: View, policy: Policy) -> Judgement:
    """Judge the newest of a job's backups of one kind against the others, newest first."""
    inspected = view.latest.get("repository.inspected")
    newest, before = samples[0], samples[1:]
    measured = [m for m in MEASURES if _value(newest, m.name) is not None]
    if not measured:
        return facts.never_set_up("reason.ANO-01.no_numbers", inspected)
    found = [a for m in measured if (a := _stray(m, newest, before, policy)) is not None]
    if not found:
        return facts.compliant("reason.ANO-01.usual", inspected)
    return _told(found, policy, view, facts.number(newest.get("at")) or 0)


def _told(found: Sequence[Anomaly], policy: Policy, view: View, at: int) -> Judgement:
    """Return the finding for the first anomaly, with how many others there are."""
    first = next((one for one in found if one.measure.urgent), found[0])
    unit = "ms" if first.measure.name.endswith("_ms") else "count"
    if first.measure.name.startswith("bytes"):
        unit = "bytes"
    inspected = view.latest.get("repository.inspected")
    values: dict[str, int | str] = {
        "what": f"@measure.{first.measure.name}",
        "point_at": at,
        f"value_{unit}": first.value,
        f"usual_{unit}": first.usual,
        "count": first.days,
        "others": len(found) - 1,
    }
    reason = f"reason.ANO-01.{'fell' if first.fell else 'rose'}_{unit}"
    if first.measure.urgent:
        return facts.non_compliant(policy.severity, reason, inspected, **values)
    return facts.judged(Status.WARNING, Severity.WARNING, reason, inspected, **values)


def _value(sample: Mapping[str, Any], name: str) -> int | None:
    """Return a number of a backup; ratios are in thousandths, None where they say nothing."""
    if name == "new_permille":  # deduplication: how much of what was read is new
        added, whole = facts.number(sample.get("bytes_added")), facts.number(sample.get("bytes"))
        return added * 1000 // whole if added is not None and whole else None
    if name == "packed_permille":  # compression: how much is left of what was new
        stored, added = (
            facts.number(sample.get("bytes_stored")), facts.number(sample.get("bytes_added")),
        )  # fmt: skip
        return stored * 1000 // added if stored is not None and added and added >= _MIB else None
    return facts.number(sample.get(name))


def _stray(
    measure: Measure, newest: Mapping[str, Any], before: Sequence[Mapping[str, Any]], policy: Policy
) -> Anomaly | None:
    """Return the anomaly of one number of the newest backup, None when it is as usual."""
    value = _value(newest, measure.name)
    told = [(s.get("weekday"), v) for s in before if (v := _value(s, measure.name)) is not None]
    if value is None or len(told) < FEW:
        return None
    by_day = _by_weekday(told)
    if newest.get("weekday") not in by_day:
        by_day = {}  # every day counts, for what is usual and for how far others lie from that
    values = by_day.get(newest.get("weekday")) or [v for _, v in told]
    usual = median(values)
    away = abs(value - usual)
    # What a backup adds on top of another one is different every day, whatever it is counted in.
    whole = measure.steady and (
        measure.name == "packed_permille" or newest.get("kind") not in _ON_TOP
    )
    far = len(told) >= ENOUGH and _is_far(value, usual, _spread(told, by_day), policy)
    anomaly = Anomaly(
        measure=measure, value=value, usual=usual, days=len(values), fell=value < usual
    )
    if value < usual:
        halved = away * 100 >= usual * facts.count(policy, "fall", 50)
        few = measure.name == "files" and usual < 4
        if not measure.falls or few:
            return None
        stray = halved or (away >= measure.least and far) if whole else halved and far
        return anomaly if stray else None
    # A Sunday that is as busy as any Monday is no attack; a full backup twice as large may be one.
    every_day = not by_day or not whole
    seen_before = sum(3 * v >= 2 * value for _, v in told) >= SEEN_BEFORE
    if away < measure.least or (every_day and seen_before):
        return None
    threefold = value >= usual * facts.count(policy, "rise", 3)
    return anomaly if (threefold or far if whole else threefold and far) else None


def _by_weekday(told: Sequence[tuple[Any, int]]) -> dict[Any, list[int]]:
    """Return the values of each weekday that has enough of them."""
    found: dict[Any, list[int]] = {}
    for weekday, value in told:
        found.setdefault(weekday, []).append(value)
    return {day: values for day, values in found.items() if len(values) >= ENOUGH_OF_A_WEEKDAY}


def _spread(told: Sequence[tuple[Any, int]], by_day: Mapping[Any, Sequence[int]]) -> int:
    """Return how far values usually lie from the median of their weekday, in `magnitude` times 10⁴.

    All weekdays together, since the handful of values of one tell nothing of a spread. 1.4826 times
    the median absolute deviation, as for normally spread values, a quarter more where medians are
    those of few values, and five percent at least: what never varies must not make a trifle an alarm.
    """
    usual = {day: magnitude(median(values)) for day, values in by_day.items()}
    overall = magnitude(median([value for _, value in told]))
    away = [abs(magnitude(value) - usual.get(day, overall)) for day, value in told]
    return max(median(away) * 14_826 * (5 if usual else 4) // 4, _FIVE_PERCENT * 10_000)


def _is_far(value: int, usual: int, spread: int, policy: Policy) -> bool:
    """Tell whether a value lies many times the usual spread away from the median."""
    away = abs(magnitude(value) - magnitude(usual))
    return away * 10_000 >= spread * facts.count(policy, "deviation", 4)


def magnitude(value: int) -> int:
    """Return the logarithm of a number to base 2, in thousandths, right to within a hundredth."""
    value = max(value, 1)
    power = value.bit_length() - 1
    rest = ((value - (1 << power)) * 1000) >> power
    return power * 1000 + rest + 343 * rest * (1000 - rest) // 1_000_000


def median(values: Sequence[int]) -> int:
    """Return the median of whole numbers, rounded down between two; 0 for none."""
    ordered = sorted(values)
    if not ordered:
        return 0
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) // 2
