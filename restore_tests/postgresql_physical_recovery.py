"""Recovers a data directory to its end or to a chosen time, from the log that came with it.

Recovery runs in the server's single-user mode: it needs no socket and no role, and ends as a clean
shutdown. The log lies in `pg_wal`, so that `restore_command` has nothing to fetch. What the log lacks
is looked for beforehand, by the names of its segments: a server takes a hole for the end.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from backupguard.contracts import Trial
from backupguard.errors import BackupDefect, BackupGuardError, MissingMeans, Misunderstood
from backupguard.model import CheckResult, from_us
from restore_tests import inside, shape
from restore_tests.postgresql_physical_place import Placed, of
from restore_tests.postgresql_server import DATA, ENVIRONMENT

CONFIGURATION = PurePosixPath("/scratch/conf/postgresql.conf")
_COVERED = PurePosixPath("/scratch/covered-until")
_AWK = "A=$(command -v mawk || command -v gawk || command -v original-awk) || exit 90\n"
_RECOVER = (
    _AWK
    + """
program=$1; shift
{ "$@" 2>&1 >/tmp/answers </scratch/conf/first.sql; echo "status $?" >/tmp/status; } | "$A" "$program"
grep -aoE 'replayed = "[0-9]{1,20}' /tmp/answers | tr -d '="'
cat /tmp/status
"""
)
#: The first words to a recovered server: our own role, and no setting of the source's for any session.
_FIRST = """\
select (extract(epoch from pg_last_xact_replay_timestamp()) * 1000000)::bigint as replayed
create role postgres
alter role postgres superuser login connection limit -1 valid until 'infinity'
delete from pg_db_role_setting
"""
_WORD = re.compile(r"([a-z_]{2,20}) +([0-9A-F/]{1,20})\Z")
#: What a word of the server's means, first match wins.
_MEANS = {"disk": "no_disk", "memory": "no_memory", "library": "extension_missing"} | {
    "locale": "locale_missing"
}
_DEFECTS = {
    "incremental": "missing_object",
    "timeline": "wrong_timeline",
    "damaged": "corrupt",
    "log_ends": "wal_gap",
    "not_reached": "target_not_reached",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What `pg_controldata` says."""

    state: str
    timeline: int
    segment_bytes: int
    prepared: int
    checksums: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """How a recovery ended."""

    target: datetime | None
    replayed: datetime | None  # the last transaction that was replayed
    by_archive: bool  # no transaction followed the target; the archive says that none was made
    segments: int
    control: Control
    running: bool  # copied from a running server, without a word of when the copy began


def read_control(trial: Trial, programs: Path) -> Control:
    """Return the control file's content; raises BackupDefect (missing_object, corrupt)."""
    done = trial.sandbox.run(
        [str(programs / "pg_controldata"), DATA],
        scratch=True,
        environment=ENVIRONMENT,
        timeout_s=60,
    )
    text = done.stdout.decode("utf-8", "replace")
    if done.oom or done.returncode not in {0, 1}:  # killed, or not started: nothing was read
        raise Misunderstood("unknown_exit", program="pg_controldata", status=done.returncode)
    if done.returncode != 0 or "WARNING:" in text or b"WARNING:" in done.stderr:
        missing = b"No such file" in done.stderr
        raise BackupDefect("missing_object" if missing else "corrupt", objects="pg_control")
    lines = (line.partition(":") for line in text.splitlines())
    values = {name.strip(): value.strip() for name, _, value in lines}
    try:
        return Control(
            state=values["Database cluster state"],
            timeline=int(values["Latest checkpoint's TimeLineID"]),
            segment_bytes=int(values["Bytes per WAL segment"]),
            prepared=int(values["max_prepared_xacts setting"]),
            checksums=int(values["Data page checksum version"]) != 0,
        )
    except (KeyError, ValueError) as error:
        raise Misunderstood("output_unparsable", program="pg_controldata") from error


def needed_log(placed: Placed, control: Control) -> tuple[list[int], int]:
    """Return the numbers of the segments that there are from the start on, and the newest timeline.

    Raises BackupDefect: wal_gap where one of them is missing, wrong_timeline where the log is another
    history's than the backup's.
    """
    start = placed.start
    segments = sorted(name for name in placed.log if len(name) == 24)
    if start is None:
        return [], control.timeline
    first, timeline = number_of(start, control.segment_bytes), int(start[:8], 16)
    later = [name for name in segments if number_of(name, control.segment_bytes) >= first]
    numbers = sorted({number_of(name, control.segment_bytes) for name in later})
    if start not in later:
        # on the right place, of another timeline
        raise BackupDefect("wrong_timeline" if numbers[:1] == [first] else "wal_gap")
    if numbers != list(range(first, first + len(numbers))):
        raise BackupDefect("wal_gap")
    newest = max(int(name[:8], 16) for name in later)
    if newest > timeline and f"{newest:08X}.history" not in placed.log:
        raise BackupDefect("wrong_timeline", timeline=newest)
    return numbers, max(newest, timeline)


def number_of(segment: str, segment_bytes: int) -> int:
    """Return the place of a segment in the log, whatever its timeline."""
    return int(segment[8:16], 16) * ((1 << 32) // segment_bytes) + int(segment[16:24], 16)


def configure(
    trial: Trial, settings: dict[str, str], *, at: datetime | None, timeline: str
) -> None:
    """Write the only settings that the server reads; none of the backup's own is among them."""
    values = settings | {
        "hba_file": "/scratch/conf/pg_hba.conf",
        "ident_file": "/scratch/conf/pg_ident.conf",
        "shared_preload_libraries": "",
        "archive_mode": "off",
        "hot_standby": "off",
        "max_logical_replication_workers": "0",
        "log_line_prefix": "BG|%e|%a|",
        # there is nothing to fetch: all that there is lies in pg_wal
        "restore_command": "false",
        "recovery_target_timeline": timeline,
        "recovery_target_action": "promote",
    }
    if at is not None:
        values["recovery_target_time"] = f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00"
    lines = "".join(f"{name} = '{value}'\n" for name, value in values.items())
    for name, text in (
        (CONFIGURATION.name, lines),
        ("pg_hba.conf", "local all all trust\n"),
        ("pg_ident.conf", ""),
        ("first.sql", _FIRST),
    ):
        trial.sandbox.write(CONFIGURATION.with_name(name), text.encode())


def recover(
    trial: Trial, programs: Path, settings: dict[str, str], at: datetime | None
) -> Recovered:
    """Recover to `at`, to the end of the log without; raises what `needed_log` and the server say."""
    placed, control = of(trial), read_control(trial, programs)
    _require_label(placed, control)
    if b"\nINCREMENTAL FROM " in (placed.label or b""):
        raise BackupDefect("missing_object", objects="base")
    numbers, newest = needed_log(placed, control)
    timeline = str(newest) if placed.start and newest > int(placed.start[:8], 16) else "current"
    settings |= {"max_prepared_transactions": str(control.prepared)}
    if placed.label or at is not None or placed.archive:
        trial.sandbox.write(PurePosixPath(DATA) / "recovery.signal", b"")
    configure(trial, settings, at=at, timeline=timeline)
    words = _single_user(trial, programs)
    by_archive = False
    if at is not None and "not_reached" in words and at <= _covered(trial):
        # Nothing was committed between the target and the end of a log that leads beyond it.
        configure(trial, settings, at=None, timeline=timeline)
        words, by_archive = _single_user(trial, programs), True
    if (error := _error(words)) is not None:
        raise error
    if at is not None and not by_archive and "stopped" not in words:
        raise BackupDefect("target_not_reached")
    if at is None or by_archive:
        _require_end(words, numbers, control)
    replayed = from_us(int(words["replayed"])) if words.get("replayed") else None
    if at is not None and replayed is not None and replayed > at:
        raise Misunderstood("output_unparsable", program="postgres")
    after = read_control(trial, programs)
    if after.state != "shut down":
        raise Misunderstood("output_unparsable", program="pg_controldata")
    return Recovered(
        target=at,
        replayed=replayed,
        by_archive=by_archive,
        segments=len(numbers),
        control=after,
        running=placed.label is None and control.state != "shut down",
    )


def result(recovered: Recovered) -> CheckResult:
    """Return what is told of a recovery that reached where it should."""
    times = {"target": recovered.target, "replayed": recovered.replayed}
    return shape.result(
        "recovery",
        "target_by_archive",
        wrong=recovered.by_archive,
        numbers={"segments": recovered.segments, "timeline": recovered.control.timeline},
        times={name: moment for name, moment in times.items() if moment is not None},
    )


def beginning(recovered: Recovered) -> CheckResult:
    """Tell of a copy that does not say when it began: whole only if it was frozen at one instant."""
    return shape.result("backup-label", "no_backup_label", wrong=recovered.running)


def _require_label(placed: Placed, control: Control) -> None:
    """Raise BackupDefect where a copy of a running server lost the file that says where it began.

    Without one, only a copy frozen at one instant can be whole; a tool's own copy never is that.
    """
    if (
        placed.label is None
        and control.state != "shut down"
        and (placed.manifest or placed.archive)
    ):
        raise BackupDefect("missing_object", objects="backup_label")


def _require_end(words: dict[str, str], numbers: list[int], control: Control) -> None:
    """Raise BackupDefect where replay ended before the last segment that there is."""
    redo = words.get("redo")
    if not redo or not numbers:
        return
    high, _, low = redo.partition("/")
    reached = ((int(high, 16) << 32) + int(low, 16)) // control.segment_bytes
    # The last record may begin in the segment before the last, which holds its end.
    if numbers[-1] - reached > (0 if "log_damaged" in words else 1):
        raise BackupDefect("wal_gap")


def _covered(trial: Trial) -> datetime:
    """Return until when the archive itself says that it holds all log; long ago without a word."""
    never = datetime(1970, 1, 1, tzinfo=UTC)
    try:
        text = trial.sandbox.read(_COVERED, 64).decode("ascii").strip()
        moment = datetime.fromisoformat(text)
    except (FileNotFoundError, ValueError):
        return never
    return moment if moment.tzinfo is not None else never


def _single_user(trial: Trial, programs: Path) -> dict[str, str]:
    done = trial.sandbox.run(
        [
            *("/bin/sh", "-c", _RECOVER, "sh", inside.text("postgresql_recovery.awk")),
            *(str(programs / "postgres"), "--single", "-D", DATA),
            *("-c", f"config_file={CONFIGURATION}", "-c", "logging_collector=off", "template1"),
        ],
        scratch=True,
        environment=ENVIRONMENT,
        timeout_s=math.ceil(float(trial.memory.get("timeout_s", 3600))),
    )
    if done.returncode == 90:
        raise MissingMeans("program_missing", program="awk", package="mawk")
    found = (_WORD.match(line) for line in done.stdout.decode("ascii", "replace").splitlines())
    return {match[1]: match[2] for match in found if match}


def _error(words: dict[str, str]) -> BackupGuardError | None:
    for word, code in _MEANS.items():
        if word in words:
            return MissingMeans(code, program="postgresql")
    for word, code in _DEFECTS.items():
        if word in words:
            return BackupDefect(code)
    if words.get("status") != "0" or "other" in words or "place" in words:
        return Misunderstood("unclassified_stderr", program="postgresql")
    return None
