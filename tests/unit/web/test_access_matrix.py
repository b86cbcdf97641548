"""Every route against everybody who may come: a route without a row here fails."""

from __future__ import annotations

import asyncio
import ssl
from http.client import HTTPSConnection
from pathlib import Path

import httpx
import pytest
from starlette.routing import Mount, Route

from backupguard.settings.http import HttpSettings, Proxy
from backupguard.web.access import Access
from backupguard.web.app import create_app
from backupguard.web.published import Outputs
from tests.certificates import Authority

from .serving import serving
from .test_web_access import CLIENTS, RIGHT, TLS, USERS, accessed

PAGE = (401, 200, 401, 200, 401, 403, 200)
OPEN = (200, 200, 200, 200, 200, 200, 200)
#: Nobody reads it; what is posted there carries its own proof.
POSTED = (401, 405, 401, 405, 401, 403, 405)

#: By method and route: an address, and what each of `CALLERS` is answered.
MATRIX = {
    ("GET", "/metrics"): ("/metrics", PAGE),
    ("GET", "/-/healthy"): ("/-/healthy", OPEN),
    ("GET", "/-/ready"): ("/-/ready", OPEN),
    ("GET", "/api/v1/runs"): ("/api/v1/runs", POSTED),
    ("GET", "/api/v1/vantage"): ("/api/v1/vantage", POSTED),
    ("POST", "/api/v1/runs"): ("/api/v1/runs", OPEN),
    ("POST", "/api/v1/vantage"): ("/api/v1/vantage", OPEN),
    ("GET", "/api/v1/status"): ("/api/v1/status", PAGE),
    ("GET", "/"): ("/", PAGE),
    ("GET", "/applications/{application}"): ("/applications/dpi", PAGE),
    ("GET", "/applications/{application}/calendar"): ("/applications/dpi/calendar", PAGE),
    ("GET", "/restore-tests/"): ("/restore-tests/", PAGE),
    ("GET", "/restore-tests/{test}"): ("/restore-tests/TEST", PAGE),
    ("GET", "/findings/"): ("/findings/", PAGE),
    ("GET", "/media/"): ("/media/", PAGE),
    ("GET", "/reports/"): ("/reports/", PAGE),
    ("GET", "/reports/{name}"): ("/reports/backupguard-2026-10-fr.html", PAGE),
    ("GET", "/evidence/"): ("/evidence/", PAGE),
    ("GET", "/evidence/{name}"): ("/evidence/bundle-2026-10.tar.gz", PAGE),
    ("GET", "/runbooks/"): ("/runbooks/", PAGE),
    ("GET", "/runbooks/{alert}"): ("/runbooks/BackupGuardAbsent", PAGE),
    ("GET", "/static"): ("/static/style.css", PAGE),
}
CALLERS = (
    "anonymous",
    "authenticated",
    "wrong password",
    "proxy",
    "proxy without a name",
    "not the proxy",
    "client certificate",
)
SIGNED = {"x-backupguard-vantage": "ward", "x-backupguard-signature": "x"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("matrix"))
    made.issue("server")
    made.issue("client")
    return made


def routes(outputs: Outputs) -> set[tuple[str, str]]:
    """Return every method and route of the application as it is served."""
    found = set()
    for route in create_app(outputs).routes:
        if isinstance(route, Mount):
            found.add(("GET", route.path))
            continue
        assert isinstance(route, Route), route
        posts = "POST" in (route.methods or ())
        found |= {("GET", route.path), *([("POST", route.path)] if posts else [])}
    return found


def test_every_route_has_its_row(filled: Outputs) -> None:
    assert routes(filled) == set(MATRIX)


def requests(filled: Outputs) -> list[tuple[str, str, tuple[int, ...]]]:
    assert filled.records is not None
    (test,) = filled.records.store.newest(["restore-test.result"], limit=1)
    return [
        (method, address.replace("TEST", str(test.seq)), expected)
        for (method, _), (address, expected) in MATRIX.items()
    ]


@pytest.fixture
def taking(filled: Outputs, monkeypatch: pytest.MonkeyPatch) -> Outputs:
    monkeypatch.setattr(filled, "take_report", lambda *_: (200, "taken"))
    monkeypatch.setattr(filled, "take_vantage", lambda *_: (200, "taken"))
    return filled


def access_of(caller: str, directory: Path) -> tuple[Access, str, dict[str, str]]:
    """Return who is let in, and from where and with what headers a caller comes."""
    if caller in ("anonymous", "authenticated", "wrong password"):
        wrong = {"authorization": "Basic cHJvbWV0aGV1czpubw=="}
        headers = {"authenticated": RIGHT, "wrong password": wrong}.get(caller, {})
        return accessed(directory, USERS), "127.0.0.1", headers
    proxied = Access(HttpSettings(proxy=Proxy(addresses=("10.1.2.3",), header="X-User")))
    place = "10.9.9.9" if caller == "not the proxy" else "10.1.2.3"
    return proxied, place, {} if caller == "proxy without a name" else {"x-user": "claire"}


@pytest.mark.parametrize("caller", CALLERS[:-1])
def test_who_is_let_in_where(taking: Outputs, tmp_path: Path, caller: str) -> None:
    access, place, headers = access_of(caller, tmp_path)
    column = CALLERS.index(caller)

    async def ask() -> dict[str, tuple[int, int]]:
        # a job's report is taken from this host only, and a proxy is on another one here
        transport = httpx.ASGITransport(app=create_app(taking, access), client=(place, 1))
        local = httpx.ASGITransport(app=create_app(taking, access), client=("127.0.0.1", 1))
        wrong = {}
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://here") as remote,
            httpx.AsyncClient(transport=local, base_url="http://here") as here,
        ):
            for method, address, expected in requests(taking):
                client = here if (method, address) == ("POST", "/api/v1/runs") else remote
                answer = await client.request(method, address, headers=headers | SIGNED)
                status = answer.status_code
                if caller == "wrong password" and status == 429:  # guessing gets slower
                    status = 401
                if status != expected[column]:
                    wrong[f"{method} {address}"] = (status, expected[column])
        return wrong

    assert asyncio.run(ask()) == {}


def answered(connection: HTTPSConnection, method: str, address: str) -> int:
    connection.request(method, address, headers=SIGNED)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_a_client_certificate_opens_every_route_and_none_opens_nothing(
    taking: Outputs, authority: Authority
) -> None:
    access = accessed(authority.directory, TLS + CLIENTS)
    with serving(create_app(taking, access), access.context()) as port:
        trusting = ssl.create_default_context(cafile=str(authority.file))
        stranger = HTTPSConnection("localhost", port, context=trusting, timeout=5)
        # the handshake ends before any address is said: one stands for all, the open ones included
        with pytest.raises(OSError, match=r"alert|EOF|reset|closed|Broken"):
            answered(stranger, "GET", "/-/healthy")
        stranger.close()
        place = authority.directory / "client"
        trusting.load_cert_chain(f"{place}.pem", f"{place}.key")
        wrong = {}
        for method, address, expected in requests(taking):
            known = HTTPSConnection("localhost", port, context=trusting, timeout=5)
            status = answered(known, method, address)
            known.close()
            if status != expected[-1]:
                wrong[f"{method} {address}"] = (status, expected[-1])
        assert wrong == {}
