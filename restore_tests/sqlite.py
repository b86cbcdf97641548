"""The restore-test engine of SQLite: database files, with their logs, and what `.dump` writes.

Everything that touches the files' bytes runs inside the sandbox: a fixed program for the distribution's
own Python, whose sqlite3 reads the copy in scratch. A database's own log (`-wal`) is played back there,
as it would be after a crash (https://www.sqlite.org/fileformat2.html).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from backupguard.contracts import (
    EngineSettings,
    Match,
    Program,
    Requirements,
    Sample,
    SampledFile,
    Trial,
)
from backupguard.errors import BackupDefect, MissingMeans, Misunderstood
from backupguard.model import CheckResult, Fingerprint, Verdict, from_us, to_us
from restore_tests import canary, content, inside, measures, shape
from restore_tests.settings import ContentCheck, SqliteSettings
from restore_tests.survey import FLOOR, TOLERANCE, Survey, settings_of, zone
from restore_tests.unpacking import unpack

ENGINE = "sqlite"
MAGIC = b"SQLite format 3\0"
_SCRIPT = b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;"
_PYTHON = Program(name="python3", directories=(Path("/usr/bin"),), package="python3")
_MIB = 1 << 20
_CHECK_TIMEOUT_S = 600
_SCRATCH = PurePosixPath("/scratch")
#: A log to be played forward, a journal to be taken back (https://www.sqlite.org/tempfiles.html).
_LOGS = ("-wal", "-journal")


class Sqlite:
    """`contracts.Engine` for SQLite."""

    name = ENGINE
    settings: type[EngineSettings] = SqliteSettings

    def recognise(self, sample: Sample) -> Match | None:
        """Say whether this artifact is SQLite's, from its bytes alone."""
        return recognise(sample)

    def requirements(self, match: Match, artifact_bytes: int) -> Requirements:
        """Say what the restore needs: a copy in scratch, bigger where it was compressed."""
        growth = 8 if match.compression else 3 if match.format == "script" else 2
        return Requirements(
            programs=(_PYTHON,),
            disk_bytes=artifact_bytes * growth + 16 * _MIB,
            memory_bytes=256 * _MIB,
        )

    def prepare(self, trial: Trial) -> None:
        """Nothing has to run before: SQLite is a library."""
        extra: Mapping[str, Any] = trial.match.extra or {}
        trial.memory["databases"] = [
            {"path": str(_SCRATCH / f"{number}.db"), "name": name}
            for number, name in enumerate(_names(extra["paths"]))
        ]

    def load(self, trial: Trial) -> None:
        """Copy the files into scratch, or make a database of a script."""
        extra: Mapping[str, Any] = trial.match.extra or {}
        for number, path in enumerate(extra["paths"]):
            target = _SCRATCH / (f"{number}.db" if trial.match.format == "file" else "script")
            unpack(trial, path, target, extra["compressions"].get(path))
            # What a crash would have left beside it: newer rows, or the way back to the older ones.
            for end, log in extra["logs"].get(path, {}).items():
                unpack(trial, log, _SCRATCH / f"{number}.db{end}", extra["compressions"].get(log))
        if trial.match.format == "script":
            told = self._look(
                trial, "load", source=str(_SCRATCH / "script"), target=str(_SCRATCH / "0.db")
            )
            if told.get("hostile"):
                raise BackupDefect("hostile")
            trial.memory["failed"] = int(told["failed"])
        told = self._look(trial, "check")
        trial.memory["tools"] = {"sqlite": str(told["version"])[:20]}

    def open(self, trial: Trial) -> None:
        """Open every database, play its log back, let SQLite check it and count what is in it."""
        settings = settings_of(trial)
        told = self._look(
            trial,
            "open",
            limit=to_us(trial.point_at + TOLERANCE),
            floor=to_us(datetime.fromisoformat(FLOOR)),
            ignored=list(settings.freshness.ignore),
            random=settings.random_text,
        )
        try:
            trial.memory["survey"] = _survey(told)
            trial.memory["problems"] = int(told["problems"])
            trial.memory["orphans"] = int(told["orphans"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Misunderstood("output_unparsable", program="python3") from error
        if not told["tables"]:
            raise BackupDefect("empty")

    def verify(self, trial: Trial, level: int) -> Iterator[CheckResult]:
        """Yield SQLite's own check, what needs no configuration, then the site's checks."""
        if level >= 2:
            yield _consistency(trial)
            yield from _unconfigured(trial)
        if level >= 3:
            yield from self._configured(trial)
            self._measure(trial)

    def fingerprint(self, trial: Trial) -> Fingerprint | None:
        """Return the shape of what was restored."""
        seen: Survey = trial.memory["survey"]
        return seen.fingerprint

    def close(self, trial: Trial) -> None:
        """Do nothing: nothing runs on."""

    def _look(self, trial: Trial, stage: str, **request: Any) -> Mapping[str, Any]:
        """Run the program inside; raise BackupDefect for what it accuses the backup of."""
        asked = {"databases": trial.memory["databases"], "zone": zone(trial), **request}
        done = trial.sandbox.run(
            ["/usr/bin/python3", "-I", "-S", "-c", inside.text("sqlite_look.py"), stage],
            scratch=True,
            stdin=json.dumps(asked).encode(),
            timeout_s=int(trial.memory.get("timeout_s", 3600)),
            output_limit=32 * _MIB,
        )
        try:
            told = json.loads(done.stdout)
        except ValueError as error:
            raise Misunderstood("output_unparsable", program="python3") from error
        if not isinstance(told, dict) or done.truncated:
            raise Misunderstood("output_unparsable", program="python3")
        if "defect" in told:
            raise BackupDefect(told["defect"])
        if "error" in told:
            raise Misunderstood("unclassified_stderr", program="sqlite3")
        return told

    def _configured(self, trial: Trial) -> Iterator[CheckResult]:
        """Yield one result per check of the site's, in its order."""
        checks = settings_of(trial).checks
        if not checks:
            return
        questions = [_question(check, trial, _timeout(trial)) for check in checks]
        answers = self._look(trial, "ask", questions=questions).get("answers")
        if not isinstance(answers, list) or len(answers) != len(checks):
            raise Misunderstood("output_unparsable", program="python3")
        for check, (said, extra) in zip(checks, answers, strict=True):
            error = extra if said == "error" else "check_error"
            yield content.answer(check, said, "" if said == "error" else extra, error=error)

    def _measure(self, trial: Trial) -> None:
        """Have what must hold between points measured, and the canary looked at."""
        invariants, declared = measures.asked(trial), canary.wanted(trial)
        if not invariants and declared is None:
            return
        told = self._look(
            trial,
            "measure",
            database=_asked_database(trial),
            timeout_s=int(_timeout(trial).total_seconds()),
            key=measures.key(trial),
            questions=[
                {"sql": one.closed_set or one.only_grows, "closed": one.closed}
                for one in invariants
            ],
            canary=canary.beginning(canary.application_of(trial)) if declared else None,
        )
        answers = told.get("answers")
        if not isinstance(answers, list) or len(answers) != len(invariants):
            raise Misunderstood("output_unparsable", program="python3")
        for invariant, answer in zip(invariants, answers, strict=True):
            measures.tell(trial, invariant, *answer)
        if declared is not None:
            canary.tell(trial, *told["canary"])


def _timeout(trial: Trial) -> timedelta:
    return settings_of(trial).statement_timeout or timedelta(seconds=_CHECK_TIMEOUT_S)


def _asked_database(trial: Trial) -> int:
    """Return which database the site's questions are for."""
    settings = trial.settings
    names = [one["name"] for one in trial.memory["databases"]]
    wanted = settings.database if isinstance(settings, SqliteSettings) else None
    return names.index(wanted) if wanted in names else 0


def _names(paths: Sequence[str]) -> list[str]:
    """Return what databases are called in a shape: "main" for one, the files' names for several."""
    if len(paths) == 1:
        return ["main"]
    return [str(PurePosixPath(path).with_suffix("")).replace(".", "-") for path in paths]


def _question(check: ContentCheck, trial: Trial, timeout: timedelta) -> dict[str, Any]:
    newer = check.newer_than
    return {
        "database": _asked_database(trial),
        "sql": check.sql,
        "timeout_s": int(timeout.total_seconds()),
        "oldest": to_us(trial.point_at - newer) if newer is not None else None,
        "latest": to_us(trial.point_at + timedelta(days=1)),
        "equals": check.equals,
        "at_least": check.at_least,
        "at_most": check.at_most,
    }


def _survey(told: Mapping[str, Any]) -> Survey:
    def whole(numbers: Mapping[str, Any]) -> dict[str, int]:
        return {str(name): int(number) for name, number in numbers.items()}

    return Survey(
        fingerprint=Fingerprint(
            tables=whole(told["tables"]),
            objects={"text-column": 0, "random-text-column": 0, **whole(told["objects"])},
            columns=whole(told["columns"]),
        ),
        relations=frozenset(map(str, told["relations"])),
        newest={name: from_us(us) for name, us in whole(told["newest"]).items()},
    )


def _consistency(trial: Trial) -> CheckResult:
    problems: int = trial.memory["problems"]
    return CheckResult(
        name="engine-consistency",
        level=2,
        verdict=Verdict.FAILED if problems else Verdict.PASSED,
        code="corrupt" if problems else shape.OK,
        numbers={"lines": problems},
    )


def _unconfigured(trial: Trial) -> Iterator[CheckResult]:
    seen: Survey = trial.memory["survey"]
    settings = settings_of(trial)
    failed = int(trial.memory.get("failed", 0))
    yield shape.result(
        "load-messages", "engine_warnings", wrong=failed > 0, numbers={"warnings": failed}
    )
    yield from shape.compare(seen.fingerprint, trial.baseline, trial.previous)
    if settings.required_tables:
        yield content.required(seen, settings)
    yield content.orphans(trial.memory["orphans"])
    if settings.random_text:
        yield content.random_text(trial, seen)
    if settings.freshness.enabled:
        yield content.freshness(trial, seen)


# -------------------------------------------------------------------------------------- recognition


def recognise(sample: Sample) -> Match | None:
    """Return what of SQLite's a sample is; None when it is nothing of it.

    Several database files are one artifact: an application may keep its data in more than one. Among
    many other files a database is one of them, and whoever knows the others is asked first.
    """
    scripts = [file for file in sample.files if _SCRIPT in file.head[:4096]]
    files = [file for file in sample.files if file.head.startswith(MAGIC)]
    if scripts and not files:
        if len(scripts) > 1:
            raise MissingMeans("ambiguous_artifact", engines=ENGINE)
        return _match("script", scripts, {}, certainty=90)
    if not files:
        return None
    by_name = {str(file.path): file for file in sample.files}
    logs = {
        str(file.path): {
            end: log for end in _LOGS if (log := by_name.get(f"{file.path}{end}")) is not None
        }
        for file in files
    }
    beside = {f"{file.path}{end}" for file in files for end in ("-wal", "-shm", "-journal")}
    others = len(by_name.keys() - beside) - len(files)
    return _match("file", files, logs, certainty=100 if not others else 40)


def _match(
    form: str,
    files: Sequence[SampledFile],
    logs: Mapping[str, Mapping[str, SampledFile]],
    *,
    certainty: int,
) -> Match:
    every = [*files, *(log for beside in logs.values() for log in beside.values())]
    compressions = {str(file.path): file.compression for file in every if file.compression}
    return Match(
        engine=ENGINE,
        certainty=certainty,
        format=form,
        version="3",
        compression=next(iter(compressions.values()), None),
        extra={
            "paths": sorted(str(file.path) for file in files),
            "logs": {
                path: {end: str(log.path) for end, log in beside.items()}
                for path, beside in logs.items()
            },
            "compressions": compressions,
        },
    )


SQLITE = Sqlite()
