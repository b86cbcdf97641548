"""How long it takes from a fact to its alert: a real daemon, a real Prometheus, a real Alertmanager.

The daemon sees files of /etc that the test can change: a mount namespace of its own puts them there. A
run that its cadence would begin within one interval is asked for by hand, so what is measured is the
rest: from the harm to the alert, and from the stored fact to the alert.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.demo.s3_server import S3Server, running
from backupguard.model import Fact
from backupguard.resources import shipped
from tests.alertmanager import Alertmanager, alertmanager
from tests.integration.daemon.living import Site, quiet, wait_for
from tests.prometheus import Prometheus, prometheus

#: Between two scrapes, in seconds; and between two evaluations of the rules, in the proportion of the
#: shipped 20 s to the 30 s that the page of alerts recommends.
SCRAPE_S, RULES_S = 6, 4
#: What a look may take from its slot to the alert, beyond the interval.
BEYOND_S = 120
#: The scheduler moves every ten seconds; the shipped rule waits for five minutes.
STILL_S = 25

MORE = """
[daemon.cadences]
inventory = {{ C1 = "15m", C2 = "15m", C3 = "15m" }}
[repositories.cloud]
type = "s3"
endpoint = "{endpoint}"
bucket = "copies"
credentials.reader.file = "{keys}"
[applications.labo]
name = "Laboratoire"
criticality = "C2"
[applications.labo.backups.nightly]
repository = "cloud"
select.pattern = "labo-%Y%m%d.dump"
every = "24h"
"""
GROUPS = "root:x:0:\nsudo:x:27:alice\nusers:x:100:\n"
PGBACKREST = "[global]\nrepo1-path=/backup/pg\nrepo1-retention-full=8\n[main]\npg1-path=/srv/pg\n"


def _rules(directory: Path) -> Path:
    """Return the shipped rules, evaluated more often; only what waits for minutes waits less."""
    text = shipped("prometheus/backupguard.rules.yml").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^( +interval: )\w+$", rf"\g<1>{RULES_S}s", text)
    text = text.replace(
        "last_tick_timestamp_seconds > 300", f"last_tick_timestamp_seconds > {STILL_S}"
    )
    dead = text.index("alert: BackupGuardSchedulerDead")
    text = text[:dead] + text[dead:].replace("for: 5m", f"for: {RULES_S}s", 1)
    path = directory / "measured.rules.yml"
    path.write_text(text, encoding="utf-8")
    return path


@dataclass
class Measured:
    """A hospital that is watched, and what was seen of it."""

    site: Site
    asked: Prometheus
    manager: Alertmanager
    admin: Any
    group: Path
    pgbackrest: Path
    stop: Path
    figures: dict[str, tuple[float, float]] = field(default_factory=dict)

    def firing(self, alert: str) -> bool:
        return any(
            one["labels"]["alertname"] == alert
            and datetime.fromisoformat(one["endsAt"]) > datetime.now(UTC)
            for one in self.manager.alerts()
        )

    def measure(self, name: str, alert: str, look: str, harm: Callable[[], object]) -> None:
        """Do harm, let it be looked at, and note how long its alert took."""
        wait_for(lambda: not self.firing(alert), 90)
        before = max((fact.seq for fact in self.site.facts("finding.changed")), default=0)
        done = time.time()
        harm()
        assert self.site.command("probe", look).returncode in (0, 1, 2)
        wait_for(lambda: self.firing(alert), BEYOND_S)
        seen = time.time()
        self.figures[name] = (seen - done, seen - _stored(self.site, before).timestamp())

    def undo(self, harm: Callable[[], object]) -> None:
        """Take harm back, and let that be seen."""
        harm()
        self.site.command("probe", "drift")


def _stored(site: Site, after: int) -> datetime:
    """Return when the fact was stored on which the new finding that is wrong rests."""
    facts: dict[int, Fact] = {fact.seq: fact for fact in site.facts()}
    found = [
        fact
        for fact in facts.values()
        if fact.seq > after
        and fact.observation.kind == "finding.changed"
        and fact.observation.data["after"] == "non_compliant"
        and fact.observation.data["control"] in ("CFG-01", "RET-01")
    ]
    kinds = ("policy.changed", "inventory.listed")
    cause = max(s for s, f in facts.items() if f.observation.kind in kinds and s < found[0].seq)
    return facts[cause].recorded_at


def _dumps(site: Site) -> list[Path]:
    """Leave thirty nights of dumps, in place and readable."""
    made = []
    for night in range(30):
        at = datetime.now(UTC) - timedelta(days=night)
        path = site.dumps / f"dpi-{at:%Y%m%d}.dump"
        path.write_bytes(b"dump" * 4096)
        written = at.timestamp() - 7200  # what was written just now may still be being written
        os.utime(path, (written, written))
        made.append(path)
    return made


def _lock(server: S3Server, *, mode: str | None) -> None:
    rule = {"Rule": {"DefaultRetention": {"Mode": mode, "Days": 30}}} if mode else {}
    server.client().put_object_lock_configuration(
        Bucket="copies", ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", **rule}
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    place = tmp_path_factory.mktemp("time")
    with running(place / "s3") as server:
        admin = server.client()
        admin.create_bucket(Bucket="copies", ObjectLockEnabledForBucket=True)
        _lock(server, mode="COMPLIANCE")
        admin.put_object(Bucket="copies", Key=f"labo-{datetime.now(UTC):%Y%m%d}.dump", Body=b"x")
        keys = place / "keys"
        keys.write_text(server.credentials("auditor"))
        keys.chmod(0o600)
        (place / "site").mkdir()
        site = Site(place / "site")
        site.write(quiet() + MORE.format(endpoint=server.endpoint, keys=keys))
        yield from _watched(place, site, server)


def _watched(place: Path, site: Site, server: S3Server) -> Iterator[Measured]:
    group, pgbackrest, stop = place / "group", place / "pgbackrest.conf", place / "stop"
    group.write_text(GROUPS)
    pgbackrest.write_text(PGBACKREST)
    _dumps(site)
    bound = ("--bind", group, "/etc/group", "--bind", pgbackrest, "/etc/pgbackrest.conf")
    own = (shutil.which("bwrap") or "bwrap", "--die-with-parent", "--dev-bind", "/", "/", *bound)
    daemon = (*own, sys.executable, "-m", "tests.integration.soc.stopping")
    target = {"static_configs": [{"targets": [f"127.0.0.1:{site.port}"]}]}
    try:
        site.start(program=daemon, more={"BACKUPGUARD_TEST_STOP": str(stop)})
        with alertmanager(place / "alertmanager") as manager:
            where = {"static_configs": [{"targets": [f"127.0.0.1:{manager.port}"]}]}
            interval = f"{SCRAPE_S}s"
            more = {
                "global": {"scrape_interval": interval, "evaluation_interval": f"{RULES_S}s"},
                "alerting": {"alertmanagers": [where]},
                "rule_files": [str(_rules(place))],
            }
            scrapes = [{"job_name": "backupguard", **target}]
            flags = ["--rules.alert.resend-delay=5s"]
            with prometheus(place / "prometheus", scrapes, more=more, flags=flags) as asked:
                yield Measured(site, asked, manager, server.client(), group, pgbackrest, stop)
    finally:
        site.end()


def _ready(measured: Measured) -> None:
    """Wait until everything was looked at once: what is there now is what is compared with."""
    site = measured.site
    wait_for(lambda: site.facts("protection.seen"), 90)
    site.command("probe", "inventory")
    site.command("probe", "drift")
    wait_for(lambda: site.facts("policy.seen"), 60)
    assert not [f for f in site.facts("policy.changed") if f.observation.data["changes"]]
    measured.asked.until("count(backupguard_build_info)", bool)


@pytest.mark.slow
def test_from_the_harm_to_the_alert(
    measured: Measured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _ready(measured)
    site, weakened = measured.site, "BackupGuardPolicyWeakened"
    halved = PGBACKREST.replace("full=8", "full=1")
    measured.measure(
        "a shortened retention", weakened, "drift", lambda: measured.pgbackrest.write_text(halved)
    )
    measured.undo(lambda: measured.pgbackrest.write_text(PGBACKREST))
    more = GROUPS.replace("alice", "alice,mallory")
    measured.measure(
        "a new administrator", weakened, "drift", lambda: measured.group.write_text(more)
    )
    measured.undo(lambda: measured.group.write_text(GROUPS))
    none = {"Bucket": "copies", "ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}
    measured.measure(
        "a lost lock",
        weakened,
        "drift",
        lambda: measured.admin.put_object_lock_configuration(**none),
    )
    dumps = sorted(site.dumps.iterdir())
    measured.measure(
        "a mass deletion",
        "BackupGuardRetentionShort",
        "inventory",
        lambda: [path.unlink() for path in dumps[:20]],
    )
    with capsys.disabled():
        for name, (whole, rest) in measured.figures.items():
            print(f"\n{name}: {whole:.1f} s from the harm, {rest:.1f} s from the fact", end="")
    for name, (whole, rest) in measured.figures.items():
        assert rest <= 2 * SCRAPE_S, name
        assert whole <= BEYOND_S, name


def test_what_is_measured_begins_within_one_interval_of_the_inventory() -> None:
    """Policies and protections are looked at as often as what is vital is listed, unless told."""
    from backupguard.settings.model import Cadences

    usual = Cadences()
    assert usual.drift <= usual.inventory.c1 <= usual.inventory.c2


@pytest.mark.slow
def test_a_scheduler_that_stands_still_is_told_though_the_daemon_answers(
    measured: Measured,
) -> None:
    alert = "BackupGuardSchedulerDead"
    old = "time() - backupguard_scheduler_last_tick_timestamp_seconds"
    measured.asked.until(old, lambda found: bool(found) and found[0][1] < STILL_S)
    assert not measured.firing(alert)  # it has lived for longer than that, and moves
    measured.stop.touch()
    wait_for(lambda: measured.stop.with_suffix(".done").exists())
    wait_for(lambda: measured.firing(alert), 90)
    assert measured.site.get("/metrics")[0] == 200
