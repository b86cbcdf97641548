"""Rows of what people stated and accepted, each with who and until when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationRow:
    """A statement of a person. `key` is what it was signed with; None: not authenticated."""

    seq: int
    subject: str
    topic: str
    name: str | None
    text: str
    person: str | None
    author: str | None
    made_at: datetime
    expires_at: datetime
    key: str | None
    state: str  # "in_force", "expired", "replaced", "withdrawn"
    withdrawn_by: str | None
    withdrawn_for: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaiverRow:
    """An accepted exception, or one that waits for its second person."""

    seq: int
    control: str
    subject: str
    reason: str
    owner: str
    person: str | None
    author: str | None
    asked_at: datetime
    until: datetime
    state: str  # "in_force", "waiting", "expired", "ended"
    confirmed_by: str | None
    confirmed_author: str | None
    ended_by: str | None
    ended_for: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideRow:
    """Another value for a threshold, for a time, or the wish for one."""

    seq: int
    control: str
    threshold: str
    given: str
    subject: str
    reason: str
    person: str | None
    author: str | None
    asked_at: datetime
    until: datetime
    loosens: bool
    state: str  # as `WaiverRow.state`
    confirmed_by: str | None
    confirmed_author: str | None
    ended_by: str | None
    ended_for: str | None
