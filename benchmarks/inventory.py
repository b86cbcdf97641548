"""Inventory: a refresh of 8 local restic repositories against 8 bare `restic snapshots` calls.

Both with as many calls at once as there are processors. Ours is the whole run as the daemon's runner
performs it (from the waiting run to its sealed closing fact), without the start of an interpreter,
which `backupguard inventory` pays in addition; that whole command is shown beside it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from harness import BIN, alternate, finish, run
from small_site import make_site

from backupguard.daemon.tasks import TASKS
from backupguard.model import RunRequest
from backupguard.processes import Cancellation
from backupguard.runs import perform
from backupguard.settings import load
from backupguard.store import open_store

REPOSITORIES = 8


def main() -> int:
    """Measure; the first refresh, which stores the points, is the warm-up."""
    with tempfile.TemporaryDirectory(prefix="bg-") as name:
        directory = Path(name)
        configuration = make_site(directory, repositories=REPOSITORIES)
        settings = load(configuration)
        store = open_store(settings.state_directory)

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

        def bare() -> None:
            environment = {"RESTIC_PASSWORD_FILE": str(directory / "password")}
            command = ["restic", "snapshots", "--json", "--no-lock", "--repo"]
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                places = [directory / f"repository-{n}" for n in range(REPOSITORIES)]
                list(pool.map(lambda place: run([*command, place], environment), places))

        seconds = alternate(
            9,
            bare=bare,
            refresh=refresh,
            command=lambda: run([BIN / "backupguard", "--config", configuration, "inventory"]),
        )
        store.close()
    print(f"  whole command               ratio {seconds['command'] / seconds['bare']:.2f}")
    return finish("inventory", seconds["refresh"] / seconds["bare"], 1.15)


if __name__ == "__main__":
    sys.exit(main())
