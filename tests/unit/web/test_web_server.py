"""The server: bounds on connections, and who calls over a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from backupguard.web import server as module


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
