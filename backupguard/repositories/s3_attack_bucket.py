"""What would weaken a whole bucket is tried on one of the probe's own, made like the backups'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from backupguard.contracts import Attempt
from backupguard.repositories.attempting import Came, attempted, refused, untried, worked
from backupguard.repositories.s3_attack_calls import AttackingClient

_LOCKED: dict[str, Any] = {"ObjectLockEnabled": "Enabled"}


class OwnBucket:
    """The probe's own bucket, or none. What an attempt changes there is put right again."""

    def __init__(
        self, name: str | None, writer: AttackingClient, eyes: Sequence[AttackingClient]
    ) -> None:
        self._name = name
        self._writer = writer
        self._eyes = eyes

    def attempts(self) -> Iterator[Attempt]:
        """Yield suspending versions and dropping the default retention; untried without a bucket."""
        target = self._name or ""
        for name, act in (
            ("suspend-versioning", self._suspend),
            ("change-lock-rule", self._change_rule),
        ):
            tried = act if self._name is not None else partial(untried, "no_probe_bucket")
            yield from attempted(name, target, tried)

    def _suspend(self) -> Came:
        answer = self._versioning("Suspended")
        if not answer.done:
            return (refused if answer.refused else untried)(answer.code or "", answer.request_id)
        self._versioning("Enabled")
        return worked(None, answer.request_id)

    def _versioning(self, status: str) -> Any:
        return self._writer.ask(
            "PutBucketVersioning",
            Bucket=self._name,
            VersioningConfiguration={"Status": status},
        )

    def _change_rule(self) -> Came:
        before = _LOCKED
        for client in self._eyes:
            seen = client.ask("GetObjectLockConfiguration", Bucket=self._name)
            if seen.done:
                before = dict(seen.body.get("ObjectLockConfiguration") or _LOCKED)
                break
        answer = self._rule(_LOCKED)
        if not answer.done:
            return (refused if answer.refused else untried)(answer.code or "", answer.request_id)
        self._rule(before)
        return worked(None, answer.request_id)

    def _rule(self, configuration: dict[str, Any]) -> Any:
        return self._writer.ask(
            "PutObjectLockConfiguration",
            Bucket=self._name,
            ObjectLockConfiguration=configuration,
        )
