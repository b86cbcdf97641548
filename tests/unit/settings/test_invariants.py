"""Canaries and invariants in the file: what is wrong has its place; taking one away weakens."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupguard.errors import ConfigurationError
from backupguard.settings.differences import differences
from backupguard.settings.loading import load

HEAD = """[site]
name = "Essai"
[repositories.dumps]
type = "directory"
path = "/srv/dumps"
[applications.dpi]
name = "DPI"
criticality = "C1"
[applications.dpi.backups.nightly]
repository = "dumps"
select.pattern = "dpi.dump"
every = "24h"
[applications.dpi.restore-test]
engine = "postgresql"
"""
CANARY = "canary = { since = 2026-11-22 }\n"
INVARIANT = "[[applications.dpi.restore-test.invariants]]\nname = 'séjours'\n"


def written(directory: Path, text: str) -> Path:
    path = directory / "backupguard.toml"
    path.write_text(HEAD + text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(INVARIANT, "table, only-grows and closed-set", id="nothing"),
        pytest.param(INVARIANT + "table = 'stays'\nonly-grows = 'select 1'\n", "one of", id="two"),
        pytest.param(INVARIANT + "closed-set = 'select 1'\n", "since", id="open"),
        pytest.param(INVARIANT + "only-grows = '\\! id'\n", "psql", id="meta-command"),
        pytest.param("canary = { newer-than = '26h' }\n", "since", id="canary"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    problem = caught.value.problems[0]
    assert problem.file == str(path)
    assert problem.line is not None
    assert problem.line >= HEAD.count("\n") - 1
    assert words in f"{problem}"


def test_taking_one_away_weakens(tmp_path: Path) -> None:
    both = load(written(tmp_path, CANARY + INVARIANT + "table = 'stays'\n")).dump()
    none = load(written(tmp_path, "")).dump()
    weaker = {one["path"] for one in differences(both, none) if one["weakened"]}
    for name in ("canary", "invariants"):
        assert any(name in path for path in weaker), weaker
    assert not [one for one in differences(none, both) if one["weakened"]]
