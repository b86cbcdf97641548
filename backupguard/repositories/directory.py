"""Dumps in a directory, only read: one point per file, or per directory that a tool wrote.

Directories are those of `pg_dump -Fd`, `pg_basebackup` and `mariadb-backup` (`directory_physical`).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from io import FileIO
from pathlib import Path, PurePosixPath
from zoneinfo import ZoneInfo

from backupguard.contracts import (
    Attacker,
    Capability,
    Command,
    Context,
    Fetched,
    FetchRequest,
    JobRun,
    JobSelector,
    Protection,
    ProtectionState,
    RepositoryState,
    VerifiedUnit,
    VerifyPlan,
)
from backupguard.errors import (
    AccessRefused,
    BackupDefect,
    BackupGuardError,
    Changing,
    MissingMeans,
    Misunderstood,
    Unreachable,
)
from backupguard.model import PointState, RecoveryPoint, Verdict
from backupguard.repositories import files_attack
from backupguard.repositories.devices import device_of_path
from backupguard.repositories.directory_chain import bases
from backupguard.repositories.directory_names import percent
from backupguard.repositories.directory_points import DirectoryPoints
from backupguard.repositories.directory_scan import Entry, Scanner
from backupguard.repositories.directory_settings import DirectorySettings
from backupguard.repositories.opening import ReadingType

_CHUNK = 1 << 20
#: Where an incremental backup is fetched to, beside what it builds on.
_CHAIN = "chain"
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_SHA256 = re.compile(rb"\b([0-9a-fA-F]{64})\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hashed:
    """The hash a point had when it was read, and the state of its files then."""

    content_id: str
    state: str


def patterns_of(selector: JobSelector) -> tuple[str, ...]:
    """Return the patterns of a job: its `pattern`, or its paths, or everything in the directory."""
    if selector.pattern is not None:
        return (selector.pattern,)
    return selector.paths or ("*",)


def _state_of(seen: Mapping[str, tuple[int, int]]) -> str:
    return sha256(json.dumps(sorted(seen.items()), ensure_ascii=True).encode()).hexdigest()


class DirectoryRepository:
    """One directory of dumps."""

    capabilities = frozenset({Capability.VERIFY, Capability.FETCH})

    def __init__(self, identifier: str, settings: DirectorySettings, context: Context) -> None:
        self._identifier = identifier
        self._settings = settings
        self._context = context
        zone = ZoneInfo(settings.timezone) if settings.timezone else None
        self._scanner = Scanner(settings.path, zone, identifier)
        self._memory = context.remember(f"directory-{identifier}") / "hashes.json"
        self._hashes = self._load()
        self._looked = self._listing()

    # ---- contract

    def inspect(self) -> RepositoryState:
        """Return device and room; raises Unreachable (not_found), AccessRefused (permission)."""
        path = self._settings.path
        try:
            with os.scandir(path):
                pass
            room = os.statvfs(path)
            device = device_of_path(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Unreachable("not_found", repository=self._identifier) from error
        except PermissionError as error:
            raise AccessRefused("permission", repository=self._identifier) from error
        except OSError as error:
            raise Unreachable("refused", repository=self._identifier) from error
        return RepositoryState(
            tool="directory",
            tool_version="1",
            free_bytes=room.f_bavail * room.f_frsize,
            device=device,
        )

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        """Yield a point per matching file or directory, also those that are empty or unfinished.

        Raises Unreachable (not_found) for an empty directory on another file system than before: a
        mount that is not there has lost no backup.
        """
        self._require_mounted(self.inspect().device)
        listing = self._listing()
        for selector in jobs:
            entries = self._entries(selector)
            contents = {
                name: hashed.content_id
                for name, entry in entries.items()
                if (hashed := self._hashes.get(name)) and hashed.state == _state_of(entry.seen)
            }
            yield from listing.points(selector, entries, contents)

    def runs(self, since: datetime) -> Iterator[JobRun]:  # noqa: ARG002 - the protocol's
        """Yield nothing: a directory keeps no record of runs (capability `runs` is absent)."""
        return iter(())

    def units(self, plan: VerifyPlan) -> Sequence[str]:
        """Return a unit per point of the plan's jobs; of everything there when it names none."""
        return tuple(f"file/{name}" for name in self._all_entries(plan.jobs))

    def verify(self, plan: VerifyPlan) -> Iterator[VerifiedUnit]:
        """Read files, those not read for longest first, and compare their hashes.

        Compared with the hash of the first reading, while size and time are still the same, and with
        a `.sha256` file beside it. `data_percent` is of the bytes.
        """
        entries = self._all_entries(plan.jobs)
        wanted = math.ceil(
            sum(entry.bytes for entry in entries.values())
            * min(max(plan.data_percent, 0), 100)
            / 100
        )
        coverage = self._context.known.coverage(self._identifier)

        def verified(name: str) -> datetime:
            unit = coverage.get(f"file/{name}")
            return unit.verified_at if unit else _NEVER

        read = 0
        for done, name in enumerate(sorted(entries, key=lambda name: (verified(name), name))):
            entry = entries[name]
            if read >= wanted or (
                plan.max_bytes is not None and read + entry.bytes > plan.max_bytes
            ):
                break
            self._context.progress(done, len(entries), "files")
            yield self._verify_entry(name, entry, len(entries))
            read += entry.bytes

    def fetch(self, request: FetchRequest, into: Path) -> Fetched:
        """Copy the point into `into` and make sure that it stood still meanwhile.

        With an incremental backup comes all that it builds on. Raises BackupDefect (empty, truncated,
        base_missing), Changing (written, rotated or removed meanwhile).
        """
        entries = self._entries(request.selector)
        entry = entries.get(request.point.native_id)
        if entry is None:
            raise Changing("repository_changed", repository=self._identifier)
        listing = self._listing()
        self._require_finished(entry, listing)
        needed = bases(request.point.native_id, entries, listing, self._scanner)
        if needed is None:
            raise BackupDefect("base_missing", repository=self._identifier)
        size = entry.bytes + sum(one.bytes for one in needed)
        room = os.statvfs(into)
        if size > room.f_bavail * room.f_frsize:
            raise MissingMeans("no_disk", needed=size, available=room.f_bavail * room.f_frsize)
        if not needed:
            self._copy_whole(entry, into)
            name = PurePosixPath(entry.relative).name
            return Fetched(artifact=PurePosixPath(name), bytes=size, files=len(entry.seen))
        # A directory each: two of them may have the same name.
        for number, one in enumerate((*reversed(needed), entry)):
            place = into / _CHAIN / str(number)
            place.mkdir(mode=0o700, parents=True)
            self._copy_whole(one, place)
        files = sum(len(one.seen) for one in (entry, *needed))
        return Fetched(artifact=PurePosixPath(_CHAIN), bytes=size, files=files)

    def _copy_whole(self, entry: Entry, into: Path) -> None:
        """Copy an entry and make sure that it stood still meanwhile."""
        self._copy(entry, into)
        if self._scanner.look(entry.relative) != entry.seen:
            raise Changing("repository_changed", repository=self._identifier)
        name = entry.relative.rpartition("/")[2]
        copied = Scanner(into, None, self._identifier).look(name) or {}
        if {path: size for path, (size, _) in copied.items()} != {
            path: size for path, (size, _) in entry.seen.items()
        }:
            raise Misunderstood("output_unparsable", repository=self._identifier)

    def protection(self, points: Iterable[RecoveryPoint]) -> Iterator[Protection]:  # noqa: ARG002
        """Yield nothing: nothing protects a file in a directory (capability is absent)."""
        return iter(())

    def protection_state(self) -> ProtectionState:
        """Return how the newest files are flagged (chattr); raises Unreachable, AccessRefused."""
        return files_attack.protection_state(self._identifier, self._settings.path)

    def _require_mounted(self, device: str | None) -> None:
        known = self._memory.with_name("device")
        with os.scandir(self._settings.path) as listing:
            filled = any(one.name != "lost+found" and one.name[0] != "." for one in listing)
        before = known.read_text(encoding="utf-8") if known.is_file() else device
        if not filled and before != device:
            raise Unreachable("not_found", repository=self._identifier)
        if filled and device is not None and (before != device or not known.is_file()):
            known.write_text(device, encoding="utf-8")

    # ---- entries

    def _entries(self, selector: JobSelector) -> dict[str, Entry]:
        """Return the entries of a job by native id, which never depends on what else is there.

        Two that differ only by what rotation changes in a name, of one second, keep their names.
        """
        found: dict[str, Entry] = {}
        root = PurePosixPath(self._settings.path)
        for pattern in patterns_of(selector):
            path = PurePosixPath(pattern)
            relative = str(path.relative_to(root)) if path.is_relative_to(root) else pattern
            for entry in self._scanner.entries(relative):
                name = entry.native_id
                if name in found and found[name].relative != entry.relative:
                    name = f"{name}+{percent(entry.relative)}"
                found[name] = entry
        return found

    def _all_entries(self, jobs: Sequence[JobSelector]) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for selector in jobs or (JobSelector(job="", application=""),):
            entries |= self._entries(selector)
        return entries

    def _listing(self) -> DirectoryPoints:
        return DirectoryPoints(self._identifier, self._settings, self._context)

    def _require_finished(self, entry: Entry, listing: DirectoryPoints) -> None:
        """Raise Changing while an entry is being written, BackupDefect (empty, truncated) if broken."""
        state = listing.state(entry, listing.physical(entry))
        if state is PointState.RUNNING:
            raise Changing("repository_changed", repository=self._identifier)
        if state is PointState.FAILED:
            code = "empty" if entry.bytes == 0 else "truncated"
            raise BackupDefect(code, repository=self._identifier)

    # ---- reading

    def _verify_entry(self, name: str, entry: Entry, total: int) -> VerifiedUnit:
        verdict, code = Verdict.PASSED, None
        try:
            self._compare(name, entry)
        except (BackupDefect, Changing, AccessRefused, Unreachable) as error:
            verdict, code = error.verdict, error.code
        return VerifiedUnit(
            unit=f"file/{name}", verdict=verdict, bytes=entry.bytes, code=code, units_total=total
        )

    def _compare(self, name: str, entry: Entry) -> None:
        if self._context.now() - self._looked.now > self._settings.settle:
            self._looked = self._listing()  # it looks at all processes: not for each of many files
        self._require_finished(entry, self._looked)
        hashes = self._hash(entry)
        if self._scanner.look(entry.relative) != entry.seen:
            raise Changing("repository_changed", repository=self._identifier)
        content_id = _content_id(hashes)
        before = self._hashes.get(name)
        state = _state_of(entry.seen)
        if before is not None and before.state == state and before.content_id != content_id:
            raise BackupDefect("content_changed", repository=self._identifier)
        declared = self._declared(entry)
        if declared is not None and declared != hashes.get(""):
            raise BackupDefect("corrupt", repository=self._identifier)
        self._hashes[name] = _Hashed(content_id=content_id, state=state)
        self._save()

    def _hash(self, entry: Entry) -> dict[str, str]:
        hashes: dict[str, str] = {}
        path = self._settings.path / entry.relative
        for relative in sorted(entry.seen):
            digest = sha256()
            try:
                descriptor = os.open(
                    path / relative if relative else path,
                    os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC,
                )
            except FileNotFoundError as error:
                raise Changing("repository_changed", repository=self._identifier) from error
            except OSError as error:
                raise AccessRefused("permission", repository=self._identifier) from error
            with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
                while chunk := self._read(file):
                    digest.update(chunk)
                    self._context.cancel.raise_if_set()
            hashes[relative] = digest.hexdigest()
        return hashes

    def _read(self, file: FileIO) -> bytes:
        try:
            return file.read(_CHUNK) or b""
        except OSError as error:  # a bad sector, a mount that went away
            raise Unreachable("refused", repository=self._identifier) from error

    def _declared(self, entry: Entry) -> str | None:
        """Return the hash that a file beside a dump declares for it, None without one."""
        if entry.is_directory:
            return None
        path = self._settings.path / entry.relative
        for suffix in (".sha256", ".sha256sum"):
            beside = path.with_name(path.name + suffix)
            try:
                descriptor = os.open(beside, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                continue
            with open(descriptor, "rb") as file:  # noqa: PTH123
                match = _SHA256.search(file.read(4096))
            if match is not None:
                return match[1].decode("ascii").lower()
        return None

    def _copy(self, entry: Entry, into: Path) -> None:
        source = self._settings.path / entry.relative
        done = self._context.tools.run(
            Command(
                argv=(
                    *("cp", "--recursive", "--no-dereference", "--reflink=auto"),
                    *("--preserve=timestamps", "--target-directory", str(into), "--", str(source)),
                ),
                read=(self._settings.path,),
                write=(into,),
                timeout_s=int(self._settings.fetch_timeout.total_seconds()),
            )
        )
        if done.returncode != 0:
            raise self._copy_failure(done.stderr)

    def _copy_failure(self, stderr: bytes) -> BackupGuardError:
        if b"No space left" in stderr or b"Disk quota" in stderr:
            return MissingMeans("no_disk", repository=self._identifier)
        if b"Permission denied" in stderr:
            return AccessRefused("permission", repository=self._identifier)
        if b"No such file" in stderr:
            return Changing("repository_changed", repository=self._identifier)
        if b"Input/output error" in stderr or b"Stale file handle" in stderr:
            return Unreachable("refused", repository=self._identifier)
        return Misunderstood("unclassified_stderr", repository=self._identifier)

    # ---- memory

    def _load(self) -> dict[str, _Hashed]:
        try:
            kept = json.loads(self._memory.read_bytes())
            return {
                str(name): _Hashed(content_id=str(one[0]), state=str(one[1]))
                for name, one in kept.items()
            }
        except (OSError, ValueError, TypeError, AttributeError, LookupError):
            return {}  # a cache: it may be emptied at any time

    def _save(self) -> None:
        kept = {name: [one.content_id, one.state] for name, one in self._hashes.items()}
        temporary = self._memory.with_suffix(".new")
        temporary.write_text(json.dumps(kept), encoding="ascii")
        temporary.replace(self._memory)


def _content_id(hashes: Mapping[str, str]) -> str:
    """Return one id for a point: its file's SHA-256, or that of the list of its files' hashes."""
    if set(hashes) == {""}:
        return f"sha256:{hashes['']}"
    listed = json.dumps(sorted(hashes.items()), ensure_ascii=True)
    return f"sha256-tree:{sha256(listed.encode()).hexdigest()}"


def _attack(
    identifier: str, settings: DirectorySettings, context: Context
) -> AbstractContextManager[Attacker] | None:
    return files_attack.attack(identifier, settings.path, settings.backup_user, context)


#: The entry point `directory`.
DIRECTORY = ReadingType("directory", DirectorySettings, DirectoryRepository, attacker=_attack)
