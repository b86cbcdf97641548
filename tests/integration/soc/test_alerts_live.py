"""One cause, one notification: real series, a real Prometheus, a real Alertmanager with our routes.

Five sites are scraped. All are well at first; then each has one trouble, and the receiver counts what
it is told. Waits of the rules and routes are shortened in proportion, nothing else of them is changed.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import structlog

from backupguard.resources import shipped
from tests.alertmanager import Alertmanager, Told, alertmanager
from tests.integration.soc.estates import DAY
from tests.integration.soc.forty import COUNT, Forty
from tests.prometheus import Prometheus, prometheus

#: What each site has, and what the shipped waits become here: one minute is about a tenth of a second.
DEAD, MISSING, SILENT, OUTAGE, WELL = "dead", "missing", "silent", "outage", "well"
UNREAD, UNTRIED = "unread", "untried"
SITES = (DEAD, MISSING, SILENT, OUTAGE, WELL)
WAITS = {"1h": "3s", "45m": "2s", "15m": "2s", "3h": "12s", "5m": "1s", "0m": "0s", "1d": "1d"}


def quick_rules(directory: Path) -> Path:
    """Return the shipped rules with shorter waits; a gap of six seconds is bridged."""
    text = shipped("prometheus/backupguard.rules.yml").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^( +for: )(\w+)$", lambda m: m[1] + WAITS[m[2]], text)
    text = re.sub(r"(?m)^( +interval: )\w+$", r"\g<1>1s", text).replace("[20m]", "[6s]")
    path = directory / "quick.rules.yml"
    path.write_text(text, encoding="utf-8")
    return path


@dataclass
class Served:
    """What each site answers now; one that is not here answers 503."""

    text: dict[str, bytes] = field(default_factory=dict)


class _Sites(BaseHTTPRequestHandler):
    served: ClassVar[Served]

    def do_GET(self) -> None:
        text = self.served.text.get(self.path.strip("/"))
        self.send_response(200 if text else 503)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.end_headers()
        self.wfile.write(text or b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Story:
    """What was told while all was well, and by the end; which alerts Alertmanager knew then."""

    before: int
    told: Told
    known: list[dict[str, Any]]
    outage: list[tuple[str, str, int]]
    doubled: list[tuple[str, str, str]]


def _texts(place: Path, now: datetime) -> dict[str, bytes]:
    """Return what a hospital serves that is well, and in each way in which it is not."""
    found = {}
    Forty.begun(place / "base", now).store.close()
    for name in (WELL, UNREAD, DEAD, UNTRIED, OUTAGE):
        shutil.copytree(place / "base", place / name)
        one = Forty.resumed(place / name, now - 14 * DAY)
        one.evidence_whole = name != OUTAGE
        if name == UNREAD:
            one.unread(now)
        elif name == DEAD:
            one.dead_since(4, now)
        elif name == UNTRIED:
            one.without_program(now)
        else:
            one.well_until(now)
        found[name] = one.rendered("CH")
        one.store.close()
    old = Forty.begun(place / MISSING, now - 30 * DAY)
    old.without_program(now - 36 * DAY)
    old.assess()
    old.well_until(now)
    found[MISSING] = old.rendered("CH")
    old.store.close()
    return found


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    place = tmp_path_factory.mktemp("alerts")
    texts = _texts(place, datetime.now(UTC))
    served = Served()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Sites", (_Sites,), {"served": served}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    targets = [
        {
            "targets": [f"127.0.0.1:{server.server_port}"],
            "labels": {"__metrics_path__": f"/{site}", "instance": f"{site}:9789"},
        }
        for site in SITES
    ]
    scrapes = [{"job_name": "backupguard", "static_configs": targets}]
    try:
        with alertmanager(place / "alertmanager") as manager:
            where = {"static_configs": [{"targets": [f"127.0.0.1:{manager.port}"]}]}
            more = {
                "alerting": {"alertmanagers": [where]},
                "rule_files": [str(quick_rules(place))],
            }
            # Alertmanager forgets what it does not hear of again within four times as long.
            flags = ["--rules.alert.resend-delay=5s"]
            with prometheus(place / "prometheus", scrapes, more=more, flags=flags) as asked:
                yield _lived(asked, manager, served, texts)
    finally:
        server.shutdown()
        server.server_close()
        structlog.reset_defaults()


def _lived(
    asked: Prometheus, manager: Alertmanager, served: Served, texts: dict[str, bytes]
) -> Story:
    def serve(site: str, text: str) -> None:
        served.text[site] = texts[text].replace(b'site="CH"', f'site="{site}"'.encode())

    def firing(alert: str, site: str, severity: str = ".+") -> None:
        labels = f'alertname="{alert}",site="{site}",severity=~"{severity}",alertstate="firing"'
        asked.until(f"ALERTS{{{labels}}}", bool)

    for site in SITES:
        serve(site, WELL)
    asked.until("count(backupguard_build_info)", lambda found: found == [({}, len(SITES))])
    asked.judged()
    time.sleep(3)  # the longest wait of a group: what were to come would have come
    before = len(manager.told.all)
    manager.stop()
    serve(OUTAGE, OUTAGE)
    firing("BackupGuardEvidenceBroken", OUTAGE)
    time.sleep(2)
    manager.start()
    manager.until(lambda: bool(manager.told.of(OUTAGE)))
    # What follows of it comes days after it: by then it has long been told.
    serve(DEAD, UNREAD)
    serve(MISSING, UNTRIED)
    firing("BackupGuardCopiesUnseen", DEAD)
    firing("BackupGuardRepositoryUnavailable", DEAD)
    serve(DEAD, DEAD)
    serve(MISSING, MISSING)
    del served.text[SILENT]
    firing("BackupGuardSilent", SILENT, "critical")
    manager.until(lambda: ("page", "BackupGuardSilent") in [t[:2] for t in manager.told.of(SILENT)])
    manager.until(lambda: len(manager.told.of(DEAD)) > 0 and len(manager.told.of(MISSING)) > 0)
    time.sleep(4)  # more than an interval of a group
    known, told = manager.alerts(), Told(list(manager.told.all))
    manager.stop()
    manager.start()
    manager.until(lambda: len(manager.alerts()) >= len(known))
    time.sleep(6)
    once = {(one.site, one.receiver, one.alert) for one in told.all if one.firing}
    later = manager.told.all[len(told.all) :]
    doubled = [
        key for one in later if one.firing and (key := (one.site, one.receiver, one.alert)) in once
    ]
    return Story(before, told, known, told.of(OUTAGE), doubled)


def inhibited(story: Story, site: str) -> dict[str, int]:
    """Return how many alerts of a site were held back, by name."""
    found: dict[str, int] = {}
    for alert in story.known:
        if alert["labels"].get("site") == site and alert["status"]["inhibitedBy"]:
            name = alert["labels"]["alertname"].removeprefix("BackupGuard")
            found[name] = found.get(name, 0) + 1
    return found


def test_nobody_is_told_anything_while_all_is_well(story: Story) -> None:
    assert story.before == 0
    assert story.told.of(WELL) == []


def test_a_dead_repository_of_forty_applications_is_one_notification(story: Story) -> None:
    assert story.told.of(DEAD) == [("ticket", "BackupGuardRepositoryUnavailable", 1)]
    assert inhibited(story, DEAD)["JobFailed"] == COUNT


def test_a_missing_program_is_one_notification_and_holds_its_tests_back(story: Story) -> None:
    told = story.told.of(MISSING)
    assert [one for one in told if "Program" in one[1]] == [
        ("ticket", "BackupGuardProgramMissing", COUNT)
    ]
    silenced = {"RestoreTestOverdue", "RestoredDataInvalid", "RtoExceeded"}
    assert set(inhibited(story, MISSING)) == silenced
    assert silenced.isdisjoint(one[1].removeprefix("BackupGuard") for one in told)


def test_a_silent_daemon_is_a_ticket_then_a_page_and_nothing_else(story: Story) -> None:
    told = story.told.of(SILENT)
    assert [one[:2] for one in told] == [
        ("ticket", "BackupGuardSilent"),
        ("page", "BackupGuardSilent"),
    ]
    assert story.told.of(SILENT, firing=False) == []


def test_what_happened_while_alertmanager_was_down_is_told_once(story: Story) -> None:
    assert story.outage == [("page", "BackupGuardEvidenceBroken", 1)]
    assert story.doubled == []


def test_what_is_told_leads_to_its_runbook_in_both_languages(story: Story) -> None:
    for notification in story.told.all:
        for alert in notification.alerts:
            assert alert["annotations"]["runbook_url"] == (
                f"http://{notification.site}:9789/runbooks/{notification.alert}"
            )
            assert {"summary", "summary_fr"} <= set(alert["annotations"])
