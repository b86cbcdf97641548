"""What an administrator would write: list a bucket with boto3, then HEAD every object, one by one."""

from __future__ import annotations

from datetime import datetime
from typing import Any


def survives_until(client: Any, bucket: str, prefix: str) -> tuple[datetime | None, int]:
    """Return the earliest end of a lock below a prefix (None: one has none), and how many objects."""
    ends: list[datetime | None] = []
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        for one in page.get("Versions", ()):
            if one["IsLatest"]:
                head = client.head_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])
                locked = head.get("ObjectLockMode") == "COMPLIANCE"
                ends.append(head["ObjectLockRetainUntilDate"] if locked else None)
    known = [end for end in ends if end is not None]
    return (min(known) if known and len(known) == len(ends) else None), len(ends)
