"""uvicorn as BackupGuard runs it: on sockets of our own, with bounds, without its signal handling."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import ssl
import struct
import sys
import termios
from collections.abc import Generator
from typing import Any

import h11
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import Server

#: Seconds in which a connection must have sent a complete request.
REQUEST_WITHIN_S = 10.0

#: Seconds in which somebody who reads an answer must have taken at least so many bytes of it.
READ_WITHIN_S = 20.0
READ_AT_LEAST = 64 * 1024

#: Bytes a request line with its headers may have.
HEADERS_LIMIT = 16 * 1024

_PEER = struct.Struct("3i")


class BoundedProtocol(H11Protocol):
    """Closes a connection that has not sent a complete request in time, or does not read its answer.

    Over a Unix socket the peer's uid stands in `scope["client"]` as ("uid", 1000): the kernel's word,
    not the client's.
    """

    _deadline: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock, and ask the kernel who calls where that can be asked."""
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family == socket.AF_UNIX:
            raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            self.client = ("uid", _PEER.unpack(raw)[1])
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clocks."""
        self._forget()
        self._is_read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; the clock runs from a request's first byte to its last."""
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._watch()
        else:
            self._forget()

    def pause_writing(self) -> None:
        """Start the clock of an answer that is not taken as fast as it is given."""
        super().pause_writing()
        if self._reading is None:
            self._unread = self._left()
            self._reading = self.loop.call_later(READ_WITHIN_S, self._see_whether_read)

    def resume_writing(self) -> None:
        """Stop it: nearly everything was taken."""
        self._is_read()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection, but not one whose answer is still on its way."""
        if self._reading is None:
            super().timeout_keep_alive_handler()
            return
        again = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        self.timeout_keep_alive_task = again

    def _see_whether_read(self) -> None:
        left = self._left()
        if self._unread - left < READ_AT_LEAST:
            self._give_up()
            return
        self._unread = left
        self._reading = self.loop.call_later(READ_WITHIN_S, self._see_whether_read)

    def _left(self) -> int:
        """Return the bytes that the peer has not acknowledged, the kernel's megabytes included."""
        left = self.transport.get_write_buffer_size()
        peer = self.transport.get_extra_info("socket")
        if peer is not None and peer.family != socket.AF_UNIX and peer.fileno() >= 0:
            waiting = fcntl.ioctl(peer.fileno(), termios.TIOCOUTQ, bytes(4))
            left += int.from_bytes(waiting, sys.byteorder)
        return left

    def _is_read(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

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


class QuietServer(Server):
    """A uvicorn server that leaves signals to the daemon."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield


def server(
    app: ASGIApp, *, keep_alive_s: int = 5, tls: ssl.SSLContext | None = None
) -> QuietServer:
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
    config = Config(app, **options)
    config.load()
    config.ssl = tls
    return QuietServer(config)
