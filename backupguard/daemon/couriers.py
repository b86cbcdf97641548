"""Threads that take events from the store to where they are read: the journal, a syslog collector.

Each channel has its own line in the store and its own thread, so that a collector that does not answer
holds up nothing. What could not be handed over stays in line, and is tried again after a while that
doubles up to five minutes.
"""

from __future__ import annotations

import queue
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import structlog

from backupguard.daemon.log import event_line
from backupguard.errors import BackupGuardError
from backupguard.model import JOURNAL, SYSLOG
from backupguard.notify import Event, derive, syslog
from backupguard.notify.ecs import Sender, line
from backupguard.notify.telling import PlainWords

if TYPE_CHECKING:
    from backupguard.settings import Settings
    from backupguard.store.outbox import Line, Waiting

log = structlog.get_logger(__name__)

#: Seconds between two looks for facts that other processes added.
LOOK_EVERY_S = 5.0
#: Facts handed over at once.
BATCH = 200
_FIRST_WAIT = timedelta(seconds=5)
_LONGEST_WAIT = timedelta(minutes=5)


class Outbox(Protocol):
    """What a courier needs of the store."""

    store_id: str

    def waiting(self, channel: str, limit: int = 100) -> tuple[Waiting, ...]:
        """Return what a channel has to be told next."""

    def sent(self, channel: str, seqs: Sequence[int]) -> None:
        """Note that a channel was told of these facts."""

    def postpone(self, channel: str, seqs: Sequence[int], until: datetime) -> None:
        """Note that telling failed, and when to try again."""

    def line(self, channel: str) -> Line:
        """Return how much is owed to a channel."""

    def head(self) -> tuple[int, bytes]:
        """Return number and hash of the newest record."""


def wait_after(attempts: int) -> timedelta:
    """Return how long to wait after so many attempts in vain."""
    doubled: int = 2 ** min(max(attempts - 1, 0), 10)
    return min(_FIRST_WAIT * doubled, _LONGEST_WAIT)


class Courier:
    """Takes the events of one channel from the store to `send`, in order, until each has arrived.

    Without `wanted`, the channel is not configured, and an idle daemon asks the store for nothing.
    """

    def __init__(
        self,
        store: Outbox,
        channel: str,
        send: Callable[[Sequence[Event]], None],
        clock: Callable[[], datetime],
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self.channel = channel
        self._wanted = wanted
        self._store = store
        self._send = send
        self._clock = clock
        self._seen = -1
        self._owing = True
        self._failing: str | None = None
        self._ended = False
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name=f"tell-{channel}", daemon=True)

    def start(self) -> None:
        """Begin to look for what is owed."""
        self._thread.start()

    def stop(self) -> None:
        """Tell what is still owed, if that is possible at once, and end."""
        self._ended = True
        self._wake.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def deliver(self) -> int:
        """Hand over everything that is owed and may be tried; return the number of facts.

        Raises StoreError. What goes wrong in handing over is logged, and tried again later.
        """
        told = 0
        while batch := self._store.waiting(self.channel, BATCH):
            seqs = [one.fact.seq for one in batch]
            events = [event for one in batch for event in self._events(one)]
            try:
                if events:
                    self._send(events)
            except BackupGuardError as error:
                self._failed(batch, error.code)
                return told
            except Exception:  # a bug in one event must not end the thread
                log.exception("notify.bug", channel=self.channel)
                self._failed(batch, "bug")
                return told
            self._store.sent(self.channel, seqs)
            told += len(seqs)
            if self._failing is not None:
                log.info("notify.recovered", channel=self.channel, facts=told)
                self._failing = None
        return told

    def _events(self, one: Waiting) -> tuple[Event, ...]:
        """Return what is told of a fact; nothing where a bug of ours is in the way of all others."""
        try:
            return derive(one.fact, one.before, self._store.store_id)
        except Exception:  # logged with the fact's number: the fact itself is in the evidence
            log.exception("notify.untold", channel=self.channel, seq=one.fact.seq)
            return ()

    def _failed(self, batch: Sequence[Waiting], code: str) -> None:
        first = batch[0]
        until = self._clock() + wait_after(first.attempts + 1)
        self._store.postpone(self.channel, [first.fact.seq], until)
        if self._failing != code:  # once, not every five minutes
            owed = self._store.line(self.channel)
            log.warning("notify.failed", channel=self.channel, code=code, waiting=owed.count)
        self._failing = code

    def _look(self) -> None:
        head = self._store.head()[0]
        if head != self._seen or self._owing:
            self.deliver()
            self._seen, self._owing = head, self._failing is not None

    def _loop(self) -> None:
        while not self._ended:
            try:
                if self._wanted():
                    self._look()
            except BackupGuardError as error:
                log.warning("notify.store", channel=self.channel, code=error.code)
            try:
                self._wake.get(timeout=LOOK_EVERY_S)
            except queue.Empty:
                continue
        try:
            self.deliver()
        except BackupGuardError as error:
            log.warning("notify.store", channel=self.channel, code=error.code)


def sender(settings: Settings, language: str | None = None) -> Sender:
    """Return who tells, by these settings."""
    from backupguard.model import application_subject

    named = {application_subject(id_): one.name for id_, one in settings.applications.items()}
    words = PlainWords(language or settings.site.language, settings.site.timezone)
    return Sender(site=settings.site.name, host=socket.gethostname(), words=words, names=named)


def to_journal(settings: Callable[[], Settings]) -> Callable[[Sequence[Event]], None]:
    """Return what writes events to standard error, where journald takes them."""

    def send(events: Sequence[Event]) -> None:
        who = sender(settings())
        text = "".join(event_line(line(event, who), int(event.level)) for event in events)
        sys.stderr.write(text)
        sys.stderr.flush()

    return send


def to_syslog(settings: Callable[[], Settings]) -> Callable[[Sequence[Event]], None]:
    """Return what hands events to the collector of the settings as they are at that moment."""

    def send(events: Sequence[Event]) -> None:
        chosen = settings()
        if chosen.soc.syslog is not None:
            language = chosen.soc.syslog.language
            syslog.deliver(chosen.soc.syslog, sender(chosen, language), events)

    return send


def couriers(
    store: Outbox, settings: Callable[[], Settings], clock: Callable[[], datetime]
) -> tuple[Courier, ...]:
    """Return the couriers of this daemon; one whose channel is not configured has nothing to do."""
    return (
        Courier(store, JOURNAL, to_journal(settings), clock),
        Courier(store, SYSLOG, to_syslog(settings), clock, lambda: SYSLOG in settings().channels),
    )
