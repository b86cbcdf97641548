"""Second part: the service works, is reloaded, starved, killed and stopped."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.machine import Machine
from tests.system.site import (
    ANSWERING,
    RUNNER,
    UNIT,
    Asked,
    main_pid,
    nothing_left,
    postgresql,
    ready,
    recorded,
    restored,
    stored,
)

IDLE_S = int(os.environ.get("SYSTEM_IDLE") or 0)
MORE = "/etc/backupguard/conf.d/more.toml"
#: A check that takes as long as a case needs to do something meanwhile.
SLOW = postgresql("lent", "select count(*) from stays, pg_sleep(20)")
#: A check that never has enough memory.
GREEDY = postgresql(
    "glouton",
    "select sum(length(one)) from (select array_agg(repeat(md5(id::text), 30000)) as all_of_them"
    " from generate_series(1, 4000) as id) as eaten, unnest(all_of_them) as one",
)
#: Adds up what every process of the unit holds, kB.
PSS = f"""\
total=0
for pid in $(cat /sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs 2>/dev/null \
  || cat /sys/fs/cgroup/systemd/system.slice/{UNIT}/cgroup.procs); do
  total=$((total + $(awk '/^Pss:/ {{print $2}}' /proc/$pid/smaps_rollup)))
done
echo $total
"""

Figure = Callable[[str, object], None]


def told(machine: Machine, event: str) -> int:
    """Return how often the daemon said something."""
    return machine.journal().count(event)


def reload(machine: Machine, event: str) -> None:
    """Have the daemon read its configuration again and wait until it says how it went."""
    before = told(machine, event)
    machine.run("systemctl", "reload", UNIT)
    machine.wait(event, f"[ $(journalctl -u {UNIT} -o cat | grep -c {event}) -gt {before} ]")


def test_the_idle_daemon_is_small(machine: Machine, figure: Figure) -> None:
    size = int(machine.shell(PSS)) / 1024
    figure("PSS of the unit after a restore test, MiB", f"{size:.0f}")
    assert size <= 90


def test_idle_for_ten_minutes(machine: Machine, figure: Figure) -> None:
    place = f"/sys/fs/cgroup/system.slice/{UNIT}"

    def used() -> int:
        return int(machine.shell(f"awk '/^usage_usec/ {{print $2}}' {place}/cpu.stat"))

    time.sleep(60)  # what a start leaves to do is not idle
    began, cpu, largest = time.monotonic(), used(), 0.0
    while time.monotonic() - began < IDLE_S:
        time.sleep(min(30, IDLE_S))
        largest = max(largest, int(machine.shell(PSS)) / 1024)
    share = (used() - cpu) / 1e4 / (time.monotonic() - began)
    current = machine.shell(f"cat {place}/memory.current 2>/dev/null || true").strip()
    figure(f"idle for {IDLE_S} s, % CPU", f"{share:.3f}")
    figure(f"idle for {IDLE_S} s, PSS at most, MiB", f"{largest:.0f}")
    if current:
        figure("idle, memory.current, MiB", f"{int(current) / 2**20:.0f}")
    assert share <= 0.1
    assert largest <= 90


def test_reload_refuses_what_is_wrong(machine: Machine) -> None:
    pid = main_pid(machine)
    machine.write(MORE, '[applications.labo]\nrpo = "1h"\n')
    reload(machine, "configuration.rejected")
    machine.write(MORE, SLOW)
    reload(machine, "configuration.loaded")
    assert main_pid(machine) == pid
    assert machine.show(UNIT, "ActiveState") == "active"


def test_reload_keeps_a_running_test(machine: Machine) -> None:
    asked = Asked(machine, "lent")
    pid = main_pid(machine)
    machine.write(MORE, SLOW + "\n[daemon]\nparallel-probes = 2\n")
    reload(machine, "configuration.loaded")
    assert machine.run("sh", "-c", ANSWERING, check=False).returncode == 0, "it still runs"
    assert asked.end()["verdict"] == "passed"
    assert main_pid(machine) == pid
    nothing_left(machine)


@pytest.mark.parametrize(
    "whom",
    [
        pytest.param(f"pgrep -f -o {RUNNER}", id="runner"),
        pytest.param("pgrep -f -o backupguard.daemon.attendant", id="attendant"),
        pytest.param("pgrep -x -o postgres", id="restored-server"),
        pytest.param("pgrep -x -o bwrap", id="sandbox"),
    ],
)
def test_a_killed_child_is_no_verdict_and_no_end(machine: Machine, whom: str) -> None:
    asked, pid = Asked(machine, "lent"), main_pid(machine)
    machine.shell(f"kill -9 $({whom})")
    ended = asked.end()
    assert ended["state"] != "running", ended
    assert ended["verdict"] != "passed"
    assert ended["verdict"] != "failed", "the backup is not to blame"
    assert main_pid(machine) == pid
    nothing_left(machine)
    restored(machine, "dpi")


def test_a_restored_server_that_eats_memory_is_stopped(machine: Machine, figure: Figure) -> None:
    machine.write(MORE, GREEDY + '\n[scratch]\nmax-memory = "500MB"\n')
    reload(machine, "configuration.loaded")
    pid = main_pid(machine)
    began = time.monotonic()
    # The watcher ends it, or its question is refused more than the limit: whichever is first.
    restored(machine, "glouton", ("no_memory", "check_unanswered"))
    figure("greedy restored server stopped after, s", f"{time.monotonic() - began:.1f}")
    assert main_pid(machine) == pid
    nothing_left(machine)
    restored(machine, "dpi")
    machine.write(MORE, SLOW)
    reload(machine, "configuration.loaded")


def test_killed_it_comes_back_alone(machine: Machine) -> None:
    pid, before = main_pid(machine), recorded(machine)
    asked = Asked(machine, "lent")
    run = stored(machine, "select id from runs where state = 'running' and task = 'restore-test'")
    machine.run("kill", "-9", str(pid))
    nothing_left(machine)  # its children went with it, at once
    # not by NRestarts, which newer systemd puts back to 0 once the service is up
    again = f"now=$(systemctl show -P MainPID {UNIT}) && [ $now != 0 ] && [ $now != {pid} ]"
    machine.wait("it was started again", again, 90)
    ready(machine)
    asked.end()
    assert main_pid(machine) not in {0, pid}
    assert "oom" not in machine.show(UNIT, "Result")
    # by its runner, whose daemon was gone, or, where that was killed too, by the next daemon
    state = stored(machine, f"select state from runs where id = '{run}'")
    assert state in {"cancelled", "interrupted"}
    assert recorded(machine) > before
    restored(machine, "dpi")


def test_a_stuck_daemon_is_ended_by_the_watchdog(machine: Machine, figure: Figure) -> None:
    # The unit's own two minutes are long for a test: the drop-in changes nothing else.
    place = f"/run/systemd/system/{UNIT}.d/watchdog.conf"
    machine.write(place, "[Service]\nWatchdogSec=20\nRestartSec=2\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", UNIT)
    ready(machine)
    pid = main_pid(machine)
    machine.run("kill", "-STOP", str(pid))
    took = machine.wait("it was replaced", f"[ $(systemctl show -P MainPID {UNIT}) != {pid} ]", 110)
    figure("stuck daemon replaced after (watchdog 20 s), s", f"{took:.0f}")
    ready(machine)
    assert "watchdog" in machine.journal().lower()
    machine.run("rm", "-r", str(Path(place).parent))
    machine.run("systemctl", "daemon-reload")
    restored(machine, "dpi")


def test_a_stop_ends_a_running_test_cleanly(machine: Machine, figure: Figure) -> None:
    asked = Asked(machine, "lent")
    began = time.monotonic()
    machine.run("systemctl", "stop", UNIT)
    figure("stopped while a test ran, s", f"{time.monotonic() - began:.1f}")
    assert machine.show(UNIT, "Result") == "success"
    nothing_left(machine)
    asked.end()
    machine.run("systemctl", "start", UNIT, timeout=120)
    ready(machine)
    told_of = json.loads(machine.run("backupguard", "status", "--json", check=False).stdout)
    assert told_of["findings"]
