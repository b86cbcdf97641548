"""Puts a notice into words: what is wrong, how bad, since when, what to do; with its runbook.

The same notice always makes the same mail, down to its Message-ID, so that one sent twice (a kill
between the relay's answer and our note of it) is one in the reader's box.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr

from backupguard.evidence.kinds import NoticeEvent
from backupguard.language import Words
from backupguard.model import Fact, Message, Severity, Subject, from_us
from backupguard.notify.causes import rank
from backupguard.settings.notify import Mail

#: So many causes are described in one mail, and of so many alerts the runbook is added.
_DESCRIBED = 40
_RUNBOOKS = 3
_TO_DO = ("opened", "worse", "reminder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What a letter is written with. `title` names a control, `runbook` returns an alert's page."""

    mail: Mail
    words: Words
    site: str
    store: str
    names: Mapping[Subject, str]
    title: Callable[[str], str]
    runbook: Callable[[str], str | None]


def letter(fact: Fact, desk: Desk) -> tuple[EmailMessage, tuple[str, ...]]:
    """Return the mail of a `notice.due`, and who gets it."""
    events: Sequence[NoticeEvent] = fact.observation.data["events"]
    to = desk.mail.recipients(_worst(events))
    message = EmailMessage(policy=SMTP)
    message["Subject"] = one_line(_subject(events, desk))
    message["From"] = desk.mail.sender
    message["To"] = ", ".join(to)
    message["Date"] = format_datetime(fact.recorded_at)
    message["Message-ID"] = identifier(fact.observation.key, desk)
    began = dict.fromkeys(event["opened_by"] for event in events if event["opened_by"])
    references = [identifier(key, desk) for key in list(began)[:20]]
    if references:
        message["In-Reply-To"] = references[0]
        message["References"] = " ".join(references)
    # RFC 3834: nobody's absence is answered to us
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(_body(events, desk), charset="utf-8")
    return message, tuple(parseaddr(one)[1] for one in to)


def _worst(events: Sequence[NoticeEvent]) -> Severity:
    return min((Severity(event["severity"]) for event in events), key=rank)


def one_line(text: str) -> str:
    """Return text without line ends: names are the site's, a header is one line."""
    return " ".join(text.split())


def identifier(key: str, desk: Desk) -> str:
    """Return the Message-ID of the mail that tells of the fact with that key."""
    digest = hashlib.sha256(f"{desk.store}/{key}".encode()).hexdigest()[:32]
    return f"<backupguard.{digest}@{parseaddr(desk.mail.sender)[1].rpartition('@')[2]}>"


def _title(event: NoticeEvent, desk: Desk) -> str:
    if event["control"] is None:
        return desk.words.text("mail.title.unavailable")
    return desk.title(event["control"])


def _name(event: NoticeEvent, desk: Desk) -> str:
    subject = event["subject"]
    return desk.names.get(subject, subject.partition("/")[2] or desk.site)


def _subject(events: Sequence[NoticeEvent], desk: Desk) -> str:
    first, words = events[0], desk.words
    kinds = {event["event"] for event in events}
    kind = first["event"] if len(kinds) == 1 else "opened" if "opened" in kinds else "several"
    controls = {event["control"] for event in events}
    if kind == "alive":
        what = ""
    elif len(events) == 1:
        what = words.text("mail.what.one", title=_title(first, desk), name=_name(first, desk))
    elif len(controls) == 1:
        what = words.text("mail.what.control", title=_title(first, desk), count=len(events))
    else:
        what = words.text("mail.what.several", count=len(events))
    severity = words.text(f"status.severity.{_worst(events).value}")
    return words.text(f"mail.subject.{kind}", site=desk.site, what=what, severity=severity)


def _body(events: Sequence[NoticeEvent], desk: Desk) -> str:
    words = desk.words
    lines: list[str] = []
    for event in events[:_DESCRIBED]:
        lines += [*_described(event, desk), ""]
    if len(events) > _DESCRIBED:
        lines += [words.text("mail.more", count=len(events) - _DESCRIBED), ""]
    if desk.mail.url is not None:
        lines += [words.text("mail.pages", url=desk.mail.url + "/"), ""]
    alerts = dict.fromkeys(e["alert"] for e in events if e["alert"] and e["event"] in _TO_DO)
    for alert in list(alerts)[:_RUNBOOKS] if len(alerts) <= _RUNBOOKS else ():
        page = desk.runbook(alert)
        if page is not None:
            lines += ["-" * 72, page.strip(), ""]
    every = words.duration(int(desk.mail.remind_every.total_seconds() * 1000))
    lines += ["-- ", words.text("mail.footer", site=desk.site, every=every), ""]
    return "\n".join(lines)


def _described(event: NoticeEvent, desk: Desk) -> list[str]:
    words = desk.words
    reason = Message(id=event["reason"]["id"], values=event["reason"]["values"])
    if event["event"] == "alive":
        return [words.say(reason)]
    severity = words.text(f"status.severity.{event['severity']}")
    told = [
        words.text(f"mail.event.{event['event']}", title=_title(event, desk)),
        words.text("mail.line.subject", name=_name(event, desk), subject=event["subject"]),
        words.text("mail.line.severity", severity=severity),
        words.text("mail.line.since", since=words.time(from_us(event["since_at"]))),
        words.text("mail.line.reason", reason=words.say(reason)),
    ]
    if event["event"] in _TO_DO:
        told += _to_do(event, desk)
    lines = map(one_line, told)
    return [next(lines), *(f"  {line}" for line in lines)]


def _to_do(event: NoticeEvent, desk: Desk) -> list[str]:
    words = desk.words
    command = (
        f"backupguard why {event['control']} {event['subject']}"
        if event["control"]
        else f"backupguard probe inventory --repository {event['subject'].partition('/')[2]}"
    )
    told = [words.text("mail.line.why", command=command)]
    if event["alert"] and desk.mail.url is not None:
        url = f"{desk.mail.url}/runbooks/{event['alert']}"
        told.append(words.text("mail.line.runbook", url=url))
    return told
