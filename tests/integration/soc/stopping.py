"""A daemon whose scheduler can be ended while it lives: `python -m tests.integration.soc.stopping`.

Everything is the daemon's own; once the file that BACKUPGUARD_TEST_STOP names is there, its thread
`agenda` is ended in order and nothing else.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from pathlib import Path

from backupguard.cli import main as cli
from backupguard.daemon.agenda import Agenda


def _stop_once_asked(asked: Path) -> None:
    while not asked.exists():
        time.sleep(0.2)
    for one in [found for found in gc.get_objects() if isinstance(found, Agenda)]:
        one.stop()
        asked.with_suffix(".done").touch()


if __name__ == "__main__":
    threading.Thread(
        target=_stop_once_asked, args=(Path(os.environ["BACKUPGUARD_TEST_STOP"]),), daemon=True
    ).start()
    sys.exit(cli.main(sys.argv[1:]))
