"""A restore test that hangs is ended by its time-outs and accuses nobody; a second one is refused."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupguard.daemon import agenda, cadence, client
from backupguard.errors import EXIT_NOT_PROVED, Busy
from backupguard.model import Phase, RunState, Status, Verdict, application_subject
from tests.integration.daemon.living import PROGRAM, wait_for
from tests.integration.restore_tests.harness import Trials
from tests.integration.survival.engines import BY_NAME, NAMES, Backups, EnginesPlace
from tests.sabotage.corpus.sources import AT

#: Seconds that every phase may take here; stopping a server that does not obey takes more.
LIMIT_S, GRACE_S = 2, 40


@contextmanager
def stopping(place: Path) -> Iterator[list[str]]:
    """Stop (SIGSTOP) what works in sandboxes below a directory, as if it had hung."""
    stopped: list[str] = []
    over = threading.Event()
    wanted = f"{place}/".encode()

    others: set[str] = set()

    def stop() -> None:
        while not over.wait(0.01):
            for entry in Path("/proc").iterdir():
                if entry.name in others or not entry.name.isdigit():
                    continue
                with suppress(OSError):
                    name = (entry / "comm").read_text().strip()
                    mounts = (entry / "mountinfo").read_bytes()
                    if wanted not in mounts or b" /scratch " not in mounts:
                        if name != "bwrap":  # that one may still become another program
                            others.add(entry.name)
                    elif name != "bwrap":
                        os.kill(int(entry.name), signal.SIGSTOP)
                        stopped.append(name)

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield stopped
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("engine", NAMES)
def test_what_hangs_is_ended_and_accuses_nobody(
    backups: Backups, tmp_path: Path, engine: str
) -> None:
    subject = BY_NAME[engine]
    trials = Trials(tmp_path, engines={engine: subject.plugin})
    artifact, settings = backups.artifact(engine), subject.read(backups.place(engine))
    if engine == "command":
        settings = subject.read(backups.place(engine), **{"time-limit": f"{LIMIT_S}s"})
    began = time.monotonic()
    with stopping(tmp_path) as stopped:
        result = trials.restore(
            artifact, settings=settings, point_at=AT, limits=dict.fromkeys(Phase, LIMIT_S)
        )
    assert stopped
    assert (result.verdict, result.code) == (Verdict.COULD_NOT_VERIFY, "phase_limit"), result
    assert result.phases[-1].phase is Phase.DISCARD
    assert result.phases[-1].verdict is Verdict.PASSED
    assert time.monotonic() - began < len(Phase) * LIMIT_S + GRACE_S


@pytest.fixture
def wedged(backups: Backups, tmp_path: Path) -> Iterator[EnginesPlace]:
    """A site whose application is tested by a program that never ends, far beyond its phases."""
    made = tmp_path / "made"
    (made / "site").mkdir(parents=True)
    program = made / "site" / "look"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(stat.S_IRWXU)
    place = EnginesPlace(tmp_path, backups)
    place.hold("command")
    ours = str(backups.place("command") / "site")
    limits = "".join(f'{phase.value} = "2s"\n' for phase in Phase)
    place.parts = [part.replace(ours, str(program.parent)) for part in place.parts]
    place.parts[-1] += 'time-limit = "1h"\n'
    place.quiet += f"[daemon.limits]\n{limits}"
    place.write()
    yield place
    place.end()


def test_a_wedged_test_is_ended_by_the_sum_of_its_limits_and_a_second_one_is_refused(
    wedged: EnginesPlace,
) -> None:
    subject = application_subject("command")
    assert cadence.deadline(wedged.settings, "restore-test") == timedelta(seconds=14)
    wedged.start()
    run = client.enqueue(wedged.settings, "restore-test", subject)
    wait_for(lambda: wedged.phases(run)[-1:] == ["load"], 60)
    began = time.monotonic()

    # asked for again meanwhile, by a person or by the agenda, none runs beside it
    with pytest.raises(Busy) as refused:
        client.enqueue(wedged.settings, "restore-test", subject)
    assert refused.value.message.values["run"] == run
    (schedule,) = [one for one in cadence.schedules(wedged.settings) if one.task == "restore-test"]
    now = datetime.now(UTC)
    last = agenda.last_slot(wedged.store, schedule, now)
    assert last is None or not cadence.due([schedule], {schedule.key: last}, now)
    assert running(wedged) == [run]
    ended = wedged.ended(run)
    assert time.monotonic() - began < 14 + GRACE_S
    assert (ended.verdict, ended.code) == (Verdict.COULD_NOT_VERIFY, "run_limit")
    wait_for(lambda: wedged.nothing_left(run), 60)
    assert wedged.judged()["RST-01", subject].status is Status.NOT_MEASURABLE
    # once it has ended, another one is taken
    second = client.enqueue(wedged.settings, "restore-test", subject)
    client.cancel(wedged.settings, second)
    assert wedged.ended(second).verdict is not Verdict.FAILED
    assert wedged.proved()


def running(place: EnginesPlace) -> list[str]:
    """Return the restore tests that are being performed."""
    return [one.id for one in place.restore_tests(RunState.RUNNING)]


def test_a_second_test_of_an_application_is_refused_without_a_daemon(wedged: EnginesPlace) -> None:
    command = [PROGRAM, "--config", wedged.config, "--language", "en", "restore-test", "command"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        run = wait_for(lambda: running(wedged), 60)
        refused = wedged.command("--language", "en", "restore-test", "command")
        assert refused.returncode == EXIT_NOT_PROVED, refused
        assert "already" in refused.stderr, refused.stderr
        assert running(wedged) == run
        first.terminate()
        assert first.wait(60) == EXIT_NOT_PROVED
    assert isinstance(run, list)
    assert wedged.nothing_left(run[0])
    states = sorted(one.state.value for one in wedged.restore_tests())
    assert states == ["cancelled", "cancelled"]
