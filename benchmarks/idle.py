"""Idle: the memory (RSS) of a daemon that watches eight applications, a minute after it is ready."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil
from harness import BIN, finish
from small_site import make_site

PORT = 19789
SETTLE_S = 60


def wait_until_ready(deadline_s: int = 60) -> None:
    """Wait for `/-/ready`."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/-/ready", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    raise SystemExit("the daemon is not ready")


def main() -> int:
    """Start the daemon, let it do its first work, scrape it, read its memory."""
    with tempfile.TemporaryDirectory(prefix="bg-") as directory:
        configuration = make_site(Path(directory), repositories=8, snapshots=1)
        with configuration.open("a", encoding="utf-8") as file:
            file.write(f'\n[http]\nlisten = "127.0.0.1:{PORT}"\n')
        daemon = subprocess.Popen(
            [BIN / "backupguard", "--config", configuration, "run"], stderr=subprocess.DEVNULL
        )
        try:
            wait_until_ready()
            process = psutil.Process(daemon.pid)
            for _ in range(SETTLE_S):
                time.sleep(1)
                with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics") as answer:
                    answer.read()
            processor = process.cpu_percent(interval=10)
            memory = process.memory_info().rss / 2**20
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(30)
    print(f"  processor {processor:.2f} % over 10 s")
    return finish("idle", memory, 90, unit="MiB")


if __name__ == "__main__":
    sys.exit(main())
