"""The tolerant readers and the exit tables: what is not understood is never a success."""

from __future__ import annotations

import pytest

from backupguard.contracts import Completed
from backupguard.errors import AccessRefused, MissingMeans, Misunderstood, Unreachable
from backupguard.outputs import (
    Ending,
    ExitTable,
    Failure,
    json_lines,
    last_json,
    parse_version,
    rule,
)


def test_stray_lines_among_json_lines_are_skipped():
    output = b'warning: cache\n{"a": 1}\n\n42\n[2]\nnot json {\n'
    assert json_lines(output) == [{"a": 1}, [2]]


@pytest.mark.parametrize("output", [b"", b"\n", b"Fatal: no\n", b"12\n", b"[" * 100_000])
def test_output_without_json_is_misunderstood(output):
    for read in (json_lines, last_json):
        with pytest.raises(Misunderstood) as raised:
            read(output, program="restic")
        assert raised.value.code == "output_unparsable"


def test_empty_output_may_be_allowed_but_stray_words_may_not():
    assert json_lines(b" \n", may_be_empty=True) == []
    with pytest.raises(Misunderstood):
        json_lines(b"Fatal: no\n", may_be_empty=True)


@pytest.mark.parametrize(
    ("output", "document"),
    [
        (b'[{"id": 1}]', [{"id": 1}]),
        (b'{\n "a": [\n  1\n ]\n}\n', {"a": [1]}),
        (b'note\n[{"id": 1}]\nbye\n', [{"id": 1}]),
        (b'{"progress": 1}\n{"done": 2}\n', {"done": 2}),
        (b'note\n{\n "a": 1\n}\nbye\n', {"a": 1}),
        (b"[]", []),
        (b'[\n{\n"a": 1\n}\n]\n', [{"a": 1}]),
        (b'{\n"a": 1\n}\n{\n"b": 2\n}\nbye', {"b": 2}),
    ],
)
def test_the_last_document_is_found(output, document):
    assert last_json(output) == document


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("restic 0.14.0 compiled with go1.19.8 on linux/amd64", (0, 14, 0)),
        ("psql (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)", (15, 20)),
        ("v2.45", (2, 45)),
        ("bubblewrap 0.8.0", (0, 8, 0)),
    ],
)
def test_a_version_is_read_from_words(text, version):
    assert parse_version(text) == version


def test_words_without_a_version_are_misunderstood():
    with pytest.raises(Misunderstood):
        parse_version("no such thing")


TABLE = ExitTable(
    "tool",
    [
        rule(AccessRefused, "wrong_key", returncodes=12, since=(0, 17, 1)),
        rule(AccessRefused, "wrong_key", returncodes=1, pattern="^fatal: wrong password"),
        rule(Unreachable, "dns", pattern="no such host", before=(1,)),
        rule(Ending.WARNING, returncodes=3),
        rule(Ending.SUCCESS, returncodes=0),
    ],
)


def ended(returncode: int, stderr: bytes = b"", *, oom: bool = False) -> Completed:
    return Completed(returncode=returncode, stdout=b"", stderr=stderr, oom=oom)


def test_success_and_warning_are_told_apart():
    assert TABLE.check(ended(0)) is Ending.SUCCESS
    assert TABLE.check(ended(3)) is Ending.WARNING


def test_a_failure_is_raised_with_its_class_and_code():
    with pytest.raises(AccessRefused) as raised:
        TABLE.check(ended(1, b"x\nFatal: wrong password or no key\n"), path="nas")
    assert raised.value.code == "wrong_key"
    assert raised.value.message.values == {"program": "tool", "path": "nas"}


def test_a_row_for_a_version_speaks_of_no_other_and_of_no_unknown_one():
    assert TABLE.meaning(ended(12), (0, 18)) == Failure(error=AccessRefused, code="wrong_key")
    assert TABLE.meaning(ended(12), (0, 14, 0)) is None
    assert TABLE.meaning(ended(12)) is None
    assert TABLE.meaning(ended(9, b"no such host"), (0, 9)) is not None
    assert TABLE.meaning(ended(9, b"no such host"), (1, 0)) is None


def test_an_unknown_status_is_never_a_success():
    with pytest.raises(Misunderstood) as raised:
        TABLE.check(ended(99))
    assert raised.value.code == "unknown_exit"
    with pytest.raises(Misunderstood):
        ExitTable("tool", []).check(ended(0))


def test_a_program_killed_for_memory_accuses_the_host():
    with pytest.raises(MissingMeans) as raised:
        TABLE.check(ended(137, oom=True))
    assert raised.value.code == "no_memory"


def test_a_program_that_was_killed_is_told_so_and_nobody_blames_the_memory():
    with pytest.raises(Misunderstood) as raised:
        TABLE.check(ended(137))
    assert raised.value.code == "program_killed"


def test_a_row_with_a_code_of_another_class_is_a_bug():
    with pytest.raises(ValueError, match="not a code"):
        rule(AccessRefused, "dns")
