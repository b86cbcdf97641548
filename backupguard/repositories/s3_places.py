"""Where objects lie: one bucket of one S3 server, as an `s3` or a `restic` repository names it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from backupguard.contracts import SecretReference
from backupguard.repositories.restic_settings import Backend, ResticSettings
from backupguard.repositories.s3_settings import S3Settings

_REGION = re.compile(r"s3[.-](?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com")
_DEFAULT_REGION = "us-east-1"
_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Place:
    """A bucket, the part of its keys that belongs to the repository, and how its server is reached.

    `prefix` is "" or what every key begins with. `endpoint` None is AWS itself.
    """

    bucket: str
    prefix: str
    endpoint: str | None
    region: str
    path_style: bool
    ca_certificate: Path | None
    timeout_s: int
    credentials: SecretReference | None  # the reader's, a shared credentials file


def place_of(settings: S3Settings) -> S3Place:
    """Return where an `s3` repository's objects lie."""
    return S3Place(
        bucket=settings.bucket,
        prefix=settings.prefix,
        endpoint=settings.endpoint,
        region=settings.region,
        path_style=settings.path_style,
        ca_certificate=settings.ca_certificate,
        timeout_s=int(settings.timeout.total_seconds()),
        credentials=settings.credentials.reader,
    )


def place_of_restic(settings: ResticSettings) -> S3Place | None:
    """Return where a restic repository's objects lie; None for one that is not in a bucket.

    Its URL is `s3:https://host/bucket/prefix`; restic speaks HTTPS where no scheme is named.
    """
    if settings.backend is not Backend.S3:
        return None
    address = settings.url.removeprefix("s3:").removeprefix("//")
    parts = urlsplit(address if "://" in address else f"https://{address}")
    bucket, _, prefix = parts.path.strip("/").partition("/")
    if not parts.hostname or not bucket:
        return None
    region = _REGION.fullmatch(parts.hostname)
    return S3Place(
        bucket=bucket,
        prefix=f"{prefix}/" if prefix else "",
        endpoint=f"{parts.scheme}://{parts.netloc}",
        region=settings.region or (region[1] if region else _DEFAULT_REGION),
        path_style=not parts.hostname.endswith("amazonaws.com"),
        ca_certificate=settings.ca_certificate,
        timeout_s=_TIMEOUT_S,
        credentials=settings.credentials.backend,
    )
