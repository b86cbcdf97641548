"""Each backup is broken in one way; the right control must say so, and the clean twin stay silent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backupguard import settings
from backupguard.language import Words
from backupguard.model import Status, Verdict
from tests.sabotage.hospital import DPI, NAS, Breaker, Hospital, Site, replaced

RST_01, RST_02, INT_01 = ("RST-01", DPI), ("RST-02", DPI), ("INT-01", NAS)


def _flip(path: Path) -> None:
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _cut(path: Path, percent: int) -> None:
    path.chmod(0o600)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * percent // 100])


def _flipped_pack(_made: Hospital, site: Site) -> None:
    _flip(site.packs()[0])


def _deleted_pack(_made: Hospital, site: Site) -> None:
    site.packs()[0].unlink()


def _truncated_pack(_made: Hospital, site: Site) -> None:
    _cut(site.packs()[0], 50)


def _cut_dump(made: Hospital, into: Path) -> None:
    into.write_bytes(made.dump.read_bytes())
    _cut(into, 60)


def _empty_dump(_made: Hospital, into: Path) -> None:
    into.touch()


def _other_database(made: Hospital, into: Path) -> None:
    made.source.dump("labo", into)


def _schema_only(made: Hospital, into: Path) -> None:
    made.source.dump("dpi", into, "-Fc", "--schema-only")


def _without_a_table(made: Hospital, into: Path) -> None:
    made.source.dump("dpi", into, "-Fc", "-T", "prescriptions")


def _collapsed_rows(made: Hospital, into: Path) -> None:
    script = "delete from observations where id % 100 <> 0; analyze observations;"
    made.source.dump(made.altered("dpi", script), into)


def _stale_data(made: Hospital, into: Path) -> None:
    script = """
        update stays set admitted_at = admitted_at - interval '40 days', discharged_at = null;
        update observations set observed_at = observed_at - interval '40 days';
        update prescriptions set prescribed_at = prescribed_at - interval '40 days';
        update patients set created_at = created_at - interval '40 days';
    """
    made.source.dump(made.altered("dpi", script), into)


def _healthy(made: Hospital, into: Path) -> None:
    made.source.dump("dpi", into)


@pytest.mark.parametrize("breaker", [_flipped_pack, _deleted_pack, _truncated_pack])
def test_a_damaged_repository_is_found_by_integrity_and_by_restoring(
    hospital: Hospital, site: Site, breaker: Breaker
) -> None:
    breaker(hospital, site)
    assert site.perform("integrity", NAS).verdict is Verdict.FAILED
    found = site.judged()[INT_01]
    assert (found.status, found.reason.id) == (Status.NON_COMPLIANT, "reason.INT-01.failed")
    run = site.restore_test()
    assert run.verdict is Verdict.FAILED, run.code
    found = site.judged()[RST_01]
    assert (found.status, found.reason.id) == (Status.NON_COMPLIANT, "reason.RST-01.failed")
    assert "nas" in Words("fr").say(found.reason)


@pytest.mark.parametrize(
    ("write", "codes", "check", "controls"),
    [
        (_cut_dump, {"truncated", "corrupt"}, None, {RST_01}),
        (_empty_dump, {"empty"}, None, {RST_01}),
        (_other_database, {"wrong_content"}, "same-database", {RST_01, RST_02}),
        (_schema_only, {"schema_only"}, "rows", {RST_01, RST_02}),
        (_without_a_table, {"tables_lost"}, "tables-lost", {RST_01, RST_02}),
        (_collapsed_rows, {"rows_lost"}, "rows-lost", {RST_01, RST_02}),
        (_stale_data, {"stale_data"}, "admissions récentes", {RST_01, RST_02}),
    ],
)
def test_a_wrong_dump_fails_for_its_own_reason(
    hospital: Hospital,
    site: Site,
    write: Callable[[Hospital, Path], None],
    codes: set[str],
    check: str | None,
    controls: set[tuple[str, str]],
) -> None:
    replaced(write)(hospital, site)
    run = site.restore_test()
    assert run.verdict is Verdict.FAILED, (run.code, site.result())
    assert run.code in codes, site.result()["checks"]
    failed = {c["name"] for c in site.result()["checks"] if c["verdict"] == "failed"}
    assert check is None or check in failed, failed
    judged = site.judged()
    for key in controls:
        assert judged[key].status is Status.NON_COMPLIANT, judged[key]
    # The repository itself is sound: nobody may be sent to repair it.
    assert site.perform("integrity", NAS).verdict is Verdict.PASSED
    assert site.judged()[INT_01].status is Status.COMPLIANT


def test_the_clean_twin_stays_silent(hospital: Hospital, site: Site) -> None:
    replaced(_healthy)(hospital, site)
    assert site.perform("integrity", NAS).verdict is Verdict.PASSED
    run = site.restore_test()
    assert run.verdict is Verdict.PASSED, site.result()
    assert site.result()["level"] == 3
    assert [c for c in site.result()["checks"] if c["code"] != "ok"] == []
    judged = site.judged()
    for key in (
        RST_01,
        RST_02,
        INT_01,
        ("RST-03", DPI),
        ("PDM-01", DPI),
        ("JOB-01", "job/dpi.nuit"),
    ):
        assert judged[key].status is Status.COMPLIANT, judged[key]


def test_steps_that_take_too_long_miss_the_target_and_nothing_else(
    hospital: Hospital, site: Site
) -> None:
    """The sabotage is in what people have to do: every backup is sound. Its twin is above."""
    file = site.root / "backupguard.toml"
    slow = file.read_text().replace('duration = "90m"', 'duration = "4h"')
    file.write_text(slow)
    site.settings = settings.load(file, environ={})
    assert site.restore_test().verdict is Verdict.PASSED
    judged = site.judged()
    late = judged["RST-03", DPI]
    assert late.status is Status.NON_COMPLIANT
    assert late.reason.id == "reason.RST-03.exceeded"
    assert judged[RST_01].status is Status.COMPLIANT


def _wrong_password(_made: Hospital, site: Site) -> None:
    (site.root / "password").write_text("another password\n")


def _gone(_made: Hospital, site: Site) -> None:
    (site.root / "nas").rename(site.root / "elsewhere")


@pytest.mark.parametrize(
    ("breaker", "code"), [(_wrong_password, "wrong_key"), (_gone, "not_found")]
)
def test_what_is_our_trouble_never_accuses_the_backup(
    hospital: Hospital, site: Site, breaker: Breaker, code: str
) -> None:
    breaker(hospital, site)
    for run in (site.perform("integrity", NAS), site.restore_test()):
        assert run.verdict is Verdict.COULD_NOT_VERIFY, run
        assert run.code == code
    judged = site.judged()
    # That one copy is not enough is true, and no word about this copy.
    accused = {f.control for f in judged.values() if f.status is Status.NON_COMPLIANT}
    assert accused <= {"321-01"}
    assert judged[INT_01].status is Status.NOT_MEASURABLE
