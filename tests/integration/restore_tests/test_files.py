"""Trees of files are looked at in the sandbox: sound ones pass, encrypted and lost ones are named."""

from __future__ import annotations

import hashlib
import os
import random
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.contracts import EngineSettings
from backupguard.model import Baseline, Fingerprint, RestoreTestResult, Verdict
from restore_tests import files_earlier
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


def test_what_stands_behind_a_dot_may_be_a_patient_and_does_not_leave(
    trials: Trials, tmp_path: Path
) -> None:
    root = tree(tmp_path / "ged")
    for name in ("IRM.DUPONT", "scanner.8001234567", "compte-rendu.Lefèvre"):
        (root / name).write_bytes(b"what nobody knows " * 40)
    first = restored(trials, root)
    assert judged(first) == (Verdict.PASSED, None), first
    assert first.fingerprint is not None
    kinds = set(first.fingerprint.tables) - {"pdf", "dcm", "hl7", "txt", "bin"}
    assert all(re.fullmatch(r"other-[0-9a-f]{2}", kind) for kind in kinds), kinds
    told = repr((first, trials.facts)).lower().encode() + trials.traces.lower()
    for word in (b"dupont", b"8001234567", "lefèvre".encode()):
        assert word not in told
    # and an extension that nobody knows is still one that there was none of before
    spoil(root, "renamed")
    again = restored(trials, root, baseline=accepted(first.fingerprint))
    assert "files_renamed" in {check.code for check in again.checks}


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


def spoil_in_silence(root: Path, share: int = 1) -> None:
    """Encrypt the second halves in place and put the times back."""
    for n, path in enumerate(sorted(root.rglob("*.txt"))):
        if n % share == 0:
            status, content = path.stat(), path.read_bytes()
            half = len(content) // 2
            path.write_bytes(content[:half] + CHANCE.randbytes(len(content) - half))
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def silent(result: RestoreTestResult) -> tuple[str, int]:
    check = next(check for check in result.checks if check.name == "silent-changes")
    return check.code, check.numbers["changed"]


def test_files_that_changed_without_a_new_time_are_found(
    trials: Trials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_earlier, "TURNS", 1)
    root = tree(tmp_path / "ged")
    shape = restored(trials, root).fingerprint
    (root / "notes" / "0.txt").write_text("corrigé ")  # a new time: nothing silent in it
    clean = restored(trials, root, baseline=accepted(shape))
    assert judged(clean) == (Verdict.PASSED, None)
    assert silent(clean) == ("ok", 0)
    spoil_in_silence(root, share=25)
    one = restored(trials, root, baseline=accepted(shape))
    assert judged(one) == (Verdict.PASSED, None)
    assert silent(one) == ("warning_files_changed", 1)
    spoil_in_silence(root)
    assert silent(restored(trials, root))[0] == "warning_files_changed"
    spoil_in_silence(root)
    assert judged(restored(trials, root, baseline=accepted(shape))) == (
        Verdict.FAILED,
        "files_changed",
    )


def test_each_file_is_compared_once_in_so_many_tests(trials: Trials, tmp_path: Path) -> None:
    root = tree(tmp_path / "ged")

    def turns() -> list[dict[str, int]]:
        results = [restored(trials, root) for _ in range(files_earlier.TURNS)]
        checks = [check for one in results for check in one.checks]
        return [dict(check.numbers) for check in checks if check.name == "silent-changes"]

    first, second = turns(), turns()
    assert sum(turn["hashed"] for turn in first) == 101
    assert sum(turn["compared"] for turn in first) == 0
    assert sum(turn["compared"] for turn in second) == 101
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("share-*"))
    assert len(kept) == 101 * 16
    assert b"letter" not in kept


def manifest(root: Path, *places: str) -> None:
    lines = [
        f"{hashlib.sha256((root / place).read_bytes()).hexdigest()}  {place}\n" for place in places
    ]
    (root / "SHA256SUMS").write_text("".join(lines))


def half_written(root: Path) -> None:
    listed = (root / "SHA256SUMS").read_text()
    (root / "SHA256SUMS").write_text(f"{listed}what?\n")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda root: None, "ok"),
        (lambda root: (root / "notes/3.txt").write_bytes(b"compte rendu"), "manifest_differs"),
        (lambda root: (root / "images/3.dcm").unlink(), "manifest_differs"),
        (lambda root: (root / "SHA256SUMS").unlink(), "manifest_missing"),
        (lambda root: (root / "SHA256SUMS").write_text("what?\n"), "manifest_missing"),
        (half_written, "manifest_unread"),
    ],
    ids=["sound", "another-content", "missing", "no-manifest", "not-one", "half-written"],
)
def test_what_a_manifest_of_the_site_lists_is_there_to_the_byte(
    trials: Trials, tmp_path: Path, change: Any, code: str
) -> None:
    root = tree(tmp_path / "ged")
    manifest(root, "notes/3.txt", "images/3.dcm", "canary.bin")
    change(root)
    asked = FilesSettings.model_validate({"engine": "files", "manifests": ["SHA256SUMS"]})
    result = restored(trials, root, settings=asked)
    check = next(check for check in result.checks if check.name == "site-manifest")
    assert check.code == code
    verdict = {"ok": "passed", "manifest_unread": "could_not_verify"}.get(code, "failed")
    assert result.verdict.value == verdict
    assert check.numbers["listed"] == (0 if code == "manifest_missing" else 3)
