"""The demonstration from beginning to end, through the same code as the commands."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from backupguard import metrics, plugins, runs, settings
from backupguard.assess import Assessment, Assessor
from backupguard.assess.counted import CopiesOf, copies_of
from backupguard.contracts import Capability
from backupguard.controls import Catalogue, catalogue_of
from backupguard.daemon import configuration, custody
from backupguard.daemon.requests import author, request
from backupguard.daemon.tasks import TASKS
from backupguard.demo import backups, hospital, layout, programs, replay, s3_server
from backupguard.demo import configuration as written
from backupguard.demo.signals import cancelled_by_signals, interrupted_by_signals
from backupguard.errors import MissingMeans
from backupguard.evidence.seals import anchor_line
from backupguard.model import (
    REPLAYED,
    SITE,
    Fact,
    Json,
    Message,
    Observation,
    Origin,
    Run,
    Subject,
    Verdict,
    application_subject,
    repository_subject,
)
from backupguard.processes import Cancellation
from backupguard.reports.history import month_of
from backupguard.settings.proposal import address
from backupguard.store import open_store
from backupguard.store.bundle import write_bundle
from backupguard.store.sql import SqlStore

HTTP_PORT = 9789
OBSERVATIONS = 1_000_000
RESULTS = 120_000

Teller = Callable[[Message], None]


@dataclass(slots=True, kw_only=True)
class Told:
    """What the demonstration did and saw, for its summary. Durations in milliseconds."""

    layout: layout.Layout
    settings: settings.Settings
    made: hospital.Made
    runs: list[Run] = field(default_factory=list)
    tests: list[Fact] = field(default_factory=list)
    replayed: int = 0  # restore tests told again in the months before
    uncovered: tuple[str, ...] = ()
    lacking: int = 0
    assessment: Assessment | None = None
    reports: tuple[Path, ...] = ()
    bundle: Path | None = None
    bundle_verified: bool = False
    fingerprint: str = ""
    metrics: Path | None = None
    coffre: bool = False
    copies: tuple[CopiesOf, ...] = ()
    duration_ms: int = 0

    @property
    def proved(self) -> bool:
        """Tell whether all went as it should.

        What this machine hides from discovery is no fault, and that some copies are not immutable is
        what the demonstration shows.
        """
        looks = {"discovery", "drift", "immutability"}
        verdicts = {run.verdict for run in self.runs if run.request.task not in looks}
        return verdicts == {Verdict.PASSED} and self.bundle_verified and bool(self.uncovered)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """What every step works on."""

    settings: settings.Settings
    store: SqlStore
    clock: replay.SetClock
    cancel: Cancellation
    tell: Teller
    told: Told

    def perform(self, task: str, subject: Subject, **options: Json) -> Run:
        """Perform one run as the command line does, and return how it ended."""
        self.cancel.raise_if_set()
        now = datetime.now(UTC)
        asked = request(task, subject, requested_by=author(), due_at=now, options=options)
        run = self.store.enqueue(asked)
        runs.perform(run, self.settings, self.store, self.cancel, TASKS)
        ended = self.store.run(run.id) or run
        self.told.runs.append(ended)
        return ended


def play(
    directory: Path,
    *,
    language: str,
    tell: Teller,
    observations: int = OBSERVATIONS,
    results: int = RESULTS,
    stay: Callable[[Told], None] | None = None,
) -> Told:
    """Make the hospital in `directory`, run everything on it, and return what was seen.

    `stay`, if given, is called at the end while the hospital's servers still run. Raises errors of
    `backupguard.errors`: UsageError for a directory in use, MissingMeans for a missing program,
    Cancelled after Ctrl-C.
    """
    began = time.monotonic()
    tools = backups.tools()
    place = layout.prepare(directory)
    with ExitStack() as stack:
        cancel = stack.enter_context(cancelled_by_signals())
        tell(Message(id="demo.step.hospital", values={"rows": observations}))
        archive = backups.archive_command(place, tools.pgbackrest)
        server, pharma = stack.enter_context(hospital.servers(place, archive))
        made = hospital.fill(place, server, pharma, observations, results)
        cancel.raise_if_set()
        tell(Message(id="demo.step.backup"))
        port, endpoint, medium = _back_up(stack, place, tools, (server, pharma), tell)
        cancel.raise_if_set()
        parts = written.Parts(
            language=language,
            restic=tools.restic,
            borg=tools.borg,
            http_port=programs.free_port(HTTP_PORT),
            coffre_port=port,
            cloud_endpoint=endpoint,
            bucket=backups.BUCKET,
            locked_bucket=backups.LOCKED_BUCKET,
            medium_uuid=medium,
            closed_port=programs.free_port(),
            server_port=server.port,
            pharma_port=pharma.port,
            observations=observations,
        )
        today = datetime.now(UTC).date()
        written.write_reference(place, today)
        written.write_configuration(place, parts, today)
        chosen = settings.load(place.configuration, environ={})
        told = Told(layout=place, settings=chosen, made=made, coffre=port is not None)
        # The chain begins where the year does: no record may be older than the one before it.
        _, begin = next(replay.months(datetime.now(UTC), chosen.site.timezone))
        clock = replay.SetClock(begin)
        store = open_store(
            chosen.state_directory,
            chosen.store.url,
            now=clock,
            site=chosen.site.name,
            timezone=chosen.site.timezone,
            channels=chosen.channels,
        )
        stage = _Stage(
            settings=chosen, store=store, clock=clock, cancel=cancel, tell=tell, told=told
        )
        try:
            _steps(stage)
        finally:
            store.close()
        told.duration_ms = int((time.monotonic() - began) * 1000)
        if stay is not None:
            with interrupted_by_signals():
                stay(told)
    return told


def _back_up(
    stack: ExitStack,
    place: layout.Layout,
    tools: backups.Tools,
    sources: tuple[programs.Source, programs.Source],
    tell: Teller,
) -> tuple[int | None, str, UUID]:
    """Run the hospital's backup jobs; what serves copies runs until the stack ends.

    Returns the rest-server's port, if there is one, the S3 server's address, and the UUID of the disk.
    """
    server, pharma = sources
    backups.dump(place, server, pharma)
    port = None
    if tools.rest_server is None:
        tell(Message(id="demo.no_rest_server"))
    else:
        port = stack.enter_context(backups.vault(place, tools.rest_server))
    backups.with_restic(place, tools.restic, port)
    backups.with_borg(place, tools.borg)
    cloud = stack.enter_context(s3_server.running(place.cloud, keep=True))
    backups.to_cloud(place, cloud)
    backups.to_locked_bucket(place, cloud, tools.restic)
    medium = backups.onto_disk(place, tools.restic)
    backups.reporting(place)
    stack.enter_context(backups.streaming(place, tools.barman, pharma))
    backups.with_pgbackrest(place, tools.pgbackrest, pharma)
    backups.with_barman(place, tools.barman, pharma)
    return port, cloud.endpoint, medium


def _steps(stage: _Stage) -> None:
    chosen, store, tell = stage.settings, stage.store, stage.tell
    catalogue = catalogue_of(chosen)
    tell(Message(id="demo.step.first"))
    _rehearse(stage)
    tell(Message(id="demo.step.replay", values={"count": replay.MONTHS}))
    _replay(stage, catalogue)
    configuration.accept(store, chosen, catalogue, author=author(), now=datetime.now(UTC))
    tell(Message(id="demo.step.inventory"))
    stage.perform("inventory", SITE)
    tell(Message(id="demo.step.discovery"))
    _discover(stage)
    tell(Message(id="demo.step.integrity"))
    for identifier, repository in chosen.repositories.items():
        if Capability.VERIFY in plugins.capabilities(repository.type):
            stage.perform("integrity", repository_subject(identifier))
    tell(Message(id="demo.step.immutability"))
    for identifier in chosen.repositories:
        stage.perform("immutability", repository_subject(identifier))
    tell(Message(id="demo.step.offline"))
    _take_away(stage)
    tell(Message(id="demo.step.isolation"))
    stage.perform("isolation", SITE)
    stage.perform("drift", SITE)
    tell(Message(id="demo.step.baseline"))
    for application in written.TESTED:
        _accept_baseline(stage, application)
    tell(Message(id="demo.step.second"))
    for application, repositories in written.TESTED.items():
        for identifier in repositories:
            if identifier in chosen.repositories:
                _restore(stage, application, identifier)
    tell(Message(id="demo.step.assess"))
    _judge(stage, catalogue)
    tell(Message(id="demo.step.report"))
    _report(stage)
    tell(Message(id="demo.step.evidence"))
    _evidence(stage)


def _rehearse(stage: _Stage) -> None:
    """Restore every application once; what that gave is what the months before are told with."""
    directory = stage.told.layout.root / "rehearsal"
    site = stage.settings.site
    store = open_store(directory, site=site.name, timezone=site.timezone)
    try:
        aside = replace(stage, store=store)
        for application, repositories in written.TESTED.items():
            _restore(aside, application, repositories[0])
    finally:
        store.close()
        shutil.rmtree(directory)


def _replay(stage: _Stage, catalogue: Catalogue) -> None:
    """Tell the year before: the settings as they are, restore tests, a report each month."""
    stage.clock.set(stage.clock() + timedelta(hours=8))
    configuration.accept(stage.store, stage.settings, catalogue, author=REPLAYED, now=stage.clock())
    results = list(stage.told.tests)
    ended = replay.replay(stage.store, stage.settings, results, stage.clock, stage.cancel)
    stage.told.runs += ended
    stage.told.replayed = sum(run.request.task == "restore-test" for run in ended)


def _discover(stage: _Stage) -> None:
    """Look at what runs here. What this machine does not let us see is told, and is no failure."""
    told = stage.told
    stage.perform("discovery", SITE)
    seen = stage.store.latest([SITE], ["discovery.seen"]).get(SITE, {}).get("discovery.seen")
    if seen is None:
        return
    data = seen.observation.data
    told.lacking = len(data["lacking"])
    told.uncovered = tuple(
        address(one) for one in data["databases"] if not one["covered_by"] and not one["ignored"]
    )


def _take_away(stage: _Stage) -> None:
    """Look at the disk while it is here, take it away as people do, and see that it is gone."""
    stage.perform("offline", SITE)
    place = stage.told.layout
    place.medium.rename(place.medium_away)
    stage.perform("offline", SITE)
    custody.move(
        stage.store,
        stage.settings,
        medium="disque-rouge",
        direction="out",
        holder="agent de sécurité",
        place="coffre ignifugé, bâtiment B",
        seal="0417",
        at=None,
        uid=os.getuid(),
        now=datetime.now(UTC),
    )


def _restore(stage: _Stage, application: str, repository: str) -> None:
    subject = application_subject(application)
    run = stage.perform("restore-test", subject, repository=repository)
    fact = stage.store.latest([subject], ["restore-test.result"]).get(subject, {})
    result = fact.get("restore-test.result")
    if result is not None and result.run == run.id:
        stage.told.tests.append(result)


def _accept_baseline(stage: _Stage, application: str) -> None:
    """Accept the shape the last restore test saw, as `backupguard baseline accept` does."""
    subject = application_subject(application)
    seen = stage.store.latest([subject]).get(subject, {})
    result = seen.get("restore-test.result")
    shape = result.observation.data["fingerprint"] if result else None
    if result is None or shape is None:
        return
    accepted = Observation(
        kind="baseline.accepted",
        subject=subject,
        origin=Origin.ATTESTED,
        observed_at=datetime.now(UTC),
        key=f"baseline/{application}/accepted/{result.seq}/0",
        data={"fingerprint": shape, "from_seq": result.seq, "reason": "démonstration"},
    )
    stage.store.append([accepted], author=author())


def _judge(stage: _Stage, catalogue: Catalogue) -> None:
    told = stage.told
    assessor = Assessor(stage.store, stage.settings, catalogue)
    told.assessment = assessor.assess(datetime.now(UTC))
    told.copies = tuple(copies_of(stage.store, stage.settings))
    stage.store.seal()
    told.metrics = told.layout.metrics
    told.metrics.write_bytes(metrics.render(told.assessment))


def _report(stage: _Stage) -> None:
    now = datetime.now(UTC)
    month = month_of(now, stage.settings.site.timezone)
    directory = stage.told.layout.reports
    for language, formats in (("fr", ["html", "pdf", "json"]), ("en", ["html"])):
        options = {"month": month, "languages": [language], "formats": formats}
        stage.perform("report", SITE, **options, output=str(directory))
    names = (f"backupguard-{month}-{ending}" for ending in ("en.html", "fr.html", "fr.pdf"))
    stage.told.reports = tuple(path for name in names if (path := directory / name).exists())


def _evidence(stage: _Stage) -> None:
    """Export the evidence and have the bundle's own verifier check it, without BackupGuard.

    The anchor, which a site keeps off the host, lies beside the bundle here.
    """
    told, place = stage.told, stage.told.layout
    stage.store.seal()
    write_bundle(stage.store, place.evidence)
    place.anchors.write_text(anchor_line(stage.store.anchor()) + "\n", encoding="utf-8")
    told.bundle, told.fingerprint = place.evidence, stage.store.key.fingerprint
    verifier = [sys.executable, str(place.evidence / "verify.py"), "--key", told.fingerprint]
    try:
        programs.call([*verifier, "--anchors", str(place.anchors), str(place.evidence)])
    except MissingMeans as error:
        stage.tell(error.message)
    else:
        told.bundle_verified = True


def run_daemon(told: Told) -> None:
    """Run the daemon on the demonstration until Ctrl-C or a stop."""
    program = Path(sys.executable).parent / "backupguard"
    daemon = programs.start_daemon(program, told.layout.configuration)
    # Ctrl-C reaches the whole group of the terminal: the daemon ends by itself, and is waited for.
    while daemon.poll() is None:
        try:
            daemon.wait()
        except KeyboardInterrupt:
            daemon.terminate()
