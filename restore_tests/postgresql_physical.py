"""The restore-test engine of PostgreSQL's data directories: pg_basebackup, pgBackRest, cold copies.

The data directory is recovered with the log that came with it, to its end or to a chosen time; then
what is asked of a loaded dump is asked of it as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from backupguard.contracts import EngineSettings, Match, Requirements, Sample, Trial
from backupguard.errors import BackupDefect
from backupguard.model import CheckResult, Fingerprint
from restore_tests import postgresql_checks, shape
from restore_tests import postgresql_physical_place as place
from restore_tests import postgresql_physical_recognise as recognition
from restore_tests import postgresql_physical_recovery as recovery
from restore_tests import postgresql_questions as questions
from restore_tests.postgresql_physical_server import PhysicalServer
from restore_tests.postgresql_server import Sizes, program, programs_directory, stop_quietly
from restore_tests.postgresql_survey import survey
from restore_tests.settings import PostgresqlPhysicalSettings
from restore_tests.survey import Survey

_MIB = 1 << 20
#: What a tar unpacks to, by its own size: text of a hospital, packed, had 3 to 8 times as much room.
_GROWTH = {recognition.DIRECTORY: 1, recognition.TAR: 1}
_COMPRESSED = 8


class PostgresqlPhysical:
    """`contracts.Engine` for data directories of PostgreSQL; recovers to a time (`point_in_time`)."""

    name = recognition.ENGINE
    settings: type[EngineSettings] = PostgresqlPhysicalSettings
    point_in_time = True

    def recognise(self, sample: Sample) -> Match | None:
        """Say whether this artifact is a data directory, or the tars of one."""
        return recognition.recognise(sample)

    def requirements(self, match: Match, artifact_bytes: int) -> Requirements:
        """Say what the restore needs: a directory is moved, a tar unpacked beside itself."""
        growth = _COMPRESSED if match.compression else _GROWTH[match.format]
        return Requirements(
            programs=(program(match.version),),
            disk_bytes=artifact_bytes * growth + 200 * _MIB,
            memory_bytes=512 * _MIB,
        )

    def prepare(self, trial: Trial) -> None:
        """Put the data directory where a server can run on it."""
        place.put(trial)
        settings = trial.settings
        ours = isinstance(settings, PostgresqlPhysicalSettings)
        trial.memory["postgresql"] = PhysicalServer(
            sandbox=trial.sandbox,
            programs=programs_directory(place.of(trial).version),
            database="template1",
            sizes=Sizes.of_host(settings.memory if ours else None, settings.jobs if ours else None),
            trial=trial,
        )

    def load(self, trial: Trial) -> None:
        """Compare the files with their manifest, then recover."""
        server = _of(trial)
        trial.memory["manifest"] = place.verify_manifest(trial, server.programs)
        place.settle(trial)
        at: datetime | None = trial.memory.get("at")
        trial.memory["recovered"] = recovery.recover(
            trial, server.programs, server.sizes.settings(), at
        )

    def open(self, trial: Trial) -> None:
        """Start a server on it and open the application's database as a client would."""
        server, settings = _of(trial), trial.settings
        server.start()
        server.choose(getattr(settings, "database", None))
        said = server.open()
        trial.memory["tools"] = {"postgresql": said.get("version", "?").split(" ")[0][:20]}
        if int(said["open"]) == 0:
            raise BackupDefect("empty")

    def verify(self, trial: Trial, level: int) -> Iterator[CheckResult]:
        """Yield what recovery, pages and indexes say, what needs no configuration, then the site's."""
        server = _of(trial)
        recovered: recovery.Recovered = trial.memory["recovered"]
        if level >= 2:
            yield recovery.result(recovered)
            yield recovery.beginning(recovered)
            if (manifest := trial.memory["manifest"]) is not None:
                yield manifest
            yield server.check_pages(trial, enabled=recovered.control.checksums)
            yield from server.consistency(trial)
            unnamed = getattr(trial.settings, "database", None) is None
            yield shape.result(
                "databases", "database_unnamed", wrong=unnamed and server.databases > 1
            )
            yield _unlogged(survey(trial))
            yield from postgresql_checks.unconfigured(trial)
        if level >= 3:
            yield from questions.configured(trial)

    def fingerprint(self, trial: Trial) -> Fingerprint | None:
        """Return the shape of the application's database."""
        return survey(trial).fingerprint

    def close(self, trial: Trial) -> None:
        """Stop the server, whatever state it is in."""
        stop_quietly(trial)


def _unlogged(seen: Survey) -> CheckResult:
    """Tables without a log are empty in every physical copy: sound, and their rows are nowhere."""
    tables = seen.counts["unlogged"]
    return shape.result("unlogged", "unlogged_tables", wrong=tables > 0, numbers={"tables": tables})


def _of(trial: Trial) -> PhysicalServer:
    server: PhysicalServer = trial.memory["postgresql"]
    return server


POSTGRESQL_PHYSICAL = PostgresqlPhysical()
