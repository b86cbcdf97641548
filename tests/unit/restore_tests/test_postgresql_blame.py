"""Who is to blame when a dump was not read to its end: the dump only when its reader says so."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backupguard.contracts import Completed
from backupguard.errors import BackupDefect, BackupGuardError, MissingMeans, Misunderstood
from backupguard.model import Verdict
from restore_tests.postgresql_checks import consistency
from restore_tests.postgresql_load import by_locale, raise_unread
from restore_tests.postgresql_messages import EngineMessage, judge
from restore_tests.postgresql_server import PostgresqlServer, Sizes
from restore_tests.postgresql_survey import _read_survey


@pytest.mark.parametrize(
    ("status", "program", "expected"),
    [
        (1, "gzip", BackupDefect),
        (1, "xz", BackupDefect),
        (2, "tar", BackupDefect),
        (127, "zstd", MissingMeans),
        (126, "xz", MissingMeans),
        (91, "gzip", MissingMeans),
        (137, "gzip", Misunderstood),
        (141, "zstd", Misunderstood),
        (None, "gzip", Misunderstood),
        (1, "cat", Misunderstood),
    ],
)
def test_only_what_a_reader_says_of_its_input_accuses_the_dump(
    status: int | None, program: str, expected: type[BackupGuardError]
) -> None:
    with pytest.raises(expected):
        raise_unread(status, program)


def test_a_dump_that_was_read_to_its_end_accuses_nobody() -> None:
    raise_unread(0, "gzip")


@pytest.mark.parametrize(
    "done",
    [
        Completed(returncode=2, stdout=b"", stderr=b""),
        Completed(returncode=137, stdout=b"", stderr=b"", oom=True),
        Completed(returncode=0, stdout=b"ERROR 22P02 other 1", stderr=b"", truncated=True),
    ],
)
def test_a_server_log_that_cannot_be_read_is_not_an_empty_one(done: Completed) -> None:
    sandbox: Any = SimpleNamespace(run=lambda *_arguments, **_more: done)
    trial: Any = SimpleNamespace(memory={})
    server = PostgresqlServer(
        sandbox=sandbox,
        programs=SimpleNamespace(),  # type: ignore[arg-type]
        database="restored",
        sizes=Sizes(shared_buffers=64, maintenance_work_mem=64, jobs=1),
        trial=trial,
    )
    with pytest.raises(Misunderstood):
        server.log_lines("true")


@pytest.mark.parametrize(
    ("status", "said", "verdict"),
    [
        (0, "", Verdict.PASSED),
        (2, 'btree index "d.s.i":\n    ERROR:  item order invariant violated', Verdict.FAILED),
        (2, 'heap table "d.s.t", block 0, offset 3:\n    xmin is in the future', Verdict.FAILED),
        (2, 'btree index "d.s.i":\n    ERROR:  out of memory', Verdict.COULD_NOT_VERIFY),
        (2, "FATAL:  terminating connection due to x", Verdict.COULD_NOT_VERIFY),
        (1, "pg_amcheck: error: no database", Verdict.COULD_NOT_VERIFY),
        (137, "", Verdict.COULD_NOT_VERIFY),
    ],
)
def test_an_engine_that_lacked_something_did_not_find_damage(
    tmp_path: Path, status: int, said: str, verdict: Verdict
) -> None:
    (tmp_path / "said").write_text(said)
    amcheck = tmp_path / "pg_amcheck"
    amcheck.write_text(f"#!/bin/sh\ncat {tmp_path}/said\nexit {status}\n")
    amcheck.chmod(0o755)

    def client(argv: Sequence[str]) -> Completed:
        done = subprocess.run(argv, capture_output=True, check=False)
        return Completed(returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)

    server = SimpleNamespace(
        programs=tmp_path, database="restored", sizes=SimpleNamespace(jobs=1), client=client
    )
    trial: Any = SimpleNamespace(memory={"postgresql": server})
    assert consistency(trial).verdict is verdict


def test_a_survey_without_answers_is_not_an_empty_database() -> None:
    with pytest.raises(Misunderstood):
        _read_survey([])
    with pytest.raises(Misunderstood):
        _read_survey([["columns", "public", "t", "2"], ["rows", "public", "t", "5", ""]])


def refusal(*states: str) -> list[EngineMessage]:
    return [
        EngineMessage(severity="ERROR", sqlstate=state, template="other", count=1)
        for state in states
    ]


def test_rows_that_another_sort_order_refuses_accuse_a_missing_locale() -> None:
    messages = refusal("23514", "23514")
    blamed = by_locale(judge(messages), messages, "fr_FR.UTF-8")
    assert blamed is not None
    assert (type(blamed), blamed.code) == (MissingMeans, "locale_missing")


@pytest.mark.parametrize(
    ("states", "missing"),
    [(("23514",), None), (("23514", "23505"), "fr_FR.UTF-8"), (("22P02",), "fr_FR.UTF-8")],
)
def test_other_refusals_accuse_the_dump(states: tuple[str, ...], missing: str | None) -> None:
    messages = refusal(*states)
    assert isinstance(by_locale(judge(messages), messages, missing), BackupDefect)
