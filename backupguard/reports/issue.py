"""Writes a month's report to disk and says what was written, as observations to be recorded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backupguard.contracts import Store
from backupguard.controls import catalogue_of
from backupguard.errors import UsageError
from backupguard.language import LANGUAGES, Words
from backupguard.model import SITE, Message, Observation
from backupguard.reports.monthly import monthly
from backupguard.reports.render import render_html, render_json

if TYPE_CHECKING:
    from backupguard.settings import Settings

FORMATS = ("html", "json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A report that was written, and the fact that says so."""

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
) -> tuple[Issued, ...]:
    """Write a month's report in each language and format, and return what was written.

    A file appears whole or not at all, and replaces an older issue of the same month, whose hash
    stays in the chain. Raises UsageError for an unknown month, language or format.
    """
    check_offered(languages, formats)
    directory = output or directory_of(settings)
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    catalogue = catalogue_of(settings)
    issued = []
    for language in languages:
        report = monthly(store, settings, catalogue, month, language, now)
        words = Words(language, settings.site.timezone)
        for report_format in formats:
            html = report_format == "html"
            text = render_html(report, words) if html else render_json(report)
            content = text.encode()
            path = directory / file_name(month, report_format, language)
            replace_file(path, content)
            observation = _observation(month, report_format, language, content, now)
            issued.append(Issued(path=path, observation=observation))
    return tuple(issued)


def issue(
    store: Store,
    settings: Settings,
    month: str,
    languages: Sequence[str],
    formats: Sequence[str],
    output: Path | None,
    now: datetime,
) -> list[Observation]:
    """Write a month's report and return the `report.issued` observations for the run's record."""
    done = issue_report(store, settings, month, languages, formats, output, now)
    return [one.observation for one in done]


def check_offered(languages: Sequence[str], formats: Sequence[str]) -> None:
    """Raise UsageError for a language or format that this version does not write."""
    for language in languages:
        if language not in LANGUAGES:
            values = {"language": language, "known": ", ".join(LANGUAGES)}
            raise UsageError("usage", Message(id="report.bad_language", values=values))
    for report_format in formats:
        if report_format not in FORMATS:
            name = "report.no_pdf" if report_format == "pdf" else "report.bad_format"
            values = {"format": report_format, "known": ", ".join(FORMATS)}
            raise UsageError("usage", Message(id=name, values=values))


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


def _observation(
    month: str, report_format: str, language: str, content: bytes, now: datetime
) -> Observation:
    digest = hashlib.sha256(content).hexdigest()
    return Observation(
        kind="report.issued",
        subject=SITE,
        observed_at=now,
        # The same bytes issued twice are one event; another issue of the month is another.
        key=f"report/{month}/{report_format}/{language}/{digest}",
        data={
            "month": month,
            "format": report_format,
            "language": language,
            "sha256": digest,
            "bytes": len(content),
        },
    )
