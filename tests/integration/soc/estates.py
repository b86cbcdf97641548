"""A hospital that is well, and ways in which it is broken: real facts, judged and rendered as usual.

Each way starts from a copy of the same store, so what differs afterwards differs because of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from backupguard.assess import Assessment, EvidenceState
from backupguard.metrics import render
from backupguard.model import Listing, Observation, PointState, RecoveryPoint, to_us
from backupguard.settings import load
from tests.unit.assess.conftest import Hospital

CONFIGURATION = """
[site]
name = "CH"
timezone = "Europe/Paris"
[store]
directory = "state"
[media.usb-3]
kind = "removable"
filesystem-uuid = "9c1f4b2e-6a0d-4c57-8f0e-2b7d5a31c644"
[repositories.nas]
type = "directory"
path = "HERE/nas"
[repositories.usb]
type = "directory"
medium = "usb-3"
path = "{medium}/dumps"
[applications.dpi]
name = "Dossier patient"
criticality = "C1"
rpo = "25h"
rto = "4h"
declared-by = "direction des soins"
declared-on = 2026-03-02
recovery.steps = [{ name = "serveur", duration = "1h" }]
[applications.dpi.backups.nightly]
repository = "nas"
select.pattern = "dpi-%Y%m%d.dump"
every = "24h"
[applications.dpi.backups.weekly]
repository = "usb"
select.pattern = "dpi-%Y%m%d.dump"
every = "7d"
[applications.labo]
name = "Laboratoire"
criticality = "C3"
rpo = "7d"
rto = "2d"
declared-by = "chef de service"
declared-on = 2026-03-02
recovery.steps = [{ name = "serveur", duration = "1h" }]
[applications.labo.backups.nightly]
repository = "nas"
select.pattern = "labo-%Y%m%d.dump"
every = "24h"
[isolation.targets.vault]
hosts = ["192.0.2.1"]
ports = [22]
repositories = ["nas"]
[isolation.vantages.ward]
zone = "soins"
witness = "127.0.0.1:9"
key.file = "ward.key"
[daemon.cadences]
inventory = { C1 = "15m", C2 = "1h", C3 = "1h" }
"""

NAS, MEDIUM = "repository/nas", "medium/usb-3"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
GIB = 2**30

Break = Callable[["Estate"], None]


class Estate(Hospital):
    """A hospital in a directory of its own, whose facts can be told without their whole payloads."""

    evidence_whole = True
    since_cycle = timedelta(0)
    version = "1.0"

    @classmethod
    def at(cls, directory: Path, now: datetime, configuration: str = CONFIGURATION) -> Estate:
        """Open the store in a directory, making it when there is none."""
        for name in ("nas", "state"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        (directory / "state").chmod(0o700)
        file = directory / "backupguard.toml"
        file.write_text(configuration.replace("HERE", str(directory)), encoding="utf-8")
        made = cls(load(file, environ={}, check_secrets=False), now)
        made._count = made.store.head()[0]  # keys of facts are not used twice
        return made

    def rendered(self, site: str) -> bytes:
        """Judge, and return the metrics as they would be served by a site of this name."""
        self.evidence = EvidenceState(valid=self.evidence_whole)
        self.assessor = self.new_assessor()
        assessment: Assessment = self.assess()
        last = to_us(self.now - self.since_cycle)
        told = replace(assessment, site=site, last_cycle_at=last)
        with mock.patch("backupguard.metrics.itself.__version__", self.version):
            return render(told)

    def points(self, newest: timedelta, count: int, size: int = 4 * GIB) -> None:
        """List the nightly points of both applications, the newest so long ago."""
        for job in ("dpi.nightly", "labo.nightly"):
            self.listed_of(job, newest, count, size)

    def listed_of(self, job: str, newest: timedelta, count: int, size: int) -> None:
        """List the points of one job of the NAS; those of other jobs stay."""
        times = [self.now - newest - n * DAY for n in range(count)]
        points = tuple(
            RecoveryPoint(
                repository="nas",
                job=job,
                native_id=f"{job}/{at:%Y%m%d%H}",
                at=at,
                covers_until=at,
                bytes=size,
                state=PointState("complete"),
            )
            for at in times
        )
        listing = Listing(repository="nas", jobs=(job,), points=points, observed_at=self.now)
        self.store.merge_listing(listing, run=None)
        self.inspect("nas")

    def restored(self, application: str, minutes: int = 20, **changed: Any) -> None:
        """A restore test from the NAS: it fetched and loaded, so long each."""
        phases = [
            {"phase": name, "verdict": "passed", "duration_ms": minutes * 60_000, "code": None}
            for name in ("fetch", "load")
        ]
        newest = self.now - 2 * HOUR
        usual = {
            "point": f"{application}.nightly/{newest:%Y%m%d%H}",
            "point_at": to_us(newest),
            "freshness_heuristic_at": to_us(self.now - 3 * HOUR),
            "phases": phases,
            "duration_ms": 2 * minutes * 60_000,
            "bytes": 4 * GIB,
        }
        self.tested(application, **(usual | changed))

    def tried(self, verdict: str) -> None:
        """The immutability of the NAS was tried with the backup writer's rights."""
        done = ["delete-data"]
        self.record(
            "immutability.tried",
            NAS,
            {
                "attacker": "backup_writer", "verdict": verdict, "code": None,
                "worked": done if verdict == "failed" else [],
                "refused": done if verdict == "passed" else [],
                "untried": [], "credentials": "writer", "reaches_data": True, "before": None,
                "canaries": [], "attempts": [],
            },
        )  # fmt: skip

    def locked(self, until: datetime | None, repository: str = "nas") -> None:
        """The locks of the newest points of a repository were read."""
        end = to_us(until) if until else None
        point = {
            "job": "dpi.nightly", "native_id": "a", "at": 1, "locked_until_at": end, "mode": None,
            "objects": 1, "unlocked": 0, "exact": True, "hidden": False, "code": None,
        }  # fmt: skip
        self.record(
            "protection.seen",
            f"repository/{repository}",
            {
                "mechanism": "s3-object-lock", "mode": "compliance", "retention_ms": None,
                "weaknesses": [], "bypass_holders": [], "unread": [], "settings": {},
                "points": [point], "locked_until_at": end, "requests": {},
                "cost_micro_eur": None, "verdict": "passed", "code": None,
            },
        )  # fmt: skip

    def looked(self, outcome: str) -> None:
        """A host on a ward tried to reach the NAS."""
        row = {
            "target": "vault", "name": "192.0.2.1", "address": "192.0.2.1", "family": "ipv4",
            "port": 22, "outcome": outcome, "announced": False,
        }  # fmt: skip
        seen = {
            "vantage": "ward", "zone": "soins", "witness": True, "families": ["ipv4"],
            "code": None, "rows": [row],
            "began_at": to_us(self.now), "ended_at": to_us(self.now),
        }  # fmt: skip
        self.record("isolation.seen", "vantage/ward", seen)

    def medium(self, *, attached: bool) -> None:
        """The disk was looked for."""
        self.record(
            "medium.seen",
            MEDIUM,
            {
                "medium": "usb-3", "attached": attached, "mounted": attached, "mismatch": None,
                "attached_since_at": to_us(self.now) if attached else None, "slot": None,
                "device": "sdb1" if attached else None, "code": None,
                "identity": "filesystem-uuid" if attached else None,
            },
        )  # fmt: skip

    def taken_away(self) -> None:
        """The disk came, its copy was read right, it was unplugged and declared out."""
        self.medium(attached=True)
        copy = {"dpi": to_us(self.now - HOUR)}
        self.record(
            "medium.copy",
            "repository/usb",
            {
                "medium": "usb-3", "repository": "usb", "newest_at": copy["dpi"],
                "applications": copy, "verdict": "passed", "code": None, "bytes_read": 1,
                "may_leave": True, "restore_test": None,
            },
        )  # fmt: skip
        self.pass_time(hours=1)
        self.medium(attached=False)
        out = {
            "medium": "usb-3", "direction": "out", "holder": "M. Martin", "place": "coffre",
            "seal": None, "at": to_us(self.now), "content": copy,
        }  # fmt: skip
        self.record("medium.moved", MEDIUM, out)

    def self_tested(self, *, noticed: bool) -> None:
        """A copy was broken on purpose."""
        self.record(
            "self-test.result",
            "site",
            {
                "application": "dpi", "repository": "nas", "point": "p", "engine": "postgresql",
                "harm": "truncated", "verdict": "failed" if noticed else "passed", "code": None,
                "noticed": noticed,
            },
        )  # fmt: skip

    def waived(self) -> None:
        """Somebody accepted that the laboratory has no offline copy."""
        data = {
            "control": "321-01", "reason": "migration", "owner": "DSI", "person": "alice",
            "until_at": to_us(self.now + 30 * DAY), "needs_confirmation": False,
        }  # fmt: skip
        asked = Observation(
            kind="waiver.asked",
            subject="application/labo",
            observed_at=self.now,
            data=data,
            key="waived",
        )
        self.store.append([asked], author="uid/1000 (alice)")

    def ran(self, *states: str) -> None:
        """The backup tool recorded runs of the nightly job, oldest first, the last one just now."""
        runs = [
            {
                "job": "dpi.nightly", "native_id": f"r{n}", "state": state,
                "started_at": to_us(self.now - n * HOUR), "ended_at": to_us(self.now - n * HOUR),
                "bytes": None, "files": None, "duration_ms": 1, "bytes_added": None,
                "bytes_stored": None, "files_new": None, "files_changed": None,
                "files_removed": None,
            }
            for n, state in zip(range(len(states), 0, -1), states, strict=True)
        ]  # fmt: skip
        self.record("backup.runs", NAS, {"runs": runs})


def well(directory: Path, now: datetime) -> None:
    """Make the store of a hospital of which everything was looked at within the last three days."""
    estate = Estate.at(directory, now - 3 * DAY)
    estate.taken_away()
    estate.now = now - DAY
    estate.points(2 * HOUR, 40)
    for application in ("dpi", "labo"):
        estate.restored(application)
    estate.verified(("b/1", "passed"), ("b/2", "passed"), complete=True)
    estate.tried("passed")
    estate.locked(now + 30 * DAY)
    estate.self_tested(noticed=True)
    estate.looked("refused")
    estate.record(
        "evidence.anchored", "site", {"place": "log", "seq": 1, "hash": "0" * 64, "receipt": None}
    )
    estate.now = now
    estate.points(2 * HOUR, 41)
    estate.assess()  # what is judged here need not be judged anew in each copy
    estate.store.close()


def _anchored(estate: Estate) -> None:
    estate.record(
        "evidence.anchored", "site", {"place": "log", "seq": 2, "hash": "0" * 64, "receipt": None}
    )


def _attribute(name: str, value: object) -> Break:
    return lambda estate: setattr(estate, name, value)


#: Ways to break it, by name. Those of `PROMISES` change the configuration instead.
BREAKS: dict[str, Break] = {
    "nothing": lambda estate: None,
    "a restore test fails": lambda estate: estate.restored(
        "dpi", verdict="failed", code="corrupt", level=0, data_loss_ms=None
    ),
    "restored data are encrypted": lambda estate: estate.restored(
        "dpi", verdict="failed", code="random_text", level=1, data_loss_ms=None
    ),
    "a restore takes ten times as long": lambda estate: estate.restored("dpi", minutes=200),
    "restored data are old": lambda estate: estate.restored(
        "dpi", data_loss_ms=90_000_000, freshness_heuristic_at=to_us(estate.now - 9 * DAY)
    ),
    "a tenth is restored": lambda estate: estate.restored(
        "dpi",
        partial={
            "percent": 10, "bytes": 1, "total_bytes": 10, "shares": 1, "shares_total": 10,
            "within_ms": 1, "covered_since": None,
        },
    ),
    "points vanish": lambda estate: estate.points(60 * HOUR, 3),
    "the newest point shrinks": lambda estate: estate.points(HOUR, 41, GIB // 64),
    "backups fail": lambda estate: estate.ran("complete", "failed", "failed"),
    "a repository is out of reach": lambda estate: estate.inspect("nas", "unreachable"),
    "canaries are deleted": lambda estate: estate.tried("failed"),
    "production reaches it": lambda estate: estate.looked("open"),
    "locks are gone": lambda estate: estate.locked(None),
    "the disk has locks that end": lambda estate: estate.locked(estate.now - DAY, "usb"),
    "the disk stays plugged in": lambda estate: estate.medium(attached=True),
    "the self-test is missed": lambda estate: estate.self_tested(noticed=False),
    "evidence is broken": _attribute("evidence_whole", False),
    "judging stops": _attribute("since_cycle", HOUR),
    "it is paused": lambda estate: estate.record(
        "pause.started", "site", {"until_at": to_us(estate.now + DAY), "reason": "travaux"}
    ),
    "another version": _attribute("version", "2.0"),
    "an exception is accepted": lambda estate: estate.waived(),
    "an anchor is set": _anchored,
    "promises change": lambda estate: None,
}  # fmt: skip

_CADENCES = """
restore-test = { C1 = "12h", C2 = "12h", C3 = "12h" }
inventory = { C1 = "2h", C2 = "2h", C3 = "2h" }
"""
PROMISES = (
    CONFIGURATION.partition("inventory =")[0]
    .replace('rpo = "25h"', 'rpo = "2h"')
    .replace('rto = "4h"', 'rto = "30m"')
    .replace('every = "24h"', 'every = "12h"')
) + _CADENCES


def broken(base: Path, directory: Path, name: str, now: datetime) -> Estate:
    """Return a copy of a hospital that is well, broken in one way."""
    shutil.copytree(base, directory)
    text = PROMISES if name == "promises change" else CONFIGURATION
    estate = Estate.at(directory, now, text)
    BREAKS[name](estate)
    return estate


def now() -> datetime:
    """Return the time, which here is the real one: a real Prometheus compares with it."""
    return datetime.now(UTC)
