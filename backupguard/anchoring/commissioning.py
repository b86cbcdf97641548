"""The commissioning record: which key signs the evidence here, on paper and signed by two people.

The fingerprint on this sheet is what ties a chain to a site ever after; the line at its end is the
first anchor. It belongs into a safe, not onto this host.
"""

from __future__ import annotations

import hashlib
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined

from backupguard import __version__
from backupguard.evidence.kinds import FIVE_YEARS
from backupguard.evidence.seals import Anchor, anchor_line
from backupguard.language import Words
from backupguard.model import SITE, Fact, Json, Observation
from backupguard.reports.issue import replace_file
from backupguard.settings.anchors import MailAnchor, ObjectLockAnchor, TimestampAnchor

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from backupguard.settings import Settings
    from backupguard.settings.anchors import AnchorPlace

KIND = "commissioning.issued"
FORMATS = ("html", "pdf")


class Chain(Protocol):
    """What the sheet is made from: a store."""

    store_id: str

    def anchor(self) -> Anchor:
        """Return the head."""

    def facts(self, *, kinds: Collection[str] = ()) -> Iterator[Fact]:
        """Yield facts of these kinds, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key that signs or signed: since when, by which record, and why it took another's place."""

    fingerprint: str
    since: datetime
    seq: int
    reason: str | None

    @property
    def groups(self) -> str:
        """The fingerprint as people compare it: sixteen groups of four digits."""
        return " ".join(self.fingerprint[at : at + 4] for at in range(0, 64, 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What the record says."""

    site: str
    host: str
    version: str
    store: str
    began: datetime
    settings_sha256: str
    keys: tuple[Key, ...]  # the one that signs now comes last
    places: tuple[tuple[str, str, str], ...]  # id, type, address
    head: Anchor
    line: str
    keep_years: int
    now: datetime


def address(settings: Settings, place: AnchorPlace) -> str:
    """Return where a place is, in one line; "—" for one whose collector nobody configured."""
    if isinstance(place, MailAnchor):
        return ", ".join(place.to)
    if isinstance(place, ObjectLockAnchor):
        return f"{place.endpoint or 'AWS'} {place.bucket}/{place.prefix}"
    if isinstance(place, TimestampAnchor):
        return place.url
    collector = place.collector or settings.soc.syslog
    return f"{collector.host}:{collector.port}" if collector is not None else "—"


def sheet_of(chain: Chain, settings: Settings, now: datetime) -> Sheet:
    """Return what the record of this store says now."""
    keys = []
    for fact in chain.facts(kinds=("evidence.key-created", "evidence.key-rotated")):
        data: Json = fact.observation.data
        if data is not None:
            keys.append(
                Key(
                    fingerprint=str(data["fingerprint"]),
                    since=fact.recorded_at,
                    seq=fact.seq,
                    reason=data.get("reason"),
                )
            )
    head = chain.anchor()
    places = settings.evidence.anchors
    return Sheet(
        site=settings.site.name,
        host=socket.gethostname(),
        version=__version__,
        store=chain.store_id,
        began=keys[0].since,
        settings_sha256=settings.sha256,
        keys=tuple(keys),
        places=tuple((name, one.type, address(settings, one)) for name, one in places.items()),
        head=head,
        line=anchor_line(head),
        keep_years=FIVE_YEARS // 366,
        now=now,
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("backupguard.anchoring"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def html_of(sheet: Sheet, words: Words) -> str:
    """Return the record as one page of HTML that needs nothing else."""

    def told(identifier: str, /, **values: int | str) -> str:
        return words.text(f"commissioning.{identifier}", **values)

    template = _environment().get_template("commissioning.html.j2")
    return template.render(x=sheet, t=told, time=words.time, language=words.language)


def write(
    chain: Chain,
    settings: Settings,
    words: Words,
    formats: Sequence[str],
    directory: Path,
    now: datetime,
) -> tuple[tuple[Path, Observation], ...]:
    """Write the record in each format; return the files, and the facts that name them by hash.

    Raises OSError, and what making a PDF raises.
    """
    sheet = sheet_of(chain, settings, now)
    html = html_of(sheet, words)
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    written = []
    for name in formats:
        content = html.encode() if name == "html" else _on_paper(sheet, html, words)
        path = directory / f"backupguard-commissioning-{words.language}.{name}"
        replace_file(path, content)
        digest = hashlib.sha256(content).hexdigest()
        observation = Observation(
            kind=KIND,
            subject=SITE,
            observed_at=now,
            key=f"commissioning/{digest}",
            data={
                "file": path.name,
                "language": words.language,
                "sha256": digest,
                "bytes": len(content),
                "fingerprint": sheet.keys[-1].fingerprint,
            },
        )
        written.append((path, observation))
    return tuple(written)


def _on_paper(sheet: Sheet, html: str, words: Words) -> bytes:
    from backupguard.reports.paper.press import press
    from backupguard.reports.paper.sheets import iso
    from backupguard.typesetting.sheet import Sheet as Paper

    title = words.text("commissioning.title")
    with tempfile.TemporaryDirectory(prefix="backupguard-commissioning-") as name:
        work = Path(name)
        (work / "page.html").write_text(html, encoding="utf-8")
        paper = Paper(
            html=str(work / "page.html"),
            pdf=str(work / "page.pdf"),
            created=iso(sheet.now),
            left=f"{sheet.site} · {title}"[:110],
            right=words.time(sheet.now),
            page=words.text("paper.page", page="{page}", pages="{pages}"),
            description=title,
        )
        press([paper], work)
        return (work / "page.pdf").read_bytes()
