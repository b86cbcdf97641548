"""Where BackupGuard itself lives, and what of that somebody accepted although its rules say no."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field

from backupguard.contracts import SettingsModel
from backupguard.model import Message
from backupguard.settings.files import Trouble

#: What `doctor` judges of this host and a person may accept; scratch in clear text has its own key.
Judged = Literal["domain", "swap", "core-dumps", "place"]
#: Who accepts something looks at it again within a year.
ACCEPTED_DAYS = 366


class Acceptance(SettingsModel):
    """Who accepts what the rules refuse, and the last day on which that holds."""

    by: str = Field(min_length=1)
    until: date
    reason: str | None = None


class Host(SettingsModel):
    """This host. `failure_domains` is what it would be lost with: hypervisor cluster, array, room.

    They are the names that repositories and applications use, so that a host that stands on what it
    verifies can be told. `accepted` are the exceptions, each by name and until a day.
    """

    failure_domains: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    accepted: Mapping[Judged, Acceptance] = Field(default_factory=dict)


def rules(data: Mapping[str, Any], today: date) -> Iterator[Trouble]:
    """Report what was accepted for longer than a year."""
    host = data.get("host")
    accepted = host.get("accepted") if isinstance(host, Mapping) else None
    for name, one in accepted.items() if isinstance(accepted, Mapping) else ():
        until = one.get("until") if isinstance(one, Mapping) else None
        until = until.date() if isinstance(until, datetime) else until
        latest = today + timedelta(days=ACCEPTED_DAYS)
        if isinstance(until, date) and until > latest:
            yield Trouble(
                path=("host", "accepted", str(name), "until"),
                message=Message(
                    id="settings.accepted-too-long",
                    values={"found": until.isoformat(), "latest": latest.isoformat()},
                ),
            )
