"""Trees of files are looked at in the sandbox: sound ones pass, encrypted and lost ones are named."""

from __future__ import annotations

import hashlib
import os
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.contracts import EngineSettings
from backupguard.model import Baseline, Fingerprint, RestoreTestResult, Verdict
from restore_tests.files import FILES
from restore_tests.settings import FilesSettings
from restore_tests.sqlite import SQLITE
from tests.integration.restore_tests.harness import NOW, Trials

AT = NOW - timedelta(hours=4)
CANARY = b"backupguard canary 4f1d\n"
CHANCE = random.Random(7)


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    return Trials(tmp_path, engines={"files": FILES, "sqlite": SQLITE})


def tree(root: Path) -> Path:
    contents = {
        "letters/letter-{n}.pdf": b"%PDF-1.4\n" + b"lettre de sortie " * 90,
        "images/{n}.dcm": bytes(128) + b"DICM" + b"pixels " * 300,
        "messages/{n}.hl7": b"MSH|^~\\&|LABO|CH|DPI|CH|2026||ORU^R01\r",
        "notes/{n}.txt": "compte rendu opératoire ".encode() * 80,
    }
    for pattern, content in contents.items():
        for n in range(25):
            path = root / pattern.format(n=n)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, ns=2 * (int((AT - timedelta(minutes=n)).timestamp()) * 10**9,))
    (root / "canary.bin").write_bytes(CANARY)
    (root / "link").symlink_to("/etc/passwd")
    return root


def settings(*checks: dict[str, Any]) -> FilesSettings:
    return FilesSettings.model_validate({"engine": "files", "checks": checks})


def restored(trials: Trials, path: Path, **plan: Any) -> RestoreTestResult:
    plan.setdefault("settings", settings())
    return trials.restore(path, **plan)


def judged(result: RestoreTestResult) -> tuple[Verdict, str | None]:
    return result.verdict, result.code


def accepted(shape: Fingerprint | None) -> Baseline:
    assert shape is not None
    return Baseline(fingerprint=shape, accepted=True, seq=1)


CHECKS = (
    {"name": "canari", "files": "canary.bin", "sha256": hashlib.sha256(CANARY).hexdigest()},
    {"name": "images", "files": "images/*.dcm", "at-least": 20},
    {"name": "messages", "files": "messages/*", "newer-than": "26h"},
)


def test_a_sound_tree_proves_its_content(trials: Trials, tmp_path: Path) -> None:
    root = tree(tmp_path / "ged")
    first = restored(trials, root, settings=settings(*CHECKS))
    assert judged(first) == (Verdict.PASSED, None), first
    again = restored(trials, root, settings=settings(*CHECKS), baseline=accepted(first.fingerprint))
    assert again.level == 3
    assert again.fingerprint is not None
    assert again.fingerprint.tables == {"pdf": 25, "dcm": 25, "hl7": 25, "txt": 25, "bin": 1}
    assert again.data_loss_ms == 0
    told = repr((again, trials.facts))
    assert "letter-" not in told


def spoil(root: Path, change: str) -> None:
    for path in sorted(
        path for path in root.rglob("*") if path.is_file() and not path.is_symlink()
    ):
        noise = CHANCE.randbytes(max(2048, path.stat().st_size))
        if change == "encrypted-names-kept":
            path.write_bytes(noise)
        elif change == "renamed":
            path.rename(path.with_name(path.name + ".lockbit"))
        elif change == "emptied":
            path.write_bytes(b"")
        elif change == "notes-only" and path.suffix == ".txt":
            path.write_bytes(noise)
        elif change == "one-kind-lost" and path.suffix == ".dcm":
            path.unlink()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("encrypted-names-kept", "files_encrypted"),
        ("renamed", "files_renamed"),
        ("emptied", "empty"),
        ("one-kind-lost", "tables_lost"),
    ],
    ids=["encrypted", "renamed", "emptied", "lost"],
)
def test_what_was_done_to_it_is_named(
    trials: Trials, tmp_path: Path, change: str, code: str
) -> None:
    root = tree(tmp_path / "ged")
    shape = restored(trials, root).fingerprint
    spoil(root, change)
    assert judged(restored(trials, root, baseline=accepted(shape))) == (Verdict.FAILED, code)


def test_encryption_is_told_without_any_baseline(trials: Trials, tmp_path: Path) -> None:
    root = tree(tmp_path / "ged")
    spoil(root, "encrypted-names-kept")
    assert judged(restored(trials, root)) == (Verdict.FAILED, "files_encrypted")


def test_a_canary_that_differs_by_one_byte(trials: Trials, tmp_path: Path) -> None:
    root = tree(tmp_path / "ged")
    (root / "canary.bin").write_bytes(CANARY[:-1] + b"!")
    assert judged(restored(trials, root, settings=settings(CHECKS[0]))) == (
        Verdict.FAILED,
        "check_failed",
    )
    (root / "canary.bin").unlink()
    assert judged(restored(trials, root, settings=settings(CHECKS[0]))) == (
        Verdict.FAILED,
        "check_failed",
    )


def test_a_ransom_note_is_worth_a_word(trials: Trials, tmp_path: Path) -> None:
    root = tree(tmp_path / "ged")
    (root / "letters" / "HOW_TO_RECOVER_FILES.txt").write_text("pay")
    codes = {check.code for check in restored(trials, root).checks}
    assert "warning_ransom_notes" in codes


def test_what_nobody_recognises_is_no_tree_unless_it_is_named(
    trials: Trials, tmp_path: Path
) -> None:
    broken = tmp_path / "dump.db"
    broken.write_bytes(b"\xa5" * 5000)
    result = restored(trials, broken, settings=EngineSettings())
    assert result.verdict is not Verdict.PASSED
    assert restored(trials, broken).verdict is Verdict.PASSED
