"""Which job saves which database: what is uncovered or gone is named, its clean twin is silent."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from backupguard.databases import parse_database_pattern, same_host
from probes.discovery_coverage import judged
from probes.discovery_found import (
    Catalogue,
    ConfiguredJob,
    Database,
    Found,
    FoundJob,
    Ignored,
    Plan,
)

HOST, TODAY = "srv-db1.chu.example", date(2026, 3, 5)


def cluster(*names: str, port: int = 5432, directory: str | None = "/var/lib/pg/main") -> Found:
    found = Found(host=HOST)
    add(found, *names, port=port, directory=directory)
    return found


def add(found: Found, *names: str, port: int, directory: str | None, host: str = HOST) -> None:
    found.catalogue(
        Catalogue(engine="postgresql", host=host, port=port, directory=directory),
        [
            Database(
                engine="postgresql",
                host=host,
                port=port,
                server=str(port),
                name=name,
                bytes=1,
                directory=directory,
            )
            for name in names
        ],
    )


def job(*covers: str, name: str = "dpi.nightly", **more: Any) -> ConfiguredJob:
    patterns = tuple(parse_database_pattern(text) for text in covers)
    return ConfiguredJob(
        id=name, **({"repository": "nas", "type": "restic"} | more), covers=patterns
    )


def covered(found: Found, *jobs: ConfiguredJob, **more: Any) -> dict[str, list[str]]:
    data = judged(found, Plan(jobs=jobs, **more), TODAY)
    return {one["name"]: one["covered_by"] for one in data["databases"] if not one["ignored"]}


@pytest.mark.parametrize(
    "pattern",
    [
        "postgresql://localhost/dpi",
        "postgresql:///dpi",
        "postgresql://127.0.0.1:5432/dpi",
        "postgresql://SRV-DB1/dpi",
        "postgresql://srv-db1.chu.example/*",
        "postgres://localhost/d?i",
    ],
)
def test_a_job_says_which_database_it_saves(pattern: str) -> None:
    assert covered(cluster("dpi"), job(pattern)) == {"dpi": ["dpi.nightly"]}


@pytest.mark.parametrize(
    "pattern",
    [
        "postgresql://localhost:5433/dpi",
        "postgresql://srv-db2/dpi",
        "postgresql://srv-db1.autre.example/dpi",
        "mariadb://localhost/dpi",
        "postgresql://localhost/DPI",
        "postgresql://localhost/dp",
    ],
)
def test_another_host_port_engine_or_name_saves_nothing(pattern: str) -> None:
    assert covered(cluster("dpi"), job(pattern)) == {"dpi": []}


def test_a_dropped_database_is_named_and_its_twin_is_not() -> None:
    whole = job("postgresql://localhost/dpi", "postgresql://localhost/ged")
    assert judged(cluster("dpi", "ged"), Plan(jobs=(whole,)), TODAY)["covers_nothing"] == []
    data = judged(cluster("dpi"), Plan(jobs=(whole,)), TODAY)
    assert data["covers_nothing"] == ["dpi.nightly"]
    assert data["missing"] == [
        {"job": "dpi.nightly", "pattern": "postgresql://localhost/ged", "configured": True}
    ]


def test_what_could_not_be_looked_at_is_not_called_gone() -> None:
    found = cluster("dpi")
    found.lack(f"postgresql/{HOST}/5433", "role", "x", "databases")
    data = judged(found, Plan(jobs=(job("postgresql://localhost/ged"),)), TODAY)
    assert data["covers_nothing"] == []
    assert len(data["lacking"]) == 1


def test_a_server_nobody_looks_at_is_a_lack() -> None:
    data = judged(cluster("dpi"), Plan(jobs=(job("postgresql://srv-db9:5433/ged"),)), TODAY)
    assert data["covers_nothing"] == []
    assert data["lacking"][0]["need"] == "[discovery.servers] entry for postgresql://srv-db9:5433"


def test_a_job_of_maintenance_databases_covers_something() -> None:
    data = judged(cluster("dpi"), Plan(jobs=(job("postgresql://localhost/postgres"),)), TODAY)
    assert data["missing"] == []


def test_a_stanza_saves_the_cluster_in_its_directory() -> None:
    found = cluster("dpi", "ged")
    add(found, "other", port=5433, directory="/var/lib/pg/second")
    saved = Catalogue(engine="postgresql", host=HOST, port=5432, directory="/var/lib/pg/main")
    found.jobs.append(FoundJob(tool="pgbackrest", name="main", source="f", clusters=(saved,)))
    stanza = job(name="dpi.pgb", type="pgbackrest")
    from dataclasses import replace

    known = covered(found, replace(stanza, name="main"))
    assert known == {"dpi": ["dpi.pgb"], "ged": ["dpi.pgb"], "other": []}
    data = judged(found, Plan(), TODAY)
    assert [one["found_jobs"] for one in data["databases"]] == [
        ["pgbackrest/main"],
        ["pgbackrest/main"],
        [],
    ]


def test_a_cluster_whose_directory_is_hidden_is_known_by_its_port() -> None:
    found = cluster("dpi", directory=None)
    saved = Catalogue(engine="postgresql", host=HOST, port=5432, directory="/var/lib/pg/main")
    found.jobs.append(FoundJob(tool="pgbackrest", name="main", source="f", clusters=(saved,)))
    assert judged(found, Plan(), TODAY)["databases"][0]["found_jobs"] == ["pgbackrest/main"]


def test_a_disabled_job_saves_nothing() -> None:
    found = cluster("dpi")
    pattern = parse_database_pattern("postgresql:///*")
    found.jobs.append(
        FoundJob(tool="borgmatic", name="c", source="f", covers=(pattern,), enabled=False)
    )
    assert judged(found, Plan(), TODAY)["databases"][0]["found_jobs"] == []


def test_a_found_job_for_a_dropped_database_is_named() -> None:
    found = cluster("dpi")
    pattern = parse_database_pattern("postgresql:///ged")
    found.jobs.append(FoundJob(tool="borgmatic", name="c", source="f", covers=(pattern,)))
    data = judged(found, Plan(), TODAY)
    assert [(one["job"], one["configured"]) for one in data["missing"]] == [("borgmatic/c", False)]
    assert data["covers_nothing"] == []


@pytest.mark.parametrize(
    ("until", "ignored"), [(None, True), (TODAY, True), (date(2026, 3, 4), False)]
)
def test_a_decision_to_ignore_ends_with_its_day(until: date | None, ignored: bool) -> None:
    one = Ignored(pattern=parse_database_pattern("postgresql:///test_*"), until=until)
    data = judged(cluster("test_dpi"), Plan(ignored=(one,)), TODAY)
    assert data["databases"][0]["ignored"] is ignored


def test_a_file_in_a_saved_directory_is_saved() -> None:
    found = Found(host=HOST)
    found.databases.append(
        Database(engine="sqlite", host=HOST, port=None, server="/srv/labo", name="/srv/labo/a.db")
    )
    here = job(paths=("/srv",), host="srv-db1")
    assert covered(found, here) == {"/srv/labo/a.db": ["dpi.nightly"]}
    elsewhere = job(paths=("/srv",), host="srv-web")
    assert covered(found, elsewhere) == {"/srv/labo/a.db": []}
    assert covered(found, job(paths=("/sr",), host="srv-db1")) == {"/srv/labo/a.db": []}
    exact = job("sqlite:///srv/labo/*.db")
    assert covered(found, exact) == {"/srv/labo/a.db": ["dpi.nightly"]}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("localhost", "a.example", True),
        ("a", "A.example.", True),
        ("a.example", "a.autre", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("10", "10.0.0.2", False),
        ("/run/postgresql", "a", True),
    ],
)
def test_names_of_hosts(one: str, other: str, same: bool) -> None:
    assert same_host(one, other, "a.example") is same


def test_more_than_a_fact_holds_is_a_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.discovery_coverage.LIMIT", 3)
    data = judged(cluster("a", "b", "c", "d"), Plan(), TODAY)
    assert len(data["databases"]) == 3
    assert data["lacking"][0]["code"] == "too_many"
