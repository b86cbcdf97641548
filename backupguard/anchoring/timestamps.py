"""Time stamps of RFC 3161, asked for and checked with `openssl ts` (openssl-ts(1)).

What is stamped is the SHA-256 of an anchor's line, so that the authority learns nothing but a hash. A
token is written below its line, in one text that is kept anywhere:

    backupguard-anchor-1 STORE SEQ HASH
    -----BEGIN RFC3161 RESPONSE-----
    base64 of the DER answer of the authority
    -----END RFC3161 RESPONSE-----
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backupguard.contracts import Command, Context, Tools, Trust
from backupguard.errors import AccessRefused, MissingMeans, Misunderstood, Unreachable
from backupguard.evidence.seals import Anchor, anchor_line, read_anchors
from backupguard.model import Message
from backupguard.settings.anchors import TimestampAnchor

_BEGIN, _END = "-----BEGIN RFC3161 RESPONSE-----", "-----END RFC3161 RESPONSE-----"
# Whatever follows: the line above the beginning of a token is no anchor by itself.
_HEAD = re.compile(rf"^(?P<line>[^\n]*)\n[\s>]{{0,80}}{_BEGIN}[^\n]*(?:\n|\Z)", re.MULTILINE)
_TOKEN = re.compile(rf"(?P<token>[A-Za-z0-9+/=\s]+)\n{_END}")
#: Bytes of an answer: a token with a long chain of certificates has less than 20,000.
_LIMIT = 256 * 1024
_TIMEOUT_S = 30
#: A unit's ProtectSystem=strict makes everything read-only that its ReadWritePaths= do not name.
_NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamped:
    """An anchor with the answer of a time-stamp authority about its line."""

    anchor: Anchor
    response: bytes


def armoured(stamped: Stamped) -> str:
    """Return the text that is kept of a time stamp."""
    encoded = base64.encodebytes(stamped.response).decode("ascii")
    return f"{anchor_line(stamped.anchor)}\n{_BEGIN}\n{encoded}{_END}\n"


def found_in(text: str) -> Iterator[Stamped]:
    """Yield every time stamp in a text, with an empty answer where the token is damaged."""
    plain = text.replace("\r\n", "\n")
    for head in _HEAD.finditer(plain):
        token = _TOKEN.match(plain, head.end())
        response = _decoded(token["token"]) if token is not None else b""
        for anchor in read_anchors([head["line"]]):
            yield Stamped(anchor=anchor, response=response)


def _decoded(token: str) -> bytes:
    try:
        return base64.b64decode(token)
    except ValueError:  # binascii.Error is one
        return b""


def without(text: str) -> str:
    """Return a text without its time stamps: their lines count only where the token is right."""
    return _HEAD.sub("", text.replace("\r\n", "\n"))


def digest(anchor: Anchor) -> str:
    """Return what is stamped, in hexadecimal."""
    return hashlib.sha256(anchor_line(anchor).encode("ascii")).hexdigest()


def stamp(chosen: TimestampAnchor, anchor: Anchor, context: Context) -> str:
    """Have an anchor stamped, check the answer, keep it in the directory; return it as text.

    Raises Unreachable, AccessRefused (the authority refuses), Misunderstood (its answer is none, or is
    not signed under the certificates of the settings), MissingMeans.
    """
    query, answer = context.work / "anchor.tsq", context.work / "anchor.tsr"
    for file in (query, answer):
        file.unlink(missing_ok=True)
    ask = ("openssl", "ts", "-query", "-digest", digest(anchor), "-sha256", "-cert")
    made = context.tools.run(
        Command(argv=(*ask, "-out", str(query)), write=(context.work,), timeout_s=_TIMEOUT_S)
    )
    if made.returncode != 0:
        raise Misunderstood("unknown_exit", program="openssl", exit=made.returncode)
    status, body = context.http.post(
        chosen.url,
        headers={"content-type": "application/timestamp-query"},
        body=query.read_bytes(),
        timeout_s=int(chosen.timeout.total_seconds()),
        trust=Trust(ca=chosen.ca),
    )
    if status in (401, 403):
        raise AccessRefused("permission")
    if status >= 500:
        raise Unreachable("http_5xx")
    if status != 200 or len(body) > _LIMIT:
        raise Misunderstood("output_unparsable")
    answer.write_bytes(body)
    if not _is_right(context.tools, chosen, ("-queryfile", str(query)), answer):
        raise Misunderstood("output_unparsable")
    text = armoured(Stamped(anchor=anchor, response=body))
    if chosen.directory is not None:
        _keep(chosen.directory, anchor, text)
    return text


def _keep(directory: Path, anchor: Anchor, text: str) -> None:
    """Put a token into a directory, which is never made: a share that is not mounted is no place."""
    path = directory / f"{anchor.store}-{anchor.seq:012d}.txt"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if not directory.is_dir():
            raise Unreachable("not_found", path=str(directory))
        with temporary.open("w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno in _NOT_WRITABLE:
            words = Message(id="evidence.not-writable", values={"path": str(directory)})
            raise AccessRefused("permission", words) from error
        if error.errno in _FULL:
            raise MissingMeans("no_disk", path=str(path)) from error
        raise Unreachable("not_found", path=str(directory)) from error  # a share that went away
    finally:
        with suppress(OSError):  # what is read-only refuses this even where there is nothing
            temporary.unlink(missing_ok=True)


def is_right(
    stamped: Stamped, certificates: Path, chain: Path | None, tools: Tools, work: Path
) -> bool:
    """Tell whether a token stamps its anchor's line and is signed under these certificates."""
    answer = work / "answer.tsr"
    answer.write_bytes(stamped.response)
    chosen = TimestampAnchor(
        type="rfc3161", url="http://localhost", certificates=certificates, chain=chain
    )
    return _is_right(tools, chosen, ("-digest", digest(stamped.anchor)), answer)


def _is_right(tools: Tools, chosen: TimestampAnchor, about: tuple[str, str], answer: Path) -> bool:
    certificates = ["-CAfile", str(chosen.certificates)]
    read = [answer, chosen.certificates]
    if chosen.chain is not None:
        certificates += ["-untrusted", str(chosen.chain)]
        read.append(chosen.chain)
    done = tools.run(
        Command(
            argv=("openssl", "ts", "-verify", *about, "-in", str(answer), *certificates),
            read=(*read, answer.parent),
            timeout_s=_TIMEOUT_S,
        )
    )
    return done.returncode == 0
