"""Which mails are due: one per cause, once, and what each says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from backupguard.assess import Assessment, ProbePicture, TestPicture
from backupguard.assess.alerting import ALERTS, UNAVAILABLE, alert_of
from backupguard.language import Words
from backupguard.model import Fact, Finding, Message, Severity, Status, to_us
from backupguard.notify.causes import Cause, causes
from backupguard.notify.letters import Desk, letter
from backupguard.notify.notices import Ledger, alive, changes, grouped, notice, passed
from backupguard.resources import shipped
from backupguard.settings import Settings, load
from backupguard.settings.notify import Mail

NOW = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)
APPLICATIONS = 40


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return forty applications that are all saved in one repository, the first one elsewhere too."""
    directory = tmp_path_factory.mktemp("notices")
    lines = ['[site]\nname = "CH"', f'[store]\ndirectory = "{directory}"']
    lines += [
        f'[repositories.{name}]\ntype = "directory"\npath = "{directory}"'
        for name in ("nas", "tape")
    ]
    for number in range(APPLICATIONS):
        lines.append(f'[applications.a{number}]\nname = "A{number}"\ncriticality = "C1"')
        lines.append(f'[applications.a{number}.backups.nightly]\nrepository = "nas"\nevery = "24h"')
        lines.append('select.pattern = "x-%Y%m%d"')
    path = directory / "backupguard.toml"
    path.write_text("\n".join(lines))
    return load(path, environ={})


def mail(**changes: Any) -> Mail:
    values = {"host": "relay", "from": "b@ch.example", "to": ["dsi@ch.example"]}
    return Mail.model_validate(values | changes)


def finding(
    control: str,
    subject: str,
    severity: Severity = Severity.HIGH,
    since: datetime = NOW,
    status: Status = Status.NON_COMPLIANT,
) -> Finding:
    return Finding(
        control=control,
        subject=subject,
        status=status,
        severity=severity,
        reason=Message(id="reason.bug"),
        since=since,
    )


def assessment(*findings: Finding, at: datetime = NOW, **changes: Any) -> Assessment:
    made = Assessment(
        site="CH",
        language="fr",
        timezone="Europe/Paris",
        judged_at=at,
        head_seq=1,
        findings=findings,
        criticalities={},
        names={"repository/nas": "NAS"},
        titles={},
    )
    return replace(made, **changes)


def inventory(success: bool, repository: str = "nas") -> ProbePicture:
    return ProbePicture(
        probe="inventory",
        subject=f"repository/{repository}",
        interval_s=900,
        success=success,
        last_run_at=to_us(NOW),
    )


def told(found: Iterable[Cause]) -> list[str]:
    return [cause.key for cause in found if not cause.silent]


def recorded(events: Any, at: datetime, seq: int = 1) -> Fact:
    observation = notice(events, at)
    return Fact(seq=seq, recorded_at=at, run=None, author=None, hash=b"", observation=observation)


def late(count: int = APPLICATIONS) -> list[Finding]:
    return [finding("JOB-01", f"job/a{number}.nightly") for number in range(count)]


@pytest.mark.parametrize(("success", "expected"), [(False, 1), (True, APPLICATIONS)])
def test_one_dead_repository_is_one_cause(settings: Settings, success: bool, expected: int) -> None:
    since = {"repository/nas": to_us(NOW - timedelta(hours=2))}
    seen = assessment(*late(), probes=(inventory(success),))
    assert len(told(causes(seen, settings, since))) == expected


def test_a_repository_that_is_away_for_minutes_is_no_cause(settings: Settings) -> None:
    since = {"repository/nas": to_us(NOW - timedelta(minutes=10))}
    assert told(causes(assessment(*late(), probes=(inventory(False),)), settings, since)) == []


def test_what_was_wrong_before_and_what_failed_is_told_beside_a_dead_repository(
    settings: Settings,
) -> None:
    since = {"repository/nas": to_us(NOW - timedelta(hours=2))}
    failing = TestPicture(
        application="a1", engine="files", repository="nas", origin="observed", interval_s=1,
        last_failure_at=2, last_success_at=1,
    )  # fmt: skip
    found = causes(
        assessment(
            finding("INT-01", "repository/nas", since=NOW - timedelta(days=1)),
            finding("RST-01", "application/a1"),
            finding("RST-01", "application/a2"),
            finding("CFG-01", "site"),
            finding("INT-01", "repository/tape"),
            probes=(inventory(False),),
            tests=(failing,),
        ),
        settings,
        since,
    )
    assert sorted(told(found)) == [
        "CFG-01/site",
        "INT-01/repository/nas",
        "INT-01/repository/tape",
        "RST-01/application/a1",
        "unavailable/repository/nas",
    ]


@pytest.mark.parametrize(
    ("severity", "expected"),
    [(Severity.HIGH, ["JOB-01/job/a0.nightly"]), (Severity.CRITICAL, None)],
    ids=["the same", "worse"],
)
def test_a_late_job_speaks_for_the_rpo_unless_that_is_worse(
    settings: Settings, severity: Severity, expected: list[str] | None
) -> None:
    found = causes(
        assessment(*late(1), finding("PDM-01", "application/a0", severity)), settings, {}
    )
    assert told(found) == (expected or ["PDM-01/application/a0", "JOB-01/job/a0.nightly"])


def one(severity: Severity = Severity.HIGH, **more: Any) -> Cause:
    values = {
        "key": "INT-01/repository/nas",
        "alert": "BackupGuardIntegrityNotProven",
        "control": "INT-01",
        "subject": "repository/nas",
        "severity": severity,
        "reason": Message(id="reason.bug"),
        "since": to_us(NOW),
    }
    return Cause(**(values | more))  # type: ignore[arg-type]


def test_a_cause_is_told_once_reminded_of_and_ended() -> None:
    ledger, sent = Ledger(), []
    life: list[tuple[float, list[Cause]]] = [
        (0, [one()]),
        (0.1, [one()]),
        (1, [one(silent=True)]),
        (6.9, [one()]),
        (7, [one()]),
        (7.1, [one()]),
        (14, []),
        (14.1, []),
        (15, [one(since=to_us(NOW) + 1)]),
    ]
    for days, found in life:
        at = NOW + timedelta(days=days)
        for event in changes(found, ledger, mail(), at):
            ledger.read([recorded([event], at, len(sent) + 1)])
            sent.append((days, event["event"], event["opened_by"] is None))
    assert sent == [
        (0, "opened", True),
        (7, "reminder", False),
        (14, "ended", False),
        (15, "opened", True),
    ]


def test_what_gets_worse_is_told_and_what_matters_less_is_not() -> None:
    ledger = Ledger()
    assert changes([one(Severity.WARNING)], ledger, mail(), NOW) == ()
    (event,) = changes([one(Severity.HIGH)], ledger, mail(), NOW)
    ledger.read([recorded([event], NOW)])
    assert changes([one(Severity.WARNING)], ledger, mail(), NOW) == ()
    (event,) = changes([one(Severity.CRITICAL)], ledger, mail(), NOW)
    assert event["event"] == "worse"


def test_causes_of_one_control_are_one_mail_and_a_storm_is_one_mail() -> None:
    jobs = [one(key=f"JOB-01/{n}", control="JOB-01", subject=f"job/a{n}.x") for n in range(9)]
    events = changes([one(), *jobs], Ledger(), mail(), NOW)
    assert sorted(map(len, grouped(events, mail(), 20))) == [1, 9]
    assert list(map(len, grouped(events, mail(), 2))) == [10]
    apart = mail(**{"to-by-severity": {"critical": ["garde@ch.example"]}})
    events = changes([one(Severity.CRITICAL), *jobs], Ledger(), apart, NOW)
    assert sorted(map(len, grouped(events, apart, 1))) == [1, 9]


def test_what_came_and_went_while_no_mail_was_allowed_is_told() -> None:
    (event,) = changes([one()], Ledger(), mail(), NOW)
    (gone,) = passed({event["cause"]: event}, [])
    assert (gone["event"], gone["cause"]) == ("passed", "INT-01/repository/nas")
    assert passed({event["cause"]: event}, [event]) == []
    ledger = Ledger()
    ledger.read([recorded([gone], NOW)])
    assert changes([], ledger, mail(), NOW) == ()


def desk(language: str = "fr", **changes: Any) -> Desk:
    return Desk(
        mail=mail(url="https://backupguard.ch.example/", **changes),
        words=Words(language, "Europe/Paris"),
        site="CH\nBcc: x@y.example",
        store="store",
        names={"repository/nas": "NAS"},
        title=lambda control: f"Title of {control}",
        runbook=lambda alert: f"# {alert}\n\nTurn it on again.\n",
    )


@pytest.mark.parametrize("language", ["fr", "en"])
def test_a_letter_says_what_how_bad_since_when_and_what_to_do(language: str) -> None:
    events = changes([one(Severity.CRITICAL)], Ledger(), mail(), NOW)
    message, to = letter(recorded(events, NOW), desk(language))
    body = message.get_content()
    assert to == ("dsi@ch.example",)
    assert message["Bcc"] is None
    assert "\n" not in str(message["Subject"])
    assert "Title of INT-01, NAS" in str(message["Subject"])
    for said in (
        "repository/nas",
        Words(language).text("status.severity.critical"),
        Words(language, "Europe/Paris").time(NOW),
        "backupguard why INT-01 repository/nas",
        "https://backupguard.ch.example/runbooks/BackupGuardIntegrityNotProven",
        "Turn it on again.",
    ):
        assert said in body, body
    assert "mail." not in body.replace("mail.example", "")
    assert bytes(message) == bytes(letter(recorded(events, NOW), desk(language))[0])


@pytest.mark.parametrize("event", ["worse", "reminder", "ended", "passed"])
def test_a_later_letter_answers_the_first(event: str) -> None:
    (first,) = changes([one()], Ledger(), mail(), NOW)
    opening = recorded([first], NOW)
    later = {**first, "event": event, "opened_by": opening.observation.key}
    began, _ = letter(opening, desk())
    message, _ = letter(recorded([later], NOW), desk())
    assert message["In-Reply-To"] == began["Message-ID"]
    assert message["Message-ID"] != began["Message-ID"]
    assert ("Turn it on" in message.get_content()) == (event in ("worse", "reminder"))
    assert not re.search(r"mail\.[a-z]+\.", message["Subject"] + message.get_content())


def test_a_letter_of_many_says_how_many_and_hides_none_in_silence() -> None:
    many = [one(key=str(n), subject=f"job/a{n}.x", control="JOB-01") for n in range(60)]
    message, _ = letter(recorded(changes(many, Ledger(), mail(), NOW), NOW), desk())
    assert "60 objets" in str(message["Subject"])
    assert "Et 20 autres" in message.get_content()


def test_the_daily_mail_counts() -> None:
    counts = {status.value: 3 for status in Status}
    message, _ = letter(
        recorded([alive(NOW, {**counts, "judged_at": to_us(NOW)})], NOW), desk("en")
    )
    assert "3 non-compliant" in message.get_content()
    assert "the watch is kept" in str(message["Subject"])


def rules() -> dict[str, str]:
    text = (shipped("prometheus") / "backupguard.rules.yml").read_text(encoding="utf-8")
    return {
        rule["alert"]: rule["labels"].get("control", "")
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }


def test_the_alert_of_every_control_is_one_of_the_rules() -> None:
    shipped_rules = rules()
    for control, alert in ALERTS.items():
        assert shipped_rules[alert] == control
    assert UNAVAILABLE in shipped_rules
    seen = assessment()
    for control in ("RST-01", "PRV-01"):
        assert shipped_rules[str(alert_of(finding(control, "site"), seen))] == control
    assert set(shipped_rules.values()) - {""} <= {*ALERTS, "RST-01", "PRV-01"}
