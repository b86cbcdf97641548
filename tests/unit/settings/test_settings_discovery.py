"""[discovery], [reference] and `covers` in the file; the proposal that `config check` accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backupguard.daemon.discovery import plan_of
from backupguard.errors import ConfigurationError
from backupguard.model import is_id
from backupguard.settings import Settings, load
from backupguard.settings.differences import weakens
from backupguard.settings.proposal import identifier, proposal

BASE = """
[site]
name = "Essai"
[repositories.nas]
type = "directory"
path = "/srv/x"
[applications.dpi]
name = "DPI"
aliases = ["ORBIS"]
criticality = "C1"
[applications.dpi.backups.nightly]
repository = "nas"
select.host = "srv-dpi"
every = "24h"
covers = ["postgresql://srv-db1/dpi", "mysql://localhost/*"]
[discovery]
roles.postgresql = "lecteur"
sqlite = ["/srv/labo/*.sqlite3"]
[discovery.servers.db2]
engine = "mysql"
host = "db2.example"
user = "lecteur"
credentials.reader.credential = "db2"
[[discovery.ignore]]
pattern = "postgresql://*/test_*"
reason = "essais"
until = 2026-12-31
[reference]
file = "cmdb.csv"
columns = { name = "Nom", kind = "Type", date = "Le" }
kinds = ["Application"]
dated = "column"
max-age = "40d"
"""


def written(directory: Path, text: str) -> Settings:
    file = directory / "backupguard.toml"
    file.write_text(text, encoding="utf-8")
    return load(file, environ={})


def test_everything_reaches_the_probe(tmp_path: Path) -> None:
    plan = plan_of(written(tmp_path, BASE))
    assert [str(one) for one in plan.jobs[0].covers] == [
        "postgresql://srv-db1/dpi",
        "mariadb://localhost/*",
    ]
    assert plan.jobs[0].addresses == ("/srv/x",)
    assert (plan.servers[0].engine, plan.servers[0].port) == ("mariadb", 3306)
    assert plan.roles == {"postgresql": "lecteur"}
    assert plan.applications[0].names == ("dpi", "DPI", "ORBIS", "srv-dpi")
    assert plan.reference is not None
    assert plan.reference.file == tmp_path / "cmdb.csv"
    assert plan.reference.dated == "column"


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("postgresql://srv-db1/dpi", "srv-db1/dpi", "applications.dpi.backups.nightly.covers"),
        ("postgresql://*/test_*", "*/test", "discovery.ignore"),
        ('reason = "essais"', 'reason = ""', "discovery.ignore"),
        ('engine = "mysql"', 'engine = "oracle"', "discovery.servers.db2.engine"),
        ("servers.db2]", "servers.Db_2]", "discovery.servers.Db_2"),
        ('["/srv/labo/*.sqlite3"]', '["labo/*"]', "discovery"),
        (', date = "Le"', "", "reference"),
        (', kind = "Type"', "", "reference"),
        (
            'credentials.reader.credential = "db2"',
            'password = "x"',
            "discovery.servers.db2.password",
        ),
        ("max-age", "maxage", "reference.maxage"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        written(tmp_path, BASE.replace(old, new))
    assert any(problem.key.startswith(key) for problem in caught.value.problems)


def test_a_secret_that_is_missing_is_named(tmp_path: Path) -> None:
    text = BASE.replace('credentials.reader.credential = "db2"', 'credentials.reader.file = "db2"')
    with pytest.raises(ConfigurationError) as caught:
        written(tmp_path, text)
    assert caught.value.problems[0].key.startswith("discovery.servers.db2.credentials.reader")


@pytest.mark.parametrize(
    ("path", "before", "after", "weaker"),
    [
        ("applications/dpi/backups/nightly/covers", ["a", "b"], ["a"], True),
        ("applications/dpi/backups/nightly/covers", ["a"], ["a", "b"], False),
        ("discovery/ignore", [], [{"pattern": "x"}], True),
        ("discovery/enabled", True, False, True),
        ("discovery/servers/db2", {"host": "x"}, None, True),
        ("reference", {"file": "x"}, None, True),
        ("reference/max-age", "31d", "90d", True),
        ("reference/max-age", "31d", "7d", False),
    ],
)
def test_what_weakens_coverage_is_known(path: str, before: Any, after: Any, weaker: bool) -> None:
    assert weakens(tuple(path.split("/")), before, after) is weaker


# ------------------------------------------------------------------------------------- the proposal


def database(name: str, **more: Any) -> dict[str, Any]:
    return {
        "engine": "postgresql",
        "host": "srv-db1",
        "server": "5432",
        "name": name,
        "bytes": 1,
        "covered_by": [],
        "ignored": False,
        "found_jobs": [],
    } | more


def job(tool: str, name: str, **more: Any) -> dict[str, Any]:
    return {
        "tool": tool,
        "name": name,
        "enabled": True,
        "last_run_at": None,
        "configured_as": [],
        "source": f"/etc/{tool} line 3",
        "schedule": "",
        "repositories": [],
        "covers": [],
        "paths": [],
        "secrets": [],
    } | more


SEEN: dict[str, Any] = {
    "host": "srv-db1",
    "databases": [
        database("dpi", found_jobs=["cron/backup:3 restic", "borgmatic/config", "pgbackrest/main"]),
        database("Été 2026\n[x]"),
        database("dpi", server="5433"),
        database("/srv/labo/a.sqlite3", engine="sqlite", server="/srv/labo"),
        database("known", covered_by=["known.nightly"]),
        database("test", ignored=True),
    ],
    "jobs": [
        job(
            "cron",
            "backup:3 restic",
            repositories=["rest:https://nas.example/dpi"],
            schedule="0 2 * * *",
            secrets=["/etc/crontab line 2"],
        ),
        job("borgmatic", "config", repositories=["ssh://borg@nas.example/./dpi", '/mnt/"b"\\']),
        job("pgbackrest", "main", repositories=["/srv/pgb"]),
        job("barman", "ged"),
        job("systemd", "files.timer"),
        job("borgmatic", "off", enabled=False, repositories=["/mnt/off"]),
    ],
    "lacking": [
        {"what": "a\nb = 1", "code": "role", "need": "x\r\ny = 2", "about": "x", "hides": "jobs"}
    ],
    "covers_nothing": [],
}


def test_the_proposal_alone_is_a_whole_configuration(tmp_path: Path) -> None:
    text = proposal(SEEN, None)
    settings = written(tmp_path, text)
    assert settings.site.name == "srv-db1"
    assert set(settings.applications) >= {"dpi", "dpi-2", "ete-2026-x", "a-sqlite3"}
    backup = settings.applications["dpi"].backups["backup"]
    assert backup.schedule == "0 2 * * *"
    assert backup.covers == ("postgresql://srv-db1:5432/dpi",)
    place = settings.repositories[backup.repository]
    assert place.type == "restic"
    assert place.credentials.reader is not None
    assert "# from /etc/cron line 3" in text
    assert "/etc/crontab line 2" in text
    assert "known" not in settings.applications
    assert "test" not in settings.applications
    assert "off" not in text


def test_the_proposal_fits_beside_a_configuration(tmp_path: Path) -> None:
    settings = written(tmp_path, BASE)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "found.toml").write_text(proposal(SEEN, settings), encoding="utf-8")
    both = load(tmp_path / "backupguard.toml", environ={})
    assert set(both.applications) >= {"dpi", "dpi-2", "dpi-3"}
    assert both.applications["dpi"].name == "DPI"


def test_what_was_accepted_is_proposed_no_more(tmp_path: Path) -> None:
    quiet = {**SEEN, "databases": SEEN["databases"][4:], "jobs": []}
    settings = written(tmp_path, BASE)
    assert all(line.startswith("#") or not line for line in proposal(quiet, settings).splitlines())


@pytest.mark.parametrize("text", ["", "--", "Été", "x" * 100, "../..", "1", "日本", "a_b.c"])
def test_any_name_becomes_an_id(text: str) -> None:
    taken: set[str] = set()
    for _ in range(12):
        made = identifier(text, taken)
        assert is_id(made)
        assert made not in taken
        taken.add(made)
