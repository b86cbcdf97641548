import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupguard.repositories.wal import (
    SEGMENT_SIZE,
    Archive,
    Segment,
    Switch,
    parse_history,
    parse_position,
    parse_segment,
    segment_size,
    timeline_of_history,
)

SIZES = st.sampled_from([1 << power for power in range(20, 31)])


def archive(numbers, histories=None, size=SEGMENT_SIZE):
    """Segments of timeline 1 (numbers) or of others (pairs), each archived at 1000 + its number."""
    segments = [Segment(*one) if isinstance(one, tuple) else Segment(1, one) for one in numbers]
    return Archive([(one, 1000 + one.number) for one in segments], histories or {}, size)


def reach(held, start, stop, timeline=1):
    return held.reach(Segment(timeline, start), Segment(timeline, stop))


@given(SIZES, st.integers(1, 0xFFFFFFFF), st.integers(0, (1 << 64) - 1))
def test_a_name_read_back_is_the_same_segment(size, timeline, position):
    segment = Segment(timeline, position // size)
    name = segment.name(size)
    assert len(name) == 24
    assert parse_segment(name, size) == segment


@given(SIZES, st.integers(1, 0xFFFFFFFF), st.integers(0, (1 << 34) - 2))
def test_names_ascend_with_numbers(size, timeline, number):
    one, two = Segment(timeline, number), Segment(timeline, number + 1)
    assert one.name(size) < two.name(size)


def test_names_as_postgresql_writes_them():
    assert Segment(1, 0xFF).name(SEGMENT_SIZE) == "0000000100000000000000FF"
    assert Segment(1, 0x100).name(SEGMENT_SIZE) == "000000010000000100000000"
    assert Segment(10, 3).name(64 << 20) == "0000000A0000000000000003"
    assert parse_segment("000000010000000100000000", 1 << 30) == Segment(1, 4)


@pytest.mark.parametrize(
    "name",
    ["", "00000001000000000000000g", "0000000100000000000000FF.partial", "000000010000000000000100",
     "000000000000000000000001", "00000001000000000000000a"],
)  # fmt: skip
def test_what_is_no_segment(name):
    with pytest.raises(ValueError):
        parse_segment(name, SEGMENT_SIZE)


@given(SIZES, st.lists(st.integers(1 << 32, 1 << 50), min_size=1, max_size=5))
def test_the_size_follows_from_names_and_positions(size, positions):
    positions = [position - position % size + 40 for position in positions]
    pairs = [
        (Segment(1, at // size).name(size), f"{at >> 32:X}/{at & 0xFFFFFFFF:X}") for at in positions
    ]
    pairs.append((Segment(1, 5).name(size), f"{5 * size >> 32:X}/{(5 * size + 40) & 0xFFFFFFFF:X}"))
    if 5 * size < 1 << 32:  # so that one of them is not the first of its half
        assert segment_size(pairs) == size


def test_a_young_cluster_has_the_default_size_and_contradictions_none():
    assert segment_size([]) == SEGMENT_SIZE
    assert segment_size([("000000010000000000000000", "0/28")]) == SEGMENT_SIZE
    assert segment_size([("000000010000000000000002", "0/3000000")]) == SEGMENT_SIZE  # its end
    with pytest.raises(ValueError):
        segment_size([("000000010000000000000002", "7/28")])


def test_histories():
    text = "1\t0/3000000\tno recovery target specified\n\n# by hand\n2\t0/5000060 \tbefore 2026\n"
    assert parse_history(text) == (Switch(1, 0x3000000), Switch(2, 0x5000060))
    assert timeline_of_history("0000000A.history") == 10
    assert timeline_of_history("0000000A.history.gz") is None
    for bad in ("1 0", "x\t0/3", "2\t0/3\n1\t0/4\n", "1\t0/3\n1\t0/4"):
        with pytest.raises(ValueError):
            parse_history(bad)
    with pytest.raises(ValueError):
        parse_position("12")


def test_an_unbroken_log_reaches_to_its_end():
    found = reach(archive(range(1, 11)), 3, 4)
    assert (found.last, found.until, found.gap, found.complete) == (
        Segment(1, 10),
        1010,
        None,
        True,
    )


def test_a_missing_segment_ends_it():
    found = reach(archive([3, 4, 5, 8, 9]), 3, 4)
    assert (found.last, found.until, found.complete) == (Segment(1, 5), 1005, True)
    assert found.gap is not None
    assert (found.gap.first, found.gap.last, found.gap.after, found.gap.missing) == (
        Segment(1, 6),
        Segment(1, 7),
        Segment(1, 8),
        2,
    )
    assert found.gap.after_at == 1008


def test_a_gap_inside_the_backup_and_a_first_segment_that_is_not_there():
    assert reach(archive([3, 5, 6]), 3, 5).complete is False
    found = reach(archive([4, 5]), 3, 5)
    assert (found.last, found.complete) == (None, False)
    assert found.gap is not None
    assert found.gap.missing == 1
    nothing = reach(archive([]), 3, 5)
    assert (nothing.last, nothing.until, nothing.gap, nothing.complete) == (None, None, None, False)


def test_what_lies_before_the_backup_is_none_of_its_gaps():
    assert reach(archive([1, 3, 4, 5]), 3, 4).gap is None


def test_a_promoted_server_is_followed():
    histories = {2: (Switch(1, 6 * SEGMENT_SIZE + 500),)}
    held = archive([3, 4, 5, (2, 6), (2, 7)], histories)
    found = reach(held, 3, 4)
    assert (found.last, found.gap) == (Segment(2, 7), None)
    assert held.segments(Segment(1, 3), Segment(1, 4), 9999) == (
        *(Segment(1, number) for number in (3, 4, 5)),
        *(Segment(2, number) for number in (6, 7)),
    )


def test_a_gap_before_and_after_a_switch():
    histories = {2: (Switch(1, 6 * SEGMENT_SIZE + 500),)}
    before = reach(archive([3, 4, (2, 6), (2, 7)], histories), 3, 4).gap
    assert before is not None
    assert (before.first, before.last, before.after) == (
        Segment(1, 5),
        Segment(1, 5),
        Segment(2, 6),
    )
    after = reach(archive([3, 4, 5, (2, 6), (2, 8)], histories), 3, 4).gap
    assert after is not None
    assert (after.first, after.last) == (Segment(2, 7), Segment(2, 7))
    behind = reach(archive([3, 4, 5, (2, 7)], histories), 3, 4).gap
    assert behind is not None
    assert (behind.first, behind.last) == (Segment(2, 6), Segment(2, 6))


def test_a_switch_at_the_first_byte_of_a_segment():
    histories = {2: (Switch(1, 6 * SEGMENT_SIZE),)}
    assert reach(archive([3, 4, 5, (2, 6)], histories), 3, 4).last == Segment(2, 6)


def test_a_backup_made_after_the_fork_stays_on_its_own_timeline():
    histories = {2: (Switch(1, 6 * SEGMENT_SIZE + 500),)}
    held = archive([*range(3, 12), (2, 6), (2, 7)], histories)
    assert reach(held, 8, 9).last == Segment(1, 11)
    assert reach(held, 6, 7, timeline=2).last == Segment(2, 7)


def test_a_timeline_whose_history_is_lost_is_not_followed():
    assert reach(archive([3, 4, 5, (2, 6), (2, 7)]), 3, 4).last == Segment(1, 5)


def test_three_timelines():
    histories = {
        2: (Switch(1, 4 * SEGMENT_SIZE + 9),),
        3: (Switch(1, 4 * SEGMENT_SIZE + 9), Switch(2, 6 * SEGMENT_SIZE + 9)),
    }
    held = archive([2, 3, (2, 4), (2, 5), (3, 6), (3, 7)], histories)
    assert reach(held, 2, 3).last == Segment(3, 7)
    assert reach(held, 4, 5, timeline=2).last == Segment(3, 7)


def test_a_recovery_needs_the_first_segment_archived_after_its_target():
    held = archive(range(3, 12))
    numbers = [one.number for one in held.segments(Segment(1, 3), Segment(1, 4), 1006)]
    assert numbers == [3, 4, 5, 6, 7]
    assert len(held.segments(Segment(1, 3), Segment(1, 4), 0)) == 2


@given(st.sets(st.integers(0, 60)), st.integers(0, 40), st.integers(0, 5))
def test_reach_is_what_counting_one_by_one_says(numbers, start, length):
    found = reach(archive(numbers), start, start + length)
    end = start
    while end in numbers:
        end += 1
    assert found.last == (Segment(1, end - 1) if end > start else None)
    assert found.complete == all(number in numbers for number in range(start, start + length + 1))
    later = [number for number in numbers if number > end]
    assert (found.gap is None) == (not later)
    if found.gap is not None:
        assert (found.gap.first.number, found.gap.after.number) == (end, min(later))
        assert found.gap.missing == min(later) - end
        assert found.gap.last.number == min(later) - 1


@given(st.sets(st.integers(0, 20)), st.sets(st.integers(0, 20)), st.integers(0, 20))
def test_two_timelines_are_one_log_cut_at_the_switch(old, new, cut):
    histories = {2: (Switch(1, cut * SEGMENT_SIZE + 1),)}
    held = archive([*old, *((2, number) for number in new)], histories)
    log = {number for number in old if number < cut} | {number for number in new if number >= cut}
    one = archive(log)
    if cut >= 1:
        ours, wanted = reach(held, 0, 1 if cut > 1 else 0), reach(one, 0, 1 if cut > 1 else 0)
        assert (ours.last.number if ours.last else None) == (
            wanted.last.number if wanted.last else None
        )
        assert (ours.gap is None) == (wanted.gap is None)
        if ours.gap and wanted.gap:
            assert ours.gap.missing == wanted.gap.missing
