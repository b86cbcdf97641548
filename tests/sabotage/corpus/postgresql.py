"""Dumps of PostgreSQL, broken in their bytes and in what they hold."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from backupguard.model import Verdict
from tests.sabotage.corpus.case import Family, Maker, cut, flipped, replaced
from tests.sabotage.corpus.sources import Sources, gzipped

RECENT = {"name": "admissions", "sql": "select max(admitted_at) from clinic.stays",
          "newer-than": "26h"}  # fmt: skip
OLD = (
    """update clinic.stays set admitted_at = admitted_at - interval '40 days',
    left_at = left_at - interval '40 days'""",
    "update clinic.observations set at = at - interval '40 days'",
    "update clinic.patients set cree = cree - interval '40 days'",
)
END = b"--\n-- PostgreSQL database dump complete"
TRUNCATED, STOPS = "prepare:truncated prepare:corrupt load:truncated load:corrupt", "tronquée"


def yesterday(sources: Sources, into: Path) -> Path:
    return sources.postgresql.dump("dpi")


def today(sources: Sources, into: Path) -> Path:
    return sources.pg_dump(into)


def today_in(form: str) -> Maker:
    return lambda sources, into: sources.pg_dump(into, form=form)


PLAIN, DIRECTORY, TAR = today_in("plain"), today_in("directory"), today_in("tar")


def dump(*statements: str, form: str = "custom", options: tuple[str, ...] = ()) -> Maker:
    """What pg_dump writes of a copy of today's database that statements were run on."""
    return lambda s, into: s.pg_dump(into, *statements, form=form, options=options)


def changed(change: Callable[[Path], Path], form: str = "custom") -> Maker:
    """A sound dump whose file is changed afterwards."""
    return lambda sources, into: change(sources.pg_dump(into, form=form))


def _one_file_less(path: Path) -> Path:
    max(path.glob("*.dat.gz"), key=lambda file: file.stat().st_size).unlink()
    return path


def _table_of_contents_cut(path: Path) -> Path:
    cut(path / "toc.dat", 0.7)
    return path


def _emptied(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def _zstd(path: Path) -> Path:
    packed = path.with_name(f"{path.name}.zst")
    subprocess.run(["zstd", "-q", "--rm", path, "-o", packed], check=True)
    return packed


def _as_latin_1(path: Path) -> Path:
    path.write_bytes(path.read_bytes().decode().encode("latin-1", "replace"))
    return path


def _zeroed(path: Path) -> Path:
    """A hole in the middle, as a file system leaves it after a crash: the length is right."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8192] = bytes(8192)
    path.write_bytes(content)
    return path


def _put(text: str) -> Callable[[Path], Path]:
    return lambda path: replaced(path, (END, text.encode() + b"\n" + END), count=1)


def _other(sources: Sources, into: Path) -> Path:
    source = sources.postgresql
    source.cluster.run("createdb", "facturation")
    source.sql(
        "facturation",
        "create table public.invoices (id serial primary key, at timestamptz, amount numeric);"
        " insert into public.invoices (at, amount) select timestamptz '2026-11-22 00:00:00Z'"
        " - i * interval '1 minute', i from generate_series(1, 5000) i",
    )
    path = into / "dpi.dump"
    source.cluster.run("pg_dump", "-Fc", "-f", str(path), "facturation")
    return path


def everything(sources: Sources, into: Path) -> Path:
    return sources.pg_dumpall(into)


def _all(change: Callable[[Path], Path]) -> Maker:
    return lambda sources, into: change(sources.pg_dumpall(into))


def _without_today(path: Path) -> Path:
    text = path.read_bytes()
    start = text.index(b'-- Database "dpi_today" dump')
    end = text.index(b'-- Database "postgres" dump', start)
    path.write_bytes(text[:start] + text[end:])
    return path


def _many_tables(lost: bool) -> Maker:
    script = (
        "do $$ begin for i in 1..1500 loop execute format('create table public.archive_%s"
        " as select generate_series(1, 3) n', i); end loop; end $$"
    )
    return dump(script, *(["drop table public.archive_700"] if lost else []))


def _year_before(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    year = (
        16 + 5 * 5
    )  # seven integers follow head and compression; the sixth is the year since 1900
    content[year + 1] -= 1
    path.write_bytes(content)
    return path


def _twice(path: Path) -> Path:
    text = path.read_bytes()
    start = text.index(b"\n", text.index(b"COPY clinic.stays")) + 1
    row = text[start : text.index(b"\n", start) + 1]
    path.write_bytes(text[:start] + row + text[start:])
    return path


_MANY = _many_tables(lost=False)
_FAMILY = Family(engine="postgresql", before=yesterday, twin=today)
case = _FAMILY.case

BYTES = [
    case("custom-cut-in-contents", "the disk was full within the first blocks",
         changed(lambda p: cut(p, 0.02)), speaks=TRUNCATED + " prepare:not_a_dump"),
    case("custom-cut-in-the-middle", "the copy over the network broke off",
         changed(lambda p: cut(p, 0.6)), speaks=TRUNCATED),
    case("custom-cut-near-the-end", "the last block was never flushed",
         changed(lambda p: cut(p, 300)), speaks=TRUNCATED),
    case("plain-cut-in-a-copy", "psql restores what there is of it and exits 0",
         changed(lambda p: cut(p, b"\nCOPY clinic.stays"), "plain"), twin=PLAIN,
         speaks="load:truncated", words=STOPS),
    case("plain-cut-within-a-row", "cut in the middle of the largest table",
         changed(lambda p: cut(p, 0.5), "plain"), twin=PLAIN, speaks="load:truncated", words=STOPS),
    case("plain-lost-its-trailer", "everything is there but the line that says so",
         changed(lambda p: cut(p, END), "plain"), twin=PLAIN, speaks="load:truncated", words=STOPS),
    case("directory-lost-a-file", "one table's file was left out of the copy",
         changed(_one_file_less, "directory"), twin=DIRECTORY,
         speaks=TRUNCATED + " load:missing_object prepare:missing_object"),
    case("directory-contents-cut", "the table of contents ends too early",
         changed(_table_of_contents_cut, "directory"), twin=DIRECTORY, speaks=TRUNCATED),
    case("tar-cut", "a tar archive without its end",
         changed(lambda p: cut(p, 0.7), "tar"), twin=TAR, speaks=TRUNCATED, words=STOPS),
    case("flipped-in-data", "one bit of a compressed block",
         changed(lambda p: flipped(p, 0.5)), speaks=TRUNCATED + " load:load_refused"),
    case("flipped-in-contents", "one bit of the definition of an index",
         changed(lambda p: flipped(p, b"INDEX observations_stay_id_at_idx ON clinic")),
         speaks=TRUNCATED + " load:load_refused load:unclassified_stderr prepare:load_refused"),
    case("flipped-in-head", "one bit of the archive's own version",
         changed(lambda p: flipped(p, 6 / p.stat().st_size, 0x40)), says=Verdict.COULD_NOT_VERIFY,
         speaks="prepare:version_unsupported"),
    case("zeroes-in-the-middle", "a hole after a crash: the length is right",
         changed(_zeroed), speaks=TRUNCATED + " load:load_refused"),
    case("empty-file", "the dump ran on a full disk", changed(_emptied),
         speaks="prepare:empty", words="vide"),
    case("gzip-cut", "the compressed stream ends early",
         changed(lambda p: cut(gzipped(p), 0.9), "plain"), twin=changed(gzipped, "plain"),
         speaks="load:truncated", words=STOPS),
    case("zstd-cut", "the compressed stream ends early",
         changed(lambda p: cut(_zstd(p), 0.9), "plain"), twin=changed(_zstd, "plain"),
         speaks="load:truncated", words=STOPS),
    case("gzip-flipped", "one bit of the compressed stream: the checksum is its last word",
         changed(lambda p: flipped(gzipped(p), 0.6), "plain"), twin=changed(gzipped, "plain"),
         speaks="load:truncated load:corrupt load:load_refused"),
    case("wrong-encoding", "the file says UTF-8 and holds Latin-1",
         changed(_as_latin_1, "plain"), twin=PLAIN, speaks="load:load_refused",
         words="refusé"),
    case("unknown-extension", "the database needs an extension that nobody has",
         changed(_put("CREATE EXTENSION IF NOT EXISTS hopital_geo WITH SCHEMA public;"), "plain"),
         twin=PLAIN, says=Verdict.COULD_NOT_VERIFY, speaks="load:extension_missing",
         words="extension"),
    case("unknown-collation", "sorted by a locale that this host lacks",
         changed(_put("CREATE COLLATION public.breton"
                      " (provider = libc, locale = 'br_XX.utf8');"), "plain"),
         twin=PLAIN, says=Verdict.COULD_NOT_VERIFY, speaks="load:locale_missing", words="locale"),
    case("no-file-at-all", "the directory was saved and the dump was never written",
         lambda s, into: into, speaks="prepare:empty prepare:not_a_dump", words="vide"),
    case("restored-file-of-another-kind", "somebody saved the log in its place",
         changed(lambda p: (p.write_text("2026-11-22 02:00 INFO pg_dump started\n" * 50), p)[1]),
         speaks="prepare:not_a_dump", words="n’est pas un export"),
]  # fmt: skip

CONTENT = [
    case("all-cut", "pg_dumpall was killed within the application's database",
         _all(lambda p: cut(p, 0.6)), twin=everything, settings={"database": "dpi_today"},
         speaks="load:truncated", words=STOPS),
    case("all-lost-a-database", "one database of all was left out for lack of rights",
         _all(_without_today), twin=everything, settings={"database": "dpi_today"},
         speaks="load:wrong_content", words="n’est pas celui"),
    case("definitions-only", "a job with --schema-only", dump(options=("--schema-only",)),
         speaks="rows:schema_only", words="seules les définitions"),
    case("definitions-only-nobody-knows", "the same, on the first test",
         dump(form="plain", options=("--schema-only",)), twin=PLAIN, knows="nothing",
         speaks="rows:schema_only", words="seules les définitions"),
    case("data-without-definitions", "a job with --data-only",
         dump(options=("--data-only",)),
         speaks="load:load_refused load:missing_object load:corrupt"),
    case("no-keys-nor-indexes", "a job that leaves out the last section",
         dump(options=("--section=pre-data", "--section=data")),
         speaks="objects-lost:missing_object", words="index"),
    case("a-table-missing", "excluded once for lack of room",
         dump(options=("--exclude-table=clinic.letters",)),
         speaks="tables-lost:tables_lost", words="manquent"),
    case("a-table-missing-last-test", "the same, where nobody accepted a shape: a warning",
         dump(options=("--exclude-table=clinic.letters",)), knows="last", says=Verdict.PASSED,
         speaks="tables-lost:warning_tables_lost", words="manquent"),
    case("a-table-emptied", "its data are excluded, its definition is not",
         dump(options=("--exclude-table-data=clinic.observations",)),
         speaks="rows-lost:rows_lost", words="vidées"),
    case("rows-collapsed", "one row of a hundred is left",
         dump("delete from clinic.observations where id % 100 <> 0"),
         speaks="rows-lost:rows_lost", words="moitié"),
    case("half-of-the-rows", "exactly half of one table is gone",
         dump("delete from clinic.observations where id % 2 = 0 or id > 20000"),
         speaks="rows-lost:rows_lost", words="moitié"),
    case("slow-shrinkage", "every table loses a little each week, none collapses",
         dump("delete from clinic.observations where id % 7 = 0",
              "update clinic.letters set stay_id = 1",
              "delete from clinic.stays s where id % 8 = 0 and not exists"
              " (select from clinic.observations o where o.stay_id = s.id)"),
         says=Verdict.PASSED, speaks="rows-shrinking:warning_rows_shrinking", words="dixième"),
    case("stale-by-a-check", "data of 40 days ago in a point of this night", dump(*OLD),
         settings={"checks": [RECENT]}, speaks="admissions:stale_data", words="anciennes"),
    case("stale-heartbeat-fresh", "only the heartbeat of the monitoring still moves",
         dump(*OLD, "update public.heartbeat set beat = beat + interval '20 minutes'"),
         says=Verdict.PASSED, speaks="freshness:warning_stale_data", words="anciennes"),
    case("stale-behind-appointments", "everything is old but appointments in two years",
         dump(*OLD, "update clinic.stays set planned_at = planned_at + interval '2 years'"),
         twin=dump("update clinic.stays set planned_at = planned_at + interval '2 years'"),
         says=Verdict.PASSED, speaks="freshness:warning_stale_data", words="anciennes"),
    case("stale-clinical-fresh-audit", "a log of accesses moves, the record does not",
         dump(*OLD, "create table public.access (id serial, at timestamptz);",
              "insert into public.access (at) select timestamptz '2026-11-22 01:00Z'"
              " - i * interval '1 minute' from generate_series(1, 300) i"),
         says=Verdict.PASSED, speaks="freshness:warning_stale_tables", words="ne bougent"),
    case("archive-of-last-year", "an old archive below a fresh name",
         changed(_year_before), plan={"rpo": timedelta(hours=24)},
         speaks="archive-date:stale_data", words="anciennes"),
    case("a-column-encrypted", "ransomware inside the application",
         dump("update clinic.observations set comment = md5(id::text) || md5('x' || id)"),
         speaks="random-text:random_text", words="chiffrement"),
    case("all-columns-encrypted-nobody-knows", "the same everywhere, on the first test",
         dump("update clinic.observations set comment = md5(id::text) || md5('x' || id)",
              "update clinic.patients set nom = md5(nom || id), prenom = md5('p' || id),"
              " notes = md5('n' || id)",
              "update clinic.stays set service = md5('s' || id)"),
         knows="nothing", says=Verdict.PASSED, speaks="random-text:warning_random_text",
         words="chiffrement"),
    case("another-database", "the job names the billing database", _other,
         speaks="same-database:wrong_content", words="autre base"),
    case("training-copy-instead", "same tables, the school's twenty patients",
         dump("delete from clinic.observations where id > 100",
              "delete from clinic.stays s where not exists"
              " (select from clinic.observations o where o.stay_id = s.id)",
              "delete from clinic.patients p where not exists"
              " (select from clinic.stays s where s.patient_id = p.id)"),
         speaks="rows-lost:rows_lost", words="moitié"),
    case("sequence-behind", "keys were restored by hand, the sequence was not",
         dump("select setval(pg_get_serial_sequence('clinic.stays', 'id'), 5)"),
         says=Verdict.PASSED, speaks="sequences:warning_sequence_behind", words="déjà prises"),
    case("rows-break-their-key", "stays of patients who are not there",
         dump("set session_replication_role = replica;"
              " delete from clinic.patients where id < 50"),
         speaks="load:load_refused", words="refusé"),
    case("rows-break-a-check", "births before the constraint allows them",
         changed(lambda p: replaced(p, (b"CHECK ((ne > '1900-01-01'::date))",
                                        b"CHECK ((ne > '1960-01-01'::date))")), "plain"),
         twin=PLAIN, speaks="load:load_refused", words="refusé"),
    case("duplicate-keys", "a broken index let the same patient in twice",
         changed(_twice, "plain"),
         twin=PLAIN, speaks="load:load_refused", words="refusé"),
    case("a-column-lost", "an upgrade that went wrong half-way",
         dump("alter table clinic.patients drop column notes"),
         says=Verdict.PASSED, speaks="columns-lost:warning_columns_lost", words="colonnes"),
    case("routines-and-triggers-lost", "what the application calls is gone",
         dump("drop trigger touch on clinic.patients", "drop function clinic.touch()",
              "drop view clinic.present"),
         speaks="objects-lost:missing_object", words="routines"),
    case("materialised-view-empty", "restored without its content",
         dump("refresh materialized view clinic.per_service with no data"),
         speaks="tables-lost:tables_lost rows-lost:rows_lost", words="manquent"),
    case("rights-left-out", "a job with --no-privileges: nobody could read after a restore",
         dump(options=("--no-privileges",)),
         speaks="objects-lost:warning_missing_object objects-lost:missing_object", words="manquent"),
    case("one-table-of-many-lost", "one of 1500", _many_tables(lost=True), twin=_MANY, before=_MANY,
         speaks="tables-lost:tables_lost", words="manquent"),
]  # fmt: skip

FINE = [
    case("ok-constraint-not-valid", "a constraint that was never validated", None,
         twin=dump("alter table clinic.patients add constraint late check (id > 10) not valid")),
    case("ok-appointments", "planned for in two years", None,
         twin=dump("update clinic.stays set planned_at = planned_at + interval '2 years'")),
    case("ok-four-byte-letters", "names beyond the basic plane, in every form", None,
         twin=dump("update clinic.patients set nom = nom || ' 𠮷😀𝔊'", form="plain")),
    case("ok-huge-value", "a scan of 40 MB in one row", None,
         twin=dump("create table public.scans as select 1 id,"
                   " convert_to(repeat('0123456789abcdef', 2500000), 'UTF8') scan")),
    case("ok-restored-into-a-newer-schema", "a table and a column more than yesterday", None,
         twin=dump("alter table clinic.patients add column mail text",
                   "create table clinic.consents (id int)")),
    case("ok-words-of-an-attack", "a note that quotes a command", None,
         twin=dump(r"update clinic.patients set notes = E'\\! rm -rf' || chr(10)"
                   " || 'COPY x FROM PROGRAM' where id < 9", form="plain")),
]  # fmt: skip


CASES = [*BYTES, *CONTENT, *FINE]
