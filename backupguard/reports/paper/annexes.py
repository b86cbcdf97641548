"""Makes the documents of a month: the minutes of its restore tests, the annexes, the report itself."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from backupguard.contracts import Cancel, Store
from backupguard.language import Words
from backupguard.reports.model import AnnexRow, MonthlyReport
from backupguard.reports.paper.extract import NAME, Chain, write_extract
from backupguard.reports.paper.press import LIMIT_S, press
from backupguard.reports.paper.sheets import (
    Written,
    iso,
    minutes_title,
    of_applications,
    of_controls,
    of_report,
    of_test,
)
from backupguard.reports.paper.standings import standings
from backupguard.reports.render import render_json
from backupguard.reports.tested import payload
from backupguard.typesetting.sheet import Attached, Sheet

if TYPE_CHECKING:
    from backupguard.controls import Catalogue

CONTROLS, APPLICATIONS, MINUTES = "controls", "applications", "minutes"
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A document that was made in this run, still in the working directory.

    `annex` is "controls", "applications" or "minutes"; `test` the number of the record whose minutes
    it is.
    """

    row: AnnexRow
    path: Path
    annex: str
    test: int | None = None


@dataclass(slots=True, kw_only=True)
class Paper:
    """Makes documents for one issue of a report.

    `directory` is where they will lie, `work` where they are made, on the same disk. `known` are the
    hashes of minutes that were issued before, by the names of their files.
    """

    store: Store
    directory: Path
    work: Path
    known: Mapping[str, str] = field(default_factory=dict)
    limit_s: float = LIMIT_S
    cancel: Cancel | None = None
    _count: int = 0

    def annexes(
        self, report: MonthlyReport, catalogue: Catalogue, words: Words
    ) -> tuple[tuple[AnnexRow, ...], tuple[Made, ...]]:
        """Return the rows of all annexes, as the report names them, and those that had to be made.

        Minutes that lie in the directory as they were issued are not made again. Raises as `press`.
        """
        minutes, made = self.minutes(report, words)
        month, language = report.month, report.language
        controls = of_controls(report, standings(self.store, report, catalogue), catalogue, words)
        applications = of_applications(report, minutes, words)
        sheets = [self._sheet(one) for one in (controls, applications)]
        self._press(sheets)
        for written, annex, sheet in zip(
            (controls, applications), (CONTROLS, APPLICATIONS), sheets, strict=True
        ):
            file = f"backupguard-{month}-{annex}-{language}.pdf"
            row = _row(file, written.title, Path(sheet.pdf))
            made.append(Made(row=row, path=Path(sheet.pdf), annex=annex))
        shared = [one.row for one in made if one.annex != MINUTES]
        return (*shared, *minutes), tuple(made)

    def minutes(
        self, report: MonthlyReport, words: Words
    ) -> tuple[tuple[AnnexRow, ...], list[Made]]:
        """Return the minutes of the month's restore tests, and those that had to be made."""
        rows: list[AnnexRow | None] = []
        wanted: list[tuple[int, str, str, int, Sheet]] = []
        for place, test in enumerate(report.tests):
            file = minutes_file(test.seq, test.application, report.language)
            title = minutes_title(test, words)
            rows.append(self._kept(file, title))
            fact = self.store.fact(test.seq)
            if rows[-1] is None and fact is not None:
                written = of_test(report.site, report.evidence.store_id, test, fact, words)
                wanted.append((place, file, title, test.seq, self._sheet(written)))
        self._press([sheet for *_, sheet in wanted])
        made = []
        for place, file, title, seq, sheet in wanted:
            row = _row(file, title, Path(sheet.pdf))
            rows[place] = row
            made.append(Made(row=row, path=Path(sheet.pdf), annex=MINUTES, test=seq))
        return tuple(row for row in rows if row is not None), made

    def _kept(self, file: str, title: str) -> AnnexRow | None:
        """Return the row of minutes that lie there, byte for byte, as they were issued."""
        path = self.directory / file
        issued = self.known.get(file)
        if issued is None or not path.is_file():
            return None
        row = _row(file, title, path)
        return row if row.sha256 == issued else None

    def report(self, report: MonthlyReport, html: str, words: Words) -> Path:
        """Return the report as a PDF, with its data and the records it names inside it."""
        self._count += 1
        data = self.work / f"{self._count}-report.json"
        data.write_text(render_json(report), encoding="utf-8")
        records = self.work / f"{self._count}-records.json"
        write_extract(cast(Chain, self.store), report, records)
        attached = (
            Attached(
                name=f"backupguard-{report.month}-{report.language}.json",
                path=str(data),
                description=words.text("paper.attached.data"),
                relationship="Source",
            ),
            Attached(
                name=NAME,
                path=str(records),
                description=words.text("paper.attached.records"),
                relationship="Data",
            ),
        )
        sheet = self._sheet(of_report(report, html, words), signable=True, attached=attached)
        self._press([sheet])
        return Path(sheet.pdf)

    def _sheet(
        self, written: Written, *, signable: bool = False, attached: Sequence[Attached] = ()
    ) -> Sheet:
        self._count += 1
        html = self.work / f"{self._count}.html"
        html.write_text(written.html, encoding="utf-8")
        return Sheet(
            html=str(html),
            pdf=str(self.work / f"{self._count}.pdf"),
            created=iso(written.created),
            left=written.left,
            right=written.right,
            page=written.page,
            description=f"{written.left} · {written.right}",
            signable=signable,
            attached=tuple(attached),
        )

    def _press(self, sheets: Sequence[Sheet]) -> None:
        press(sheets, self.work, limit_s=self.limit_s, cancel=self.cancel)


def minutes_file(seq: int, application: str, language: str) -> str:
    """Return the name of the minutes of a restore test: "backupguard-pv-000123-dpi-fr.pdf"."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "-", application)[:60]
    return f"backupguard-pv-{seq:06d}-{plain}-{language}.pdf"


def issued_minutes(store: Store) -> dict[str, str]:
    """Return the hashes of all minutes ever issued, by the names of their files.

    Those of a record whose body was pruned are not known, so they are made again.
    """
    found: dict[str, str] = {}
    for fact in store.facts(kinds=("report.issued",)):
        data = payload(fact)
        if data.get("annex") == MINUTES:
            found[data["file"]] = data["sha256"]
    return found


def _row(file: str, title: str, path: Path) -> AnnexRow:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    size = path.stat().st_size
    return AnnexRow(file=file, title=title, sha256=digest.hexdigest(), bytes=size)
