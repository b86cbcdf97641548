"""Dumps in an S3 bucket: every version of a matching object is a recovery point; only reads."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from backupguard.contracts import (
    Capability,
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
    Changing,
    MissingMeans,
    Misunderstood,
    Unreachable,
)
from backupguard.model import PointKind, PointState, RecoveryPoint, Verdict
from backupguard.repositories import s3_attack, s3_client
from backupguard.repositories.devices import device_of_bucket
from backupguard.repositories.local_times import zone_named
from backupguard.repositories.opening import ReadingType
from backupguard.repositories.s3_dumps import protection_of_versions
from backupguard.repositories.s3_locks import S3Locks
from backupguard.repositories.s3_objects import (
    Stored,
    key_and_version,
    objects,
    patterns_of,
)
from backupguard.repositories.s3_places import place_of
from backupguard.repositories.s3_settings import S3Settings

#: What says something of one object and nothing of the next.
_OF_ONE_OBJECT = (BackupDefect, Changing, AccessRefused, Unreachable, MissingMeans, Misunderstood)
_CHUNK = 1 << 20
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_MD5 = re.compile(r"[0-9a-f]{32}\Z")
_MULTIPART = re.compile(r"([0-9a-f]{32})-(\d{1,5})\Z")


class S3Repository:
    """One bucket, below one prefix."""

    capabilities = frozenset({Capability.VERIFY, Capability.FETCH, Capability.PROTECTION})

    def __init__(self, identifier: str, settings: S3Settings, context: Context) -> None:
        if settings.credentials.reader is None:
            raise AccessRefused("authentication", repository=identifier)
        self._identifier = identifier
        self._settings = settings
        self._context = context
        self._zone = zone_named(settings.timezone) if settings.timezone else None
        self._client = s3_client.client(
            place_of(settings), context.secret(settings.credentials.reader)
        )
        self._versioned: bool | None = None
        self._locks: S3Locks | None = None

    # ---- contract

    def inspect(self) -> RepositoryState:
        """Return where the bucket is and whether it encrypts; raises Unreachable, AccessRefused."""
        with s3_client.in_our_words(self._identifier):
            page = self._client.list_objects_v2(Bucket=self._settings.bucket, MaxKeys=1)
        self._is_a_listing(page)
        endpoint = self._settings.endpoint or f"https://{self._settings.talks_to}"
        return RepositoryState(
            tool="s3",
            tool_version="1",
            encrypted=self._encrypted(),
            device=device_of_bucket(endpoint, self._settings.bucket),
        )

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        """Yield a point per version of each matching object, those below a delete marker included."""
        for job, stored in self._stored(jobs):
            yield self._point(job, stored)

    def runs(self, since: datetime) -> Iterator[JobRun]:  # noqa: ARG002 - the protocol's
        """Yield nothing: a bucket keeps no record of runs (capability `runs` is absent)."""
        return iter(())

    def units(self, plan: VerifyPlan) -> Sequence[str]:
        """Return a unit per object version of the plan's jobs."""
        return tuple(f"object/{one.native_id}" for _, one in self._stored(plan.jobs))

    def verify(self, plan: VerifyPlan) -> Iterator[VerifiedUnit]:
        """Read objects, those not read for longest first, and compare them with their ETag.

        An ETag is the MD5 of an object, or of its parts' MD5s, unless the server encrypts with keys
        of a KMS or the client's; then nothing can be compared and the unit is undecided.
        """
        coverage = self._context.known.coverage(self._identifier)
        found = {one.native_id: one for _, one in self._stored(plan.jobs)}

        def verified(name: str) -> datetime:
            unit = coverage.get(f"object/{name}")
            return unit.verified_at if unit else _NEVER

        wanted = sum(one.size for one in found.values()) * min(max(plan.data_percent, 0), 100)
        read = 0
        for done, name in enumerate(sorted(found, key=lambda name: (verified(name), name))):
            one = found[name]
            over = plan.max_bytes is not None and read + one.size > plan.max_bytes
            if read * 100 >= wanted or over:
                break
            self._context.progress(done, len(found), "objects")
            yield self._verified(one, len(found))
            read += one.size

    def fetch(self, request: FetchRequest, into: Path) -> Fetched:
        """Bring one version to `into`, under the last part of its key.

        Raises Changing when it is gone, MissingMeans (no_disk, not_fetchable for one in an archive
        class), BackupDefect (empty; corrupt, when its checksum differs twice).
        """
        named = key_and_version(request.point.native_id)
        if named is None:
            raise Changing("repository_changed", repository=self._identifier)
        key, version = named
        name = PurePosixPath(key).name or "object"
        size = 0
        for attempt in (1, 2):
            try:
                size = self._download(key, version, into / name)
                break
            except BackupDefect:
                # Bytes may be hurt on their way: only a second time it is the object itself.
                (into / name).unlink(missing_ok=True)
                if attempt == 2:
                    raise
        if size == 0:
            raise BackupDefect("empty", repository=self._identifier)
        return Fetched(artifact=PurePosixPath(name), bytes=size, files=1)

    def protection_state(self) -> ProtectionState:
        """Return how the bucket is locked; raises Unreachable, AccessRefused."""
        return self._bucket_locks().state()

    def requests(self) -> Mapping[str, int]:
        """Return how many requests were made to look at locks, by operation."""
        return self._locks.requests() if self._locks is not None else {}

    def protection(self, points: Iterable[RecoveryPoint]) -> Iterator[Protection]:
        """Yield the lock of each point: its own, since a dump is one object, below a marker or not.

        Raises Unreachable, AccessRefused (permission: locks may not be seen), Misunderstood.
        """
        locks = self._bucket_locks()
        yield from protection_of_versions(locks, points, self._context.now())

    def _bucket_locks(self) -> S3Locks:
        if self._locks is None:
            self._locks = S3Locks(self._identifier, place_of(self._settings), self._context)
        return self._locks

    # ---- listing

    def _stored(self, jobs: Sequence[JobSelector]) -> Iterator[tuple[str, Stored]]:
        patterns = [
            pattern for selector in jobs for pattern in patterns_of(selector, self._settings.prefix)
        ]
        return objects(patterns, self._pages, self._zone)

    def _pages(self, prefix: str) -> Iterator[Mapping[str, Any]]:
        operation = "list_object_versions" if self._keeps_versions() else "list_objects_v2"
        pages = iter(
            self._client.get_paginator(operation).paginate(
                Bucket=self._settings.bucket, Prefix=prefix
            )
        )
        more = False
        while True:
            self._context.cancel.raise_if_set()
            with s3_client.in_our_words(self._identifier):
                page = next(pages, None)
            if page is None and more:  # there is more, and the server does not say where
                raise Misunderstood("output_unparsable", repository=self._identifier)
            if page is None:
                return
            self._is_a_listing(page)
            more = bool(page["IsTruncated"])
            yield page

    def _is_a_listing(self, page: Mapping[str, Any]) -> None:
        """Refuse what any web page is to an XML reader: a listing with nothing in it.

        Raises Misunderstood: otherwise a portal in between would make every point vanish.
        """
        if page.get("Name") != self._settings.bucket or "IsTruncated" not in page:
            raise Misunderstood("output_unparsable", repository=self._identifier)

    def _keeps_versions(self) -> bool:
        """Tell whether old versions are to be listed. One right less is needed where there are none."""
        if self._versioned is None:
            with s3_client.in_our_words(self._identifier):
                answer = self._client.get_bucket_versioning(Bucket=self._settings.bucket)
            self._versioned = answer.get("Status") in ("Enabled", "Suspended")
        return self._versioned

    def _encrypted(self) -> bool | None:
        try:
            with s3_client.in_our_words(self._identifier):
                answer = self._client.get_bucket_encryption(Bucket=self._settings.bucket)
        except (AccessRefused, Misunderstood, Changing):
            return None  # no right to ask, or a server that does not know the question
        rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
        return True if rules else None

    def _point(self, job: str, stored: Stored) -> RecoveryPoint:
        at = stored.at
        return RecoveryPoint(
            repository=self._identifier,
            job=job,
            native_id=stored.native_id,
            at=at,
            covers_until=at,
            kind=PointKind.FULL,
            state=PointState.COMPLETE if stored.size else PointState.FAILED,
            ended_at=stored.changed_at,
            bytes=stored.size,
            files=1,
            content_id=f"md5:{stored.etag}" if _MD5.match(stored.etag) else None,
            extra={"hidden": True} if stored.hidden else None,
        )

    # ---- reading

    def _body(self, key: str, version: str, **more: Any) -> Any:
        asked: dict[str, Any] = {"Bucket": self._settings.bucket, "Key": key, **more}
        if version != "null":
            asked["VersionId"] = version
        with s3_client.in_our_words(self._identifier):
            return self._client.get_object(ChecksumMode="ENABLED", **asked)

    def _chunks(self, answer: Any) -> Iterator[bytes]:
        with closing(answer["Body"]) as body:
            while True:
                self._context.cancel.raise_if_set()
                with s3_client.in_our_words(self._identifier):
                    chunk = body.read(_CHUNK)
                if not chunk:
                    return
                yield chunk

    def _download(self, key: str, version: str, path: Path) -> int:
        answer = self._body(key, version)
        size = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
                for chunk in self._chunks(answer):
                    file.write(chunk)
                    size += len(chunk)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise MissingMeans("no_disk", repository=self._identifier) from error
            raise
        if size != answer["ContentLength"]:
            raise Unreachable("refused", repository=self._identifier)
        return size

    def _verified(self, stored: Stored, total: int) -> VerifiedUnit:
        verdict, code = Verdict.PASSED, None
        try:
            self._compare(stored)
        except _OF_ONE_OBJECT as error:
            verdict, code = error.verdict, error.code
        return VerifiedUnit(
            unit=f"object/{stored.native_id}",
            verdict=verdict,
            bytes=stored.size,
            code=code,
            units_total=total,
        )

    def _compare(self, stored: Stored) -> None:
        """Read one version whole; raises BackupDefect (empty, corrupt) when it is not what it was."""
        if stored.size == 0:
            raise BackupDefect("empty", repository=self._identifier)
        multipart = _MULTIPART.match(stored.etag)
        if multipart is None and _MD5.match(stored.etag) is None:
            raise Misunderstood("check_unanswered", repository=self._identifier)
        for _ in range(2):  # a byte may be hurt on its way: only twice it is the object itself
            try:
                found = (
                    self._md5_of_parts(stored, int(multipart[2]))
                    if multipart is not None
                    else self._md5(stored)
                )
            except BackupDefect:  # a checksum that the server sent along
                continue
            if found == stored.etag:
                return
        raise BackupDefect("corrupt", repository=self._identifier)

    def _md5(self, stored: Stored) -> str:
        answer = self._body(stored.key, stored.version)
        return self._digest(answer).hex()

    def _md5_of_parts(self, stored: Stored, parts: int) -> str:
        digests = []
        for number in range(1, parts + 1):
            answer = self._body(stored.key, stored.version, PartNumber=number)
            digests.append(self._digest(answer))
        whole = hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()
        return f"{whole}-{parts}"

    def _digest(self, answer: Mapping[str, Any]) -> bytes:
        self._comparable(answer)
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in self._chunks(answer):
            digest.update(chunk)
        return digest.digest()

    def _comparable(self, answer: Mapping[str, Any]) -> None:
        """Raise Misunderstood (check_unanswered) where an ETag is no MD5: a KMS or client keys."""
        foreign = answer.get("SSECustomerAlgorithm") or "kms" in str(
            answer.get("ServerSideEncryption", "")
        )
        if foreign:
            raise Misunderstood("check_unanswered", repository=self._identifier)


#: The entry point `s3`.
S3 = ReadingType(
    "s3",
    S3Settings,
    S3Repository,
    capabilities=S3Repository.capabilities,
    attacker=s3_attack.attack,
)
