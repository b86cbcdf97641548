"""A site whose copies are locked, append-only and carried away, over months, made up.

Nothing is really tried: at each moment the records are those that the probes would leave. The store,
the views and the controls are the real ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from backupguard.assess import Assessor, EvidenceState
from backupguard.controls import load_catalogue
from backupguard.model import (
    SITE,
    Finding,
    Listing,
    Observation,
    Origin,
    PointKind,
    RecoveryPoint,
    Subject,
    repository_subject,
    to_us,
)
from backupguard.settings import load
from backupguard.store import open_store

PARIS = ZoneInfo("Europe/Paris")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
#: The clock of Paris goes back on the 25th of October.
START = datetime(2026, 9, 7, 6, tzinfo=UTC)
DISKS = ("usb-a", "usb-b")
REPOSITORIES = ("verrou", "coffre", *DISKS)
#: The Friday ritual of this week takes place a day later than planned.
LATE_WEEK = 5
#: The vantage point cannot report for two hours on this day.
CUT = START + 20 * DAY
#: Escrow was attested for the last time so long before, and is again on the ninth day.
ATTESTED, RENEWED = START - 170 * DAY, START + 9 * DAY

_CONFIGURATION = """
[site]
name = "CH simulé"
timezone = "Europe/Paris"
[store]
directory = "{root}/state"
[scratch]
clear-text-accepted-by = "tests: invented data"
[media.usb-a]
kind = "removable"
filesystem-uuid = "9c1f4b2e-6a0d-4c57-8f0e-2b7d5a31c641"
every = "14d"
[media.usb-b]
kind = "removable"
filesystem-uuid = "9c1f4b2e-6a0d-4c57-8f0e-2b7d5a31c642"
every = "14d"
[applications.dpi]
name = "Dossier patient"
criticality = "C1"
rpo = "26h"
declared-by = "direction"
declared-on = 2026-09-01
failure-domain = "salle-1"
[isolation]
witness = "192.0.2.1:443"
[isolation.targets.coffres]
hosts = ["192.0.2.7"]
ports = [445]
repositories = ["verrou", "coffre"]
media = ["usb-a", "usb-b"]
[isolation.vantages.ward]
zone = "production"
witness = "192.0.2.1:443"
key.file = "{root}/secret"
max-age = "26h"
"""
_REPOSITORY = """
[repositories.{name}]
type = "restic"
{place}
credentials.reader.file = "{root}/secret"
failure-domain = "place-{name}"
declared-by = "RSSI"
declared-on = 2026-09-01
off-site = true
[applications.dpi.backups.{name}]
repository = "{name}"
select.paths = ["/srv/dpi"]
every = "{every}"
"""
_PLACES = {
    "verrou": 'url = "s3:https://s3.example/dpi"\nclaimed-protection = ["object-lock"]',
    "coffre": 'url = "rest:https://coffre.example/dpi"\nclaimed-protection = ["append-only"]',
    "usb-a": 'medium = "usb-a"\nurl = "{medium}/restic"',
    "usb-b": 'medium = "usb-b"\nurl = "{medium}/restic"',
}

#: What is changed of a record, by its kind: whatever else it says stays.
Change = Mapping[str, Mapping[str, Any]]
_serial = itertools.count()


@dataclass(kw_only=True)
class Guarded:
    """A site as it stands at `now`. From `broken_from` on, `broken` changes what its probes record."""

    root: Path
    now: datetime = START
    broken: Change = field(default_factory=dict)
    broken_from: datetime | None = None
    #: What nobody does any more: "attest", "carry" (say who took a disk), "detach", "vantage"; or
    #: "policies": somebody halves a retention.
    skipped: frozenset[str] = frozenset()
    renewed: bool = False
    weakened: bool = False
    tried: datetime | None = None
    media: dict[str, dict[str, Any]] = field(default_factory=dict)
    pending: list[Observation] = field(default_factory=list)
    points: dict[str, list[datetime]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        secret = self.root / "secret"
        secret.write_text("tests: a secret\n")
        secret.chmod(0o600)
        (self.root / "state").mkdir(mode=0o700)
        text = _CONFIGURATION.format(root=self.root) + "".join(
            _REPOSITORY.format(
                name=name,
                place=place,
                root=self.root,
                every="14d" if name in DISKS else "24h",
            )
            for name, place in _PLACES.items()
        )
        file = self.root / "backupguard.toml"
        file.write_text(text, encoding="utf-8")
        self.settings = load(file, environ={})
        self.store = open_store(self.settings.state_directory, now=lambda: self.now)
        self.assessor = Assessor(
            self.store,
            self.settings,
            load_catalogue(),
            evidence=lambda _now: EvidenceState(valid=True),
        )
        self._set_up()

    # ------------------------------------------------------------------------------ what happens

    def live(self, days: int) -> list[datetime]:
        """Return the next moments: one each morning, and each hour when something happens."""
        found = []
        for hour in range(24 * days):
            moment = self.now + (hour + 1) * HOUR
            late = (moment - START).days // 7 == LATE_WEEK and moment.isoweekday() in {5, 6}
            ritual = moment.isoweekday() == 5 and moment.hour in {9, 15}
            cut = CUT <= moment <= CUT + 2 * HOUR
            if moment.hour == 6 or ritual or cut or (late and 8 <= moment.hour <= 15):
                found.append(moment)
        return found

    def judge(self, at: datetime) -> dict[tuple[str, str], Finding]:
        """Let it be `at`; return the findings by control and subject."""
        before, self.now = self.now, at
        self._nights(before, at)
        for hour in self._hours(before, at):
            self._ritual(hour)
        self._look(at)
        self._flush()
        found = self.assessor.assess(at).findings
        return {(one.control, one.subject): one for one in found}

    @staticmethod
    def _hours(before: datetime, at: datetime) -> list[datetime]:
        count = int((at - before) / HOUR)
        return [before + (number + 1) * HOUR for number in range(count)]

    def _nights(self, before: datetime, at: datetime) -> None:
        """Let each night's backup run at 22:00 of the site, summer and winter."""
        local = [one.astimezone(PARIS) for one in self._hours(before, at)]
        for one in (moment for moment in local if moment.hour == 23):
            for name in ("verrou", "coffre"):
                self.points.setdefault(name, []).append(one.astimezone(UTC) - HOUR)

    def _ritual(self, at: datetime) -> None:
        """Friday: a disk comes at 8, is written to at 9, and leaves at 14; one week a day later."""
        week = (at - START).days // 7
        day = 6 if week == LATE_WEEK else 5
        if at.isoweekday() != day or not 8 <= at.hour <= 14:
            return
        disk = DISKS[week % 2]
        if at.hour == 9:
            self.points.setdefault(disk, []).append(at - HOUR / 2)
        stays = at.hour == 14 and "detach" in self.skipped and self._is_broken(at)
        self._medium(disk, at, attached=at.hour < 14 or stays)
        if 9 <= at.hour < 14:
            self._copy(disk, at)
            self._list(disk, at)
        if at.hour == 14 and not ("carry" in self.skipped and self._is_broken(at)):
            self._record(
                "medium.moved", f"medium/{disk}", at,
                {"medium": disk, "direction": "out", "holder": "M. Martin", "place": "coffre",
                 "seal": "0042", "at": to_us(at), "content": {}},
                origin=Origin.ATTESTED,
            )  # fmt: skip

    # ------------------------------------------------------------------------- what probes record

    def _is_broken(self, at: datetime) -> bool:
        return self.broken_from is not None and at >= self.broken_from

    def _record(
        self, kind: str, subject: Subject, at: datetime, data: dict[str, Any],
        origin: Origin = Origin.OBSERVED,
    ) -> None:  # fmt: skip
        if self._is_broken(at):
            data = {**data, **self.broken.get(f"{kind} {subject}", self.broken.get(kind, {}))}
        if kind == "medium.seen":
            self.media[subject] = data
        self.pending.append(
            Observation(
                kind=kind, subject=subject, observed_at=at, data=data, origin=origin,
                key=f"simulated/{next(_serial)}",
            )
        )  # fmt: skip

    def _flush(self) -> None:
        """Append everything at once: a transaction per record would cost more than the judging."""
        self.store.append(self.pending, author="uid/0 (root)")
        self.pending = []

    def _set_up(self) -> None:
        """Do what is done once: look for the first time, state what nobody can see, try the keys."""
        for name in REPOSITORIES:
            self._escrowed(name, START)
            self._state("escrow", repository_subject(name), ATTESTED, 180)
        self._state("mfa", SITE, START, 365, name="restic", percent=100)
        self._state("admins", SITE, START, 365, count=3)
        for disk in DISKS:
            at = START - (9 if disk == "usb-a" else 3) * DAY
            self.points[disk] = [at - HOUR]
            self._medium(disk, at, attached=True)
            self._copy(disk, at)
            self._list(disk, at)
            self._medium(disk, at + HOUR, attached=False)
            self._record(
                "medium.moved", f"medium/{disk}", at + HOUR,
                {"medium": disk, "direction": "out", "holder": "M. Martin", "place": "coffre",
                 "seal": "0042", "at": to_us(at + HOUR), "content": {}},
                origin=Origin.ATTESTED,
            )  # fmt: skip
        for name in ("verrou", "coffre"):
            self.points[name] = [START - 10 * HOUR - day * DAY for day in reversed(range(30))]

    def _look(self, at: datetime) -> None:
        if at >= RENEWED and not self.renewed and "attest" not in self.skipped:
            self.renewed = True
            for name in REPOSITORIES:
                self._state("escrow", repository_subject(name), at, 180)
        for name in ("verrou", "coffre"):
            self._inspect(name, at)
            self._list(name, at)
        for disk in DISKS:
            self._medium(disk, at, attached=self.media[f"medium/{disk}"]["attached"])
        if self.tried is None or at - self.tried >= 7 * DAY:
            self.tried = at
            self._attempts(at)
        if "policies" in self.skipped and self._is_broken(at) and not self.weakened:
            self.weakened = True
            change = {"path": "borgmatic|/etc/borgmatic/config.yaml|retention.keep_daily",
                      "before": 14, "after": 7, "weakening": "retention_shortened"}  # fmt: skip
            self._record("policy.changed", SITE, at, {"changes": [change], "from_seq": None})
        cut = CUT <= at < CUT + 2 * HOUR or ("vantage" in self.skipped and self._is_broken(at))
        if not cut:
            self._vantage(at)
        self._host(at)

    def _inspect(self, name: str, at: datetime) -> None:
        nothing = ("tool", "tool_version", "format_version", "device")
        self._record(
            "repository.inspected", repository_subject(name), at,
            {**dict.fromkeys(nothing), "type": "restic", "reachable": True, "code": None,
             "locks": [], "repository_id": f"id-{name}", "encrypted": True},
        )  # fmt: skip

    def _list(self, name: str, at: datetime) -> None:
        kept = [one for one in self.points.get(name, []) if one <= at][-40:]
        points = tuple(
            RecoveryPoint(
                repository=name, job=f"dpi.{name}", native_id=f"{one:%Y%m%dT%H%M}", at=one,
                covers_until=one, kind=PointKind.SNAPSHOT, started_at=one, ended_at=one,
            )
            for one in kept
        )  # fmt: skip
        if name in DISKS:
            self._inspect(name, at)
        listing = Listing(
            repository=name, jobs=(f"dpi.{name}",), points=points, observed_at=at
        )  # fmt: skip
        self.store.merge_listing(listing, run=None)

    def _medium(self, disk: str, at: datetime, *, attached: bool) -> None:
        was = self.media.get(f"medium/{disk}", {})
        since = was.get("attached_since_at") if was.get("attached") else to_us(at)
        last = to_us(at) if attached else was.get("attached_last_at")
        self._record(
            "medium.seen", f"medium/{disk}", at,
            {"medium": disk, "attached": attached, "attached_since_at": since if attached else None,
             "attached_last_at": last, "device": "/dev/sdb1" if attached else None,
             "mounted": attached, "identity": "filesystem-uuid" if attached else None,
             "mismatch": None, "slot": None, "code": None},
        )  # fmt: skip

    def _copy(self, disk: str, at: datetime) -> None:
        newest = max((to_us(one) for one in self.points[disk] if one <= at), default=None)
        self._record(
            "medium.copy", repository_subject(disk), at,
            {"medium": disk, "repository": disk, "newest_at": newest,
             "applications": {"dpi": newest}, "verdict": "passed", "code": None,
             "bytes_read": 10**9, "may_leave": True, "restore_test": None},
        )  # fmt: skip

    def _attempts(self, at: datetime) -> None:
        """Read the locks of ten points and try to tamper, as every week."""
        newest = [one for one in self.points["verrou"] if one <= at][-10:]
        points = [
            {"job": "dpi.verrou", "native_id": f"{one:%Y%m%dT%H%M}", "at": to_us(one),
             "locked_until_at": to_us(one + 30 * DAY), "mode": "compliance", "objects": 900,
             "unlocked": 0, "exact": True, "hidden": False, "code": None}
            for one in reversed(newest)
        ]  # fmt: skip
        seen = {
            "mechanism": "s3-object-lock", "mode": "compliance", "retention_ms": 30 * 86_400_000,
            "weaknesses": [], "bypass_holders": [], "unread": [], "settings": {"lock": True},
            "points": points, "locked_until_at": to_us(min(newest) + 30 * DAY),
            "requests": {"HeadObject": 900}, "cost_micro_eur": 400, "verdict": "passed",
            "code": None,
        }  # fmt: skip
        dateless: dict[str, Any] = {
            "mechanism": "append-only", "mode": None, "retention_ms": None, "points": [],
            "locked_until_at": None, "settings": {},
        }  # fmt: skip
        self._record("protection.seen", "repository/verrou", at, seen)
        self._record("protection.seen", "repository/coffre", at, seen | dateless)
        for name in ("verrou", "coffre"):
            self._record(
                "immutability.tried", repository_subject(name), at,
                {"attacker": "backup_writer", "verdict": "passed", "code": None, "worked": [],
                 "refused": ["delete-data"], "untried": [], "credentials": "writer",
                 "reaches_data": True, "before": None, "canaries": [], "attempts": []},
            )  # fmt: skip

    def _vantage(self, at: datetime) -> None:
        row = {"target": "coffres", "name": "192.0.2.7", "address": "192.0.2.7", "family": "ipv4",
               "port": 445, "outcome": "filtered", "announced": False}  # fmt: skip
        self._record(
            "isolation.seen", "vantage/ward", at,
            {"vantage": "ward", "zone": "production", "witness": True, "families": ["ipv4"],
             "began_at": to_us(at), "ended_at": to_us(at), "rows": [row], "code": None},
        )  # fmt: skip

    def _host(self, at: datetime) -> None:
        """Record what is looked at on this host: directories, policies, ages of secrets."""
        self._record(
            "host.joined", "host", at,
            {"host": "sauvegarde", "joined": False, "domains": [], "seen_by": [], "unread": []},
        )  # fmt: skip
        self._record("policy.seen", SITE, at, {"items": {}, "unread": []})
        written = to_us(START - 30 * DAY)
        secrets = [
            {"repository": name, "use": "reader", "written_at": written, "code": None}
            for name in REPOSITORIES
        ]
        self._record("secrets.seen", SITE, at, {"secrets": secrets, "shared": []})

    # --------------------------------------------------------------------------- what people say

    def _state(
        self, topic: str, subject: Subject, at: datetime, days: int, **values: int | str
    ) -> None:
        signature = {"person": "claire", "key": "SHA256:x", "statement": "x", "armored": "x"}
        self._record(
            "attestation.made", subject, at,
            {"topic": topic, "person": "claire", "text": "vu", "values": values,
             "expires_at": to_us(at + days * DAY), "signature": signature},
            origin=Origin.ATTESTED,
        )  # fmt: skip

    def _escrowed(self, name: str, at: datetime) -> None:
        """Record a restore test with the key that lay in the safe."""
        self._record(
            "restore-test.result", "application/dpi", at,
            {"application": "dpi", "engine": "files", "repository": name, "point": "p",
             "point_at": to_us(at), "target_at": None, "verdict": "passed", "code": None,
             "level": 3, "phases": [], "checks": [], "checks_configured": 1,
             "baseline_accepted": True, "data_loss_ms": None, "freshness_heuristic_at": None,
             "bytes": 1, "duration_ms": 1, "fingerprint": None, "tools": {}, "key": "escrow"},
        )  # fmt: skip

    def close(self) -> None:
        """Close the store."""
        self.store.close()
