"""A small hospital with real backups, and a real daemon that restores them.

`Source` is made once per session: a PostgreSQL server and the dumps of its databases, each already
in a restic repository of its own. A `Place` is one test's copy of such a repository with its own
configuration, store and daemon, so that what is killed, filled or broken there stays there.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from backupguard import runs
from backupguard.assess import Assessor
from backupguard.contracts import Store
from backupguard.controls import load_catalogue
from backupguard.daemon import client
from backupguard.daemon.requests import request
from backupguard.daemon.tasks import TASKS
from backupguard.model import Finding, Json, Run, RunState, Subject, application_subject
from backupguard.processes import Cancellation
from backupguard.store import open_store
from tests.integration.daemon import living
from tests.integration.daemon.living import wait_for
from tests.postgres import Cluster
from tests.programs import program

DPI = application_subject("dpi")

#: The canary that no restored database may ever see: restic's password.
PASSWORD = "Canari-des-essais-4711"

SITE = """
[site]
name = "CH des essais"
[store]
directory = "state"
[http]
listen = "127.0.0.1:{port}"
[scratch]
clear-text-accepted-by = "tests: invented data"
# What other tests run on this machine meanwhile is no part of this place.
[discovery]
enabled = false
"""

REPOSITORY = """
[repositories.{repository}]
type = "restic"
url = "{url}"
program = "{program}"
data-buckets = 1
refresh-timeout = "{timeout}"
credentials.reader.file = "{password}"
"""

APPLICATION = """
[applications.{application}]
name = "Application {application}"
criticality = "C2"
rpo = "24h"
[applications.{application}.backups.nuit]
repository = "{repository}"
select.paths = ["{path}"]
every = "24h"
[applications.{application}.restore-test]
engine = "postgresql"
memory = "300MB"
schedule = "{schedule}"
"""

#: Slots of this schedule are due at the first start; those of the other one for years not.
DUE, NOT_DUE = "0 0 * * *", "0 0 29 2 *"


@dataclass(frozen=True, kw_only=True)
class Restic:
    """The backup job's own restic."""

    repository: Path
    password: Path

    def call(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run restic as the backup job does."""
        return subprocess.run(
            [
                program("restic-0.18"),
                *("--repo", self.repository, "--password-file", self.password, "--no-cache"),
                *arguments,
            ],
            check=check,
            capture_output=True,
            text=True,
            timeout=120,
        )


@dataclass(frozen=True, kw_only=True)
class Source:
    """The source server and the repositories of its dumps."""

    cluster: Cluster
    root: Path

    @property
    def password(self) -> Path:
        """The file that holds every repository's password."""
        return self.root / "password"

    def repository(self, name: str) -> Path:
        """Return where the repository of a dump lies."""
        return self.root / "repositories" / name

    def dump(self, name: str) -> Path:
        """Return the path at which a dump was backed up."""
        return self.root / "dumps" / name

    def create(self, database: str, script: str) -> str:
        """Make a database from a script."""
        self.cluster.create(database)
        self.cluster.run(
            *("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"),
            input=script.encode(),
        )
        return database

    def dumped(self, database: str, *options: str) -> bytes:
        """Return a dump of a database."""
        return self.cluster.run("pg_dump", *options, "-d", database).stdout

    def keep(self, name: str, content: bytes) -> None:
        """Make a repository that holds a dump with this content; once per name."""
        if self.repository(name).exists():
            return
        for directory in (self.dump(name).parent, self.repository(name).parent):
            directory.mkdir(parents=True, exist_ok=True)
        self.dump(name).write_bytes(content)
        restic = Restic(repository=self.repository(name), password=self.password)
        restic.call("init")
        restic.call("backup", self.dump(name))


class Place(living.Site):
    """A site with its repositories, its configuration, its store and its daemons."""

    def __init__(self, directory: Path, source: Source) -> None:
        self.source = source
        self.parts: list[str] = []
        self.more = ""
        self._store: Store | None = None
        super().__init__(directory)

    def write(self, more: str = "", language: str = "fr") -> None:
        """Write the configuration as the parts have it, and something more."""
        text = SITE.format(port=self.port) + "".join(self.parts) + self.more + more
        self.config.write_text(text, encoding="utf-8")

    def add(
        self,
        dump: str,
        *,
        application: str = "dpi",
        repository: str = "nas",
        schedule: str = NOT_DUE,
        checks: str = "",
        **changes: str,
    ) -> Path:
        """Add an application whose backups lie in a copy of a dump's repository; return the copy."""
        own = self.directory / repository
        shutil.copytree(self.source.repository(dump), own)
        values = {
            "url": str(own),
            "program": str(program("restic-0.18")),
            "password": str(self.source.password),
            "timeout": "5m",
            **changes,
        }
        self.parts.append(REPOSITORY.format(repository=repository, **values))
        self.parts.append(
            APPLICATION.format(
                application=application,
                repository=repository,
                path=self.source.dump(dump),
                schedule=schedule,
            )
            + checks
        )
        self.write()
        return own

    @property
    def store(self) -> Store:
        """The store, opened once and beside the daemon."""
        if self._store is None:
            self._store = open_store(self.state)
        return self._store

    def end(self) -> None:
        """End the daemons and close the store."""
        super().end()
        if self._store is not None:
            self._store.close()

    # ------------------------------------------------------------------------------ with a daemon

    def ask(self, subject: Subject = DPI) -> Run:
        """Have the daemon perform a restore test, to its end."""
        return self.ended(client.enqueue(self.settings, "restore-test", subject))

    def ended(self, run: str) -> Run:
        """Wait until the daemon has performed a run."""
        list(client.follow(self.settings, run))
        found = self.store.run(run)
        assert found is not None
        return found

    def closed(self, task: str, count: int) -> None:
        """Wait until so many runs of a task have ended."""
        wait_for(lambda: len(self.facts(f"{task}.closed")) >= count, 120)

    # ------------------------------------------------------------------------- without a daemon

    def perform(
        self,
        task: str = "restore-test",
        subject: Subject = DPI,
        clock: Callable[[], datetime] = runs.utc_now,
    ) -> Run:
        """Perform a run in this process, to its end."""
        asked = request(task, subject, requested_by="tests", due_at=clock(), options={})
        run = self.store.enqueue(asked)
        runs.perform(run, self.settings, self.store, Cancellation(), TASKS, clock=clock)
        ended = self.store.run(run.id)
        assert ended is not None
        return ended

    def result(self, subject: Subject = DPI) -> Mapping[str, Json]:
        """Return the payload of an application's last restore test."""
        data: Mapping[str, Json] = self.store.latest([subject])[subject][
            "restore-test.result"
        ].observation.data
        return data

    def judged(self, now: datetime | None = None) -> dict[tuple[str, Subject], Finding]:
        """Judge everything at `now`; return the findings by control and subject."""
        assessor = Assessor(self.store, self.settings, load_catalogue())
        assessment = assessor.assess(now or datetime.now(UTC))
        return {(finding.control, finding.subject): finding for finding in assessment.findings}

    # ------------------------------------------------------------------------------ looking at it

    def restore_tests(self, *states: RunState) -> list[Run]:
        """Return the restore tests, oldest first."""
        found = self.store.runs(states=states or tuple(RunState), task="restore-test")
        return sorted(found, key=lambda run: run.id)

    def running(self) -> Run | None:
        """Return the restore test that is being performed."""
        return next(iter(self.restore_tests(RunState.RUNNING)), None)

    def phases(self, run: str) -> list[str]:
        """Return the phases of a run that have ended. Cheap: it is asked again and again."""
        with closing(sqlite3.connect(f"file:{self.state}/store.sqlite3?mode=ro", uri=True)) as one:
            rows = one.execute(
                "SELECT key FROM facts WHERE kind = 'restore-test.phase' AND run = ? ORDER BY seq",
                (run,),
            )
            return [str(key).rsplit("/", 1)[1] for (key,) in rows]

    def runner(self, run: str) -> int:
        """Return the process that performs a run."""
        found = wait_for(lambda: [e for e in self.events("runner.started") if e["run"] == run])
        return int(str(found[-1]["pid"]))  # type: ignore[index]

    def alive(self, run: str, name: str = "") -> list[int]:
        """Return the processes that have a mount of a run, by the name of their program."""
        sought = re.compile(b"/" + re.escape(run.encode()) + b"[/ ]")
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with suppress(OSError):
                if name and (entry / "comm").read_text().strip() != name:
                    continue
                if sought.search((entry / "mountinfo").read_bytes()):
                    found.append(int(entry.name))
        return found

    def closings(self, run: str) -> list[Mapping[str, Json]]:
        """Return what closing facts a run has."""
        return [
            fact.observation.data for fact in self.facts("restore-test.closed") if fact.run == run
        ]

    def nothing_left(self, run: str) -> bool:
        """Tell whether no process, no mount and no file of a run is left."""
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
        return (
            not self.alive(run)
            and run not in mounts
            and not (self.state / "runs" / run).exists()
            and not any(run in text for text in self.leftovers())
        )

    def proved(self) -> bool:
        """Tell whether the evidence holds together, as the command says it."""
        return self.command("--quiet", "evidence", "verify").returncode in (0, 2)


def kill(*pids: int) -> None:
    """Kill processes that may be gone already."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
