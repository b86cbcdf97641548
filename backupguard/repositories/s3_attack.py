"""Attacks objects in a bucket with the credentials that the backup client has.

In every place where backups lie, canaries are put there: one as the backup client puts its objects,
one with a retention of a few minutes, one with a legal hold. Then it is tried to destroy them. That
a server says no proves little, and that it says yes proves nothing: after each attempt the canary is
read back by its version, and only its old bytes count. Deleting a key that does not exist means
nothing on S3, so nothing is tried before a canary was read back once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from typing import Any

from backupguard.contracts import (
    Attacker,
    AttackerKind,
    Attempt,
    Bearing,
    CanaryPlace,
    Context,
    JobSelector,
    RepositorySettings,
    SecretReference,
)
from backupguard.errors import MissingMeans
from backupguard.model import Message
from backupguard.repositories.attempting import (
    Came,
    attempted,
    clock_skew,
    refused,
    untried,
    worked,
)
from backupguard.repositories.restic_settings import ResticSettings
from backupguard.repositories.s3_attack_bucket import OwnBucket
from backupguard.repositories.s3_attack_calls import Answer, AttackingClient
from backupguard.repositories.s3_attack_canaries import Canaries, Canary
from backupguard.repositories.s3_attack_places import (
    MOST_SPOTS,
    Spot,
    spots_of_dumps,
    spots_of_restic,
    treats_alike,
)
from backupguard.repositories.s3_client import keys_of
from backupguard.repositories.s3_places import S3Place, place_of, place_of_restic
from backupguard.repositories.s3_settings import S3Settings

#: How long a canary with a retention of its own is locked: longer than a run takes, and no more.
_LOCKED_FOR = timedelta(minutes=10)
_SHORTER = timedelta(minutes=2)

#: Given the jobs, returns where canaries belong.
Spots = Callable[[Sequence[JobSelector]], Sequence[Spot]]


class S3Attacker(Attacker):
    """Tries what is said above with the writer's client; the reader's is a second pair of eyes."""

    kind = AttackerKind.BACKUP_WRITER

    def __init__(
        self,
        place: S3Place,
        spots: Spots,
        context: Context,
        writer: AttackingClient,
        reader: AttackingClient | None,
        own_bucket: OwnBucket,
        same_key: bool,
    ) -> None:
        self._place = place
        self._spots = spots
        self._context = context
        self._writer = writer
        self._eyes = [client for client in (reader, writer) if client is not None]
        self._canaries = Canaries(place.bucket, writer, self._eyes, context)
        self._own_bucket = own_bucket
        self._code: str | None = None
        self._notes = ["same_as_reader"] if same_key else []
        self._alike: bool | None = None
        self._put = self._not_put = 0
        self._bypass = False

    def attempts(self, canary: CanaryPlace) -> Iterator[Attempt]:
        """Yield intents and results. Raises Unreachable, AccessRefused (authentication)."""
        if not self._clocks_agree():
            self._code = "clock_skew"
            return
        spots = list(self._spots(canary.jobs))
        self._look_at_policy(spots)
        yield from self._canaries.removals(canary.remembered, self._place.prefix)
        made: list[Canary] = []
        for number, spot in enumerate(spots[:MOST_SPOTS]):
            yield from self._spot(spot, canary.token, made, whole=number == 0)
        if len(spots) > MOST_SPOTS:
            self._code = self._code or "too_many_places"
        yield from self._own_bucket.attempts()
        gone = [one.key for one in made if not one.there]
        yield from self._canaries.removals(gone, self._place.prefix)

    def bearing(self) -> Bearing:
        """Return whether canaries lay as the backups do, and whose credentials these are."""
        credentials = "writer"
        if self._not_put and not self._put:
            credentials = "read_only"
        elif self._bypass and self._writer.ask("GetBucketAcl", Bucket=self._place.bucket).done:
            credentials = "administrator"
        elif not self._put:
            credentials = "unknown"
        if self._put and self._not_put:
            self._code = self._code or "canary_refused"
        code = self._code
        if code is None and self._alike is False:
            code = "policy_differs"
        return Bearing(
            reaches_data=self._put > 0 and self._alike is not False,
            credentials=credentials,
            code=code,
            notes=tuple(self._notes),
        )

    # ---- before anything is tried

    def _clocks_agree(self) -> bool:
        """Ask for a listing, which nobody may be refused for wrong credentials; compare clocks."""
        answer = self._writer.ask(
            "ListObjectsV2", Bucket=self._place.bucket, Prefix=self._place.prefix, MaxKeys=1
        )
        return clock_skew(answer.date, self._context.now()) is not True

    def _look_at_policy(self, spots: Sequence[Spot]) -> None:
        for client in self._eyes:
            answer = client.ask("GetBucketPolicy", Bucket=self._place.bucket)
            if answer.code == "NoSuchBucketPolicy":
                self._alike = True
                return
            if answer.done:
                self._alike = treats_alike(str(answer.body["Policy"]), self._place.bucket, spots)
                break
        if self._alike is None:
            self._notes.append("policy_unread")

    # ---- one place

    def _spot(
        self, spot: Spot, token: str, made: list[Canary], *, whole: bool
    ) -> Iterator[Attempt]:
        plain = Canary.new(spot.key(token, "plain"), token)
        yield from self._put_there(plain)
        if not plain.there:
            self._not_put += 1
            return
        self._put += 1
        made.append(plain)
        if whole:
            yield from self._try(plain, "overwrite", self._overwrite)
            yield from self._try(plain, "delete", self._delete)
        yield from self._try(plain, "delete-version", partial(self._delete, version=True))
        bypass = partial(self._delete, version=True, BypassGovernanceRetention=True)
        yield from self._try(plain, "delete-version-bypass", bypass)
        if not whole:
            return
        yield from self._try(plain, "delete-batch", self._delete_batch)
        yield from self._try(plain, "shorten-retention", self._shorten)
        yield from self._try(plain, "switch-mode", self._switch)
        yield from self._with_headers(spot, token, made)

    def _with_headers(self, spot: Spot, token: str, made: list[Canary]) -> Iterator[Attempt]:
        """Try canaries that are locked as they are put there, where the writer may do that."""
        until = self._context.now() + _LOCKED_FOR
        kinds: dict[str, dict[str, Any]] = {
            "locked": {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until},
            "governed": {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": until},
            "held": {"ObjectLockLegalHoldStatus": "ON"},
        }
        canaries = {}
        for kind, headers in kinds.items():
            canaries[kind] = one = Canary.new(spot.key(token, kind), token)
            yield from self._put_there(one, **headers)
            if one.there:
                made.append(one)
        locked, held = canaries["locked"], canaries["held"]
        if locked.there:
            yield from self._try(locked, "delete-locked", partial(self._delete, version=True))
            bypass = partial(self._delete, version=True, BypassGovernanceRetention=True)
            yield from self._try(locked, "delete-locked-bypass", bypass)
            yield from self._try(locked, "shorten-locked", self._shorten)
            yield from self._try(locked, "switch-locked", self._switch)
        if canaries["governed"].there:
            yield from attempted(
                "bypass-governance",
                canaries["governed"].key,
                partial(self._bypass_governance, canaries["governed"]),
                destructive=False,
            )
        if held.there:
            yield from self._try(held, "remove-legal-hold", self._remove_hold)
        else:
            never = partial(untried, "not_offered")
            yield from attempted("remove-legal-hold", held.key, never)

    # ---- what is tried

    def _put_there(self, canary: Canary, **headers: Any) -> Iterator[Attempt]:
        def act() -> Came:
            answer = self._canaries.put(canary, **headers)
            if not answer.done:
                # Whatever refuses it, and be it a bucket that knows no locks: nothing lies there.
                return refused(answer.code, answer.request_id)
            if not canary.there:
                self._code = self._code or "canary_unreadable"
                return untried("canary_unreadable", answer.request_id)
            return worked(None, answer.request_id)

        yield from attempted("put-canary", canary.key, act, destructive=False)

    def _try(self, canary: Canary, name: str, act: Callable[[Canary], Came]) -> Iterator[Attempt]:
        """Try one thing on a canary that is still there; on one that is gone there is nothing left."""
        if canary.there:
            yield from attempted(name, canary.key, partial(act, canary))

    def _overwrite(self, canary: Canary) -> Came:
        other = canary.content + b"overwritten\n"
        answer = self._writer.ask(
            "PutObject", Bucket=self._place.bucket, Key=canary.key, Body=other
        )
        came = self._looked(canary, answer, unharmed="new_version")
        if not canary.there:  # what lies there now can still be deleted
            canary.content, canary.there = other, True
        return came

    def _delete(self, canary: Canary, *, version: bool = False, **more: Any) -> Came:
        named = canary.named if version else {"Key": canary.key}
        answer = self._writer.ask("DeleteObject", Bucket=self._place.bucket, **named, **more)
        return self._looked(canary, answer, unharmed=None if version else "delete_marker")

    def _delete_batch(self, canary: Canary) -> Came:
        answer = self._writer.ask(
            "DeleteObjects", Bucket=self._place.bucket, Delete={"Objects": [canary.named]}
        )
        errors = answer.body.get("Errors") or ()
        if answer.done and errors:
            answer = Answer(
                code=str(errors[0].get("Code")),
                status=answer.status,
                request_id=answer.request_id,
                date=answer.date,
            )
        return self._looked(canary, answer)

    def _shorten(self, canary: Canary) -> Came:
        before = self._canaries.retention(canary)
        mode = before[0] if isinstance(before, tuple) else "COMPLIANCE"
        wanted = {"Mode": mode, "RetainUntilDate": self._context.now() + _SHORTER}
        return self._retain(canary, before, wanted)

    def _switch(self, canary: Canary) -> Came:
        """Make compliance governance, or take a governance lock off."""
        before = self._canaries.retention(canary)
        if isinstance(before, tuple) and before[0] == "GOVERNANCE":
            return self._retain(canary, before, {})
        until = before[1] if isinstance(before, tuple) else self._context.now() + _SHORTER
        return self._retain(canary, before, {"Mode": "GOVERNANCE", "RetainUntilDate": until})

    def _retain(self, canary: Canary, before: Any, wanted: dict[str, Any]) -> Came:
        if before is None:
            return untried("not_locked")
        answer = self._writer.ask(
            "PutObjectRetention",
            Bucket=self._place.bucket,
            **canary.named,
            Retention=wanted,
            BypassGovernanceRetention=True,
        )
        if not wanted and answer.status in _NOT_OFFERED:
            return untried("not_offered", answer.request_id)
        if not answer.done:
            return self._looked(canary, answer)
        after = self._canaries.retention(canary)
        if not isinstance(before, tuple) or isinstance(after, str):
            return untried("retention_unreadable", answer.request_id)
        weaker = after is None or after[1] < before[1] or (before[0], after[0]) == _WEAKENED
        return (worked if weaker else refused)(
            "unchanged" if not weaker else None, answer.request_id
        )

    def _remove_hold(self, canary: Canary) -> Came:
        """Take the legal hold off and delete: only what else locks the canary can save it then."""
        answer = self._writer.ask(
            "PutObjectLegalHold",
            Bucket=self._place.bucket,
            **canary.named,
            LegalHold={"Status": "OFF"},
        )
        if not answer.done:
            return self._looked(canary, answer)
        return self._delete(canary, version=True)

    def _bypass_governance(self, canary: Canary) -> Came:
        came = self._delete(canary, version=True, BypassGovernanceRetention=True)
        self._bypass = not canary.there
        return came

    def _looked(self, canary: Canary, answer: Answer, unharmed: str | None = None) -> Came:
        """Return what came of an attempt, by the canary's bytes: not by what the server says."""
        there = self._canaries.is_there(canary)
        if there is False or (there is None and answer.done):
            canary.there = False
            return worked(answer.code, answer.request_id)
        if there is None:
            return untried(answer.code or "canary_unreadable", answer.request_id)
        if answer.done:
            return refused(unharmed or "still_there", answer.request_id)
        came = refused if answer.refused else untried
        return came(answer.code or "", answer.request_id)


_WEAKENED = ("COMPLIANCE", "GOVERNANCE")
#: A server that knows no empty retention says so; only a refusal of rights is one.
_NOT_OFFERED = frozenset({400, 501})


# ------------------------------------------------------------------------------------------ opening


def attack(
    identifier: str, settings: S3Settings, context: Context
) -> AbstractContextManager[Attacker]:
    """Return the attacker of dumps in a bucket. Raises MissingMeans (writer_missing)."""
    place = place_of(settings)
    spots = partial(spots_of_dumps, place.prefix)
    return _opened(identifier, settings, context, place, spots, settings.probe_bucket)


def attack_restic(
    identifier: str, settings: ResticSettings, context: Context
) -> AbstractContextManager[Attacker] | None:
    """Return the attacker of a restic repository in a bucket; None for one that is elsewhere.

    Raises MissingMeans (writer_missing).
    """
    place = place_of_restic(settings)
    if place is None:
        return None
    spots = spots_of_restic(place.prefix)
    return _opened(identifier, settings, context, place, lambda _: spots, settings.probe_bucket)


def _opened(
    identifier: str,
    settings: RepositorySettings,
    context: Context,
    place: S3Place,
    spots: Spots,
    own_bucket: str | None,
) -> AbstractContextManager[Attacker]:
    given = settings.credentials.writer_for_probe
    if given is None:
        remedy = Message(id="remedy.writer_missing")
        raise MissingMeans("writer_missing", remedy=remedy, repository=identifier)
    writing = context.secret(given)
    writer = AttackingClient(identifier, place, writing, own_bucket)
    reader, same = None, False
    reference: SecretReference | None = place.credentials
    if reference is not None:
        reading = context.secret(reference)
        same = keys_of(reading)[0] == keys_of(writing)[0]
        reader = None if same else AttackingClient(identifier, place, reading)
    own = OwnBucket(own_bucket, writer, [one for one in (reader, writer) if one is not None])
    return nullcontext(S3Attacker(place, spots, context, writer, reader, own, same))
