"""Whether the privileged helper is there, and what works without it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from backupguard.cli import common
from backupguard.cli.doctor_needs import Result
from backupguard.errors import BackupGuardError
from backupguard.helper.client import Helper
from backupguard.model import Message

if TYPE_CHECKING:
    from backupguard.settings import Settings

#: A helper that does not answer a greeting by then is in trouble.
_GREETING_S = 10.0


def helper(settings: Settings, asked: Helper | None = None) -> Iterator[Result]:
    """Look for the helper; without anything that needs it, its absence is a remark."""
    wanted = _wanted(settings)
    try:
        present = (asked or Helper(timeout_s=_GREETING_S)).present()
    except BackupGuardError as error:
        told = common.words().say(error.message)
        yield Result(check="helper", state="bad" if wanted else "note", found=told)
        return
    if present:
        yield Result(
            check="helper", state="ok", found=common.words().text("cli.doctor.helper.there")
        )
        return
    yield Result(
        check="helper",
        state="missing" if wanted else "note",
        found=common.words().text("cli.doctor.helper.without"),
        remedy=Message(id="remedy.helper_missing") if wanted else None,
    )


def _wanted(settings: Settings) -> bool:
    """Tell whether anything configured can be done by the helper only."""
    media = any(one.mount is None and one.kind != "vault" for one in settings.media.values())
    places = settings.repositories.values()
    return media or any(getattr(place, "backup_user", None) for place in places)
