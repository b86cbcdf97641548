"""Each way a policy or protection is weakened overnight, and the twin that only looks like it.

The host is a directory of configuration files; what is found goes through the real store and is
judged. Each case names CFG-01.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from backupguard.assess.history import History
from backupguard.assess.views import Views
from backupguard.controls import BUILT, load_catalogue
from backupguard.daemon.drift import plan_of
from backupguard.evidence.kinds import check_payload
from backupguard.language import Words
from backupguard.model import SITE, Criticality, Judgement, Severity, Status, to_us
from backupguard.runs import StoreKnown
from backupguard.settings import load
from backupguard.settings.differences import differences
from backupguard.testing import contexts
from probes import drift
from probes.discovery_host import Host, Process
from tests.unit.assess.conftest import CONFIGURATION, Hospital
from tests.unit.probes.discovering import SECRET, Answers, places, write

BORGMATIC = f"""\
source_directories:
    - /srv/dpi
    - /etc
repositories:
    - path: ssh://borg@nas.example/./dpi
    - path: ssh://borg:{SECRET}@far.example/./dpi
exclude_patterns:
    - '*.tmp'
encryption_passphrase: "{SECRET}"
keep_daily: 14
keep_monthly: 12
"""
PGBACKREST = """\
[global]
repo1-path=/backup/pg
repo1-retention-full=4
repo1-cipher-type=aes-256-cbc
[main]
pg1-path=/var/lib/postgresql/15/main
"""
BARMAN = "[barman]\nretention_policy = RECOVERY WINDOW OF 4 WEEKS\n[dpi]\nconninfo = host=db1\n"
DIRECTOR = """\
Job {
  Name = "dpi"
  Type = Backup
  Schedule = "Nightly"
}
Pool {
  Name = Full
  Volume Retention = 1 year
}
"""
CRON = "SHELL=/bin/sh\n0 2 * * * root restic -r /mnt/nas backup /srv\n30 3 * * * root borgmatic\n"
GROUP = "root:x:0:\nsudo:x:27:alice\nusers:x:100:bob\n"
PASSWD = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n"
SERVER = ("rest-server", "--path", "/srv/restic", "--append-only", "--listen", ":8000")
PROTECTION: dict[str, Any] = {
    "mechanism": "s3-object-lock",
    "mode": "compliance",
    "retention_ms": 30 * 86_400_000,
    "weaknesses": [],
    "bypass_holders": [],
    "unread": ["iam"],
    "settings": {"versioning": "enabled", "mfa-delete": False, "lifecycle": "none"},
    "points": [],
    "locked_until_at": None,
    "requests": {},
    "cost_micro_eur": None,
    "verdict": "passed",
    "code": None,
}
TIMER = (
    "Id=restic.service\nExecStart={ path=/x ; argv[]=/usr/bin/restic backup /srv ; pid=0 }\n\n"
    "Id=restic.timer\nActiveState=STATE\n"
    "TimersCalendar={ OnCalendar=WHEN ; next_elapse=(null) }\n"
)


@dataclass
class Guarded:
    """A host whose policies are looked at, and the hospital that judges what comes of it."""

    root: Path
    hospital: Hospital
    server: tuple[str, ...] = SERVER
    sees_all: bool = True
    timer: tuple[str, str] = ("active", "*-*-* 02:00:00")
    protection: dict[str, Any] = field(default_factory=lambda: dict(PROTECTION))

    def __post_init__(self) -> None:
        self.places = places(self.root)
        (self.root / "systemd/system").mkdir()
        etc = self.places.etc
        self.borgmatic = write(etc / "borgmatic/config.yaml", BORGMATIC)
        self.pgbackrest = write(etc / "pgbackrest/pgbackrest.conf", PGBACKREST)
        self.barman = write(etc / "barman.conf", BARMAN)
        self.director = write(etc / "bareos/bareos-dir.conf", DIRECTOR)
        self.cron = write(etc / "cron.d/dpi", CRON)
        self.group = write(etc / "group", GROUP)
        write(etc / "passwd", PASSWD)
        self.sudoers = write(etc / "sudoers.d/README", "").parent

    def look(self) -> list[str]:
        """Look once, an hour later; return the weakenings that were new."""
        self.hospital.pass_time(hours=1)
        self.hospital.record("protection.seen", "repository/nas", self.protection)
        state, when = self.timer
        shown = TIMER.replace("STATE", state).replace("WHEN", when).encode()
        files = [{"unit_file": "restic.timer", "state": "disabled"}]
        answers = {"list-unit-files": json.dumps(files).encode(), "list-timers": b"[]"}
        context = contexts.context(self.root, tools=Answers({**answers, "show": shown}))
        context.clock.set(self.hospital.now)
        known = StoreKnown(store=self.hospital.store)
        plan = replace(plan_of(self.hospital.settings, known), places=self.places, settle_s=0.0)
        processes = (Process(pid=7, name="rest-server", argv=self.server),) if self.server else ()
        host = Host(name="srv1", processes=processes, sees_all=self.sees_all)
        found = []
        for one in drift.look(SITE, plan, lambda: host, context):
            check_payload(one.kind, one.kind_version, one.data)
            assert SECRET not in json.dumps(one.data)
            self.hospital.record(one.kind, one.subject, one.data)
            if one.kind == "policy.changed":
                found += [item["weakening"] for item in one.data["changes"] if item["weakening"]]
        return found

    def judged(self) -> Judgement:
        """Judge CFG-01 alone, as an assessment does."""
        history = History(self.hospital.store)
        history.update()
        settings, now = self.hospital.settings, self.hospital.now
        view = Views(self.hospital.store, settings, history, now).of(SITE)
        return BUILT["CFG-01"].judge(view, load_catalogue().policy("CFG-01", Criticality.C1), now)

    def edit(self, path: Path, old: str, new: str) -> None:
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    structlog.reset_defaults()
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "nas").mkdir()
    (tmp_path / "tape").mkdir()
    file = tmp_path / "backupguard.toml"
    file.write_text(CONFIGURATION.replace("HERE", str(tmp_path)), encoding="utf-8")
    hospital = Hospital(load(file, environ={}))
    made = Guarded(tmp_path, hospital)
    assert made.look() == []
    yield made
    hospital.store.close()


Change = Callable[[Guarded], object]


def protect(**changed: Any) -> Change:
    def change(one: Guarded) -> None:
        one.protection |= changed

    return change


def serve(*argv: str) -> Change:
    def change(one: Guarded) -> None:
        one.server = argv

    return change


def time(state: str, when: str) -> Change:
    def change(one: Guarded) -> None:
        one.timer = (state, when)

    return change


SABOTAGES: dict[str, tuple[Change, set[str], Severity]] = {
    "retention halved overnight, borgmatic": (
        lambda one: one.edit(one.borgmatic, "keep_daily: 14", "keep_daily: 7"),
        {"retention_shortened"},
        Severity.CRITICAL,
    ),
    "retention halved overnight, S3": (
        protect(retention_ms=15 * 86_400_000),
        {"retention_shortened"},
        Severity.CRITICAL,
    ),
    "retention halved overnight, pgbackrest": (
        lambda one: one.edit(one.pgbackrest, "retention-full=4", "retention-full=2"),
        {"retention_shortened"},
        Severity.CRITICAL,
    ),
    "retention halved overnight, barman": (
        lambda one: one.edit(one.barman, "4 WEEKS", "14 DAYS"),
        {"retention_shortened"},
        Severity.CRITICAL,
    ),
    "retention halved overnight, bareos pool": (
        lambda one: one.edit(one.director, "1 year", "6 months"),
        {"retention_shortened"},
        Severity.CRITICAL,
    ),
    "a kept period dropped": (
        lambda one: one.edit(one.borgmatic, "keep_monthly: 12\n", ""),
        {"retention_shortened"},
        Severity.CRITICAL,
    ),
    "lock removed": (
        protect(
            mechanism="none",
            mode=None,
            retention_ms=None,
            weaknesses=[{"code": "no_lock", "values": {}}],
        ),
        {"lock_removed", "lock_weakened", "retention_shortened", "protection_weakened"},
        Severity.CRITICAL,
    ),
    "compliance turned into governance": (
        protect(mode="governance", bypass_holders=["arn:aws:iam::1:user/backup"]),
        {"lock_weakened", "admin_added"},
        Severity.CRITICAL,
    ),
    "versioning suspended": (
        protect(settings={**PROTECTION["settings"], "versioning": "suspended"}),
        {"versioning_suspended"},
        Severity.CRITICAL,
    ),
    "rest-server restarted without append-only": (
        serve("rest-server", "--path", "/srv/restic", "--listen", ":8000"),
        {"append_only_dropped"},
        Severity.CRITICAL,
    ),
    "rest-server restarted with append-only off and without passwords": (
        serve("/usr/bin/rest-server", "--append-only=false", "--no-auth", "--path=/srv/restic"),
        {"append_only_dropped", "authentication_off"},
        Severity.CRITICAL,
    ),
    "repository encryption off": (
        lambda one: one.edit(one.pgbackrest, "aes-256-cbc", "none"),
        {"encryption_off"},
        Severity.WARNING,
    ),
    "cron job commented out": (
        lambda one: one.edit(one.cron, "0 2 * * * root restic", "#0 2 * * * root restic"),
        {"job_disabled"},
        Severity.WARNING,
    ),
    "timer disabled": (time("inactive", "*-*-* 02:00:00"), {"job_disabled"}, Severity.WARNING),
    "timer made rarer": (
        time("active", "Sun *-*-* 02:00:00"),
        {"schedule_rarer"},
        Severity.WARNING,
    ),
    "job of a director disabled": (
        lambda one: one.edit(one.director, "Type = Backup", "Type = Backup\n  Enabled = no"),
        {"job_disabled"},
        Severity.WARNING,
    ),
    "job removed": (lambda one: one.borgmatic.unlink(), {"job_removed"}, Severity.WARNING),
    "schedule made rarer": (
        lambda one: one.edit(one.cron, "0 2 * * *", "0 2 * * 0"),
        {"schedule_rarer"},
        Severity.WARNING,
    ),
    "exclusion added": (
        lambda one: one.edit(one.borgmatic, "    - '*.tmp'", "    - '*.tmp'\n    - /srv/dpi"),
        {"exclusion_added"},
        Severity.WARNING,
    ),
    "source removed": (
        lambda one: one.edit(one.borgmatic, "    - /srv/dpi\n", ""),
        {"source_removed"},
        Severity.WARNING,
    ),
    "second place of copies removed": (
        lambda one: one.edit(
            one.borgmatic, f"    - path: ssh://borg:{SECRET}@far.example/./dpi\n", ""
        ),
        {"repository_removed"},
        Severity.WARNING,
    ),
    "admin added to a group": (
        lambda one: one.edit(one.group, "sudo:x:27:alice", "sudo:x:27:alice,bob"),
        {"admin_added"},
        Severity.WARNING,
    ),
    "admin added by a file of sudo's": (
        lambda one: write(one.sudoers / "zz-bob", "bob ALL=(ALL) NOPASSWD: ALL\n"),
        {"admin_added"},
        Severity.WARNING,
    ),
}

TWINS: dict[str, Change] = {
    "nothing": lambda _: None,
    "retention lengthened, borgmatic": lambda one: one.edit(
        one.borgmatic, "keep_daily: 14", "keep_daily: 28"
    ),
    "retention lengthened, S3": protect(retention_ms=60 * 86_400_000),
    "retention lengthened, pgbackrest": lambda one: one.edit(
        one.pgbackrest, "retention-full=4", "retention-full=8"
    ),
    "retention in other units": lambda one: one.edit(one.barman, "4 WEEKS", "28 DAYS"),
    "nothing pruned any more": lambda one: one.edit(
        one.borgmatic, "keep_daily: 14\nkeep_monthly: 12\n", ""
    ),
    "file written in another way": lambda one: one.borgmatic.write_text(
        "# Edited by hand\nkeep_monthly:   '12'\nkeep_daily: 14\n"
        "source_directories: [/etc, /srv/dpi]\nexclude_patterns: ['*.tmp']\n"
        "repositories:\n    - path: ssh://borg@far.example/./dpi\n"
        "    - path: ssh://borg@nas.example/./dpi\n".replace("borg@far", f"borg:{SECRET}@far"),
        encoding="utf-8",
    ),
    "key order": lambda one: one.edit(
        one.pgbackrest,
        "repo1-path=/backup/pg\nrepo1-retention-full=4\n",
        "; kept\nrepo1-retention-full = 4\nrepo1-path=/backup/pg\n",
    ),
    "exclusion removed": lambda one: one.edit(one.borgmatic, "    - '*.tmp'\n", "    []\n"),
    "crontab in another order, commented": lambda one: one.cron.write_text(
        "# 0 1 * * * root restic backup /example\n\n30 3 * * * root borgmatic\n"
        "0 2 * * * root restic -r /mnt/nas backup /srv\n",
        encoding="utf-8",
    ),
    "another hour": lambda one: one.edit(one.cron, "0 2 * * *", "15 4 * * *"),
    "timer more often": time("active", "*-*-* 00/6:00:00"),
    "new file of borgmatic's with its exclusions": lambda one: write(
        one.places.etc / "borgmatic.d/labo.yaml", BORGMATIC
    ),
    "administrator removed": lambda one: one.edit(one.group, "alice", ""),
    "file that sudo passes over": lambda one: write(one.sudoers / "bob.bak", "bob ALL=(ALL) ALL\n"),
    "somebody in another group": lambda one: one.edit(one.group, "100:bob", "100:bob,alice"),
    "rest-server with its options in another order": serve(
        "/opt/rest-server", "--append-only=true", "--path=/srv/restic"
    ),
    "rest-server stopped": serve(),
    "bypass holder removed": protect(bypass_holders=[]),
}


@pytest.mark.parametrize("name", sorted(SABOTAGES))
def test_a_weakening_names_cfg_01(guarded: Guarded, name: str) -> None:
    change, codes, severity = SABOTAGES[name]
    assert guarded.judged().status is Status.COMPLIANT
    change(guarded)
    assert set(guarded.look()) == codes
    finding = guarded.judged()
    assert finding.status is Status.NON_COMPLIANT
    assert finding.severity is severity
    assert finding.reason.id == "reason.CFG-01.weakened"
    assert str(finding.reason.values["what"]).removeprefix("@weakening.") in codes
    assert finding.facts
    for language in ("fr", "en"):
        said = Words(language).say(finding.reason)
        assert not any(mark in said for mark in ("weakening.", "reason.", "{", "@"))
    guarded.hospital.pass_time(days=20)
    guarded.look()
    assert guarded.judged().status is Status.NON_COMPLIANT, "it stands until somebody answers"


@pytest.mark.parametrize("name", sorted(TWINS))
def test_the_twin_stays_silent(guarded: Guarded, name: str) -> None:
    TWINS[name](guarded)
    assert guarded.look() == []
    assert guarded.judged().status is Status.COMPLIANT


def test_a_server_that_comes_back_without_append_only_is_compared_with_before(
    guarded: Guarded,
) -> None:
    guarded.server = ()
    guarded.look()
    guarded.server = ("rest-server", "--path", "/srv/restic")
    assert guarded.look() == ["append_only_dropped"]


def test_a_whole_assessment_says_it(guarded: Guarded) -> None:
    guarded.edit(guarded.borgmatic, "keep_daily: 14", "keep_daily: 7")
    guarded.look()
    finding = guarded.hospital.finding("CFG-01", SITE)
    assert (finding.status, finding.severity) == (Status.NON_COMPLIANT, Severity.CRITICAL)
    assert finding.reason == guarded.judged().reason


def test_undoing_a_weakening_ends_it(guarded: Guarded) -> None:
    guarded.edit(guarded.borgmatic, "keep_daily: 14", "keep_daily: 7")
    guarded.look()
    guarded.edit(guarded.borgmatic, "keep_daily: 7", "keep_daily: 10")
    assert guarded.look() == []
    assert guarded.judged().status is Status.NON_COMPLIANT, "ten is still less than fourteen"
    guarded.edit(guarded.borgmatic, "keep_daily: 10", "keep_daily: 14")
    assert guarded.look() == []
    assert guarded.judged().status is Status.COMPLIANT


@pytest.mark.parametrize("signed", [True, False])
def test_a_person_answers_for_it(guarded: Guarded, signed: bool) -> None:
    guarded.edit(guarded.group, "alice", "alice,bob")
    guarded.look()
    finding = guarded.judged()
    signature = {
        "person": "rssi",
        "key": "SHA256:x",
        "statement": "x",
        "armored": "x",
    }
    guarded.hospital.record(
        "attestation.made",
        SITE,
        {
            "topic": "change",
            "person": "rssi",
            "text": "Bob replaces Alice",
            "values": {"name": finding.facts[0]},
            "expires_at": to_us(guarded.hospital.now + timedelta(days=30)),
            "signature": signature if signed else None,
        },
    )
    answered = guarded.judged()
    assert answered.status is (Status.COMPLIANT if signed else Status.WARNING)
    guarded.edit(guarded.group, "alice,bob", "alice,bob,eve")
    guarded.look()
    assert guarded.judged().status is Status.NON_COMPLIANT, "the next one is another matter"


UNREADABLE: dict[str, Change] = {
    "half-written": lambda one: one.borgmatic.write_text(BORGMATIC[:60] + "[", encoding="utf-8"),
    "empty": lambda one: one.borgmatic.write_text("", encoding="utf-8"),
    "too large": lambda one: one.borgmatic.write_text("#" * (2 << 20), encoding="utf-8"),
    "its includes are gone": lambda one: one.borgmatic.write_text(
        "source_directories: !include gone.yaml\n", encoding="utf-8"
    ),
    "somebody else's link without end": lambda one: (
        one.borgmatic.unlink(),
        one.borgmatic.symlink_to(one.borgmatic),
    ),
}


@pytest.mark.parametrize("name", sorted(UNREADABLE))
def test_what_cannot_be_read_weakens_nothing_and_is_lost_from_sight(
    guarded: Guarded, name: str
) -> None:
    UNREADABLE[name](guarded)
    assert guarded.look() == []
    finding = guarded.judged()
    assert finding.reason.id == "reason.CFG-01.unread"
    assert finding.status is Status.NOT_MEASURABLE
    guarded.hospital.pass_time(hours=25)
    guarded.look()
    assert guarded.judged().status is Status.WARNING
    guarded.borgmatic.unlink(missing_ok=True)
    write(guarded.borgmatic, BORGMATIC.replace("keep_daily: 14", "keep_daily: 7"))
    assert guarded.look() == ["retention_shortened"], "it is compared with what was read before"


def test_one_unreadable_file_of_several_that_are_read_together_hides_all(guarded: Guarded) -> None:
    below = guarded.places.etc / "pgbackrest/conf.d/main.conf"
    write(below, "#" * (2 << 20))
    guarded.edit(guarded.pgbackrest, "repo1-retention-full=4\n", "")
    assert guarded.look() == []
    finding = guarded.judged()
    assert finding.reason.id == "reason.CFG-01.unread"
    assert finding.reason.values["where"] == f"pgbackrest {below}"[:120]
    below.unlink()
    guarded.edit(guarded.pgbackrest, "[main]", "repo1-retention-full=2\n[main]")
    assert guarded.look() == ["retention_shortened"]


def test_a_protection_that_cannot_be_read_any_more_is_no_lost_lock(guarded: Guarded) -> None:
    guarded.protection |= {"verdict": "could_not_verify", "code": "permission", "mechanism": "none"}
    assert guarded.look() == []
    assert guarded.judged().reason.id == "reason.CFG-01.unread"
    guarded.protection = PROTECTION | {
        "unread": ["iam", "lock-configuration"],
        "mode": None,
        "retention_ms": None,
    }
    assert guarded.look() == []
    assert guarded.judged().status is Status.COMPLIANT


def test_what_may_never_be_read_is_work_to_do(guarded: Guarded) -> None:
    path = guarded.places.etc / "borgmatic.d/labo.yaml"
    write(path, "x: [")
    guarded.look()
    finding = guarded.judged()
    assert (finding.status, finding.reason.id) == (
        Status.NOT_MEASURABLE,
        "reason.CFG-01.never_read",
    )


def test_a_file_that_is_being_written_is_read_again(guarded: Guarded) -> None:
    """The look sees the first half of a file; when it looks again, the rest is there."""
    guarded.borgmatic.write_text(BORGMATIC.partition("keep_daily")[0], encoding="utf-8")
    read, times = drift.read, []

    def reading(*arguments: Any) -> Any:
        found = read(*arguments)
        times.append(found)
        guarded.borgmatic.write_text(BORGMATIC, encoding="utf-8")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drift, "read", reading)
        assert guarded.look() == []
    assert guarded.look() == []


def test_nobody_looking_any_more_is_lost_from_sight(guarded: Guarded) -> None:
    assert guarded.judged().status is Status.COMPLIANT
    guarded.hospital.pass_time(hours=27)
    assert guarded.judged().reason.id == "reason.CFG-01.old"
    guarded.hospital.pass_time(days=3)
    assert guarded.judged().status is Status.NON_COMPLIANT


def test_a_disk_that_no_register_knows_is_named(guarded: Guarded) -> None:
    media = [{"device": "/dev/sdz1", "identity": "filesystem-uuid", "value": "x", "tool": "restic"}]
    guarded.hospital.record("media.unknown", SITE, {"media": media})
    finding = guarded.judged()
    assert finding.reason.id == "reason.CFG-01.unknown_medium"
    assert finding.status is Status.NON_COMPLIANT
    guarded.hospital.record("media.unknown", SITE, {"media": []})
    assert guarded.judged().status is Status.COMPLIANT


def reload(one: Guarded, old: str, new: str) -> None:
    """Have the configuration edited and loaded."""
    before = one.hospital.settings.dump()
    file = one.hospital.settings.files[0]
    one.edit(file, old, new)
    one.hospital.settings = load(file, environ={})
    one.hospital.pass_time(minutes=1)
    one.hospital.record(
        "configuration.loaded",
        SITE,
        {
            "sha256": "0" * 64,
            "catalogue_sha256": "0" * 64,
            "program_version": "0",
            "files": [str(file)],
            "differences": differences(before, one.hospital.settings.dump()),
        },
    )


BACKUP = (
    '[applications.dpi.backups.weekly]\nrepository = "tape"\n'
    'select.pattern = "dpi-%Y%m%d.dump"\nevery = "7d"\n'
)


def test_a_config_edit_that_removes_an_applications_backup(guarded: Guarded) -> None:
    reload(guarded, BACKUP, "")
    finding = guarded.judged()
    assert finding.status is Status.NON_COMPLIANT
    assert finding.reason.values["what"] == "@weakening.job_removed"
    reload(guarded, "[applications.labo]", BACKUP + "[applications.labo]")
    assert guarded.judged().status is Status.COMPLIANT, "it is back as it was"


def test_a_config_edit_that_asks_for_more_is_silent(guarded: Guarded) -> None:
    reload(guarded, 'rpo = "24h"', 'rpo = "12h"')
    assert guarded.judged().status is Status.COMPLIANT
    reload(guarded, 'rpo = "12h"', 'rpo = "24h"')
    assert guarded.judged().reason.values["what"] == "@weakening.asks_less"
