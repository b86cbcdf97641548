"""Backups of a Samba domain, broken in their bytes and in what they hold."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from backupguard.model import Verdict
from tests import samba
from tests.sabotage.corpus.case import Case, Family, Maker, cut, flipped
from tests.sabotage.corpus.sources import Sources

#: A domain's times are its own: what is made while this runs, hours perhaps, is judged as of then.
NOW = datetime.now(UTC) + timedelta(hours=3)
DOMAIN = "sam.ldb.d/DC=HOPITAL,DC=EXAMPLE.ldb"


def saved(sources: Sources, into: Path) -> Path:
    """What `samba-tool domain backup offline` wrote."""
    return Path(shutil.copy(sources.samba, into))


def bytes_changed(change: Callable[[Path], Path]) -> Maker:
    """A sound archive, changed afterwards."""
    return lambda sources, into: change(saved(sources, into))


def changed(change: Callable[[Path], None]) -> Maker:
    """The same files after a change, packed again."""

    def make(sources: Sources, into: Path) -> Path:
        tree = sources.place() / "tree"
        with tarfile.open(sources.samba) as archive:
            archive.extractall(tree)
        change(tree / "private")
        path = into / "samba-backup-x.tar.gz"
        with tarfile.open(path, "w:gz", compresslevel=1) as packed:
            packed.add(tree, "")
        shutil.rmtree(tree)
        return path

    return make


def _without(name: str) -> Maker:
    return changed(lambda private: (private / name).unlink())


def _overwrite(private: Path) -> None:
    path = private / DOMAIN
    content = bytearray(path.read_bytes())
    for place in range(8192, len(content) - 4096, 16384):
        content[place : place + 64] = b"\xa5" * 64
    path.write_bytes(content)


def _deleted(private: Path) -> None:
    samba.changed(private, "[database.deleteuser(f'u{n}') for n in range(5, 60)]")


def _link(sources: Sources, into: Path) -> Path:
    path = into / "samba-backup-x.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("sysvol.tar.gz"))
        member = tarfile.TarInfo("private/sam.ldb")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    return path


_FAMILY = Family(engine="samba-ad", before=saved, twin=saved, settings={"domain": samba.REALM})


def case(name: str, story: str, make: Maker, **more: Any) -> Case:
    """Return a case of this family: each needs the domain, which takes seconds to make and to check."""
    may = "controller:warning_controller_not_started"
    plan = {"point_at": NOW, "now": NOW}
    return _FAMILY.case(name, story, make, heavy=True, may=may, plan=plan, **more)


CASES = [
    case("cut", "two thirds of the archive", bytes_changed(lambda p: cut(p, 0.66)),
         speaks="load:truncated", words="tronquée"),
    case("flipped", "one bit of the archive", bytes_changed(lambda p: flipped(p, 0.5)),
         speaks="load:corrupt", words="endommag"),
    case("partition-missing", "sam.ldb was copied, and nothing of what lies in sam.ldb.d",
         _without(DOMAIN), speaks="open:missing_object", words="manque"),
    case("key-missing", "the key without which no password can be read",
         _without("encrypted_secrets.key"), knows="nothing", speaks="open:missing_object",
         words="manque"),
    case("secrets-missing", "the domain's own secrets were left out", _without("secrets.tdb"),
         says=Verdict.PASSED, speaks="domain-keys:warning_keys_missing", words="secrets"),
    case("partition-damaged", "parts of the domain's partition were overwritten", changed(_overwrite),
         speaks="open:corrupt engine-consistency:corrupt", words="endommag"),
    case("users-deleted", "a script for leavers took everybody", changed(_deleted),
         speaks="rows-lost:rows_lost", words="moitié"),
    case("link", "the database is a link to a file of the host", _link, speaks="load:hostile",
         words=""),
]  # fmt: skip
