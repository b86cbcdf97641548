"""What a signed report that comes back must be: an issued one, and a signature over all of it.

Signing a PDF appends to it (ISO 32000-1, 7.5.6): the bytes that were issued stay as they were, so
their hash says which report it is, and what a signer's program adds cannot change what was issued.
The signature covers the whole file but itself (12.8.1: `ByteRange`, `Contents`); that it is right is
for `openssl cms -verify` to say (openssl-cms(1)), in the jail. Whose key it is stands in the
certificate, and that nobody else could have that certificate is the issuer's word: without the
issuer's own certificate it is not judged.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from backupguard.contracts import Command, Tools
from backupguard.errors import UsageError
from backupguard.model import Message

#: A report with its attachments is a few megabytes.
LARGEST = 64 << 20
LARGEST_CA = 256 << 10
_TIMEOUT_S = 60
_CHUNK = 1 << 20
_LONGEST_NAME = 300

_RANGE = re.compile(rb"/ByteRange\s*\[\s*(\d{1,12})\s+(\d{1,12})\s+(\d{1,12})\s+(\d{1,12})\s*\]")
_CONTENTS = re.compile(rb"<([0-9A-Fa-f\s]*)>")
_SUBFILTER = re.compile(rb"/SubFilter\s*/([A-Za-z0-9.#]+)")
_TIME = re.compile(rb"/M\s*\(([^)]{1,100})\)")
_DATE = re.compile(rb"D:(\d{14})(?:Z|([+-])(\d\d)'(\d\d))?")
_OCTAL = re.compile(rb"\\([0-7]{3})")  # of a character in a string: ISO 32000-1, 7.3.4.2
#: A signature of all of a document by a person; a time stamp (ETSI.RFC3161) is none.
_OF_PEOPLE = (b"adbe.pkcs7.detached", b"ETSI.CAdES.detached")
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Whose signature it is, as its certificate says. `signed_at` is the signer's own word.

    `issuer_checked`: the certificate was followed to an authority that was handed in.
    """

    subject: str
    certificate: str  # SHA-256 of it, in hexadecimal
    signed_at: datetime | None
    issuer_checked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A signature's place in a file: it covers everything before `start` and from `end` on."""

    start: int
    end: int
    cms: bytes
    signed_at: datetime | None


def refused(sentence: str, **values: int | str) -> UsageError:
    """Return what is raised for a file that is not taken, in words."""
    return UsageError("usage", Message(id=f"signed.{sentence}", values=values))


def issued_in(path: Path, sizes: Mapping[int, frozenset[str]]) -> tuple[str, int] | None:
    """Return hash and size of the report that a file begins with; None where it begins with none.

    `sizes` are the hashes of issued reports by their size in bytes. The file is read once.
    """
    digest, at, best = hashlib.sha256(), 0, None
    total = path.stat().st_size
    with path.open("rb") as file:
        for size in sorted(sizes):
            if size > total:
                break
            while at < size:
                part = file.read(min(_CHUNK, size - at))
                if not part:
                    return best
                digest.update(part)
                at += len(part)
            if digest.hexdigest() in sizes[size]:
                best = (digest.hexdigest(), size)
    return best


def signature_of(
    path: Path, prefix: int, tools: Tools, work: Path, ca: bytes | None = None
) -> Signature:
    """Return the signature over all of a PDF whose first `prefix` bytes are an issued report.

    `work` is a directory in which this may write. `ca` are certificates (PEM) of authorities that
    are believed. Raises UsageError for a file without such a signature, for one that is wrong, and
    for a certificate that leads to none of `ca`; MissingMeans without openssl or a jail.
    """
    content = path.read_bytes()
    found = _found(content, prefix)
    with tempfile.TemporaryDirectory(prefix="signature-", dir=work) as made:
        place = Path(made)
        with (place / "content").open("wb") as covered, memoryview(content) as whole:
            covered.write(whole[: found.start])
            covered.write(whole[found.end :])
        (place / "signature").write_bytes(found.cms)
        del content
        _verify(tools, place, "-noverify")
        certificate = _certificate(place)
        if ca is not None:
            (place / "ca").write_bytes(ca)
            _verify(tools, place, *_believed(place), sentence="issuer")
    subject, fingerprint = certificate
    return Signature(
        subject=subject,
        certificate=fingerprint,
        signed_at=found.signed_at,
        issuer_checked=ca is not None,
    )


def _found(content: bytes, prefix: int) -> _Found:
    """Return the signature that covers all of a file; what was issued holds none itself."""
    ranges = list(_RANGE.finditer(content, prefix))
    if not ranges:
        raise refused("none")
    for match in reversed(ranges):
        first, start, end, rest = (int(number) for number in match.groups())
        if first == 0 and prefix <= start < end and end + rest == len(content):
            break
    else:
        raise refused("not-all")
    hexadecimal = _CONTENTS.fullmatch(content, start, end)
    begin = content.rfind(b" obj", prefix, min(match.start(), start))
    close = content.find(b"endobj", max(match.end(), end))
    if hexadecimal is None or begin < 0 or close < 0:
        raise refused("malformed")
    dictionary = content[begin:start] + content[end:close]
    kind = _SUBFILTER.search(dictionary)
    if kind is None or kind.group(1) not in _OF_PEOPLE:
        raise refused("kind", kind=kind.group(1).decode("ascii")[:40] if kind else "—")
    try:
        cms = bytes.fromhex(hexadecimal.group(1).decode("ascii"))
    except ValueError as error:
        raise refused("malformed") from error
    return _Found(start=start, end=end, cms=_trimmed(cms), signed_at=_declared(dictionary))


def _trimmed(padded: bytes) -> bytes:
    """Return a DER value without the zeros that fill its place up."""
    if len(padded) < 4 or padded[0] != 0x30 or padded[1] == 0x80:
        raise refused("malformed")
    size, header = padded[1], 2
    if size & 0x80:
        header += size & 0x7F
        size = int.from_bytes(padded[2:header], "big")
    end = header + size
    if end > len(padded) or padded[end:].strip(b"\0"):
        raise refused("malformed")
    return padded[:end]


def _declared(dictionary: bytes) -> datetime | None:
    """Return when the signer says that he signed (`M`, a PDF date of ISO 32000-1, 7.9.4)."""
    written = _TIME.search(dictionary)
    text = _OCTAL.sub(
        lambda code: bytes([int(code.group(1), 8) & 255]), written.group(1) if written else b""
    )
    match = _DATE.match(text)
    if match is None:
        return None
    digits, sign, hours, minutes = match.groups()
    ahead = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    try:
        zone = timezone(-ahead if sign == b"-" else ahead)
        moment = datetime.strptime(digits.decode(), "%Y%m%d%H%M%S").replace(tzinfo=zone)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _believed(place: Path) -> tuple[str, ...]:
    return ("-CAfile", str(place / "ca"), "-no-CApath", "-no-CAstore", "-purpose", "any")


def _verify(tools: Tools, place: Path, *trust: str, sentence: str = "wrong") -> None:
    """Have openssl compare the signature with the content, and judge the issuer as `trust` says."""
    done = tools.run(
        Command(
            argv=(
                *("openssl", "cms", "-verify", "-binary", "-inform", "DER"),
                *("-in", str(place / "signature"), "-content", str(place / "content")),
                *("-signer", str(place / "signers"), "-out", "/dev/null", *trust),
            ),
            write=(place,),
            timeout_s=_TIMEOUT_S,
        )
    )
    if done.returncode != 0:
        raise refused(sentence)


def _certificate(place: Path) -> tuple[str, str]:
    """Return subject and fingerprint of the one certificate whose key signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    pems = _CERTIFICATE.findall((place / "signers").read_bytes())
    if len(pems) != 1:
        raise refused("signers", count=len(pems))
    try:
        certificate = x509.load_pem_x509_certificate(pems[0])
        subject = certificate.subject.rfc4514_string()
    except ValueError as error:
        raise refused("malformed") from error
    readable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in subject)
    return readable[:_LONGEST_NAME] or "—", certificate.fingerprint(SHA256()).hex()
