"""The reports that were written, month by month, with the fingerprints that the chain holds of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from backupguard.web.downloads import File, files, report_like
from backupguard.web.pages.rendering import View

_NAME = re.compile(r"backupguard-(\d{4}-(?:0[1-9]|1[0-2]))-(fr|en)\.(html|pdf|json)\Z")
#: Records of issued reports that are looked through for fingerprints.
ISSUED = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A file as a line; `sha256` is what the chain holds of its newest issue, "" for nothing."""

    name: str
    address: str
    language: str
    form: str
    bytes: int
    written: datetime
    sha256: str


def page(view: View) -> str:
    """Return the list of reports: the newest month first, then what else lies beside them."""
    known = _recorded(view)
    months: dict[str, list[Report]] = {}
    others: list[Report] = []
    for file in files(view.outputs.reports, report_like):
        found = _NAME.match(file.name)
        if found is None:
            others.append(_report(view, file, "", "", ""))
            continue
        month, language, form = found.groups()
        made = _report(view, file, language, form, known.get((month, language, form), ""))
        months.setdefault(month, []).append(made)
    every = sorted(months, reverse=True)
    shown, turned = view.turned(every, 24)
    beside, more = view.turned(others)
    return view.render(
        "reports.html",
        months=[(view.words.month(month), months[month]) for month in shown],
        turned=turned if every else None,
        others=beside,
        more=more,
    )


def _report(view: View, file: File, language: str, form: str, sha256: str) -> Report:
    return Report(
        name=file.name,
        address=f"/reports/{file.name}",
        language=view.text(f"web.language.{language}") if language else "",
        form=(form or file.name.rpartition(".")[2]).upper(),
        bytes=file.bytes,
        written=file.written,
        sha256=sha256,
    )


def _recorded(view: View) -> Mapping[tuple[str, str, str], str]:
    """Return the fingerprints of the newest issues, by month, language and form."""
    records = view.outputs.records
    found: dict[tuple[str, str, str], str] = {}
    if records is None:
        return found
    for fact in records.store.newest(["report.issued"], limit=ISSUED):
        data = fact.observation.data
        if data is not None:
            found.setdefault((data["month"], data["language"], data["format"]), data["sha256"])
    return found
