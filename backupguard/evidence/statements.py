"""The exact text of a statement: what a person signs, and what the signature is verified over.

One line per part, in one order, so that the same statement has the same bytes wherever it is written.
No part may hold a line break, so no part can pass for another. Given its text, anybody can verify a
signature with `ssh-keygen -Y verify -n backupguard` (ssh-keygen(1), PROTOCOL.sshsig).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from backupguard.model import Json, Message, Subject

#: What a signature is made for: one made for anything else (a mail, a commit) is no statement.
NAMESPACE = "backupguard"
_FIRST = "backupguard statement 1"
_SPACES = frozenset({"\u00a0", "\u202f"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a person states about a subject: true from now until the end of the day `until`."""

    topic: str
    subject: Subject
    text: str
    until: date
    values: Mapping[str, int | str] = field(default_factory=dict)


def one_line(text: str) -> bool:
    """Tell whether a text may stand in a statement: readable, in one line, steering nothing."""
    return bool(text.strip()) and all(c.isprintable() or c in _SPACES for c in text)


def canonical_text(site: str, person: str, statement: Statement) -> str:
    """Return the text that `person` signs at `site`; it ends in a line break.

    Raise ValueError when a part is not one line.
    """
    lines = [
        _FIRST,
        f"site: {site}",
        f"person: {person}",
        f"subject: {statement.subject}",
        f"topic: {statement.topic}",
        f"until: {statement.until.isoformat()}",
        *(f"value {name}: {value}" for name, value in sorted(statement.values.items())),
        f"text: {statement.text}",
    ]
    wrong = next((line for line in lines if not one_line(line)), None)
    if wrong is not None:
        raise ValueError(f"not one line: {wrong!r}")
    return "\n".join(lines) + "\n"


def attestation_told(row: Mapping[str, Json]) -> Message:
    """Return the line about one statement: the fields of an `AttestationPicture`, by name."""
    name = row["values"].get("name")
    origin = "not-authenticated" if row["key"] is None else "authenticated"
    return Message(
        id="status.attestation",
        values={
            "seq": row["seq"],
            "topic": row["topic"] if name is None else f"{row['topic']}/{name}",
            "subject": row["subject"],
            "until_at": row["expires_at"],
            "state": f"@attestation.state.{row['state']}",
            "origin": f"@statements.{origin}",
            "who": said_by(row["person"], row["author"]),
            "text": row["text"],
        },
    )


def waiver_told(row: Mapping[str, Json]) -> Message:
    """Return the line about one exception: the fields of a `WaiverPicture`, by name."""
    return Message(
        id="status.waiver",
        values={
            "seq": row["seq"],
            "control": row["control"],
            "subject": row["subject"],
            "until_at": row["until_at"],
            "state": f"@waiver.state.{row['state']}",
            "who": said_by(row["person"], row["author"]),
            "owner": row["owner"],
            "second": said_by(row["confirmed_by"], row["confirmed_author"]),
            "reason": row["reason"],
        },
    )


def override_told(row: Mapping[str, Json]) -> Message:
    """Return the line about another threshold: the fields of an `OverridePicture`, by name."""
    way = "looser" if row["loosens"] else "stricter"
    return Message(
        id="status.override",
        values={
            "seq": row["seq"],
            "control": row["control"],
            "subject": row["subject"],
            "threshold": f"@threshold.{row['threshold']}",
            "given": row["given"],
            "way": f"@override.{way}",
            "until_at": row["until_at"],
            "state": f"@override.state.{row['state']}",
            "who": said_by(row["person"], row["author"]),
            "second": said_by(row["confirmed_by"], row["confirmed_author"]),
            "reason": row["reason"],
        },
    )


def said_by(person: str | None, author: str | None) -> str:
    """Return who spoke: the person with the account, or the account alone; "—" for nobody."""
    return " — ".join(filter(None, (person, author))) or "—"
