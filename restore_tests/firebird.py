"""The restore-test engine of Firebird: what gbak writes, and database files copied as they lay.

A backup of gbak's is restored by `gbak -c`, a file is copied; `gfix -validate -full` looks at every
page and record of the result, isql-fb counts what is in it. All of it runs inside the sandbox; see
`firebird_server` for what the database may not do there.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

from backupguard.contracts import (
    EngineSettings,
    Match,
    Requirements,
    Sample,
    SampledFile,
    Trial,
)
from backupguard.errors import BackupDefect, MissingMeans
from backupguard.model import CheckResult, Fingerprint, Verdict, to_us
from restore_tests import content, shape
from restore_tests import firebird_server as server
from restore_tests.firebird_server import DATABASE, ENGINES
from restore_tests.firebird_survey import DEFINITION_NAMES, local, survey
from restore_tests.settings import ContentCheck, FirebirdSettings
from restore_tests.survey import Survey, settings_of, zone
from restore_tests.unpacking import unpack

ENGINE = "firebird"
_MIB = 1 << 20
_BACKUP = PurePosixPath("/scratch/backup.fbk")
_CHECK_TIMEOUT_S = 600
_NAMED = ("routine", "trigger", "view", "sequence", "constraint", "index", "foreign-table")
#: Attributes of gbak's first record: the backup's date, its format.
_DATE, _FORMAT = 1, 2
_FORMATS = {7: "2.0", 8: "2.1", 9: "2.5", 10: "3.0", 11: "4.0"}
_PAGE_SIZES = frozenset({1024, 2048, 4096, 8192, 16384, 32768})
#: Bits of a database's header: written by Firebird and not InterBase; locked by nbackup.
_FIREBIRD, _BACKUP_STATE, _LOCKED = 0x8000, 0x0C00, 0x0400


class Firebird:
    """`contracts.Engine` for Firebird."""

    name = ENGINE
    settings: type[EngineSettings] = FirebirdSettings

    def recognise(self, sample: Sample) -> Match | None:
        """Say whether this artifact is Firebird's, from its bytes alone."""
        return recognise(sample)

    def requirements(self, match: Match, artifact_bytes: int) -> Requirements:
        """Say what the restore needs: gbak leaves indexes out, and packs what is empty."""
        growth = 16 if match.compression else 4 if match.format == "gbak" else 2
        return Requirements(
            programs=server.PROGRAMS,
            disk_bytes=artifact_bytes * growth + 64 * _MIB,
            memory_bytes=512 * _MIB,
        )

    def prepare(self, trial: Trial) -> None:
        """Make the engine's place; raise MissingMeans for a file that this engine does not read."""
        server.make(trial)
        ods = (trial.match.extra or {}).get("ods")
        if ods is not None and ods != trial.memory["ods"]:
            raise _unread(trial.match)

    def load(self, trial: Trial) -> None:
        """Restore the backup, or copy the file and end the state in which nbackup left it."""
        extra: Mapping[str, Any] = trial.match.extra or {}
        target = _BACKUP if trial.match.format == "gbak" else DATABASE
        unpack(trial, extra["path"], target, trial.match.compression)
        argv = ["gbak", "-create_database", str(_BACKUP), str(DATABASE)]
        if trial.match.format != "gbak":
            if not extra["locked"]:
                return
            argv = ["nbackup", "-F", str(DATABASE)]
        error = server.blamed(server.said(trial, argv), argv[0])
        if error is not None:
            raise _unread(trial.match) if error.code == "version_unsupported" else error

    def open(self, trial: Trial) -> None:
        """Validate every page and record, then count what is there."""
        argv = ["gfix", "-validate", "-full", "-no_update", str(DATABASE)]
        told = trial.memory["validated"] = server.said(trial, argv)
        error = server.blamed(told, "gfix")
        if error is not None:
            raise error
        # From here on nothing changes it: no question, and nothing that a question calls.
        error = server.blamed(
            server.said(trial, ["gfix", "-mode", "read_only", str(DATABASE)]), "gfix"
        )
        if error is not None:
            raise error
        seen = trial.memory["survey"] = survey(trial)
        if not seen.relations:
            raise BackupDefect("empty")

    def verify(self, trial: Trial, level: int) -> Iterator[CheckResult]:
        """Yield the engine's own check, what needs no configuration, then the site's checks."""
        if level >= 2:
            yield _consistency(trial)
            yield from _unconfigured(trial)
        if level >= 3:
            for check in settings_of(trial).checks:
                yield _asked(trial, check)

    def fingerprint(self, trial: Trial) -> Fingerprint | None:
        """Return the shape of what was restored."""
        seen: Survey = trial.memory["survey"]
        return seen.fingerprint

    def close(self, trial: Trial) -> None:
        """Do nothing: nothing runs on."""


def _consistency(trial: Trial) -> CheckResult:
    """Errors that gfix counted; its warnings are pages that nobody uses, which lose nothing."""
    errors = int(trial.memory["validated"].get("errors", 0))
    return CheckResult(
        name="engine-consistency",
        level=2,
        verdict=Verdict.FAILED if errors else Verdict.PASSED,
        code="corrupt" if errors else shape.OK,
        numbers={"lines": errors},
    )


def _unconfigured(trial: Trial) -> Iterator[CheckResult]:
    seen: Survey = trial.memory["survey"]
    settings = settings_of(trial)
    extra: Mapping[str, Any] = trial.match.extra or {}
    if trial.match.format == "file":
        yield shape.result("plain-copy", "plain_copy", wrong=not extra["locked"])
    yield from content.archive_age(trial)
    yield from shape.compare(seen.fingerprint, trial.baseline, trial.previous)
    yield _renamed(trial, seen)
    if settings.required_tables:
        yield content.required(seen, settings)
    inactive = seen.counts["inactive"]
    yield shape.result(
        "invalid-indexes", "invalid_index", wrong=inactive > 0, numbers={"count": inactive}
    )
    outside = seen.counts["external"] + seen.counts["libraries"]
    yield shape.result(
        "outside-the-database", "outside_left_out", wrong=outside > 0, numbers={"count": outside}
    )
    if settings.random_text:
        yield content.random_text(trial, seen)
        yield content.damaged_text(trial, seen)
    if settings.freshness.enabled:
        yield content.freshness(trial, seen)


def _renamed(trial: Trial, seen: Survey) -> CheckResult:
    """As many tables, columns and objects as before, some by another name.

    gbak writes no checksum: a byte that changed in a definition comes back as another name. Where the
    numbers differ too somebody changed the database, and the shape says what went.
    """
    known = shape.known_shape(trial.baseline, trial.previous)
    before = known.shape if known else None
    now = seen.fingerprint
    wrong = (
        before is not None
        and before.objects.get(DEFINITION_NAMES, now.objects[DEFINITION_NAMES])
        != now.objects[DEFINITION_NAMES]
        and before.columns == now.columns
        and all(before.objects.get(kind) == now.objects.get(kind) for kind in _NAMED)
    )
    return shape.result("definition-names", "definitions_renamed", wrong=wrong)


# --------------------------------------------------------------------------------------- questions


def _asked(trial: Trial, check: ContentCheck) -> CheckResult:
    """Ask one question of the site's: of a database that was made read-only."""
    timeout = settings_of(trial).statement_timeout or timedelta(seconds=_CHECK_TIMEOUT_S)
    done = server.sql(
        trial,
        _question(check, trial),
        charset=trial.memory["charset"],
        limit_s=max(1, int(timeout.total_seconds())),
    )
    if done.returncode:
        undefined = b"42S02" in done.stderr or b"42S22" in done.stderr
        error = "check_timeout" if done.returncode == 124 else "check_error"
        return content.answer(check, "error", "", error="check_undefined" if undefined else error)
    row = done.stdout.decode("ascii", "replace").split()
    said, extra = (row[0], row[1]) if len(row) == 2 else ("error", "")
    if check.newer_than is not None and extra.lstrip("-").isdigit():
        extra = str(to_us(local(int(extra) * 1000, trial)))
    return content.answer(check, said, extra)


def _question(check: ContentCheck, trial: Trial) -> str:
    """Return the statement that asks and compares; its last column is a time for `newer-than` alone."""
    end = f"^{secrets.token_hex(8)}^"
    head = f"set term {end};\nselect case when v is null then 'null' "
    tail = f" from (select ({check.sql}\n) as v from rdb$database) answer{end}\n"  # noqa: S608
    if check.newer_than is not None:
        here = ZoneInfo(zone(trial))

        def written(moment: datetime) -> str:
            return f"timestamp '{moment.astimezone(here):%Y-%m-%d %H:%M:%S}'"

        oldest = written(trial.point_at - check.newer_than)
        latest = written(trial.point_at + timedelta(days=1))
        since = "datediff(millisecond from timestamp '1970-01-01' to cast(v as timestamp))"
        return (
            f"{head}when cast(v as timestamp) > {latest} then 'future'"
            f" when cast(v as timestamp) >= {oldest} then 'passed' else 'failed' end,"
            f" coalesce(cast({since} as bigint), 0){tail}"
        )
    return f"{head}when {_comparison(check)} then 'passed' else 'failed' end, 0{tail}"


def _comparison(check: ContentCheck) -> str:
    if isinstance(check.equals, bool):
        values = "'TRUE', '1'" if check.equals else "'FALSE', '0'"
        return f"trim(cast(v as varchar(20))) in ({values})"
    if isinstance(check.equals, str):
        text = check.equals.replace("'", "''")
        return f"cast(v as varchar(8000)) = '{text}'"
    bounds = (("=", check.equals), (">=", check.at_least), ("<=", check.at_most))
    return " and ".join(f"v {sign} {n}" for sign, n in bounds if n is not None)


# -------------------------------------------------------------------------------------- recognition


def recognise(sample: Sample) -> Match | None:
    """Return what of Firebird's a sample is; None when it is nothing of it."""
    found = [match for file in sample.files if (match := _backup(file) or _database(file))]
    if len(found) > 1:
        raise MissingMeans("ambiguous_artifact", engines=ENGINE)
    return found[0] if found else None


def _backup(file: SampledFile) -> Match | None:
    """Read gbak's first record: a zero, then attributes as kind, length, value (burp.h)."""
    head = file.head[:2048]
    if head[:1] != b"\0":
        return None
    told: dict[int, bytes] = {}
    place = 1
    while place + 2 <= len(head) and head[place] != 0:
        end = place + 2 + head[place + 1]
        told.setdefault(head[place], head[place + 2 : end])
        place = end
    form, date = told.get(_FORMAT, b""), told.get(_DATE, b"")
    number = int.from_bytes(form, "little")
    if len(form) != 4 or not 0 < number < 64:
        return None
    made = _made_at(date)
    return Match(
        engine=ENGINE,
        certainty=95 if made else 60,
        format="gbak",
        version=_FORMATS.get(number),
        compression=file.compression,
        extra={"path": str(file.path), "made_at": made},
    )


def _made_at(date: bytes) -> str | None:
    """Return the date as asctime(3) writes it, in the source's own zone; None for anything else."""
    if re.fullmatch(rb"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}", date) is None:
        return None
    months = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
    month = months.index(date[4:7]) + 1 if date[4:7] in months else 0
    hour, minute, second = (int(date[at : at + 2]) for at in (11, 14, 17))
    try:
        made = datetime(int(date[20:]), month, int(date[8:10]), hour, minute, second)  # noqa: DTZ001
    except ValueError:
        return None
    return made.isoformat()


def _unread(match: Match) -> MissingMeans:
    """Return what says which engine would read this: one of its own version, where that is known.

    What no engine in Debian wrote has to become a backup of gbak by the server that wrote it.
    """
    ods = (match.extra or {}).get("ods")
    if match.version is not None:
        package = f"firebird{match.version}-server"
        return MissingMeans(
            "version_unsupported", program="firebird", version=match.version, package=package
        )
    version = "?" if ods is None else f"ODS {ods}"
    return MissingMeans("version_unsupported", program="firebird", version=version)


def _database(file: SampledFile) -> Match | None:
    """Read a database's header page (ods.h): its kind, the size of pages, the structure's version."""
    head = file.head
    if len(head) < 128 or head[0] != 1 or int.from_bytes(head[16:18], "little") not in _PAGE_SIZES:
        return None
    structure = int.from_bytes(head[18:20], "little")
    ods = structure & ~_FIREBIRD
    if not structure & _FIREBIRD or not 8 <= ods <= 20:
        return None
    state = int.from_bytes(head[42:44], "little") & _BACKUP_STATE
    return Match(
        engine=ENGINE,
        certainty=95,
        format="file",
        version=ENGINES.get(ods),
        compression=file.compression,
        extra={"path": str(file.path), "ods": ods, "locked": state == _LOCKED},
    )


FIREBIRD = Firebird()
