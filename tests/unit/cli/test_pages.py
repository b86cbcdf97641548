"""Manual pages and completion say what the command line says."""

from __future__ import annotations

import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from backupguard.cli.main import COMMANDS

PAGES = Path(__file__).parents[3] / "packaging/pages.py"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = spec_from_file_location("pages", PAGES)
    assert spec is not None
    assert spec.loader is not None
    pages = module_from_spec(spec)
    spec.loader.exec_module(pages)
    directory = tmp_path_factory.mktemp("pages") / "written"
    pages.main(directory, "1.2.3", "2026-03-05")
    return directory


def test_every_command_has_a_page(written: Path) -> None:
    shown = {f"backupguard-{one.name}.1" for one in COMMANDS if not one.hidden}
    assert {one.name for one in (written / "man1").iterdir()} == {*shown, "backupguard.1"}
    page = (written / "man1/backupguard-state.1").read_text()
    assert "--replace" in page.replace("\\-", "-")
    assert "BackupGuard 1.2.3" in page


@pytest.mark.parametrize(
    ("line", "offers", "not_offers"),
    [
        ("backupguard sta", {"state", "status"}, {"export"}),
        ("backupguard --quiet state ", {"export", "import"}, {"status"}),
        ("backupguard state import --r", {"--replace"}, {"--help"}),
        ("backupguard --language ", {"fr", "en"}, {"status"}),
    ],
)
def test_completion(written: Path, line: str, offers: set[str], not_offers: set[str]) -> None:
    words = " ".join(f"'{word}'" for word in line.split(" "))
    script = (
        f"source {written}/backupguard.bash; COMP_WORDS=({words}); "
        "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _backupguard; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, check=True)
    assert offers <= set(done.stdout.split())
    assert not not_offers & set(done.stdout.split())
