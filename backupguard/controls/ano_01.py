"""ANO-01: does a job's newest backup look like the ones before it?

Each number is held against the median of the job's own backups, of the same weekday where there are
enough of them, and against their median absolute deviation. Sizes double and halve rather than grow
by so much, so deviations are those of their logarithms: what changes from one day to the next by a
factor of three does so every week, and must not wake anybody. The newest full backup is judged beside
the newest incremental one, which would hide it the day after. All arithmetic is on whole numbers.

What strays and stays is told once: while it goes on it is held against what was before it, which it
does not move, and after a stated time, or once somebody accepted it, its level is the usual one.
Where another job saves the same and rose to that level before, it was told there.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, cast

from backupguard.controls import facts
from backupguard.model import Fact, Judgement, PointKind, Policy, Scope, Severity, Status, View

#: Fewer backups than this are no baseline; fewer of a weekday than that, and all days count.
ENOUGH, ENOUGH_OF_A_WEEKDAY = 7, 4
#: Of those that came since, it is known whether they went on: so many of a weekday tell what was usual.
BEFORE_OF_A_WEEKDAY = 2
#: So many of the full backups that come once a week tell at least whether one is half as large.
FEW = 4
_ON_TOP = frozenset({PointKind.INCREMENTAL.value, PointKind.DIFFERENTIAL.value})
#: A value that came twice before is no surprise, such as a full backup once a week.
SEEN_BEFORE = 2
_KIB, _MIB = 1024, 1024 * 1024
#: Of a number, as a difference of `magnitude`.
_FIVE_PERCENT = 70
#: Two backups of the same data differ by no more than a tenth, as a difference of `magnitude`.
_ALIKE = 140
#: A new level is one after so many backups at least, however rare they are.
LASTING = 3
#: For how long a rise is told, where the catalogue says nothing, in seconds.
SETTLES_S = 7 * 86_400
_US = 1_000_000


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
    reads: ClassVar[frozenset[str]] = frozenset({"repository.inspected", "baseline.accepted"})

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
    newest = samples[0]
    measured = [m for m in MEASURES if _value(newest, m.name) is not None]
    if not measured:
        return facts.never_set_up("reason.ANO-01.no_numbers", inspected)
    accepted = view.latest.get("baseline.accepted")
    peers = view.known.get("peers") or ()
    found = [a for m in measured if (a := _lasting(m, samples, accepted, peers, policy))]
    if not found:
        return facts.compliant("reason.ANO-01.usual", inspected, accepted)
    return _finding(found, policy, view, facts.number(newest.get("at")) or 0)


def _finding(found: Sequence[Anomaly], policy: Policy, view: View, at: int) -> Judgement:
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


def _told(sample: Mapping[str, Any], measure: Measure) -> int:
    """Return a number of a backup that is known to have it."""
    return cast("int", _value(sample, measure.name))


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


class _Baseline:
    """What a number was in the backups that are taken as usual, oldest first."""

    def __init__(self, told: Sequence[tuple[Any, int]] = ()) -> None:
        self.told: list[tuple[Any, int]] = []
        self._sorted: list[int] = []
        self._days: dict[Any, list[int]] = {}
        for weekday, value in told:
            self._add(weekday, value)

    def _add(self, weekday: Any, value: int) -> None:
        self.told.append((weekday, value))
        insort(self._sorted, value)
        insort(self._days.setdefault(weekday, []), value)

    def learn(self, measure: Measure, samples: Sequence[Mapping[str, Any]]) -> None:
        """Take more backups as usual."""
        for one in samples:
            self._add(one.get("weekday"), _told(one, measure))

    def usual(self, weekday: Any, enough: int = BEFORE_OF_A_WEEKDAY) -> tuple[int, int]:
        """Return what is usual on a weekday, and on how many backups that rests."""
        day = self._days.get(weekday, [])
        values = day if len(day) >= enough else self._sorted
        return _middle(values), len(values)

    def away(self, measure: Measure, one: Mapping[str, Any]) -> int:
        """Return how far a backup lies from the usual, as a difference of `magnitude`."""
        return magnitude(_told(one, measure)) - magnitude(self.usual(one.get("weekday"))[0])

    def moved(self, measure: Measure, run: Sequence[Mapping[str, Any]]) -> _Baseline:
        """Return it at the level of a run: its weekdays and its spread stay what they were."""
        now = [(one.get("weekday"), _told(one, measure)) for one in run]
        usual = [(value, self.usual(weekday)[0]) for weekday, value in now]
        if any(level == 0 for _, level in usual):
            return _Baseline(now)
        permille = median([value * 1000 // level for value, level in usual])
        return _Baseline([*((day, value * permille // 1000) for day, value in self.told), *now])


def _lasting(
    measure: Measure,
    samples: Sequence[Mapping[str, Any]],
    accepted: Fact | None,
    peers: Sequence[Sequence[Mapping[str, Any]]],
    policy: Policy,
) -> Anomaly | None:
    """Return the anomaly that stands on the newest of some backups, newest first; None for none.

    They are gone through as they came. One that strays begins a run, and those that lie at least half
    as far on the same side go on with it. A run that ends was an exception; one that lasts is what is
    usual from then on: what rose after `settles`, what fell after twice as long.
    """
    known = [s for s in reversed(samples) if _value(s, measure.name) is not None]
    least = min(ENOUGH, len(known) - 1)
    decided = _newest_at(known, accepted)
    base, run = _Baseline(), list[Mapping[str, Any]]()
    for number, one in enumerate(known):
        enough = ENOUGH_OF_A_WEEKDAY if one is known[-1] else BEFORE_OF_A_WEEKDAY
        if run and not _goes_on(measure, base, run[0], one):
            base.learn(measure, run)
            run = []
        if len(base.told) < least or (not run and not _stray(measure, one, base, policy, enough)):
            base.learn(measure, [one])
            continue
        run.append(one)
        fell = base.away(measure, one) < 0
        since = facts.number(known[number - 1].get("at")) or 0
        told_before = not fell and len(run) == 1 and _is_known(measure, one, since, peers, policy)
        if number == decided or told_before or _lasts(run, policy, fell=fell):
            base, run = base.moved(measure, run), []
    if not run:
        return None
    usual, days = base.usual(known[-1].get("weekday"), ENOUGH_OF_A_WEEKDAY)
    value = _told(known[-1], measure)
    return Anomaly(measure=measure, value=value, usual=usual, days=days, fell=value < usual)


def _newest_at(known: Sequence[Mapping[str, Any]], accepted: Fact | None) -> int | None:
    """Return the number of the newest backup when somebody accepted the data; None for none."""
    if accepted is None:
        return None
    until = facts.seen_at(accepted)
    return max((n for n, s in enumerate(known) if (s.get("at") or 0) <= until), default=None)


def _goes_on(
    measure: Measure, base: _Baseline, first: Mapping[str, Any], one: Mapping[str, Any]
) -> bool:
    """Tell whether a backup strays as the first of a run does.

    What differs from day to day by its nature is never a level: each rise of it is told by itself.
    """
    begun, now = base.away(measure, first), base.away(measure, one)
    if begun > 0 and not _is_whole(measure, one):
        return False
    return begun * now > 0 and 2 * abs(now) >= abs(begun)


def _is_known(
    measure: Measure,
    one: Mapping[str, Any],
    since: int,
    peers: Sequence[Sequence[Mapping[str, Any]]],
    policy: Policy,
) -> bool:
    """Tell whether another job that saves the same rose to the level of this one before it.

    That it is as large is not enough: since this job's backup before, at `since`, it must have
    strayed from what is usual of it, and been told; and it must still be there.
    """
    if not _is_whole(measure, one):
        return False
    for samples in peers:
        before = [
            sample
            for sample in samples
            if (sample.get("at") or 0) < (one.get("at") or 0)
            and sample.get("kind") == one.get("kind")
        ]
        values = [_value(sample, measure.name) for sample in before]
        if not values or not _is_near(_told(one, measure), values[0]):
            continue
        for number, value in enumerate(values):
            if number and (before[number].get("at") or 0) < since:
                break
            if not _is_near(_told(one, measure), value):
                continue
            rose = _lasting(measure, before[number:], None, (), policy)
            if rose is not None and not rose.fell:
                return True
    return False


def _is_near(value: int, other: int | None) -> bool:
    return other is not None and abs(magnitude(value) - magnitude(other)) <= _ALIKE


def _lasts(run: Sequence[Mapping[str, Any]], policy: Policy, *, fell: bool) -> bool:
    """Tell whether a run has gone on for so long that it is what is usual."""
    began, last = (facts.number(run[n].get("at")) or 0 for n in (0, -1))
    lasts = (facts.seconds(policy, "settles") or SETTLES_S) * (2 if fell else 1)
    return len(run) >= LASTING and last - began >= lasts * _US


def _is_whole(measure: Measure, sample: Mapping[str, Any]) -> bool:
    """Tell whether a number is of a whole backup, and not of what one adds to another."""
    return measure.steady and (
        measure.name == "packed_permille" or sample.get("kind") not in _ON_TOP
    )


def _stray(
    measure: Measure, one: Mapping[str, Any], base: _Baseline, policy: Policy, enough: int
) -> bool:
    """Tell whether one number of a backup is not as usual; `enough`: so many of a weekday tell."""
    value = _told(one, measure)
    if len(base.told) < FEW:
        return False
    usual, _ = base.usual(one.get("weekday"), enough)
    away = abs(value - usual)
    halved = value < usual and away * 100 >= usual * facts.count(policy, "fall", 50)
    threefold = value > usual and value >= usual * facts.count(policy, "rise", 3)
    least = _FIVE_PERCENT * facts.count(policy, "deviation", 4)
    if not (halved or threefold or abs(magnitude(value) - magnitude(usual)) >= least):
        return False  # most are: nobody need know how far others lie from what is usual
    by_day = _by_weekday(base.told, enough)
    if one.get("weekday") not in by_day:
        by_day = {}  # every day counts, for what is usual and for how far others lie from that
    # What a backup adds on top of another one is different every day, whatever it is counted in.
    whole = _is_whole(measure, one)
    far = len(base.told) >= ENOUGH and _is_far(value, usual, _spread(base.told, by_day), policy)
    if value < usual:
        few = measure.name == "files" and usual < 4
        if not measure.falls or few:
            return False
        return halved or (away >= measure.least and far) if whole else halved and far
    # A Sunday that is as busy as any Monday is no attack; a full backup twice as large may be one.
    every_day = not by_day or not whole
    seen_before = sum(3 * v >= 2 * value for _, v in base.told) >= SEEN_BEFORE
    if away < measure.least or (every_day and seen_before):
        return False
    return threefold or far if whole else threefold and far


def _by_weekday(told: Sequence[tuple[Any, int]], enough: int) -> dict[Any, list[int]]:
    """Return the values of each weekday that has enough of them."""
    found: dict[Any, list[int]] = {}
    for weekday, value in told:
        found.setdefault(weekday, []).append(value)
    return {day: values for day, values in found.items() if len(values) >= enough}


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
    return _middle(sorted(values))


def _middle(ordered: Sequence[int]) -> int:
    """Return the median of numbers in their order."""
    if not ordered:
        return 0
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) // 2
