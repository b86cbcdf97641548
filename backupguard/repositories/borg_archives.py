"""From borg's archives to recovery points: listed once, each looked into once in its life."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from backupguard.contracts import JobSelector
from backupguard.errors import Changing, ConfigurationError, ConfigurationProblem, Misunderstood
from backupguard.model import Message, PointKind, RecoveryPoint, from_us, to_us
from backupguard.outputs import last_json
from backupguard.repositories.borg_calls import BorgProgram, Call
from backupguard.repositories.borg_errors import failure
from backupguard.repositories.directory_names import percent

#: Clocks of two hosts differ a little; a point is dated in the future only beyond this.
FUTURE_TOLERANCE = timedelta(minutes=5)
#: What borg leaves when a backup was broken off, and when it saves its progress: no copies.
_CHECKPOINT = re.compile(r"\.checkpoint(\.\d+)?\Z")
#: So many new archives are asked about one by one; more in one call for all of that time.
_ONE_BY_ONE = 3
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One archive as the listing names it."""

    id: str
    name: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What `borg list --json` says: the repository and its archives; checkpoints are only counted."""

    repository_id: str
    encryption: str
    archives: tuple[Archive, ...]
    checkpoints: int

    @property
    def encrypted(self) -> bool:
        """Whether content is encrypted; `authenticated` modes only sign it."""
        return self.encryption != "none" and not self.encryption.startswith("authenticated")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """What `borg info --json` says of an archive. It never changes, except what was new in it."""

    host: str | None
    started_us: int
    ended_us: int
    bytes: int
    bytes_added: int
    files: int


def parse_time(text: str) -> datetime:
    """Given a time as borg writes it, return it aware and in UTC.

    borg 1 writes local times without a zone; it runs with TZ=UTC. Raise ValueError for no time.
    """
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def list_archives(program: BorgProgram) -> Listed:
    """List a repository; raises what borg's failure stands for, Misunderstood."""
    options = (("--json", None), ("--consider-checkpoints", None))
    output = _answer(program, Call(verb="list", options=options, timeout_s=_limit(program)))
    try:
        archives = [
            Archive(id=str(one["id"]), name=str(one["name"]), at=parse_time(one["time"]))
            for one in output["archives"]
        ]
        finished = tuple(one for one in archives if not _CHECKPOINT.search(one.name))
        return Listed(
            repository_id=str(output["repository"]["id"]),
            encryption=str(output["encryption"]["mode"]),
            archives=finished,
            checkpoints=len(archives) - len(finished),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Misunderstood("output_unparsable", program="borg") from error


def _limit(program: BorgProgram) -> int:
    return int(program.settings.refresh_timeout.total_seconds())


def _answer(program: BorgProgram, call: Call) -> Any:
    """Return the JSON document that a call of borg printed."""
    done = program.run(call)
    if done.returncode != 0:
        raise failure(done, program.version, program.identifier)
    if done.truncated:
        raise Misunderstood("output_unparsable", program="borg")
    return last_json(done.stdout, program="borg")


class Insides:
    """What is in archives, asked for once: `context.known`, then a file, then borg.

    The file only saves calls for archives of no known point; it may be lost at any time.
    """

    def __init__(self, program: BorgProgram) -> None:
        self._program = program
        self._memory: Path = program.memory / "archives.json"

    def of(self, listed: Listed, jobs: Sequence[JobSelector]) -> Mapping[str, Inside]:
        """Return what is in each archive that a job names, by id; in every archive without jobs.

        Raises Changing for an archive that has gone since it was listed.
        """
        archives = [
            one for one in listed.archives if not jobs or any(named(one, job) for job in jobs)
        ]
        known = self._remembered() | self._recorded(jobs)
        unknown = [one for one in archives if one.id not in known]
        if unknown:
            with self._program.cache():
                known |= self._asked(unknown, listed)
        if any(one.id not in known for one in archives):
            raise Changing("repository_changed", repository=self._program.identifier)
        wanted = {one.id: known[one.id] for one in archives}
        if unknown:
            self._remember(wanted)
        return wanted

    def _recorded(self, jobs: Sequence[JobSelector]) -> dict[str, Inside]:
        found = {}
        for selector in jobs:
            for point in self._program.context.known.points(selector.job, self._program.identifier):
                figures = (point.bytes, point.bytes_added, point.files)
                if point.started_at is None or point.ended_at is None or None in figures:
                    continue
                found[point.native_id] = Inside(
                    host=point.source_host,
                    started_us=to_us(point.started_at),
                    ended_us=to_us(point.ended_at),
                    bytes=point.bytes or 0,
                    bytes_added=point.bytes_added or 0,
                    files=point.files or 0,
                )
        return found

    def _asked(self, unknown: Sequence[Archive], listed: Listed) -> dict[str, Inside]:
        """Ask borg about `unknown`: a few by name, many by one call for all since the oldest."""
        if len(unknown) <= _ONE_BY_ONE:
            answers = [self._info(one.name, ()) for one in unknown]
        else:
            oldest = min(one.at for one in unknown)
            span = sum(1 for one in listed.archives if one.at >= oldest) + listed.checkpoints
            last = (("--sort-by", "timestamp"), ("--last", str(span)))
            answers = [self._info(None, last)]  # it takes checkpoints along
        found = {}
        try:
            for answer in answers:
                for one in answer["archives"]:
                    found[str(one["id"])] = _inside(one)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Misunderstood("output_unparsable", program="borg") from error
        return found

    def _info(self, name: str | None, options: tuple[tuple[str, str], ...]) -> Any:
        call = Call(
            verb="info",
            archive=name,
            options=(("--json", None), *options),
            timeout_s=_limit(self._program),
        )
        return _answer(self._program, call)

    def _remembered(self) -> dict[str, Inside]:
        try:
            kept = json.loads(self._memory.read_bytes())
            return {str(key): Inside(**one) for key, one in kept.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _remember(self, found: Mapping[str, Inside]) -> None:
        temporary = self._memory.with_suffix(".new")
        kept = {key: asdict(one) for key, one in found.items()}
        with suppress(OSError):
            temporary.write_text(json.dumps(kept), encoding="ascii")
            temporary.replace(self._memory)


def _inside(one: Mapping[str, Any]) -> Inside:
    stats = one["stats"]
    return Inside(
        host=str(one["hostname"]) if one.get("hostname") else None,
        started_us=to_us(parse_time(one["start"])),
        ended_us=to_us(parse_time(one["end"])),
        bytes=int(stats["original_size"]),
        bytes_added=int(stats["deduplicated_size"]),
        files=int(stats["nfiles"]),
    )


def named(archive: Archive, selector: JobSelector) -> bool:
    """Tell whether an archive's name is one of this job's: `select.name`, with *, ? and [...]."""
    return selector.name is None or fnmatchcase(archive.name, selector.name)


def check_selectors(jobs: Iterable[JobSelector]) -> None:
    """Raise ConfigurationError for a job that selects by what borg 1 does not have."""
    for selector in jobs:
        if selector.tags:
            problem = ConfigurationProblem(
                file="",
                line=None,
                column=None,
                key="select.tags",
                message=Message(id="repositories.borg-tags", values={"job": selector.job}),
            )
            raise ConfigurationError([problem])


def points_of(
    program: BorgProgram, listed: Listed, insides: Mapping[str, Inside], jobs: Sequence[JobSelector]
) -> Iterator[RecoveryPoint]:
    """Yield a recovery point for each job that an archive belongs to."""
    future = program.context.now() + FUTURE_TOLERANCE
    for archive in listed.archives:
        inside = insides.get(archive.id)
        for selector in jobs:
            if inside is None or not named(archive, selector):
                continue
            if selector.host is not None and inside.host != selector.host:
                continue
            extra: dict[str, Any] = {"name": percent(archive.name)[:_LONGEST_NAME]}
            yield RecoveryPoint(
                repository=program.identifier,
                job=selector.job,
                native_id=archive.id,
                at=archive.at,
                covers_until=archive.at,
                kind=PointKind.SNAPSHOT,
                # borg writes an archive last, so one that stands was finished; that files were left
                # out because they could not be read (status 1) is not recorded in it
                started_at=from_us(inside.started_us),
                ended_at=from_us(inside.ended_us),
                bytes=inside.bytes,
                bytes_added=inside.bytes_added,
                files=inside.files,
                source_host=inside.host,
                encrypted=listed.encrypted,
                extra=extra | ({"future": True} if archive.at > future else {}),
            )
