"""The recovery plan: exact points, production commands only, what was never tested is marked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.contracts import Store
from backupguard.errors import AccessRefused, Unreachable
from backupguard.language import LANGUAGES, Words, catalogue
from backupguard.model import Listing, Observation, RecoveryPoint, to_us
from backupguard.reports import production
from backupguard.reports.plan import RecoveryPlan, as_json, recovery_plan
from backupguard.reports.plan_issue import file_name, issue_plan, write_plan
from backupguard.reports.runbook import runbook
from backupguard.settings import Settings, load
from backupguard.store import open_store

NOW = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
SNAPSHOT = "0123456789abcdef" * 4
#: What makes a restore test quick and must never reach production, or would open it to anybody.
OF_THE_SANDBOX = re.compile(
    r"fsync|nosync|no-sync|/scratch|trust|synchronous|full_page_writes|wal_level|skip-networking"
    r"|skip-grant|bwrap|doublewrite|bypass-lock|no-lock|-o dbnosync|/in/|slapadd -q",
    re.IGNORECASE,
)
REPOSITORIES = """
[site]
name = "CH de Belle-Rive"
[store]
directory = "state"
[repositories.nas]
type = "restic"
url = "rest:https://nas.example/dpi"
credentials.reader.file = "/etc/backupguard/credentials/nas"
credentials.backend.credential = "nas-access"
credentials.escrow.file = "/mnt/coffre/nas.key"
[repositories.coffre]
type = "borg"
url = "ssh://backup@coffre.example/srv/borg"
credentials.reader.file = "/etc/backupguard/credentials/coffre"
[repositories.pg]
type = "pgbackrest"
path = "/srv/pgbackrest"
[repositories.barman]
type = "barman"
[repositories.exports]
type = "directory"
path = "/srv/exports"
[repositories.cloud]
type = "s3"
bucket = "dumps"
endpoint = "https://s3.example"
credentials.reader.file = "/etc/backupguard/credentials/cloud"
[repositories.bandes]
type = "import"
source = "NetBackup"
file = "/srv/export.csv"
columns = { job = "Policy", at = "Start" }
"""
APPLICATION = """
[applications.{name}]
name = "Application {name}"
criticality = "{criticality}"
rto = "4h"
{more}
[applications.{name}.backups.nightly]
repository = "{repository}"
every = "24h"
{select}
"""
SELECTS = {
    "nas": 'select.paths = ["/var/backups/app.dump"]',
    "coffre": 'select.paths = ["/var/backups/app.dump"]',
    "pg": 'select.name = "dpi"',
    "barman": 'select.name = "dpi"',
    "exports": 'select.pattern = "app-%Y%m%d.dump"',
    "cloud": 'select.pattern = "app-%Y%m%d.dump"',
    "bandes": 'select.name = "DPI"',
}
POINTS: dict[str, dict[str, Any]] = {
    "nas": {"native_id": SNAPSHOT},
    "coffre": {"native_id": "ab" * 32, "extra": {"name": "dpi-2026-06-15"}},
    "pg": {"native_id": "20260615-020000F", "extra": {"postgresql": "15"}},
    "barman": {"native_id": "20260615T020000", "extra": {"postgresql": "15"}},
    "exports": {"native_id": "app-20260615.dump"},
    "cloud": {"native_id": "app-20260615.dump@v1"},
    "bandes": {"native_id": "DPI-1"},
}
STEP = '{ name = "serveur | `licence`", duration = "90m", source = "exercice 2026" }'
STEPS = f"recovery.steps = [{STEP}]"


def application(name: str, repository: str, more: str = STEPS, criticality: str = "C1") -> str:
    return APPLICATION.format(
        name=name,
        criticality=criticality,
        more=more,
        repository=repository,
        select=SELECTS[repository],
    )


Made = Callable[..., tuple[Store, Settings]]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    stores: list[Store] = []

    def make(*applications: str, head: str = "") -> tuple[Store, Settings]:
        (tmp_path / "state").mkdir(mode=0o700)
        file = tmp_path / "backupguard.toml"
        file.write_text(REPOSITORIES + head + "".join(applications), encoding="utf-8")
        settings = load(file, environ={}, check_secrets=False)
        store = open_store(settings.state_directory, now=lambda: NOW)
        stores.append(store)
        for name, owner in settings.applications.items():
            for job, backup in owner.backups.items():
                listed(store, f"{name}.{job}", backup.repository)
        return store, settings

    yield make
    for store in stores:
        store.close()


def listed(store: Store, job: str, repository: str) -> None:
    at = NOW - timedelta(hours=10)
    point = RecoveryPoint(
        **{
            "repository": repository,
            "job": job,
            "at": at,
            "covers_until": at,
            "bytes": 2_000_000,
            **POINTS[repository],
        }
    )
    listing = Listing(repository=repository, jobs=(job,), points=(point,), observed_at=NOW)
    store.merge_listing(listing, run=None)


def record_test(
    store: Store, name: str, repository: str, engine: str = "postgresql", **changed: Any
) -> None:
    took = {"fetch": 60_000, "load": 120_000, "open": 5_000}
    data = {
        "application": name,
        "engine": engine,
        "repository": repository,
        "point": "p",
        "point_at": to_us(NOW),
        "target_at": None,
        "verdict": "passed",
        "code": None,
        "level": 3,
        "phases": [
            {"phase": phase, "verdict": "passed", "duration_ms": ms, "code": None}
            for phase, ms in took.items()
        ],
        "checks": [],
        "checks_configured": 1,
        "baseline_accepted": True,
        "data_loss_ms": None,
        "freshness_heuristic_at": None,
        "bytes": 2_000_000,
        "duration_ms": 185_000,
        "fingerprint": None,
        "tools": {"restic": "0.18.0", "postgresql": "15.8"},
    }
    observation = Observation(
        kind="restore-test.result",
        subject=f"application/{name}",
        observed_at=NOW - timedelta(days=1),
        data=data | changed,
        key=f"test/{name}/{repository}",
    )
    store.append([observation])


def said(plan: RecoveryPlan, language: str = "fr") -> str:
    return runbook(plan, Words(language, "Europe/Paris"))


def test_a_page_has_the_exact_point_its_size_its_keys_and_its_measured_times(made: Made) -> None:
    store, settings = made(application("dpi", "nas"))
    record_test(store, "dpi", "nas")
    text = said(recovery_plan(store, settings, NOW))
    assert f"restic restore {SNAPSHOT} --target" in text
    for expected in (
        "2 Mo",
        "restic 0.18.0",
        "postgresql 15.8",
        "/mnt/coffre/nas.key",
        "nas-access",
    ):
        assert expected in text
    assert "1 h 34 min" in text  # 90 min, 60 s, 198 s with durable writes, 5 s
    assert "exercice 2026" in text
    assert "serveur \\| \\`licence\\`" in text
    assert text.count("[restauré depuis ce dépôt le 14 juin 2026") == 2


def test_a_copy_of_sql_server_is_restored_beside_what_stands(made: Made) -> None:
    store, settings = made(application("dpi", "nas"))
    record_test(store, "dpi", "nas", "instance")
    copy = recovery_plan(store, settings, NOW).applications[0].copies[0]
    fetched = production.Fetched(commands=(), artifacts=('"$RESTORE"/dpi.bak',))
    odd = production.Copy(
        repository="nas", settings=settings.repositories["nas"], point=copy.point, paths=(),
        name=None, database="D'P]I", version="15",
    )  # fmt: skip
    lines = production.load("instance", fetched, odd)
    assert lines is not None
    assert "RESTORE DATABASE [D'\\''P]]I]" in "\n".join(lines).replace("'\"'\"'", "'\\''")
    assert "REPLACE" not in " ".join(lines)
    archive = production.Fetched(commands=(), artifacts=('"$RESTORE"/dpi.dump',))
    assert any("pg_restore" in line for line in production.load("instance", archive, odd) or ())


def test_what_was_never_tested_says_so(made: Made) -> None:
    store, settings = made(application("dpi", "nas", more=""))
    plan = recovery_plan(store, settings, NOW)
    assert "[restauré" not in said(plan)
    assert said(plan).count("[non testé]") >= 3
    assert said(plan, "en").count("[not tested]") >= 3
    assert "Étapes manuelles non déclarées" in said(plan)
    assert plan.applications[0].back.missing == ("steps", "test")
    assert f"restic restore {SNAPSHOT}" in said(plan)


@pytest.mark.parametrize(
    "engine", ["postgresql", "mariadb", "sqlite", "openldap", "files", "instance", "odd"]
)
def test_no_tuning_of_the_sandbox_reaches_production(made: Made, engine: str) -> None:
    store, settings = made(*(application(name, name) for name in POINTS))
    for name in POINTS:
        record_test(store, name, name, engine)
    plan = recovery_plan(store, settings, NOW)
    for language in LANGUAGES:
        assert not OF_THE_SANDBOX.search(said(plan, language))
    for planned in plan.applications:
        (copy,) = planned.copies
        commands = [*copy.before, *copy.fetch, *copy.load]
        assert bool(commands) == (copy.repository != "bandes")
        assert not [line for line in commands if "None" in line or not line.isprintable()]


def test_the_search_for_tuning_would_find_it() -> None:
    for tuned in ("postgres -c fsync=off", "initdb --auth=trust", "mkdir /scratch", "dbnosync"):
        assert OF_THE_SANDBOX.search(tuned)


def test_no_sentence_of_the_plan_speaks_of_tuning() -> None:
    for language in LANGUAGES:
        for name, sentence in catalogue(language).items():
            if name.startswith("plan."):
                assert not OF_THE_SANDBOX.search(sentence), name


def test_a_name_that_means_harm_to_a_shell_stays_one_word() -> None:
    hostile = "a b'; rm -rf $HOME #\n.dump"
    word = production.quoted(hostile)
    assert "\n" not in word
    assert word.startswith("$'")
    assert production.quoted("x; rm -rf /") == "'x; rm -rf /'"


def test_the_order_the_critical_path_and_who_is_late(made: Made) -> None:
    late = 'recovery.steps = [{ name = "serveur", duration = "5h" }]'
    store, settings = made(
        application("dpi", "nas", more=f'{STEPS}\ndepends-on = ["annuaire"]'),
        application("annuaire", "exports", more=late, criticality="C3"),
    )
    record_test(store, "dpi", "nas")
    record_test(store, "annuaire", "exports", "openldap")
    plan = recovery_plan(store, settings, NOW)
    assert [one.back.application for one in plan.applications] == ["annuaire", "dpi"]
    told = as_json(plan)
    assert told["critical_path"] == ["annuaire", "dpi"]
    assert told["late"] == ["annuaire", "dpi"]
    assert "manque sa DMIA" in said(plan)
    assert "Application annuaire → Application dpi" in said(plan)


def test_one_application_is_printed_alone(made: Made) -> None:
    store, settings = made(application("dpi", "nas"), application("labo", "exports"))
    plan = recovery_plan(store, settings, NOW)
    text = runbook(plan, Words("en"), "labo")
    assert "/srv/exports/app-20260615.dump" in text
    assert SNAPSHOT not in text


def test_it_is_written_in_both_languages_and_recorded_with_its_hash(
    made: Made, tmp_path: Path
) -> None:
    target = tmp_path / "coffre"
    target.mkdir()
    store, settings = made(
        application("dpi", "nas"), head='\n[plan]\ndirectory = "coffre"\nevery = "7d"\n'
    )
    assert settings.plan.directory == target
    facts = store.append(issue_plan(store, settings, target, NOW))
    assert [fact.observation.kind for fact in facts] == ["plan.issued"] * 2
    for fact, language in zip(facts, LANGUAGES, strict=True):
        content = (target / file_name(language)).read_bytes()
        assert fact.observation.data["sha256"] == hashlib.sha256(content).hexdigest()
        assert fact.observation.data["configured"]
        assert fact.observation.data["same_device"]  # both lie below one directory here
    assert sorted(path.name for path in target.iterdir()) == sorted(map(file_name, LANGUAGES))


def test_a_share_that_is_not_mounted_is_refused_and_never_made(made: Made, tmp_path: Path) -> None:
    store, settings = made(application("dpi", "nas"))
    plan = recovery_plan(store, settings, NOW)
    with pytest.raises(Unreachable) as raised:
        write_plan(plan, tmp_path / "absent")
    assert raised.value.code == "not_found"
    assert not (tmp_path / "absent").exists()
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(AccessRefused):
        write_plan(plan, closed)
