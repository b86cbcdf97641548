"""What people state and accept: recorded under the account that asked, never under a name given.

The author is the uid the kernel saw on the control socket, or that of the process where no daemon
lives; the person is whose account that is in `[people]`. Nobody is his own second person.
"""

from __future__ import annotations

import pwd
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

from backupguard.assess.attestations import KINDS as ATTESTATIONS
from backupguard.assess.attestations import Attestations
from backupguard.assess.overrides import KINDS as OVERRIDES
from backupguard.assess.overrides import Overrides
from backupguard.assess.picture import WaiverState
from backupguard.assess.views import subjects
from backupguard.assess.waivers import KINDS as WAIVERS
from backupguard.assess.waivers import (
    LONGEST,
    LONGEST_VITAL,
    Waiver,
    Waivers,
    needs_second,
    uid_of,
)
from backupguard.contracts import AttackerKind, Store, Tools
from backupguard.controls import Catalogue
from backupguard.daemon import signatures
from backupguard.daemon.requests import author
from backupguard.errors import UsageError
from backupguard.evidence.statements import Statement, canonical_text, one_line
from backupguard.model import (
    SITE,
    Criticality,
    Json,
    Message,
    Observation,
    Origin,
    Scope,
    Severity,
    Subject,
    repository_subject,
    to_us,
)
from backupguard.settings import Settings
from backupguard.settings.people import fingerprint

LONGEST_TEXT = 500
_MOST_VALUES = 20
_VALUE_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}\Z")
_CHANGES = ("policy.changed", "configuration.loaded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """What may be stated: about the site or a repository, until when at most (control, threshold)."""

    scope: Scope
    limit: tuple[str, str]
    named: bool | None = False  # whether it needs a name; None: it may have one


TOPICS: Mapping[str, Topic] = {
    "failure-domain": Topic(scope=Scope.REPOSITORY, limit=("321-01", "attestation")),
    "isolation": Topic(scope=Scope.REPOSITORY, limit=("ISO-01", "attestation")),
    "escrow": Topic(scope=Scope.REPOSITORY, limit=("CHF-01", "escrow-attestation")),
    "attacker": Topic(scope=Scope.REPOSITORY, limit=("IMM-02", "attestation"), named=True),
    "mfa": Topic(scope=Scope.SITE, limit=("ACC-01", "attestation"), named=True),
    "admins": Topic(scope=Scope.SITE, limit=("ACC-01", "attestation"), named=None),
    "secrets": Topic(scope=Scope.SITE, limit=("ACC-01", "attestation")),
    "change": Topic(scope=Scope.SITE, limit=("CFG-01", "attestation"), named=True),
}


def person_of(settings: Settings, uid: int) -> str | None:
    """Return the id of the person whose account a uid is; None where the settings name nobody."""
    try:
        account = pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
    return next((name for name, one in settings.people.items() if one.user == account), None)


def end_of(day: date, timezone: str) -> datetime:
    """Return when a day ends at the site."""
    return datetime.combine(day + timedelta(days=1), time(), ZoneInfo(timezone)).astimezone(UTC)


def refused(sentence: str, **values: int | str) -> UsageError:
    """Return what is raised for a statement or waiver that is not taken, in words."""
    return UsageError("usage", Message(id=f"statements.{sentence}", values=values))


class Statements:
    """Takes statements, exceptions and their confirmations for one store; every one is sealed."""

    def __init__(self, store: Store, settings: Settings, catalogue: Catalogue) -> None:
        self.store = store
        self.settings = settings
        self.catalogue = catalogue

    # ------------------------------------------------------------------------------ statements

    def attest(
        self, statement: Statement, armored: str | None, *, uid: int, now: datetime, tools: Tools
    ) -> int:
        """Record a statement and return its number; `armored` is its author's signature, or None.

        Raises UsageError for a statement that is not taken and for a signature that is not of it.
        """
        self.check(statement, now)
        person = person_of(self.settings, uid)
        signature: dict[str, Json] | None = None
        if armored is not None:
            if person is None:
                raise refused("nobody", author=author(uid))
            who = self.settings.people[person]
            text = canonical_text(self.settings.site.name, person, statement)
            zone = self.settings.site.timezone
            signatures.verify(tools, person, who, zone, text, armored)
            signature = {
                "person": person,
                "key": fingerprint(str(who.signing_key)),
                "statement": text,
                "armored": armored,
            }
        expires = end_of(statement.until, self.settings.site.timezone)
        data = {
            "topic": statement.topic,
            "person": person,
            "text": statement.text,
            "values": dict(statement.values),
            "expires_at": to_us(expires),
            "signature": signature,
        }
        return self.record("attestation.made", statement.subject, data, uid, now)

    def text(self, statement: Statement, *, uid: int, now: datetime) -> str:
        """Return the exact text that the person of that account signs. Raises UsageError."""
        self.check(statement, now)
        person = person_of(self.settings, uid)
        if person is None:
            raise refused("nobody", author=author(uid))
        return canonical_text(self.settings.site.name, person, statement)

    def withdraw(self, seq: int, reason: str, *, uid: int, now: datetime) -> None:
        """Take a statement back; raises UsageError for one that does not stand."""
        one_line_or_refused("reason", reason)
        made = next((one for one in self.attestations(now) if one["seq"] == seq), None)
        if made is None or made["state"] == "withdrawn":
            raise refused("no-attestation", seq=seq)
        data = {"attestation": seq, "reason": reason}
        self.record("attestation.withdrawn", str(made["subject"]), data, uid, now)

    def attestations(self, now: datetime) -> list[dict[str, Json]]:
        """Return every statement ever made, as JSON values."""
        facts = self.store.facts(kinds=ATTESTATIONS)
        return [asdict(one) for one in Attestations(facts).pictures(now)]

    def check(self, statement: Statement, now: datetime) -> None:
        """Raise UsageError unless the statement is one that may be made now."""
        topic = TOPICS.get(statement.topic)
        if topic is None:
            raise refused("no-topic", topic=statement.topic[:80], known=", ".join(sorted(TOPICS)))
        if statement.subject not in self._subjects(topic.scope):
            raise refused("no-subject", topic=statement.topic, subject=statement.subject[:80])
        one_line_or_refused("text", statement.text)
        _values(statement.values)
        self._name(statement, topic)
        self.check_until(
            statement.until, self.longest(statement.topic, statement.subject, now), now
        )

    def longest(self, topic: str, subject: Subject, now: datetime) -> timedelta:
        """Return for how long a statement on a topic may stand: its control's threshold."""
        control, threshold = TOPICS[topic].limit
        overrides = Overrides(self.store.facts(kinds=OVERRIDES))
        criticality = self.criticality(subject)
        policy, _ = overrides.policy(self.catalogue, control, criticality, subject, now)
        return timedelta(seconds=int(policy.thresholds.get(threshold, 0)))

    def _subjects(self, scope: Scope) -> tuple[Subject, ...]:
        if scope is Scope.SITE:
            return (SITE,)
        return tuple(repository_subject(name) for name in self.settings.repositories)

    def _name(self, statement: Statement, topic: Topic) -> None:
        """Raise UsageError when what a statement names is missing, superfluous or does not exist."""
        name = statement.values.get("name")
        if name is None:
            if topic.named:
                raise refused("name-missing", topic=statement.topic)
        elif topic.named is False:
            raise refused("name-superfluous", topic=statement.topic)
        elif statement.topic == "change":
            fact = self.store.fact(name) if isinstance(name, int) else None
            if fact is None or fact.observation.kind not in _CHANGES:
                raise refused("no-change", name=name)
        else:
            known = self.names(statement.topic)
            if name not in known:
                listed = ", ".join(sorted(known)) or "—"
                raise refused("no-name", name=str(name)[:80], known=listed)
        if statement.topic == "failure-domain":
            self._domain(statement)
        if statement.topic == "admins" and not _is_count(statement.values.get("count")):
            raise refused("no-count")

    def _domain(self, statement: Statement) -> None:
        """Raise UsageError unless the domain that is stated is the one that is configured."""
        place = self.settings.repositories[statement.subject.partition("/")[2]]
        stated = statement.values.get("domain")
        if stated is None or stated != place.failure_domain:
            raise refused("domain", known=place.failure_domain or "—")

    def names(self, topic: str) -> frozenset[str]:
        """Return what a statement on a topic may name: attackers, or consoles and repositories."""
        if topic == "attacker":
            return frozenset(AttackerKind) - {AttackerKind.BACKUP_WRITER.value}
        types = {one.type for one in self.settings.repositories.values()}
        return frozenset({*self.settings.repositories, *types})

    # --------------------------------------------------------------------------------- waivers

    def waive(
        self,
        *,
        control: str,
        subject: Subject,
        reason: str,
        owner: str,
        until: date,
        uid: int,
        now: datetime,
    ) -> tuple[int, bool]:
        """Record that somebody asks for an exception; return its number, and whether it waits.

        Raises UsageError for one that is not taken.
        """
        entry = self.catalogue.entries.get(control)
        if entry is None or not entry.built:
            raise refused("no-control", control=control[:80])
        if subject not in subjects(self.settings) or subject.partition("/")[0] != entry.scope:
            raise refused("not-of-control", control=control, subject=subject[:80])
        one_line_or_refused("reason", reason)
        one_line_or_refused("owner", owner)
        waits = self._needs_second(control, subject)
        self.check_until(until, LONGEST_VITAL if waits else LONGEST, now)
        data = {
            "control": control,
            "reason": reason,
            "owner": owner,
            "person": person_of(self.settings, uid),
            "until_at": to_us(end_of(until, self.settings.site.timezone)),
            "needs_confirmation": waits,
        }
        return self.record("waiver.asked", subject, data, uid, now), waits

    def confirm(self, seq: int, *, uid: int, now: datetime) -> None:
        """Record that a second person accepts an exception. Raises UsageError when he may not."""
        waiver = self._waiver(seq, now, WaiverState.WAITING)
        person = person_of(self.settings, uid)
        if person is None:
            raise refused("nobody", author=author(uid))
        if "rssi" not in self.settings.people[person].roles:
            raise refused("not-rssi", person=person)
        if uid_of(waiver.asked.author) == uid or waiver.person == person:
            raise refused("own-waiver", person=person)
        zone = ZoneInfo(self.settings.site.timezone)
        asked_on = waiver.asked.observation.observed_at.astimezone(zone).date()
        longest = end_of(asked_on + LONGEST_VITAL, self.settings.site.timezone)
        if waiver.until_at > to_us(longest):
            raise refused("too-long", days=LONGEST_VITAL.days)
        self.record("waiver.confirmed", waiver.subject, {"waiver": seq, "person": person}, uid, now)

    def end(self, seq: int, reason: str, *, uid: int, now: datetime) -> None:
        """Record that an exception ends before its day; raises UsageError for one that is over."""
        one_line_or_refused("reason", reason)
        waiver = self._waiver(seq, now, WaiverState.WAITING, WaiverState.IN_FORCE)
        self.record("waiver.ended", waiver.subject, {"waiver": seq, "reason": reason}, uid, now)

    def waivers(self, now: datetime) -> list[dict[str, Json]]:
        """Return every exception ever asked for, as JSON values."""
        return [asdict(one) for one in self._waivers().pictures(now, self._demands)]

    def _waivers(self) -> Waivers:
        return Waivers(self.store.facts(kinds=WAIVERS))

    def _waiver(self, seq: int, now: datetime, *wanted: WaiverState) -> Waiver:
        found = self._waivers().get(seq)
        if found is None:
            raise refused("no-waiver", seq=seq)
        second = self._demands(found.control, found.subject)
        state = found.state(now, needs_second=second)
        if state not in wanted:
            raise refused("waiver-state", seq=seq, state=f"@waiver.state.{state}")
        return found

    def _needs_second(self, control: str, subject: Subject) -> bool:
        """Tell whether an exception that is asked for now needs a second person.

        What could become critical counts as what is.
        """
        criticality = self.criticality(subject)
        severity = self.catalogue.policy(control, criticality).severity
        return needs_second(criticality, severity) or self._demands(control, subject)

    def _demands(self, control: str, subject: Subject) -> bool:
        """Tell whether the finding that stands demands a second person."""
        severity = next(
            (
                one.severity
                for one in self.store.findings()
                if (one.control, one.subject) == (control, subject)
            ),
            Severity.INFO,
        )
        return needs_second(self.criticality(subject), severity)

    # --------------------------------------------------------------------------------- details

    def criticality(self, subject: Subject) -> Criticality:
        """Return how critical a subject is, as the settings say."""
        family, _, name = subject.partition("/")
        owner = self.settings.applications.get(name.partition(".")[0])
        if family in ("application", "job"):
            return owner.criticality if owner is not None else Criticality.C3
        if family == "repository" and name in self.settings.repositories:
            return self.settings.criticality_of(name)
        every = (one.criticality for one in self.settings.applications.values())
        return min(every, default=Criticality.C3)

    def check_until(self, until: date, longest: timedelta, now: datetime) -> None:
        """Raise UsageError for a last day that is past, or further away than `longest`."""
        today = now.astimezone(ZoneInfo(self.settings.site.timezone)).date()
        if until < today:
            raise refused("past", until=until.isoformat())
        if until - today > longest:
            raise refused("too-long", days=longest.days)

    def record(
        self, kind: str, subject: Subject, data: Mapping[str, Json], uid: int, now: datetime
    ) -> int:
        """Record and seal what somebody said; return the number of the record."""
        # What becomes of a statement happens once; statements alike at one moment are two.
        named = (data.get(family) for family in ("attestation", "waiver", "override"))
        number = next(filter(None, named), None) or uuid4().hex
        recorded = self.store.append(
            [
                Observation(
                    kind=kind,
                    subject=subject,
                    origin=Origin.ATTESTED,
                    observed_at=now,
                    data=dict(data),
                    key=f"{kind}/{subject}/{uid}/{number}",
                )
            ],
            author=author(uid),
        )
        self.store.seal()
        return recorded[0].seq


def one_line_or_refused(what: str, text: str) -> None:
    """Raise UsageError unless a text is one line that people can read."""
    if not one_line(text) or len(text) > LONGEST_TEXT or text.startswith("@"):
        raise refused("not-one-line", what=f"@statements.part.{what}", longest=LONGEST_TEXT)


def _values(values: Mapping[str, int | str]) -> None:
    for name, value in values.items():
        if not _VALUE_NAME.match(name):
            raise refused("value-name", name=name[:80])
        one_line_or_refused("value", str(value))
    if len(values) > _MOST_VALUES:
        raise refused("too-many-values", most=_MOST_VALUES)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
