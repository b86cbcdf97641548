"""Offline disks, each wrong in one way: OFF-01 must say so, and the clean twin is compliant.

The disks are real ext4 images, attached by being there, and read by an ordinary user.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backupguard import settings
from backupguard.metrics import render
from backupguard.model import Finding, Severity, Status, Verdict
from tests.sabotage.offline_site import DAY, HOUR, MINUTE, Disk, OfflineSite, made


@pytest.fixture
def site(tmp_path: Path) -> Iterator[OfflineSite]:
    one = made(tmp_path)
    yield one
    one.store.close()


def accused(found: Finding, reason: str, severity: Severity = Severity.CRITICAL) -> None:
    assert (found.status, found.reason.id) == (Status.NON_COMPLIANT, f"reason.OFF-01.{reason}")
    assert found.severity is severity


def test_clean_twin_read_here_seen_gone_declared_out_and_out_of_reach(site: OfflineSite) -> None:
    site.ritual(site.a)
    found = site.finding()
    assert (found.status, found.reason.id) == (Status.COMPLIANT, "reason.OFF-01.away")
    assert found.reason.values["medium"] == "usb-a"
    assert len(found.facts) == 3  # seen gone, declared, read
    text = render(site.assess()).decode()
    assert 'offline_medium_connected{site="CH des essais",medium_id="usb-a"} 0' in text
    copy = (
        'offline_copy_timestamp_seconds{site="CH des essais",application="dpi",medium_id="usb-a"}'
    )
    assert (
        f"{copy} {int((site.now - HOUR - 12 * MINUTE).timestamp()) // 60 * 60}" in text
        or copy in text
    )


def test_while_it_is_attached_its_copy_is_read_and_it_is_told_when_it_may_leave(
    site: OfflineSite,
) -> None:
    site.a.write(site.now - HOUR)
    site.a.attach()
    assert site.look().verdict is Verdict.PASSED
    row = site.medium("usb-a")
    assert (row["where"], row["may_leave"]) == ("attached", True)
    assert row["copies"][0]["verdict"] == "passed"
    assert site.finding().reason.id == "reason.OFF-01.attached"


def test_disk_left_attached(site: OfflineSite) -> None:
    site.a.write(site.now - HOUR)
    site.a.attach()
    site.look()
    site.look(11 * HOUR)
    assert site.finding().status is Status.WARNING
    site.look(2 * HOUR)
    accused(site.finding(), "left_attached")


def test_with_another_copy_away_a_disk_left_attached_wakes_nobody(site: OfflineSite) -> None:
    site.ritual(site.b)
    site.a.write(site.now - HOUR)
    site.a.attach()
    site.look()
    assert site.finding().status is Status.COMPLIANT
    site.look(13 * HOUR)
    site.vantage()
    accused(site.finding(), "left_attached", Severity.WARNING)


def test_disk_swapped_for_another(site: OfflineSite) -> None:
    other = Disk(root=site.root, name="other")
    other.write(site.now - HOUR)
    site.a.attached.parent.mkdir()
    other.drawer.rename(site.a.attached)
    assert site.look().verdict is Verdict.FAILED
    accused(site.finding(), "swapped")
    assert not site.medium("usb-a")["copies"]  # what is on somebody else's disk is not ours


def test_disk_whose_newest_point_is_old(site: OfflineSite) -> None:
    site.ritual(site.a, newest=site.now - 8 * DAY)
    accused(site.finding(), "stale", Severity.HIGH)
    assert site.medium("usb-a")["may_leave"] is False


def test_disk_whose_newest_point_grows_old_in_the_safe(site: OfflineSite) -> None:
    site.ritual(site.a)
    site.look(6 * DAY)
    site.vantage()
    assert site.finding().status is Status.COMPLIANT
    site.look(30 * HOUR)  # the rotation is late by less than a day and what a disk may stay
    site.vantage()
    due = site.finding()
    assert (due.status, due.reason.id) == (Status.WARNING, "reason.OFF-01.stale")
    site.look(2 * DAY)
    accused(site.finding(), "stale", Severity.HIGH)
    site.look(7 * DAY)
    accused(site.finding(), "stale")


def test_disk_whose_data_is_corrupt(site: OfflineSite) -> None:
    site.a.write(site.now - HOUR, damaged=True)
    site.a.attach()
    assert site.look().verdict is Verdict.FAILED
    accused(site.finding(), "corrupt")
    assert site.finding("INT-01", "repository/on-a").status is Status.NON_COMPLIANT
    site.a.detach()
    site.say("out", "usb-a")
    site.look(HOUR)
    site.vantage()
    accused(site.finding(), "corrupt")  # it is not healed by being taken away


def test_out_declared_and_still_attached(site: OfflineSite) -> None:
    site.a.write(site.now - HOUR)
    site.a.attach()
    site.look()
    site.now += MINUTE
    site.say("out", "usb-a")
    site.look(MINUTE)
    assert site.finding().status is Status.WARNING  # the disk is being unplugged
    site.look(2 * HOUR)
    accused(site.finding(), "still_attached")


def test_absent_and_nobody_said_where_it_went(site: OfflineSite) -> None:
    site.a.write(site.now - HOUR)
    site.a.attach()
    site.look()
    site.a.detach()
    site.look(HOUR)
    site.vantage()
    found = site.finding()
    assert (found.status, found.reason.id) == (Status.WARNING, "reason.OFF-01.undeclared")
    site.look(DAY)
    accused(site.finding(), "undeclared")
    site.say("out", "usb-a")
    site.vantage()
    assert site.finding().status is Status.COMPLIANT


def test_an_exit_declared_long_before_proves_nothing_of_today(site: OfflineSite) -> None:
    site.ritual(site.a)
    site.now += DAY
    site.a.write(site.now - HOUR)
    site.a.attach()
    site.look()
    site.a.detach()
    site.look(25 * HOUR)
    accused(site.finding(), "undeclared")


def test_a_disk_that_came_and_went_again_with_nothing_new_on_it(site: OfflineSite) -> None:
    site.ritual(site.a)
    site.now += 5 * HOUR
    site.a.attach()
    site.look()
    site.a.detach()
    site.look()
    site.vantage()
    assert site.finding().reason.id == "reason.OFF-01.undeclared"
    site.say("out", "usb-a")
    site.look()
    site.vantage()
    assert site.finding().status is Status.COMPLIANT


def test_out_declared_of_a_disk_that_was_never_read(site: OfflineSite) -> None:
    site.say("out", "usb-a")
    site.look(HOUR)
    site.vantage()
    found = site.finding()
    assert (found.status, found.reason.id) == (Status.NOT_MEASURABLE, "reason.OFF-01.not_yet")
    site.look(8 * DAY)
    accused(site.finding(), "never_seen")


def test_virtual_tape_library_is_never_offline(site: OfflineSite, tmp_path: Path) -> None:
    configuration = tmp_path / "backupguard.toml"
    text = configuration.read_text()
    vtl = '[media.usb-a]\nkind = "vtl"\nlibrary = "/dev/sg9"\nbarcode = "V00001"\n'
    first = text.index("[media.usb-a]")
    configuration.write_text(text[:first] + vtl + text[text.index("[media.usb-b]") :])
    site.ritual(site.a)
    site.settings = settings.load(configuration)
    assert site.settings.repositories["on-a"].medium_kind == "vtl"
    accused(site.finding(), "vtl")


def test_not_brought_back_when_it_was_due(site: OfflineSite) -> None:
    site.ritual(site.a)
    site.now += 5 * DAY
    site.ritual(site.b)
    site.look(4 * DAY)
    site.vantage()
    accused(site.finding(), "not_brought", Severity.WARNING)


def test_a_store_said_to_be_offline_answers(site: OfflineSite) -> None:
    site.ritual(site.a)
    site.vantage(outcome="open")
    accused(site.finding(), "answers", Severity.WARNING)


def test_without_a_look_from_production_nothing_is_measured(site: OfflineSite) -> None:
    site.a.write(site.now - HOUR)
    site.a.attach()
    site.look()
    site.a.detach()
    site.say("out", "usb-a")
    site.look()
    found = site.finding()
    assert (found.status, found.reason.id) == (Status.NOT_MEASURABLE, "reason.OFF-01.no_vantage")
    site.vantage(witness=False)  # a dead uplink looks like an air gap
    assert site.finding().status is Status.NOT_MEASURABLE
    site.vantage()
    assert site.finding().status is Status.COMPLIANT
    site.look(27 * HOUR)
    found = site.finding()
    assert (found.status, found.reason.id) == (
        Status.NOT_MEASURABLE,
        "reason.OFF-01.vantage_silent",
    )


# ------------------------------------------------------------------------- what is away is no failure


def test_while_its_medium_is_away_no_other_control_cries_wolf(site: OfflineSite) -> None:
    site.ritual(site.a)
    site.ritual(site.b)
    before = {
        (control, subject): site.finding(control, subject).status
        for control, subject in (
            ("JOB-01", "job/dpi.a"),
            ("PDM-01", "application/dpi"),
            ("INT-01", "repository/on-a"),
            ("RST-01", "application/dpi"),
        )
    }
    for _ in range(3):
        site.now += DAY
        assert site.perform("inventory").code == "medium_away"
        assert site.perform("integrity", "repository/on-a").verdict is Verdict.SKIPPED
        assert site.perform("restore-test", "application/dpi").verdict is Verdict.SKIPPED
        assert site.perform("immutability", "repository/on-a").verdict is Verdict.SKIPPED
        site.look()
        site.vantage()
    for (control, subject), status in before.items():
        assert site.finding(control, subject).status is status, control
    assert before["JOB-01", "job/dpi.a"] is Status.COMPLIANT


def test_a_job_whose_interval_has_passed_is_lost_from_sight_and_says_why(
    site: OfflineSite,
) -> None:
    site.ritual(site.a)
    site.now += 8 * DAY
    site.perform("inventory")
    found = site.finding("JOB-01", "job/dpi.a")
    assert found.reason.id == "reason.unseen"
    assert found.reason.values["code"] == "@code.medium_away"


def test_nothing_new_is_recorded_of_a_disk_that_stays_where_it_is(site: OfflineSite) -> None:
    site.ritual(site.a)
    head, _ = site.store.head()
    for _ in range(3):
        site.look()
    recorded = [fact.observation.kind for fact in site.store.facts(after=head)]
    assert recorded == []


def test_the_image_and_the_host_are_left_as_they_were(site: OfflineSite) -> None:
    site.a.write(site.now - HOUR)
    site.a.attach()
    before = (site.a.attached.read_bytes(), site.a.attached.stat().st_mtime_ns)
    site.look()
    site.perform("inventory")
    assert (site.a.attached.read_bytes(), site.a.attached.stat().st_mtime_ns) == before
    assert not list(site.settings.runs_directory.glob("*"))


def test_a_vault_is_there_while_its_repository_answers(site: OfflineSite, tmp_path: Path) -> None:
    site.a.write(site.now - HOUR)
    store = tmp_path / "vault"
    dumps = next(tmp_path.glob("content-*/dumps"))
    text = (tmp_path / "backupguard.toml").read_text()
    first = text.index("[media.usb-a]")
    vault = '[media.usb-a]\nkind = "vault"\nmay-stay = "2h"\n' + text[text.index("[media.usb-b]") :]
    vault = vault.replace('path = "{medium}/dumps"', f'path = "{store}"', 1)
    (tmp_path / "backupguard.toml").write_text(text[:first] + vault)
    site.settings = settings.load(tmp_path / "backupguard.toml")
    dumps.rename(store)  # somebody opens the network to it
    assert site.look().verdict is Verdict.PASSED
    assert site.medium("usb-a")["copies"][0]["verdict"] == "passed"
    store.rename(tmp_path / "closed")
    site.look()
    assert site.perform("inventory").code == "medium_away"
    site.say("out", "usb-a")
    site.vantage()
    assert site.finding().status is Status.COMPLIANT
    (tmp_path / "closed").rename(store)
    site.look(MINUTE)
    site.look(3 * HOUR)
    accused(site.finding(), "left_attached")
