"""The escrowed key as a person brings it: typed without an echo, or on standard input."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from backupguard.cli import common
from backupguard.errors import UsageError
from backupguard.model import Message

if TYPE_CHECKING:
    from backupguard.contracts import Secret
    from backupguard.settings import Settings


def brought_key(settings: Settings, repository: str | None) -> Secret | None:
    """Return the key for a repository, None where `credentials.escrow` says where it will lie.

    Raises UsageError without a repository, and for one whose key cannot be tried.
    """
    from backupguard.daemon.escrow import usable

    if repository is None:
        raise UsageError("usage", Message(id="escrow.which_repository"))
    place = settings.repositories[repository]
    if not usable(place):
        raise UsageError("usage", Message(id="escrow.not_usable"))
    if place.credentials.escrow is not None:
        return None
    return _asked(repository)


def _asked(repository: str) -> Secret:
    import getpass

    from backupguard.contracts import Secret
    from backupguard.daemon.escrow import KEY_LIMIT

    if sys.stdin.isatty():
        question = common.words().text("escrow.ask", repository=repository)
        value = getpass.getpass(question).encode("utf-8", "surrogateescape")
    else:
        value = sys.stdin.buffer.read(KEY_LIMIT + 1)
        value = value.removesuffix(b"\n").removesuffix(b"\r")
    if not value or len(value) > KEY_LIMIT:
        raise UsageError("usage", Message(id="escrow.not_brought"))
    return Secret("escrow", value)
