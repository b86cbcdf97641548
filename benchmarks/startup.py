"""Start-up: `backupguard --help` and `status` against `borgmatic --version`, each its own process.

borgmatic comes from PyPI into an environment of its own, made once. `status` runs as after the demo:
no daemon, everything judged, nothing recorded since.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from harness import BIN, CHECKOUT, alternate, finish, run
from small_site import make_site


def borgmatic() -> Path:
    """Return borgmatic's program, installed on first use."""
    environment = CHECKOUT / ".tools" / "borgmatic"
    program = environment / "bin" / "borgmatic"
    if not program.exists():
        run(["/usr/bin/python3", "-m", "venv", environment])
        run([environment / "bin" / "pip", "install", "--quiet", "borgmatic==2.1.*"])
    return program


def main() -> int:
    """Measure both; the goal is reached when both are."""
    peer = borgmatic()
    ours = BIN / "backupguard"
    with tempfile.TemporaryDirectory(prefix="bg-") as directory:
        configuration = make_site(Path(directory), repositories=2)
        run([ours, "--config", configuration, "inventory"])
        status = [str(ours), "--config", str(configuration), "status", "--json"]
        seconds = alternate(
            9,
            peer=lambda: run([peer, "--version"]),
            help=lambda: run([ours, "--help"]),
            status=lambda: run(["/bin/sh", "-c", '"$@" || [ $? -le 3 ]', "sh", *status]),
        )
    first = finish("startup-help", seconds["help"] / seconds["peer"], 0.25)
    second = finish("startup-status", seconds["status"] / seconds["peer"], 0.60)
    return first or second


if __name__ == "__main__":
    sys.exit(main())
