"""A repository type from a package of its own: installed, found, listed, judged, and confirmed.

Nothing in the program knows this type. It is installed as pip leaves a package, in a layer on the path
of the processes that use it.
"""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backupguard.contracts import JobSelector
from backupguard.testing.contexts import context
from backupguard.testing.repositories import RepositoryCase, RepositoryContract
from tests.integration.repositories.third_party import SHELF, ShelfSettings

SOURCE = Path(__file__).with_name("third_party.py")
HOUR = 3600
JOB = ("JOB-01", "job/dpi.nightly")
UNPROVEN = ("not_measurable", "reason.unproven")
PROGRAM = "import sys; from backupguard.cli.main import main; sys.exit(main())"


def shelve(directory: Path, name: str, age_h: float, size: int = 100) -> None:
    file = directory / f"{name}.copy"
    file.write_bytes(b"x" * size)
    moment = time.time() - age_h * HOUR
    os.utime(file, (moment, moment))


class TestShelfContract(RepositoryContract):
    """The contract that every type keeps is for others' types too."""

    @pytest.fixture
    def case(self, tmp_path: Path) -> RepositoryCase:
        root = tmp_path / "shelf"
        root.mkdir()
        for number in range(3):
            shelve(root, f"dpi-{number}", 24 * number + 1)
        return RepositoryCase(
            kind=SHELF,  # type: ignore[arg-type]
            root=root,
            settings_at=lambda path: ShelfSettings(type="shelf", path=path),
            jobs=(JobSelector(job="dpi.nightly", application="dpi", name="dpi"),),
            context=context(tmp_path / "context"),
            files=1,
        )


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the package in it, as an installer leaves it: a module and its metadata."""
    place = tmp_path_factory.mktemp("site-packages")
    (place / "hospital_shelf.py").write_bytes(SOURCE.read_bytes())
    info = place / "hospital_shelf-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hospital-shelf\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[backupguard.repositories]\nshelf = hospital_shelf:SHELF\n"
    )
    (info / "RECORD").write_text("")
    return place


class Site:
    """A site that keeps its copies on a shelf and in a directory, and its command line."""

    def __init__(self, root: Path, layer: Path) -> None:
        self.root, self._layer = root, layer
        self.shelf, self.dumps = root / "shelf", root / "dumps"
        self.version = root / "version"
        for directory in (self.shelf, self.dumps):
            directory.mkdir()
        self.version.write_text("3.1\n")
        for number in range(14):
            shelve(self.shelf, f"dpi-{number:02}", 24 * number + 2)
        shelve(self.shelf, "labo-0", 3)
        (root / "backupguard.toml").write_text(
            f"""
[site]
name = "Essai"
language = "fr"
[store]
directory = "{root / "state"}"
[repositories.etagere]
type = "shelf"
path = "{self.shelf}"
version-file = "{self.version}"
failure-domain = "salle-1"
[applications.dpi]
name = "DPI"
criticality = "C1"
rpo = "26h"
[applications.dpi.backups.nightly]
repository = "etagere"
select.name = "dpi"
every = "24h"
grace = "4h"
[applications.labo]
name = "Labo"
criticality = "C2"
[applications.labo.backups.nightly]
repository = "etagere"
select.name = "labo"
every = "24h"
""",
            encoding="utf-8",
        )

    def command(self, *arguments: str) -> list[str]:
        config = str(self.root / "backupguard.toml")
        program = [
            sys.executable,
            "-c",
            "import sys; from backupguard.cli.main import main; sys.exit(main())",
        ]
        return [*program, "--config", config, *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self._layer)}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=60,
        )

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def reasons(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Return status and reason of every finding, as they stand now."""
        found = self.json("status")["findings"]
        return {
            (one["control"], one["subject"]): (one["status"], one["reason"]["id"]) for one in found
        }

    def at_a_terminal(self, answer: str, *arguments: str) -> tuple[int, str]:
        """Run a command at a terminal, answer the question it asks, and return how it ended."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            self.command(*arguments),
            env={**self.environment, "COLUMNS": "200"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        said, asked = b"", False
        until = time.monotonic() + 60
        while time.monotonic() < until:
            ready, _, _ = select.select([ours], [], [], 1)
            try:
                part = os.read(ours, 65536) if ready else b""
            except OSError:  # the terminal's other end is closed: it has ended
                break
            said += part
            if not asked and b"console" in said:
                os.write(ours, answer.encode() + b"\n")
                asked = True
        os.close(ours)
        return process.wait(timeout=30), said.decode()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, layer: Path) -> Site:
    site = Site(tmp_path_factory.mktemp("site"), layer)
    told = site.run("inventory")
    assert told.returncode == 0, told.stderr
    assert "etagere" in told.stdout
    return site


def test_it_is_found_listed_and_its_copies_are_shown(place: Site) -> None:
    told = place.json("inventory", "--no-refresh")
    (dpi, labo) = told["applications"]
    assert [job["points"] for job in dpi["jobs"]] == [14]
    assert [job["points"] for job in labo["jobs"]] == [1]
    (copies,) = dpi["copies"]
    assert copies["not_counted"] == {"etagere": "unproven"}
    assert copies["copies"][0]["device"] == ["host:shelf-etagere"]
    assert told["repositories"][0]["inspected"]["tool"] == "shelf"


def test_it_proves_nothing_until_a_person_confirms(place: Site) -> None:
    found = place.reasons()
    for key in (JOB, ("PDM-01", "application/dpi"), ("INT-01", "repository/etagere")):
        assert found[key] == UNPROVEN
    assert place.run("why", *JOB).stdout.count("doctor repositories") == 1
    doctor = place.json("doctor")
    (check,) = [one for one in doctor["checks"] if one["check"] == "repository/etagere"]
    assert check["state"] == "unproven"
    assert "--confirm" in check["remedy"]


def test_the_sample_is_spread_over_jobs_and_time(place: Site) -> None:
    told = place.json("doctor", "repositories", "etagere")
    assert told["confirmation_needed"]
    sample = told["sample"]
    assert len(sample) == 10
    assert {one["job"] for one in sample} == {"dpi.nightly", "labo.nightly"}
    ids = {one["native_id"] for one in sample}
    assert {"dpi-00", "dpi-13", "labo-0"} <= ids
    assert {one["source"] for one in sample} == {"srv1"}
    assert {one["bytes"] for one in sample} == {100}


def test_a_confirmation_is_not_piped_in_nor_mistyped(place: Site) -> None:
    piped = subprocess.run(
        place.command("doctor", "repositories", "etagere", "--confirm"),
        env=place.environment, text=True, capture_output=True, input="etagere\n", timeout=60,
    )  # fmt: skip
    assert piped.returncode == 64
    assert "terminal" in piped.stderr
    code, said = place.at_a_terminal("oui", "doctor", "repositories", "etagere", "--confirm")
    assert code == 2
    assert "Rien n’a été confirmé" in said
    assert place.json("doctor", "repositories", "etagere")["confirmation_needed"]


@pytest.fixture(scope="module")
def confirmed(place: Site) -> Iterator[Callable[[], None]]:
    def confirm() -> None:
        code, said = place.at_a_terminal(
            "etagere", "doctor", "repositories", "etagere", "--confirm"
        )
        assert code == 0, said
        assert "dpi-13" in said

    return confirm


def test_confirmed_by_a_person_it_is_judged_until_a_major_upgrade(
    place: Site, confirmed: Callable[[], None]
) -> None:
    confirmed()
    found = place.reasons()
    assert found[JOB][0] == "compliant"
    assert found["321-01", "application/dpi"] == ("non_compliant", "reason.321-01.few")
    place.version.write_text("3.9\n")
    assert place.run("inventory").returncode == 0
    (state,) = place.json("doctor", "repositories")["repositories"]
    assert not state["confirmation_needed"]
    assert state["confirmed_by"].startswith(f"uid/{os.getuid()}")

    place.version.write_text("4.0\n")
    assert place.run("inventory").returncode == 0
    assert place.reasons()[JOB] == UNPROVEN
    assert "majeure" in place.run("doctor", "repositories").stdout


def test_without_the_package_the_type_is_unknown(place: Site) -> None:
    plain = subprocess.run(
        place.command("config", "check"), text=True, capture_output=True, timeout=60
    )
    assert plain.returncode == 78
    assert "shelf" in plain.stderr + plain.stdout
