"""The configuration that pgBackRest is given: our own, with the place of the repository and no more.

It is a secret as a whole, for the cipher passphrase and the keys of object storage stand in it; it
exists inside the jail only (`PGBACKREST_CONFIG`). Nothing of the site's configuration gets into it but
where the repository is and how it is opened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from backupguard.contracts import Context, Secret
from backupguard.errors import ConfigurationError, ConfigurationProblem
from backupguard.model import Message
from backupguard.repositories.pgbackrest_settings import PgBackRestSettings

#: What may be taken from a site's configuration, named without `repoN-` (pgBackRest's reference).
KEYS = frozenset(
    {
        *("path", "type", "cipher-type", "cipher-pass"),
        *("s3-bucket", "s3-endpoint", "s3-region", "s3-key", "s3-key-secret", "s3-token"),
        *("s3-key-type", "s3-role", "s3-uri-style"),
        *("azure-account", "azure-container", "azure-endpoint", "azure-key", "azure-key-type"),
        *("azure-uri-style", "gcs-bucket", "gcs-endpoint", "gcs-key", "gcs-key-type"),
        *("storage-ca-file", "storage-ca-path", "storage-host", "storage-port"),
        "storage-verify-tls",
    }
)
#: Kinds of storage that are read through the network by pgBackRest itself.
REMOTE = frozenset({"s3", "azure", "gcs"})
_LOCAL = frozenset({"posix", "cifs"})
_SECTION = re.compile(r"\[(.+)\]\s*\Z")
_KEY = re.compile(r"repo(\d+)-([a-z0-9-]+)\Z")
_OF_ANOTHER_HOST = "host"


def read_configuration(text: str, repo: int) -> Mapping[str, str]:
    """Given a pgBackRest configuration, return what `KEYS` names of repository `repo`, without prefix.

    Raise ValueError with the key that stands in the way: the repository lies behind another host's
    pgBackRest (`repo1-host`), or in storage of another kind.
    """
    found: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        header = _SECTION.match(stripped)
        if header is not None:
            section = header[1]
            continue
        name, equals, value = (part.strip() for part in stripped.partition("="))
        match = _KEY.match(name)
        if not equals or match is None or int(match[1]) != repo or section != "global":
            continue
        if match[2] == _OF_ANOTHER_HOST:
            raise ValueError(name)
        if match[2] in KEYS:
            found[match[2]] = value
    kind = found.get("type", "posix")
    if kind not in REMOTE | _LOCAL:
        raise ValueError(f"repo{repo}-type")
    if kind in _LOCAL and "path" not in found:
        raise ValueError(f"repo{repo}-path")
    return found


def place_of(identifier: str, settings: PgBackRestSettings, context: Context) -> Mapping[str, str]:
    """Return where the repository is and how it is opened, by the names of `KEYS`.

    Raises MissingMeans (secret_missing), AccessRefused (permission), ConfigurationError.
    """
    place: dict[str, str] = {}
    reference = settings.credentials.backend
    if reference is not None:
        text = context.secret(reference).reveal().decode("utf-8", "replace")
        try:
            place.update(read_configuration(text, settings.repo))
        except ValueError as error:
            raise _unusable(identifier, str(error)) from error
    else:
        place["path"] = str(settings.path)
    if settings.credentials.reader is not None:
        place["cipher-pass"] = (
            context.secret(settings.credentials.reader).reveal().decode("utf-8", "replace").strip()
        )
    if "cipher-pass" in place:
        place.setdefault("cipher-type", "aes-256-cbc")
    if any("\n" in value or "\r" in value for value in place.values()):
        raise _unusable(identifier, "cipher-pass")
    return place


def _unusable(identifier: str, key: str) -> ConfigurationError:
    return ConfigurationError(
        [
            ConfigurationProblem(
                file="",
                line=None,
                column=None,
                key=f"repositories.{identifier}.credentials",
                message=Message(id="repositories.pgbackrest-configuration", values={"key": key}),
            )
        ]
    )


def configuration(place: Mapping[str, str], work: Path) -> Secret:
    """Return the whole configuration; all that pgBackRest may write of its own goes below `work`."""
    lines = ["[global]", *(f"repo1-{name}={value}" for name, value in sorted(place.items()))]
    lines += [
        "log-level-file=off",
        "log-level-stderr=off",
        f"log-path={work}",
        f"lock-path={work}",
        f"spool-path={work}",
        "archive-async=n",
        # It repeats what failed after this many seconds; 15 of its own.
        "job-retry-interval=1",
    ]
    return Secret("pgbackrest.conf", ("\n".join(lines) + "\n").encode())
