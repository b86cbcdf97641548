"""Commands that act: through the living daemon, or in this process when none is alive."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

from backupguard.cli import common
from backupguard.daemon import cadence, client
from backupguard.daemon.requests import author, request, run_json
from backupguard.errors import EXIT_DONE, EXIT_FAILED, EXIT_NOT_PROVED, Busy
from backupguard.model import Json, Subject, Verdict

if TYPE_CHECKING:
    from backupguard.contracts import Secret, Store
    from backupguard.processes import Cancellation
    from backupguard.runs import Task
    from backupguard.settings import Settings

#: Where the short sentences of codes are: of errors, and of checks of restored content.
_KINDS = ("code", "check")

#: Why a run ends at its deadline; nobody at a terminal says so.
_DEADLINE = "by_stop"

RunJson = Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A run somebody asks for on the command line."""

    task: str
    subject: Subject
    options: Mapping[str, Json] = field(default_factory=dict)
    key: Secret | None = None  # an escrowed key that was brought for this run alone


def act(settings: Settings, wanted: Sequence[Wanted]) -> list[RunJson]:
    """Have each wanted run performed, show its progress, and return how it ended."""
    if client.daemon_alive(settings):
        return [_through_daemon(settings, one) for one in wanted]
    store = common.store(settings)
    try:
        return _in_process(settings, store, wanted)
    finally:
        store.close()


def exit_code(ended: Sequence[RunJson]) -> int:
    """Return 1 when anything tested failed, 2 when anything was not proved, else 0.

    Nothing tested at all proves nothing.
    """
    verdicts = {run["verdict"] for run in ended}
    if Verdict.FAILED.value in verdicts:
        return EXIT_FAILED
    return EXIT_DONE if verdicts == {Verdict.PASSED.value} else EXIT_NOT_PROVED


def sentence(code: str | None) -> str:
    """Return what a code means, as an error without values; "" for none."""
    if code is None:
        return ""
    from backupguard.language import catalogue

    words = common.words()
    known = catalogue(words.language)
    found = next((f"{kind}.{code}" for kind in _KINDS if f"{kind}.{code}" in known), None)
    return words.text(found) if found else code


def label(family: str, name: str) -> str:
    """Return the words for a name that code or a site chose; one without words is shown as it is."""
    from backupguard.language import catalogue

    words = common.words()
    identifier = f"{family}.{name}"
    return words.text(identifier) if identifier in catalogue(words.language) else name


def show_runs(ended: Sequence[RunJson]) -> None:
    """Print a line per run: what, about whom, how it ended, why."""
    words = common.words()
    common.print_table(
        [words.text(f"acting.column.{name}") for name in ("task", "subject", "verdict", "reason")],
        [
            (
                words.text(f"task.{run['task']}"),
                str(run["subject"]),
                words.text(f"verdict.{run['verdict']}"),
                sentence(run["code"]),
            )
            for run in ended
        ],
    )


def _through_daemon(settings: Settings, wanted: Wanted) -> RunJson:
    identifier = client.enqueue(settings, wanted.task, wanted.subject, wanted.options, wanted.key)
    progress = _Progress(wanted)
    last: RunJson = {}
    try:
        for last in client.follow(settings, identifier):
            told = last.get("progress")
            if told:
                progress(told["done"], told["total"], told["unit"])
    except KeyboardInterrupt:
        # The run is the daemon's: it goes on, and the user is told how to end it.
        common.complain(common.words().text("acting.goes-on", run=identifier))
        raise
    finally:
        progress.end()
    return last


def _in_process(settings: Settings, store: Store, wanted: Sequence[Wanted]) -> list[RunJson]:
    from backupguard import runs
    from backupguard.daemon.escrow import HANDED
    from backupguard.daemon.log import configure
    from backupguard.processes import Cancellation

    configure(quiet=not common.options().verbose)
    runs.recover(settings, store)
    ended: list[RunJson] = []
    cancel = Cancellation()
    with _cancelled_by_signals(cancel) as followers:
        for one in wanted:
            if cancel.is_set():
                break
            run = store.enqueue(
                request(
                    one.task,
                    one.subject,
                    requested_by=author(),
                    due_at=datetime.now(UTC),
                    options={**one.options, **({HANDED: "here"} if one.key else {})},
                )
            )
            progress = _Progress(one)
            try:
                with _deadline(cadence.deadline(settings, one.task), followers) as own:
                    tasks = _tasks(one.key, own)
                    runs.perform(run, settings, store, own, tasks, follower=progress)
            except Busy:
                # What excludes it is being performed by somebody else: this request is withdrawn.
                store.cancel(run.id, author())
                raise
            finally:
                progress.end()
            ended.append(run_json(store.run(run.id) or run))
    judge(settings, store)
    if len(ended) < len(wanted):  # what was never begun is not among what passed
        cancel.raise_if_set()
    return ended


def _tasks(key: Secret | None, cancel: Cancellation) -> Mapping[str, Task]:
    """Return the table of tasks; a restore test is handed the key that was brought for it."""
    from backupguard import runs
    from backupguard.daemon.tasks import TASKS, restore_test

    tasks = dict(TASKS)
    if key is not None:
        tasks["restore-test"] = partial(restore_test, handed=lambda: key)
    return {
        name: runs.limited(task, lambda: cancel.reason == _DEADLINE) for name, task in tasks.items()
    }


@contextmanager
def _deadline(limit: timedelta, followers: list[Cancellation]) -> Iterator[Cancellation]:
    """Yield what ends one run: whoever ends the command, or the deadline a daemon would set it."""
    from backupguard.processes import Cancellation

    own = Cancellation()
    followers.append(own)
    clock = threading.Timer(limit.total_seconds(), own.set, [_DEADLINE])
    clock.daemon = True
    clock.start()
    try:
        if followers[0].is_set():  # while this one was made
            own.set()
        yield own
    finally:
        clock.cancel()
        followers.remove(own)


def judge(settings: Settings, store: Store) -> None:
    """Judge everything now, as the daemon would, so that `status` knows."""
    from backupguard.assess import Assessor
    from backupguard.controls import catalogue_of

    Assessor(store, settings, catalogue_of(settings)).assess(datetime.now(UTC))
    store.seal()


@contextmanager
def _cancelled_by_signals(cancel: Cancellation) -> Iterator[list[Cancellation]]:
    """Turn SIGINT and SIGTERM into a cancel, so that the sandbox is discarded and the run closed.

    Yields all that is cancelled with it.
    """
    followers = [cancel]

    def wanted(_number: int, _frame: FrameType | None) -> None:
        for one in followers:
            one.set("by_operator")

    before = {number: signal.signal(number, wanted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield followers
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Progress:
    """Progress on standard error: one line redrawn on a terminal, a line per step elsewhere."""

    def __init__(self, wanted: Wanted) -> None:
        words = common.words()
        self._title = f"{words.text(f'task.{wanted.task}')} {wanted.subject}"
        self._words = words
        self._quiet = common.options().quiet
        self._terminal = sys.stderr.isatty()
        self._last = ""
        self._drawn = False

    def __call__(self, done: int, total: int | None, unit: str) -> None:
        """Show a step."""
        if self._quiet:
            return
        if unit == "bytes":
            amount = self._words.size(done) + (f" / {self._words.size(total)}" if total else "")
        else:
            # A phase says itself; anything else is counted.
            what = self._words.text(unit if unit.startswith("phase.") else f"unit.{unit}")
            amount = f"{done}/{total} {what}" if total else f"{done} {what}"
        text = self._words.text("inventory.of", name=self._title, told=amount)
        if self._terminal:
            print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)
            self._drawn = True
        elif total and (step := f"{unit} {10 * done // total}") != self._last:
            print(text, file=sys.stderr, flush=True)
            self._last = step

    def end(self) -> None:
        """Clear the line."""
        if self._drawn:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
