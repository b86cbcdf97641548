"""Paper read back with other programs than the one that made it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from backupguard.controls import load_catalogue
from backupguard.evidence.kinds import KINDS, check_payload
from backupguard.language import Words
from backupguard.model import REPLAYED, Fact
from backupguard.reports import Issued, issue_report, monthly
from backupguard.reports.paper.annexes import Paper, issued_minutes
from backupguard.reports.paper.sheets import of_test
from backupguard.reports.rows import test_row as row_of_test
from backupguard.typesetting.sheet import SIGNATURE_FIELD

from .papers import Chained, digest, month_of_records, text_of, tool
from .records import at, settings

CATALOGUE = load_catalogue()
SITE = "CH de Belle-Rive"
NAMES = [
    "backupguard-2026-11-applications-fr.pdf",
    "backupguard-2026-11-controls-fr.pdf",
    "backupguard-2026-11-fr.html",
    "backupguard-2026-11-fr.json",
    "backupguard-2026-11-fr.pdf",
    "backupguard-pv-000060-dpi-fr.pdf",
    "backupguard-pv-000061-dpi-fr.pdf",
    "backupguard-pv-000062-labo-fr.pdf",
]


def issued_into(
    directory: Path, records: Chained, when: float = 31.2, **options: Any
) -> tuple[Issued, ...]:
    return issue_report(
        records,  # type: ignore[arg-type]
        settings(dpi="C1", labo="C1", pharma="C1", paie="C2"),
        "2026-11",
        ("fr",),
        ("html", "pdf", "json"),
        directory,
        at(when),
        **options,
    )


@pytest.fixture(scope="module")
def records() -> Chained:
    return month_of_records()


@pytest.fixture(scope="module")
def issued(records: Chained, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Issued]:
    directory = tmp_path_factory.mktemp("reports")
    done = issued_into(directory, records)
    assert sorted(path.name for path in directory.iterdir()) == NAMES, "nothing else is left there"
    return {one.path.name: one for one in done}


@pytest.fixture(scope="module")
def report(issued: dict[str, Issued]) -> Path:
    return issued["backupguard-2026-11-fr.pdf"].path


def test_every_file_is_a_fact_that_says_what_it_is(issued: dict[str, Issued]) -> None:
    for name, one in issued.items():
        data = one.observation.data
        check_payload("report.issued", KINDS["report.issued"].version, data)
        assert (data["file"], data["sha256"]) == (name, digest(one.path))
        assert one.path.stat().st_mode & 0o777 == 0o640
    annexes = {
        name: (one.observation.data.get("annex"), one.observation.data.get("test"))
        for name, one in issued.items()
    }
    assert annexes["backupguard-2026-11-fr.pdf"] == (None, None)
    assert annexes["backupguard-2026-11-controls-fr.pdf"] == ("controls", None)
    assert annexes["backupguard-pv-000062-labo-fr.pdf"] == ("minutes", 62)


def test_the_report_names_every_annex_by_its_hash(issued: dict[str, Issued]) -> None:
    told = json.loads(issued["backupguard-2026-11-fr.json"].path.read_bytes())["annexes"]
    assert sorted(row["file"] for row in told) == [n for n in NAMES if "-11-fr." not in n]
    for row in told:
        path = issued[row["file"]].path
        assert (row["sha256"], row["bytes"]) == (digest(path), path.stat().st_size)
    listed = text_of(issued["backupguard-2026-11-applications-fr.pdf"].path).replace(" ", "")
    for row in told:
        if row["file"].startswith("backupguard-pv-"):
            assert row["sha256"][:20] in listed


def test_it_is_tagged_pdf_a_3_with_title_language_and_fonts_inside(
    issued: dict[str, Issued],
) -> None:
    for name, one in issued.items():
        if not name.endswith(".pdf"):
            continue
        reader = PdfReader(one.path)
        root: Any = reader.root_object
        metadata = root["/Metadata"].get_data().decode()
        assert re.search(r'pdfaid:part="3"', metadata)
        assert re.search(r'pdfaid:conformance="A"', metadata)
        assert root["/MarkInfo"]["/Marked"].value
        assert root["/Lang"] == "fr"
        assert root["/OutputIntents"][0]["/S"] == "/GTS_PDFA1"
        assert reader.metadata is not None
        assert reader.metadata.title
        assert reader.trailer["/ID"]
        assert len(reader.pages) <= 12
        fonts = tool("pdffonts", one.path).splitlines()[2:]
        assert fonts
        for font in fonts:
            assert "DejaVu" in font
            embedded, subset, unicode = font.split()[-5:-2]
            assert (embedded, subset, unicode) == ("yes", "yes", "yes"), font


def test_what_runs_along_every_page_says_whose_it_is_and_which_page(report: Path) -> None:
    pages = PdfReader(report).pages
    for number, page in enumerate(pages, 1):
        text = page.extract_text()
        assert SITE in text
        assert "novembre 2026" in text
        assert f"page {number}/{len(pages)}" in text


def test_the_data_and_the_records_it_names_are_inside(
    report: Path, issued: dict[str, Issued], records: Chained, tmp_path: Path
) -> None:
    tool("pdfdetach", "-saveall", "-o", tmp_path, report)
    inside = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(inside) == ["backupguard-2026-11-fr.json", "backupguard-records.json"]
    assert inside["backupguard-2026-11-fr.json"] == (
        issued["backupguard-2026-11-fr.json"].path.read_bytes()
    )
    extract = json.loads(inside["backupguard-records.json"])
    numbers = [one["seq"] for one in extract["records"]]
    assert numbers == sorted(set(numbers))
    assert {60, 61, 62, 64, records.head()[0]} <= set(numbers), "tests, judgements and the head"
    for one in extract["records"]:  # as anybody can, without this program
        body = hashlib.sha256(one["body"].encode()).digest()
        link = b"backupguard-record-1\0" + bytes.fromhex(one["previous"]) + body
        assert hashlib.sha256(link).hexdigest() == one["hash"]
        assert body.hex() == one["body_hash"]
    kept = records.record(str(numbers[-1]))
    assert kept is not None
    assert extract["records"][-1]["hash"] == kept.hash.hex() == extract["head"]["hash"]


def test_attachments_say_how_they_relate_once_each(report: Path) -> None:
    root: Any = PdfReader(report).root_object
    files = [one.get_object() for one in root["/AF"]]
    assert [one["/AFRelationship"] for one in files] == ["/Source", "/Data"]
    for one in files:
        assert one["/EF"]["/F"]["/Subtype"] == "/application/json"
        assert one["/EF"]["/F"]["/Params"]["/ModDate"].startswith("D:20261201")


def test_the_minutes_say_what_was_tried_and_what_came_of_it(issued: dict[str, Issued]) -> None:
    failed = text_of(issued["backupguard-pv-000062-labo-fr.pdf"].path)
    for words in (
        "Laboratoire (labo)",
        "échec",
        "3f9a1c22",
        "lignes perdues",
        "postgresql 15.14",
        "120 000",
        "Aucun contrôle métier n’est défini",
        "enregistrement n° 62",
        "Responsable de l’application",
    ):
        assert words in failed.replace("\u00a0", " ").replace("\u202f", " "), words
    assert "Aucun." in text_of(issued["backupguard-pv-000060-dpi-fr.pdf"].path), "no deviation"


@pytest.mark.parametrize(
    ("language", "told"),
    [("fr", "Rejoué pour la démonstration"), ("en", "Replayed for the demonstration")],
)
def test_the_minutes_of_a_test_that_was_told_again_say_so(
    records: Chained, language: str, told: str
) -> None:
    fact = records.fact(60)
    assert fact is not None

    def minutes(of: Fact) -> str:
        return of_test(SITE, "store", row_of_test(of, {}), of, Words(language)).html

    assert told in minutes(replace(fact, author=REPLAYED))
    assert told not in minutes(fact)


def test_the_annex_says_what_is_not_verified_and_what_judgements_rest_on(
    issued: dict[str, Issued],
) -> None:
    text = text_of(issued["backupguard-2026-11-controls-fr.pdf"].path)
    assert "CaRE D2" in text
    assert "Correspondances non vérifiées" in text
    assert "application/labo" in text
    assert "non vérifié" in text
    assert "enregistrement n° 64" in text.replace("\u00a0", " ")


def test_the_same_data_make_the_same_bytes_and_minutes_are_made_once(
    records: Chained, issued: dict[str, Issued], tmp_path: Path
) -> None:
    known = month_of_records()
    again = {one.path.name: one for one in issued_into(tmp_path, known)}
    assert {name: digest(one.path) for name, one in again.items()} == {
        name: digest(one.path) for name, one in issued.items()
    }
    known.issued(*(one.observation for one in again.values()))
    minutes = [tmp_path / name for name in NAMES if "-pv-" in name]
    minutes[1].write_bytes(b"%PDF-1.7 another\n")
    (tmp_path / "work").mkdir()
    paper = Paper(
        store=known,  # type: ignore[arg-type]
        directory=tmp_path,
        work=tmp_path / "work",
        known=issued_minutes(known),  # type: ignore[arg-type]
    )
    chosen, words = settings(dpi="C1", labo="C1"), Words("fr", "Europe/Paris")
    report = monthly(known, chosen, CATALOGUE, "2026-11", "fr", at(31.3))  # type: ignore[arg-type]
    rows, made = paper.minutes(report, words)
    assert [row.file for row in rows] == [path.name for path in minutes]
    assert [one.row.file for one in made] == [minutes[1].name], "only what was altered"
    assert digest(made[0].path) == digest(issued[minutes[1].name].path)


def certificate() -> tuple[Any, Any]:
    """Return a key and a certificate for it that nobody else vouches for."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "RSSI CH de Belle-Rive")])
    now = datetime.now(UTC)
    usage = {"content_commitment": True, "digital_signature": True, "key_encipherment": False}
    usage |= {"data_encipherment": False, "key_agreement": False, "key_cert_sign": False}
    usage |= {"crl_sign": False, "encipher_only": False, "decipher_only": False}
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, made


def signed_by_pyhanko(report: Path, directory: Path) -> tuple[Path, Any]:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        pkcs12,
    )
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
    from pyhanko.sign import signers
    from pyhanko.sign.fields import SigSeedSubFilter

    key, made = certificate()
    holder = directory / "rssi.p12"
    encryption = BestAvailableEncryption(b"essai")
    holder.write_bytes(pkcs12.serialize_key_and_certificates(b"r", key, made, None, encryption))
    signer = signers.SimpleSigner.load_pkcs12(str(holder), passphrase=b"essai")
    assert signer is not None
    wanted = signers.PdfSignatureMetadata(
        field_name=SIGNATURE_FIELD, subfilter=SigSeedSubFilter.PADES, md_algorithm="sha256"
    )
    signed = directory / "signed.pdf"
    with report.open("rb") as source, signed.open("wb") as target:
        writer = IncrementalPdfFileWriter(source)
        signers.sign_pdf(writer, wanted, signer=signer, existing_fields_only=True, output=target)
    return signed, signer.signing_cert


def test_a_signature_goes_into_the_field_and_leaves_the_attachments(
    report: Path, tmp_path: Path
) -> None:
    from pyhanko.pdf_utils.reader import PdfFileReader
    from pyhanko.sign.validation import validate_pdf_signature
    from pyhanko_certvalidator import ValidationContext

    fields = PdfReader(report).get_fields()
    assert fields is not None
    assert list(fields) == [SIGNATURE_FIELD]
    assert fields[SIGNATURE_FIELD].value is None
    signed, own = signed_by_pyhanko(report, tmp_path)
    with signed.open("rb") as file:
        (one,) = PdfFileReader(file).embedded_regular_signatures
        status = validate_pdf_signature(one, ValidationContext(trust_roots=[own]))
    assert status.intact
    assert status.valid
    assert status.bottom_line
    assert signed.read_bytes().startswith(report.read_bytes()), "signing only appends"
    assert {name: list(content) for name, content in PdfReader(signed).attachments.items()} == {
        name: list(content) for name, content in PdfReader(report).attachments.items()
    }


def test_the_field_lies_over_the_box_for_it(report: Path) -> None:
    reader = PdfReader(report)
    places = [
        (number, [float(side) for side in annotation.get_object()["/Rect"]])
        for number, page in enumerate(reader.pages)
        for annotation in page.get("/Annots", ())
        if annotation.get_object().get("/FT") == "/Sig"
    ]
    ((number, (left, bottom, right, top)),) = places
    assert "Signature" in reader.pages[number].extract_text()
    assert right - left > 100
    assert top - bottom > 40
    assert 30 < left < right < 566
    assert 30 < bottom < top < 812


def test_the_six_questions_of_the_guide_are_answered_on_the_first_three_pages(
    records: Chained, report: Path
) -> None:
    def plain(text: str) -> str:
        return "".join(text.replace("-", "").split())

    pages = plain(tool("pdftotext", "-f", "1", "-l", "3", report, "-"))
    guide = (Path(__file__).parents[3] / "docs/rssi/questions.md").read_text(encoding="utf-8")
    asked = [row.split("|")[2].strip() for row in guide.splitlines() if row.startswith("| W")]
    words = Words("fr", "Europe/Paris")
    made = monthly(
        records,  # type: ignore[arg-type]
        settings(dpi="C1", labo="C1", pharma="C1", paie="C2"),
        load_catalogue(),
        "2026-11",
        "fr",
        at(31.2),
    )
    assert len(asked) == len(made.answers) == 6
    for question, one in zip(asked, made.answers, strict=True):
        assert plain(question) == plain(words.text(f"report.question.{one.question}"))
        assert plain(question) in pages
        assert one.sentences
        for sentence in one.sentences:
            # what follows are counts and names, put into words as the page does it
            assert plain(words.say(sentence))[:20] in pages, sentence
