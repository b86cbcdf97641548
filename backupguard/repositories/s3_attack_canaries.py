"""Canaries in a bucket: putting them there, looking at them, taking expired ones away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from backupguard.contracts import Attempt, Context
from backupguard.repositories.attempting import Came, attempted, refused, worked
from backupguard.repositories.s3_attack_calls import (
    UNKNOWN,
    Answer,
    AttackingClient,
    Retention,
    retention_seen,
)
from backupguard.repositories.s3_attack_places import is_canary

#: So many of the oldest are looked at in one run; each run leaves fewer than that.
_AT_ONCE = 40
_ABSENT = frozenset({"NoSuchKey", "NoSuchVersion", "404"})


@dataclass(slots=True, kw_only=True)
class Canary:
    """One canary. `version` is None in a bucket that keeps none; `there`: its bytes were read."""

    key: str
    content: bytes
    version: str | None = None
    there: bool = False

    @classmethod
    def new(cls, key: str, token: str) -> Canary:
        """Return one that was not put there yet."""
        name = key.rpartition("/")[2]
        return cls(key=key, content=f"BackupGuard canary {token}\n{name}\n".encode())

    @property
    def named(self) -> dict[str, str]:
        """What names it in a request, by version where there is one."""
        return {"Key": self.key} | ({"VersionId": self.version} if self.version else {})


class Canaries:
    """The canaries of one bucket; `eyes` are the identities that may be able to read them."""

    def __init__(
        self,
        bucket: str,
        writer: AttackingClient,
        eyes: Sequence[AttackingClient],
        context: Context,
    ) -> None:
        self._bucket = bucket
        self._writer = writer
        self._eyes = eyes
        self._context = context

    def put(self, canary: Canary, **headers: Any) -> Answer:
        """Put one there, and read it back."""
        answer = self._writer.ask(
            "PutObject", Bucket=self._bucket, Key=canary.key, Body=canary.content, **headers
        )
        if answer.done:
            canary.version = answer.body.get("VersionId")
            canary.there = self.is_there(canary) is True
        return answer

    def is_there(self, canary: Canary) -> bool | None:
        """Tell whether its very bytes can be read; None where nobody may look."""
        for client in self._eyes:
            answer, content = client.content(Bucket=self._bucket, **canary.named)
            if answer.done:
                return content == canary.content
            if answer.code in _ABSENT or (answer.status in (404, 405) and not answer.refused):
                return False
        return None

    def retention(self, canary: Canary) -> Retention | str:
        """Return its retention, None where it has none, UNKNOWN where nobody is told."""
        return self._retention(canary.named)

    def _retention(self, named: Mapping[str, str]) -> Retention | str:
        for client in self._eyes:
            found = retention_seen(client, Bucket=self._bucket, **named)
            if found != UNKNOWN:
                return found
        return UNKNOWN

    # ---- taking them away

    def removals(self, keys: Sequence[str], prefix: str) -> Iterator[Attempt]:
        """Yield the removal of each canary whose lock has ended; the oldest come first.

        Keys below another prefix, or which are none of ours, are left alone whatever they say.
        """
        ours = [key for key in reversed(keys) if is_canary(key, prefix)]
        for key in ours[:_AT_ONCE]:
            self._context.cancel.raise_if_set()
            entries = self._entries(key)
            if entries is not None and not any(map(self._is_locked, entries)):
                remove = partial(self._remove, entries)
                yield from attempted("remove-canary", key, remove, destructive=False)

    def _entries(self, key: str) -> list[dict[str, str]] | None:
        """Return every version of a canary and its delete markers; None where nobody may list."""
        for client in self._eyes:
            answer = client.ask("ListObjectVersions", Bucket=self._bucket, Prefix=key)
            if answer.done:
                return [
                    {"Key": key, "VersionId": entry.get("VersionId") or "null", "is": kind}
                    for kind in ("Versions", "DeleteMarkers")
                    for entry in answer.body.get(kind) or ()
                    if entry["Key"] == key
                ]
        return None

    def _is_locked(self, entry: Mapping[str, str]) -> bool:
        """Tell whether a version is known to be locked still; the server refuses what is not known."""
        if entry["is"] == "DeleteMarkers":
            return False
        found = self._retention({"Key": entry["Key"], "VersionId": entry["VersionId"]})
        return isinstance(found, tuple) and found[1] > self._context.now()

    def _remove(self, entries: Sequence[Mapping[str, str]]) -> Came:
        for entry in entries:
            named = {"Key": entry["Key"], "VersionId": entry["VersionId"]}
            answer = self._writer.ask("DeleteObject", Bucket=self._bucket, **named)
            if not answer.done and entry["Key"].endswith("-held"):
                self._writer.ask(
                    "PutObjectLegalHold",
                    Bucket=self._bucket,
                    **named,
                    LegalHold={"Status": "OFF"},
                )
                answer = self._writer.ask("DeleteObject", Bucket=self._bucket, **named)
            if not answer.done:
                return refused(answer.code, answer.request_id)
        return worked()
