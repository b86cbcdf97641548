"""Exports of tools we do not speak to: read whole or not at all, old ones not believed."""

from __future__ import annotations

import json
import os
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from backupguard.contracts import JobSelector
from backupguard.errors import AccessRefused, Cancelled, Changing, Misunderstood, Unreachable
from backupguard.model import PointKind, PointState, RecoveryPoint
from backupguard.repositories import imported_rows
from backupguard.repositories.imported import IMPORT
from backupguard.repositories.imported_settings import ImportSettings
from backupguard.testing.contexts import TestContext, context
from backupguard.testing.repositories import RepositoryCase, RepositoryContract

NOW = datetime(2026, 3, 6, 9, 0, tzinfo=UTC)
NIGHTLY = JobSelector(job="dpi.nightly", application="dpi", name="DPI_*")
HEADER = "Policy;Client;Début;Fin;Statut;Octets;Fichiers;Type;Image;Chiffré\n"
GOOD = (
    HEADER
    + "DPI_FULL;srv-dpi;2026-03-04 22:00;2026-03-05 01:00;0;1 000,5;12;Complète;img-1;oui\n"
    + "DPI_INC;srv-dpi;2026-03-05 22:00;2026-03-05 22:30;1;20;3;Incr;img-2;oui\n"
    + "DPI_INC;srv-dpi;2026-03-06 08:00;;195;0;0;Incr;img-3;\n"
    + "GED_FULL;srv-ged;2026-03-05 22:00;2026-03-05 23:00;0;5;1;Complète;img-4;non\n"
)
SETTINGS: dict[str, Any] = {
    "type": "import",
    "source": "NetBackup",
    "delimiter": ";",
    "timezone": "Europe/Paris",
    "size-unit": "MB",
    "decimal": ",",
    "columns": {
        "job": "Policy",
        "host": "Client",
        "at": "Début",
        "ended": "Fin",
        "state": "Statut",
        "bytes": "Octets",
        "files": "Fichiers",
        "kind": "Type",
        "id": "Image",
        "encrypted": "Chiffré",
    },
    "states": {"complete": ["0"], "warning": ["1"], "failed": ["195"]},
    "kinds": {"full": ["complète"], "incremental": ["incr"]},
}


@pytest.fixture
def here(tmp_path: Path) -> TestContext:
    made = context(tmp_path / "context")
    made.clock.moment = NOW
    return made


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return laid(tmp_path / "export.csv", GOOD)


def laid(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    moment = (NOW - timedelta(hours=1)).timestamp()
    os.utime(path, (moment, moment))
    return path


def points(
    here: TestContext, file: Path, *jobs: JobSelector, **changes: Any
) -> list[RecoveryPoint]:
    settings = ImportSettings.model_validate(SETTINGS | {"file": file} | changes)
    with IMPORT.open("other", settings, here) as repository:
        return list(repository.points(jobs or (NIGHTLY,)))


def refusal(here: TestContext, file: Path, **changes: Any) -> str:
    with pytest.raises(Misunderstood) as caught:
        points(here, file, **changes)
    assert caught.value.code == "output_unparsable"
    message = caught.value.message
    assert message.values["file"] == str(file)
    assert all(not isinstance(v, str) or "peut-être" not in v for v in message.values.values())
    kind = message.id.removeprefix("repositories.import.")
    return f"{message.values['line']} {kind} {message.values['column']}".rstrip()


class TestContract(RepositoryContract):
    @pytest.fixture
    def case(self, tmp_path: Path, here: TestContext) -> RepositoryCase:
        (tmp_path / "exports").mkdir()
        laid(tmp_path / "exports/export.csv", GOOD)
        return RepositoryCase(
            kind=IMPORT,
            root=tmp_path / "exports",
            settings_at=lambda root: ImportSettings.model_validate(
                SETTINGS | {"file": root / "export.csv"}
            ),
            jobs=(NIGHTLY,),
            context=here,
            files=0,
        )


def test_a_row_is_a_point_with_all_that_the_columns_say(here: TestContext, export: Path) -> None:
    full, warned, failed = points(here, export)
    assert full.at == datetime(2026, 3, 4, 21, tzinfo=UTC)
    assert full.ended_at == datetime(2026, 3, 5, 0, tzinfo=UTC)
    assert (full.bytes, full.files) == (1_000_500_000, 12)
    assert (full.kind, full.state) == (PointKind.FULL, PointState.COMPLETE)
    assert (full.native_id, full.source_host, full.encrypted) == ("img-1", "srv-dpi", True)
    assert full.extra == {"source": "NetBackup"}
    assert (warned.kind, warned.state) == (PointKind.INCREMENTAL, PointState.WARNING)
    assert (failed.state, failed.bytes, failed.ended_at) == (PointState.FAILED, 0, None)
    assert failed.encrypted is None


def test_host_and_name_choose_the_rows_of_a_job(here: TestContext, export: Path) -> None:
    ged = JobSelector(job="ged.nightly", application="ged", host="srv-ged")
    both = JobSelector(job="x.y", application="x", name="GED_*", host="srv-dpi")
    assert [point.native_id for point in points(here, export, ged)] == ["img-4"]
    assert points(here, export, both) == []


def test_json_is_read_by_paths_of_keys(here: TestContext, tmp_path: Path) -> None:
    records = [
        {"job": {"name": "DPI_FULL"}, "started": 1772661600, "size": 5, "result": "Success"},
        {"job": {"name": "DPI_FULL"}, "started": "2026-03-05T22:00:00+01:00", "result": "Success"},
    ]
    file = laid(tmp_path / "export.json", json.dumps({"data": {"items": records}}))
    found = points(
        here,
        file,
        records="data.items",
        columns={"job": "job.name", "at": "started", "bytes": "size", "state": "result"},
        states={"complete": ["success"]},
        kinds={},
    )
    assert [point.at.hour for point in found] == [22, 21]
    assert [point.bytes for point in found] == [5_000_000, None]


def test_an_export_that_stops_being_refreshed_says_nothing_any_more(
    here: TestContext, export: Path
) -> None:
    assert points(here, export)
    here.clock.moment = NOW + timedelta(hours=25, minutes=1)
    settings = ImportSettings.model_validate(SETTINGS | {"file": export})
    with IMPORT.open("other", settings, here) as repository:
        for look in (repository.inspect, lambda: list(repository.points((NIGHTLY,)))):
            with pytest.raises(Unreachable) as caught:
                look()
            assert caught.value.code == "stale_import"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("DPI_X;h;soon;;0;1;1;Incr;i;", "2 no-time Début"),
        ("DPI_X;h;;;0;1;1;Incr;i;", "2 empty Début"),
        ("DPI_X;h;1970-01-02;;0;1;1;Incr;i;", "2 too-old Début"),
        ("DPI_X;h;2026-03-05;;84;1;1;Incr;i;", "2 unknown-state Statut"),
        ("DPI_X;h;2026-03-05;;0;lots;1;Incr;i;", "2 no-number Octets"),
        ("DPI_X;h;2026-03-05;;0;-5;1;Incr;i;", "2 out-of-range Octets"),
        ("DPI_X;h;2026-03-05;;0;1e400;1;Incr;i;", "2 out-of-range Octets"),
        ("DPI_X;h;2026-03-05;;0;NaN;1;Incr;i;", "2 no-number Octets"),
        ("DPI_X;h;2026-03-05;;0;1;1;Log;i;", "2 unknown-kind Type"),
        ("DPI_X;h;2026-03-05;;0;1;1;Incr;i;peut-être", "2 no-flag Chiffré"),
        ("DPI_X;h;2026-03-05;;0;1;1;Incr;i", "2 cells"),
        ("DPI_X;h;2026-03-05;;0;1;1;Incr;i;;;", "2 cells"),
        (f"DPI_X;{'h' * 5000};2026-03-05;;0;1;1;Incr;i;", "2 too-long Client"),
        ('DPI_X;"h;2026-03-05;;0;1;1;Incr;i;', "2 broken"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_nothing_is_taken(
    here: TestContext, tmp_path: Path, row: str, why: str
) -> None:
    assert refusal(here, laid(tmp_path / "e.csv", HEADER + row + "\n")) == why


def test_columns_that_are_not_there_are_all_named(here: TestContext, tmp_path: Path) -> None:
    told = refusal(here, laid(tmp_path / "e.csv", "Policy;Client;Octets\n"))
    assert "no-column" in told
    assert "Début" in told
    assert "Statut" in told


@pytest.mark.parametrize(
    "text", ["{", '{"items": 5}', "[" * 100_000, '[{"Policy": {}}]', "", '[{"Policy": "DPI_X"']
)
def test_json_that_is_none_or_half_is_refused(here: TestContext, tmp_path: Path, text: str) -> None:
    refusal(here, laid(tmp_path / "e.json", text), states={"complete": ["0"]})


def test_one_id_twice_is_no_listing(here: TestContext, tmp_path: Path) -> None:
    row = "DPI_FULL;h;2026-03-05 22:00;;0;1;1;Incr;img-1;\n"
    assert "twice Image" in refusal(here, laid(tmp_path / "e.csv", HEADER + row + row))


def test_an_old_encoding_is_read_and_a_wrong_one_refused(here: TestContext, tmp_path: Path) -> None:
    file = laid(tmp_path / "e.csv", GOOD, "cp1252")
    assert len(points(here, file, encoding="cp1252")) == 3
    refusal(here, file)


def test_a_byte_order_mark_is_no_part_of_the_first_column(
    here: TestContext, tmp_path: Path
) -> None:
    assert len(points(here, laid(tmp_path / "e.csv", "\ufeff" + GOOD))) == 3


def test_the_hour_that_exists_twice_makes_no_point_younger(
    here: TestContext, tmp_path: Path
) -> None:
    row = "DPI_FULL;h;2026-10-25 02:30;;0;1;1;Incr;i;\n"
    here.clock.moment = None
    file = laid(tmp_path / "e.csv", HEADER + row)
    (point,) = points(here, file, **{"max-age": "36500d"})
    assert point.at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_a_file_written_to_meanwhile_is_no_listing(here: TestContext, export: Path) -> None:
    settings = ImportSettings.model_validate(SETTINGS | {"file": export})
    with IMPORT.open("other", settings, here) as repository:
        listing = repository.points((NIGHTLY,))
        next(listing)
        with export.open("a") as file:
            file.write("DPI_INC;h;2026-03-06 08:00;;0;0;0;Incr;img-9;\n")
        with pytest.raises(Changing):
            list(listing)


def test_a_file_that_may_not_be_whole_yet_is_no_listing(here: TestContext, export: Path) -> None:
    written = (NOW - timedelta(seconds=20)).timestamp()
    os.utime(export, (written, written))
    with pytest.raises(Changing):
        points(here, export)
    here.clock.moment = NOW + timedelta(seconds=20)
    assert points(here, export)


def test_an_export_without_a_row_has_lost_no_backup(here: TestContext, tmp_path: Path) -> None:
    header = GOOD.splitlines()[0] + "\n"
    with pytest.raises(Misunderstood):
        points(here, laid(tmp_path / "export.csv", header))


@pytest.mark.parametrize("kind", ["fifo", "directory", "absent"])
def test_what_is_no_file_never_waits(here: TestContext, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "e.csv"
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "directory":
        file.mkdir()
    with pytest.raises(Unreachable) as caught:
        points(here, file)
    assert caught.value.code == "not_found"


def test_a_file_that_may_not_be_read_is_ours_to_mend(here: TestContext, export: Path) -> None:
    export.chmod(0o000)
    with pytest.raises(AccessRefused):
        points(here, export)


def test_a_huge_file_is_refused_unread(
    here: TestContext, export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imported_rows, "FILE_LIMIT", 100)
    assert "too-large" in refusal(here, export)


def test_a_long_export_is_read_in_constant_memory(here: TestContext, tmp_path: Path) -> None:
    file = tmp_path / "e.csv"
    rows = 50_000
    with file.open("w") as out:
        out.write("Policy;Début\n")
        for number in range(rows):
            out.write(f"GED;{1_700_000_000 + number}\n")
        out.write(f"DPI_FULL;{1_700_000_000}\n")
    settings = ImportSettings.model_validate(
        {k: v for k, v in SETTINGS.items() if k not in ("states", "kinds", "columns")}
        | {"file": file, "columns": {"job": "Policy", "at": "Début"}, "max-age": "36500d"}
    )
    here.clock.moment = NOW + timedelta(hours=1)
    laid_at = NOW.timestamp()
    os.utime(file, (laid_at, laid_at))
    tracemalloc.start()
    with IMPORT.open("other", settings, here) as repository:
        found = list(repository.points((NIGHTLY,)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 1
    assert peak < 8 << 20


def test_a_cancelled_listing_ends(here: TestContext, export: Path) -> None:
    here.cancel.set("by_operator")  # type: ignore[attr-defined]
    with pytest.raises(Cancelled):
        points(here, export)


@pytest.mark.parametrize(
    "changes",
    [
        {"file": "relative.csv"},
        {"file": "/x/export.xls"},
        {"size-unit": "octets"},
        {"encoding": "martian"},
        {"timezone": "Europe/Atlantis"},
        {"states": {}},
        {"columns": {"job": "Policy"}},
        {"delimiter": ""},
    ],
    ids=lambda change: next(iter(change)),
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ImportSettings.model_validate(SETTINGS | {"file": "/x/e.csv"} | changes)
