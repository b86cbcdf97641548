"""The demonstration from beginning to end, through the same code as the commands."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from backupguard import metrics, runs, settings
from backupguard.assess import Assessment, Assessor
from backupguard.controls import Catalogue, load_catalogue
from backupguard.daemon import configuration
from backupguard.daemon.requests import author, request
from backupguard.daemon.tasks import TASKS
from backupguard.demo import hospital, layout, programs
from backupguard.errors import MissingMeans
from backupguard.evidence.seals import anchor_line
from backupguard.model import (
    SITE,
    Fact,
    Json,
    Message,
    Observation,
    Origin,
    Run,
    Subject,
    application_subject,
    repository_subject,
)
from backupguard.processes import Cancellation
from backupguard.reports.history import month_of
from backupguard.store import open_store
from backupguard.store.bundle import write_bundle
from backupguard.store.sql import SqlStore

HTTP_PORT = 9789
OBSERVATIONS = 1_000_000
RESULTS = 120_000
APPLICATIONS = ("dpi", "labo")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Teller = Callable[[Message], None]


@dataclass(slots=True, kw_only=True)
class Told:
    """What the demonstration did and saw, for its summary. Durations in milliseconds."""

    layout: layout.Layout
    settings: settings.Settings
    made: hospital.Made
    runs: list[Run] = field(default_factory=list)
    tests: list[Fact] = field(default_factory=list)
    assessment: Assessment | None = None
    reports: tuple[Path, ...] = ()
    bundle: Path | None = None
    bundle_verified: bool = False
    fingerprint: str = ""
    metrics: Path | None = None
    coffre: bool = False
    duration_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """What every step works on."""

    settings: settings.Settings
    store: SqlStore
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

    `stay`, if given, is called at the end while the rest-server still runs. Raises errors of
    `backupguard.errors`: UsageError for a directory in use, MissingMeans for a missing program,
    Cancelled after Ctrl-C.
    """
    began = time.monotonic()
    place = layout.prepare(directory)
    restic, server = programs.restic(), programs.rest_server()
    with ExitStack() as stack:
        cancel = stack.enter_context(_cancelled_by_signals())
        tell(Message(id="demo.step.hospital", values={"rows": observations}))
        made = hospital.make_dumps(place, observations, results)
        cancel.raise_if_set()
        port = None
        if server is None:
            tell(Message(id="demo.no_rest_server"))
        else:
            port = programs.free_port()
            argv = hospital.vault_argv(server, place, port)
            layout.write_coffre_script(place, argv)
            stack.enter_context(programs.vault(argv, port, place.log / "coffre.log"))
        tell(Message(id="demo.step.backup"))
        hospital.back_up(place, restic, port)
        layout.write_configuration(
            place,
            language=language,
            restic=restic,
            http_port=programs.free_port(HTTP_PORT),
            coffre_port=port,
            observations=observations,
        )
        chosen = settings.load(place.configuration, environ={})
        told = Told(layout=place, settings=chosen, made=made, coffre=port is not None)
        store = open_store(chosen.state_directory, chosen.store.url)
        try:
            _steps(_Stage(settings=chosen, store=store, cancel=cancel, tell=tell, told=told))
        finally:
            store.close()
        told.duration_ms = int((time.monotonic() - began) * 1000)
        if stay is not None:
            with _interrupted_by_signals():
                stay(told)
    return told


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Have SIGINT and SIGTERM raise KeyboardInterrupt again, as long as a daemon is waited for."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _cancelled_by_signals() -> Iterator[Cancellation]:
    """Turn SIGINT and SIGTERM into a cancel, so that what runs is discarded and its run closed."""
    cancel = Cancellation()

    def wanted(_number: int, _frame: FrameType | None) -> None:
        cancel.set("by_operator")

    before = {number: signal.signal(number, wanted) for number in _SIGNALS}
    try:
        yield cancel
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _steps(stage: _Stage) -> None:
    chosen, store, tell = stage.settings, stage.store, stage.tell
    catalogue = load_catalogue()
    configuration.accept(store, chosen, catalogue, author=author(), now=datetime.now(UTC))
    tell(Message(id="demo.step.inventory"))
    stage.perform("inventory", SITE)
    tell(Message(id="demo.step.integrity"))
    for identifier in chosen.repositories:
        stage.perform("integrity", repository_subject(identifier))
    tell(Message(id="demo.step.first"))
    for application in APPLICATIONS:
        _restore(stage, application, "nas")
    tell(Message(id="demo.step.baseline"))
    for application in APPLICATIONS:
        _accept_baseline(stage, application)
    tell(Message(id="demo.step.second"))
    for application in APPLICATIONS:
        for identifier in chosen.repositories:
            _restore(stage, application, identifier)
    tell(Message(id="demo.step.assess"))
    _judge(stage, catalogue)
    tell(Message(id="demo.step.report"))
    _report(stage)
    tell(Message(id="demo.step.evidence"))
    _evidence(stage)


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
    stage.store.seal()
    told.metrics = told.layout.metrics
    told.metrics.write_bytes(metrics.render(told.assessment))


def _report(stage: _Stage) -> None:
    now = datetime.now(UTC)
    month, languages = month_of(now, stage.settings.site.timezone), ["fr", "en"]
    directory = stage.told.layout.reports
    stage.perform("report", SITE, month=month, languages=languages, output=str(directory))
    stage.told.reports = tuple(sorted(directory.glob("*.html")))


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
