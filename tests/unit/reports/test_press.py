"""The process that makes paper: it fetches nothing, ends in time, and takes its memory with it."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import psutil
import pytest
from pypdf import PdfReader

from backupguard.errors import BackupGuardError, MissingMeans, Misunderstood, TimedOut
from backupguard.processes.children import run_module
from backupguard.reports import issue_report
from backupguard.reports.paper import press as presses
from backupguard.reports.paper.press import press
from backupguard.typesetting.sheet import Sheet

from .papers import month_of_records, text_of
from .records import at, settings

STRANGE = 'A "quote" \\ }; @import url(http://x/); </style> \x01 漢字 é'


def sheet(directory: Path, html: str, **values: str) -> Sheet:
    (directory / "a.html").write_text(html, encoding="utf-8")
    given = {"left": "left", "right": "right", "page": "{page}/{pages}", "description": "d"}
    return Sheet(
        html=str(directory / "a.html"),
        pdf=str(directory / "a.pdf"),
        created="2026-11-30T10:00:00+00:00",
        **{**given, **values},  # type: ignore[arg-type]
    )


class Door:
    """A port of this host that counts who knocks."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.knocks = 0
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def _listen(self) -> None:
        while True:
            try:
                caller, _ = self.socket.accept()
            except OSError:
                return
            self.knocks += 1
            caller.close()


def test_nothing_is_fetched_whatever_a_document_asks_for(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("not for paper")
    door = Door()
    html = f"""<!doctype html><html lang="en"><head><title>T</title>
    <link rel="attachment" href="{secret.as_uri()}"><link rel="stylesheet" href="{door.url}/s.css">
    <style>@import url({door.url}/i.css); body {{ background: url({door.url}/b.png) }}
    @font-face {{ font-family: F; src: url({door.url}/f.ttf) }} p {{ font-family: F }}</style></head>
    <body><p>words<img src="{door.url}/x.png" alt=""><img src="{secret.as_uri()}" alt=""></p>
    <svg width="9" height="9"><image href="{door.url}/y.svg" width="9" height="9"/></svg>
    <a rel="attachment" href="{secret.as_uri()}">a</a></body></html>"""
    strange = sheet(tmp_path, html, left=STRANGE, right="r", description=STRANGE)
    press([strange], tmp_path)
    door.socket.close()
    assert door.knocks == 0
    reader = PdfReader(tmp_path / "a.pdf")
    assert list(reader.attachments) == []
    text = text_of(tmp_path / "a.pdf")
    assert "words" in text
    assert "not for paper" not in text
    assert "@import url(http://x/)" in text, "what runs along the page is text, whatever is in it"
    assert "漢" not in text
    assert "\N{REPLACEMENT CHARACTER}" in text, "a character without a glyph is shown as such"


def test_the_time_is_bounded_and_the_process_is_gone(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<p>x</p>")
    before = set(psutil.Process().children(recursive=True))  # servers that other tests share
    with pytest.raises(TimedOut) as raised:
        press([sheet(tmp_path, "<html></html>")], tmp_path, limit_s=0.05)
    assert raised.value.code == "phase_limit"
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_document_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    one = sheet(tmp_path, "<html></html>")
    Path(one.html).unlink()
    with pytest.raises(Misunderstood) as raised:
        press([one], tmp_path)
    assert "a.html" in str(raised.value.message.values["said"])


def test_without_fonts_the_package_is_named_and_the_page_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presses, "FONTS", tmp_path / "nowhere")
    told: list[BackupGuardError] = []
    done = issue_report(
        month_of_records(),  # type: ignore[arg-type]
        settings(dpi="C1"),
        "2026-11",
        ("fr",),
        ("html", "pdf", "json"),
        tmp_path / "reports",
        at(31.2),
        without_paper=told.append,
    )
    assert [one.path.suffix for one in done] == [".html", ".json"]
    assert b'"annexes": []' in done[1].path.read_bytes(), "no annex is named that is not there"
    assert isinstance(told[0], MissingMeans)
    assert told[0].remedy is not None
    assert told[0].remedy.values == {"package": "fonts-dejavu-core"}


def test_without_pango_its_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A WeasyPrint that cannot load its library says so as it starts: here one that never can."""
    broken = tmp_path / "site" / "weasyprint"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise OSError(\"cannot load library 'libpango-1.0-0'\")")

    def run(module: str, arguments: object, **options: object) -> object:
        environment = {**options["environment"], "PYTHONPATH": str(broken.parent)}  # type: ignore[dict-item]
        return run_module(module, arguments, **{**options, "environment": environment})  # type: ignore[arg-type]

    monkeypatch.setattr(presses, "run_module", run)
    with pytest.raises(MissingMeans) as raised:
        press([sheet(tmp_path, "<html></html>")], tmp_path)
    assert "libpango-1.0-0" in str(raised.value.message.values["missing"])
    assert raised.value.remedy is not None
    assert "libpangoft2-1.0-0" in str(raised.value.remedy.values["package"])


def test_the_memory_is_gone_with_the_process(tmp_path: Path) -> None:
    rows = "".join(f"<tr><td>{n}</td><td>application {n}</td></tr>" for n in range(400))
    html = f'<html lang="en"><head><title>T</title></head><body><table>{rows}</table></body></html>'
    process = psutil.Process()
    before = process.memory_info().rss
    press([sheet(tmp_path, html)], tmp_path)
    grown = process.memory_info().rss - before
    assert (tmp_path / "a.pdf").stat().st_size > 10_000
    assert grown < 8 << 20, f"{grown} bytes more"
    loaded = Path(f"/proc/{os.getpid()}/maps").read_text()
    assert "libpango" not in loaded
