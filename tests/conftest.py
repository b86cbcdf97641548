"""What every test shares: no skip goes unnoticed."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
import structlog

# The checkout may not be writable, so no database of examples; a busy machine is no failure.
# The same examples on every machine and at every run, so that what is red is red for its cause;
# HYPOTHESIS_PROFILE=explore looks for new ones.
hypothesis.settings.register_profile("backupguard", database=None, deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", database=None, deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "backupguard"))

ALLOWED_SKIPS = Path(__file__).parent / "allowed-skips.txt"
_unexpected: list[str] = []


def _allowed() -> list[str]:
    lines = ALLOWED_SKIPS.read_text(encoding="utf-8").splitlines()
    return [line.split(":", 1)[1].strip() for line in lines if ":" in line and line[0] != "#"]


@pytest.fixture
def heard() -> None:
    """Let the log be heard again: a command that another test ran in this process silenced it."""
    structlog.reset_defaults()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not any(text in str(report.longrepr) for text in _allowed()):
        _unexpected.append(f"{item.nodeid}: {report.longrepr}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if _unexpected and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for skip in _unexpected:
        terminalreporter.write_line(f"a skip that tests/allowed-skips.txt does not name: {skip}")
