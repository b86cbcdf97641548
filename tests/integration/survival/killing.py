"""Kills parts of real restore tests at moments of chance, and looks at what is left.

One daemon restores one small backup per engine, again and again. Each time something is killed: the
daemon, the runner, the program that fetches, a program at work in the sandbox, or bubblewrap's own
process around it. Afterwards nothing of the run may be left, the backup may not be accused, nothing
may have passed that was not seen to its end, and the next test of the same backup must pass.

    script/kills --count 200 --seed 7
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from backupguard.daemon import client
from backupguard.errors import BackupGuardError
from backupguard.model import Phase, Run, RunState, Verdict, application_subject
from tests.integration.daemon.living import wait_for
from tests.integration.survival.engines import (
    BY_NAME,
    Backups,
    EnginesPlace,
    sockets_of,
    strangers,
)
from tests.integration.survival.places import PASSWORD
from tests.integration.survival.victims import (
    LOGGER,
    hit,
    in_sandbox,
    locked,
    name_of,
    runner_of,
)
from tests.sabotage.corpus.sources import opened

PHASES = [phase.value for phase in Phase]
VICTIMS = ("runner", "daemon", "server", "fetch", "init")
#: What a run may be closed with once something of it was killed.
_INTERRUPTED = frozenset({"daemon_died", "by_stop"})
_SHORT, _LONG = 15.0, 90.0
#: After so many kills of an engine its backup is restored undisturbed.
_UNDISTURBED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """What was killed when, and what came of it; `wrong` says what should not be."""

    engine: str
    victim: str
    phase: str
    outcome: str
    wrong: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Siege:
    """A daemon with one application per engine, under fire."""

    place: EnginesPlace
    chance: random.Random
    engines: Sequence[str]
    # seconds a test and its fetch take, as the last one that was not disturbed did
    durations: dict[str, float] = field(default_factory=lambda: defaultdict(lambda: 2.0))
    fetches: dict[str, float] = field(default_factory=lambda: defaultdict(lambda: 0.6))
    daemon: subprocess.Popen[bytes] | None = None

    @property
    def temporary(self) -> Path:
        """The daemon's own TMPDIR, in which nothing may stay."""
        return self.place.directory / "tmp"

    def start(self) -> None:
        """Start a daemon."""
        self.temporary.mkdir(exist_ok=True)
        self.daemon = self.place.start(more={"TMPDIR": str(self.temporary)})

    def passes(self, engine: str) -> Run | None:
        """Restore an engine's backup undisturbed; None when it did not pass."""
        subject = application_subject(engine)
        began = time.monotonic()
        run = self.place.ask(subject)
        self.durations[engine] = time.monotonic() - began
        phases = self.place.result(subject)["phases"]
        assert isinstance(phases, list)
        spent = sum(phase["duration_ms"] for phase in phases if phase["phase"] == "fetch")
        self.fetches[engine] = spent / 1000
        return run if run.verdict is Verdict.PASSED else None

    # -- one kill

    def strike(self, engine: str, victim: str) -> Kill | None:
        """Kill one thing at a moment of chance; None when the run was over before it was there."""
        run_id = client.enqueue(self.place.settings, "restore-test", application_subject(engine))
        wait_for(lambda: self._state(run_id) is not RunState.WAITING, _LONG)
        self._wait_for_the_moment(engine, victim)
        found = self._victims(run_id, engine, victim)
        if not found:
            self.place.ended(run_id)
            # the machine is less busy than it was
            self.durations[engine] *= 0.7
            self.fetches[engine] *= 0.7
            return None
        # whatever has ended by now may have been seen; what ends later may not pass
        before = self._phases(run_id)
        name = name_of(found[0])
        if not hit(found[0]):  # it had just ended by itself
            self.place.ended(run_id)
            return None
        after = self._phases(run_id)
        if victim == "daemon":
            assert self.daemon is not None
            self.daemon.wait()
            wait_for(lambda: not self.place.alive(run_id), _SHORT)
            wait_for(lambda: not runner_of(run_id), _LONG)
            self.start()
        wait_for(lambda: self._closed(run_id), _LONG)
        run = self.place.store.run(run_id)
        assert run is not None
        phase = next((one for one in PHASES if one not in before), "over")
        wrong = [
            *self._wrong(run, name if name == LOGGER else victim, before, after),
            *self._left(run_id),
        ]
        what = victim if victim != "server" else f"server ({name})"
        outcome = f"{run.verdict.value if run.verdict else '?'} {run.code or ''}".strip()
        return Kill(engine=engine, victim=what, phase=phase, outcome=outcome, wrong=tuple(wrong))

    def _wait_for_the_moment(self, engine: str, victim: str) -> None:
        # a runner needs its time to begin, and what fetches is there for a part of it only
        whole, fetch = self.durations[engine], self.fetches[engine]
        last = whole * 0.3 if victim == "fetch" else whole * 0.9
        first = whole * 0.2 + fetch if victim == "server" else 0.05
        time.sleep(self.chance.uniform(min(first, last), last))

    def _victims(self, run: str, engine: str, victim: str) -> list[int]:
        """Return the processes to kill, waiting until there is one or the run is over."""
        if victim == "daemon":
            assert self.daemon is not None
            return [self.daemon.pid]
        look: Mapping[str, Callable[[], list[int]]] = {
            "runner": lambda: runner_of(run),
            "fetch": lambda: self._fetching(run, BY_NAME[engine].fetches),
            "server": lambda: self._programs(run),
            "init": lambda: self.place.alive(run, "bwrap"),
        }
        while not self._closed(run):
            if found := look[victim]():
                return [self.chance.choice(found)]
            time.sleep(0.002)
        return []

    def _fetching(self, run: str, program: str) -> list[int]:
        """Return the processes that fetch: what has the same name in the sandbox is none of them."""
        return [pid for pid in self.place.alive(run, program) if not in_sandbox(pid)]

    def _programs(self, run: str) -> list[int]:
        """Return the processes of one of the programs at work inside the sandbox."""
        named: dict[str, list[int]] = {}
        for pid in self.place.alive(run):
            if (name := name_of(pid)) not in ("bwrap", "gone") and in_sandbox(pid):
                named.setdefault(name, []).append(pid)
        return named[self.chance.choice(sorted(named))] if named else []

    def _phases(self, run: str) -> list[str]:
        return self.place.phases(run)

    def _closed(self, run: str) -> bool:
        return self._state(run) not in (RunState.WAITING, RunState.RUNNING)

    def _state(self, run: str) -> RunState:
        found = self.place.store.run(run)
        assert found is not None, "a run that was asked for is in no store"
        return found.state

    # -- what should not be

    def _wrong(
        self, run: Run, victim: str, before: Sequence[str], after: Sequence[str]
    ) -> Iterator[str]:
        results = [fact for fact in self.place.facts("restore-test.result") if fact.run == run.id]
        verdicts = {str(fact.observation.data["verdict"]) for fact in results}
        if len(self.place.closings(run.id)) != 1:
            yield f"{len(self.place.closings(run.id))} closing facts"
        if "failed" in verdicts or run.verdict is Verdict.FAILED:
            yield "the backup is accused"
        if "passed" in verdicts or run.verdict is Verdict.PASSED:
            if (
                "verify" not in after
                and victim != "daemon"
                and not (victim == LOGGER and "load" in after)
            ):
                yield f"passed, though killed after {', '.join(before) or 'nothing'}"
        elif victim in ("runner", "daemon") and run.code not in _INTERRUPTED:
            yield f"closed with {run.code}"
        if len(results) > 1:
            yield "two results"

    def _left(self, run: str) -> Iterator[str]:
        with suppress(AssertionError):
            wait_for(lambda: self.place.nothing_left(run), _SHORT)
        if alive := self.place.alive(run):
            yield f"processes {[name_of(pid) for pid in alive]}"
        if run in Path("/proc/self/mountinfo").read_text(encoding="utf-8"):
            yield "a mount"
        if (self.place.state / "runs" / run).exists():
            yield "the run's directory"
        if any(run in socket for socket in sockets_of(self.place.state)):
            yield "a socket"
        if held := [path for path in locked() if run in path]:
            yield f"locks {held}"
        if names := [path.name for path in self.temporary.iterdir()]:
            yield f"temporary files {names}"
        if parts := list(self.place.state.rglob("*.part")):
            yield f"half a copy {[part.name for part in parts]}"

    def proved(self) -> bool:
        """Tell whether store and evidence still hold together."""
        return self.place.proved()

    def swept(self) -> bool:
        """Tell whether a test that nobody disturbs leaves none of ours on the site's scratch server."""
        if "instance" not in self.engines:
            return True
        return self.passes("instance") is not None and not strangers(self.place.backups.scratch())


@contextmanager
def siege(directory: Path, backups: Backups, seed: int, engines: Sequence[str]) -> Iterator[Siege]:
    """Yield a daemon with a backup of each of `engines`, which are names of subjects."""
    directory.mkdir(parents=True, exist_ok=True)
    place = EnginesPlace(directory, backups)
    place.manager.settimeout(_LONG)
    try:
        for engine in engines:
            place.hold(engine)
        made = Siege(place=place, chance=random.Random(seed), engines=engines)
        made.start()
        yield made
    finally:
        place.end()


def plan(count: int, engines: Sequence[str], chance: random.Random) -> Iterator[tuple[str, str]]:
    """Yield what is to be killed: every victim of every engine, as often as each other."""
    pairs = [(engine, victim) for victim in VICTIMS for engine in engines]
    for number in range(count):
        if number % len(pairs) == 0:
            chance.shuffle(pairs)
        yield pairs[number % len(pairs)]


def table(kills: Sequence[Kill]) -> str:
    """Return the kills as a table: engine, phase, victim, outcome, how often."""
    counted = Counter((one.engine, one.phase, one.victim, one.outcome) for one in kills)
    order = {phase: number for number, phase in enumerate([*PHASES, "over"])}
    rows = sorted(counted.items(), key=lambda row: (row[0][0], order[row[0][1]], row[0][2:]))
    head = f"{'engine':20} {'phase':8} {'victim':20} {'times':>5}  outcome"
    lines = [f"{e:20} {p:8} {v:20} {n:5}  {o}" for (e, p, v, o), n in rows]
    return "\n".join([head, *lines])


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill as often as asked and print the table; exit with 1 when anything was wrong."""
    parser = argparse.ArgumentParser(prog="script/kills")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--engine", action="append", choices=sorted(BY_NAME))
    chosen = parser.parse_args(arguments)
    engines = chosen.engine or list(BY_NAME)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    root = Path(tempfile.mkdtemp(prefix="bgkills"))
    kills: list[Kill] = []
    try:
        (root / "password").touch(mode=0o600)
        (root / "password").write_text(PASSWORD + "\n", encoding="utf-8")
        with opened(root / "sources") as sources:
            backups = Backups(sources=sources, root=root, password=root / "password")
            with siege(root / "site", backups, chosen.seed, engines) as under:
                standing = under.place.listing()
                with suppress(KeyboardInterrupt):  # what was seen so far is worth its table
                    kills += _killed(under, chosen.count, engines)
                swept, proved = under.swept(), under.proved()
                same = under.place.listing() == standing
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(table(kills))
    wrong = [one for one in kills if one.wrong]
    for one in wrong:
        print("WRONG", one)
    print("evidence", "holds" if proved else "BROKEN", end="; ")
    print("scratch server", "swept" if swept else "NOT SWEPT", end="; ")
    print("repositories", "as they were" if same else "CHANGED")
    print(f"kills {len(kills)} wrong {len(wrong)}")
    return 0 if not wrong and swept and proved and same and len(kills) >= chosen.count else 1


def _killed(under: Siege, count: int, engines: Sequence[str]) -> Iterator[Kill]:
    struck_last = dict.fromkeys(engines, 0)
    for number, (engine, victim) in enumerate(plan(count, engines, under.chance)):
        struck = None
        for _ in range(6):
            if struck := under.strike(engine, victim):
                break
        if struck is None:
            struck = Kill(
                engine=engine, victim=victim, phase="over", outcome="missed", wrong=("missed",)
            )
        # an engine's backup passes after every fourth kill, and after whatever looked wrong
        struck_last[engine] += 1
        last = struck_last[engine] % _UNDISTURBED == 0
        try:
            if (last or struck.wrong) and under.passes(engine) is None:
                told = under.place.result(application_subject(engine))
                struck = _also(struck, f"the next test: {told['verdict']} {told['code']}")
        except (BackupGuardError, AssertionError) as error:
            struck = _also(struck, f"the next test: {error}")
        print(f"{number + 1}/{count} {struck}", file=sys.stderr, flush=True)
        yield struck


def _also(one: Kill, more: str) -> Kill:
    return Kill(
        engine=one.engine, victim=one.victim, phase=one.phase, outcome=one.outcome,
        wrong=(*one.wrong, more),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
