"""A page of the versions of a bucket's objects, read without boto3: a thousand in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree as ET

from backupguard.errors import Misunderstood
from backupguard.repositories.s3_ledger import Entry

#: What a page may ask for as it names the next one.
_NEXT = {"NextKeyMarker": "key-marker", "NextVersionIdMarker": "version-id-marker"}


@dataclass(frozen=True, slots=True)
class Page:
    """What stands on a page, and the parameters that ask for the next one; None for the last."""

    entries: tuple[Entry, ...]
    after: dict[str, str] | None


def read_page(body: bytes, bucket: str, identifier: str) -> Page:
    """Return a page of `ListObjectVersions`.

    Raises Misunderstood (output_unparsable): what any web page would be, a listing with nothing in
    it, must not make every object vanish.
    """
    wrong = Misunderstood("output_unparsable", repository=identifier)
    try:
        root = ET.fromstring(body)  # noqa: S314 - at most 16 MiB; expat bounds entities
        space = root.tag.rpartition("}")[0] + ("}" if "}" in root.tag else "")
        told = {child.tag.removeprefix(space): child.text or "" for child in root if not len(child)}
        if not root.tag.endswith("ListVersionsResult") or told.get("Name") != bucket:
            raise wrong
        encoded = told.get("EncodingType") == "url"
        entries = tuple(_entries(root, space, encoded))
        truncated = told["IsTruncated"].strip() == "true"
    except (ET.ParseError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise wrong from error
    if not truncated:
        return Page(entries, None)
    after = {name: told[tag] for tag, name in _NEXT.items() if told.get(tag)}
    if "key-marker" not in after:  # there is more, and the server does not say where
        raise wrong
    if encoded:
        after["key-marker"] = _decoded(after["key-marker"])
    return Page(entries, after)


def _decoded(text: str) -> str:
    return unquote_to_bytes(text.replace("+", " ")).decode("utf-8", "surrogateescape")


def _entries(root: ET.Element, space: str, encoded: bool) -> Iterator[Entry]:
    for child in root:
        kind = child.tag.removeprefix(space)
        if kind not in ("Version", "DeleteMarker"):
            continue
        key = child.findtext(f"{space}Key") or ""
        yield Entry(
            key=_decoded(key) if encoded else key,
            version=child.findtext(f"{space}VersionId") or "null",
            modified=_seconds(child.findtext(f"{space}LastModified") or ""),
            latest=(child.findtext(f"{space}IsLatest") or "true") == "true",
            marker=kind == "DeleteMarker",
        )


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())
