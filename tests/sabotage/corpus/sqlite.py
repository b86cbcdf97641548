"""SQLite files, broken in their bytes and in what they hold."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

from backupguard.model import CleanPoint, Measured, Verdict
from restore_tests.canary import token
from restore_tests.settings import Invariant
from tests.sabotage.corpus.case import Family, Maker, cut, flipped
from tests.sabotage.corpus.sources import AT, Sources, gzipped, noise

RECENT = {"name": "prélèvements", "sql": "select max(taken_at) from samples", "newer-than": "26h"}
PAGE = 4096


def yesterday(sources: Sources, into: Path) -> Path:
    return sources.sqlite(into / "labo.db", "delete from results where id > 880")


def file(*statements: str, **more: object) -> Maker:
    """A whole file that statements were run on."""
    return lambda s, into: s.sqlite(into / "labo.db", *statements, **more)


TODAY = file()


def changed(change: Callable[[Path], Path]) -> Maker:
    """A sound file, changed afterwards."""
    return lambda sources, into: change(sources.sqlite(into / "labo.db"))


def _script(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        text = "PRAGMA foreign_keys=OFF;\n" + "\n".join(connection.iterdump()) + "\n"
    path.unlink()
    target = path.with_suffix(".sql")
    target.write_text(text, encoding="utf-8")
    return target


def _hurt(path: Path, kind: str) -> Path:
    """Write over a page in the middle of a table, or of an index."""
    with closing(sqlite3.connect(path)) as connection:
        root = connection.execute("select rootpage from sqlite_master where name = ?", (kind,))
        page = int(root.fetchone()[0])
    content = bytearray(path.read_bytes())
    content[(page - 1) * PAGE + 8 : (page - 1) * PAGE + 40] = noise(32)
    path.write_bytes(content)
    return path


def _index_apart(path: Path) -> Path:
    """An index that no longer agrees with its table: made for one row less."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma writable_schema = on")
        sql = connection.execute(
            "select sql from sqlite_master where name = 'samples_by_tube'"
        ).fetchone()[0]
        connection.execute("delete from sqlite_master where name = 'samples_by_tube'")
        connection.execute("pragma writable_schema = reset")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma writable_schema = on")
        connection.execute(
            "insert into sqlite_master select 'index', 'samples_by_tube', 'samples', rootpage, ?"
            " from sqlite_master where name = 'results_by_sample'",
            (sql,),
        )
    return path


def _half_copied(with_log: bool) -> Maker:
    """A copy of a database in use: its newest rows are in the log beside it."""

    def make(sources: Sources, into: Path) -> Path:
        live = sources.sqlite(sources.place() / "labo.db", mode="wal")
        with closing(sqlite3.connect(live)) as connection:
            connection.execute("pragma wal_autocheckpoint = 0")
            connection.execute(
                "insert into results (sample, comment) select 1, 'nuit ' || value"
                " from (with recursive n(value) as (select 1 union all select value + 1 from n"
                " where value < 2000) select value from n)"
            )
            connection.commit()
            for name in ("labo.db", *(["labo.db-wal"] if with_log else [])):
                shutil.copy(live.with_name(name), into / name)
        return into

    return make


def _hot_journal(sources: Sources, into: Path) -> Path:
    """A copy taken in mid-transaction, with the journal that takes it back."""
    live = sources.sqlite(sources.place() / "labo.db")
    with closing(sqlite3.connect(live, isolation_level=None)) as connection:
        connection.execute("pragma cache_size = 2")
        connection.execute("begin")
        connection.execute("update results set comment = comment || ' corrigé' where id % 2")
        connection.execute("delete from samples where id > 40")
        for name in ("labo.db", "labo.db-journal"):
            shutil.copy(live.with_name(name), into / name)
        connection.execute("rollback")
    return into


def _pair(swapped: bool) -> Maker:
    def make(sources: Sources, into: Path) -> Path:
        sources.sqlite(into / "labo.db")
        sources.sqlite(
            into / "stock.db",
            "drop view recent",
            "drop table results",
            "alter table samples rename to lots",
        )
        if swapped:
            (into / "labo.db").rename(into / "x")
            (into / "stock.db").rename(into / "labo.db")
            (into / "x").rename(into / "stock.db")
        return into

    return make


def _rolled_back(path: Path) -> Path:
    text = path.read_text(encoding="utf-8").replace("COMMIT;", "ROLLBACK; -- due to errors")
    path.write_text(text, encoding="utf-8")
    return path


def _foreign(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table menus (id integer primary key, day text)")
        connection.executemany("insert into menus (day) values (?)", [("lundi",)] * 400)
        connection.commit()
    return path


def canaried(written_at: datetime, *statements: str) -> Maker:
    """A file with the canary that the site's job wrote at that time."""
    at = f"{written_at:%Y-%m-%dT%H:%M:%SZ}"
    return file(
        "create table backupguard_canary (written_at text not null, token text not null)",
        f"insert into backupguard_canary values ('{at}', '{token('dpi', at)}')",
        *statements,
    )


#: Results only become more; those of a closed year never change. A week ago there were 880.
_GROWS = {"name": "résultats", "table": "results"}
_YEAR = {
    "name": "année-close",
    "closed-set": "select id, comment from results where id < 100",
    "since": "2026-01-01",
}
GROWS, YEAR = {"invariants": [_GROWS]}, {"invariants": [_YEAR]}
CANARIED = {"canary": {"since": "2026-01-01"}}
KNOWN = (
    CleanPoint(
        at=AT - timedelta(days=7),
        repository="nas",
        point="older",
        engine="sqlite",
        measured={
            "résultats": Measured(
                name="résultats", definition=Invariant(**_GROWS).definition, value=880
            ),
            "année-close": Measured(
                name="année-close",
                definition=Invariant.model_validate(_YEAR).definition,
                value=99,
                digest="another key's:",
            ),
        },
        canary=True,
    ),
)
FEWER = file("delete from results where id > 860")
CANARY = canaried(AT - timedelta(hours=1))
_PAIR = _pair(swapped=False)
_WITH_LOG = _half_copied(with_log=True)
_FAMILY = Family(engine="sqlite", before=yesterday, twin=TODAY)
case = _FAMILY.case

CASES = [
    case("cut", "half of the file", changed(lambda p: cut(p, 0.5)), speaks="load:truncated",
         words="tronquée"),
    case("cut-in-the-first-page", "fifty bytes of it", changed(lambda p: cut(p, 50 / p.stat().st_size)),
         speaks="load:truncated", words="tronquée"),
    case("a-page-of-data", "a page of a table was overwritten",
         changed(lambda p: _hurt(p, "results")), speaks="open:corrupt engine-consistency:corrupt",
         words="endommag"),
    case("a-page-of-an-index", "a page of an index was overwritten",
         changed(lambda p: _hurt(p, "samples_by_tube")),
         speaks="open:corrupt engine-consistency:corrupt", words="endommag"),
    case("index-disagrees", "an index that does not match its table", changed(_index_apart),
         speaks="open:corrupt engine-consistency:corrupt", words="endommag"),
    case("flipped-in-head", "one bit of the size of a page",
         changed(lambda p: flipped(p, 16.5 / p.stat().st_size, 0x01)),
         speaks="load:corrupt load:truncated prepare:not_a_dump"),
    case("empty-file", "the job made the file and no more",
         changed(lambda p: (p.write_bytes(b""), p)[1]), speaks="prepare:empty", words="vide"),
    case("file-encrypted", "ransomware kept the name",
         changed(lambda p: (p.write_bytes(noise(p.stat().st_size)), p)[1]),
         speaks="prepare:not_a_dump", words="n’est pas"),
    case("gzip-cut", "the compressed stream ends early", changed(lambda p: cut(gzipped(p), 900)),
         twin=changed(gzipped), speaks="load:truncated", words="tronquée"),
    case("script-cut", "what .dump writes, without its end",
         changed(lambda p: cut(_script(p), 0.6)), twin=changed(_script),
         speaks="load:truncated", words="tronquée"),
    case("script-rolled-back", ".dump met an error and says so in its last line",
         changed(lambda p: _rolled_back(_script(p))), twin=changed(_script),
         speaks="load:truncated load:corrupt", words=""),
    case("definitions-only", "every table is empty",
         file("delete from results", "delete from samples", "drop trigger kept",
              "delete from settings"),
         speaks="rows:schema_only", words="seules les définitions"),
    case("a-table-missing", "dropped by an upgrade", file("drop table settings"),
         speaks="tables-lost:tables_lost", words="manquent"),
    case("rows-collapsed", "twenty rows are left", file("delete from results where id > 20"),
         speaks="rows-lost:rows_lost", words="moitié"),
    case("another-database", "a file of the same name from elsewhere",
         lambda s, into: _foreign(into / "labo.db"), speaks="same-database:wrong_content",
         words="autre base"),
    case("two-files-swapped", "labo.db holds the stock and stock.db the laboratory",
         _pair(swapped=True), before=_PAIR, twin=_PAIR,
         speaks="same-database:wrong_content tables-lost:tables_lost"),
    case("a-column-encrypted", "ransomware inside the application",
         file("update results set comment = hex(randomblob(40))"),
         speaks="random-text:random_text", words="chiffrement"),
    case("stale-by-a-check", "data of 40 days ago in a point of this night",
         file(age=timedelta(days=40)), settings={"checks": [RECENT]},
         speaks="prélèvements:stale_data", words="anciennes"),
    case("stale", "the same, without a check", file(age=timedelta(days=40)),
         says=Verdict.PASSED, speaks="freshness:warning_stale_data", words="anciennes"),
    case("rows-break-their-key", "results of samples that are not there",
         file("delete from samples where id <= 60"),
         says=Verdict.PASSED, speaks="foreign-keys:warning_orphans", words="dont aucune"),
    case("half-copied", "copied without the log that holds two thirds of the rows",
         _half_copied(with_log=False), before=_WITH_LOG, twin=_WITH_LOG,
         speaks="rows-lost:rows_lost", words="moitié"),
    case("triggers-and-views-lost", "recreated by a script that knows tables only",
         file("drop trigger kept", "drop view recent"), speaks="objects-lost:missing_object",
         words="manquent"),
    case("slow-loss", "forty results deleted by night: too few for any shape", FEWER,
         settings=GROWS, plan={"clean": KNOWN}, speaks="résultats:invariant_shrank",
         words="ne peut que croître"),
    case("a-closed-year-rewritten", "one record of a year that is closed is gone",
         file("delete from results where id = 7"),
         settings=YEAR, plan={"clean": KNOWN}, speaks="année-close:invariant_reopened",
         may="année-close:invariant_first",
         words="ensemble clos"),
    case("canary-altered", "what the job wrote was encrypted with all the rest",
         canaried(AT - timedelta(hours=1), "update backupguard_canary set token = hex(token)"),
         twin=CANARY, settings=CANARIED, speaks="canary:canary_altered", words="altéré"),
    case("canary-old", "the backup job saves a replica that stopped following ten days ago",
         canaried(AT - timedelta(days=10)), twin=CANARY, settings=CANARIED,
         speaks="canary:canary_old", words="trop ancien"),
    case("canary-lost", "an upgrade made a new file; the job saves the old one's name",
         canaried(AT - timedelta(hours=1), "drop table backupguard_canary"), twin=CANARY,
         settings=CANARIED, plan={"clean": KNOWN}, speaks="canary:canary_lost", words="disparu"),
    case("canary-never-there", "declared, and the job that should write it was never installed",
         TODAY, twin=CANARY, settings=CANARIED, says=Verdict.PASSED,
         speaks="canary:warning_canary_missing", words="absent"),
    case("ok-hot-journal", "copied in mid-transaction, with the journal that takes it back", None,
         twin=_hot_journal),
    case("ok-log-beside-it", "copied with its log", None, twin=_WITH_LOG),
]  # fmt: skip
