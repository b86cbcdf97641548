from __future__ import annotations

import pytest

from backupguard.errors import BackupGuardError
from backupguard.testing.engines import EngineCase, EngineContract, sample_of
from restore_tests.firebird import FIREBIRD
from restore_tests.firebird_server import blamed

_DATE = b"Sun Nov 22 17:52:28 2026"


def gbak(form: int = 10, date: bytes = _DATE) -> bytes:
    return (
        b"\0\x02\x04" + form.to_bytes(4, "little") + b"\x04\x04\x01\0\0\0"
        b"\x07\x08sang.fdb\x01" + bytes([len(date)]) + date + b"\0\x0e\x0e" + bytes(2000)
    )  # fmt: skip


def database(ods: int = 12, flags: int = 0x12, page: int = 8192) -> bytes:
    head = bytearray(page)
    head[0] = 1
    head[16:18] = page.to_bytes(2, "little")
    head[18:20] = (0x8000 | ods).to_bytes(2, "little")
    head[42:44] = flags.to_bytes(2, "little")
    return bytes(head)


class TestFirebird(EngineContract):
    @pytest.fixture
    def case(self) -> EngineCase:
        return EngineCase(
            engine=FIREBIRD,
            own={
                "gbak": sample_of(gbak()),
                "without a date": sample_of(gbak(date=b"?")),
                "a database": sample_of(database()),
                "a locked one": sample_of(database(flags=0x412)),
            },
            others={
                "zeros": sample_of(bytes(5000)),
                "openldap": sample_of(bytes(16) + b"\xde\xc0\xef\xbe" + bytes(100)),
                "sqlite": sample_of(b"SQLite format 3\0" + bytes(200)),
            },
        )


def test_a_copy_says_when_it_was_made_and_how() -> None:
    made = FIREBIRD.recognise(sample_of(gbak()))
    assert made is not None
    assert (made.version, made.extra["made_at"]) == ("3.0", "2026-11-22T17:52:28")
    for flags, locked in ((0x12, False), (0x412, True), (0x812, False)):
        file = FIREBIRD.recognise(sample_of(database(flags=flags)))
        assert file is not None
        assert (file.format, file.extra["ods"], file.extra["locked"]) == ("file", 12, locked)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"status": 0}, None),
        ({"status": 0, "errors": 2}, None),
        ({"status": 1, "damaged": 1, "no_disk": 1}, "no_disk"),
        ({"status": 153}, "no_disk"),
        ({"status": 1, "no_memory": 1, "other": 1}, "no_memory"),
        ({"status": 1, "version": 1, "other": 1}, "version_unsupported"),
        ({"status": 1, "not_installed": 1}, "extension_missing"),
        ({"status": 1, "truncated": 1}, "truncated"),
        ({"status": 0, "damaged": 1}, "corrupt"),
        ({"status": 139}, "corrupt"),
        ({"status": 2, "refused": 3}, "load_refused"),
        ({"status": 137}, "unclassified_stderr"),
        ({"status": 1, "other": 1}, "unclassified_stderr"),
    ],
    ids=[
        *("content", "counted", "full", "too-large", "memory", "version", "character-set"),
        *("cut", "damaged", "crashed", "refused", "killed", "unknown"),
    ],
)
def test_what_its_programs_say_accuses_the_right_one(
    said: dict[str, int], code: str | None
) -> None:
    error: BackupGuardError | None = blamed(said, "gbak")
    assert (error.code if error else None) == code
