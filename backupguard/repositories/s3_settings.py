"""What the configuration says of dumps in an S3 bucket. Imports nothing of boto3."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import model_validator

from backupguard.contracts import Duration, RepositorySettings, refused_setting
from backupguard.repositories.local_times import zone_named

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")


class S3Settings(RepositorySettings):
    """Objects of a bucket, each one a dump.

    `credentials.reader` is a shared credentials file as AWS tools read it, with the profile
    `default`; it needs no more than listing (with versions) and reading. Without `endpoint` it is
    AWS itself. `prefix` is where all patterns start. Times in keys are local times of `timezone`.
    """

    selects: ClassVar[frozenset[str]] = frozenset({"pattern"})

    type: Literal["s3"]
    bucket: str
    endpoint: str | None = None
    region: str = "us-east-1"
    prefix: str = ""
    path_style: bool = True
    ca_certificate: Path | None = None
    timezone: str | None = None
    timeout: Duration = timedelta(seconds=60)  # of one request without an answer
    # A bucket for the immutability probe alone, made like this one: its versions and its lock rule
    # are what the backup writer's credentials are tried on.
    probe_bucket: str | None = None

    @property
    def talks_to(self) -> str:
        """The host of the endpoint."""
        if self.endpoint is None:
            return f"s3.{self.region}.amazonaws.com"
        return urlsplit(self.endpoint).hostname or self.endpoint

    @model_validator(mode="after")
    def _check(self) -> Self:
        if _BUCKET.match(self.bucket) is None:
            raise refused_setting("bucket", "bucket")
        if self.probe_bucket is not None and (
            _BUCKET.match(self.probe_bucket) is None or self.probe_bucket == self.bucket
        ):
            raise refused_setting("probe-bucket", "probe-bucket")
        if self.endpoint is not None:
            parts = urlsplit(self.endpoint)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise refused_setting("example", "endpoint", example="https://s3.example.org")
            if parts.username or parts.password:
                raise refused_setting("in-url", "endpoint", key_of="credentials.reader")
        if self.prefix.startswith("/"):
            raise refused_setting("slash", "prefix")
        if self.credentials.reader is None:
            raise refused_setting("reader", "credentials.reader")
        if self.timezone is not None:
            zone_named(self.timezone)
        return self
