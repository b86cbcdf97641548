"""How often one client may ask: its own bucket, refilled by the minute; scrapers are not counted."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from backupguard.settings.http import HttpSettings, Proxy
from backupguard.web import limits
from backupguard.web.access import Access
from backupguard.web.app import create_app
from backupguard.web.limits import Limited
from backupguard.web.published import Outputs


async def page(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class Clients:
    """Clients of one limited page, and a clock that is set."""

    def __init__(self, per_minute: int = 60, access: Access | None = None) -> None:
        self.now = 0.0
        self.app = Limited(page, per_minute, access, clock=lambda: self.now)

    def ask(self, client: str = "192.0.2.1", path: str = "/", **headers: str) -> httpx.Response:
        async def request() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, client=(client, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as made:
                return await made.get(path, headers=headers)

        return asyncio.run(request())


def test_beyond_the_limit_one_is_told_to_wait_and_others_are_not() -> None:
    clients = Clients(per_minute=10)
    told = [clients.ask().status_code for _ in range(12)]
    assert told == [200] * 10 + [429] * 2
    refused = clients.ask()
    assert refused.headers["retry-after"] == "7"
    assert clients.ask("192.0.2.2").status_code == 200
    clients.now += 7
    assert [clients.ask().status_code for _ in range(2)] == [200, 429]
    clients.now += 3600  # a bucket never holds more than a minute's worth
    assert [clients.ask().status_code for _ in range(11)] == [200] * 10 + [429]


@pytest.mark.parametrize("path", sorted(limits.EXEMPT))
def test_a_scraper_and_a_supervisor_are_never_refused(path: str) -> None:
    clients = Clients(per_minute=10)
    assert {clients.ask(path=path).status_code for _ in range(30)} == {200}
    assert clients.ask().status_code == 200


def test_a_network_of_one_household_is_one_client() -> None:
    clients = Clients(per_minute=10)
    told = [clients.ask(f"2001:db8::{n:x}").status_code for n in range(12)]
    assert told == [200] * 10 + [429] * 2
    assert clients.ask("2001:db8:0:1::1").status_code == 200
    assert clients.ask("::ffff:192.0.2.1").status_code == 200


def test_behind_a_proxy_everybody_has_a_bucket_of_their_own() -> None:
    proxy = Proxy(addresses=("192.0.2.1",), header="X-User")
    clients = Clients(per_minute=10, access=Access(HttpSettings(proxy=proxy)))
    claire = [clients.ask(**{"x-user": "claire"}).status_code for _ in range(11)]
    assert claire == [200] * 10 + [429]
    assert clients.ask(**{"x-user": "marc"}).status_code == 200
    # from anywhere else the header is only what somebody says of themselves
    told = [clients.ask("192.0.2.9", **{"x-user": f"u{n}"}).status_code for n in range(11)]
    assert told == [200] * 10 + [429]


def test_clients_are_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENTS", 5)
    clients = Clients()
    for n in range(20):
        clients.ask(f"192.0.2.{n}")
    assert len(clients.app._left) == 5


def test_the_application_is_limited(filled: Outputs) -> None:
    async def scenario() -> list[int]:
        transport = httpx.ASGITransport(app=create_app(filled, per_minute=3))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return [(await client.get("/static/style.css")).status_code for _ in range(5)]

    assert asyncio.run(scenario()) == [200] * 3 + [429] * 2
