"""The monthly report: in which languages and formats it is written, and whom it is mailed to."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from backupguard.contracts import SettingsModel, Size
from backupguard.settings.notify import Address


class ReportSettings(SettingsModel):
    """The report of each month; `daemon.cadences.report` says on which day it is written.

    `mail_to` get it by mail once it is written (`[notify.mail]` says by which relay), with its PDFs
    where they are no larger than `attach_at_most` together, as base64 in the mail (137 % of the
    files); else they are told where it lies. By default the whole mail stays below 10,240,000 bytes,
    which is what a relay takes that nobody configured (postconf(5), `message_size_limit`).
    """

    mail_to: tuple[Address, ...] = ()
    languages: tuple[Literal["fr", "en"], ...] = ()  # left out: the site's
    formats: Annotated[tuple[Literal["html", "pdf", "json"], ...], Field(min_length=1)] = (
        *("html", "pdf", "json"),
    )
    attach_at_most: Annotated[Size, Field(gt=0)] = 10 * 10**6
