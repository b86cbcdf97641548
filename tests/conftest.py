"""What every test shares: no skip goes unnoticed."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
import structlog
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

# The checkout may not be writable, so no database of examples; a busy machine is no failure.
# The same examples on every machine and at every run, so that what is red is red for its cause;
# HYPOTHESIS_PROFILE=explore looks for new ones.
hypothesis.settings.register_profile("backupguard", database=None, deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", database=None, deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "backupguard"))

#: Files whose few tests last long, most of it waiting. By the number of their tests they would come
#: last, each alone on a processor.
FIRST = (
    "tests/integration/demo/test_demo.py",
    "tests/integration/survival/test_patients.py",
    "tests/integration/soc/test_time_to_alert.py",
    "tests/integration/survival/test_pruning.py",
    "tests/integration/soc/test_alerts_live.py",
    "tests/unit/assess/test_rules.py",
    "tests/integration/survival/test_limits.py",
    "tests/integration/survival/test_clock.py",
    "tests/integration/demo/test_soc.py",
    "tests/integration/restore_tests/test_runner_memory.py",
    "tests/integration/repositories/test_restic_changing.py",
    "tests/sabotage/test_an_ordinary_month.py",
)

ALLOWED_SKIPS = Path(__file__).parent / "allowed-skips.txt"
_unexpected: list[str] = []


class LongFilesFirst(LoadFileScheduling):
    """Files are handed out whole as ever, those of `FIRST` before all others."""

    def _assign_work_unit(self, node: WorkerController) -> None:
        for name in reversed(FIRST):
            if name in self.workqueue:
                self.workqueue.move_to_end(name, last=False)
        super()._assign_work_unit(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    return LongFilesFirst(config, log) if config.getoption("dist") == "loadfile" else None


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
