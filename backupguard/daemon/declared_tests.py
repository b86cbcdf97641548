"""Restore tests done elsewhere: taken from a person, or found in the places the settings name.

A record is read once: what it says is the key of its fact, so the same record again changes nothing.
One that is half written, or that tells of the future, is refused and nothing of it is kept.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from backupguard.contracts import RecordImports, Store, Tools
from backupguard.daemon import signatures
from backupguard.daemon.requests import author
from backupguard.daemon.statements import person_of, refused
from backupguard.errors import AccessRefused, BackupGuardError, Misunderstood, Unreachable
from backupguard.evidence import declared
from backupguard.evidence.kinds import Signature
from backupguard.model import Fact, Json, Message, Observation, Verdict, from_us
from backupguard.runs import TaskContext
from backupguard.settings import Settings
from backupguard.settings.people import fingerprint

if TYPE_CHECKING:
    from restore_tests.imported_record import Reading

log = structlog.get_logger(__name__)

#: Clocks of hosts differ by less than this.
_AHEAD = timedelta(minutes=1)
#: A drop directory with more files than this is something else's.
_MOST_FILES = 2_000
_UNFINISHED = (".part", ".tmp", ".crdownload", ".filepart", "~")


def repository_for(settings: Settings, application: str, named: str | None) -> str:
    """Return the repository a test is of: the one that is named, or the only one there is."""
    if application not in settings.applications:
        raise refused("no-application", application=application[:80])
    known = sorted(settings.repositories_of(application))
    if named is None and len(known) == 1:
        return known[0]
    if named not in known:
        listed = ", ".join(known) or "—"
        raise refused("no-repository", application=application, known=listed)
    return named


def checked(settings: Settings, body: Mapping[str, Json], now: datetime) -> declared.Declared:
    """Return a test that is handed in as one that may be recorded. Raises UsageError otherwise."""
    try:
        named = body.get("repository")
        repository = repository_for(settings, str(body.get("application")), named)
        test = declared.declared({**body, "repository": repository})
        moments = (test["tested_at"], test["point_at"], *(one["at"] for one in test["checks"]))
        if any(from_us(at) > now + _AHEAD for at in moments if at is not None):
            raise refused("future")
    except (ValueError, OverflowError) as error:
        raise refused("no-test") from error
    return test


def text(settings: Settings, body: Mapping[str, Json], uid: int, now: datetime) -> str:
    """Return the exact text of a test that the person of that account signs. Raises UsageError."""
    person = person_of(settings, uid)
    if person is None:
        raise refused("nobody", author=author(uid))
    return declared.canonical_text(settings.site.name, person, checked(settings, body, now))


def take(
    store: Store,
    settings: Settings,
    body: Mapping[str, Json],
    armored: str | None,
    *,
    uid: int,
    now: datetime,
    tools: Tools,
) -> tuple[int, bool]:
    """Record a test that somebody hands in; return its number, and whether it was not known yet.

    Raises UsageError for one that is not taken and for a signature that is not of it.
    """
    test = checked(settings, body, now)
    person = person_of(settings, uid)
    signature: Signature | None = None
    if armored is not None:
        if person is None:
            raise refused("nobody", author=author(uid))
        who = settings.people[person]
        said = declared.canonical_text(settings.site.name, person, test)
        signatures.verify(tools, person, who, settings.site.timezone, said, armored)
        signature = {
            "person": person,
            "key": fingerprint(str(who.signing_key)),
            "statement": said,
            "armored": armored,
        }
    before, _ = store.head()
    observation = declared.observation(test, person, signature)
    fact = store.append([observation], author=author(uid))[0]
    store.seal()
    return fact.seq, fact.seq > before


# ------------------------------------------------------------------------------ what lies in places


def imports(task: TaskContext) -> tuple[Verdict, str | None]:
    """Take what other tools laid into the places the settings name; one bad file delays no other."""
    trouble: str | None = None
    for name, owner in task.settings.applications.items():
        found = owner.restore_test.imports if owner.restore_test is not None else None
        if found is None:
            continue
        try:
            for path in files(found):
                trouble = _one(task, name, found, path) or trouble
        except BackupGuardError as error:
            log.warning("import.refused", application=name, code=error.code)
            trouble = error.code
    task.quiet = task.recorded == 0
    if trouble is not None:
        return Verdict.COULD_NOT_VERIFY, trouble
    return Verdict.PASSED, None


def _one(task: TaskContext, application: str, wanted: RecordImports, path: Path) -> str | None:
    """Record what one file tells; return the code of what is wrong with it, None for nothing."""
    from restore_tests import imported
    from restore_tests.imported_record import Reading

    task.context.cancel.raise_if_set()
    zone = task.settings.site.timezone
    reading = Reading(timezone=zone, dates=wanted.dates, tested_at=imported.dated(path.name, zone))
    try:
        observation = _observation(task.settings, application, wanted, path, reading, task)
    except BackupGuardError as error:
        values = error.message.values
        log.warning(
            "import.refused", application=application, file=path.name, code=error.code,
            why=error.message.id, line=values.get("line"),
        )  # fmt: skip
        return error.code
    before, _ = task.store.head()
    facts: tuple[Fact, ...] = task.record(observation)
    task.recorded += sum(fact.seq > before for fact in facts)
    return None


def _observation(
    settings: Settings,
    application: str,
    wanted: RecordImports,
    path: Path,
    reading: Reading,
    task: TaskContext,
) -> Observation:
    from restore_tests import imported

    content = content_of(path)
    body = imported.read(content, wanted.format, reading, wanted.names, application=application)
    named = {**body, "repository": wanted.repository}
    return declared.observation(checked(settings, named, task.context.now()), None, None)


def files(wanted: RecordImports) -> Iterator[Path]:
    """Yield the finished files of a drop directory, by name. Raises Unreachable, AccessRefused."""
    try:
        with os.scandir(wanted.directory) as entries:
            names = sorted(
                entry.name
                for entry in entries
                if entry.is_file(follow_symlinks=False)
                and not entry.name.startswith(".")
                and not entry.name.endswith(_UNFINISHED)
            )
    except FileNotFoundError as error:
        raise Unreachable("not_found") from error
    except OSError as error:
        raise AccessRefused("permission") from error
    chosen = [name for name in names if Path(name).match(wanted.pattern)]
    if len(chosen) > _MOST_FILES:
        values = {"line": 0, "most": _MOST_FILES}
        message = Message(id="restore-tests.import.too-many", values=values)
        raise Misunderstood("output_unparsable", message=message)
    yield from (wanted.directory / name for name in chosen)


def content_of(path: Path) -> bytes:
    """Return the bytes of a record: a regular file, and no more of it than a record may have."""
    from restore_tests.imported_record import FILE_LIMIT

    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise Unreachable("not_found", path=str(path)) from error
    except OSError as error:
        raise AccessRefused("permission", path=str(path)) from error
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise Unreachable("not_found", path=str(path))
        return file.read(FILE_LIMIT + 1)
