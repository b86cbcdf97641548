"""The server: bounds on connections, and who calls over a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from backupguard.web import server as module
from tests.unit.web.serving import serving


async def peer(request: Request) -> PlainTextResponse:
    await request.body()
    return PlainTextResponse(f"{request.scope['client']}")


APP = Starlette(routes=[Route("/", peer, methods=["GET", "POST"])])


def serve(path: Path, scenario: Callable[[], Awaitable[bytes]]) -> bytes:
    async def main() -> bytes:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        served = module.server(APP, keep_alive_s=1)
        task = asyncio.create_task(served.serve(sockets=[listener]))
        while not served.started:
            await asyncio.sleep(0.01)
        try:
            return await asyncio.wait_for(scenario(), 5)
        finally:
            served.should_exit = True
            await task

    return asyncio.run(main())


def test_the_kernel_says_who_calls(tmp_path: Path) -> None:
    async def ask() -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer

    assert f"('uid', {os.getuid()})".encode() in serve(tmp_path / "s", ask)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"GET / HT",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab",
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HT",
    ],
)
def test_an_unfinished_request_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    monkeypatch.setattr(module, "REQUEST_WITHIN_S", 0.3)

    async def dawdle() -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(start)
        began = asyncio.get_running_loop().time()
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        writer.close()
        assert asyncio.get_running_loop().time() - began < 2
        return b""

    serve(tmp_path / "s", dawdle)


# ------------------------------------------------------------------------------- who reads answers

LARGE = b"x" * (16 << 20)


async def large(_scope: object, _receive: object, send: Callable[..., Awaitable[None]]) -> None:
    headers = [(b"content-length", str(len(LARGE)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": LARGE})


def asked(port: int, line: bytes = b"") -> socket.socket:
    """Return a connection that has asked for it, and holds little of the answer by itself."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
    made.settimeout(5)
    made.connect(("127.0.0.1", port))
    made.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n" + line + b"\r\n")
    return made


@pytest.mark.parametrize("line", [b"", b"connection: close\r\n"], ids=["kept", "closed"])
def test_a_client_that_never_finishes_reading_is_hung_up_on(
    monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    monkeypatch.setattr(module, "READ_WITHIN_S", 0.2)
    with serving(large) as port:  # type: ignore[arg-type]
        stuck = asked(port, line)
        stuck.recv(100)
        time.sleep(0.6)
        with contextlib.suppress(ConnectionResetError):
            taken = 100
            while got := stuck.recv(1 << 20):
                taken += len(got)
            assert taken < len(LARGE)
        stuck.close()
        with asked(port) as good:
            assert read_whole(good) > len(LARGE)


def read_whole(client: socket.socket) -> int:
    return taken_of(client, len(LARGE))


def taken_of(client: socket.socket, wanted: int) -> int:
    taken = 0
    while taken < wanted:
        got = client.recv(1 << 18)
        assert got, taken
        taken += len(got)
    return taken


def test_a_slow_reader_who_keeps_reading_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_WITHIN_S", 0.2)
    with serving(large) as port:  # type: ignore[arg-type]
        taken, slow = 0, asked(port)
        for _ in range(10):  # longer than the clock and than an idle connection may live
            taken += taken_of(slow, 512 * 1024)
            time.sleep(0.12)
        taken_of(slow, len(LARGE) - taken)
        slow.close()


def test_readers_at_once_get_the_same_and_a_stuck_one_disturbs_nobody() -> None:
    with serving(large) as port, ThreadPoolExecutor(3) as pool:  # type: ignore[arg-type]
        stuck = [asked(port) for _ in range(12)]  # more than are answered at once
        assert set(pool.map(lambda _: read_whole_of(port), range(3))) == {True}
        for one in stuck:
            one.close()


def read_whole_of(port: int) -> bool:
    with asked(port, b"connection: close\r\n") as client:
        return read_whole(client) > len(LARGE)
