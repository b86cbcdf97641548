"""Stands for systemd's `Accept=yes`: listens, and starts the attendant for each connection."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: The attendant as it is, but for what it starts.
SHIM = """\
import sys
from backupguard.daemon import attendant
attendant.command = lambda module, arguments: (sys.executable, "-c", sys.argv[1], module, *arguments)
sys.exit(attendant.main())
"""


@contextmanager
def accepting(directory: Path, script: str | None = None) -> Iterator[Path]:
    """Yield a socket behind which `script` runs in place of the runner; None for the real one."""
    argv = [sys.executable, "-I", "-m", "backupguard.daemon.attendant"]
    if script is not None:
        argv = [sys.executable, "-I", "-c", SHIM, script]
    path = directory / "runner.sock"
    started: list[subprocess.Popen[bytes]] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    environment = {"PATH": os.environ["PATH"], "UNIT": "its own"}
                    started.append(
                        subprocess.Popen(argv, stdin=connection, env=environment, cwd="/")
                    )

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield path
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for process in started:
                process.wait(30)
