"""The pages in a real browser, without JavaScript: what is wrong, how bad, since when, what to do."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupguard.model import Finding, Message, Severity, Status
from backupguard.resources import shipped
from backupguard.web.app import create_app
from backupguard.web.published import Outputs, Published, compress
from tests.unit.web.serving import serving

NOW = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)


def finding(
    control: str, subject: str, status: Status, severity: Severity = Severity.HIGH, days: int = 1
) -> Finding:
    return Finding(
        control=control,
        subject=subject,
        status=status,
        severity=severity,
        reason=Message(id="reason.bug"),
        since=NOW - timedelta(days=days),
        last_non_compliant=NOW if status is Status.NON_COMPLIANT else None,
    )


def published(language: str) -> Published:
    return Published(
        site="CH de Belle-Rive",
        language=language,
        timezone="Europe/Paris",
        judged_at=NOW,
        findings=(
            finding("JOB-01", "job/labo.nuit", Status.COMPLIANT),
            finding("CHF-01", "repository/nas", Status.NOT_MEASURABLE, Severity.INFO),
            finding("RST-01", "application/dpi", Status.NON_COMPLIANT, Severity.HIGH, 3),
            finding("INT-01", "repository/nas", Status.NON_COMPLIANT, Severity.CRITICAL),
        ),
        names={
            "application/dpi": "Dossier patient <script>",
            "application/labo": "Laboratoire",
            "repository/nas": "NAS",
        },
        text=b"",
        compressed=compress(b""),
        titles={"INT-01": "Contrôle d’intégrité"},
        alerts={
            ("INT-01", "repository/nas"): "BackupGuardIntegrityNotProven",
            ("RST-01", "application/dpi"): "BackupGuardRestoreTestFailed",
        },
        applications={"labo": (), "dpi": ("nas",)},
    )


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Outputs:
    return Outputs(reports=tmp_path_factory.mktemp("reports"), runbooks=shipped("runbooks"))


@pytest.fixture(scope="module")
def url(outputs: Outputs) -> Iterator[str]:
    with serving(create_app(outputs)) as port:
        yield f"http://127.0.0.1:{port}"


def chromium(directory: Path, *arguments: str) -> str:
    """Run the browser; it must have found nothing to complain of. Returns what it printed."""
    seen = subprocess.run(
        [
            *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu"),
            *("--disable-dev-shm-usage", "--disable-crash-reporter", "--no-proxy-server"),
            *("--enable-logging=stderr", "--log-level=1", "--window-size=1280,1600"),
            *(f"--user-data-dir={directory / 'profile'}", *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env={"HOME": str(directory), "PATH": "/usr/bin:/bin"},
    )
    assert seen.returncode == 0, seen.stderr
    assert "CONSOLE" not in seen.stderr, seen.stderr
    return seen.stdout


def opened(url: str, directory: Path) -> str:
    """Return the document as the browser holds it."""
    return chromium(directory, "--dump-dom", url)


def test_the_page_is_drawn_without_javascript(outputs: Outputs, url: str, tmp_path: Path) -> None:
    outputs.published = published("fr")
    picture = tmp_path / "page.png"
    preferences = tmp_path / "profile" / "Default" / "Preferences"
    preferences.parent.mkdir(parents=True)
    preferences.write_text('{"profile": {"default_content_setting_values": {"javascript": 2}}}')
    chromium(tmp_path, f"--screenshot={picture}", f"{url}/")
    assert picture.stat().st_size > 20_000  # words and colours, not a blank


@pytest.mark.parametrize("language", ["fr", "en"])
def test_the_status_page_says_what_how_bad_since_when_and_what_to_do(
    outputs: Outputs, url: str, language: str, tmp_path: Path
) -> None:
    outputs.published = published(language)
    page = opened(f"{url}/", tmp_path)
    worst = page.index("INT-01")
    assert worst < page.index("RST-01") < page.index("CHF-01") < page.index("JOB-01")
    said = {
        "fr": ("à traiter immédiatement", "3 j", "4 mars 2026, 10:00", "Que faire"),
        "en": ("at once", "3 d", "4 Mar 2026 10:00", "What to do"),
    }[language]
    for part in (
        *said,
        "Contrôle d’intégrité",
        '<a href="/runbooks/BackupGuardIntegrityNotProven">',
        "backupguard why INT-01 repository/nas",
        "Dossier patient &lt;script&gt;",
        '<a href="/applications/dpi">',
    ):
        assert part in page, page
    assert page.index("/applications/dpi") < page.index("/applications/labo")


def test_an_application_has_its_own_page(outputs: Outputs, url: str, tmp_path: Path) -> None:
    outputs.published = published("fr")
    page = opened(f"{url}/applications/dpi", tmp_path)
    assert "Dossier patient &lt;script&gt;" in page
    assert page.index("INT-01") < page.index("RST-01")  # the repository that keeps it
    assert "JOB-01" not in page
    assert opened(f"{url}/applications/nobody", tmp_path).count("INT-01") == 0
