"""What is not said, or cannot be read here, is neither a pass nor the backup's fault."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from backupguard.model import Baseline, Fingerprint
from tests.integration.restore_tests.harness import NOW, Trials
from tests.integration.restore_tests.hospital import Hospital


def test_a_dump_that_silences_the_servers_log_is_no_pass(
    trials: Trials, plain_variant: Callable[[str], Path]
) -> None:
    wrong = "SELECT 1/0;\n"
    assert trials.restore(plain_variant(wrong)).verdict == "failed"
    silenced = trials.restore(plain_variant(f"SET log_min_messages = panic;\n{wrong}"))
    assert (silenced.verdict, silenced.code) == ("could_not_verify", "unclassified_stderr")


def test_silencing_the_log_alone_hides_nothing(
    trials: Trials, plain_variant: Callable[[str], Path]
) -> None:
    assert trials.restore(plain_variant("SET log_min_messages = panic;\n")).verdict == "passed"


def test_a_dump_compressed_with_a_long_window_is_no_defect(
    hospital: Hospital, trials: Trials, tmp_path: Path
) -> None:
    source = hospital.dump(form="plain")
    target = tmp_path / "dump.sql.zst"
    with source.open("rb") as plain, target.open("wb") as packed:
        # From a pipe, so that zstd does not know how small a window would do.
        argv = ["zstd", "-q", "--long=30", "-c"]
        subprocess.run(argv, input=plain.read(), stdout=packed, check=True)
    result = trials.restore(target)
    assert result.verdict == "passed", result


def test_an_encrypted_dump_is_no_defect(trials: Trials, tmp_path: Path) -> None:
    sealed = tmp_path / "dump.sql.gpg"
    sealed.write_bytes(b"\x8c\x0d\x04\x09\x03\x0a" + bytes(range(256)) * 9)
    result = trials.restore(sealed)
    assert (result.verdict, result.code) == ("could_not_verify", "unrecognised_artifact")


def test_an_older_point_owes_a_newer_baseline_nothing(
    hospital: Hospital, trials: Trials, clean_fingerprint: Fingerprint
) -> None:
    grown = replace(clean_fingerprint, tables={**clean_fingerprint.tables, "clinic.added": 500})
    taken = NOW - timedelta(days=2)
    baseline = Baseline(fingerprint=grown, accepted=True, seq=1, point_at=taken)
    dump = hospital.dump()
    older = trials.restore(dump, baseline=baseline, point_at=taken - timedelta(days=90))
    warned = {check.name: check.code for check in older.checks}
    assert older.verdict == "passed", older
    assert warned["tables-lost"] == "warning_tables_lost"
    newer = trials.restore(dump, baseline=baseline, point_at=taken + timedelta(days=1))
    assert (newer.verdict, newer.code) == ("failed", "tables_lost")
