"""No core dump holds a secret: whatever a process of ours dies of, its memory is written nowhere."""

from __future__ import annotations

import ctypes
import resource

_PR_SET_DUMPABLE = 4


def stay_undumped() -> None:
    """Keep this process' memory from core dumps, and from every other process of the same user.

    prctl(2), PR_SET_DUMPABLE: no core, neither as a file nor through a program that the kernel pipes
    it to (there RLIMIT_CORE means nothing: core(5)); and no ptrace(2), so that another program of the
    same account cannot read a password out of it. A program started from here is dumpable again.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")


def forbid_dumps() -> None:
    """Do the same for this process, and leave all that it starts without a core file (setrlimit(2))."""
    stay_undumped()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
