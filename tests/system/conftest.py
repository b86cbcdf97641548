"""One machine for all cases, which follow each other as a server's life does, and what they measured.

`script/test-system` says which machine and packages: SYSTEM_BASE (a root file system), SYSTEM_PACKAGE
(the .deb), SYSTEM_PREVIOUS (an older .deb), SYSTEM_PEERS (units of other programs), SYSTEM_RESULTS
(where the durations and figures go), SYSTEM_IDLE (seconds to look at the idle daemon, or nothing).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.machine import Machine
from tests.system.site import FILES

_RESULTS = pytest.StashKey[list[dict[str, Any]]]()


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    found = Machine(Path(os.environ["SYSTEM_BASE"]))
    try:
        print(f"\nbooted in {found.boot():.1f} s")
        yield found
    finally:
        found.close()


@pytest.fixture(scope="session")
def before(machine: Machine) -> set[str]:
    """Return what was on the disk before anything of ours was."""
    return set(machine.shell(FILES).splitlines())


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str, object], None]:
    """Return what tells a measured figure, now and in the table at the end."""

    def told(name: str, value: object) -> None:
        print(f"    {name}: {value}")
        record_property(name, str(value))

    return told


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RESULTS] = []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    report: pytest.TestReport = outcome.get_result()
    if report.failed:
        print(report.longreprtext)  # now, and not after all that follows
    if report.when == "call" or report.failed:
        item.config.stash[_RESULTS].append(
            {
                "case": item.name.removeprefix("test_").replace("_", " "),
                "outcome": report.outcome,
                "seconds": round(report.duration, 1),
                "figures": dict(report.user_properties),
            }
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    place = os.environ.get("SYSTEM_RESULTS")
    if place:
        Path(place).write_text(json.dumps(session.config.stash[_RESULTS]), encoding="utf-8")
