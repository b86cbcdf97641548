"""Reports that come back signed: which are taken, which are not and why, and what is recorded."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from backupguard.assess import Assessor
from backupguard.controls import load_catalogue
from backupguard.daemon import acknowledgements
from backupguard.daemon.acknowledgements import Scan, Taken
from backupguard.daemon.control import create_app
from backupguard.daemon.statements import Statements
from backupguard.errors import UsageError
from backupguard.model import SITE, Fact, Finding, Observation, Origin, Status, to_us
from backupguard.processes import Cancellation, Jail
from backupguard.settings import load
from backupguard.store import open_store
from tests.integration.reports.signing import Holder, holder, report, signed

ISSUED = datetime(2026, 11, 1, 6, 0, tzinfo=UTC)
CONFIGURATION = """
[site]
name = "CH de Belle-Rive"
timezone = "Europe/Paris"
[store]
directory = "state"
[repositories.nas]
type = "directory"
path = "HERE"
[applications.dpi]
name = "Dossier patient"
criticality = "C1"
[applications.dpi.backups.nightly]
repository = "nas"
every = "24h"
[people.claire]
name = "Claire Martin"
user = "daemon"
roles = ["rssi"]
"""
REPORT = report()


@pytest.fixture(scope="module")
def authority() -> Holder:
    return holder("Autorité interne")


@pytest.fixture(scope="module")
def claire(authority: Holder) -> Holder:
    return holder("Claire Martin", authority)


@pytest.fixture(scope="module")
def back(claire: Holder) -> bytes:
    return signed(REPORT, claire)


class Office:
    """A store in which reports were issued, and who takes what comes back."""

    def __init__(self, directory: Path) -> None:
        configuration = directory / "backupguard.toml"
        configuration.write_text(CONFIGURATION.replace("HERE", str(directory)), encoding="utf-8")
        self.chosen = load(configuration, environ={})
        self.now = ISSUED
        self.store = open_store(self.chosen.state_directory, now=lambda: self.now)
        self.jail = Jail(self.chosen.state_directory, Cancellation())
        self.directory = directory

    def issue(self, content: bytes, month: str = "2026-10", **more: Any) -> Fact:
        digest = hashlib.sha256(content).hexdigest()
        data = {"month": month, "format": "pdf", "language": "fr", "sha256": digest}
        return self.store.append(
            [
                Observation(
                    kind="report.issued",
                    subject=SITE,
                    observed_at=self.now,
                    key=f"report/{month}/{digest}",
                    data={**data, "bytes": len(content), **more},
                )
            ]
        )[0]

    def take(
        self, content: bytes, scan: Scan | None = None, *, ca: bytes | None = None, uid: int = 1
    ) -> Taken:
        with acknowledgements.received(self.chosen) as file:
            file.write_bytes(content)
            return acknowledgements.take(
                self.store,
                self.chosen,
                file,
                scan,
                ca=ca,
                uid=uid,
                now=self.now,
                tools=self.jail,
            )

    def refuses(self, content: bytes, scan: Scan | None = None, ca: bytes | None = None) -> str:
        head = self.store.head()
        with pytest.raises(UsageError) as caught:
            self.take(content, scan, ca=ca)
        assert self.store.head() == head, "nothing is recorded"
        assert not list(self.chosen.state_directory.glob("brought-*"))
        return caught.value.message.id if caught.value.message else ""

    def judged(self) -> Finding:
        assessment = Assessor(self.store, self.chosen, load_catalogue()).assess(self.now)
        return next(one for one in assessment.findings if one.control == "PRV-01")


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    made.issue(REPORT)
    yield made
    made.store.close()


def test_a_signed_report_is_kept_and_recorded(office: Office, back: bytes, claire: Holder) -> None:
    office.now += timedelta(days=2)
    taken = office.take(back)
    data = taken.fact.observation.data
    assert taken.new
    assert taken.path.read_bytes() == back
    assert taken.path.parent == office.chosen.state_directory / "reports"
    assert taken.path.stat().st_mode & 0o777 == 0o640
    assert taken.fact.author == "uid/1 (daemon)"
    assert taken.fact.observation.origin is Origin.ATTESTED
    assert (data["month"], data["language"], data["method"]) == ("2026-10", "fr", "signature")
    assert data["report_sha256"] == hashlib.sha256(REPORT).hexdigest()
    assert data["sha256"] == hashlib.sha256(back).hexdigest()
    assert data["certificate"] == claire.fingerprint
    assert "CN=Claire Martin" in data["signer"]
    assert abs(data["signed_at"] - to_us(datetime.now(UTC))) < 300 * 10**6
    assert (data["issuer_checked"], data["provisional"]) == (False, False)
    assert data["person"] == "claire"
    assert office.store.sealed() is not None
    again = office.take(back)
    assert (again.new, again.fact.seq) == (False, taken.fact.seq)


def test_the_issuer_is_judged_where_authorities_are_given(
    office: Office, back: bytes, authority: Holder
) -> None:
    assert office.refuses(back, ca=holder("Autre autorité").pem) == "signed.issuer"
    assert office.take(back, ca=authority.pem).fact.observation.data["issuer_checked"]


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_what_is_not_a_signature_of_all_of_an_issued_report_is_refused(
    office: Office, back: bytes, claire: Holder
) -> None:
    other = signed(report("une autre page"), claire)
    mark = back.rindex(b"/Contents <") + len(b"/Contents <")
    theirs = other.rindex(b"/Contents <") + len(b"/Contents <")
    size = min(back.index(b">", mark) - mark, other.index(b">", theirs) - theirs)
    wrong = {
        "the report was altered": (flipped(back, 200), "unknown"),
        "another report": (other, "unknown"),
        "a report that only looks alike": (report("novembre 2026"), "unknown"),
        "no signature": (REPORT, "none"),
        "something added, no signature": (REPORT + b"\n% ok\n", "none"),
        "what the signer added was altered": (
            flipped(back, back.rindex(b"startxref") + 1),
            "wrong",
        ),
        "something added after signing": (back + b"\n%%EOF\n", "not-all"),
        "cut": (back[:-1], "not-all"),
        "no person's": (back.replace(b"ETSI.CAdES.detached", b"ETSI.RFC31610000000"), "kind"),
        "another file's signature": (
            back[:mark] + other[theirs : theirs + size] + back[mark + size :],
            "wrong",
        ),
        "no signature in its place": (back[:mark] + b"00" * 500 + back[mark + 1000 :], "malformed"),
        "empty": (b"", "size"),
    }
    found = {name: office.refuses(content) for name, (content, _) in wrong.items()}
    assert found == {name: f"signed.{reason}" for name, (_, reason) in wrong.items()}
    assert office.take(back).new, "the clean twin"


def test_an_annex_is_no_report(office: Office, claire: Holder) -> None:
    annex = report("annexe")
    office.issue(annex, annex="controls", file="backupguard-2026-10-controls-fr.pdf")
    assert office.refuses(signed(annex, claire)) == "signed.unknown"


def test_a_scan_is_a_declaration_that_is_not_authenticated(office: Office) -> None:
    scan = Scan(month="2026-10", text="signé par Claire Martin le 3 novembre")
    image = b"\x89PNG\r\n\x1a\n" + b"\0" * 100
    assert office.refuses(b"MZ" + b"\0" * 100, scan) == "signed.scan-kind"
    assert office.refuses(image, Scan(month="2026-09", text="x")) == "signed.no-report"
    assert office.refuses(image, Scan(month="2026-10", text="a\nb")) == "statements.not-one-line"
    taken = office.take(image, scan)
    data = taken.fact.observation.data
    assert (data["method"], data["signer"], data["text"]) == ("scan", None, scan.text)
    assert taken.path.suffix == ".png"


def test_the_same_scan_is_not_filed_for_another_month(office: Office) -> None:
    office.issue(report("septembre 2026"), month="2026-09")
    image = b"\x89PNG\r\n\x1a\n" + b"\0" * 100
    first = office.take(image, Scan(month="2026-10", text="signé le 3"))
    kept = sorted(first.path.parent.iterdir())
    assert office.refuses(image, Scan(month="2026-09", text="x")) == "signed.other-month"
    office.issue(report("october 2026"), language="en")
    again = office.take(image, Scan(month="2026-10", text="signé le 3"))
    assert (again.new, again.fact.seq, again.path) == (False, first.fact.seq, first.path)
    assert sorted(first.path.parent.iterdir()) == kept


def test_prv_01_waits_for_the_report_to_come_back(office: Office, back: bytes) -> None:
    office.judged()  # seen for the first time
    office.now = ISSUED + timedelta(days=9)
    assert office.judged().reason.id != "reason.PRV-01.not_acknowledged"
    office.now = ISSUED + timedelta(days=11)
    finding = office.judged()
    assert (finding.status, finding.reason.id) == (
        Status.WARNING,
        "reason.PRV-01.not_acknowledged",
    )
    assert finding.reason.values["month"] == "2026-10"
    office.take(back)
    assert office.judged().reason.id != "reason.PRV-01.not_acknowledged"


def test_a_report_of_a_month_that_lasts_need_not_be_signed_and_does_not_count(
    tmp_path: Path, claire: Holder
) -> None:
    office = Office(tmp_path)
    office.now = datetime(2026, 10, 20, 8, 0, tzinfo=UTC)
    office.issue(REPORT)
    office.judged()
    office.now += timedelta(days=11)
    assert office.judged().reason.id != "reason.PRV-01.not_acknowledged", "it is provisional"
    assert office.take(signed(REPORT, claire)).fact.observation.data["provisional"]
    office.now = ISSUED
    final = report("octobre 2026, entier")
    office.issue(final)
    office.now += timedelta(days=11)
    assert office.judged().reason.id == "reason.PRV-01.not_acknowledged"
    office.take(signed(final, claire))
    assert office.judged().reason.id != "reason.PRV-01.not_acknowledged"
    office.store.close()


class Socket:
    """The control socket's operations over an office; the caller's account is the kernel's word."""

    def __init__(self, office: Office) -> None:
        self.office = office

    async def state(self, work: Any) -> Any:
        office = self.office
        return work(Statements(office.store, office.chosen, load_catalogue()))

    def tools(self) -> Jail:
        return self.office.jail

    def settings(self) -> Any:
        return self.office.chosen

    def ask(self, uid: int, content: bytes) -> httpx.Response:
        transport = httpx.ASGITransport(app=create_app(self), client=("1", uid))  # type: ignore[arg-type]

        async def asked() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="http://socket") as client:
                return await client.post("/reports/signed", content=content)

        return asyncio.run(asked())


def test_the_daemon_takes_it_over_its_socket(
    office: Office, back: bytes, authority: Holder
) -> None:
    socket = Socket(office)
    refused = socket.ask(1, b"{}\n" + REPORT)
    assert (refused.status_code, refused.json()["message"]) == (422, "signed.none")
    about = {"month": None, "text": None, "ca": authority.pem.decode(), "author": "uid/0 (root)"}
    made = socket.ask(1, json.dumps(about).encode() + b"\n" + back)
    assert made.status_code == 201
    row = made.json()
    assert (row["month"], row["issuer_checked"], row["new"]) == ("2026-10", True, True)
    assert Path(row["path"]).read_bytes() == back
    fact = office.store.fact(row["seq"])
    assert fact is not None
    assert fact.author == "uid/1 (daemon)"
    assert socket.ask(1, json.dumps(about).encode() + b"\n" + back).status_code == 200
    scan = {"month": "2026-10", "text": "signé à la main"}
    declared = socket.ask(2, json.dumps(scan).encode() + b"\n" + b"\xff\xd8\xff" + b"\0" * 50)
    assert (declared.status_code, declared.json()["method"]) == (201, "scan")
    assert not list(office.chosen.state_directory.glob("brought-*"))


def test_a_full_disk_is_told_as_such(office: Office) -> None:
    image = b"\x89PNG\r\n\x1a\n" + b"\0" * 100
    name = f"backupguard-2026-10-fr.scan-{hashlib.sha256(image).hexdigest()[:12]}.png"
    directory = office.chosen.state_directory / "reports"
    directory.mkdir()
    (directory / f".{name}.{os.getpid()}").symlink_to("/dev/full")
    content = json.dumps({"month": "2026-10", "text": "signé"}).encode() + b"\n" + image
    told = Socket(office).ask(1, content)
    assert (told.status_code, told.json()["code"]) == (503, "full")
    assert list(directory.iterdir()) == []
    assert Socket(office).ask(1, content).status_code == 201


@pytest.mark.parametrize("scanned", [False, True], ids=["signed", "scanned"])
def test_the_command_files_it_and_says_what_it_is_worth(
    office: Office, back: bytes, capsys: pytest.CaptureFixture[str], scanned: bool
) -> None:
    from backupguard.cli.main import main

    office.store.close()
    file = office.directory / "retour.pdf"
    file.write_bytes(back)
    call = ["--config", str(office.directory / "backupguard.toml"), "--language", "fr", "report"]
    call += ["file-signed", str(file)]
    assert main([*call, "--month", "2026-10"]) == 64
    assert main([*call[:-1], "/nowhere/retour.pdf"]) == 64
    assert "/nowhere/retour.pdf ne peut être lu." in capsys.readouterr().err
    call += ["--scanned", "--month", "2026-10", "--text", "signé le 3"] if scanned else []
    assert main(call) == 0
    said = capsys.readouterr().out
    kept = next(Path(line) for line in said.splitlines() if line.startswith(os.sep))
    assert kept.read_bytes() == back
    expected = ["Non authentifié"] if scanned else ["CN=Claire Martin", "n’est pas jugée"]
    assert all(one in said for one in expected)
