"""A real server on a free port of this host, in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp

from backupguard.web import server as module


@contextmanager
def serving(app: ASGIApp, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve until the end of the block; give the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    served = module.server(app, tls=tls, keep_alive_s=1)
    thread = threading.Thread(target=lambda: asyncio.run(served.serve(sockets=[listener])))
    thread.start()
    try:
        while not served.started:
            thread.join(0.01)
        yield listener.getsockname()[1]
    finally:
        served.should_exit = True
        thread.join(10)
        listener.close()
