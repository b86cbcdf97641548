"""What gbak writes and database files of Firebird, broken in their bytes and in what they hold."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

from backupguard.model import Verdict
from tests.sabotage.corpus.case import Family, Maker, cut, flipped
from tests.sabotage.corpus.sources import Sources, gzipped, noise

RECENT = {"name": "prélèvements", "sql": "select max(taken_at) from bags", "newer-than": "26h"}
REACHED = {"name": "réglages", "sql": "select count(*) from settings", "equals": 20}
PAGE = 8192


def backup(*statements: str) -> Maker:
    """What gbak writes of the blood bank, or of a copy that statements were run on."""
    return lambda s, into: s.firebird_backup(into, *statements)


TODAY = backup()


def yesterday(sources: Sources, into: Path) -> Path:
    return sources.firebird_backup(into, "delete from bags where id > 1480")


def changed(change: Callable[[Path], Path], *statements: str) -> Maker:
    """A sound backup, changed afterwards."""
    return lambda s, into: change(s.firebird_backup(into, *statements))


def _file(change: Callable[[Path], Path] = lambda path: path) -> Maker:
    return lambda s, into: change(s.firebird_file(into / "sang.fdb"))


def _hurt(path: Path) -> Path:
    """Write over the rows of a page in the middle of the file."""
    content = bytearray(path.read_bytes())
    pages = [at for at in range(0, len(content), PAGE) if content[at] == 5]  # pag_data (ods.h)
    place = pages[len(pages) * 3 // 4]
    content[place + 100 : place + 400] = noise(300)
    path.write_bytes(content)
    return path


def _overwritten(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = noise(400)
    path.write_bytes(content)
    return path


def _another(sources: Sources, into: Path) -> Path:
    return sources.firebird_backup(
        into, "drop view recent", "drop procedure nothing", "drop table bags", "drop table donors",
        "create table menus (id integer, day_ varchar(20))",
        "insert into menus select 1, 'lundi' from settings",
    )  # fmt: skip


def _gzip_flipped(path: Path) -> Path:
    packed = gzipped(path)
    gzip.decompress(packed.read_bytes())
    return flipped(packed, 0.7)


_FILE = _file()
_FAMILY = Family(engine="firebird", before=yesterday, twin=TODAY)
case = _FAMILY.case

CASES = [
    case("cut", "half of the backup", changed(lambda p: cut(p, 0.5)), speaks="load:truncated",
         words="tronquée"),
    case("cut-near-the-end", "the disk was full: the last tenth is missing",
         changed(lambda p: cut(p, 0.9)), speaks="load:truncated", words="tronquée"),
    case("gzip-cut", "the compressed stream ends early", changed(lambda p: cut(gzipped(p), 900)),
         twin=changed(gzipped), speaks="load:truncated", words="tronquée"),
    case("gzip-flipped", "one bit of the compressed stream", changed(_gzip_flipped),
         twin=changed(gzipped), speaks="load:corrupt load:truncated", words=""),
    case("overwritten", "four hundred bytes of the backup were overwritten", changed(_overwritten),
         speaks="load:corrupt load:load_refused load:truncated", words=""),
    case("flipped-in-a-definition", "one bit of an index's name: gbak writes no checksum",
         changed(lambda p: flipped(p, b"BAGS_BY_TIME")), says=Verdict.PASSED,
         speaks="definition-names:warning_definitions_renamed", words="autre nom"),
    case("empty-file", "the job made the file and no more",
         changed(lambda p: (p.write_bytes(b""), p)[1]), speaks="prepare:empty", words="vide"),
    case("file-encrypted", "ransomware kept the name",
         changed(lambda p: (p.write_bytes(noise(p.stat().st_size)), p)[1]),
         speaks="prepare:not_a_dump", words="n’est pas"),
    case("definitions-only", "gbak -m: every table is empty",
         lambda s, into: s.firebird_backup(into, options=("-metadata",)),
         speaks="rows:schema_only", words="seules les définitions"),
    case("a-table-missing", "dropped by an upgrade", backup("drop table settings"),
         speaks="tables-lost:tables_lost", words="manquent"),
    case("rows-collapsed", "twenty rows are left", backup("delete from bags where id > 20"),
         speaks="rows-lost:rows_lost", words="moitié"),
    case("another-database", "the kitchen's, under the same name", _another,
         speaks="same-database:wrong_content", words="autre base"),
    case("stale-by-a-check", "data of 40 days ago in a point of this night",
         backup("update bags set taken_at = dateadd(-40 day to taken_at)"),
         settings={"checks": [RECENT]}, speaks="prélèvements:stale_data", words="anciennes"),
    case("stale", "the same, without a check",
         backup("update bags set taken_at = dateadd(-40 day to taken_at)"),
         says=Verdict.PASSED, speaks="freshness:warning_stale_data", words="anciennes"),
    case("a-column-encrypted", "ransomware inside the application",
         backup("update bags set note = uuid_to_char(gen_uuid())"),
         speaks="random-text:random_text", words="chiffrement"),
    case("triggers-and-routines-lost", "recreated by a script that knows tables only",
         backup("drop trigger numbered", "drop procedure nothing", "drop view recent"),
         speaks="objects-lost:missing_object", words="manquent"),
    case("reaches-out", "a table of an external file, and a trigger that empties tables on connection",
         backup("create table reaching external file '/etc/passwd' (a char(10))",
                "create trigger woken on connect as begin in autonomous transaction do"
                " delete from settings; end"),
         settings={"checks": [REACHED]}, says=Verdict.PASSED,
         speaks="outside-the-database:warning_outside_left_out", words="externes"),
    case("file-cut", "half of a database's file", _file(lambda p: cut(p, 0.5)), before=_FILE,
         twin=_FILE, may="plain-copy:warning_plain_copy", speaks="open:truncated open:corrupt",
         words=""),
    case("file-damaged", "rows of a page were overwritten", _file(_hurt), before=_FILE, twin=_FILE,
         may="plain-copy:warning_plain_copy", speaks="open:corrupt engine-consistency:corrupt",
         words="endommag"),
    case("file-copied-plainly", "copied by cp while the application runs", _file(),
         says=Verdict.PASSED, speaks="plain-copy:warning_plain_copy", words="nbackup"),
    case("ok-under-the-lock-of-nbackup", "copied under nbackup's lock", None,
         twin=lambda s, into: s.firebird_file(into / "sang.fdb", locked=True)),
]  # fmt: skip
