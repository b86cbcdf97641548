"""Limits that bite: the same service in a virtual machine, whose own kernel counts its memory.

A container shares the host's control groups: where the host has given the memory controller to
version 1, no unit in a container is limited. Emulated without the processor's help, so that it runs
anywhere.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.machine import Machine
from tests.system.site import (
    BACKUPS,
    CONFIGURATION,
    DROP_INS,
    RIGHTS,
    RUNNERS,
    UNIT,
    UNITS,
    installed,
    site,
)
from tests.system.working import GREEDY

PACKAGE = Path(os.environ.get("SYSTEM_PACKAGE", ""))
KERNEL = Path(os.environ.get("SYSTEM_KERNEL", ""))
#: Less than the restored server wants, and less than the sandbox would give it.
LIMIT_MB = 800
MEMORY_MB = 3000
TIMEOUT_S = 1200
Figure = Callable[[str, object], None]

_UNIT = """\
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh /root/virtual.sh
ExecStopPost=/bin/systemctl poweroff --force --force
"""
#: Tells on the serial line what holds, what two restore tests say, and what the kernel did.
_SCRIPT = f"""\
say() {{ echo "VIRTUAL $*" >/dev/ttyS0; }}
groups=/sys/fs/cgroup/system.slice
say controllers "$(cat /sys/fs/cgroup/cgroup.controllers)"
systemctl start {UNIT} || say journal "$(journalctl -u {UNIT} -o cat | tail -n 20)"
say main "$(systemctl show -P MainPID {UNIT})"
say pids.max "$(cat $groups/{UNIT}/pids.max)"
(while sleep 1; do
  find $groups -path '*backupguard-runner@*' -name memory.max -exec cat {{}} + >>/root/limits
  find $groups -path '*backupguard-runner@*/backupguard-sandbox-*' -name memory.max \\
    -exec cat {{}} + >>/root/own
done 2>/dev/null) &
for name in dpi glouton; do
  backupguard restore-test $name --json >/root/$name.json 2>/root/$name.err
  say $name "$(grep -oE '"(verdict|code)": [^,}}]*' /root/$name.json | head -n 2 | tr '\\n' ' ')"
done
say limits "$(sort -u /root/limits | tr '\\n' ' ')"
say own "$(sort -u /root/own | tr '\\n' ' ')"
say oom_kill "$(journalctl -k -o cat | grep -c 'Memory cgroup out of memory')"
say by "$(journalctl -k -o cat | grep -o 'oom_memcg=[^,]*' | sort -u | tr '\\n' ' ')"
say main-after "$(systemctl show -P MainPID {UNIT})"
say restarts "$(systemctl show -P NRestarts {UNIT})"
say left "$(pgrep -x postgres | tr '\\n' ' ')"
say end
"""


@pytest.fixture
def image() -> Iterator[Path]:
    """Return a disk with the service installed and configured, and a restored server that is greedy."""
    machine = Machine(Path(os.environ["SYSTEM_BASE"]))
    try:
        machine.boot()
        installed(machine, PACKAGE)
        machine.shell(BACKUPS)
        machine.shell(RIGHTS)
        machine.write(CONFIGURATION, site(by_hand=True) + GREEDY)
        limit = f"[Service]\nMemoryMax={LIMIT_MB}M\nMemorySwapMax=0\n"
        machine.write(f"{UNITS}/{RUNNERS}.d/small.conf", limit)
        machine.shell(f"cp -r {DROP_INS}/{UNIT}.d {UNITS}/")
        machine.write("/etc/systemd/system/virtual.service", _UNIT)
        machine.write("/root/virtual.sh", _SCRIPT)
        machine.shell(f"systemctl disable -q postgresql {UNIT}")
        wants = "/etc/systemd/system/graphical.target.wants"
        machine.shell(f"mkdir -p {wants}; ln -s ../virtual.service {wants}/virtual.service; sync")
        made = machine.work / "disk.img"
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", machine.root, made, "6G"], check=True)
        yield made
    finally:
        machine.close()


def test_limits_of_the_unit_bite_and_the_daemon_lives(image: Path, figure: Figure) -> None:
    argv = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"]
    argv += ["-m", str(MEMORY_MB), "-nographic", "-no-reboot", "-nic", "none"]
    argv += ["-kernel", str(KERNEL / "vmlinuz"), "-initrd", str(KERNEL / "initrd")]
    argv += ["-append", "rw root=/dev/vda console=ttyS0 quiet systemd.unit=graphical.target"]
    argv += ["-drive", f"file={image},format=raw,if=virtio,cache=unsafe"]
    run = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    told = dict(re.findall(r"VIRTUAL (\S+) ?(.*?)\r?$", run.stdout, flags=re.MULTILINE))
    assert "end" in told, run.stdout[-6000:] + run.stderr
    assert {"memory", "pids"} <= set(told["controllers"].split())
    assert str(LIMIT_MB << 20) in told["limits"].split()
    # a sandbox has a group of its own in its run's unit, and bounds it
    assert any(bound.isdigit() for bound in told["own"].split()), told
    assert told["pids.max"] != "max"
    assert '"passed"' in told["dpi"], told
    assert '"could_not_verify"' in told["glouton"], told
    figure("kernel's own limit: verdict on a greedy restored server", told["glouton"])
    figure("kernel's own limit: processes it ended", told["oom_kill"])
    figure("kernel's own limit: group", told["by"])
    assert int(told["oom_kill"]) >= 1
    assert told["main-after"] == told["main"] != "0"
    assert told["restarts"] == "0"
    assert told["left"] == ""
