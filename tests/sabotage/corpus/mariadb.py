"""Dumps of MariaDB, broken in their bytes and in what they hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from backupguard.model import Verdict
from tests.sabotage.corpus.case import Family, Maker, cut, flipped, replaced
from tests.sabotage.corpus.sources import Sources, gzipped

ALL = ("--routines", "--events")
RECENT = {"name": "délivrances", "sql": "select max(at) from dispensations", "newer-than": "26h"}
NO_KEYS = "set foreign_key_checks = 0"
OLD = (
    "update patients set seen_at = seen_at - interval 40 day",
    "update dispensations set at = at - interval 40 day",
)


def today(sources: Sources, into: Path) -> Path:
    return sources.mariadb_dump(into)


def yesterday(sources: Sources, into: Path) -> Path:
    return sources.mariadb_dump(
        into, "delete from dispensations where id > 1450", "delete from audit where id > 390"
    )


def dump(*statements: str, options: tuple[str, ...] = ALL) -> Maker:
    """What mariadb-dump writes of a copy of the pharmacy that statements were run on."""
    return lambda sources, into: sources.mariadb_dump(into, *statements, options=options)


def changed(change: Callable[[Path], Path]) -> Maker:
    """A sound dump whose file is changed afterwards."""
    return lambda sources, into: change(sources.mariadb_dump(into))


def _empty_database(sources: Sources, into: Path) -> Path:
    sources.mariadb.run("create database if not exists nothing_yet")
    return sources.mariadb_dump(into, name="nothing_yet")


def _another(sources: Sources, into: Path) -> Path:
    sources.mariadb.run(
        "create database if not exists paie; use paie;"
        " create table if not exists salaries (id int primary key, at date);"
        " replace into salaries select seq, '2026-11-01' from seq_1_to_800"
    )
    return sources.mariadb_dump(into, name="paie")


def _broken_view(sources: Sources, into: Path) -> Path:
    """mariadb-dump ends at a view it cannot read; --force goes on and writes its trailer."""
    return sources.mariadb_dump(
        into,
        "create table gone (id int)",
        "create or replace view current as select * from gone",
        "drop table gone",
        options=(*ALL, "--force"),
        check=False,
    )


def _twice(path: Path) -> Path:
    return replaced(path, ("('C1','Molécule numéro 1')", "('C2','Molécule numéro 1')"))


def _two(sources: Sources, into: Path) -> Path:
    _another(sources, sources.place())
    return sources.mariadb_dump(into, options=(*ALL, "--databases", "paie"))  # and the pharmacy


def _one_of_two(sources: Sources, into: Path) -> Path:
    return sources.mariadb_dump(into, options=(*ALL, "--databases"))


_FAMILY = Family(engine="mariadb", before=yesterday, twin=today)
case = _FAMILY.case
STOPS = "tronquée"

CASES = [
    case("cut-in-the-middle", "the connection was lost", changed(lambda p: cut(p, 0.5)),
         speaks="load:truncated", words=STOPS),
    case("cut-between-tables", "all statements that are there are whole",
         changed(lambda p: cut(p, b"--\n-- Table structure for table `patients`")),
         speaks="load:truncated", words=STOPS),
    case("lost-its-trailer", "everything is there but the line that says so",
         changed(lambda p: cut(p, b"-- Dump completed")), speaks="load:truncated", words=STOPS),
    case("gzip-cut", "the compressed stream ends early",
         changed(lambda p: cut(gzipped(p), 200)), twin=changed(gzipped),
         speaks="load:truncated", words=STOPS),
    case("gzip-flipped", "one bit of the compressed stream",
         changed(lambda p: flipped(gzipped(p), 0.5)), twin=changed(gzipped),
         speaks="load:truncated load:corrupt load:load_refused"),
    case("flipped-in-a-definition", "one bit of a statement",
         changed(lambda p: flipped(p, b"KEY `of_patient`")),
         speaks="load:load_refused load:corrupt", words="refusé"),
    case("empty-file", "the disk was full", changed(lambda p: (p.write_bytes(b""), p)[1]),
         speaks="prepare:empty", words="vide"),
    case("definitions-only", "a job with --no-data", dump(options=(*ALL, "--no-data")),
         speaks="rows:schema_only", words="seules les définitions"),
    case("empty-database", "mysqldump of a database without a table", _empty_database,
         speaks="open:empty tables:no_tables", words="vide"),
    case("another-database", "the job names the payroll", _another,
         speaks="same-database:wrong_content", words="autre base"),
    case("a-table-missing", "left out once for lack of room",
         dump(options=(*ALL, "--ignore-table=pharmacie.audit")),
         speaks="tables-lost:tables_lost", words="manquent"),
    case("rows-collapsed", "a --where that was meant for a test",
         dump(options=(*ALL, "--where=1 limit 50", "--skip-triggers")),
         speaks="rows-lost:rows_lost", words="moitié"),
    case("slow-shrinkage", "every table loses a little, none collapses",
         dump("delete from dispensations where id % 5 = 0", "delete from audit where id % 5 = 0"),
         says=Verdict.PASSED, speaks="rows-shrinking:warning_rows_shrinking", words="dixième"),
    case("stale-by-a-check", "data of 40 days ago in a point of this night", dump(*OLD),
         settings={"checks": [RECENT]}, speaks="délivrances:stale_data", words="anciennes"),
    case("stale-heartbeat-fresh", "only the heartbeat still moves",
         dump(*OLD, "create table beat (at datetime)", "insert into beat values ('2026-11-22 02:30')"),
         says=Verdict.PASSED, speaks="freshness:warning_stale_data", words="anciennes"),
    case("a-column-encrypted", "ransomware inside the application",
         dump("update dispensations set dose = hex(random_bytes(40))"),
         speaks="random-text:random_text", words="chiffrement"),
    case("definer-missing", "views belong to an account that no dump holds",
         changed(lambda p: replaced(p, ("`root`@`localhost`", "`integrateur`@`%`"))),
         says=Verdict.PASSED, speaks="definers:warning_definers_missing", words="comptes"),
    case("triggers-left-out", "a job with --skip-triggers",
         dump(options=(*ALL, "--skip-triggers")),
         speaks="objects-lost:missing_object objects-lost:warning_missing_object",
         words="déclencheurs"),
    case("events-left-out", "a job with routines and without events",
         dump(options=("--routines", "--skip-events")),
         speaks="objects-lost:missing_object", words="manquent"),
    case("a-broken-view-dumped-by-force", "the view is not there after a restore", _broken_view,
         speaks="objects-lost:missing_object load:truncated load:load_refused"),
    case("duplicate-key", "the same code twice", changed(_twice),
         speaks="load:load_refused", words="refusé"),
    case("rows-break-their-key", "dispensations of patients who are not there: the dump loads",
         dump(NO_KEYS, "delete from patients where id <= 40"),
         says=Verdict.PASSED, speaks="foreign-keys:warning_orphans", words="dont aucune"),
    case("letters-became-question-marks", "dumped in a character set that lacks some letters",
         dump(options=(*ALL, "--default-character-set=latin1")),
         says=Verdict.PASSED, speaks="text-damaged:warning_text_damaged", words="caractères"),
    case("letters-encoded-twice", "dumped through a client that took UTF-8 for Latin-1",
         dump("update patients set name = convert(cast(convert(concat('Lefèvre é ', id) using utf8mb4)"
              " as binary) using latin1), note = convert(cast(convert(concat('Allergie à surveiller"
              " évoquée ', id) using utf8mb4) as binary) using latin1)"),
         says=Verdict.PASSED, speaks="text-damaged:warning_text_damaged", words="caractères"),
    case("one-database-of-two", "a second database was never added to the job", _one_of_two,
         before=_two, twin=_two, settings={"database": "pharmacie"},
         speaks="tables-lost:tables_lost same-database:wrong_content", words="manquent"),
    case("ok-row-that-only-warns", "a column and a table more than yesterday", None,
         twin=dump("alter table patients add mail varchar(80)", "create table consents (id int)")),
]  # fmt: skip
