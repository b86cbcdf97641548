"""The arithmetic of PostgreSQL's write-ahead log: segments, timelines, and how far an archive reaches.

Names and rules are PostgreSQL's (documentation, "WAL Internals" and "Continuous Archiving"): a segment
is named by timeline, upper half of its position and number within that half; a history file
`TTTTTTTT.history` names the timelines before it and where each was left.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

#: PostgreSQL's own default for the size of a segment, in bytes.
SEGMENT_SIZE = 16 << 20
_SIZES = tuple(1 << power for power in range(20, 31))  # what initdb --wal-segsize allows
_HALF = 1 << 32
_NAME = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})\Z")
_HISTORY_NAME = re.compile(r"([0-9A-F]{8})\.history\Z")
_HISTORY_LINE = re.compile(r"\s*(\d+)\s+([0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8})(?:\s|\Z)")


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """A segment by its timeline and its number since position 0."""

    timeline: int
    number: int

    def name(self, size: int) -> str:
        """Return the name of its file, for segments of `size` bytes."""
        upper, lower = divmod(self.number, _HALF // size)
        return f"{self.timeline:08X}{upper:08X}{lower:08X}"


def parse_segment(name: str, size: int) -> Segment:
    """Given 24 hexadecimal digits, return the segment; raise ValueError when it is no such name."""
    match = _NAME.match(name)
    if match is None:
        raise ValueError(f"{name!r} is no name of a segment")
    timeline, upper, lower = (int(part, 16) for part in match.groups())
    if timeline == 0 or lower >= _HALF // size:
        raise ValueError(f"{name!r} is no segment of {size} bytes")
    return Segment(timeline, upper * (_HALF // size) + lower)


def parse_position(text: str) -> int:
    """Given a position such as "16/B374D848", return it in bytes; raise ValueError."""
    upper, slash, lower = text.partition("/")
    if not slash:
        raise ValueError(f"{text!r} is no position in the log")
    return int(upper, 16) * _HALF + int(lower, 16)


def timeline_of_history(name: str) -> int | None:
    """Given a file's name, return whose history it is; None when it is no history file."""
    match = _HISTORY_NAME.match(name)
    return int(match[1], 16) if match else None


def segment_size(pairs: Iterable[tuple[str, str]]) -> int:
    """Given names of segments with a position inside each, return the only size that fits all.

    PostgreSQL's default where several fit (a young cluster). Raise ValueError when none does.
    """
    seen = [(name, parse_position(text)) for name, text in pairs]
    fitting = [size for size in _SIZES if all(_lies_in(name, at, size) for name, at in seen)]
    if not fitting:
        raise ValueError("names of segments and positions contradict one another")
    return SEGMENT_SIZE if SEGMENT_SIZE in fitting else fitting[0]


def _lies_in(name: str, position: int, size: int) -> bool:
    try:
        number = parse_segment(name, size).number
    except ValueError:
        return False
    # A position at the very end of a segment is that of the next one's first byte.
    return position // size == number or position == (number + 1) * size


@dataclass(frozen=True, slots=True)
class Switch:
    """A timeline was left at a position, in bytes."""

    timeline: int
    position: int


def parse_history(text: str) -> tuple[Switch, ...]:
    """Given the text of a history file, return the timelines before it, the oldest first.

    Raise ValueError when a line is none, or when timelines do not ascend.
    """
    switches: list[Switch] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _HISTORY_LINE.match(line)
        if match is None:
            raise ValueError("a line of a history file is no switch")
        switch = Switch(int(match[1]), parse_position(match[2]))
        if switches and switches[-1].timeline >= switch.timeline:
            raise ValueError("timelines of a history file do not ascend")
        switches.append(switch)
    return tuple(switches)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Segments that are missing between two that are there; times in seconds since 1970.

    `after` is the first one behind the gap, `after_at` when that was archived.
    """

    first: Segment
    last: Segment
    after: Segment
    after_at: int

    @property
    def missing(self) -> int:
        """How many are missing."""
        return self.after.number - self.first.number


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far the log leads from a backup's first segment.

    `last` is the newest segment up to which none is missing (None: not even the first is there),
    `until` when it was archived (seconds since 1970), `gap` what comes next where more follows.
    """

    last: Segment | None
    until: int | None
    gap: Gap | None
    complete: bool  # everything the backup needs to become consistent is there


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a way through timelines: segments `first` up to, not including, `end`."""

    timeline: int
    first: int
    end: int | None


class Archive:
    """The segments an archive holds, with the histories of its timelines.

    `segments` are pairs of a segment and when it was archived (seconds since 1970); of two equal
    ones the earlier time counts. They are kept as arrays: a million take 16 MB.
    """

    def __init__(
        self,
        segments: Iterable[tuple[Segment, int]],
        histories: Mapping[int, Sequence[Switch]],
        size: int,
    ) -> None:
        self.size = size
        self._histories = dict(histories)
        held: dict[int, tuple[array[int], array[int]]] = {}
        for segment, at in segments:
            numbers, times = held.setdefault(segment.timeline, (array("q"), array("q")))
            numbers.append(segment.number)
            times.append(at)
        self._held = {timeline: _ascending(*columns) for timeline, columns in held.items()}
        self._runs = {timeline: _runs(numbers) for timeline, (numbers, _) in self._held.items()}

    def time_of(self, segment: Segment) -> int | None:
        """Return when a segment was archived, None when it is not there."""
        numbers, times = self._held.get(segment.timeline, ((), ()))
        index = bisect_left(numbers, segment.number)
        found = index < len(numbers) and numbers[index] == segment.number
        return times[index] if found else None

    def reach(self, start: Segment, stop: Segment) -> Reach:
        """Return how far the log leads from a backup that needs `start` to `stop`.

        The newest timeline that descends from the backup's end is followed, as PostgreSQL's
        `recovery_target_timeline = latest` does.
        """
        last: Segment | None = None
        for piece in self._way(start, stop):
            found = self._run_at(piece.timeline, piece.first)
            held_to = piece.first if found is None else found + 1
            if piece.end is not None and held_to >= piece.end:
                if piece.end > piece.first:
                    last = Segment(piece.timeline, piece.end - 1)
                continue
            if held_to > piece.first:
                last = Segment(piece.timeline, held_to - 1)
            missing = Segment(piece.timeline, held_to)
            gap = self._gap(missing, self._way(start, stop))
            return self._reached(last, gap, stop)
        return self._reached(last, None, stop)

    def segments(self, start: Segment, stop: Segment, after: int) -> tuple[Segment, ...]:
        """Return, in order, what a recovery from `start` to the time `after` needs (seconds).

        That is everything up to the first segment archived after that time, which holds what was
        done until then; never less than `start` to `stop`, and nothing behind a gap.
        """
        reach = self.reach(start, stop)
        chosen: list[Segment] = []
        for segment in self._walk(start, stop, reach):
            chosen.append(segment)
            if segment.number >= stop.number and (self.time_of(segment) or 0) > after:
                break
        return tuple(chosen)

    # ---- ways through timelines

    def _walk(self, start: Segment, stop: Segment, reach: Reach) -> Iterator[Segment]:
        if reach.last is None:
            return
        for piece in self._way(start, stop):
            end = reach.last.number + 1
            if piece.timeline != reach.last.timeline and piece.end is not None:
                end = min(end, piece.end)
            yield from (Segment(piece.timeline, number) for number in range(piece.first, end))
            if piece.timeline == reach.last.timeline:
                return

    def _way(self, start: Segment, stop: Segment) -> Iterator[_Piece]:
        """Yield the pieces from `start` on, to the end of the newest descendant of `stop`."""
        descendants = [
            timeline
            for timeline, switches in self._histories.items()
            if any(
                switch.timeline == stop.timeline and switch.position // self.size >= stop.number
                for switch in switches
            )
        ]
        target = max([stop.timeline, *descendants])
        first = start.number
        begun = False
        for switch in self._histories.get(target, ()):
            begun = begun or switch.timeline == start.timeline
            end = switch.position // self.size
            if begun and end >= first:
                yield _Piece(switch.timeline, first, end)
                first = end
        yield _Piece(target if begun or target == start.timeline else start.timeline, first, None)

    def _run_at(self, timeline: int, number: int) -> int | None:
        """Return the last number of the unbroken run that holds `number`, None without one."""
        firsts, lasts = self._runs.get(timeline, ((), ()))
        index = bisect_right(firsts, number) - 1
        return lasts[index] if index >= 0 and lasts[index] >= number else None

    def _gap(self, missing: Segment, way: Iterable[_Piece]) -> Gap | None:
        """Return the gap that begins with `missing`; None when nothing on the way follows it."""
        for piece in way:
            if piece.timeline < missing.timeline:
                continue
            firsts, _ = self._runs.get(piece.timeline, ((), ()))
            lowest = max(piece.first, missing.number)
            index = bisect_left(firsts, lowest)
            after: int | None = firsts[index] if index < len(firsts) else None
            if self._run_at(piece.timeline, lowest) is not None:
                after = lowest
            if after is not None and (piece.end is None or after < piece.end):
                segment = Segment(piece.timeline, after)
                return Gap(
                    first=missing,
                    last=Segment(
                        piece.timeline if after > piece.first else missing.timeline, after - 1
                    ),
                    after=segment,
                    after_at=self.time_of(segment) or 0,
                )
        return None

    def _reached(self, last: Segment | None, gap: Gap | None, stop: Segment) -> Reach:
        return Reach(
            last=last,
            until=self.time_of(last) if last is not None else None,
            gap=gap,
            complete=last is not None and last.number >= stop.number,
        )


def _ascending(numbers: array[int], times: array[int]) -> tuple[array[int], array[int]]:
    """Return both columns by ascending number, without repetitions."""
    if all(numbers[index] < numbers[index + 1] for index in range(len(numbers) - 1)):
        return numbers, times
    first: dict[int, int] = {}
    for number, at in zip(numbers, times, strict=True):
        first[number] = min(at, first.get(number, at))
    ordered = sorted(first)
    return array("q", ordered), array("q", (first[number] for number in ordered))


def _runs(numbers: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Given ascending numbers, return the first and the last of each unbroken run."""
    firsts: list[int] = []
    lasts: list[int] = []
    for number in numbers:
        if lasts and lasts[-1] + 1 == number:
            lasts[-1] = number
        else:
            firsts.append(number)
            lasts.append(number)
    return firsts, lasts
