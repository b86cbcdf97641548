"""Repositories that only tell what they hold: never restored from, and said so in words."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from backupguard import runs
from backupguard.daemon.requests import SCHEDULE, request
from backupguard.daemon.tasks import TASKS
from backupguard.job_reports import JobReport, write_report
from backupguard.model import SITE, Run, Status, Verdict, application_subject
from backupguard.processes import Cancellation
from tests.integration.survival.places import DPI, Place

PACS = application_subject("pacs")

SCRIPTS = """
[repositories.scripts]
type = "reported"
spool = "{spool}"
[applications.{application}.backups.secours]
repository = "scripts"
every = "24h"
"""

ONLY_REPORTED = """
[applications.pacs]
name = "Imagerie"
criticality = "C2"
rpo = "24h"
[applications.pacs.restore-test]
engine = "postgresql"
"""


def told(spool: Path, *jobs: str) -> None:
    """Lay the report of a success into the letter box, newer than any other backup."""
    spool.mkdir(mode=0o750)
    now = runs.utc_now()
    for job in jobs:
        report = JobReport(
            job=job,
            id="last-night",
            state="complete",
            started_at=now - timedelta(minutes=2),
            ended_at=now - timedelta(minutes=1),
            exit_code=0,
            bytes=10**9,
            host=os.uname().nodename,
        )
        write_report(spool, report)


def scheduled(place: Place, **options: str) -> Run:
    """Perform the restore test that the agenda would ask for, which rotates."""
    asked = request(
        "restore-test", DPI, requested_by=SCHEDULE, due_at=runs.utc_now(), options=options
    )
    run = place.store.enqueue(asked)
    runs.perform(run, place.settings, place.store, Cancellation(), TASKS)
    ended = place.store.run(run.id)
    assert ended is not None
    return ended


@pytest.fixture
def mixed(place: Place) -> Place:
    """An application with a repository that brings back, and a newer one that only tells."""
    place.add("healthy")
    spool = place.directory / "spool"
    told(spool, "dpi.secours")
    place.more = SCRIPTS.format(spool=spool, application="dpi")
    place.write()
    place.perform("inventory", SITE)
    assert {point.native_id for point in place.store.points("dpi.secours")} == {"last-night"}
    return place


def test_rotation_never_comes_to_a_repository_that_only_lists(mixed: Place) -> None:
    for _ in range(3):
        run = scheduled(mixed)
        assert run.verdict is Verdict.PASSED, mixed.result()
        assert mixed.result()["repository"] == "nas"
    # asked for by name it says what it is; the copy that was proved stays proved
    run = scheduled(mixed, repository="scripts")
    assert (run.verdict, run.code) == (Verdict.COULD_NOT_VERIFY, "not_fetchable")
    assert len(mixed.facts("restore-test.result")) == 3
    finding = mixed.judged()["RST-01", DPI]
    assert finding.status is not Status.NON_COMPLIANT, finding


def test_an_application_that_is_only_listed_says_that_it_cannot_be_restored(place: Place) -> None:
    spool = place.directory / "spool"
    told(spool, "pacs.secours")
    place.more = ONLY_REPORTED + SCRIPTS.format(spool=spool, application="pacs")
    place.write()
    place.perform("inventory", SITE)
    run = place.perform(subject=PACS)
    assert (run.verdict, run.code) == (Verdict.COULD_NOT_VERIFY, "not_fetchable")
    (closed,) = place.facts("restore-test.closed")
    assert closed.run == run.id
    data = closed.observation.data
    assert (data["verdict"], data["code"]) == ("could_not_verify", "not_fetchable")
    assert place.facts("restore-test.result", "restore-test.phase") == []
    finding = place.judged()["RST-01", PACS]
    assert finding.status is Status.NOT_MEASURABLE, finding
    for language, words in (
        ("en", "this type of repository cannot be restored from"),
        ("fr", "ce type de dépôt ne permet pas de restaurer"),
    ):
        said = place.command("--language", language, "why", "RST-01", "pacs")
        assert words in said.stdout, said.stdout + said.stderr
    # the job itself is judged: only its restore is not proved
    assert place.judged()["JOB-01", "job/pacs.secours"].status is Status.COMPLIANT
    assert place.proved()
