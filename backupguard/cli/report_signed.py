"""`backupguard report file-signed`: the signed report comes back and is kept as evidence."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupguard.cli import common, statements
from backupguard.errors import EXIT_DONE, UsageError
from backupguard.model import Json, Message, from_us

if TYPE_CHECKING:
    from backupguard.daemon.acknowledgements import Scan
    from backupguard.daemon.statements import Statements


def file_signed(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The signed PDF, or a scan with --scanned.")
    ],
    ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Authorities to believe (PEM); else trust is not judged."
        ),
    ] = None,
    scanned: Annotated[
        bool, typer.Option("--scanned", help="It is a scan of a page that was signed by hand.")
    ] = False,
    month: Annotated[
        str | None, typer.Option(metavar="YYYY-MM", help="Of a scan: whose report was signed.")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Of a scan: who signed it when, in one line."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """File a report that came back signed: checked, copied beside the reports and recorded."""
    from backupguard.daemon import acknowledgements, client
    from backupguard.reports.signed import LARGEST, refused

    settings = common.settings()
    scan = _scan(scanned, month, text, ca)
    # Read as who asks; what is done with it is done as the store's owner.
    content, believed = _read(file, LARGEST), _authorities(ca)
    if not 0 < len(content) <= LARGEST:
        raise refused("size", largest_bytes=LARGEST)

    def in_process(taken: Statements, uid: int) -> dict[str, Json]:
        from backupguard.processes import Cancellation, Jail

        with acknowledgements.received(settings) as path:
            path.write_bytes(content)
            return acknowledgements.take(
                taken.store,
                settings,
                path,
                scan,
                ca=believed,
                uid=uid,
                now=datetime.now(UTC),
                tools=Jail(settings.state_directory, Cancellation()),
            ).as_json()

    about = {
        "month": scan.month if scan else None,
        "text": scan.text if scan else None,
        "ca": believed.decode("ascii", "replace") if believed is not None else None,
    }
    row = statements.do(settings, lambda: client.acknowledge(settings, about, content), in_process)
    if as_json:
        common.print_json(row)
    else:
        _tell(row)
    return EXIT_DONE


def _scan(scanned: bool, month: str | None, text: str | None, ca: Path | None) -> Scan | None:
    """Return what is declared of a scan; raises UsageError for options that do not go together."""
    from backupguard.daemon.acknowledgements import Scan

    if not scanned:
        if month is not None or text is not None:
            raise UsageError("usage", Message(id="signed.of-a-scan"))
        return None
    if month is None or text is None or ca is not None:
        raise UsageError("usage", Message(id="signed.scan-needs"))
    return Scan(month=month, text=text)


def _read(path: Path, largest: int) -> bytes:
    """Return a file's content, a byte more than `largest` at most."""
    try:
        with path.open("rb") as file:
            return file.read(largest + 1)
    except OSError as error:
        raise UsageError(
            "usage", Message(id="evidence.unreadable-file", values={"file": str(path)})
        ) from error


def _authorities(path: Path | None) -> bytes | None:
    from backupguard.reports.signed import LARGEST_CA

    if path is None:
        return None
    content = _read(path, LARGEST_CA)
    if len(content) > LARGEST_CA or b"-----BEGIN CERTIFICATE-----" not in content:
        raise UsageError("usage", Message(id="signed.no-ca", values={"path": str(path)}))
    return content


def _tell(row: dict[str, Json]) -> None:
    words = common.words()
    month = words.month(row["month"])
    if not row["new"]:
        common.say("signed.known", month=month, seq=row["seq"])
    elif row["method"] == "scan":
        common.say("signed.scan-taken", month=month, seq=row["seq"])
    else:
        common.say("signed.taken", month=month, seq=row["seq"])
    print(row["path"])
    if row["method"] == "scan":
        common.result("signed.not-authenticated")
        return
    signed_at = row["signed_at"]
    common.result(
        "signed.signer",
        signer=common.printable(row["signer"]),
        certificate=row["certificate"],
        when=words.time(from_us(signed_at)) if signed_at is not None else "—",
    )
    common.result("signed.issuer-checked" if row["issuer_checked"] else "signed.issuer-unknown")
    if row["provisional"]:
        common.result("signed.provisional", month=month)
