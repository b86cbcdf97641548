"""What a restore test costs in memory of ours, whatever the size of what is restored."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from backupguard.daemon import client
from tests.integration.daemon.living import Site, quiet, wait_for
from tests.integration.restore_tests.hospital import Hospital

MIB = 1 << 20
#: What a runner may hold more for a dump that is twenty times as long.
GROWTH_MIB = 6
DAEMON_MIB = 150
#: A row is a little more than a thousand bytes.
ROWS_PER_MB = 1000


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    made.write(quiet())
    yield made
    made.end()


def high_water(process: int) -> int:
    """Return the most memory that a process held resident until now, bytes; 0 once it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0


def performed(site: Site, task: str, subject: str) -> int:
    """Have the daemon perform a task that passes; return the most memory its runner held."""
    run = client.enqueue(site.settings, task, subject)

    def runner() -> int | None:
        found = [event["pid"] for event in site.events("runner.started") if event["run"] == run]
        return int(str(found[0])) if found else None

    process = int(str(wait_for(runner, 60)))
    highest = 0
    until = time.monotonic() + 180
    while (now := high_water(process)) and time.monotonic() < until:
        highest = max(highest, now)
        time.sleep(0.02)
    wait_for(lambda: client.run(site.settings, run)["state"] == "finished")
    ended = client.run(site.settings, run)
    assert ended["verdict"] == "passed", ended
    return highest


def dumped(hospital: Hospital, site: Site, form: str, megabytes: int) -> None:
    """Leave one dump of one wide table, of so many megabytes and two days old."""
    hospital.sql(
        "wide",
        "truncate notes",
        "insert into notes select i, repeat(md5(i::text), 32)"
        f" from generate_series(1, {megabytes * ROWS_PER_MB}) i",
    )
    path = site.dumps / "dpi-20260303.dump"
    hospital.cluster.run("pg_dump", f"-F{form}", "-Z0", "-f", str(path), "wide")
    assert path.stat().st_size > megabytes * 1_000_000
    written = time.time() - 2 * 86_400
    os.utime(path, (written, written))


@pytest.mark.parametrize(
    "form", ["c", pytest.param("p", marks=pytest.mark.slow)], ids=["custom", "plain"]
)
def test_a_runner_does_not_grow_with_the_dump(hospital: Hospital, site: Site, form: str) -> None:
    hospital.cluster.create("wide")
    try:
        hospital.sql("wide", "create table notes (id int primary key, note text not null)")
        process = site.start()
        peaks = []
        for megabytes in (5, 100):
            dumped(hospital, site, form, megabytes)
            performed(site, "inventory", "site")
            peaks.append(performed(site, "restore-test", "application/dpi"))
    finally:
        hospital.cluster.run("dropdb", "wide")
    assert peaks[1] - peaks[0] < GROWTH_MIB * MIB, [peak // MIB for peak in peaks]
    assert 0 < high_water(process.pid) < DAEMON_MIB * MIB
