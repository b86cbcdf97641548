"""A site with one thing wrong and who tells of it; also for a process that is killed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from backupguard.assess import Assessment
from backupguard.controls import load_catalogue
from backupguard.daemon.notices import Notices
from backupguard.model import MAIL, Finding, Message, Severity, Status
from backupguard.settings import Settings, load
from backupguard.store import open_store
from backupguard.store.sql import SqlStore

START = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)
CONFIGURATION = """
[site]
name = "CH de Belle-Rive"
[store]
directory = "state"
[repositories.nas]
type = "directory"
path = "HERE"
MAIL
"""


@dataclass
class Site:
    """A site with one thing wrong, or nothing, and who tells of it."""

    directory: Path
    text: str
    now: datetime = START
    working: bool = True
    wrong: bool = True
    since: datetime | None = None
    settings: Settings = field(init=False)
    store: SqlStore = field(init=False)

    def __post_init__(self) -> None:
        if self.text:
            configured = CONFIGURATION.replace("HERE", str(self.directory))
            self.path.write_text(configured.replace("MAIL", self.text))
        self.settings = load(self.path, environ={})
        self.open()

    @property
    def path(self) -> Path:
        return self.directory / "backupguard.toml"

    def open(self) -> None:
        self.store = open_store(
            self.settings.state_directory, now=lambda: self.now, channels=self.settings.channels
        )
        self.notices = Notices(
            self.store,
            lambda: self.settings,
            load_catalogue,
            lambda: self.now,
            lambda: self.working,
        )

    def restart(self) -> None:
        self.store.close()
        self.open()

    def turn(self, **passed: float) -> None:
        """Let time pass, conclude something, tell."""
        self.now += timedelta(**passed)
        if self.wrong and (self.since is None):
            self.since = self.now
        self.since = self.since if self.wrong else None
        self.notices.heard(self.concluded())
        self.notices.turn()

    def concluded(self) -> Assessment:
        damaged = Finding(
            control="INT-01",
            subject="repository/nas",
            status=Status.NON_COMPLIANT if self.wrong else Status.COMPLIANT,
            severity=Severity.CRITICAL,
            reason=Message(id="reason.INT-01.damaged", values={"units": 1}),
            since=self.since or self.now,
        )
        return Assessment(
            site="CH de Belle-Rive",
            language="fr",
            timezone="Europe/Paris",
            judged_at=self.now,
            head_seq=1,
            findings=(damaged,),
            criticalities={},
            names={"repository/nas": "NAS du bâtiment A"},
            titles={},
        )

    def owed(self) -> int:
        return self.store.line(MAIL).count
