import pytest

from backupguard.repositories import bareos_sql, mssql_access
from backupguard.repositories.rman_access import RIGHTS, SESSION, VIEWS, Statements
from backupguard.repositories.sql_statements import Refused, only_select

BAREOS = [
    *(
        bareos_sql.history(dialect, "1 = 1")
        for dialect in (bareos_sql.POSTGRESQL, bareos_sql.SQLITE)
    ),
    bareos_sql.history(bareos_sql.SQLITE, "1 = 1", chains_of=7),
    bareos_sql.counts("1 = 1"),
    bareos_sql.newer("1 = 1", 5, (1, 2)),
    bareos_sql.under_way("1 = 1"),
    bareos_sql.since("2026-01-01 00:00:00", "1 = 1"),
    bareos_sql.VERSION,
    bareos_sql.RIGHTS,
]
RMAN = [
    statement
    for owner in (None, "RMANCAT")
    for statement in (
        Statements(owner).databases,
        Statements(owner).jobs,
        Statements(owner).logs,
        *(Statements(owner).can_read(view) for view in VIEWS),
    )
]
MSSQL = [mssql_access.IDENTITY, mssql_access.HISTORY.format(condition="")]


@pytest.mark.parametrize("statement", [*BAREOS, *RMAN, *MSSQL, SESSION, RIGHTS], ids=lambda _: "")
def test_every_statement_of_ours_can_only_read(statement: str) -> None:
    assert only_select(statement) == statement


@pytest.mark.parametrize(
    "statement",
    [
        "",
        "DELETE FROM job",
        "WITH gone AS (DELETE FROM job RETURNING 1) SELECT 1",
        "SELECT 1; DELETE FROM job",
        "SELECT 1 -- and more",
        "SELECT 1 /* hidden */",
        "SELECT * INTO copy FROM job",
        "SELECT * FROM job FOR UPDATE",
        "SELECT 'open",
        "SELECT 1 WHERE 1 = 1 EXEC xp_cmdshell 'dir'",
        "SELECT 1\0",
        "PRAGMA journal_mode = WAL",
        "EXPLAIN ANALYZE SELECT 1",
    ],
)
def test_whatever_else_is_refused(statement: str) -> None:
    with pytest.raises(Refused):
        only_select(statement)


def test_words_in_literals_are_data() -> None:
    only_select("SELECT 1 WHERE name = 'drop; it''s -- a name'")
