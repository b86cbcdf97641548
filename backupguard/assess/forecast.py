"""The recovery forecast: when each application would be back if everything had to be restored.

A pure function over what was measured and declared. Applications are taken in one fixed order that no
duration changes, each by the lane that is free first, and one fetch at a time from each host; so a
longer step or a slower test makes nothing end sooner. Durations are integer milliseconds since the
recovery began, times microseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from backupguard.model import Criticality, Fact

#: What a load costs with durable writes, in percent of the same load in the sandbox, which has none.
#: Measured with PostgreSQL 15 and one dump, one to four workers: a default server took 135 to 161.
DURABLE_PERCENT = 165
STEPS, TEST = "steps", "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something people do before the data can be brought back, and where its figure comes from."""

    name: str
    duration_ms: int
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """The restore test of our own that a figure rests on, and the copy that it came from.

    `load_ms` is all between the fetch and the opening. `newest_bytes` is the size of what would be
    restored now, None where nobody tells it; `failed_seq` a test of that copy that failed since.
    """

    seq: int
    tested_at: int
    repository: str
    host: str
    engine: str
    level: int
    tested_bytes: int
    fetch_ms: int
    load_ms: int
    open_ms: int
    newest_bytes: int | None = None
    newest_at: int | None = None
    immutable: bool = False
    failed_seq: int | None = None
    fact: Fact | None = field(default=None, repr=False)

    def grown(self, duration_ms: int) -> int:
        """Return how long something takes with the newest size: in proportion, and never less."""
        newest, tested = self.newest_bytes or 0, max(1, self.tested_bytes)
        return duration_ms if newest <= tested else -(-duration_ms * newest // tested)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToRecover:
    """What is known of an application before the forecast."""

    application: str
    criticality: Criticality
    rto_ms: int | None = None
    steps: tuple[Step, ...] = ()
    depends_on: tuple[str, ...] = ()
    basis: Basis | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """When an application would be back, and what of it is not known.

    Where anything is in `missing` ("steps", "test") or `waits_for` (what it depends on and that has no
    figure), `end_ms` is a lower bound. `behind` is how many applications without a figure come before
    it: they take longer than was counted. `after` is what its start waits for.
    """

    application: str
    criticality: Criticality
    rto_ms: int | None
    start_ms: int
    end_ms: int
    steps: tuple[Step, ...]
    steps_ms: int
    queue_ms: int  # until the host is done with those before
    fetch_ms: int
    load_ms: int  # durable writes included
    durable_ms: int  # of that, what was added for them
    open_ms: int
    basis: Basis | None
    missing: tuple[str, ...]
    waits_for: tuple[str, ...]
    behind: int
    after: str | None

    @property
    def measured(self) -> bool:
        """Tell whether `end_ms` is a forecast, not only a lower bound of its own parts."""
        return not self.missing and not self.waits_for

    @property
    def late(self) -> bool:
        """Tell whether it misses its declared RTO; a lower bound beyond it proves that too."""
        return self.rto_ms is not None and self.end_ms > self.rto_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Every application in the order of its turn, under which assumptions."""

    returns: tuple[Return, ...]
    parallel: int
    durable_percent: int

    def of(self, application: str) -> Return | None:
        """Return one application's forecast; None for an unknown one."""
        return next((one for one in self.returns if one.application == application), None)

    @property
    def critical_path(self) -> tuple[str, ...]:
        """Return what the last return waits for, first to last."""
        known = {one.application: one for one in self.returns}
        last = max(self.returns, key=lambda one: one.end_ms, default=None)
        path: list[str] = []
        while last is not None:
            path.append(last.application)
            last = known.get(last.after) if last.after is not None else None
        return tuple(reversed(path))


def order(wanted: Sequence[ToRecover]) -> tuple[ToRecover, ...]:
    """Return applications in the order of their recovery: what others need first, then the most vital.

    What a vital application depends on is as urgent as that one. Equal ones go by their RTO, then by
    name. Those that wait for one another, which the configuration refuses, come last.
    """
    known = {one.application: one for one in wanted}
    needs = {name: {n for n in one.depends_on if n in known} for name, one in known.items()}
    needed_by: dict[str, list[str]] = {name: [] for name in known}
    for name, others in needs.items():
        for other in others:
            needed_by[other].append(name)
    urgent = _urgency(known, needs, needed_by)
    open_needs = {name: len(others) for name, others in needs.items()}
    ready = [(urgent[name], name) for name, count in open_needs.items() if count == 0]
    heapify(ready)
    found: list[str] = []
    while ready:
        _, name = heappop(ready)
        found.append(name)
        for other in needed_by[name]:
            open_needs[other] -= 1
            if open_needs[other] == 0:
                heappush(ready, (urgent[other], other))
    if len(found) < len(known):
        found += sorted(known.keys() - set(found), key=lambda name: (urgent[name], name))
    return tuple(known[name] for name in found)


_Urgency = tuple[str, int]
_NO_RTO = 10**15


def _urgency(
    known: Mapping[str, ToRecover],
    needs: Mapping[str, set[str]],
    needed_by: Mapping[str, Sequence[str]],
) -> dict[str, _Urgency]:
    """Return how urgent each is: as itself, or as the most urgent that needs it."""
    urgent = {
        name: (one.criticality.value, _NO_RTO if one.rto_ms is None else one.rto_ms)
        for name, one in known.items()
    }
    waiting = {name: len(others) for name, others in needed_by.items()}
    done = [name for name, count in waiting.items() if count == 0]
    while done:
        name = done.pop()
        for other in needs[name]:
            urgent[other] = min(urgent[other], urgent[name])
            waiting[other] -= 1
            if waiting[other] == 0:
                done.append(other)
    return urgent


@dataclass(slots=True)
class _Lanes:
    """Who is free when: `lanes` holds (free at, whose work ends then), `hosts` the same by host."""

    lanes: list[tuple[int, str]]
    hosts: dict[str, tuple[int, str]]


def forecast(
    wanted: Sequence[ToRecover], *, parallel: int = 1, durable_percent: int = DURABLE_PERCENT
) -> Forecast:
    """Return when each application would be back if all had to be restored from now on.

    At most `parallel` are worked on at once. Each goes through its declared steps, the fetch from its
    host (one at a time), the load with durable writes, the opening; it begins when everything that it
    depends on is back. What is not known of an application counts as nothing and is said.
    """
    lanes = _Lanes(lanes=[(0, "") for _ in range(max(1, parallel))], hosts={})
    done: dict[str, Return] = {}
    unmeasured = 0
    for one in order(wanted):
        found = _next(one, lanes, done, unmeasured, durable_percent)
        done[one.application] = found
        unmeasured += bool(found.missing)
    return Forecast(
        returns=tuple(done.values()), parallel=max(1, parallel), durable_percent=durable_percent
    )


def _next(
    one: ToRecover, lanes: _Lanes, done: Mapping[str, Return], behind: int, durable_percent: int
) -> Return:
    free_at, whose = heappop(lanes.lanes)
    needed = [done[name] for name in one.depends_on if name in done]
    last = max(needed, key=lambda other: other.end_ms, default=None)
    start_ms, after = free_at, whose or None
    if last is not None and last.end_ms >= free_at:
        start_ms, after = last.end_ms, last.application
    steps_ms = sum(step.duration_ms for step in one.steps)
    fetch_ms = load_ms = durable_ms = open_ms = queue_ms = 0
    if (basis := one.basis) is not None:
        host_free, by = lanes.hosts.get(basis.host, (0, ""))
        queue_ms = max(0, host_free - start_ms - steps_ms)
        if queue_ms:
            after = by
        fetch_ms, bare_ms = basis.grown(basis.fetch_ms), basis.grown(basis.load_ms)
        load_ms = -(-bare_ms * durable_percent // 100)
        durable_ms, open_ms = load_ms - bare_ms, basis.open_ms
        fetched_ms = start_ms + steps_ms + queue_ms + fetch_ms
        lanes.hosts[basis.host] = fetched_ms, one.application
    end_ms = start_ms + steps_ms + queue_ms + fetch_ms + load_ms + open_ms
    heappush(lanes.lanes, (end_ms, one.application))
    without = [name for other in needed for name in _unmeasured(other)]
    return Return(
        application=one.application,
        criticality=one.criticality,
        rto_ms=one.rto_ms,
        start_ms=start_ms,
        end_ms=end_ms,
        steps=one.steps,
        steps_ms=steps_ms,
        queue_ms=queue_ms,
        fetch_ms=fetch_ms,
        load_ms=load_ms,
        durable_ms=durable_ms,
        open_ms=open_ms,
        basis=basis,
        missing=(*(() if one.steps else (STEPS,)), *(() if basis is not None else (TEST,))),
        waits_for=tuple(dict.fromkeys(without)),
        behind=behind,
        after=after,
    )


def _unmeasured(needed: Return) -> tuple[str, ...]:
    own = (needed.application,) if needed.missing else ()
    return (*own, *needed.waits_for)
