"""How often a test repeats what it does: as often as it takes to see it, or as often as convinces.

What happens at moments of chance is tried a few times in every run of the tests, and many times with
BACKUPGUARD_FULL=1: before a release, and whenever what they try changes.
"""

from __future__ import annotations

import os

FULL = os.environ.get("BACKUPGUARD_FULL") == "1"


def times(usual: int, full: int) -> int:
    """Return how often something is tried in this run."""
    return full if FULL else usual
