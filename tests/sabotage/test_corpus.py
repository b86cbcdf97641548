"""A part of the corpus in the test command: every defect is told, no clean twin is accused.

All of it runs with script/sabotage. One server of each kind is started, when its first case needs it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sabotage.corpus import everything
from tests.sabotage.corpus.case import Case
from tests.sabotage.corpus.judging import Bench, bench
from tests.sabotage.corpus.sources import opened


@pytest.fixture(scope="module")
def judges() -> Iterator[Bench]:
    # A short path: the names of sockets below it have 107 bytes.
    root = Path(tempfile.mkdtemp(prefix="bgs-"))
    try:
        with opened(root / "s") as sources:
            yield bench(sources, root / "t")
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.mark.parametrize("case", everything.tested(), ids=lambda case: case.name)
def test_the_defect_is_told_and_its_clean_twin_is_not(judges: Bench, case: Case) -> None:
    one = judges.judge(case)
    assert one.detected is not False, one.missed
    assert not one.alarms


def test_the_corpus_is_as_large_as_it_says() -> None:
    names = [case.name for case in everything.ALL]
    assert len(set(names)) == len(names)
    defects = [case for case in everything.ALL if case.make is not None]
    assert len(defects) >= 60
    assert len(everything.FOREIGN) * 3 >= len(everything.ALL)
    assert all(case.speaks for case in defects)


def test_every_family_has_a_defect_among_those_that_are_tested() -> None:
    families = {case.name.partition("/")[0] for case in everything.ALL}
    assert {c.name.partition("/")[0] for c in everything.tested() if c.make} == families
