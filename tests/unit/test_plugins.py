from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupguard import plugins
from backupguard.errors import MissingMeans

GROUP = "backupguard.probes"


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    plugins._found.cache_clear()
    plugins.load.cache_clear()
    yield
    plugins._found.cache_clear()
    plugins.load.cache_clear()


def distribution(directory: Path, name: str, entries: str) -> None:
    """Make an installed distribution, as pip leaves one."""
    info = directory / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entries}\n")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_shipped_ones_come_through_the_same_door() -> None:
    assert set(plugins.names(plugins.REPOSITORIES)) >= {"directory", "restic"}
    assert set(plugins.names(plugins.PROBES)) >= {"integrity", "inventory"}
    assert set(plugins.engines()) >= {"postgresql"}
    assert plugins.repository_type("directory").name == "directory"
    assert plugins.probe("inventory").name == "inventory"


def test_a_hospital_can_add_its_own(place: Path) -> None:
    (place / "ghost_probe.py").write_text("class Ghost:\n    name = 'ghost'\nGHOST = Ghost()\n")
    distribution(place, "ghost", "ghost = ghost_probe:GHOST")

    assert "ghost" in plugins.names(GROUP)
    assert "ghost_probe" not in sys.modules, "names import nothing"
    assert plugins.probe("ghost").name == "ghost"


def test_an_unknown_name_lists_what_exists() -> None:
    with pytest.raises(MissingMeans) as caught:
        plugins.probe("nosuch")

    assert caught.value.code == "plugin_missing"
    assert "inventory" in str(caught.value.message.values["exists"])


def test_a_name_given_twice_is_refused(place: Path) -> None:
    distribution(place, "one", "twin = one:X")
    distribution(place, "two", "twin = two:X")

    with pytest.raises(MissingMeans) as caught:
        plugins.probe("twin")

    assert caught.value.code == "plugin_twice"
    assert caught.value.message.values["found"] == "one:X, two:X"


@pytest.mark.parametrize("body", ["import nosuchmodule", "1 / 0", "pass"])
def test_one_that_cannot_be_imported_says_why(place: Path, body: str) -> None:
    name = f"broken_{abs(hash(body))}"
    (place / f"{name}.py").write_text(body)
    distribution(place, "broken", f"broken = {name}:X")

    with pytest.raises(MissingMeans) as caught:
        plugins.probe("broken")

    assert caught.value.code == "plugin_broken"
    assert caught.value.__cause__ is not None
