"""Copies of mariadb-backup, full and incremental, broken in their files and in what they hold."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

from backupguard.model import Verdict
from tests.integration.restore_tests.mariabackup import backup
from tests.mariadb import start_mariadb
from tests.sabotage.corpus.case import Family, Maker, flipped
from tests.sabotage.corpus.mariadb import NO_KEYS, OLD, RECENT
from tests.sabotage.corpus.sources import Sources

CHAIN = ("full", "inc-1", "inc-2")


@cache
def _server(sources: Sources) -> Path:
    """Copies of one server in one directory: a full one, and incrementals upon it, each worse."""
    place = sources.place()
    server = start_mariadb(place.with_name(f"{place.name}-data"))

    def copy(name: str, base: str | None = None, *statements: str) -> None:
        if statements:
            server.run("use pharmacie;\n" + ";\n".join(statements))
        backup(server, place / name, *([f"--incremental-basedir={place / base}"] if base else []))

    try:
        sources.pharmacy(server, "pharmacie")
        copy("full")
        copy("inc-1", "full", "insert into audit (what) select 'lecture' from seq_1_to_20")
        copy("inc-2", "inc-1", "insert into audit (what) select 'lecture' from seq_1_to_15")
        copy("lost", "inc-2", "drop table audit")
        copy("old", "lost", *OLD)
        copy("encrypted", "old", "update dispensations set dose = hex(random_bytes(40))")
        copy("collapsed", "encrypted", NO_KEYS, "delete from dispensations where id > 20")
    finally:
        server.stop()
    return place


def chain(*names: str, change: Callable[[Path], object] | None = None) -> Maker:
    """Some of the copies side by side, as a job leaves them; then what befell them."""

    def make(sources: Sources, into: Path) -> Path:
        for name in names:
            shutil.copytree(_server(sources) / name, into / name)
        if change is not None:
            change(into)
        return into

    return make


def _flip(name: str, share: float) -> Callable[[Path], object]:
    return lambda place: flipped(place / name, share)


def _cut(name: str, size: int) -> Callable[[Path], object]:
    return lambda place: os.truncate(place / name, size)


def _gone(name: str) -> Callable[[Path], object]:
    return lambda place: (place / name).unlink()


_TODAY = chain(*CHAIN)
_FAMILY = Family(engine="mariadb-physical", before=chain("full"), twin=_TODAY)
case = _FAMILY.case
TABLE = "full/pharmacie/patients.ibd"

CASES = [
    case("base-missing", "the full copy was rotated away before its incrementals",
         chain("inc-1", "inc-2"), speaks="prepare:base_missing", words="incrémentale"),
    case("one-in-the-middle-missing", "an incremental was deleted by hand",
         chain("full", "inc-2"), speaks="prepare:base_missing", words="s’appuie"),
    case("never-finished", "the host went down while it was copied",
         chain("full", change=_gone("full/xtrabackup_checkpoints")), twin=chain("full"),
         speaks="prepare:truncated", words="tronquée"),
    case("a-bit-of-a-table", "a bad sector", chain("full", change=_flip(TABLE, 0.55)),
         twin=chain("full"), speaks="load:corrupt", words="endommagés"),
    case("a-table-cut", "the copy to the share was cut short",
         chain("full", change=_cut(TABLE, 65536)), twin=chain("full"),
         speaks="load:truncated load:corrupt", words="tronquée"),
    case("a-table-file-missing", "left out by a pattern",
         chain("full", change=_gone(TABLE)), twin=chain("full"),
         speaks="engine-consistency:corrupt", words="endommagées"),
    case("an-aria-table-emptied", "a file of zero bytes",
         chain("full", change=_cut("full/pharmacie/drugs.MAD", 0)), twin=chain("full"),
         speaks="load:corrupt engine-consistency:corrupt", words="endommagé"),
    case("log-missing", "*log* was excluded from the copy",
         chain("full", change=_gone("full/ib_logfile0")), twin=chain("full"),
         speaks="load:missing_object", words="manque"),
    case("log-of-an-increment-cut", "the disk filled up during the last one",
         chain(*CHAIN, change=_cut("inc-2/ib_logfile0", 0)),
         speaks="load:truncated", words="tronquée"),
    case("a-table-dropped", "dropped by mistake before the last copy",
         chain(*CHAIN, "lost"), speaks="tables-lost:tables_lost", words="manquent"),
    case("stale-by-a-check", "the application writes elsewhere since its migration",
         chain(*CHAIN, "lost", "old"), before=chain(*CHAIN, "lost"),
         settings={"checks": [RECENT]}, speaks="délivrances:stale_data", words="anciennes"),
    case("a-column-encrypted", "ransomware inside the application",
         chain(*CHAIN, "lost", "old", "encrypted"), before=chain(*CHAIN, "lost", "old"),
         twin=chain(*CHAIN, "lost"), speaks="random-text:random_text", words="chiffrement"),
    case("rows-collapsed", "a purge that went too far",
         chain(*CHAIN, "lost", "old", "encrypted", "collapsed"), before=chain(*CHAIN, "lost"),
         twin=chain(*CHAIN, "lost"), speaks="rows-lost:rows_lost", words="moitié"),
    case("an-unfinished-one-beside", "last night's copy was broken off; the one before is sound",
         chain(*CHAIN, "lost", change=lambda p: [(p / "lost" / name).unlink()
               for name in ("xtrabackup_checkpoints", "xtrabackup_info")]),
         says=Verdict.PASSED, speaks="unfinished-copies:warning_unfinished_copy", words="achevée"),
    case("ok-base-and-one-increment", "a chain of two", None, twin=chain("full", "inc-1")),
]  # fmt: skip
