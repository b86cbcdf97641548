"""Puts one anchor down at one place. Each way returns a receipt: how to find it there again."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import TYPE_CHECKING, Any, assert_never

from backupguard.anchoring import timestamps
from backupguard.contracts import Context
from backupguard.errors import AccessRefused, MissingMeans, UsageError
from backupguard.evidence.seals import Anchor, anchor_line
from backupguard.language import Words
from backupguard.model import SITE, Message, Observation, Origin
from backupguard.notify import smtp, syslog
from backupguard.notify.ecs import moment
from backupguard.settings.anchors import (
    MailAnchor,
    ObjectLockAnchor,
    SyslogAnchor,
    TimestampAnchor,
)
from backupguard.settings.soc import FACILITIES

if TYPE_CHECKING:
    from backupguard.settings import Settings
    from backupguard.settings.anchors import AnchorPlace

_NOTICE = 5  # severity of RFC 5424
#: What may be asked of a bucket for anchors; everything else is refused before it is sent.
_PUTTING = frozenset({"PutObject", "GetObjectRetention"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """An anchor that was put down at a place, and the receipt for it."""

    place: str
    anchor: Anchor
    receipt: str
    at: datetime

    def observation(self, origin: Origin = Origin.OBSERVED) -> Observation:
        """Return the fact that says so."""
        return Observation(
            kind="evidence.anchored",
            subject=SITE,
            origin=origin,
            observed_at=self.at,
            key=f"evidence/anchored/{self.place}/{self.anchor.seq}",
            data={
                "place": self.place,
                "seq": self.anchor.seq,
                "hash": self.anchor.hash.hex(),
                "receipt": self.receipt,
            },
        )


def place(settings: Settings, name: str) -> AnchorPlace:
    """Return what the settings say of a place; raises UsageError for a name they do not know."""
    found = settings.evidence.anchors.get(name)
    if found is None:
        known = ", ".join(settings.evidence.anchors) or "—"
        message = Message(id="evidence.no-such-place", values={"place": name, "known": known})
        raise UsageError("usage", message)
    return found


def put_down(settings: Settings, name: str, anchor: Anchor, context: Context) -> Put:
    """Put an anchor down at a place of the settings, and return the receipt.

    Raises Unreachable, AccessRefused, MissingMeans or Misunderstood when it is not certain that the
    anchor lies there. One that did arrive then lies there twice, which harms nothing.
    """
    chosen, now = place(settings, name), context.now()
    match chosen:
        case SyslogAnchor():
            receipt = _to_syslog(settings, chosen, anchor, now)
        case MailAnchor():
            receipt = _by_mail(settings, chosen, anchor, context)
        case ObjectLockAnchor():
            receipt = _to_bucket(chosen, name, anchor, context)
        case TimestampAnchor():
            receipt = timestamps.stamp(chosen, anchor, context)
        case _:
            assert_never(chosen)
    return Put(place=name, anchor=anchor, receipt=receipt, at=now)


def _to_syslog(settings: Settings, chosen: SyslogAnchor, anchor: Anchor, now: datetime) -> str:
    """Return the header of the message, by which it is found in the collector's journal."""
    collector = chosen.collector or settings.soc.syslog
    if collector is None:  # told when the settings were read
        raise MissingMeans("not_fetchable")
    priority = FACILITIES[collector.facility] * 8 + _NOTICE
    host = socket.gethostname()[:255] or "-"
    header = f"<{priority}>1 {moment(now)} {host} {syslog.APP_NAME} - anchor -"
    syslog.hand_over(collector, [f"{header} {anchor_line(anchor)}".encode("ascii", "replace")])
    return header


def anchor_mail(settings: Settings, to: tuple[str, ...], anchor: Anchor, now: datetime) -> Any:
    """Return the mail of an anchor: its line stands alone, in plain ASCII, whatever the language."""
    mail = settings.notify.mail
    if mail is None:  # told when the settings were read
        raise MissingMeans("not_fetchable")
    language = mail.language or settings.site.language
    words = Words(language, settings.site.timezone)
    message = EmailMessage(policy=SMTP)
    message["Subject"] = words.text("mail.anchor.subject", site=settings.site.name, seq=anchor.seq)
    message["From"] = mail.sender
    message["To"] = ", ".join(to)
    message["Date"] = format_datetime(now)
    digest = hashlib.sha256(anchor_line(anchor).encode()).hexdigest()[:32]
    domain = parseaddr(mail.sender)[1].rpartition("@")[2]
    message["Message-ID"] = f"<backupguard.anchor.{digest}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence is answered to us
    message["X-Auto-Response-Suppress"] = "All"
    text = words.text("mail.anchor.body", seq=anchor.seq, site=settings.site.name)
    message.set_content(f"{anchor_line(anchor)}\n\n{text}\n", charset="utf-8")
    return message


def _by_mail(settings: Settings, chosen: MailAnchor, anchor: Anchor, context: Context) -> str:
    """Return the Message-ID. A mail that any of its readers did not get counts as not sent."""
    message = anchor_mail(settings, chosen.to, anchor, context.now())
    mail = settings.notify.mail
    assert mail is not None  # anchor_mail has looked
    password = context.secret(mail.password) if mail.password is not None else None
    to = tuple(parseaddr(one)[1] for one in chosen.to)
    if smtp.post(mail, password, message, to):
        raise AccessRefused("permission")
    return str(message["Message-ID"])


def _to_bucket(chosen: ObjectLockAnchor, name: str, anchor: Anchor, context: Context) -> str:
    """Return key, version and end of the lock, as the server tells it when asked."""
    from backupguard.repositories.s3_client import connected, in_our_words
    from backupguard.repositories.s3_places import S3Place

    client = connected(
        S3Place(
            bucket=chosen.bucket,
            prefix=chosen.prefix,
            endpoint=chosen.endpoint,
            region=chosen.region,
            path_style=chosen.path_style,
            ca_certificate=chosen.ca_certificate,
            timeout_s=int(chosen.timeout.total_seconds()),
            credentials=chosen.credentials,
        ),
        context.secret(chosen.credentials),
    )
    client.meta.events.register("before-call.s3", _only_putting)
    until = (context.now() + chosen.retention).replace(microsecond=0)
    key = f"{chosen.prefix}{anchor.store}/{anchor.seq:012d}-{anchor.hash.hex()[:16]}.txt"
    with in_our_words(name):
        answer = client.put_object(
            Bucket=chosen.bucket,
            Key=key,
            Body=f"{anchor_line(anchor)}\n".encode(),
            ContentType="text/plain",
            ObjectLockMode="COMPLIANCE",
            ObjectLockRetainUntilDate=until,
            ChecksumAlgorithm="SHA256",
        )
        # A server that knows no locks takes the object and says nothing of it.
        version = answer.get("VersionId")
        asked = {"VersionId": version} if version else {}
        kept = client.get_object_retention(Bucket=chosen.bucket, Key=key, **asked)["Retention"]
    locked = kept.get("RetainUntilDate")
    if kept.get("Mode") != "COMPLIANCE" or locked is None or locked.astimezone(UTC) < until:
        raise MissingMeans("not_locked")
    return f"s3://{chosen.bucket}/{key}?versionId={version} until {locked.isoformat()}"


def _only_putting(model: Any, **_: Any) -> None:
    if model.name not in _PUTTING:
        raise AssertionError(f"{model.name} is not what anchors need")
