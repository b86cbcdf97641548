"""Judges the whole corpus and prints a table.

usage: python -m tests.sabotage.corpus.table [--peers] [WORD …]
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import structlog

from tests.sabotage.corpus import everything, peers
from tests.sabotage.corpus.case import Case, Maker
from tests.sabotage.corpus.judging import Bench, Judgement, bench
from tests.sabotage.corpus.sources import opened

_WORDS = {True: "yes", False: "no", None: "—"}


def label(case: Case) -> str:
    """Return how a case is named in the table."""
    return f"{'foreign/' if case in everything.FOREIGN else ''}{case.name}"


class Beside:
    """What the peers say of the same cases, and how often each was right."""

    def __init__(self, judge: Bench) -> None:
        self.bench, self.counts = judge, Counter[tuple[str, str]]()
        self._said: dict[tuple[str, Maker, str], peers.Word] = {}

    def cells(self, case: Case) -> list[str]:
        """Return a cell for each peer."""
        return [self._cell(name, peer, case) for name, peer in peers.PEERS.items()]

    def _cell(self, name: str, peer: peers.Peer, case: Case) -> str:
        complained = self._ask(name, peer, case, case.make) if case.make else None
        alarm = self._ask(name, peer, case, case.twin)
        for what, said in (("defect", complained), ("twin", alarm)):
            self.counts[name, what] += said is not None
            self.counts[name, f"{what} told"] += said is True
        return _WORDS[complained] + (", and of the twin" if alarm else "")

    def _ask(self, name: str, peer: peers.Peer, case: Case, make: Maker) -> peers.Word:
        key = (name, make, case.engine)
        if key not in self._said:
            self._said[key] = peer(self.bench.sources, self.bench.material(make), case.engine)
        return self._said[key]

    def summary(self) -> list[str]:
        """Return a line for each peer."""
        return [
            f"{name}: detected {self.counts[name, 'defect told']}/{self.counts[name, 'defect']}"
            f" false alarms {self.counts[name, 'twin told']}/{self.counts[name, 'twin']}"
            for name in peers.PEERS
        ]


def row(one: Judgement, cells: Sequence[str]) -> str:
    """Return one row of the table."""
    by = ", ".join(one.by) if one.detected else one.missed
    alarm = ", ".join(one.alarms) or "none"
    detected = {None: "—", True: "yes", False: "NO"}[one.detected]
    return f"| {' | '.join([label(one.case), one.case.engine, detected, by, alarm, *cells])} |"


def judged(judge: Bench, case: Case) -> Judgement:
    """Judge a case; one that cannot even be made is a defect nobody detected."""
    try:
        return judge.judge(case)
    except Exception as error:
        said = f"{type(error).__name__}: {error}".replace("\n", " ")[:300]
        return Judgement(case=case, detected=False, by=(), missed=said, alarms=())


def main(arguments: Sequence[str]) -> int:
    """Judge what the words choose, all by default; 1 when anything is missed or cried about."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    words = [word for word in arguments if not word.startswith("-")]
    chosen = [c for c in everything.ALL if not words or any(w in label(c) for w in words)]
    heads = ["defect", "engine", "detected", "by", "false alarm on the twin"]
    found: list[Judgement] = []
    with ExitStack() as stack:
        root = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="bgs-", ignore_cleanup_errors=True)
            )
        )
        judge = bench(stack.enter_context(opened(root / "s")), root / "t")
        beside = Beside(judge) if "--peers" in arguments else None
        heads += list(peers.PEERS) if beside else []
        print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        for case in chosen:
            began = time.monotonic()
            found.append(judged(judge, case))
            print(row(found[-1], beside.cells(case) if beside else []), flush=True)
            print(f"{time.monotonic() - began:6.1f} s {label(case)}", file=sys.stderr)
        for line in beside.summary() if beside else []:
            print(line)
    defects = [one for one in found if one.detected is not None]
    detected, alarms = (
        sum(bool(one.detected) for one in defects),
        sum(bool(j.alarms) for j in found),
    )
    print(f"detected {detected}/{len(defects)} false alarms {alarms}/{len(found)}")
    return int(detected < len(defects) or alarms > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
