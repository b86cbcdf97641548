import os
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupguard.repositories.directory_names import expression, percent, read_name

PARIS = ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    ("pattern", "name", "at"),
    [
        ("dpi-%Y%m%d-%H%M.dump.gz", "dpi-20260305-0230.dump.gz", (2026, 3, 5, 1, 30)),
        ("dpi-%y%m%d.sql", "dpi-260705.sql.xz", (2026, 7, 4, 22, 0)),
        ("dpi.%Y-%j", "dpi.2026-032", (2026, 1, 31, 23, 0)),
        ("dpi-%s", "dpi-1772674200", (2026, 3, 5, 1, 30)),
        ("*_%Y%m%d%H%M%S.bak", "a_b_20260305023000.bak.zst", (2026, 3, 5, 1, 30)),
        ("100%%-%Y%m%d", "100%-20260305", (2026, 3, 4, 23, 0)),
    ],
)
def test_times_in_names(pattern: str, name: str, at: tuple[int, ...]):
    read = read_name(pattern, name, PARIS, {})
    assert read is not None
    assert read[0].at == datetime(*at, tzinfo=UTC)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("dpi-%Y%m%d.dump", "dpi-20261301.dump"),
        ("dpi-%Y%m%d.dump", "dpi-20260305.dump.1"),
        ("dpi-%Y%m%d.dump", "dpi-20260305.dump.gz.part"),
        ("dpi.dump", "dpixdump"),
        ("dpi.dump", "dpi.dump.sha256"),
        ("*.dump", "a.dump.sig"),
    ],
)
def test_names_that_do_not_match(pattern: str, name: str):
    assert read_name(pattern, name, PARIS, {}) is None


def test_a_day_that_does_not_exist_leaves_the_time_to_the_file():
    read = read_name("dpi-%Y%m%d.dump", "dpi-20260231.dump", PARIS, {})
    assert read is not None
    assert read[0].at is None


@pytest.mark.parametrize("name", ["dpi.dump", "dpi.dump.1", "dpi.dump.12.gz", "dpi.dump.zst"])
def test_rotated_names_have_one_stem(name: str):
    read = read_name("dpi.dump", name, None, {})
    assert read is not None
    assert read[0].stem == "dpi.dump"


@pytest.mark.parametrize("pattern", ["dpi-%Q", "dpi-%", "dpi-%Y-%Y"])
def test_patterns_that_cannot_be_read_back_are_refused(pattern: str):
    with pytest.raises(ValueError, match="directive"):
        expression(pattern)


@given(st.binary(max_size=60).filter(lambda name: b"\0" not in name))
def test_percent_is_ascii_and_tells_names_apart(name: bytes):
    from urllib.parse import unquote_to_bytes

    shown = percent(os.fsdecode(name))
    assert shown.isascii()
    assert unquote_to_bytes(shown) == name
