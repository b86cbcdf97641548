"""Anchors in a bucket with Object Lock: an object that not even its writer can take away in time."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.anchoring.places import put_down
from backupguard.anchoring.reading import anchors_in
from backupguard.demo.s3_server import S3Server
from backupguard.errors import AccessRefused, BackupGuardError, Unreachable
from backupguard.evidence.seals import Anchor
from backupguard.settings import Settings, load
from backupguard.testing import context

HEAD = Anchor(store="01M80000000000000000000000", seq=42, hash=b"\x07" * 32)

SETTINGS = """
[site]
name = "CH de Belle-Rive"
[store]
directory = "{state}"
[evidence.anchors.coffre]
type = "s3-lock"
bucket = "{bucket}"
endpoint = "{endpoint}"
credentials.file = "{credentials}"
retention = "30d"
timeout = "5s"
"""


def settings(
    tmp_path: Path,
    server: S3Server,
    bucket: str,
    endpoint: str | None = None,
    identity: str = "admin",
) -> Settings:
    keys = tmp_path / "keys.ini"
    keys.write_text(server.credentials(identity))
    keys.chmod(0o600)
    path = tmp_path / "backupguard.toml"
    path.write_text(
        SETTINGS.format(
            state=tmp_path / "state",
            bucket=bucket,
            endpoint=endpoint or server.endpoint,
            credentials=keys,
        )
    )
    return load(path)


@pytest.fixture
def admin(s3_server: S3Server) -> Any:
    return s3_server.client()


def test_an_anchor_is_locked_and_read_back(s3_server: S3Server, admin: Any, tmp_path: Path) -> None:
    bucket = f"anchors-{os.getpid()}"
    admin.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    here = context(tmp_path)
    put = put_down(settings(tmp_path, s3_server, bucket), "coffre", HEAD, here)
    (found,) = admin.list_object_versions(Bucket=bucket)["Versions"]
    assert put.receipt.startswith(f"s3://{bucket}/{found['Key']}?versionId={found['VersionId']}")
    kept = admin.get_object_retention(Bucket=bucket, Key=found["Key"])["Retention"]
    assert kept["Mode"] == "COMPLIANCE"
    assert kept["RetainUntilDate"] - here.now() > timedelta(days=29)
    with pytest.raises(admin.exceptions.ClientError):
        admin.delete_object(Bucket=bucket, Key=found["Key"], VersionId=found["VersionId"])
    copy = tmp_path / "object"
    copy.write_bytes(admin.get_object(Bucket=bucket, Key=found["Key"])["Body"].read())
    assert anchors_in([copy]).anchors == (HEAD,)


def test_a_bucket_that_keeps_nothing_locked_is_told(
    s3_server: S3Server, admin: Any, tmp_path: Path
) -> None:
    bucket = f"unlocked-{os.getpid()}"
    admin.create_bucket(Bucket=bucket)
    with pytest.raises(BackupGuardError):
        put_down(settings(tmp_path, s3_server, bucket), "coffre", HEAD, context(tmp_path))


def test_a_lock_that_may_not_be_looked_at_is_no_proof(
    s3_server: S3Server, admin: Any, tmp_path: Path
) -> None:
    bucket = f"blind-{os.getpid()}"
    admin.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    writer = settings(tmp_path, s3_server, bucket, identity="writer")
    with pytest.raises(AccessRefused):
        put_down(writer, "coffre", HEAD, context(tmp_path))


def test_a_server_that_is_away(s3_server: S3Server, tmp_path: Path) -> None:
    gone = settings(tmp_path, s3_server, "anchors", "http://127.0.0.1:9")
    with pytest.raises(Unreachable):
        put_down(gone, "coffre", HEAD, context(tmp_path))
