"""What the settings of all types with a REST interface share."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import model_validator

from backupguard.contracts import Duration, RepositorySettings, Trust, refused_setting

_SHA256 = re.compile(r"([0-9a-fA-F]{2}:?){31}[0-9a-fA-F]{2}\Z")


class RestSettings(RepositorySettings):
    """A server with a REST interface.

    Its certificate is believed when the system's authorities, or `ca-certificate`, signed it for its
    name, or when it is the one of `fingerprint` (SHA-256): for the self-signed ones of appliances.
    """

    url: str
    ca_certificate: Path | None = None
    fingerprint: str | None = None
    timeout: Duration = timedelta(seconds=60)  # of one request

    @property
    def talks_to(self) -> str:
        """The host of the URL."""
        return urlsplit(self.url).hostname or "localhost"

    @property
    def base(self) -> str:
        """The URL without a slash at its end."""
        return self.url.rstrip("/")

    @property
    def timeout_s(self) -> int:
        """Seconds that one request may take."""
        return max(1, int(self.timeout.total_seconds()))

    @property
    def trust(self) -> Trust:
        """Which certificate is believed."""
        return Trust(ca=self.ca_certificate, fingerprint=self.fingerprint)

    @model_validator(mode="after")
    def _check_server(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme != "https" or not parts.hostname:
            raise refused_setting("https", "url")
        if parts.username or parts.password:
            raise refused_setting("in-url", "url", key_of="credentials.reader")
        if self.fingerprint is not None and _SHA256.match(self.fingerprint) is None:
            raise refused_setting("fingerprint", "fingerprint")
        if self.credentials.reader is None:
            raise refused_setting("reader", "credentials.reader")
        return self
