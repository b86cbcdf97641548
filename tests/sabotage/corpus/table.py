"""Judges the whole corpus and prints a table. usage: python -m tests.sabotage.corpus.table [--peers] [WORD …]"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from tests.sabotage.corpus import everything
from tests.sabotage.corpus.case import Case
from tests.sabotage.corpus.judging import Judgement, bench
from tests.sabotage.corpus.sources import opened


def label(case: Case) -> str:
    """Return how a case is named in the table."""
    return f"{'foreign/' if case in everything.FOREIGN else ''}{case.name}"


def line(one: Judgement) -> str:
    """Return one row."""
    case = one.case
    detected = "—" if one.detected is None else "yes" if one.detected else "NO"
    by = ", ".join(one.by) if one.detected else one.missed
    alarm = ", ".join(one.alarms) or "none"
    return f"| {label(case)} | {case.engine} | {detected} | {by} | {alarm} |"


def main(arguments: Sequence[str]) -> int:
    """Judge what the words choose, all by default; 1 when anything is missed or cried about."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    words = [word for word in arguments if not word.startswith("-")]
    chosen = [c for c in everything.ALL if not words or any(w in label(c) for w in words)]
    print("| defect | engine | detected | by | false alarm on the twin |")
    print("|---|---|---|---|---|")
    judged = []
    with (
        tempfile.TemporaryDirectory(prefix="bgsab-", ignore_cleanup_errors=True) as root,
        opened(Path(root) / "s") as sources,
    ):
        judge = bench(sources, Path(root) / "t").judge
        for case in chosen:
            began = time.monotonic()
            try:
                one = judge(case)
            except Exception as error:
                if "--strict" in arguments:
                    raise
                said = f"{type(error).__name__}: {error}"[:300]
                one = Judgement(case=case, detected=False, by=(), missed=said, alarms=())
            judged.append(one)
            print(line(one), flush=True)
            print(f"{time.monotonic() - began:6.1f} s {label(case)}", file=sys.stderr)
    found = [one for one in judged if one.detected is not None]
    detected, alarms = sum(bool(one.detected) for one in found), sum(bool(j.alarms) for j in judged)
    print(f"detected {detected}/{len(found)} false alarms {alarms}/{len(judged)}")
    return int(detected < len(found) or alarms > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
