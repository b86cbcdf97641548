"""A Debian of its own with systemd as PID 1, in systemd-nspawn, on a throw-away copy of a base.

Runs as root. The base is a directory that `script/test-system` made; nothing is written into it.
There is no network inside but the machine's own loopback, unless the host's is asked for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from tempfile import mkdtemp

ENVIRONMENT = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG=C.UTF-8",
    "HOME=/root",
    "DEBIAN_FRONTEND=noninteractive",
    "SYSTEMD_PAGER=cat",
)
BOOT_S = 90


class Machine:
    """A booted machine; `close()` ends it and takes its disk away."""

    def __init__(self, base: Path, *, network: bool = False) -> None:
        self.network = network
        self.work = Path(mkdtemp(prefix="bg-system-", dir="/var/tmp"))
        self.root = self.work / "root"
        for name in ("root", "upper", "overlay"):
            (self.work / name).mkdir()
        layers = f"lowerdir={base},upperdir={self.work}/upper,workdir={self.work}/overlay"
        _host("mount", "-t", "overlay", "-o", layers, "overlay", str(self.root))
        self.container: subprocess.Popen[bytes] | None = None
        self.init = 0
        self._groups = [place / self.work.name for place in _hierarchies()]
        for group in self._groups:
            group.mkdir()

    def boot(self) -> float:
        """Boot, wait until systemd says it is up, and return how long that took."""
        began = time.monotonic()
        options = ["--register=no", "--keep-unit", "--console=pipe", "--notify-ready=yes", "-b"]
        if not self.network:
            options.insert(0, "--private-network")
        with (self.work / "console").open("wb") as console:
            self.container = subprocess.Popen(
                ["systemd-nspawn", "-q", "-D", self.root, "-M", f"bg{os.getpid()}", *options],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                # version 2, whatever the host has: systemd 257 starts with no other
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                preexec_fn=self._alone,  # noqa: PLW1509 - one thread, and it writes two numbers
            )
        children = Path(f"/proc/{self.container.pid}/task/{self.container.pid}/children")
        state = ""
        while time.monotonic() - began < BOOT_S:
            assert self.container.poll() is None, self.console()
            found = children.read_text().split()
            if found:
                self.init = int(found[0])
                state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
                if state in {"running", "degraded"}:
                    return time.monotonic() - began
            time.sleep(0.3)
        raise AssertionError(f"systemd is {state!r} after {BOOT_S} s:\n{self.console()}")

    def _alone(self) -> None:
        """Go into a control group of this machine's own: with another one's, both would see both."""
        for group in self._groups:
            (group / "cgroup.procs").write_text("0")

    def console(self) -> str:
        """Return what the machine wrote on its console."""
        return (self.work / "console").read_text(errors="replace")

    def run(
        self, *argv: str, check: bool = True, text: str | None = None, timeout: float = 180
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root; with `check`, a failure tells what it said."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.init), "-a", "env", "-i", *ENVIRONMENT, *argv],
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(argv)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def shell(self, script: str, *, check: bool = True, timeout: float = 180) -> str:
        """Run a shell script inside and return what it printed."""
        return self.run("sh", "-euc", script, check=check, timeout=timeout).stdout

    def write(self, path: str, content: str) -> None:
        """Write a file inside."""
        self.run("sh", "-euc", f"mkdir -p $(dirname {path}); cat >{path}", text=content)

    def bring(self, file: Path) -> str:
        """Copy a file of the host inside and return where it lies there."""
        place = f"/root/{file.name}"
        with file.open("rb") as content:
            subprocess.run(
                ["nsenter", "-t", str(self.init), "-a", "sh", "-c", f"cat >{place}"],
                stdin=content,
                check=True,
            )
        return place

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "-P", name, unit).stdout.strip()

    def journal(self, unit: str = "backupguard.service") -> str:
        """Return what a unit wrote, and what systemd says of it."""
        self.run("journalctl", "--sync", check=False)
        return self.run("journalctl", "-u", unit, "-o", "cat", "--no-pager").stdout

    def wait(self, what: str, condition: str, seconds: float = 60) -> float:
        """Wait until a shell condition holds inside; return how long it took."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if self.run("sh", "-c", condition, check=False).returncode == 0:
                return time.monotonic() - began
            time.sleep(0.5)
        raise AssertionError(f"not within {seconds} s: {what}\n{self.journal()[-4000:]}")

    def close(self) -> None:
        """Power off and leave nothing on the host."""
        if self.container is not None and self.container.poll() is None:
            self.run("systemctl", "poweroff", check=False)
            try:
                self.container.wait(30)
            except subprocess.TimeoutExpired:
                self.container.terminate()  # nspawn powers the machine off
                self.container.wait(30)
        _host("umount", str(self.root))
        shutil.rmtree(self.work)
        for group in self._groups:
            for found, _, _ in os.walk(group, topdown=False):
                Path(found).rmdir()


def _hierarchies() -> list[Path]:
    """Return where this process is in the hierarchies that systemd uses: version 2, and its own."""
    found = []
    for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        for mount in {"": ("unified", ""), "name=systemd": ("systemd",)}.get(controllers, ()):
            place = Path("/sys/fs/cgroup") / mount
            if (place / "cgroup.procs").exists():
                found.append(place / path.lstrip("/"))
                break
    return found


def _host(*argv: str) -> None:
    subprocess.run(argv, check=True)
