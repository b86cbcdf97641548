"""The mail that brings a monthly report, and the one that asks where the signed one is.

The same fact always makes the same mail, down to its boundary and Message-ID, as in `notify.letters`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from pathlib import Path

from backupguard.evidence.kinds import ReportFile
from backupguard.model import Fact, from_us
from backupguard.notify.letters import Desk, identifier, one_line
from backupguard.notify.report_mail import MAILED, REMINDED

_COMMAND = "  backupguard report file-signed"


def letter(
    fact: Fact, desk: Desk, readers: Sequence[str], *, bare: bool = False
) -> tuple[EmailMessage, tuple[str, ...]]:
    """Return the mail of a fact of `report_mail.KINDS`, and who gets it.

    `bare`: the relay refuses it with attachments.
    """
    message = EmailMessage(policy=SMTP)
    month = desk.words.month(fact.observation.data["month"])
    reminded = fact.observation.kind == REMINDED
    subject = f"mail.report.{'reminder' if reminded else 'subject'}"
    message["Subject"] = one_line(desk.words.text(subject, site=desk.site, month=month))
    message["From"] = desk.mail.sender
    message["To"] = ", ".join(readers)
    message["Date"] = format_datetime(fact.recorded_at)
    message["Message-ID"] = identifier(fact.observation.key, desk)
    # RFC 3834: nobody's absence is answered to us
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    if reminded:
        first = f"{MAILED}/{fact.observation.data['month']}"
        message["In-Reply-To"] = message["References"] = identifier(first, desk)
        message.set_content(_reminder(fact, month, desk), charset="utf-8")
    else:
        _fill(message, fact, month, desk, bare)
    return message, tuple(parseaddr(one)[1] for one in readers)


def _fill(message: EmailMessage, fact: Fact, month: str, desk: Desk, bare: bool) -> None:
    data, words = fact.observation.data, desk.words
    directory, files = Path(data["directory"]), data["files"]
    pdfs = [one for one in files if one["file"].endswith(".pdf")]
    attached = data["attached"] and not bare
    contents = {one["file"]: _content(directory, one) for one in pdfs if attached}
    whole = bool(contents) and all(content is not None for content in contents.values())
    lines = [words.text("mail.report.text", site=desk.site, month=month), ""]
    if not whole:
        why = "changed" if contents else "refused" if bare else "large" if pdfs else "no-pdf"
        lines += [words.text(f"mail.report.{why}", directory=str(directory)), ""]
    for one in files:
        lines += [f"  {one['file']}  ({words.size(one['bytes'])})", f"    SHA-256 {one['sha256']}"]
    lines += ["", words.text("mail.report.sign"), f"{_COMMAND} FILE.pdf", ""]
    if desk.mail.url is not None:
        lines += [words.text("mail.pages", url=f"{desk.mail.url}/reports/"), ""]
    lines += ["-- ", desk.site, ""]
    message.set_content("\n".join(lines), charset="utf-8")
    for name, content in contents.items():
        if whole and content is not None:
            message.add_attachment(content, maintype="application", subtype="pdf", filename=name)
    if message.is_multipart():
        # the same mail again has the same bytes: a chance boundary would make it another one
        digest = hashlib.sha256(fact.observation.key.encode()).hexdigest()[:32]
        message.set_boundary(f"=_{digest}")


def _content(directory: Path, file: ReportFile) -> bytes | None:
    """Return a file as it was issued; None where it is gone or another one by now."""
    try:
        content = (directory / file["file"]).read_bytes()
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == file["sha256"] else None


def _reminder(fact: Fact, month: str, desk: Desk) -> str:
    data, words = fact.observation.data, desk.words
    issued = words.time(from_us(data["issued_at"]))
    lines = [
        words.text("mail.report.waits", month=month, issued=issued, time=data["time"]),
        "",
        words.text("mail.report.sign"),
        f"{_COMMAND} FILE.pdf",
        "",
        words.text("mail.report.scan"),
        f"{_COMMAND} FILE --scanned --month {data['month']} --text TEXT",
        "",
    ]
    if desk.mail.url is not None:
        lines += [words.text("mail.pages", url=f"{desk.mail.url}/reports/"), ""]
    return "\n".join([*lines, "-- ", desk.site, ""])
