"""321-01 with real disks: an offline copy counts when it is proved away, and not in words only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backupguard import settings
from backupguard.model import Finding, Status
from tests.sabotage.offline_site import DAY, HOUR, OfflineSite, made

#: Both disks in domains of their own, one of them kept elsewhere.
_DECLARED = 'failure-domain = "{domain}"\ndeclared-by = "DSI"\ndeclared-on = {day:%Y-%m-%d}\n'


@pytest.fixture
def site(tmp_path: Path) -> Iterator[OfflineSite]:
    one = made(tmp_path)
    file = tmp_path / "backupguard.toml"
    text = file.read_text()
    for name, more in (("on-a", "off-site = true\n"), ("on-b", "")):
        declared = _DECLARED.format(domain=f"coffre/{name}", day=one.now - 30 * DAY)
        text = text.replace(f"[repositories.{name}]\n", f"[repositories.{name}]\n{declared}{more}")
    text = text.replace('rpo = "7d"', 'rpo = "7d"\nfailure-domain = "salle-1"')
    file.write_text(text)
    one.settings = settings.load(file)
    # Both disks are filled, listed and put away, one after the other.
    for disk in (one.a, one.b):
        disk.write(one.now - HOUR)
        disk.attach()
        one.look()
        one.perform("inventory")
        disk.detach()
        one.say("out", disk.name)
        one.look()
    one.vantage()
    yield one
    one.store.close()


def judged(site: OfflineSite) -> Finding:
    return site.finding("321-01")


def test_clean_twin_two_disks_proved_away(site: OfflineSite) -> None:
    found = judged(site)
    assert (found.status, found.reason.id) == (Status.COMPLIANT, "reason.321-01.kept")
    assert found.reason.values["offline"] == "on-a, on-b"


def test_clean_twin_one_of_them_attached_within_its_window(site: OfflineSite) -> None:
    site.b.attach()
    site.look()
    found = judged(site)
    assert found.status is Status.COMPLIANT
    assert found.reason.values["offline"] == "on-a"


def test_declared_offline_and_left_attached(site: OfflineSite) -> None:
    for disk in (site.a, site.b):
        disk.attach()
    site.look()
    found = judged(site)
    assert (found.status, found.reason.id) == (Status.WARNING, "reason.321-01.offline_declared")
    site.look(13 * HOUR)
    found = judged(site)
    assert (found.status, found.reason.id) == (
        Status.NON_COMPLIANT,
        "reason.321-01.offline_reached",
    )


def test_declared_offline_and_answering(site: OfflineSite) -> None:
    site.vantage(outcome="open")
    found = judged(site)
    assert found.reason.id == "reason.321-01.offline_reached"


def test_absent_and_nobody_said_where_it_went(site: OfflineSite) -> None:
    site.now += 5 * HOUR  # long enough after the last time it was said
    for disk in (site.a, site.b):
        disk.attach()
    site.look()
    for disk in (site.a, site.b):
        disk.detach()
    site.look()
    found = judged(site)
    assert (found.status, found.reason.id) == (Status.WARNING, "reason.321-01.offline_declared")
