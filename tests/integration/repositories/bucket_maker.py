"""Makes buckets that an attacker is let loose on, and sees what it changed."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backupguard.contracts import Credentials, JobSelector, SecretReference
from backupguard.demo.s3_server import S3Server
from backupguard.repositories.s3_settings import S3Settings
from tests.recording import Recorder

DPI = JobSelector(job="dpi.nightly", application="dpi", pattern="dpi-%Y%m%d.dump")
DUMP = "site/dpi-20260301.dump"
CANARY = "backupguard-canary-"
_made = iter(range(1000))


@dataclass
class Bucket:
    """A bucket with a dump, behind something that records every request of an attacker."""

    server: S3Server
    recorder: Recorder
    name: str
    admin: Any = field(repr=False)

    def allow(self, *statements: dict[str, Any]) -> None:
        policy = {"Version": "2012-10-17", "Statement": list(statements)}
        self.admin.put_bucket_policy(Bucket=self.name, Policy=json.dumps(policy))

    def keys(self, tmp_path: Path, identity: str) -> SecretReference:
        path = tmp_path / f"{identity}.ini"
        path.write_text(self.server.credentials(identity))
        return SecretReference(file=path)

    def settings(self, tmp_path: Path, writer: str | None = "writer", **more: Any) -> S3Settings:
        keys = self.keys(tmp_path, writer) if writer else None
        values: dict[str, Any] = {
            "type": "s3",
            "endpoint": self.recorder.endpoint,
            "bucket": self.name,
            "prefix": "site/",
            "timeout": "5s",
            "credentials": Credentials(reader=self.keys(tmp_path, "reader"), writer_for_probe=keys),
        }
        return S3Settings(**values | more)

    def listing(self, *, canaries: bool = False) -> list[tuple[Any, ...]]:
        """Return every version and delete marker there is, those of canaries or all others."""
        page = self.admin.list_object_versions(Bucket=self.name)
        return [
            (kind, one["Key"], one["VersionId"], one.get("ETag"), one["LastModified"])
            for kind in ("Versions", "DeleteMarkers")
            for one in page.get(kind, ())
            if (CANARY in one["Key"]) is canaries
        ]

    def assert_only_canaries_were_touched(self, own_bucket: str | None = None) -> None:
        """Look at every request that the attacker made."""
        assert self.recorder.changing
        for one in self.recorder.changing:
            _, bucket, *key = one.path.split("/", 2)
            if bucket == own_bucket:
                continue
            assert bucket == self.name, one
            if one.method == "POST" and "delete" in one.query:
                assert one.body.count(b"<Key>") == one.body.count(CANARY.encode()) > 0, one
            else:
                assert CANARY in key[0], one


def make(
    server: S3Server, recorder: Recorder, mode: str | None = None, versioning: str | None = None
) -> Bucket:
    """Return a bucket: `mode` None knows no locks, "" has no default retention."""
    bucket = Bucket(server, recorder, f"attacked-{os.getpid()}-{next(_made)}", server.client())
    admin, name = bucket.admin, bucket.name
    admin.create_bucket(
        Bucket=name, **({} if mode is None else {"ObjectLockEnabledForBucket": True})
    )
    if mode:
        rule = {"DefaultRetention": {"Mode": mode, "Days": 1}}
        admin.put_object_lock_configuration(
            Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
        )
    for status in {"Enabled": ["Enabled"], "Suspended": ["Enabled", "Suspended"]}.get(
        versioning or "", []
    ):
        admin.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": status})
    admin.put_object(Bucket=name, Key=DUMP, Body=b"PGDMP")
    recorder.requests.clear()
    recorder.alter = None
    return bucket
