"""Physical copies of a PostgreSQL server, broken; the server is switched off when they are restored."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from tests.sabotage.corpus.case import Case, Family, Maker, cut, flipped
from tests.sabotage.corpus.sources import Sources

#: The copies are made while this runs: a server cannot be told what time it is.
_SOON = datetime.now(UTC) + timedelta(hours=3)


@cache
def copied(name: str, change: Callable[[Path], object] | None = None) -> Maker:
    """A copy ("plain", "tar", "archived"), changed or not."""

    def make(sources: Sources, into: Path) -> Path:
        place = sources.physical.copy(name, into)
        if change is not None:
            change(place)
        return place

    return make


def _segment(number: int) -> Callable[[Path], Path]:
    """The segment of the archive that the copy needs, counted from its beginning."""

    def find(place: Path) -> Path:
        label = (place / "data" / "backup_label").read_text()
        first = int(label.split("(file ")[1][:24], 16)
        return place / "wal" / f"{first + number:024X}"

    return find


def _gone(find: Callable[[Path], Path]) -> Callable[[Path], object]:
    return lambda place: find(place).unlink()


def _table(place: Path) -> Path:
    """The largest file of a database: a catalogue that every question needs, or a table."""
    return max(place.glob("data/base/*/*"), key=lambda path: (path.stat().st_size, path.name))


def _tablespace_tar(place: Path) -> Path:
    (found,) = [path for path in place.glob("*.tar.gz") if path.name[0].isdigit()]
    return found


def _onto_another_timeline(place: Path) -> None:
    last = max((place / "wal").glob("00000001" + "?" * 16))
    last.rename(last.with_name("00000002" + last.name[8:]))


def _without_manifest(place: Path) -> None:
    (place / "data" / "backup_manifest").unlink()
    flipped(_table(place), 0.5, 0x10)


PLAIN, TAR, ARCHIVED = copied("plain"), copied("tar"), copied("archived")
_FAMILY = Family(
    engine="postgresql-physical", before=PLAIN, twin=PLAIN,
    settings={"database": "dpi"},
)  # fmt: skip


def case(name: str, story: str, make: Maker | None, **more: Any) -> Case:
    """Return a case whose copies are of today."""
    return _FAMILY.case(name, story, make, plan={"now": _SOON, "point_at": _SOON}, **more)


CASES = [
    case("first-segment-missing", "the archive was cleaned one segment too far",
         copied("archived", _gone(_segment(0))), twin=ARCHIVED, before=ARCHIVED,
         speaks="load:wal_gap", words="journaux"),
    case("a-segment-missing", "archive_command said yes and the disk was full",
         copied("archived", _gone(_segment(1))), twin=ARCHIVED, before=ARCHIVED,
         speaks="load:wal_gap", words="journaux"),
    case("another-timeline", "log of the server that was promoted, without its history",
         copied("archived", _onto_another_timeline), twin=ARCHIVED, before=ARCHIVED,
         speaks="load:wrong_timeline", words="ligne de temps"),
    case("label-lost", "backup_label was taken for a leftover and deleted",
         copied("archived", lambda place: (place / "data" / "backup_label").unlink()),
         twin=ARCHIVED, before=ARCHIVED, speaks="load:missing_object", words="manque"),
    case("a-bit-of-a-file", "a bad sector: the manifest tells",
         copied("plain", lambda place: flipped(_table(place), 0.5, 0x10)),
         speaks="load:corrupt", words="endommagé"),
    case("a-bit-without-manifest", "the same where the manifest was not copied: the page tells",
         copied("plain", _without_manifest), speaks="verify:corrupt load:corrupt",
         words="endommagé"),
    case("a-file-missing", "left out by a pattern", copied("plain", _gone(_table)),
         speaks="load:missing_object", words="manque"),
    case("tablespace-missing", "it lies elsewhere on the server, and nobody copied that",
         copied("plain", lambda place: shutil.rmtree(place / "spaces")),
         speaks="load:missing_object", words="manque"),
    case("tar-cut", "the copy over the network broke off",
         copied("tar", lambda place: cut(place / "base.tar.gz", 0.5)), twin=TAR, before=TAR,
         speaks="prepare:truncated prepare:corrupt", words="tronquée"),
    case("tablespace-tar-missing", "only base.tar was sent elsewhere",
         copied("tar", _gone(_tablespace_tar)), twin=TAR, before=TAR,
         speaks="load:missing_object", words="manque"),
]  # fmt: skip
