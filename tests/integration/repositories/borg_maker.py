"""Makes borg repositories with the real program, and breaks them."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backupguard.contracts import Credentials, JobSelector, SecretReference
from backupguard.repositories.borg_settings import BorgSettings
from tests.programs import program

VERSIONS = ("1.2", "1.4")
PASSPHRASE = "correct horse"
NOT_UTF8 = os.fsdecode(b"r\xe9sum\xe9.txt")


def executable(version: str) -> Path:
    return Path("/usr/bin/borg") if version == "1.2" else program(f"borg-{version}")


@dataclass(frozen=True)
class Borg:
    """One repository and the program that wrote it. `source` is what its archives hold."""

    version: str
    root: Path
    passphrase: Path
    source: Path

    def run(self, *arguments: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess:
        environment = {
            "PATH": "/usr/bin:/bin",
            "BORG_BASE_DIR": str(self.root.with_name(f"{self.root.name}-writer")),
            "BORG_PASSCOMMAND": f"cat {self.passphrase}",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "TZ": "Pacific/Auckland",  # the writer's zone is nobody's business
            **more.pop("environment", {}),
        }
        argv = [executable(self.version), *map(str, arguments)]
        return subprocess.run(argv, check=check, capture_output=True, env=environment, **more)

    def create(self, name: str, *paths: Any, options: tuple[str, ...] = (), **more: Any) -> None:
        self.run("create", *options, f"{self.root}::{name}", *map(str, paths), **more)

    def settings(self, **more: Any) -> BorgSettings:
        given: dict[str, Any] = {
            "type": "borg",
            "url": str(self.root),
            "program": executable(self.version),
            "credentials": Credentials(reader=SecretReference(file=self.passphrase)),
        }
        return BorgSettings(**{**given, **more})

    def copied(self, to: Path) -> Borg:
        shutil.copytree(self.root, to, symlinks=True)
        return replace(self, root=to)

    def largest_segment(self) -> Path:
        segments = (path for path in (self.root / "data").rglob("*") if path.is_file())
        return max(segments, key=lambda path: path.stat().st_size)


def job(*paths: Any, **more: Any) -> JobSelector:
    given: dict[str, Any] = {"job": "dpi.nightly", "application": "dpi", "name": "dpi-*"}
    return JobSelector(**{**given, "paths": tuple(map(str, paths)), **more})


def make(directory: Path, version: str, encryption: str = "repokey") -> Borg:
    """An empty repository, with a passphrase file and a source directory beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    passphrase = directory / "passphrase"
    passphrase.write_text(f"{PASSPHRASE}\n")
    passphrase.chmod(0o600)
    source = directory / "src"
    source.mkdir(exist_ok=True)
    borg = Borg(version, directory / "repository", passphrase, source)
    borg.run("init", "--encryption", encryption, str(borg.root))
    return borg


def fill(borg: Borg) -> None:
    """A source that looks like dumps, with names that want to be misread, links and a pipe."""
    (borg.source / "etc").mkdir()
    (borg.source / "dpi.dump").write_bytes(random.Random(7).randbytes(400_000))
    (borg.source / "etc" / "{now} [a]*.sql").write_text("one")
    (borg.source / "etc" / NOT_UTF8).write_text("a name that is no UTF-8")
    os.link(borg.source / "etc" / NOT_UTF8, borg.source / "etc" / "hard")
    (borg.source / "etc" / "out").symlink_to("/nowhere/passwd")
    os.mkfifo(borg.source / "etc" / "pipe")
