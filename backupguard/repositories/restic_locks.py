"""Until when snapshots of a restic repository in a bucket survive: over every object they need.

That is the snapshot's own file, the configuration, the keys, the packs of its trees and data, and the
indexes that name them. One pack without a lock, or with one that ends earlier, decides for all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime

from backupguard.contracts import Capability, Protection, ProtectionState
from backupguard.errors import AccessRefused
from backupguard.model import RecoveryPoint
from backupguard.repositories.restic import ResticRepository
from backupguard.repositories.restic_calls import ResticProgram
from backupguard.repositories.restic_needs import ResticNeeds
from backupguard.repositories.s3_ledger import MODES, Ledger
from backupguard.repositories.s3_locks import MECHANISM, S3Locks
from backupguard.repositories.s3_places import S3Place
from backupguard.repositories.s3_wire import Wire

#: So many snapshots below delete markers are named.
_HIDDEN_NAMED = 20
_DIRECTORIES = frozenset({"data", "index", "keys", "snapshots"})
_NAME = re.compile(r"[0-9a-f]{64}\Z")


class ResticInBucket(ResticRepository):
    """A restic repository whose backend is S3: it has locks to look at."""

    capabilities = ResticRepository.capabilities | {Capability.PROTECTION}

    def __init__(self, program: ResticProgram, place: S3Place) -> None:
        super().__init__(program)
        self._place = place
        self._locks: S3Locks | None = None

    @property
    def _bucket(self) -> S3Locks:
        if self._locks is None:
            self._locks = S3Locks(self._program.identifier, self._place, self._program.context)
        return self._locks

    def protection_state(self) -> ProtectionState:
        """Return how the bucket is locked; raises Unreachable, AccessRefused."""
        return self._bucket.state()

    def requests(self) -> Mapping[str, int]:
        """Return our own requests to the server by operation; restic's are not counted."""
        return self._locks.requests() if self._locks is not None else {}

    def protection(self, points: Iterable[RecoveryPoint]) -> Iterator[Protection]:
        """Yield how each point is protected, then snapshots that delete markers hide.

        Of the latter only those are named that are newer than all that show: a retention leaves the
        newest. Raises Unreachable, AccessRefused (permission: locks may not be seen), Misunderstood.
        """
        wanted = tuple(points)
        if self.protection_state().mechanism != MECHANISM:
            for point in wanted:
                yield Protection(
                    native_id=point.native_id, job=point.job, mechanism="none", locked_until=None
                )
            return
        context, identifier = self._program.context, self._program.identifier
        ledger = Ledger(
            context.work / f"locks-{identifier}.sqlite",
            context.remember(f"s3-locks-{identifier}") / "locks.sqlite",
            int(context.now().timestamp()),
        )
        with closing(ledger), self._bucket.wire() as wire:
            yield from _Look(self._program, self._bucket, ledger, wire).at(wanted)


class _Look:
    """One look at the locks of a repository."""

    def __init__(self, program: ResticProgram, bucket: S3Locks, ledger: Ledger, wire: Wire) -> None:
        self._program = program
        self._bucket = bucket
        self._prefix = bucket.place.prefix
        self._ledger = ledger
        self._wire = wire
        self._indexed = False  # whether every index is known
        self._exact: dict[str, bool] = {}
        self._lacking: dict[str, int] = {}

    def at(self, points: tuple[RecoveryPoint, ...]) -> Iterator[Protection]:
        with ThreadPoolExecutor(1, thread_name_prefix="restic-needs") as pool:
            # restic takes half a second per call, most of it for its key. As long as it has not said
            # which objects are needed, any that is listed is as likely as another.
            reading = pool.submit(self._read_metadata, points)
            listed = self._as_listed(points, reading)
            code = self._ask_all(listed)
            for _ in listed:  # what there is, is told even where no lock may be seen
                pass
            reading.result()
        self._ledger.forget_gone()
        self._need_known(points)
        self._need_rest(points)
        hidden = self._hidden({point.native_id for point in points})
        for name in hidden:
            self._ledger.need(name, (f"{self._prefix}snapshots/{name}", f"{self._prefix}config"))
        code = code or self._ask_all(self._ledger.unasked())
        for point in points:
            yield self._of(point.native_id, point.job, code)
        for name in hidden:
            yield self._of(name, None, code)

    def _as_listed(
        self, points: tuple[RecoveryPoint, ...], reading: Future[None]
    ) -> Iterator[tuple[int, str, str]]:
        """Take the listing in, and yield once, page by page, what there is to ask for on it."""
        last = -1
        for page in self._bucket.pages(self._wire):
            self._ledger.listed(entry for entry in page if self._is_restic_s(entry.key))
            wanted = self._ledger.listed_and_unasked
            if reading.done():
                self._need_known(points)
                wanted = self._ledger.unasked
            for one in wanted(last):
                last = one[0]
                yield one

    def _is_restic_s(self, key: str) -> bool:
        """Tell whether an object is one of the repository's own: no canary, no lock of a client."""
        directory, _, name = key.removeprefix(self._prefix).rpartition("/")
        if not directory:
            return name == "config"
        return directory.partition("/")[0] in _DIRECTORIES and _NAME.match(name) is not None

    # ---- what points need

    def _read_metadata(self, points: tuple[RecoveryPoint, ...]) -> None:
        """Have indexes and trees read that are not remembered; a thread's own work."""
        indexes = [
            entry.key.rpartition("/")[2]
            for page in self._bucket.pages(self._wire, "index/")
            for entry in page
            if entry.latest and not entry.marker and self._is_restic_s(entry.key)
        ]
        with closing(ResticNeeds(self._program)) as needs:
            self._indexed = needs.read_indexes(indexes)
            if self._indexed:
                for tree in dict.fromkeys(point.content_id for point in points):
                    if tree:
                        needs.needs(tree)

    def _need_known(self, points: tuple[RecoveryPoint, ...]) -> None:
        """Write down, once and after metadata are read, which objects each point needs by them."""
        if self._exact or not self._indexed:
            return
        with closing(ResticNeeds(self._program)) as needs:
            for point in points:
                name = point.native_id
                found = needs.needs(point.content_id) if point.content_id else None
                self._exact[name] = found is not None and found.known
                if found is not None and found.known:
                    self._lacking[name] = found.missing
                    self._ledger.need(name, (self._prefix + key for key in found.keys))
            needs.keep(point.content_id for point in points if point.content_id)

    def _need_rest(self, points: tuple[RecoveryPoint, ...]) -> None:
        """Write down what every snapshot needs, and everything for those that nothing is known of."""
        keys = self._keys()
        for name in {point.native_id for point in points}:
            own = (f"snapshots/{name}", "config", *keys)
            self._ledger.need(name, (self._prefix + key for key in own))
            if not self._exact.get(name):
                for directory in ("data/", "index/"):
                    self._ledger.need_all(name, self._prefix + directory)
            self._exact[name] = self._exact.get(name, False) and len(keys) == 1

    def _keys(self) -> tuple[str, ...]:
        """Return the keys that show, or those that are hidden where none does.

        One would do, and nobody can tell which ones a hospital still has the password of.
        """
        found = [(name, hidden) for name, hidden, _ in self._names("keys/")]
        shown = tuple(f"keys/{name}" for name, hidden in found if not hidden)
        return shown or tuple(f"keys/{name}" for name, _ in found) or ("keys/",)

    def _names(self, directory: str) -> Iterator[tuple[str, bool, int]]:
        whole = self._prefix + directory
        for key, hidden, modified in self._ledger.names(whole):
            yield key.removeprefix(whole), hidden, modified

    def _hidden(self, asked: set[str]) -> tuple[str, ...]:
        """Return snapshots below delete markers that are newer than all that show, newest first."""
        found = list(self._names("snapshots/"))
        newest = max((modified for _, hidden, modified in found if not hidden), default=0)
        later = sorted(
            (-modified, name)
            for name, hidden, modified in found
            if hidden and modified > newest and name not in asked
        )
        return tuple(name for _, name in later[:_HIDDEN_NAMED])

    # ---- their locks

    def _ask_all(self, wanted: Iterable[tuple[int, str, str]]) -> str | None:
        """Ask for these locks; return why the reader may not see them."""
        try:
            self._ask(wanted)
        except AccessRefused as error:
            return error.code
        return None

    def _ask(self, wanted: Iterable[tuple[int, str, str]]) -> None:
        batch = []
        for done, found in enumerate(self._bucket.locks(self._wire, wanted)):
            batch.append(found)
            if len(batch) == 1000:
                self._ledger.found(batch)
                batch.clear()
                self._program.context.progress(done, None, "objects")
        self._ledger.found(batch)

    def _of(self, name: str, job: str | None, code: str | None) -> Protection:
        found = self._ledger.sum(name)
        if code is None and not found.unlocked and not found.missing:
            while remembered := self._ledger.ending_first(name):
                self._ask(remembered)
            found = self._ledger.sum(name)
        if code is None and (found.missing or self._lacking.get(name)):
            code = "missing_object"
        until = found.until if code is None else None
        return Protection(
            native_id=name,
            job=job,
            mechanism=MECHANISM,
            locked_until=datetime.fromtimestamp(until, UTC) if until is not None else None,
            mode=MODES[found.mode] if code is None else None,
            objects=found.objects,
            unlocked=found.unlocked if code != "permission" else 0,
            exact=self._exact.get(name, False),
            hidden=found.hidden,
            code=code,
        )
