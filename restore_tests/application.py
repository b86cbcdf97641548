"""Level 4: a command of the site's uses the restored database as its application would.

It meets the server in the socket directory and sees nothing else of it. The level is reached only where
the command passed, and the content before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from backupguard.contracts import Trial
from backupguard.model import CheckResult
from restore_tests import site_command
from restore_tests.settings import SiteProgram

#: The name of the check that says how the command itself ended.
APPLICATION = "application"
LEVEL = 4


def replayed(
    trial: Trial, wanted: SiteProgram | None, *, shared: str, environment: Mapping[str, str]
) -> Iterator[CheckResult]:
    """Run the site's command against the restored database; nothing where there is none."""
    if wanted is None:
        return
    done = site_command.run(trial, wanted, shared=(shared,), environment=environment)
    verdict, code = site_command.ended(wanted, done)
    yield CheckResult(
        name=APPLICATION, level=LEVEL, verdict=verdict, code=code,
        numbers={"milliseconds": done.duration_ms}, configured=True,
    )  # fmt: skip
    yield from site_command.judged(wanted, done, LEVEL)
