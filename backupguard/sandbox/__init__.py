"""Where a restore happens: bubblewrap, seccomp, limits, scratch space, disposal.

One bubblewrap per program. Inside there is `/usr` (read-only), the artifact in `/in` (read-only),
`/scratch` and `/shared/NAME` where asked for, no network, no capability, no other process, no host
environment. What lies in scratch afterwards was written by restored data: it is read without
following a link, and thrown away by `discard`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from backupguard.contracts import Cancel
from backupguard.errors import AccessRefused, MissingMeans
from backupguard.model import Message
from backupguard.processes.bubblewrap import sandbox_unavailable
from backupguard.processes.programs import require_program
from backupguard.sandbox.box import Box, SandboxServer
from backupguard.sandbox.disposal import discard, sweep
from backupguard.sandbox.limits import SandboxLimits
from backupguard.sandbox.protection import scratch_protection
from backupguard.sandbox.seccomp import seccomp_filter
from backupguard.sandbox.space import NEVER, ScratchGuard

__all__ = [
    "Box",
    "SandboxLimits",
    "SandboxServer",
    "ScratchGuard",
    "check",
    "discard",
    "open_sandbox",
    "scratch_protection",
    "sweep",
]


@contextlib.contextmanager
def open_sandbox(
    directory: Path, artifact: Path, *, limits: SandboxLimits, cancel: Cancel
) -> Iterator[Box]:
    """Open a sandbox for one restore test in `directory`, which is new or empty, and discard it.

    `artifact` is the directory shown as `/in`. On leaving, every program is ended and `directory` is
    removed, whatever happened. An error that leaves the body after the sandbox was ended by a limit
    is replaced by that limit's error: a database killed for filling the disk accuses no backup.

    Raises MissingMeans (sandbox_unavailable as root or without user namespaces, program_missing,
    no_disk); inside, `run` also raises TimedOut (phase_limit, scratch_limit) and Cancelled.
    """
    _refuse_root()
    require_program("bwrap")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise ValueError(f"{directory} is not empty")
    if not artifact.is_dir() or artifact.is_symlink():
        raise ValueError(f"{artifact} is not a directory")
    directory, artifact = directory.resolve(), artifact.resolve()
    box = Box(directory, artifact, limits, cancel)
    box.open()
    try:
        yield box
    except Exception as error:
        box.explain(error)
        box.close()
        with contextlib.suppress(AccessRefused):  # the sweep tries again; the first error counts
            discard(directory)
        if box.ended is not None and error is not box.ended:
            raise box.ended from error
        raise
    except BaseException:
        box.close()
        with contextlib.suppress(AccessRefused):
            discard(directory)
        raise
    box.close()
    discard(directory)


def _refuse_root() -> None:
    """Raise as root: a changed uid inside leaves the host's root rights over its files."""
    if os.geteuid() == 0:
        raise MissingMeans(
            "sandbox_unavailable",
            Message(id="processes.sandbox_root", values={}),
            Message(id="remedy.sandbox_root", values={}),
        )


def check() -> None:
    """Raise MissingMeans, with a remedy, when this host cannot run the sandbox; else return.

    Tries it: whether user namespaces are allowed depends on sysctls, AppArmor and the unit.
    """
    _refuse_root()
    require_program("bwrap")
    seccomp_filter()
    anything = SandboxLimits(reserve_percent=0, reserve_bytes=0, memory_reserve_bytes=0)
    with tempfile.TemporaryDirectory(prefix="backupguard-check-") as place:
        artifact = Path(place, "in")
        artifact.mkdir()
        with open_sandbox(Path(place, "box"), artifact, limits=anything, cancel=NEVER) as box:
            done = box.run(("/usr/bin/true",), scratch=False, timeout_s=60)
    if done.returncode != 0:  # a filter that kills, a loader that is not found
        raise sandbox_unavailable(f"status {done.returncode}")
