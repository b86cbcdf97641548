"""What comes back of a report: the signed PDF, or a scan of the page that was signed by hand.

A signed PDF must begin with an issued report and carry a signature over all of it (`reports.signed`).
A scan proves nothing by itself: it is kept as the declaration of the account that hands it in, and is
told as not authenticated wherever it counts. Both are copied beside the reports and recorded once.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from backupguard.contracts import Store, Tools
from backupguard.daemon.requests import author
from backupguard.daemon.statements import one_line_or_refused, person_of
from backupguard.errors import StoreError
from backupguard.model import SITE, Fact, Json, Observation, Origin, to_us
from backupguard.reports.history import span_of
from backupguard.reports.issue import directory_of
from backupguard.reports.signed import LARGEST, issued_in, refused, signature_of
from backupguard.settings import Settings

KIND = "report.acknowledged"
ISSUED = "report.issued"
SIGNATURE, SCAN = "signature", "scan"
#: What a scan may be, by its first bytes.
_SCANS = (
    (b"%PDF-", "pdf"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What somebody declares of a scan: whose signature of which month's report it shows."""

    month: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What was taken, where it lies now, and whether it is new."""

    fact: Fact
    path: Path
    new: bool

    def as_json(self) -> dict[str, Json]:
        """Return it as the control socket tells it."""
        data: Mapping[str, Json] = self.fact.observation.data
        return {"seq": self.fact.seq, "new": self.new, "path": str(self.path), **data}


@contextmanager
def received(settings: Settings) -> Iterator[Path]:
    """Yield where a file that somebody brings is put until it is taken; it is gone afterwards.

    Raises StoreError (full, unreadable) for what the disk refuses meanwhile.
    """
    place = settings.state_directory
    try:
        with tempfile.TemporaryDirectory(prefix="brought-", dir=place) as made:
            yield Path(made) / "file"
    except OSError as error:
        if error.errno is None:  # not of the disk: TimeoutError is one, too
            raise
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise StoreError("full" if full else "unreadable", path=str(place)) from error


def take(
    store: Store,
    settings: Settings,
    file: Path,
    scan: Scan | None,
    *,
    ca: bytes | None,
    uid: int,
    now: datetime,
    tools: Tools,
) -> Taken:
    """Take a signed report, or with `scan` a scanned one, under the account that brings it.

    The same file twice is one record, and one file. Raises UsageError for one that is not taken, such
    as one that is filed for another month, MissingMeans without what verifies a signature, OSError
    when it cannot be kept.
    """
    size = file.stat().st_size
    if not 0 < size <= LARGEST:
        raise refused("size", largest_bytes=LARGEST)
    # An annex is no report: whoever signs one acknowledges nothing of the month.
    known = (fact for fact in store.facts(kinds=(ISSUED,)) if _data(fact))
    issued = [fact for fact in known if _data(fact).get("annex") is None]
    data: dict[str, Json]
    if scan is None:
        data = _signed(issued, settings, file, ca, tools)
        ending = "pdf"
    else:
        data = _scanned(issued, settings, scan)
        ending = _kind_of_scan(file)
    digest = _sha256(file)
    way = "signed" if scan is None else "scan"
    name = f"backupguard-{data['month']}-{data['language']}.{way}-{digest[:12]}.{ending}"
    key = f"{KIND}/{digest}"
    before = next((one for one in store.facts(kinds=(KIND,)) if one.observation.key == key), None)
    if before is not None:
        month = _data(before).get("month", data["month"])
        if month != data["month"]:
            raise refused("other-month", month=month, seq=before.seq)
        name = _data(before).get("file", name)
    path = directory_of(settings) / name
    _keep(file, path)
    if before is not None:
        return Taken(fact=before, path=path, new=False)
    observation = Observation(
        kind=KIND,
        subject=SITE,
        origin=Origin.ATTESTED,
        observed_at=now,
        data={
            **data,
            "sha256": digest,
            "bytes": size,
            "file": name,
            "person": person_of(settings, uid),
        },
        key=key,
    )
    head, _ = store.head()
    fact = store.append([observation], author=author(uid))[0]
    store.seal()
    return Taken(fact=fact, path=path, new=fact.seq > head)


def _signed(
    issued: Sequence[Fact], settings: Settings, file: Path, ca: bytes | None, tools: Tools
) -> dict[str, Json]:
    """Return what a signed PDF acknowledges."""
    reports = [fact for fact in issued if _data(fact)["format"] == "pdf"]
    sizes: dict[int, frozenset[str]] = {}
    for fact in reports:
        known = sizes.get(_data(fact)["bytes"], frozenset())
        sizes[_data(fact)["bytes"]] = known | {_data(fact)["sha256"]}
    begins = issued_in(file, sizes)
    if begins is None:
        raise refused("unknown")
    digest, prefix = begins
    report = next(fact for fact in reports if _data(fact)["sha256"] == digest)
    found = signature_of(file, prefix, tools, settings.state_directory, ca)
    return {
        **_of_report(report, settings),
        "method": SIGNATURE,
        "signer": found.subject,
        "certificate": found.certificate,
        "signed_at": to_us(found.signed_at) if found.signed_at is not None else None,
        "issuer_checked": found.issuer_checked,
        "text": None,
    }


def _scanned(issued: Sequence[Fact], settings: Settings, scan: Scan) -> dict[str, Json]:
    """Return what a scan acknowledges: the newest issue of the month, the PDF before other formats."""
    one_line_or_refused("text", scan.text)
    span_of(scan.month, settings.site.timezone)
    of_month = [fact for fact in issued if _data(fact)["month"] == scan.month]
    report = max(
        of_month, key=lambda fact: (_data(fact)["format"] == "pdf", fact.seq), default=None
    )
    if report is None:
        raise refused("no-report", month=scan.month)
    return {
        **_of_report(report, settings),
        "method": SCAN,
        "signer": None,
        "certificate": None,
        "signed_at": None,
        "issuer_checked": False,
        "text": scan.text,
    }


def _of_report(fact: Fact, settings: Settings) -> dict[str, Json]:
    data = _data(fact)
    end = span_of(data["month"], settings.site.timezone).end
    return {
        "month": data["month"],
        "language": data["language"],
        "report": fact.seq,
        "report_sha256": data["sha256"],
        "provisional": fact.observation.observed_at < end,
    }


def _data(fact: Fact) -> Mapping[str, Json]:
    """Return a record's payload; nothing where its body was pruned."""
    found = fact.observation.data
    return found if isinstance(found, Mapping) else {}


def _kind_of_scan(file: Path) -> str:
    with file.open("rb") as opened:
        first = opened.read(16)
    ending = next((name for magic, name in _SCANS if first.startswith(magic)), None)
    if ending is None:
        raise refused("scan-kind")
    return ending


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _keep(file: Path, path: Path) -> None:
    """Copy a file beside the reports, whole or not at all, readable by owner and group."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        shutil.copyfile(file, temporary)
        temporary.chmod(0o640)
        with temporary.open("rb") as copied:
            os.fsync(copied.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
