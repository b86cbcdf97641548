"""The reference: hostile, half-written and stale lists are no references; good ones are compared."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.model import from_us
from probes.discovery_found import Application, Plan, ReferencePlan
from tests.unit.probes.discovering import NOW, everything

APPLICATIONS = (
    Application(
        id="dpi", names=("dpi", "Dossier patient informatisé", "ORBIS", "srv-dpi.chu.example")
    ),
    Application(id="labo", names=("labo", "Laboratoire")),
)
GOOD = (
    "Nom;Type;Exporté le\r\n"
    '"Dossier  Patient Informatisé";Application;2026-03-01\r\n'
    "Laboratoire;Application;2026-03-01\r\n"
    "Gestion des repas;Application;2026-03-01\r\n"
    "Imprimante 12;Matériel;2026-03-01\r\n"
)


def load(
    directory: Path, content: bytes | str, name: str = "cmdb.csv", **more: Any
) -> tuple[dict[str, Any] | None, list[tuple[str, str]]]:
    file = directory / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    stamp = (NOW - timedelta(days=2)).timestamp()
    os.utime(file, (stamp, stamp))
    plan = ReferencePlan(**({"file": file, "name": "Nom"} | more))
    found = everything(directory, Plan(reference=plan, applications=APPLICATIONS))
    lacking = found["discovery.seen"]["lacking"]
    return found.get("reference.loaded"), [(one["code"], one["hides"]) for one in lacking]


def test_entries_and_applications_are_compared(tmp_path: Path) -> None:
    loaded, lacking = load(tmp_path, GOOD, kind="Type", kinds=("application",))
    assert loaded is not None
    assert lacking == []
    assert loaded["entries"] == 3
    assert loaded["unmatched"] == ["Gestion des repas"]
    assert loaded["absent"] == []
    assert from_us(loaded["dated_at"]) == NOW - timedelta(days=2)
    assert loaded["dated_by"] == "modified"


def test_without_kinds_everything_counts(tmp_path: Path) -> None:
    loaded, _ = load(tmp_path, GOOD)
    assert loaded is not None
    assert loaded["unmatched"] == ["Gestion des repas", "Imprimante 12"]


@pytest.mark.parametrize(
    ("content", "more"),
    [
        (GOOD.encode("cp1252"), {}),
        (b"\xef\xbb\xbf" + GOOD.encode(), {}),
        (GOOD.encode("utf-16"), {}),
        (GOOD.replace(";", ",").encode(), {}),
        (GOOD.replace(";", "\t").encode("latin-1"), {"encoding": "latin-1", "delimiter": "\t"}),
        (GOOD.replace("\r\n", "\n").rstrip().encode(), {}),
        (GOOD.replace("Laboratoire", '="Laboratoire"').encode(), {}),
        (GOOD.replace("Laboratoire", "LABORATOIRE ").encode(), {}),
    ],
    ids=["cp1252", "bom", "utf-16", "comma", "tab", "no-end", "formula", "case"],
)
def test_one_list_in_many_forms(tmp_path: Path, content: bytes, more: dict[str, Any]) -> None:
    loaded, lacking = load(tmp_path, content, **more)
    assert loaded is not None
    assert lacking == []
    assert (loaded["entries"], loaded["absent"]) == (4, [])


def test_names_of_hosts_and_aliases_match(tmp_path: Path) -> None:
    loaded, _ = load(tmp_path, "Nom;Hote\nX;SRV-DPI\nLaboratoire;\n", host="Hote")
    assert loaded is not None
    assert (loaded["unmatched"], loaded["absent"]) == ([], [])
    other, _ = load(tmp_path, "Nom;Hote\norbis;\n;srv-9\n", host="Hote")
    assert other is not None
    assert (other["unmatched"], other["absent"]) == (["srv-9"], ["labo"])


def test_a_row_twice_counts_once(tmp_path: Path) -> None:
    loaded, _ = load(tmp_path, "Nom\nA\na\nB\nA\n")
    assert loaded is not None
    assert (loaded["entries"], loaded["duplicates"]) == (2, 2)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (GOOD[:-20], "half_written"),
        (GOOD + '"Ouvert;', "half_written"),
        (GOOD.split("\r\n")[0], "half_written"),
        ("", "unparsable"),
        (GOOD.replace("Nom", "Name"), "unparsable"),
        (GOOD.replace("Laboratoire;Application", "Laboratoire"), "unparsable"),
        (GOOD + "a;b;c;d\r\n", "unparsable"),
        (b"\x00\x01" * 400, "unparsable"),
        (b"Nom\n\x81\x8d\n", "unparsable"),
        ("Nom\n" + "x" * 200_000 + "\n", "unparsable"),
        ("Nom\n" + "x\n" * (9 << 20), "too_large"),
        ("Nom\n" + "x\n" * 200_001, "too_many"),
    ],
    ids=[
        *(
            "short-row",
            "open-quote",
            "heading-only",
            "empty",
            "no-column",
            "short-inside",
            "long-row",
        ),
        *("binary", "no-encoding", "huge-cell", "huge-file", "many-rows"),
    ],
)
def test_what_is_no_list_is_refused_and_said(
    tmp_path: Path, content: bytes | str, code: str
) -> None:
    loaded, lacking = load(tmp_path, content)
    assert loaded is None
    assert lacking == [(code, "reference")]


def test_a_file_that_is_not_there_or_not_ours_is_said(tmp_path: Path) -> None:
    plan = ReferencePlan(file=tmp_path / "none.csv", name="Nom")
    found = everything(tmp_path, Plan(reference=plan))
    assert found["discovery.seen"]["lacking"][0]["code"] == "not_found"
    plan.file.write_text(GOOD)
    plan.file.chmod(0)
    found = everything(tmp_path, Plan(reference=plan))
    assert [one["code"] for one in found["discovery.seen"]["lacking"]] == ["permission"]


def test_the_date_comes_from_where_it_is_said_to(tmp_path: Path) -> None:
    column, _ = load(tmp_path, GOOD, date="Exporté le", dated="column")
    assert column is not None
    assert from_us(column["dated_at"]) == datetime(2026, 3, 1, tzinfo=UTC)
    french = GOOD.replace("2026-03-01", "01/02/2026")
    column, _ = load(tmp_path, french, date="Exporté le", dated="column", date_format="%d/%m/%Y")
    assert column is not None
    assert from_us(column["dated_at"]) == datetime(2026, 2, 1, tzinfo=UTC)
    named, _ = load(tmp_path, GOOD, name="cmdb-20260115.csv", dated="name")
    assert named is not None
    assert from_us(named["dated_at"]) == datetime(2026, 1, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"dated": "name"}, "cmdb.csv"),
        ({"dated": "name"}, "cmdb-20270101.csv"),
        ({"dated": "column", "date": "Type"}, "cmdb.csv"),
    ],
    ids=["no-date", "future", "no-date-in-column"],
)
def test_a_date_that_cannot_be_is_no_date(tmp_path: Path, more: dict[str, Any], name: str) -> None:
    loaded, lacking = load(tmp_path, GOOD, name=name, **more)
    assert loaded is None
    assert lacking == [("unparsable", "reference")]


def test_of_several_exports_the_newest_by_name_is_taken(tmp_path: Path) -> None:
    for day, text in (("20260101", "Nom\nA\n"), ("20260301", "Nom\nA\nB\n"), ("20260201", "Nom\n")):
        (tmp_path / f"vcenter-{day}.csv").write_text(text)
    plan = ReferencePlan(file=tmp_path / "vcenter-*.csv", name="Nom", dated="name")
    loaded = everything(tmp_path, Plan(reference=plan))["reference.loaded"]
    assert loaded["entries"] == 2
    assert from_us(loaded["dated_at"]) == datetime(2026, 3, 1, tzinfo=UTC)


def test_many_unmatched_entries_are_counted_and_some_named(tmp_path: Path) -> None:
    loaded, _ = load(tmp_path, "Nom\n" + "".join(f"x{n}\n" for n in range(1000)))
    assert loaded is not None
    assert (len(loaded["unmatched"]), loaded["unmatched_total"]) == (200, 1000)
