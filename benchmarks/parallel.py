"""parallel: two restore tests at once, against the same two restores one after the other.

Two applications, each with a PostgreSQL dump in one restic repository. `ours`: a daemon that may run
two tests is asked for both, and its runners do them at once; counted is from the first one's begin
to the later one's last counted phase (select to open; both verify in full, which is printed).
`peer`: restic restore, createdb and pg_restore into a running server with Debian's defaults, of one
dump and then of the other, with `--single-transaction` or with `-j2`, whichever was faster at first.
The ratio is how much more is restored in the same time.

While ours runs, the memory of the daemon and of its runners is read (resident, each process by
itself, and together with what they share counted once); database servers and other programs are not
counted. The goal is for the daemon.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import psutil
from harness import BIN, finish, run, timed
from restore_postgresql import binaries, default_server, hospital, make_dump
from restores import COUNTED, back_up, configuration, seconds_of

from backupguard.daemon import client
from backupguard.errors import BackupGuardError
from backupguard.settings import Settings, load
from backupguard.store import open_store

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
APPLICATIONS = ("hospital", "laboratory")
GOAL = 1.15
MEMORY_GOAL_MIB = 150
PORT = 19790
WITHIN_S = 3600.0
MORE = f"""
[daemon]
parallel-restore-tests = 2
[http]
listen = "127.0.0.1:{PORT}"
"""


class Memory:
    """The highest memory of a daemon and of its runners while the block runs, in MiB."""

    def __init__(self, daemon: int) -> None:
        self.daemon = self.runner = self.together = 0.0
        self.runners = 0  # at once
        self._process = psutil.Process(daemon)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            with suppress(psutil.Error):
                self._look()

    def _look(self) -> None:
        runners = [
            one for one in self._process.children() if "backupguard.daemon.runner" in one.cmdline()
        ]
        found = [one.memory_full_info() for one in (self._process, *runners)]
        self.daemon = max(self.daemon, found[0].rss / 2**20)
        self.runner = max([self.runner, *(one.rss / 2**20 for one in found[1:])])
        self.together = max(self.together, sum(one.pss for one in found) / 2**20)
        self.runners = max(self.runners, len(runners))

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


class Tested:
    """A site whose daemon runs two restore tests at once."""

    def __init__(self, settings: Settings, daemon: int) -> None:
        self.settings, self.daemon = settings, daemon
        self.memory: list[Memory] = []

    def wait(self, runs: list[str]) -> list[datetime]:
        """Wait until these runs have passed; return when each began."""
        until = time.monotonic() + WITHIN_S
        while time.monotonic() < until:
            found = [client.run(self.settings, one) for one in runs]
            if all(one["ended_at"] for one in found):
                if any(one["verdict"] != "passed" for one in found):
                    raise SystemExit(f"not passed: {found}")
                return [datetime.fromisoformat(str(one["started_at"])) for one in found]
            time.sleep(0.2)
        raise SystemExit(f"{runs} did not end")

    def quiet(self) -> None:
        """Have the inventory done and nothing else started, and wait until nothing runs."""
        self.wait([client.enqueue(self.settings, "inventory", "site")])
        client.pause(self.settings, until=datetime.now(UTC) + timedelta(days=1), reason="benchmark")
        while client.about(self.settings)["running"]:
            time.sleep(0.5)

    def both(self) -> float:
        """Test both applications at once; return the seconds that count."""
        before = time.perf_counter()
        with Memory(self.daemon) as memory:
            began = self.wait(
                [
                    client.enqueue(self.settings, "restore-test", f"application/{name}")
                    for name in APPLICATIONS
                ]
            )
        whole = time.perf_counter() - before
        self.memory.append(memory)
        if memory.runners != len(APPLICATIONS):
            raise SystemExit("the tests did not run at once")
        store = open_store(self.settings.state_directory)
        try:
            phases = [seconds_of(store, name) for name in APPLICATIONS]
        finally:
            store.close()
        for name, seconds in zip(APPLICATIONS, phases, strict=True):
            print(f"    {name} " + " ".join(f"{k} {v:.2f}" for k, v in seconds.items()))
        print(f"    asked to ended {whole:.2f} s", flush=True)
        return max(
            (start - min(began)).total_seconds() + sum(seconds[phase] for phase in COUNTED)
            for start, seconds in zip(began, phases, strict=True)
        )


@contextmanager
def daemon(directory: Path, dumps: dict[str, Path]) -> Iterator[Tested]:
    """Run a daemon that watches both applications."""
    path = configuration(directory, dumps, "postgresql", MORE)
    settings = load(path)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([BIN / "backupguard", "--config", path, "run"], stderr=log)
    try:
        tested = Tested(settings, process.pid)
        for _ in range(120):
            with suppress(BackupGuardError):
                client.about(settings)
                break
            time.sleep(0.5)
        tested.quiet()
        yield tested
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def main() -> int:
    """Measure both ways in turn."""
    with tempfile.TemporaryDirectory(prefix="bg-") as name:
        directory = Path(name)
        dumps = {name: directory / f"{name}.dump" for name in APPLICATIONS}
        size = make_dump(dumps["hospital"], hospital)
        shutil.copyfile(dumps["hospital"], dumps["laboratory"])
        restic = back_up(directory, *dumps.values())
        print(f"  two databases of {size / 2**20:.0f} MiB")
        (directory / "server").mkdir()
        with default_server(directory / "server") as reach, daemon(directory, dumps) as tested:

            def one(application: str, how: str) -> None:
                target, dump = directory / "plain", dumps[application]
                run(["restic", "restore", "-q", "--no-lock", "latest", "--path", dump,
                     "--target", target], restic)  # fmt: skip
                run([binaries() / "createdb", application], reach)
                run([binaries() / "pg_restore", how, "-d", application, f"{target}{dump}"], reach)
                shutil.rmtree(target)

            def peer(how: str) -> float:
                seconds = sum(timed(partial(one, each, how)) for each in APPLICATIONS)
                for application in APPLICATIONS:
                    run([binaries() / "dropdb", application], reach)
                return seconds

            first = {how: peer(how) for how in ("--single-transaction", "-j2")}
            how = min(first, key=lambda each: first[each])
            print("  peer: " + " ".join(f"{k} {v:.2f} s" for k, v in first.items()), flush=True)
            tested.both()
            ratios = []
            for _ in range(ROUNDS):
                theirs, ours = peer(how), tested.both()
                ratios.append(theirs / ours)
                shown = f"ratio {ratios[-1]:.2f}"
                print(f"  peer {theirs:.2f} s   ours {ours:.2f} s   {shown}", flush=True)
            most = {
                part: max(getattr(one, part) for one in tested.memory)
                for part in ("daemon", "runner", "together")
            }
    print("  memory, MiB: " + ", ".join(f"{part} {mib:.0f}" for part, mib in most.items()))
    status = finish("parallel-memory", most["daemon"], MEMORY_GOAL_MIB, unit="MiB")
    return finish("parallel", statistics.median(ratios), GOAL, at_least=True) | status


if __name__ == "__main__":
    sys.exit(main())
