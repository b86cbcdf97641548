"""Judges: builds views, calls controls, compares with what stood, publishes what changed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime

import structlog

from backupguard.assess import due, media, pictures, published, reach, settling, tampering, unproven
from backupguard.assess.chain import ChainWatch
from backupguard.assess.history import History
from backupguard.assess.picture import (
    STANDING_WAIVERS,
    Assessment,
    EvidenceState,
    WaiverPicture,
)
from backupguard.assess.views import Views, subjects, touched
from backupguard.assess.waivers import needs_second
from backupguard.contracts import FindingChange, Store
from backupguard.controls import Catalogue, controls_of
from backupguard.errors import Busy
from backupguard.model import (
    SITE,
    Criticality,
    Finding,
    Judgement,
    Message,
    NotMeasurableCause,
    Scope,
    Severity,
    Status,
    Subject,
    View,
    to_us,
)
from backupguard.settings import Settings

log = structlog.get_logger(__name__)

#: Says how the chain of records stands; called once per assessment, with the time.
EvidenceCheck = Callable[[datetime], EvidenceState]
_Key = tuple[str, Subject]
_QUIET = frozenset({Status.COMPLIANT, Status.NOT_APPLICABLE, Status.WAIVED})


class Assessor:
    """Judges one store under one configuration; remembers between calls what it has read.

    Not for several threads at once. `evidence` tells how the chain of records stands; left out, the
    chain is verified once a day.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        catalogue: Catalogue,
        *,
        evidence: EvidenceCheck | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._catalogue = catalogue
        self._controls = controls_of(catalogue)
        self._evidence = evidence or ChainWatch(store).state
        self._history = History(store)
        self._seq = 0
        self._fresh: dict[_Key, Finding] = {}
        self._overridden: frozenset[int] = frozenset()
        self._references = {
            control: tuple(
                {
                    "reference": one.id,
                    "identifier": row.identifier,
                    "text": row.text,
                    "confidence": row.confidence.value,
                }
                for one, row in catalogue.references(control)
            )
            for control in catalogue.entries
        }

    def assess(self, now: datetime, *, full: bool = True) -> Assessment:
        """Judge, record what changed, write `status.json`, and return everything.

        With `full` false, only subjects with facts newer than the last call are judged again. When
        another process is recording findings at this moment, this one judges and records nothing: the
        other's findings stand. Raises StoreError; a `status.json` that cannot be written is logged.
        """
        try:
            with self._store.lock("assess"):
                assessment = self._assess(now, full=full, record=True)
        except Busy:
            assessment = self._assess(now, full=full, record=False)
        try:
            published.publish(assessment, self._settings)
        except OSError as error:
            log.error("status.unwritable", file=published.NAME, reason=error.strerror)
        return assessment

    def judge(self, now: datetime) -> Assessment:
        """Judge everything and return it; nothing is recorded or written."""
        return self._assess(now, full=True, record=False)

    # ------------------------------------------------------------------------------------------

    def _assess(self, now: datetime, *, full: bool, record: bool) -> Assessment:
        head, changed = self._store.changed_since(self._seq)
        standing = {(f.control, f.subject): f for f in self._store.findings()}
        self._history.update()
        evidence = self._evidence(now)
        views = Views(self._store, self._settings, self._history, now, evidence)
        latest = self._latest(now)
        overridden = self._history.overrides.standing(latest)
        # another demand, or the catalogue's again: of whom, each control decides
        full = full or not self._fresh or overridden != self._overridden
        self._overridden = overridden
        wanted = None if full else touched(self._settings, changed)
        if wanted is not None:  # what a waiver covered comes back the moment its day has passed
            wanted |= self._history.waivers.over(now)
        found = self._judged(views, standing, wanted, now)
        gone = {
            key: settling.removed(before, now)
            for key, before in standing.items()
            if key not in found
        }
        found |= {key: f for key, f in gone.items() if f.status is not Status.NOT_APPLICABLE}
        if record:
            head = self._record(standing, {**gone, **found}, head)
        self._fresh = found
        self._seq = head
        return self._picture(views, found, evidence, head, now)

    def _judged(
        self,
        views: Views,
        standing: dict[_Key, Finding],
        wanted: Collection[Subject] | None,
        now: datetime,
    ) -> dict[_Key, Finding]:
        found: dict[_Key, Finding] = {}
        latest = self._latest(now)
        for subject in subjects(self._settings):
            scope = _scope(subject)
            if wanted is not None and subject not in wanted:
                for control in self._controls:
                    key = (control.id, subject)
                    if control.scope is scope and key in self._fresh:
                        found[key] = self._fresh[key]
                continue
            view = views.of(subject)
            for control in self._controls:
                if control.scope is not scope:
                    continue
                key = (control.id, subject)
                criticality = views.criticality(subject)
                judgement = self._ask(control.id, view, criticality, now, latest)
                before = standing.get(key)
                judgement, waiver = self._history.waivers.apply(
                    *key, criticality, settling.as_urgent(before, judgement), latest
                )
                found[key] = settling.settle(before, *key, judgement, now, waiver=waiver)
        return found

    def _latest(self, now: datetime) -> datetime:
        """Return the time that exceptions end by: a clock that is set back makes none good again."""
        newest = self._history.clock.newest()
        return now if newest is None else max(now, newest)

    def _ask(
        self, control: str, view: View, criticality: Criticality, now: datetime, latest: datetime
    ) -> Judgement:
        """Return a control's judgement; one that fails is a defect of ours, and measures nothing."""
        policy, changed = self._history.overrides.policy(
            self._catalogue, control, criticality, view.subject, latest
        )
        chosen = next(c for c in self._controls if c.id == control)
        try:
            judgement = chosen.judge(unproven.evidence(control, view), policy, now)
            judgement = replace(judgement, facts=(*judgement.facts, *changed))
            return unproven.capped(control, judgement, view)
        except Exception:  # one control's defect must not silence all the others
            log.exception("control.bug", control=control, subject=view.subject)
            return Judgement(
                status=Status.NOT_MEASURABLE,
                cause=NotMeasurableCause.LOST,
                severity=policy.severity,
                reason=Message(id="reason.bug"),
            )

    def _record(self, standing: dict[_Key, Finding], found: dict[_Key, Finding], head: int) -> int:
        """Record what changed; return up to which record everything has been judged."""
        changes = [
            FindingChange(before=standing.get(key), after=after)
            for key, after in found.items()
            if settling.differs(standing.get(key), after)
        ]
        if not changes:
            return head
        recorded = self._store.record_findings(changes)
        for change in changes:
            level = log.info if change.after.status in _QUIET else log.warning
            level(
                "finding.changed",
                control=change.after.control,
                subject=change.after.subject,
                before=change.before.status.value if change.before else None,
                after=change.after.status.value,
                severity=change.after.severity.value,
                reason=change.after.reason.id,
            )
        # Only when nobody recorded anything in between are our own records the newest ones.
        contiguous = bool(recorded) and recorded[-1].seq == head + len(recorded)
        return recorded[-1].seq if contiguous else head

    def _picture(
        self,
        views: Views,
        found: dict[_Key, Finding],
        evidence: EvidenceState,
        head: int,
        now: datetime,
    ) -> Assessment:
        every = subjects(self._settings)
        gathered = pictures.Gathered(
            store=self._store,
            settings=self._settings,
            catalogue=self._catalogue,
            history=self._history,
            latest=views.latest,
            views={s: views.of(s) for s in every if _scope(s) is Scope.JOB},
            now=now,
            forecast=views.forecast,
        )
        paused, paused_until = pictures.paused(self._history, now)
        anchored = views.latest.get(SITE, {}).get("evidence.anchored")
        criticalities = {subject: views.criticality(subject) for subject in every}
        for _, subject in found:
            criticalities.setdefault(subject, Criticality.C3)  # no longer in the configuration
        return Assessment(
            site=self._settings.site.name,
            language=self._settings.site.language,
            timezone=self._settings.site.timezone,
            judged_at=now,
            head_seq=head,
            findings=tuple(found[key] for key in sorted(found)),
            criticalities=criticalities,
            names=pictures.names(self._settings),
            titles={
                entry.id: {"fr": entry.title.fr, "en": entry.title.en}
                for entry in self._catalogue.entries.values()
            },
            applications=tuple(pictures.applications(gathered)),
            jobs=tuple(pictures.jobs(gathered)),
            tests=tuple(pictures.tests(gathered)),
            due=tuple(due.pictures(views, self._settings, self._catalogue, self._history, now)),
            probes=tuple(pictures.probes(gathered)),
            media=tuple(media.pictures(self._settings, views.latest, views.media_looked_at, now)),
            immutability=tuple(
                tampering.pictures(
                    self._settings,
                    self._history.tried,
                    self._history.overrides,
                    views.latest,
                    self._catalogue,
                    now,
                )
            ),
            isolation=tuple(reach.pictures(self._settings, self._history.looks, now)),
            evidence=evidence,
            anchored_at=to_us(anchored.observation.observed_at) if anchored else None,
            **pictures.self_test(self._history),
            paused=paused,
            paused_until=paused_until,
            last_cycle_at=to_us(now),
            commissioning_until=pictures.commissioning_until(self._settings),
            care_domain=self._catalogue.domain,
            attestations=self._history.attestations.standing(now),
            waivers=self._waivers(views, found, now),
            overrides=self._history.overrides.told(self._latest(now), self._catalogue),
            catalogue_name=self._catalogue.name.model_dump(),
            references=self._references,
            forecast=views.forecast,
        )

    def _waivers(
        self, views: Views, found: dict[_Key, Finding], now: datetime
    ) -> tuple[WaiverPicture, ...]:
        """Return the waivers that hold or wait for their second person."""
        every = frozenset(subjects(self._settings))

        def demands(control: str, subject: Subject) -> bool:
            finding = found.get((control, subject))
            severity = finding.severity if finding is not None else Severity.INFO
            criticality = views.criticality(subject) if subject in every else Criticality.C3
            return needs_second(criticality, severity)

        every_one = self._history.waivers.pictures(now, demands)
        return tuple(one for one in every_one if one.state in STANDING_WAIVERS)


def _scope(subject: Subject) -> Scope:
    return Scope(subject.partition("/")[0])
