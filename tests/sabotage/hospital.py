"""A small invented hospital whose backups can be broken, one way at a time.

`Hospital` is made once per session: a running PostgreSQL with the databases `dpi` and `labo`, and a
site whose healthy backup has been restored and whose baseline is accepted. `Site` is a copy of it for
one test: its own store, repository and configuration, so that what is broken there stays there.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from backupguard import runs, settings
from backupguard.assess import Assessor
from backupguard.contracts import Store
from backupguard.controls import load_catalogue
from backupguard.daemon.requests import request
from backupguard.daemon.tasks import TASKS
from backupguard.demo import backups, hospital, programs
from backupguard.model import (
    SITE,
    Finding,
    Json,
    Observation,
    Origin,
    Run,
    Subject,
    Verdict,
    application_subject,
    repository_subject,
)
from backupguard.processes import Cancellation
from backupguard.store import open_store
from tests.programs import program

#: restic 0.14 asks a minute long for a pack that is gone before it says so; 0.18 says so at once.
RESTIC = program("restic-0.18")
OBSERVATIONS, RESULTS = 24_000, 3_000
DPI, NAS = application_subject("dpi"), repository_subject("nas")

_CONFIGURATION = """
[site]
name = "CH des essais"
[store]
directory = "{root}/state"
[scratch]
clear-text-accepted-by = "tests: invented data"
[probes.integrity]
data-percent = 100
[repositories.nas]
type = "restic"
url = "{root}/nas"
program = "{restic}"
data-buckets = 1
credentials.reader.file = "{root}/password"
[applications.dpi]
name = "Dossier patient"
criticality = "C1"
rpo = "24h"
rto = "4h"
declared-by = "direction des soins"
declared-on = {declared}
recovery.steps = [{{ name = "serveur et licence", duration = "90m", source = "exercice" }}]
[applications.dpi.backups.nuit]
repository = "nas"
select.paths = ["{dump}"]
every = "24h"
[applications.dpi.restore-test]
engine = "postgresql"
required-tables = ["patients", "stays", "observations", "prescriptions"]
[[applications.dpi.restore-test.checks]]
name = "admissions récentes"
sql = "select max(admitted_at) from stays"
newer-than = "26h"
"""

_serial = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Hospital:
    """The source server, and the root of the healthy site."""

    source: programs.Source
    root: Path

    @property
    def dump(self) -> Path:
        """The healthy dump, at the path its snapshot has it."""
        return self.root / "dumps" / "dpi.dump"

    def altered(self, database: str, script: str) -> str:
        """Return the name of a copy of a database that a SQL script was run on."""
        name = f"altered_{next(_serial)}"
        self.source.psql("postgres", "-c", f'create database "{name}" template "{database}"')
        self.source.psql(name, script=script)
        return name


@dataclass(kw_only=True)
class Site:
    """One site under test: everything of it lies below `root`."""

    root: Path
    dump: Path
    store: Store
    settings: settings.Settings

    @property
    def restic(self) -> backups.Restic:
        """The backup job's own restic."""
        return backups.Restic(
            program=RESTIC,
            repository=str(self.root / "nas"),
            password_file=self.root / "password",
        )

    def back_up(self) -> None:
        """Make a snapshot of the dump as it is now."""
        self.restic.call("backup", self.dump)

    def packs(self) -> list[Path]:
        """Return the repository's packs, largest first."""
        found = [path for path in (self.root / "nas" / "data").rglob("*") if path.is_file()]
        return sorted(found, key=lambda path: path.stat().st_size, reverse=True)

    def perform(self, task: str, subject: Subject, **options: Json) -> Run:
        """Perform a run to its end."""
        asked = request(
            task, subject, requested_by="tests", due_at=datetime.now(UTC), options=options
        )
        run = self.store.enqueue(asked)
        runs.perform(run, self.settings, self.store, Cancellation(), TASKS)
        ended = self.store.run(run.id)
        assert ended is not None
        return ended

    def restore_test(self) -> Run:
        """List the repository as the daemon would, then restore the application."""
        self.perform("inventory", SITE)
        return self.perform("restore-test", DPI)

    def result(self) -> Json:
        """Return the payload of the last restore test's result."""
        return self.store.latest([DPI])[DPI]["restore-test.result"].observation.data

    def judged(self) -> dict[tuple[str, Subject], Finding]:
        """Judge everything now; return the findings by control and subject."""
        assessment = Assessor(self.store, self.settings, load_catalogue()).assess(datetime.now(UTC))
        return {(finding.control, finding.subject): finding for finding in assessment.findings}


@contextmanager
def opened(root: Path, dump: Path) -> Iterator[Site]:
    """Write the configuration of a site below `root` and open its store."""
    file = root / "backupguard.toml"
    file.write_text(
        _CONFIGURATION.format(
            root=root, dump=dump, restic=RESTIC, declared=datetime.now(UTC).date()
        ),
        encoding="utf-8",
    )
    chosen = settings.load(file, environ={})
    store = open_store(chosen.state_directory)
    try:
        yield Site(root=root, dump=dump, store=store, settings=chosen)
    finally:
        store.close()


@contextmanager
def running(root: Path) -> Iterator[Hospital]:
    """Start the hospital's server, and make the healthy site with an accepted baseline."""
    with programs.postgresql(root / "server") as source:
        source.create("dpi", hospital.script("dpi"), observations=OBSERVATIONS)
        source.create("labo", hospital.script("labo"), results=RESULTS)
        made = Hospital(source=source, root=root / "healthy")
        made.dump.parent.mkdir(parents=True)
        (made.root / "password").touch(mode=0o600)
        (made.root / "password").write_text("a password of the tests\n")
        source.dump("dpi", made.dump)
        with opened(made.root, made.dump) as site:
            site.restic.call("init")
            site.back_up()
            assert site.restore_test().verdict is Verdict.PASSED, site.result()
            _accept(site)
        yield made


def _accept(site: Site) -> None:
    result = site.store.latest([DPI])[DPI]["restore-test.result"]
    shape = result.observation.data["fingerprint"]
    accepted = Observation(
        kind="baseline.accepted",
        subject=DPI,
        origin=Origin.ATTESTED,
        observed_at=datetime.now(UTC),
        data={"fingerprint": shape, "from_seq": result.seq, "reason": "tests"},
        key=f"baseline/dpi/accepted/{result.seq}/0",
    )
    site.store.append([accepted], author="tests")


@contextmanager
def copied(made: Hospital, root: Path) -> Iterator[Site]:
    """Give a test its own copy of the healthy site; its dump still lies where the snapshot has it."""
    shutil.copytree(made.root, root, dirs_exist_ok=True)
    with opened(root, made.dump) as site:
        yield site


Breaker = Callable[[Hospital, Site], None]


def replaced(write: Callable[[Hospital, Path], None]) -> Breaker:
    """Return what breaks a site by backing up another dump in the place of the healthy one."""

    def breaker(made: Hospital, site: Site) -> None:
        # Snapshots are selected by path, so the new one must have the path of its own site.
        site.dump = site.root / "dumps" / "dpi.dump"
        site.dump.unlink()
        write(made, site.dump)
        text = (site.root / "backupguard.toml").read_text(encoding="utf-8")
        file = site.root / "backupguard.toml"
        file.write_text(text.replace(str(made.dump), str(site.dump)), encoding="utf-8")
        site.settings = settings.load(file, environ={})
        site.back_up()

    return breaker
