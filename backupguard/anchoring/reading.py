"""Reads anchors back from what was kept elsewhere: a syslog file, a mail, an object, time stamps."""

from __future__ import annotations

import email
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.message import Message as Mail
from pathlib import Path

from backupguard.anchoring import timestamps
from backupguard.contracts import Tools
from backupguard.evidence.seals import Anchor, read_anchors

#: A part of a mail whose text a relay has written otherwise.
_ENCODED = re.compile(
    rb"^content-transfer-encoding:\s*(quoted-printable|base64)", re.IGNORECASE | re.MULTILINE
)
_FROM = re.compile(rb"^From [^\r\n]*\r?\n", re.MULTILINE)  # between the mails of an mbox file


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What was found: anchors, time stamps that wait for certificates, and those proved wrong."""

    anchors: tuple[Anchor, ...]
    unchecked: int = 0
    wrong: int = 0


def anchors_in(
    files: Sequence[Path],
    *,
    certificates: Path | None = None,
    chain: Path | None = None,
    tools: Tools | None = None,
) -> Kept:
    """Return the anchors in files, whatever stands around them.

    A time stamp counts when it is signed under `certificates` (with `chain` between), which `tools`
    check; without them it is only counted as unchecked, and one that is damaged as wrong.
    Raises OSError for a file that cannot be read.
    """
    found: list[Anchor] = []
    stamped: list[timestamps.Stamped] = []
    for file in files:
        for text in _texts(file.read_bytes()):
            stamped += timestamps.found_in(text)
            found += read_anchors(timestamps.without(text).splitlines())
    whole = [one for one in stamped if one.response]
    wrong = len(stamped) - len(whole)  # damaged, whoever signed them
    if certificates is None or tools is None:
        return Kept(anchors=tuple(found), unchecked=len(whole), wrong=wrong)
    with tempfile.TemporaryDirectory(prefix="backupguard-anchors-") as name:
        for one in whole:
            if timestamps.is_right(one, certificates, chain, tools, Path(name)):
                found.append(one.anchor)
            else:
                wrong += 1
    return Kept(anchors=tuple(found), wrong=wrong)


def _texts(content: bytes) -> Iterator[str]:
    """Yield a file as text, and the parts of the mails in it that are not written in clear."""
    yield content.decode("utf-8", "replace")
    if _ENCODED.search(content) is None:
        return
    for one in _FROM.split(content):
        for part in email.message_from_bytes(one).walk():
            payload = _decoded(part)
            if payload is not None:
                yield payload.decode("utf-8", "replace")


def _decoded(part: Mail) -> bytes | None:
    if part.get_content_maintype() != "text":
        return None
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else None
