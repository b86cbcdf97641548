"""Makes restic repositories with the real program, and damages them."""

from __future__ import annotations

import os
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backupguard.contracts import Credentials, JobSelector, SecretReference
from backupguard.repositories.restic_settings import ResticSettings
from tests.programs import program

VERSIONS = ("0.14", "0.18", "0.19")
AWKWARD = "we[i]rd*?.sql"
NOT_UTF8 = os.fsdecode(b"r\xe9sum\xe9.txt")


@dataclass(frozen=True)
class Restic:
    """One repository and the program that wrote it."""

    version: str
    root: Path
    password: Path
    source: Path

    def run(self, *arguments: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess:
        argv = [
            program(f"restic-{self.version}"),
            *("--repo", self.root, "--password-file", self.password, "--no-cache"),
            *arguments,
        ]
        return subprocess.run(argv, check=check, capture_output=True, **more)

    def backup(self, *paths: Any, **more: Any) -> None:
        self.run("backup", "--host", "srv1", *map(str, paths), **more)

    def settings(self, **more: Any) -> ResticSettings:
        given: dict[str, Any] = {
            "type": "restic",
            "url": str(self.root),
            "program": program(f"restic-{self.version}"),
            "data_buckets": 2,
            "credentials": Credentials(reader=SecretReference(file=self.password)),
        }
        return ResticSettings(**{**given, **more})

    def packs(self, larger_than: int = 0) -> list[Path]:
        found = (path for path in (self.root / "data").rglob("*") if path.is_file())
        return sorted(path for path in found if path.stat().st_size > larger_than)

    def selector(self, *paths: Path, job: str = "dpi.nightly", **more: Any) -> JobSelector:
        return JobSelector(
            job=job, application="dpi", paths=tuple(str(path) for path in paths), **more
        )


def make(directory: Path, version: str) -> Restic:
    """An empty repository, with a password file and a source directory beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    password = directory / "password"
    password.write_text("correct horse\n")
    password.chmod(0o600)
    source = directory / "src"
    source.mkdir()
    restic = Restic(version, directory / "repository", password, source)
    restic.run("init")
    return restic


def fill(restic: Restic) -> None:
    """A source that looks like dumps, with names that want to be misread."""
    chance = random.Random(7)
    (restic.source / "etc").mkdir()
    (restic.source / "dpi.dump").write_bytes(chance.randbytes(400_000))
    (restic.source / "etc" / AWKWARD).write_text("one")
    (restic.source / "etc" / "weird.sql").write_text("not selected by the name above")
    (restic.source / "etc" / NOT_UTF8).write_text("a name that is no UTF-8")


def damage(pack: Path, how: str) -> None:
    """Flip one byte of a pack, cut it in half, or delete it."""
    pack.chmod(0o600)
    if how == "deleted":
        pack.unlink()
    elif how == "truncated":
        os.truncate(pack, pack.stat().st_size // 2)
    else:
        with pack.open("r+b") as file:
            file.seek(pack.stat().st_size // 3)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
