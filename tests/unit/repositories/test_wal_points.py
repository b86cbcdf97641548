from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from backupguard.repositories.wal import SEGMENT_SIZE, Archive, Segment
from backupguard.repositories.wal_points import Physical, cover

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
MINUTE = 60


def at(number: int) -> datetime:
    """Segment n is archived n minutes after the start of the day."""
    return datetime(2026, 11, 22, tzinfo=UTC) + timedelta(minutes=number)


def covered(numbers, backups, *, settle=timedelta(0), expires=False, gone=()):
    """Backups are pairs of the first and last segment they need; each ends as its last arrives."""
    archive = Archive(
        [(Segment(1, number), int(at(number).timestamp())) for number in numbers], {}, SEGMENT_SIZE
    )
    physical = [
        Physical(
            native_id=str(start),
            at=at(stop),
            start=Segment(1, start),
            stop=Segment(1, stop),
            usable=start not in gone,
        )
        for start, stop in backups
    ]
    return cover(physical, archive, now=NOW, settle=settle, expires=expires)


def test_each_covers_up_to_the_next_and_the_newest_to_the_end():
    found = covered(range(2, 30), [(2, 3), (10, 11), (20, 21)])
    assert [found[name].until for name in ("2", "10", "20")] == [at(11), at(21), at(29)]
    assert all(one.restorable and one.gap is None for one in found.values())


def test_one_segment_more_changes_one_point():
    before = covered(range(2, 30), [(2, 3), (10, 11), (20, 21)])
    after = covered(range(2, 31), [(2, 3), (10, 11), (20, 21)])
    assert [name for name in before if before[name].until != after[name].until] == ["20"]


def test_only_the_point_before_a_gap_names_it():
    found = covered(set(range(2, 30)) - {15, 16}, [(2, 3), (10, 11), (20, 21)])
    assert found["10"].until == at(14)
    assert found["10"].gap == {
        "first": Segment(1, 15).name(SEGMENT_SIZE),
        "last": Segment(1, 16).name(SEGMENT_SIZE),
        "segments": 2,
    }
    assert (found["2"].gap, found["20"].gap) == (None, None)


def test_a_gap_that_may_still_be_filled_is_not_told():
    found = covered(set(range(2, 30)) - {28}, [(2, 3)], settle=timedelta(days=1))
    assert (found["2"].until, found["2"].gap) == (at(27), None)


def test_a_point_that_is_not_usable_takes_nothing_over():
    found = covered(range(2, 30), [(2, 3), (10, 11)], gone=(10,))
    assert found["2"].until == at(29)


def test_a_backup_without_all_its_log():
    found = covered(set(range(2, 30)) - {11}, [(2, 3), (10, 11), (20, 21)])
    assert (found["10"].restorable, found["10"].until) == (False, at(11))
    assert found["10"].gap is not None
    assert found["2"].until == at(10)  # its own log ends at the same place
    tail = covered(range(2, 11), [(10, 11)])["10"]
    assert (tail.restorable, tail.gap["last"]) == (False, None)


def test_log_dropped_on_purpose_lies_exactly_between_two_backups():
    backups = [(2, 3), (10, 11)]
    exactly = set(range(2, 30)) - set(range(4, 10))
    assert covered(exactly, backups, expires=True)["2"].gap is None
    assert covered(exactly, backups)["2"].gap is not None
    assert covered(exactly | {9}, backups, expires=True)["2"].gap is not None
    assert covered(exactly - {15}, backups, expires=True)["10"].gap is not None


@given(
    st.sets(st.integers(0, 40)),
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=6, unique_by=lambda b: b[0]
    ),
)
def test_nothing_is_covered_that_the_log_does_not_hold(numbers, spans):
    backups = [(start, start + length) for start, length in spans]
    for name, one in covered(numbers, backups).items():
        start, stop = next(span for span in backups if str(span[0]) == name)
        assert one.until >= at(stop)
        if one.until > at(stop):
            assert one.restorable
            last = int((one.until - at(0)).total_seconds()) // MINUTE
            assert all(number in numbers for number in range(start, last + 1))
        assert one.restorable == all(number in numbers for number in range(start, stop + 1))
