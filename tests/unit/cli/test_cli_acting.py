"""The exit code of commands that act: nothing tested, or not all of it, is no success."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from backupguard import runs
from backupguard.cli import acting, common
from backupguard.errors import Cancelled
from backupguard.settings import load


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (["passed"], 0),
        (["passed", "passed"], 0),
        (["passed", "failed", "could_not_verify"], 1),
        (["passed", "could_not_verify"], 2),
        (["skipped"], 2),
        ([None], 2),
        ([], 2),
    ],
)
def test_exit_codes(verdicts: list[str | None], code: int) -> None:
    assert acting.exit_code([{"verdict": verdict} for verdict in verdicts]) == code


def test_what_a_signal_kept_from_beginning_did_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "backupguard.toml"
    file.write_text(f'[site]\nname = "Essai"\n[store]\ndirectory = "{tmp_path / "state"}"\n')

    def perform(*_whatever, **_more):  # type: ignore[no-untyped-def]
        signal.raise_signal(signal.SIGINT)  # a Ctrl-C when the first has all but ended

    monkeypatch.setattr(runs, "perform", perform)
    common.set_options(common.Options(quiet=True))
    wanted = [acting.Wanted(task="inventory", subject="site") for _ in range(2)]
    settings = load(file, environ={})
    with pytest.raises(Cancelled):
        acting.act(settings, wanted)
    assert len(acting.act(settings, wanted[:1])) == 1
