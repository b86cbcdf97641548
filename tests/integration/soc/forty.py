"""Forty applications on one repository, and what happens to them: real facts, judged as usual."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import cast

from tests.integration.soc.estates import DAY, HOUR, Estate

COUNT = 40
NAMES = tuple(f"app-{number:02}" for number in range(COUNT))

_HEAD = """
[site]
name = "CH"
timezone = "Europe/Paris"
[store]
directory = "state"
[repositories.nas]
type = "directory"
path = "HERE/nas"
[repositories.tape]
type = "directory"
path = "HERE/tape"
"""
_APPLICATION = """
[applications.{name}]
name = "{name}"
criticality = "{level}"
rpo = "26h"
rto = "8h"
declared-by = "direction"
declared-on = 2026-03-02
retention = {{ daily = 15, monthly = 0, yearly = 0 }}
[applications.{name}.backups.nightly]
repository = "nas"
select.pattern = "{name}-%Y%m%d.dump"
every = "24h"
[applications.{name}.backups.weekly]
repository = "tape"
select.pattern = "{name}-%Y%m%d.dump"
every = "7d"
"""


def configuration() -> str:
    """Return the configuration: every application is on the NAS, and weekly on tape as well."""
    levels = ("C1", "C2", "C3")
    return _HEAD + "".join(
        _APPLICATION.format(name=name, level=levels[number % 3])
        for number, name in enumerate(NAMES)
    )


class Forty(Estate):
    """The hospital; `begun` opens one whose last fortnight was like any other."""

    @classmethod
    def begun(cls, directory: Path, now: datetime) -> Forty:
        """Open a hospital that has been watched for a fortnight; all is well until `now`."""
        made = cls.resumed(directory, now - 14 * DAY)
        made.listed(now)
        for name in NAMES:
            made.restored(name, minutes=1)
        made.assess()
        return made

    @classmethod
    def resumed(cls, directory: Path, now: datetime) -> Forty:
        """Open a hospital that was begun, or a copy of one."""
        return cast("Forty", cls.at(directory, now, configuration()))

    def listed(self, now: datetime, repositories: tuple[str, ...] = ("nas", "tape")) -> None:
        """List what stands in repositories: twenty nights, twenty weeks."""
        every = {"nas": DAY, "tape": 7 * DAY}
        for repository in repositories:
            jobs = [selector.job for selector in self.settings.jobs_in(repository)]
            first = now - 60 * every[repository] - 5 * HOUR
            times = [first + number * every[repository] for number in range(61)]
            recent = [at for at in times if at <= self.now][-20:]
            self.list_points(repository, *((job, at) for job in jobs for at in recent))

    def well_until(self, now: datetime) -> None:
        """Let it be `now`: everything was listed again."""
        self.now = now
        self.listed(now)

    def unread(self, now: datetime) -> None:
        """Let it be `now`: the NAS has just stopped to answer."""
        self.well_until(now - HOUR / 3)
        self.now = now
        self.inspect("nas", "timeout")

    def dead_since(self, days: int, now: datetime) -> None:
        """Let it be `now`: the NAS has not answered for so many days; the tape does."""
        self.unread(now - days * DAY)
        self.assess()
        self.now = now
        self.listed(now, ("tape",))
        self.inspect("nas", "timeout")

    def without_program(self, now: datetime) -> None:
        """Let it be `now`: no restore test finds its program."""
        self.well_until(now)
        for name in NAMES:
            self.restored(
                name,
                minutes=1,
                verdict="could_not_verify",
                code="program_missing",
                level=0,
                checks=[],
            )
