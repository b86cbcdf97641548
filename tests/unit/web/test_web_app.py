"""The pages: what they show, what they refuse, and that they only read."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from backupguard.evidence.statements import attestation_told
from backupguard.model import Finding, Message, Severity, Status, to_us
from backupguard.web.app import create_app
from backupguard.web.middleware import Bounded
from backupguard.web.published import Outputs, Published, compress

NOW = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)
TEXT = b"# HELP backupguard_x X.\n# TYPE backupguard_x gauge\nbackupguard_x 1\n"


def finding(control: str, status: Status, **changes: object) -> Finding:
    values = {
        "control": control,
        "subject": "application/dpi",
        "status": status,
        "severity": Severity.HIGH,
        "reason": Message(id="web.status", values={}),
        "since": NOW,
    }
    return Finding(**(values | changes))  # type: ignore[arg-type]


def published(language: str = "fr", **changes: object) -> Published:
    values = {
        "site": "CH <de> Belle-Rive",
        "language": language,
        "timezone": "Europe/Paris",
        "judged_at": NOW,
        "findings": (
            finding("JOB-01", Status.COMPLIANT),
            finding("RST-01", Status.NON_COMPLIANT),
            finding("IMM-01", Status.NOT_APPLICABLE),
        ),
        "names": {"application/dpi": "Dossier patient & soins"},
        "text": TEXT,
        "compressed": compress(TEXT),
    }
    return Published(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    (tmp_path / "reports").mkdir()
    (tmp_path / "runbooks").mkdir()
    return Outputs(
        reports=tmp_path / "reports", runbooks=tmp_path / "runbooks", published=published()
    )


def get(outputs: Outputs, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=create_app(outputs))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(ask())


def test_metrics_are_the_published_text_and_the_process_own(outputs: Outputs) -> None:
    answer = get(outputs, "/metrics", **{"accept-encoding": "identity"})
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.content.startswith(TEXT)
    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert {"backupguard_x", "process_resident_memory_bytes"} <= names


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [("gzip", "gzip"), ("br, gzip;q=0.5", "gzip"), ("gzip;q=0", None), ("identity", None)],
)
def test_metrics_are_compressed_only_where_that_is_understood(
    outputs: Outputs, accepted: str, coding: str | None
) -> None:
    answer = get(outputs, "/metrics", **{"accept-encoding": accepted})
    assert answer.headers.get("content-encoding") == coding
    assert answer.content.startswith(TEXT)


def test_both_parts_are_one_gzip_member() -> None:
    """A client that stops after a member's end must not lose the process' own figures."""
    for text, more in ((b"a\n" * 100_000, b"b\n"), (b"", b"b\n"), (b"a\n", b"")):
        whole = compress(text).ended(more)
        reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
        assert reader.decompress(whole) == text + more
        assert reader.eof
        assert reader.unused_data == b""
        assert gzip.decompress(whole) == text + more


def test_nothing_is_served_as_metrics_before_the_first_judgement(outputs: Outputs) -> None:
    outputs.published = None
    assert get(outputs, "/metrics").status_code == 503
    assert get(outputs, "/").status_code == 503


def test_status_page_lists_worst_first_and_escapes(outputs: Outputs) -> None:
    answer = get(outputs, "/")
    page = answer.text
    assert '<html lang="fr">' in page
    assert "CH &lt;de&gt; Belle-Rive" in page
    assert "Dossier patient &amp; soins" in page
    assert "RST-01" in page
    assert "JOB-01" not in page  # nothing to do: a link away
    assert "IMM-01" not in page
    every = get(outputs, "/findings/").text.partition("<table>")[2]
    assert every.index("RST-01") < every.index("JOB-01")
    assert "IMM-01" not in every
    quiet = get(outputs, "/findings/?status=not_applicable").text
    assert "IMM-01" in quiet.partition("<table>")[2]
    assert "non conforme" in page
    assert "unsafe-inline" not in answer.headers["content-security-policy"]
    assert "<script" not in page
    assert "style=" not in page


def test_status_page_speaks_english_too(outputs: Outputs) -> None:
    outputs.published = published("en", paused=True)
    page = get(outputs, "/").text
    assert '<html lang="en">' in page
    assert "non-compliant" in page
    assert "paused until somebody ends" in page


def test_style_sheet_is_shipped(outputs: Outputs) -> None:
    assert get(outputs, "/static/style.css").status_code == 200


def test_health_says_why_not(outputs: Outputs) -> None:
    assert get(outputs, "/-/healthy").text == "healthy\n"
    assert get(outputs, "/-/ready").text == "ready\n"
    outputs.unready = lambda: (Message(id="web.no-findings"),)
    answer = get(outputs, "/-/ready")
    assert (answer.status_code, answer.text) == (503, "Rien n’a encore été évalué.\n")


def test_only_reading_is_allowed(outputs: Outputs) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert get(outputs, "/metrics", method).status_code == 405


def test_reports_are_listed_and_served_sandboxed(outputs: Outputs, tmp_path: Path) -> None:
    (outputs.reports / "2026-02.fr.html").write_text("<p>bon</p>")
    (outputs.reports / ".hidden.html").write_text("no")
    (outputs.reports / "key.pem").write_text("no")
    (tmp_path / "secret.html").write_text("no")
    (outputs.reports / "link.html").symlink_to(tmp_path / "secret.html")
    page = get(outputs, "/reports/").text
    assert "2026-02.fr.html" in page
    assert "hidden" not in page
    assert "key.pem" not in page
    assert "link.html" not in page
    answer = get(outputs, "/reports/2026-02.fr.html")
    assert answer.text == "<p>bon</p>"
    assert answer.headers["content-security-policy"].startswith("sandbox;")
    for name in ("link.html", ".hidden.html", "key.pem", "..%2fsecret.html", "absent.html"):
        assert get(outputs, f"/reports/{name}").status_code == 404


def test_runbooks_come_in_the_site_language_when_there_is_one(outputs: Outputs) -> None:
    assert outputs.runbooks is not None
    (outputs.runbooks / "BackupTooOld.en.md").write_text("english")
    assert get(outputs, "/runbooks/BackupTooOld").text == "english"
    (outputs.runbooks / "BackupTooOld.fr.md").write_text("français")
    assert get(outputs, "/runbooks/BackupTooOld").text == "français"
    assert get(outputs, "/runbooks/Absent").status_code == 404
    assert get(outputs, "/runbooks/..%2fx").status_code == 404
    shown = get(outputs, "/runbooks/BackupTooOld", accept="text/html,*/*;q=0.8")
    assert shown.headers["content-type"].startswith("text/html")
    assert "<p>français</p>" in shown.text


def test_a_flood_is_refused_and_health_is_not() -> None:
    async def scenario() -> tuple[int, int, int]:
        gate = asyncio.Event()

        async def slow(scope, receive, send) -> None:
            if not scope["path"].startswith("/-/"):
                await gate.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        transport = httpx.ASGITransport(app=Bounded(slow, at_once=2))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            held = [asyncio.create_task(client.get("/")) for _ in range(2)]
            await asyncio.sleep(0.05)
            refused = await client.get("/")
            health = await client.get("/-/healthy")
            gate.set()
            served = await asyncio.gather(*held)
        return refused.status_code, health.status_code, served[0].status_code

    assert asyncio.run(scenario()) == (503, 200, 200)


def test_slow_downloads_hold_up_neither_pages_nor_metrics() -> None:
    async def scenario() -> tuple[list[int], list[str], list[int], list[int]]:
        gate = asyncio.Event()
        held_places = ("/evidence/bundle.tar.gz", "/reports/2026-02.fr.pdf")

        async def slow(scope, receive, send) -> None:
            if scope["path"] in held_places:
                await gate.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        app = Bounded(slow, at_once=1, downloads_at_once=2)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            held = [asyncio.create_task(client.get(path)) for path in held_places]
            await asyncio.sleep(0.05)
            refused = [await client.get(path) for path in held_places]
            others = ("/metrics", "/api/v1/status", "/reports/", "/evidence/")
            rest = [(await client.get(path)).status_code for path in others]
            gate.set()
            served = [one.status_code for one in await asyncio.gather(*held)]
            served.append((await client.get(held_places[0])).status_code)
        codes = [one.status_code for one in refused]
        return codes, [one.headers["retry-after"] for one in refused], rest, served

    assert asyncio.run(scenario()) == ([503, 503], ["60", "60"], [200] * 4, [200] * 3)


def test_exceptions_and_statements_are_listed_as_text(outputs: Outputs) -> None:
    row = {
        "seq": 41, "subject": "repository/nas", "topic": "escrow", "text": "<b>au coffre</b>",
        "values": {}, "person": "claire", "author": "uid/1001 (claire)",
        "expires_at": to_us(NOW), "key": None, "state": "in_force",
    }  # fmt: skip
    outputs.published = published(
        statements={"waivers": (), "attestations": (attestation_told(row),)}
    )
    page = get(outputs, "/findings/").text
    assert "déclaration non authentifiée" in page
    assert "claire — uid/1001 (claire)" in page
    assert "&lt;b&gt;au coffre" in page
    assert "Aucune dérogation." in page
