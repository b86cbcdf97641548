"""A site with offline disks: real ext4 images, attached by being there, read as an ordinary user."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from backupguard import runs, settings
from backupguard.assess import Assessment, Assessor, EvidenceState
from backupguard.contracts import Store
from backupguard.controls import load_catalogue
from backupguard.daemon import custody
from backupguard.daemon.requests import request
from backupguard.daemon.tasks import TASKS
from backupguard.model import SITE, Finding, Json, Observation, Run, Subject, to_us
from backupguard.processes import Cancellation
from backupguard.store import open_store

# Records carry the real time as well, and no clock may be behind the newest of them.
NOW = (datetime.now(UTC) + timedelta(days=1)).replace(hour=17, minute=0, second=0, microsecond=0)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
DPI = "application/dpi"

_CONFIGURATION = """
[site]
name = "CH des essais"
timezone = "UTC"
[store]
directory = "{root}/state"
[scratch]
clear-text-accepted-by = "tests: invented data"
reserve = "1MB"
reserve-percent = 0
[media.usb-a]
kind = "removable"
image = "{root}/attached/usb-a.img"
filesystem-uuid = "{a}"
may-stay = "12h"
every = "7d"
[media.usb-b]
kind = "removable"
image = "{root}/attached/usb-b.img"
filesystem-uuid = "{b}"
[repositories.on-a]
type = "directory"
medium = "usb-a"
path = "{{medium}}/dumps"
timezone = "UTC"
[repositories.on-b]
type = "directory"
medium = "usb-b"
path = "{{medium}}/dumps"
timezone = "UTC"
[applications.dpi]
name = "Dossier patient"
criticality = "C1"
rpo = "7d"
[applications.dpi.backups.a]
repository = "on-a"
select.pattern = "dpi-%Y%m%d-%H%M.dump"
every = "7d"
[applications.dpi.backups.b]
repository = "on-b"
select.pattern = "dpi-%Y%m%d-%H%M.dump"
every = "7d"
[isolation.targets.dock]
hosts = ["192.0.2.7"]
ports = [445]
media = ["usb-a", "usb-b"]
[isolation.vantages.ward]
zone = "production"
witness = "192.0.2.1:443"
key.file = "{root}/key"
"""

_serial = itertools.count()


@dataclass(kw_only=True)
class Disk:
    """A disk: an image in a drawer, or where it is attached."""

    root: Path
    name: str
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def attached(self) -> Path:
        """Where it is while it is attached."""
        return self.root / "attached" / f"{self.name}.img"

    @property
    def drawer(self) -> Path:
        """Where it is otherwise."""
        return self.root / "drawer" / f"{self.name}.img"

    def write(self, *times: datetime, damaged: bool = False) -> None:
        """Make its file system anew, with a dump of each time."""
        source = self.root / f"content-{next(_serial)}"
        (source / "dumps").mkdir(parents=True)
        for moment in times:
            dump = source / "dumps" / f"dpi-{moment:%Y%m%d-%H%M}.dump.gz"
            content = bytearray(gzip.compress(os.urandom(20_000), mtime=0))
            digest = hashlib.sha256(content).hexdigest()
            if damaged:
                content[len(content) // 2] ^= 1
            dump.write_bytes(content)
            beside = dump.with_name(f"{dump.name}.sha256")
            beside.write_text(f"{digest}  {dump.name}\n")
            for path in (dump, beside):
                os.utime(path, (moment.timestamp(), moment.timestamp()))
        place = self.attached if self.attached.exists() else self.drawer
        place.parent.mkdir(exist_ok=True)
        place.unlink(missing_ok=True)
        with place.open("wb") as file:
            file.truncate(4 << 20)
        made = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-U", self.uuid]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        subprocess.run([*made, "-d", source, place], check=True, env=environment)

    def attach(self) -> None:
        """Plug it in."""
        self.attached.parent.mkdir(exist_ok=True)
        self.drawer.rename(self.attached)

    def detach(self) -> None:
        """Unplug it."""
        self.drawer.parent.mkdir(exist_ok=True)
        self.attached.rename(self.drawer)


@dataclass(kw_only=True)
class OfflineSite:
    """A site with two disks, a clock of its own, and a vantage point that reports when asked."""

    root: Path
    a: Disk
    b: Disk
    store: Store
    settings: settings.Settings
    now: datetime = NOW

    def perform(self, task: str, subject: Subject = SITE, **options: Json) -> Run:
        """Perform a run now, to its end."""
        asked = request(task, subject, requested_by="tests", due_at=self.now, options=dict(options))
        run = self.store.enqueue(asked)
        clock: Callable[[], datetime] = lambda: self.now  # noqa: E731
        runs.perform(run, self.settings, self.store, Cancellation(), TASKS, clock=clock)
        ended = self.store.run(run.id)
        assert ended is not None
        return ended

    def look(self, after: timedelta = MINUTE) -> Run:
        """Let time pass and look for the media."""
        self.now += after
        return self.perform("offline")

    def say(self, direction: str, medium: str, *, at: datetime | None = None) -> None:
        """Somebody says that a medium went out or came in."""
        custody.move(
            self.store,
            self.settings,
            medium=medium,
            direction=direction,
            holder="M. Martin",
            place="coffre",
            seal="0042",
            at=at or self.now,
            uid=os.getuid(),
            now=self.now,
        )

    def vantage(self, *, outcome: str = "refused", witness: bool = True) -> None:
        """The vantage point in production reports what it sees of the dock."""
        row = {
            "target": "dock",
            "name": "192.0.2.7",
            "address": "192.0.2.7",
            "family": "ipv4",
            "port": 445,
            "outcome": outcome,
            "announced": False,
        }
        data = {
            "vantage": "ward",
            "zone": "production",
            "witness": witness,
            "families": ["ipv4"],
            "began_at": to_us(self.now),
            "ended_at": to_us(self.now),
            "rows": [row],
            "code": None if witness else "witness_silent",
        }
        self.store.append(
            [
                Observation(
                    kind="isolation.seen",
                    subject="vantage/ward",
                    observed_at=self.now,
                    data=data,
                    key=f"vantage/{next(_serial)}",
                )
            ]
        )

    def assess(self) -> Assessment:
        """Judge everything now."""
        assessor = Assessor(
            self.store,
            self.settings,
            load_catalogue(),
            evidence=lambda _: EvidenceState(valid=True),
        )
        return assessor.assess(self.now)

    def finding(self, control: str = "OFF-01", subject: Subject = DPI) -> Finding:
        """Return one finding as it is now."""
        found = self.assess().finding(control, subject)
        assert found is not None
        return found

    def medium(self, name: str) -> dict[str, Json]:
        """Return a medium's row of the register."""
        rows = custody.register(self.store, self.settings, self.now)
        return next(row for row in rows if row["medium"] == name)

    def ritual(self, disk: Disk, *, newest: datetime | None = None) -> None:
        """Do what is done every week: attach, back up, look, detach, say so, look, hear production."""
        disk.write(newest or self.now - HOUR)
        disk.attach()
        self.look()
        disk.detach()
        self.now += 10 * MINUTE
        self.say("out", disk.name)
        self.look()
        self.vantage()


def made(root: Path) -> OfflineSite:
    """Return a site whose disks are empty and in their drawers; nothing was looked for yet."""
    a, b = Disk(root=root, name="usb-a"), Disk(root=root, name="usb-b")
    (root / "key").write_text("tests: a key\n")
    (root / "key").chmod(0o600)
    configuration = root / "backupguard.toml"
    configuration.write_text(_CONFIGURATION.format(root=root, a=a.uuid, b=b.uuid))
    loaded = settings.load(configuration)
    store = open_store(root / "state", None, site="CH des essais", timezone="UTC")
    return OfflineSite(root=root, a=a, b=b, store=store, settings=loaded)
