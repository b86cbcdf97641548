"""An object that ended too early: only the repository's own sizes tell damage from a cut connection."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from backupguard.contracts import Completed
from backupguard.errors import BackupDefect, Unreachable
from backupguard.repositories.restic_errors import CutShort
from backupguard.repositories.restic_fetch import need_damage
from backupguard.repositories.restic_settings import Backend
from tests.unit.repositories.test_restic_errors import PACK, ended

CUT = CutShort("corrupt", repository="nas", objects=PACK[:10])


def program(backend: Backend, done: Completed, calls: list[str]) -> Any:
    from datetime import timedelta

    def run(call: Any) -> Completed:
        calls.append(call.verb)
        return done

    settings = SimpleNamespace(backend=backend, fetch_timeout=timedelta(hours=1))
    return SimpleNamespace(settings=settings, identifier="nas", run=run)


@pytest.mark.parametrize(
    "done",
    [
        ended(0),
        ended(1, f"pack {PACK}: Load: unexpected EOF"),
        ended(1, "Fatal: unable to reach it: connection refused"),
    ],
    ids=["whole", "cut-again", "unreachable"],
)
def test_a_transfer_that_was_cut_accuses_no_backup(done: Completed) -> None:
    with pytest.raises(Unreachable) as caught:
        need_damage(program(Backend.REST, done, []), CUT)
    assert caught.value.code == "timeout"


@pytest.mark.parametrize("backend", [Backend.REST, Backend.S3, Backend.SFTP])
def test_a_pack_that_is_too_short_does(backend: Backend) -> None:
    calls: list[str] = []
    wrong = ended(1, f"pack {PACK}: unexpected file size: got 5, expected 9")
    need_damage(program(backend, wrong, calls), CUT)
    assert calls == ["check"]


def test_nothing_lies_between_us_and_a_local_repository() -> None:
    calls: list[str] = []
    need_damage(program(Backend.LOCAL, ended(0), calls), CUT)
    assert calls == []
    assert issubclass(CutShort, BackupDefect)
