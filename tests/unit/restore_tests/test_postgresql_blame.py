"""Who is to blame when a dump was not read to its end: the dump only when its reader says so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from backupguard.contracts import Completed
from backupguard.errors import BackupDefect, BackupGuardError, MissingMeans, Misunderstood
from restore_tests.postgresql_load import raise_unread
from restore_tests.postgresql_server import PostgresqlServer, Sizes


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
