"""A run ends in exactly one closing fact, whatever happens to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backupguard.contracts import Store
from backupguard.errors import BackupDefect, Busy, Cancelled, Unreachable
from backupguard.model import Fact, Run, RunRequest, RunState, Verdict
from backupguard.processes import Cancellation
from backupguard.runs import TaskContext, perform, recover
from backupguard.settings import Settings, load
from backupguard.store import open_store

Work = Callable[[TaskContext], tuple[Verdict, str | None]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "backupguard.toml"
    path.write_text(f'[site]\nname = "Essai"\n[store]\ndirectory = "{tmp_path / "state"}"\n')
    return load(path)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    opened = open_store(settings.state_directory)
    yield opened
    opened.close()


def wanted(store: Store, task: str = "report") -> Run:
    return store.enqueue(
        RunRequest(
            task=task,
            subject="site",
            due_at=datetime.now(UTC),
            exclusive=task,
            resource="report",
            requested_by="test",
        )
    )


def performed(settings: Settings, store: Store, work: Work) -> tuple[Verdict, Run, Fact]:
    run = wanted(store)
    verdict = perform(run, settings, store, Cancellation(), {"report": work})
    closing = [fact for fact in store.facts(kinds=["report.closed"]) if fact.run == run.id]
    assert len(closing) == 1
    ended = store.run(run.id)
    assert ended is not None
    assert not (settings.runs_directory / run.id).exists()
    return verdict, ended, closing[0]


def test_a_run_that_passes_is_closed_and_sealed(settings: Settings, store: Store) -> None:
    verdict, run, fact = performed(settings, store, lambda _task: (Verdict.PASSED, None))
    assert verdict is run.verdict is Verdict.PASSED
    assert run.state is RunState.FINISHED
    assert fact.observation.data["verdict"] == "passed"


def test_a_task_works_in_a_private_directory(settings: Settings, store: Store) -> None:
    seen: list[int] = []

    def work(task: TaskContext) -> tuple[Verdict, str | None]:
        seen.append(task.context.work.stat().st_mode & 0o777)
        (task.context.work / "patient").write_text("Martin")
        return Verdict.PASSED, None

    performed(settings, store, work)
    assert seen == [0o700]


@pytest.mark.parametrize(
    ("error", "verdict", "code", "state"),
    [
        (BackupDefect("corrupt"), Verdict.FAILED, "corrupt", RunState.FINISHED),
        (Unreachable("dns"), Verdict.COULD_NOT_VERIFY, "dns", RunState.FINISHED),
        (Cancelled("by_operator"), Verdict.COULD_NOT_VERIFY, "by_operator", RunState.CANCELLED),
        (RuntimeError("Mme Martin"), Verdict.COULD_NOT_VERIFY, "bug", RunState.FINISHED),
    ],
)
def test_the_class_of_an_error_decides(
    settings: Settings,
    store: Store,
    error: Exception,
    verdict: Verdict,
    code: str,
    state: RunState,
) -> None:
    def work(_task: TaskContext) -> tuple[Verdict, str | None]:
        raise error

    seen, run, fact = performed(settings, store, work)
    assert (seen, run.code, run.state) == (verdict, code, state)
    assert fact.observation.data["code"] == code
    assert "Martin" not in str(fact.observation.data)


def test_two_runs_that_exclude_one_another_never_run_together(
    settings: Settings, store: Store
) -> None:
    def work(_task: TaskContext) -> tuple[Verdict, str | None]:
        with pytest.raises(Busy):
            perform(second, settings, store, Cancellation(), {"report": work})
        return Verdict.PASSED, None

    first, second = wanted(store), wanted(store)
    assert perform(first, settings, store, Cancellation(), {"report": work}) is Verdict.PASSED
    waiting = store.run(second.id)
    assert waiting is not None
    assert waiting.state is RunState.WAITING


_VICTIM = """
import sys, time
from pathlib import Path
from backupguard.daemon.log import configure
from backupguard.processes import Cancellation
from backupguard.runs import perform
from backupguard.settings import load
from backupguard.store import open_store
configure(quiet=True)
settings = load(Path(sys.argv[1]))
store = open_store(settings.state_directory)
def work(task):
    (task.context.work / "data").mkdir()
    print("working", flush=True)
    time.sleep(60)
perform(store.run(sys.argv[2]), settings, store, Cancellation(), {"report": work})
"""


def test_a_killed_run_is_closed_once_by_the_next_start(settings: Settings, store: Store) -> None:
    run = wanted(store)
    victim = subprocess.Popen(
        [sys.executable, "-c", _VICTIM, str(settings.files[0]), run.id],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert victim.stdout is not None
    assert victim.stdout.readline() == b"working\n"
    assert recover(settings, store) == ()  # it lives: nobody touches it
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    victim.stdout.close()
    time.sleep(0.1)

    assert recover(settings, store) == (run.id,)
    assert recover(settings, store) == ()
    ended = store.run(run.id)
    assert ended is not None
    assert (ended.state, ended.code) == (RunState.INTERRUPTED, "daemon_died")
    assert len(list(store.facts(kinds=["report.closed"]))) == 1
    assert not (settings.runs_directory / run.id).exists()


def test_a_run_that_lives_where_scratch_was_before_a_reload_is_left_alone(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "moved.toml"
    text = settings.files[0].read_text()
    file.write_text(f'{text}[scratch]\ndirectory = "{tmp_path / "elsewhere"}"\n')
    moved = load(file)
    seen: list[tuple[str, ...]] = []

    def work(task: TaskContext) -> tuple[Verdict, str | None]:
        seen.append(recover(moved, store, is_alive=lambda run: run == task.run.id))
        return Verdict.PASSED, None

    verdict, run, _ = performed(settings, store, work)
    assert seen == [()]
    assert (verdict, run.state) == (Verdict.PASSED, RunState.FINISHED)


def test_a_sweep_between_directory_and_lock_is_survived(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, swept = os.open, []

    def sweeping(path, *arguments, **more):  # type: ignore[no-untyped-def]
        ours = Path(path).name == "lock" and Path(path).parent.parent == settings.runs_directory
        if ours and not swept:
            swept.append(path)
            Path(path).parent.rmdir()
        return opened(path, *arguments, **more)

    monkeypatch.setattr(os, "open", sweeping)
    verdict, _, _ = performed(settings, store, lambda _task: (Verdict.PASSED, None))
    assert swept
    assert verdict is Verdict.PASSED
