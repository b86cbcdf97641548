"""What is not said, or cannot be read here, is neither a pass nor the backup's fault."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.integration.restore_tests.harness import Trials
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
