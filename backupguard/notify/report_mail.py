"""The monthly report by mail, and the reminder when it does not come back signed: which are due.

What was mailed and reminded of is read from the records themselves: a restart tells nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from backupguard.model import SITE, Fact, Observation, Verdict, to_us

if TYPE_CHECKING:
    from backupguard.contracts import Store
    from backupguard.settings.report import ReportSettings

MAILED, REMINDED = "report.mailed", "report.reminded"
KINDS = frozenset({MAILED, REMINDED})
#: What the daemon's own runs are asked for by (`daemon.requests.SCHEDULE`).
_SCHEDULED = "schedule"
#: A report written longer ago is not mailed: nobody wants last year's when mail is set up.
_NEWS = timedelta(days=7)
_WEEK = timedelta(days=7)
#: Of base64 in a mail: a line ends after 76 characters (RFC 2045, 6.8), which are 57 bytes.
_BYTES_A_LINE, _LINE_END = 57, 2


def mailings(
    store: Store, after: int, directory: Path, settings: ReportSettings, now: datetime
) -> Iterator[Observation]:
    """Yield the mail that is due for each report that the daemon wrote by itself since `after`.

    Its key is the month's: a report that is written again is not mailed again.
    """
    for closed in store.facts(after=after, kinds=("report.closed",), subject=SITE):
        if closed.author != _SCHEDULED or abs(now - closed.recorded_at) > _NEWS:
            continue
        if closed.observation.data["verdict"] != Verdict.PASSED.value or closed.run is None:
            continue
        issued = [
            one.observation.data
            for one in store.facts(kinds=("report.issued",), subject=SITE)
            if one.run == closed.run and one.observation.data is not None
        ]
        # the report itself: what goes with it is named in it by its hash
        own = [one for one in issued if one.get("annex") is None and one.get("file")]
        if not own:
            continue
        own.sort(key=lambda one: (one["format"] != "pdf", one["file"]))
        pdfs = sum(_in_a_mail(one["bytes"]) for one in own if one["format"] == "pdf")
        yield Observation(
            kind=MAILED,
            subject=SITE,
            observed_at=now,
            key=f"{MAILED}/{own[0]['month']}",
            data={
                "month": own[0]["month"],
                "directory": str(directory),
                "files": [{name: one[name] for name in ("file", "sha256", "bytes")} for one in own],
                "attached": 0 < pdfs <= settings.attach_at_most,
            },
        )


def _in_a_mail(size: int) -> int:
    """Return how many bytes a file of `size` bytes is in a mail: base64 makes it a third larger."""
    return -(-size // 3) * 4 + -(-size // _BYTES_A_LINE) * _LINE_END


def reminders(awaited: Iterable[Fact], allowed: timedelta, now: datetime) -> Iterator[Observation]:
    """Yield the reminder that is due for each report that has not come back signed: one a week."""
    for fact in awaited:
        month, issued_at = fact.observation.data["month"], fact.observation.observed_at
        late = now - issued_at - allowed
        if late <= timedelta(0):
            continue
        time = late // _WEEK + 1
        yield Observation(
            kind=REMINDED,
            subject=SITE,
            observed_at=now,
            key=f"{REMINDED}/{month}/{time}",
            data={"month": month, "issued_at": to_us(issued_at), "time": time},
        )
