"""`backupguard run`: the daemon, from its first line to its last."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import structlog

from backupguard import __version__, runs
from backupguard.contracts import Store
from backupguard.daemon import configuration, control, log, memory, requests
from backupguard.daemon.clock import utc_now
from backupguard.daemon.loop import Daemon, Place, daemon_fact
from backupguard.daemon.operations import DaemonOperations
from backupguard.daemon.systemd import notifier
from backupguard.errors import EXIT_DONE, Busy, Unreachable
from backupguard.model import SITE, Message
from backupguard.processes.owner import become_owner
from backupguard.store import open_store
from backupguard.undumped import forbid_dumps
from backupguard.web.access import Access
from backupguard.web.app import create_app
from backupguard.web.server import server

events = structlog.get_logger(__name__)


def _bound(listen: str) -> socket.socket:
    """Return a socket bound to "host:port"; raise Unreachable with words when that is impossible."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, int(port)))
    except OSError as error:
        bound.close()
        values = {"listen": listen, "why": error.strerror or ""}
        raise Unreachable("refused", Message(id="daemon.cannot-listen", values=values)) from error
    return bound


def _record_start(store: Store, recovered: tuple[str, ...]) -> None:
    last = store.latest([SITE], ["daemon.started", "daemon.stopped"]).get(SITE, {})
    started, stopped = last.get("daemon.started"), last.get("daemon.stopped")
    clean = started is None or (stopped is not None and stopped.seq > started.seq)
    data = {
        "program_version": __version__,
        "host": socket.gethostname(),
        "recovered": list(recovered),
        "clean": clean,
    }
    store.append([daemon_fact("daemon.started", data, utc_now())])
    events.info("daemon.started", clean=clean, recovered=len(recovered))


def run_daemon(path: Path | None = None, *, verbose: bool = False) -> int:
    """Run the daemon until it is asked to end; return the exit status.

    Raises ConfigurationError before anything was opened, Busy (second_daemon) when another daemon
    holds the store, StoreError, and Unreachable when the port is taken.
    """
    forbid_dumps()
    memory.be_small()
    # until the loop listens for it, a reload asked for too early must not end the start
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    log.configure(verbose=verbose)
    settings, catalogue = configuration.load(path)
    become_owner(settings.state_directory)
    os.umask(0o077)
    access = Access(settings.http)
    store = open_store(
        settings.state_directory,
        settings.store.url,
        site=settings.site.name,
        timezone=settings.site.timezone,
        channels=settings.channels,
        progress=notifier().longer(),  # a large store takes its time to be copied and migrated
    )
    try:
        with ExitStack() as held:
            try:
                held.enter_context(store.lock("daemon"))
            except Busy as error:
                raise Busy("second_daemon", path=str(settings.state_directory)) from error
            listener = held.enter_context(_bound(settings.http.listen))
            # What dead runs left is removed once READY was said: that can take longer than a start may.
            _record_start(store, runs.close_dead(settings, store))
            effective = configuration.accept(
                store, settings, catalogue, author=requests.author(), now=utc_now()
            )
            place = Place(settings_path=path, effective=effective, store=store)
            asyncio.run(_main(place, listener, access))
    finally:
        store.close()
    return EXIT_DONE


async def _main(place: Place, listener: socket.socket, access: Access) -> None:
    daemon = Daemon(place, notifier())
    daemon.outputs.living = lambda: {**daemon.figures(), **access.figures()}
    operations = DaemonOperations(daemon)
    operators = control.listen(daemon.settings.runtime_directory)
    per_minute = daemon.settings.http.requests_per_minute
    pages = create_app(daemon.outputs, access, per_minute=per_minute)
    try:
        await daemon.live(
            [
                (server(pages, tls=access.context()), listener),
                (server(control.create_app(operations)), operators),
            ],
            operations.reload_soon,
        )
    finally:
        (daemon.settings.runtime_directory / control.SOCKET_NAME).unlink(missing_ok=True)
    events.info("daemon.stopped", reason=daemon.reason)
