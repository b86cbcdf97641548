"""What the benchmarks share: alternating runs of whole commands, medians, and the closing line.

Each benchmark compares ours with a reference in the same run, so that a slower machine slows both.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
TOOLS = Path(os.environ.get("BACKUPGUARD_TOOLS", CHECKOUT / ".tools" / "bin"))


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def run(argv: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> bytes:
    """Run a command that must succeed; return its output."""
    completed = subprocess.run(
        [str(part) for part in argv],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        check=False,
    )
    if completed.returncode != 0:
        tail = completed.stderr.decode(errors="replace")[-2000:]
        raise SystemExit(f"{argv[0]} ended with {completed.returncode}:\n{tail}")
    return completed.stdout


def alternate(rounds: int, **works: Callable[[], object]) -> dict[str, float]:
    """Run the works in turn, `rounds` times after one warm-up each; return medians in seconds."""
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(timed(work))
    for name, seconds in times.items():
        shown = " ".join(f"{second:.3f}" for second in seconds)
        print(f"  {name:28} median {statistics.median(seconds):8.3f} s   [{shown}]")
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def finish(
    name: str, value: float, goal: float, *, unit: str = "ratio", at_least: bool = False
) -> int:
    """Print the closing line; return the exit status: 0 when the goal is reached.

    A value is to be at most the goal, or `at_least` it.
    """
    print(f"{name} {unit} {value:.2f} goal {goal:.2f}")
    return 0 if (value >= goal if at_least else value <= goal) else 1
