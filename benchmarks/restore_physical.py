"""restore-physical: a restore test of a pgBackRest backup, against what an administrator would type.

`bare`: `pgbackrest restore --type=immediate` from the same repository and the start of a server on it,
until it answers. `ours`: a restore test through `perform`, of which the phases select to open count:
the log is fetched beforehand, since the sandbox has no network. In turn, the source switched off.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness import finish, run
from restore_postgresql import COUNTED, binaries
from restores import Site

from backupguard.contracts import Store
from backupguard.settings import Settings, load
from backupguard.store import open_store

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SCALE = int(os.environ.get("BENCH_SCALE", "60"))
GOAL = 1.15

CONFIGURATION = """\
[global]
repo1-path={place}/repository
log-path={place}/log
lock-path={place}/lock
spool-path={place}/spool
start-fast=y
process-max={jobs}
[main]
pg1-path={place}/source
pg1-socket-path={place}/s
pg1-user=postgres
"""
SETTINGS = """\
[site]
name = "Banc"
timezone = "Europe/Paris"
language = "fr"
[store]
directory = "{place}/state"
[scratch]
clear-text-accepted-by = "banc d'essai"
[repositories.local]
type = "pgbackrest"
path = "{place}/repository"
lock-path = "{place}/lock"
[applications.hospital]
name = "Hospital"
criticality = "C1"
[applications.hospital.backups.nightly]
repository = "local"
select.name = "main"
every = "24h"
[applications.hospital.restore-test]
engine = "postgresql-physical"
"""


def pgbackrest(place: Path, *arguments: str) -> None:
    """Run pgBackRest on the one stanza."""
    run(["pgbackrest", f"--config={place}/pgbackrest.conf", "--stanza=main", *arguments])


def server(data: Path, *arguments: str) -> None:
    """Start or stop a server; what it says goes to a file, for a pipe would be kept open."""
    with (data.parent / "server.log").open("ab") as log:
        argv = [str(binaries() / "pg_ctl"), "-D", str(data), "-w", "-s", *arguments]
        subprocess.run(argv, check=True, stdout=log, stderr=log)


def make_backup(place: Path) -> None:
    """Make the database and one full backup of it; stop the source and remove it."""
    for name in ("repository", "log", "lock", "spool", "s"):
        (place / name).mkdir()
    text = CONFIGURATION.format(place=place, jobs=os.cpu_count() or 1)
    (place / "pgbackrest.conf").write_text(text, encoding="utf-8")
    data = place / "source"
    run([binaries() / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-k", "-N"])
    with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write(
            f"listen_addresses = ''\nunix_socket_directories = '{place}/s'\nfsync = off\n"
            "archive_mode = on\nmax_wal_size = 8GB\narchive_command = "
            f"'pgbackrest --config={place}/pgbackrest.conf --stanza=main archive-push %p'\n"
        )
    pgbackrest(place, "--no-online", "stanza-create")
    server(data, "start")
    reach = {"PGHOST": str(place / "s"), "PGUSER": "postgres"}
    run([binaries() / "createdb", "hospital"], reach)
    run([binaries() / "pgbench", "-i", "-q", "-s", str(SCALE), "hospital"], reach)
    pgbackrest(place, "--type=full", "backup")
    server(data, "-m", "immediate", "stop")
    shutil.rmtree(data)


def bare(place: Path) -> float:
    """Return the seconds until a server answers on what pgBackRest restored."""
    target = place / "bare"
    target.mkdir(mode=0o700)
    start = time.perf_counter()
    pgbackrest(
        place, f"--pg1-path={target}", "--type=immediate", "--target-action=promote", "restore"
    )
    server(target, "-o", "-c archive_mode=off", "start")
    reach = {"PGHOST": str(place / "s"), "PGUSER": "postgres"}
    run(["psql", "-At", "-d", "hospital", "-c", "select count(*) from pgbench_branches"], reach)
    seconds = time.perf_counter() - start
    server(target, "-m", "immediate", "stop")
    shutil.rmtree(target)
    return seconds


def measure(settings: Settings, store: Store, place: Path) -> dict[str, float]:
    """Measure both ways in turn; return the medians in seconds."""
    tested = Site(settings, store)

    def ours() -> float:
        seconds = tested.test()
        return sum(seconds[phase] for phase in COUNTED)

    ways: dict[str, Callable[[], float]] = {"bare": lambda: bare(place), "ours": ours}
    figures: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()  # warm-up
    for _ in range(ROUNDS):
        for name, way in ways.items():
            figures[name].append(way())
        print("   ", {name: round(found[-1], 2) for name, found in figures.items()}, flush=True)
    return {name: statistics.median(found) for name, found in figures.items()}


def main() -> int:
    """Measure, print, and say whether the goal is reached."""
    with tempfile.TemporaryDirectory(prefix="bg-") as name:
        place = Path(name)
        make_backup(place)
        path = place / "backupguard.toml"
        path.write_text(SETTINGS.format(place=place), encoding="utf-8")
        settings = load(path)
        store = open_store(settings.state_directory)
        median = measure(settings, store, place)
        store.close()
    for way, seconds in median.items():
        print(f"  {way:12} median {seconds:.2f} s")
    return finish("restore-physical", median["ours"] / median["bare"], GOAL)


if __name__ == "__main__":
    sys.exit(main())
