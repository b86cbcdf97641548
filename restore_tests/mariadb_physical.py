"""The restore-test engine of what mariadb-backup writes: full copies, with their incrementals.

The newest copy of the artifact is prepared with all that it needs, its pages are checked, a server is
started on it, and what is asked of a loaded dump is asked of it as well.
"""

from __future__ import annotations

from collections.abc import Iterator

from backupguard.contracts import EngineSettings, Match, Program, Requirements, Sample, Trial
from backupguard.errors import BackupDefect, MissingMeans
from backupguard.model import CheckResult, Fingerprint, Verdict
from restore_tests import mariadb_checks, mariadb_physical_place, mariadb_physical_prepare, shape
from restore_tests import mariadb_physical_recognise as recognition
from restore_tests.mariadb_physical_server import PhysicalServer, programs_for
from restore_tests.mariadb_server import places, program, stop_quietly
from restore_tests.mariadb_survey import base_tables, consistency, databases, survey
from restore_tests.settings import MariadbSettings

_MIB = 1 << 20
#: What a compressed stream unpacks to, by its own size.
_GROWTH = 10


class MariadbPhysical:
    """`contracts.Engine` for copies of whole servers of MariaDB."""

    name = recognition.ENGINE
    settings: type[EngineSettings] = MariadbSettings

    def recognise(self, sample: Sample) -> Match | None:
        """Say whether this artifact is of mariadb-backup, from its bytes alone."""
        return recognition.recognise(sample)

    def requirements(self, match: Match, artifact_bytes: int) -> Requirements:
        """Say what the restore needs; raise MissingMeans for a copy of MySQL's."""
        extra = match.extra or {}
        if extra["maker"] != "MariaDB":
            raise MissingMeans(
                "version_unsupported", program="mysqld", version=match.version or "?",
                package="mysql-server",
            )  # fmt: skip
        growth = _GROWTH if match.compression else 2 if extra["streams"] else 1
        tools = tuple(place.parent / "bin" for place in places())
        return Requirements(
            programs=(
                program(),
                Program(name="mariadb-backup", directories=tools, package="mariadb-backup"),
                Program(name="innochecksum", directories=tools, package="mariadb-server-core"),
            ),
            disk_bytes=artifact_bytes * growth + 200 * _MIB,
            memory_bytes=512 * _MIB,
        )

    def prepare(self, trial: Trial) -> None:
        """Lay the copy out, choose what of it is needed, and a server that can read it."""
        backups = mariadb_physical_place.put(trial)
        settings, newest = trial.settings, backups[-1]
        server = PhysicalServer(
            sandbox=trial.sandbox,
            trial=trial,
            memory=settings.memory if isinstance(settings, MariadbSettings) else None,
            programs=programs_for(newest.version),
            options=newest.options,
        )
        trial.memory["mariadb"], trial.memory["backups"] = server, backups
        server.find_version()
        if newest.version is not None and server.version < newest.version:
            raise mariadb_physical_prepare.version_unsupported(newest)

    def load(self, trial: Trial) -> None:
        """Apply the log of each copy in turn, and check every page."""
        server = _of(trial)
        mariadb_physical_prepare.prepare(trial, server, trial.memory["backups"])
        trial.memory["pages"] = mariadb_physical_prepare.pages(trial, server)

    def open(self, trial: Trial) -> None:
        """Start a server on it and have it tell what it holds."""
        server = _of(trial)
        server.start()
        rows = server.query("select version()")
        trial.memory["tools"] = {"mariadb": rows[0][0].partition("-")[0][:20]}
        if not base_tables(trial):
            raise BackupDefect("empty")
        wanted = getattr(trial.settings, "database", None)
        if wanted is not None and wanted not in databases(trial):
            raise BackupDefect("wrong_content")

    def verify(self, trial: Trial, level: int) -> Iterator[CheckResult]:
        """Yield what pages and tables say, what needs no configuration, then the site's checks."""
        if level >= 2:
            yield trial.memory["pages"]
            left = trial.memory["unfinished"]
            yield shape.result(
                "unfinished-copies", "unfinished_copy", wrong=left > 0, numbers={"count": left}
            )
            checked = consistency(trial, servers_own=True)
            yield checked
            if checked.verdict is Verdict.FAILED:
                # what it is asked next, it might not be able to answer
                raise BackupDefect("corrupt")
            survey(trial)
            yield from mariadb_checks.unconfigured(trial)
        if level >= 3:
            yield from mariadb_checks.configured(trial)
            yield from mariadb_checks.replayed(trial)

    def fingerprint(self, trial: Trial) -> Fingerprint | None:
        """Return the shape of what was restored."""
        return survey(trial).fingerprint

    def close(self, trial: Trial) -> None:
        """Stop the server, whatever state it is in."""
        stop_quietly(trial)


def _of(trial: Trial) -> PhysicalServer:
    server: PhysicalServer = trial.memory["mariadb"]
    return server


MARIADB_PHYSICAL = MariadbPhysical()
