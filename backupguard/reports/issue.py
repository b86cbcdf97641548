"""Writes a month's report to disk and says what was written, as observations to be recorded."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backupguard.contracts import Cancel, Store
from backupguard.controls import catalogue_of
from backupguard.errors import BackupGuardError, UsageError
from backupguard.language import LANGUAGES, Words
from backupguard.model import SITE, Message, Observation
from backupguard.reports.model import MonthlyReport
from backupguard.reports.monthly import monthly
from backupguard.reports.paper.annexes import Made, Paper, issued_minutes
from backupguard.reports.paper.press import LIMIT_S
from backupguard.reports.render import render_html, render_json

if TYPE_CHECKING:
    from backupguard.controls import Catalogue
    from backupguard.settings import Settings

FORMATS = ("html", "pdf", "json")
#: How a directory is called in which documents are made; what a killed run left is older than a day.
_WORK = ".paper-"
_LEFT_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A file that was written, and the fact that says so."""

    path: Path
    observation: Observation


def directory_of(settings: Settings) -> Path:
    """Return where reports go unless somebody says otherwise."""
    return settings.state_directory / "reports"


def file_name(month: str, report_format: str, language: str) -> str:
    """Return the name of a report's file: "backupguard-2026-11-fr.html"."""
    return f"backupguard-{month}-{language}.{report_format}"


def issue_report(
    store: Store,
    settings: Settings,
    month: str,
    languages: Sequence[str],
    formats: Sequence[str],
    output: Path | None,
    now: datetime,
    *,
    without_paper: Callable[[BackupGuardError], None] | None = None,
    cancel: Cancel | None = None,
    limit_s: float = LIMIT_S,
) -> tuple[Issued, ...]:
    """Write a month's report in each language and format, and return what was written.

    With "pdf" come its annexes, each a file of its own that the report names by its hash; minutes of
    restore tests that lie there already stay as they are. A file appears whole or not at all, and
    replaces an older issue of the same month, whose hash stays in the chain.

    Raises UsageError for an unknown month, language or format. Where no PDF can be made, the other
    formats are written all the same; then `without_paper` is called with the error, or it is raised.
    """
    check_offered(languages, formats)
    directory = output or directory_of(settings)
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    catalogue = catalogue_of(settings)
    issued: list[Issued] = []
    problems: list[BackupGuardError] = []
    for language in languages:
        report = monthly(store, settings, catalogue, month, language, now)
        words = Words(language, settings.site.timezone)
        with _working(directory) as work:
            paper = Paper(
                store=store, directory=directory, work=work, cancel=cancel, limit_s=limit_s
            )
            edition = _Edition(paper, report, words, catalogue, now)
            try:
                if "pdf" in formats:
                    edition.put_on_paper()
            except BackupGuardError as error:
                problems.append(error)
            issued += edition.issue(formats)
    if problems and without_paper is None:
        raise problems[0]
    if problems and without_paper is not None:
        without_paper(problems[0])
    return tuple(issued)


class _Edition:
    """A month's report in one language, and what goes with it, until all of it is in place."""

    def __init__(
        self,
        paper: Paper,
        report: MonthlyReport,
        words: Words,
        catalogue: Catalogue,
        now: datetime,
    ) -> None:
        self.paper, self.report, self.words = paper, report, words
        self.catalogue, self.now = catalogue, now
        self.made: tuple[Made, ...] = ()
        self.pdf: Path | None = None

    def put_on_paper(self) -> None:
        """Make the PDF and its annexes in the working directory. Raises as `paper.press`."""
        self.paper.known = issued_minutes(self.paper.store)
        annexes, made = self.paper.annexes(self.report, self.catalogue, self.words)
        report = replace(self.report, annexes=annexes)
        self.pdf = self.paper.report(report, render_html(report, self.words), self.words)
        # Only now: a report must not name annexes that never came to lie beside it.
        self.report, self.made = report, made

    def issue(self, formats: Sequence[str]) -> Iterator[Issued]:
        """Put every file in place, the annexes first, and yield what was written."""
        for one in self.made:
            yield self._placed(one.row.file, "pdf", one.path.read_bytes(), one)
        for report_format in formats:
            if report_format == "pdf":
                if self.pdf is None:
                    continue
                content = self.pdf.read_bytes()
            elif report_format == "html":
                content = render_html(self.report, self.words).encode()
            else:
                content = render_json(self.report).encode()
            name = file_name(self.report.month, report_format, self.report.language)
            yield self._placed(name, report_format, content, None)

    def _placed(self, name: str, report_format: str, content: bytes, made: Made | None) -> Issued:
        path = self.paper.directory / name
        replace_file(path, content)
        digest = hashlib.sha256(content).hexdigest()
        month, language = self.report.month, self.report.language
        data: dict[str, int | str] = {
            "month": month,
            "format": report_format,
            "language": language,
            "sha256": digest,
            "bytes": len(content),
            "file": name,
        }
        # The same bytes issued twice are one event; another issue of the month is another.
        key = f"report/{month}/{report_format}/{language}/{digest}"
        if made is not None:
            key = f"report/{name}/{digest}"
            data["annex"] = made.annex
            if made.test is not None:
                data["test"] = made.test
        observation = Observation(
            kind="report.issued", subject=SITE, observed_at=self.now, key=key, data=data
        )
        return Issued(path=path, observation=observation)


def issue(
    store: Store,
    settings: Settings,
    month: str,
    languages: Sequence[str],
    formats: Sequence[str],
    output: Path | None,
    now: datetime,
    *,
    without_paper: Callable[[BackupGuardError], None] | None = None,
    cancel: Cancel | None = None,
) -> list[Observation]:
    """Write a month's report and return the `report.issued` observations for the run's record.

    `without_paper` and `cancel` are as for `issue_report`.
    """
    done = issue_report(
        store,
        settings,
        month,
        languages,
        formats,
        output,
        now,
        without_paper=without_paper,
        cancel=cancel,
    )
    return [one.observation for one in done]


def check_offered(languages: Sequence[str], formats: Sequence[str]) -> None:
    """Raise UsageError for a language or format that this version does not write."""
    for language in languages:
        if language not in LANGUAGES:
            values = {"language": language, "known": ", ".join(LANGUAGES)}
            raise UsageError("usage", Message(id="report.bad_language", values=values))
    for report_format in formats:
        if report_format not in FORMATS:
            values = {"format": report_format, "known": ", ".join(FORMATS)}
            raise UsageError("usage", Message(id="report.bad_format", values=values))


@contextmanager
def _working(directory: Path) -> Iterator[Path]:
    """Hold a directory of our own on the reports' disk; what a killed run left there is discarded."""
    for left in directory.glob(f"{_WORK}*"):
        if left.is_dir() and not left.is_symlink() and left.stat().st_mtime < time.time() - _LEFT_S:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=_WORK) as name:
        yield Path(name)


def replace_file(path: Path, content: bytes) -> None:
    """Put a file in place, whole or not at all, readable by its owner and group. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o640)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
