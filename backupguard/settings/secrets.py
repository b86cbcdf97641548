"""Secrets by reference: a systemd credential, or a file that nobody else may read.

A secret is read when it is needed, so a rotated file needs no restart. Nothing here remembers,
logs or prints one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from backupguard.contracts import Secret, SecretReference
from backupguard.errors import AccessRefused, MissingMeans
from backupguard.model import Message

_LIMIT = 64 * 1024  # a key file is a few kilobytes; anything longer is the wrong file


def named_in(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, Any]]:
    """Yield the path and the table of everything in the files that names a secret.

    A table of `credential` alone, or of `file` alone, names a secret wherever it stands: so a setting
    that is new, and one of a plug-in of others, is looked at like all the rest.
    """
    if isinstance(data, Mapping):
        if len(data) == 1 and isinstance(data.get("credential", data.get("file")), str):
            yield path, data
        for key, value in data.items():
            yield from named_in(value, (*path, key))
    elif isinstance(data, list):
        for number, value in enumerate(data):
            yield from named_in(value, (*path, number))


def files_named_in(data: Any) -> tuple[Path, ...]:
    """Return the files of all secrets that are named there; systemd's credentials are none of them."""
    return tuple(Path(named["file"]) for _, named in named_in(data) if "file" in named)


def place_of(reference: SecretReference, environ: Mapping[str, str]) -> Path | None:
    """Return the file a reference means; None for a credential outside a systemd service."""
    if reference.file is not None:
        return reference.file
    directory = environ.get("CREDENTIALS_DIRECTORY")
    return Path(directory) / str(reference.credential) if directory else None


def check_status(
    reference: SecretReference, status: os.stat_result, owners: Collection[int]
) -> Message | None:
    """Return what is wrong with the status of a secret's file, or None.

    The group bits of a systemd credential are not judged: where systemd grants access by an access
    control list, they show the list's mask and not the rights of a group.
    """
    place = str(reference.file or reference.credential)
    if not stat.S_ISREG(status.st_mode):
        return Message(id="settings.secret-no-file", values={"place": place})
    forbidden = 0o007 if reference.credential is not None else 0o077
    if status.st_mode & forbidden:
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        return Message(id="settings.secret-readable", values={"place": place, "mode": mode})
    if status.st_uid not in owners:
        values: dict[str, int | str] = {"place": place, "owner": status.st_uid}
        return Message(id="settings.secret-owner", values=values)
    return None


def read_secret(
    reference: SecretReference,
    environ: Mapping[str, str] = os.environ,
    *,
    owners: Collection[int] | None = None,
) -> Secret:
    """Read a secret now; one trailing newline is dropped.

    `owners` are the user ids that may own the file: root and this process' own unless given. Raises
    MissingMeans (secret_missing) when it does not exist or is empty, AccessRefused (permission)
    when it may not be read by us or could be read or replaced by others.
    """
    name = f"credential {reference.credential}" if reference.credential else str(reference.file)
    path = place_of(reference, environ)
    if path is None:
        raise MissingMeans(
            "secret_missing",
            name=name,
            remedy=Message(id="remedy.secret_no_credentials", values={"name": name}),
        )
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise MissingMeans("secret_missing", name=name) from error
    except OSError as error:
        raise AccessRefused("permission", name=name) from error
    try:
        allowed = {0, os.geteuid()} if owners is None else owners
        problem = check_status(reference, os.fstat(descriptor), allowed)
        if problem is not None:
            raise AccessRefused("permission", message=problem, remedy=remedy_of(problem))
        with open(descriptor, "rb", closefd=False) as file:
            value = file.read(_LIMIT + 1)
    finally:
        os.close(descriptor)
    value = value.removesuffix(b"\n").removesuffix(b"\r")
    if not value or len(value) > _LIMIT:
        raise MissingMeans("secret_missing", name=name)
    return Secret(name, value)


def remedy_of(problem: Message) -> Message | None:
    """Return what to do about a problem found by `check_status`."""
    if problem.id == "settings.secret-readable":
        return Message(id="remedy.secret_chmod", values={"place": problem.values["place"]})
    if problem.id == "settings.secret-owner":
        return Message(id="remedy.secret_chown", values={"place": problem.values["place"]})
    return None
