"""uvicorn as BackupGuard runs it: on sockets of our own, with bounds, without its signal handling."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Generator
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds in which a connection must have sent a complete request.
REQUEST_WITHIN_S = 10.0

#: Bytes a request line with its headers may have.
HEADERS_LIMIT = 16 * 1024

_PEER = struct.Struct("3i")


class BoundedProtocol(H11Protocol):
    """Closes a connection that has not sent a complete request in time.

    Over a Unix socket the peer's uid stands in `scope["client"]` as ("uid", 1000): the kernel's word,
    not the client's.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock, and ask the kernel who calls where that can be asked."""
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family == socket.AF_UNIX:
            raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            self.client = ("uid", _PEER.unpack(raw)[1])
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clock."""
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; the clock runs from a request's first byte to its last."""
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._watch()
        else:
            self._forget()

    def _watch(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_WITHIN_S, self._give_up)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        # abort, not close: a peer that reads nothing would keep a polite end waiting for ever
        self.transport.abort()


class QuietServer(uvicorn.Server):
    """A uvicorn server that leaves signals to the daemon."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield


def server(app: ASGIApp, *, keep_alive_s: int = 5) -> QuietServer:
    """Return a server for `app`; the caller binds the sockets and awaits `serve(sockets=…)`."""
    options: dict[str, Any] = {
        "http": BoundedProtocol,
        "ws": "none",
        "loop": "asyncio",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "h11_max_incomplete_event_size": HEADERS_LIMIT,
        "timeout_keep_alive": keep_alive_s,
        "timeout_graceful_shutdown": 3,
        "backlog": 64,
    }
    return QuietServer(uvicorn.Config(app, **options))
