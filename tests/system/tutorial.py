"""The tutorial on an empty machine, every block of it as it stands, in both languages.

Started by script/test-system, which says which machine and package: SYSTEM_BARE (a root file system
with nothing but systemd), SYSTEM_PACKAGE. The machine has the host's network: apt fetches packages.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.machine import Machine
from tests.tutorial import PAGES, blocks

PACKAGE = Path(os.environ.get("SYSTEM_PACKAGE", ""))


@pytest.fixture
def empty() -> Iterator[Machine]:
    found = Machine(Path(os.environ["SYSTEM_BARE"]), network=True)
    try:
        found.boot()
        found.bring(PACKAGE)
        yield found
    finally:
        found.close()


@pytest.mark.parametrize("language", sorted(PAGES))
def test_the_tutorial_word_by_word(language: str, empty: Machine) -> None:
    began = time.monotonic()
    for block in blocks(PAGES[language]):
        script = f"cd /root\n{block.script}"
        ran = empty.run("sh", "-euc", script, check=False, timeout=300)
        printed = ran.stdout + ran.stderr
        assert ran.returncode == block.exit, f"block {block.number}:\n{block.script}\n{printed}"
        assert block.missing(printed) is None, f"block {block.number}:\n{printed}"
    print(f"\nthe tutorial ({language}) took {time.monotonic() - began:.0f} s")
