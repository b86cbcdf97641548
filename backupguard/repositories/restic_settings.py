"""What the configuration says of a restic repository. Imports nothing of restic's."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from backupguard.contracts import BackupUser, Duration, RepositorySettings, refused_setting

_BANDWIDTH = re.compile(r"(?P<number>\d+)\s*(?P<unit>k|K|M|G)?B/s\Z")
_SAFE_TARGET = re.compile(r"([A-Za-z0-9_][\w.-]*@)?[A-Za-z0-9\[][\w.:\]-]*\Z", re.ASCII)
_SAFE_PATH = re.compile(r"/[\w./-]+\Z", re.ASCII)
_POWERS = {None: 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}


class Backend(StrEnum):
    """Where a restic repository lies; other backends of restic's are refused."""

    LOCAL = "local"
    REST = "rest"
    SFTP = "sftp"
    S3 = "s3"


def backend_of(url: str) -> Backend:
    """Given a repository's URL as restic writes it, return its backend.

    Raise ValueError for a backend that is not supported (`b2:`, `rclone:`, …) or an empty URL.
    """
    scheme, colon, rest = url.partition(":")
    if not url or (colon and not rest):
        raise refused_setting("example", "url", example="/srv/backup, rest:https://host/path")
    if not colon or "/" in scheme or scheme == Backend.LOCAL:
        path = rest if colon and scheme == Backend.LOCAL else url
        if not path.startswith("/"):
            raise refused_setting("absolute", "url")
        return Backend.LOCAL
    try:
        return Backend(scheme)
    except ValueError as error:
        raise refused_setting("backend", "url", known="rest:, sftp:, s3:") from error


def bytes_per_second(bandwidth: str) -> int:
    """Given a bandwidth such as "50MB/s", return bytes per second.

    Raise ValueError when the text is no bandwidth.
    """
    match = _BANDWIDTH.match(bandwidth.strip())
    if match is None:
        raise refused_setting("example", "limits.bandwidth", example="50MB/s")
    return int(match["number"]) * _POWERS[match["unit"]]


def ssh_target(url: str) -> tuple[str, str | None]:
    """Given an sftp URL in either of restic's forms, return "user@host" and the port or None."""
    if url.startswith("sftp://"):
        parts = urlsplit(url)
        user = f"{parts.username}@" if parts.username else ""
        return f"{user}{parts.hostname}", str(parts.port) if parts.port else None
    return url.removeprefix("sftp:").split(":", 1)[0], None


class ResticSettings(RepositorySettings):
    """A restic repository, its program and the limits of each kind of call.

    `credentials.reader` is restic's password. `credentials.backend` is, for `rest:`, one line
    `user:password`; for `s3:`, a shared credentials file as AWS tools read it; for `sftp:`, an
    unencrypted private key.
    """

    selects: ClassVar[frozenset[str]] = frozenset({"tags"})

    reader_is_key: ClassVar[bool] = True

    type: Literal["restic"]
    url: str
    backup_user: BackupUser = None  # of a local repository: who writes there
    program: Path | None = None  # left out: `restic` on the fixed path
    region: str | None = None  # s3 only
    ca_certificate: Path | None = None  # rest and s3 only
    known_hosts: Path | None = None  # sftp only; left out: ssh's own
    probe_bucket: str | None = None  # s3 only: a bucket that is the immutability probe's own
    data_buckets: Annotated[int, Field(ge=1, le=256)] = 32
    refresh_timeout: Duration = timedelta(minutes=5)
    verify_timeout: Duration = timedelta(hours=6)
    fetch_timeout: Duration = timedelta(hours=12)

    @property
    def backend(self) -> Backend:
        """The backend that the URL names."""
        return backend_of(self.url)

    @property
    def path(self) -> Path | None:
        """The directory of a local repository, or None."""
        if self.backend is not Backend.LOCAL:
            return None
        return Path(self.url.removeprefix("local:"))

    @property
    def http_url(self) -> str:
        """The address of a `rest:` repository as HTTP clients write it, ending in "/"."""
        return self.url.removeprefix("rest:").rstrip("/") + "/"

    @model_validator(mode="after")
    def _check(self) -> Self:
        backend = backend_of(self.url)
        if backend is Backend.REST:
            parts = urlsplit(self.http_url)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise refused_setting("example", "url", example="rest:https://host/path")
        if self.probe_bucket is not None and backend is not Backend.S3:
            raise refused_setting("only-s3", "probe-bucket")
        # sftp://user@host and sftp:user@host:/path carry a name, never a password; the others may.
        if backend in {Backend.REST, Backend.S3} and "@" in self.url:
            raise refused_setting("in-url", "url", key_of="credentials.backend")
        if backend is Backend.SFTP and re.match(r"sftp:(//)?[^@/]*:[^@/]*@", self.url):
            raise refused_setting("in-url", "url", key_of="credentials.backend")
        if backend is Backend.SFTP and not _SAFE_TARGET.match(ssh_target(self.url)[0]):
            raise refused_setting("example", "url", example="sftp://user@host:port/path")
        if self.known_hosts is not None and not _SAFE_PATH.match(str(self.known_hosts)):
            raise refused_setting("plain-path", "known-hosts")
        if self.backup_user is not None and backend is not Backend.LOCAL:
            raise refused_setting("only-local", "backup-user")
        if self.credentials.reader is None:
            raise refused_setting("reader", "credentials.reader")
        if self.limits.bandwidth is not None:
            bytes_per_second(self.limits.bandwidth)
        return self
