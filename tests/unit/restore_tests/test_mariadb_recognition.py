from __future__ import annotations

import pytest

from backupguard.errors import BackupDefect, MissingMeans, Misunderstood
from backupguard.testing.engines import EngineCase, EngineContract, sample_of
from restore_tests.mariadb import MARIADB
from restore_tests.mariadb_load import ServerError, concluded, judge

SANDBOX = b"/*M!999999\\- enable the sandbox mode */ \n"
DUMP = (
    b"-- MariaDB dump 10.19  Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)\n--\n"
    b"-- Host: localhost    Database: dpi\n-- Server version\t10.11.19-MariaDB-0+deb12u1\n"
)
MYSQL = b"-- MySQL dump 10.13  Distrib 5.7.44, for Linux (x86_64)\n--\n-- Server version\t5.7.44\n"


class TestMariadb(EngineContract):
    @pytest.fixture
    def case(self) -> EngineCase:
        return EngineCase(
            engine=MARIADB,
            own={
                "mariadb": sample_of(DUMP),
                "sandbox": sample_of(SANDBOX + DUMP),
                "mysql": sample_of(MYSQL),
            },
            others={
                "postgresql": sample_of(b"--\n-- PostgreSQL database dump\n--\n"),
                "text": sample_of(b"This is not -- MariaDB dump 10.19\n"),
            },
        )


def test_the_server_decides_whose_dump_it_is() -> None:
    match = MARIADB.recognise(sample_of(SANDBOX + DUMP))
    assert match is not None
    assert (match.version, match.extra["maker"]) == ("10.11", "MariaDB")
    match = MARIADB.recognise(sample_of(MYSQL))
    assert match is not None
    assert (match.version, match.extra["maker"]) == ("5.7", "MySQL")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("-- Host: localhost    Database: dpi", "dpi"),
        ("-- Host: db1.chu.example    Database: Résultats-2026\r", "Résultats-2026"),
        ("-- Host: localhost    Database: ", "restored"),
        ("-- Host: localhost    Database: mysql", "restored"),
        ("-- Host: localhost    Database: a`; drop database mysql", "restored"),
        (f"-- Host: localhost    Database: {'x' * 65}", "restored"),
        ("-- Host: localhost    Database: \U0001d400", "restored"),
        ("-- Host: localhost    Database: dpi\n--\n-- Current Database: `dpi`", "restored"),
    ],
    ids=["plain", "accents", "all", "own", "hostile", "long", "beyond", "creates"],
)
def test_a_dump_of_one_database_is_loaded_under_its_name(line: str, name: str) -> None:
    head = DUMP.replace(b"-- Host: localhost    Database: dpi", line.encode())
    match = MARIADB.recognise(sample_of(head))
    assert match is not None
    assert match.extra["database"] == name


@pytest.mark.parametrize(
    ("errors", "kind", "code"),
    [
        ([(1062, "23000")], BackupDefect, "load_refused"),
        ([(1062, "23000"), (1290, "HY000")], BackupDefect, "hostile"),
        ([(1273, "HY000")], MissingMeans, "version_unsupported"),
        ([(1114, "HY000"), (1062, "23000")], MissingMeans, "no_disk"),
        ([(2013, "HY000")], MissingMeans, "server_refused"),
        ([(4711, "HY000")], Misunderstood, "unclassified_stderr"),
        ([(4711, "HY000"), (1062, "23000")], Misunderstood, "unclassified_stderr"),
    ],
    ids=["refused", "hostile", "version", "disk", "server", "unknown", "unknown-and-refused"],
)
def test_what_errors_amount_to(errors: list[tuple[int, str]], kind: type, code: str) -> None:
    found = judge([ServerError(number=n, state=state, count=1) for n, state in errors])
    assert isinstance(found, kind)
    assert found.code == code


def test_a_variable_that_this_server_lacks_is_nothing() -> None:
    assert judge([ServerError(number=1193, state="HY000", count=3)]) is None


WHOLE = {"opened": 0, "trailer": 1, "hostile": 0, "skipped": 0, "client": 0}
REFUSED = [ServerError(number=1062, state="23000", count=1)]


@pytest.mark.parametrize(
    ("facts", "errors", "code"),
    [
        ({}, [], None),
        ({"trailer": 0}, [], "truncated"),
        ({"trailer": 0, "client": 1}, REFUSED, "truncated"),
        ({"client": 1}, REFUSED, "load_refused"),
        ({"client": 1}, [], "unknown_exit"),
    ],
    ids=["whole", "cut", "cut-in-a-row", "refused", "unexplained"],
)
def test_what_a_load_amounts_to(
    facts: dict[str, int], errors: list[ServerError], code: str | None
) -> None:
    found = concluded({**WHOLE, **facts}, errors, None)
    assert (found.code if found else None) == code


@pytest.mark.parametrize(
    "facts",
    [
        {"opened": 0, "client": 137},  # the filter lost its reader, and wrote nothing down
        {"opened": 141, "client": 137},
        {**WHOLE, "trailer": 0, "client": 137},
        {},
    ],
    ids=["small-dump", "large-dump", "after-the-end", "nothing-known"],
)
def test_a_client_that_was_killed_accuses_nobody(facts: dict[str, int]) -> None:
    found = concluded(facts, [], None)
    assert isinstance(found, Misunderstood)
