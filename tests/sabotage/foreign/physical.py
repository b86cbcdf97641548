"""Physical copies of PostgreSQL that are faithful, and not what their site takes them for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from backupguard.model import Verdict
from tests.postgres import start_cluster
from tests.sabotage.corpus import postgresql_physical
from tests.sabotage.corpus.case import Case, Maker
from tests.sabotage.corpus.sources import Sources

_ROWS = (
    "create table stays as select n as id, now() as at from generate_series(1, 800) n",
    "create {kind} table worklist as select n as id from generate_series(1, 1000) n",
)
#: Sorted as bytes are, then declared to be sorted as another version of the system's rules does it.
_ELSEWHERE = (
    "create collation sorted (provider = icu, locale = 'fr')",
    'create table names (name text collate "C")',
    "insert into names select chr(65 + n % 26 + 32 * (n % 2)) || n from generate_series(1, 600) n",
    "create index by_name on names (name)",
    """update pg_attribute set attcollation = (select oid from pg_collation where collname = 'sorted')
    where attname = 'name' and attrelid in ('names'::regclass, 'by_name'::regclass)""",
    """update pg_index set indcollation = (select oid from pg_collation
    where collname = 'sorted')::text::oidvector where indexrelid = 'by_name'::regclass""",
    "update pg_collation set collversion = '2.24' where collname = 'sorted'",
)


@cache
def _copied(*statements: str) -> Maker:
    """A copy by pg_basebackup of a server with one database, which is gone afterwards."""
    return lambda sources, into: _copy(sources, into, statements)


def _copy(sources: Sources, into: Path, statements: Sequence[str]) -> Path:
    cluster = start_cluster(sources.place() / "pg")
    try:
        cluster.create("dpi")
        for statement in statements:
            cluster.run("psql", "-qX", "-v", "ON_ERROR_STOP=1", "-c", statement, "dpi")
        place = into / "copy"
        cluster.run("pg_basebackup", "-D", str(place / "data"), "-X", "fetch", "-c", "fast")
    finally:
        cluster.stop()
    return place


def _rows(kind: str) -> tuple[str, ...]:
    return tuple(statement.format(kind=kind) for statement in _ROWS)


_SOUND = _copied(*_rows(""))
#: What initdb made by itself has none before PostgreSQL 18, as at many sites.
_TRUE = "page-checksums:warning_no_page_checksums"

CASES: tuple[Case, ...] = (
    postgresql_physical.case(
        "unlogged-table-empty",
        "PostgreSQL's documentation: an unlogged table is empty in every physical copy",
        _copied(*_rows("unlogged")),
        knows="nothing",
        may="random-text:warning_random_text",  # codes of the twin are MD5's, and nobody knows
        says=Verdict.PASSED,
        speaks="unlogged:warning_unlogged_tables",
        words="journal",
    ),
    postgresql_physical.case(
        "unlogged-table-empty-accepted",
        "the same, where a person accepted how many rows there are",
        _copied(*_rows("unlogged")),
        twin=_SOUND,
        before=_SOUND,
        may=_TRUE,
        speaks="rows-lost:rows_lost",
        words="moitié",
    ),
    postgresql_physical.case(
        "collation-changed-under-the-index",
        "Crunchy Data on glibc 2.28: the index was sorted by the rules of another system;"
        " https://www.crunchydata.com/blog/glibc-collations-and-data-corruption",
        _copied(*_rows(""), *_ELSEWHERE),
        twin=_SOUND,
        before=_SOUND,
        may=_TRUE,
        says=Verdict.COULD_NOT_VERIFY,
        speaks="engine-consistency:consistency_unknown",
    ),
)
