"""The thread `notices`: mails what is wrong by cause, and pings the dead man's URL while judging works.

A notice is recorded first, with its place in the line of the channel `mail` (`store.outbox`), and sent
afterwards: a kill in between sends it at the next start, with the same Message-ID.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import structlog

from backupguard.assess import Assessment, acknowledged
from backupguard.contracts import SYSTEM_TRUST, Trust
from backupguard.errors import AccessRefused, BackupGuardError
from backupguard.evidence.kinds import NoticeEvent
from backupguard.http import BoundedHttp
from backupguard.language import Words
from backupguard.model import MAIL, SITE, Criticality, Observation, Status, to_us
from backupguard.notify import causes, notices, report_mail
from backupguard.processes import Cancellation
from backupguard.resources import shipped
from backupguard.settings.schedule import last_slot
from backupguard.settings.secrets import read_secret

if TYPE_CHECKING:
    from backupguard.controls import Catalogue
    from backupguard.notify.letters import Desk
    from backupguard.settings import Settings
    from backupguard.settings.notify import DeadMan, Mail
    from backupguard.store.outbox import Waiting
    from backupguard.store.sql import SqlStore

log = structlog.get_logger(__name__)

#: Seconds between two looks at what waits.
LOOK_EVERY_S = 5.0
_PING_PATIENCE_S = 10
_HOUR = timedelta(hours=1)
_FIRST_WAIT_S, _LONGEST_WAIT_S = 60, 900

T = TypeVar("T")


class Notices:
    """Tells people. `working` says whether judging works now: without that nothing says "alive".

    Everything but `heard` belongs to the thread, or to a test instead of it.
    """

    def __init__(
        self,
        store: SqlStore,
        settings: Callable[[], Settings],
        catalogue: Callable[[], Catalogue],
        clock: Callable[[], datetime],
        working: Callable[[], bool],
    ) -> None:
        self._store = store
        self._settings = settings
        self._catalogue = catalogue
        self._clock = clock
        self._working = working
        self._ledger = notices.Ledger()
        self._latest: Assessment | None = None
        self._composed: Assessment | None = None
        self._looked: Assessment | None = None
        self._acknowledged = acknowledged.Acknowledgements()
        self._learned_seq = 0
        self._report_seq = 0
        self._report_keys: set[str] = set()
        self._silent_since: dict[str, int] = {}
        self._held: dict[str, NoticeEvent] = {}
        self._bare: set[int] = set()  # reports whose attachments the relay refuses
        self._sent_at: deque[datetime] = deque()
        self._pinged_at = float("-inf")
        self._ping_failed = False
        self._wake = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._loop, name="notices", daemon=True)

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def stop(self) -> None:
        """End; what waits is told after the next start."""
        self._ended = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def heard(self, assessment: Assessment) -> None:
        """Take what was concluded just now. From any thread."""
        self._latest = assessment
        self._wake.set()

    def _loop(self) -> None:
        while not self._ended:
            self._wake.wait(LOOK_EVERY_S)
            self._wake.clear()
            if not self._ended:
                self.turn()

    def turn(self) -> None:
        """Do everything that is due; what fails is logged and tried again later."""
        notify = self._settings().notify
        if self._latest is not None and self._latest is not self._looked:
            self._try(self._reports, self._latest)
        if notify.mail is not None:
            self._try(self._mail, notify.mail)
        if notify.dead_man is not None:
            self._try(self._ping, notify.dead_man)

    @staticmethod
    def _try(work: Callable[[T], None], wanted: T) -> None:
        try:
            work(wanted)
        except BackupGuardError as error:
            log.exception("notices.failed", code=error.code)
        except Exception:  # a bug in telling must not end the telling
            log.exception("notices.bug")

    # ------------------------------------------------------------------------------------ reports

    def _reports(self, assessment: Assessment) -> None:
        """Record which reports are to be mailed, and of which people are to be reminded."""
        settings, now, before = self._settings(), self._clock(), self._report_seq
        kinds = (*acknowledged.KINDS, "report.closed")
        for fact in self._store.facts(after=self._learned_seq, kinds=kinds, subject=SITE):
            if fact.observation.kind in acknowledged.KINDS:
                self._acknowledged.learn(fact)
            self._learned_seq = fact.seq
        due: list[Observation] = []
        if settings.report.mail_to and self._learned_seq > before:
            directory = settings.state_directory / "reports"
            due += report_mail.mailings(self._store, before, directory, settings.report, now)
        if not _waived(assessment):
            criticality = min(assessment.criticalities.values(), default=Criticality.C3)
            allowed = self._catalogue().period("PRV-01", criticality, "report-ack") or 0
            awaited = self._acknowledged.awaited(settings.site.timezone)
            due += report_mail.reminders(awaited, timedelta(seconds=allowed), now)
        new = [one for one in due if one.key not in self._report_keys]
        if new:
            self._store.append(new)
            self._report_keys.update(one.key for one in new)
        # Not sooner: what could not be recorded now is due at the next look.
        self._report_seq = self._learned_seq
        self._looked = assessment

    # ------------------------------------------------------------------------------------ compose

    def _mail(self, mail: Mail) -> None:
        assessment = self._latest
        if assessment is None:
            return
        if assessment is not self._composed:
            self._compose(mail, assessment)
            self._composed = assessment
        if mail.alive is not None and self._working():
            self._say_alive(mail.alive, assessment)
        self._send(mail, assessment)

    def _compose(self, mail: Mail, assessment: Assessment) -> None:
        self._ledger.read(self._store.facts(after=self._ledger.seq, kinds=[notices.KIND]))
        now = self._clock()
        found = causes.causes(assessment, self._settings(), self._silent(assessment))
        events = list(notices.changes(found, self._ledger, mail, now))
        left = mail.per_hour - self._ledger.within_an_hour(now)
        if left <= 0:
            self._held.update({e["cause"]: e for e in events if e["event"] == "opened"})
            return
        events += notices.passed(self._held, events)
        self._held.clear()
        self._record(notices.grouped(events, mail, left), now)

    def _silent(self, assessment: Assessment) -> dict[str, int]:
        """Return since when each repository cannot be read, remembered beyond a restart."""
        down = causes.unreadable(assessment)
        now = to_us(assessment.judged_at)
        inspected = self._store.latest(list(down), ["repository.inspected"]) if down else {}
        since = {}
        for subject in down:
            told = self._ledger.told.get(f"unavailable/{subject}")
            fact = inspected.get(subject, {}).get("repository.inspected")
            seen = [now, self._silent_since.get(subject, now)]
            if told is not None and told.stands:
                seen.append(told.event["since_at"])
            if fact is not None and not fact.observation.data["reachable"]:
                seen.append(to_us(fact.observation.observed_at))
            since[subject] = min(seen)
        self._silent_since = since
        return since

    def _say_alive(self, cron: str, assessment: Assessment) -> None:
        now = self._clock()
        slot = last_slot(cron, now, assessment.timezone)
        told = self._ledger.told.get("alive")
        if told is not None and told.event["since_at"] >= to_us(slot):
            return
        counted = Counter(finding.status for finding in assessment.findings)
        values: dict[str, int | str] = {status.value: counted[status] for status in Status}
        event = notices.alive(slot, {**values, "judged_at": to_us(assessment.judged_at)})
        self._record([[event]], now)

    def _record(self, groups: Sequence[Sequence[NoticeEvent]], now: datetime) -> None:
        if groups:
            self._ledger.read(self._store.append([notices.notice(one, now) for one in groups]))

    # --------------------------------------------------------------------------------------- send

    def _send(self, mail: Mail, assessment: Assessment) -> None:
        """Hand over what waits, in order, as long as the relay takes it."""
        desk: Desk | None = None
        for waiting in self._store.waiting(MAIL):
            if self._ended or self._full(mail):
                return
            desk = desk or self._desk(mail, assessment)
            try:
                self._post(waiting, mail, desk)
            except BackupGuardError as error:
                self._postpone(waiting, error.code)
                if not (isinstance(error, AccessRefused) and error.code == "permission"):
                    return  # the relay, not this mail

    def _full(self, mail: Mail) -> bool:
        """Tell whether as many mails were sent in the last hour as may be."""
        now = self._clock()
        while self._sent_at and abs(now - self._sent_at[0]) >= _HOUR:
            self._sent_at.popleft()
        return len(self._sent_at) >= mail.per_hour

    def _desk(self, mail: Mail, assessment: Assessment) -> Desk:
        from backupguard.notify.letters import Desk

        language = mail.language or assessment.language

        def runbook(alert: str) -> str | None:
            try:
                return (shipped("runbooks") / f"{alert}.{language}.md").read_text(encoding="utf-8")
            except OSError:
                return None

        return Desk(
            mail=mail,
            words=Words(language, assessment.timezone),
            site=assessment.site,
            store=self._store.store_id,
            names=assessment.names,
            title=lambda control: self._catalogue().title(control, language),
            runbook=runbook,
        )

    def _post(self, waiting: Waiting, mail: Mail, desk: Desk) -> None:
        # here, because a daemon that mails nobody need not hold what mail takes
        from backupguard.notify import report_letters
        from backupguard.notify.letters import letter
        from backupguard.notify.smtp import RefusedForGood, post

        seq, report = waiting.fact.seq, waiting.fact.observation.kind in report_mail.KINDS
        if report:
            readers = self._settings().report.mail_to or mail.to
            bare = seq in self._bare
            message, to = report_letters.letter(waiting.fact, desk, readers, bare=bare)
        else:
            message, to = letter(waiting.fact, desk)
        password = read_secret(mail.password) if mail.password is not None else None
        try:
            refused = post(mail, password, message, to)
        except RefusedForGood as error:
            if not (report and message.is_multipart()):
                raise
            log.error(
                "mail.failed",
                notice=waiting.fact.observation.key,
                code=error.code,
                attempt=waiting.attempts + 1,
            )
            self._bare.add(seq)
            self._post(waiting, mail, desk)
            return
        self._bare.discard(seq)
        self._sent_at.append(self._clock())
        self._store.sent(MAIL, [seq])
        log.info("mail.sent", notice=waiting.fact.observation.key, refused=refused)

    def _postpone(self, waiting: Waiting, code: str) -> None:
        wait = min(_FIRST_WAIT_S * 2 ** min(waiting.attempts, 10), _LONGEST_WAIT_S)
        until = self._clock() + timedelta(seconds=wait)
        self._store.postpone(MAIL, [waiting.fact.seq], until)
        log.error(
            "mail.failed",
            notice=waiting.fact.observation.key,
            code=code,
            attempt=waiting.attempts + 1,
        )

    # --------------------------------------------------------------------------------------- ping

    def _ping(self, dead_man: DeadMan) -> None:
        """Ask for the URL, as long as judging works; a failure is logged once until it works."""
        now = time.monotonic()
        if now - self._pinged_at < dead_man.every.total_seconds() or not self._working():
            return
        self._pinged_at = now
        try:
            url = dead_man.url
            if dead_man.url_from is not None:
                url = read_secret(dead_man.url_from).reveal().decode().strip()
            trust = SYSTEM_TRUST if dead_man.ca is None else Trust(ca=dead_man.ca)
            status, _ = BoundedHttp(cancel=Cancellation()).get(
                str(url), headers={}, timeout_s=_PING_PATIENCE_S, trust=trust
            )
            code = None if 200 <= status < 300 else f"http_{status}"
        except BackupGuardError as error:
            code = error.code
        if code is not None and not self._ping_failed:
            log.error("dead-man.failed", code=code)
        self._ping_failed = code is not None


def _waived(assessment: Assessment) -> bool:
    """Tell whether somebody accepted that the evidence is as it is."""
    return any(
        finding.control == "PRV-01" and finding.status is Status.WAIVED
        for finding in assessment.findings
    )
