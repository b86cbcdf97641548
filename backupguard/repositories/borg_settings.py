"""What the configuration says of a borg repository. Imports nothing of borg's."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import model_validator

from backupguard.contracts import (
    BackupUser,
    Duration,
    RepositorySettings,
    SecretReference,
    refused_setting,
)

_TARGET = re.compile(
    r"ssh://([A-Za-z0-9_][\w.-]*@)?([A-Za-z0-9][\w.-]*|\[[0-9a-fA-F:]+\])(:\d{1,5})?/[^\0\n]+\Z",
    re.ASCII,
)
_SAFE_PATH = re.compile(r"/[\w./-]+\Z", re.ASCII)


class BorgSettings(RepositorySettings):
    """A borg 1 repository, its program and the limits of each kind of call.

    `url` is an absolute path, or `ssh://user@host:port/path`. `credentials.reader` is the passphrase,
    left out where the repository has none; `credentials.backend` an unencrypted private key for ssh.
    `key_file` is the key of a repository that does not keep its own (`keyfile` modes).
    """

    selects: ClassVar[frozenset[str]] = frozenset({"name"})

    reader_is_key: ClassVar[bool] = True

    type: Literal["borg"]
    url: str
    backup_user: BackupUser = None  # of a local repository: who writes there
    program: Path | None = None  # left out: `borg` on the fixed path
    remote_program: Path | None = None  # ssh only; left out: `borg` there
    key_file: SecretReference | None = None
    known_hosts: Path | None = None  # ssh only; left out: ssh's own
    refresh_timeout: Duration = timedelta(minutes=15)
    verify_timeout: Duration = timedelta(hours=12)
    fetch_timeout: Duration = timedelta(hours=12)

    @property
    def path(self) -> Path | None:
        """The directory of a local repository, or None."""
        return None if self.url.startswith("ssh://") else Path(self.url)

    @property
    def host(self) -> str | None:
        """The host of a repository behind ssh, or None."""
        return None if self.path is not None else urlsplit(self.url).hostname

    @property
    def talks_to(self) -> str:
        """The host that reading loads."""
        return self.host or "localhost"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.path is not None and not self.url.startswith("/"):
            raise refused_setting("example", "url", example="/srv/borg, ssh://user@host/path")
        if self.path is None and urlsplit(self.url).password is not None:
            raise refused_setting("in-url", "url", key_of="credentials.backend")
        if self.path is None and not _TARGET.match(self.url):
            raise refused_setting("example", "url", example="ssh://user@host:port/path")
        # borg would take "::" for an archive's name and put values into braces.
        if "::" in self.url.partition("]")[2] or ("]" not in self.url and "::" in self.url):
            raise refused_setting("archive", "url")
        if re.search(r"[{}\0\n]", self.url):
            raise refused_setting("braces", "url")
        for name, path in (
            ("known-hosts", self.known_hosts),
            ("remote-program", self.remote_program),
        ):
            if path is not None and not _SAFE_PATH.match(str(path)):
                raise refused_setting("plain-path", name)
        if self.backup_user is not None and self.path is None:
            raise refused_setting("only-local", "backup-user")
        if self.limits.bandwidth is not None:
            raise refused_setting("no-bandwidth", "limits.bandwidth", program="borg")
        return self
