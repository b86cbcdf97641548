"""Inventory: a refresh of 20 local restic repositories of 500 snapshots against 20 bare calls.

The bare calls are `restic snapshots --json`, as many at once as a refresh opens repositories. Ours is
the whole run as the daemon's runner performs it (from the waiting run to its sealed end), without the
start of an interpreter, which `backupguard inventory` pays in addition; that whole command is shown
beside it. The first refresh stores 10,000 points; those that follow find nothing new, and it is
asserted that they append no fact and no point.
"""

from __future__ import annotations

import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import structlog
from harness import BIN, alternate, finish, run, timed
from many_snapshots import multiply
from small_site import PASSWORD, make_site

from backupguard.daemon.tasks import TASKS
from backupguard.model import RunRequest
from backupguard.processes import Cancellation
from backupguard.runs import ConfiguredRepositories, perform
from backupguard.settings import load
from backupguard.store import open_store

REPOSITORIES, SNAPSHOTS, ROUNDS = 20, 500, 5


def snapshots_of(place: Path, environment: dict[str, str]) -> bytes:
    # Without its cache restic reads a local repository fastest, and so do we.
    command = ["restic", "snapshots", "--json", "--no-lock", "--no-cache", "--repo", place]
    return run(command, environment)


def main() -> int:
    """Make the repositories, measure in turn, make sure that nothing new leaves nothing."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory(prefix="bg-") as name:
        directory = Path(name)
        configuration = make_site(directory, repositories=REPOSITORIES, snapshots=1)
        environment = {"RESTIC_PASSWORD_FILE": str(directory / "password")}
        places = [directory / f"repository-{number}" for number in range(REPOSITORIES)]
        for place in places:
            (first,) = json.loads(snapshots_of(place, environment))
            multiply(place, PASSWORD, first, SNAPSHOTS - 1)
        settings = load(configuration)
        store = open_store(settings.state_directory)
        together = min(
            ConfiguredRepositories(settings=settings, context=None).parallelism(),  # type: ignore[arg-type]
            settings.daemon.parallel_per_host,
        )

        def refresh() -> None:
            request = RunRequest(
                task="inventory",
                subject="site",
                due_at=datetime.now(UTC),
                exclusive="inventory",
                resource="probe",
                requested_by="benchmark",
            )
            verdict = perform(store.enqueue(request), settings, store, Cancellation(), TASKS)
            if verdict.value != "passed":
                raise SystemExit(f"the refresh ended {verdict.value}")

        def standing() -> tuple[int, int]:
            return store.head()[0], sum(one.standing for one in store.summaries())

        def bare() -> None:
            with ThreadPoolExecutor(together) as pool:
                list(pool.map(lambda place: snapshots_of(place, environment), places))

        print(f"  first refresh               {timed(refresh):15.3f} s")
        before = standing()
        if before[1] != REPOSITORIES * SNAPSHOTS:
            raise SystemExit(f"{before[1]} points stand")
        seconds = alternate(ROUNDS, bare=bare, refresh=refresh)
        if standing() != before:
            raise SystemExit(f"with nothing new, {before} became {standing()}")
        command = timed(lambda: run([BIN / "backupguard", "--config", configuration, "inventory"]))
        store.close()
    print(f"  {together} at once; whole command     ratio {command / seconds['bare']:.2f}")
    return finish("inventory", seconds["refresh"] / seconds["bare"], 1.15)


if __name__ == "__main__":
    sys.exit(main())
