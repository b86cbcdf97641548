"""Who may read: real connections over TLS, passwords, certificates, and a proxy's word."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable
from http.client import HTTPSConnection
from pathlib import Path

import bcrypt
import httpx
import pytest
from starlette.routing import Mount, Route

from backupguard.settings.http import HttpSettings, Proxy
from backupguard.web import access as access_module
from backupguard.web import passwords as passwords_module
from backupguard.web.access import Access
from backupguard.web.app import create_app
from backupguard.web.guard import OPEN, Guard
from backupguard.web.passwords import FREE_TRIES, WAITING, Answer, Passwords
from backupguard.web.published import Outputs
from tests.certificates import Authority
from tests.unit.web.serving import serving
from tests.unit.web.test_web_app import published

PASSWORD = b"prometheus"
HASH = "$2b$08$JEi2W8C1clmdlmToAg.HbuEkDZYRWecEhteOB0h06brpeDe.vDQ5a"
TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
USERS = f"basic_auth_users:\n  prometheus: {HASH}\n"
CLIENTS = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: authority.pem\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("web"))
    made.issue("server")
    made.issue("client")
    made.issue("late", days=-1)
    Authority(made.directory, "stranger").issue("intruder")
    return made


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    return Outputs(reports=tmp_path, runbooks=None, published=published())


def accessed(directory: Path, text: str, proxy: Proxy | None = None) -> Access:
    file = directory / "web.yml"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return Access(HttpSettings(web_config=file, proxy=proxy))


def basic(user: str, password: bytes) -> dict[str, str]:
    token = base64.b64encode(user.encode() + b":" + password).decode()
    return {"authorization": f"Basic {token}"}


RIGHT = basic("prometheus", PASSWORD)


def ask(
    authority: Authority,
    port: int,
    path: str = "/metrics",
    headers: dict[str, str] | None = None,
    client: str | None = None,
) -> tuple[int, bytes, bytes]:
    """Return status, body and the server's certificate."""
    trusting = ssl.create_default_context(cafile=str(authority.file))
    if client is not None:
        place = authority.directory / client
        trusting.load_cert_chain(f"{place}.pem", f"{place}.key")
    connection = HTTPSConnection("localhost", port, context=trusting, timeout=5)
    try:
        connection.request("GET", path, headers=headers or {})
        shown = connection.sock.getpeercert(binary_form=True)
        answer = connection.getresponse()
        return answer.status, answer.read(), shown or b""
    finally:
        connection.close()


def test_tls_and_a_password(authority: Authority, outputs: Outputs) -> None:
    access = accessed(authority.directory, TLS + USERS)
    with serving(create_app(outputs, access), access.context()) as port:
        assert ask(authority, port, headers=RIGHT)[0] == 200
        assert ask(authority, port)[0] == 401
        assert ask(authority, port, headers=basic("prometheus", b"other"))[0] == 401
        assert ask(authority, port, headers=basic("nobody", PASSWORD))[0] == 401
        assert ask(authority, port, "/-/healthy")[:2] == (200, b"healthy\n")
        answer = httpx.Client(verify=False)  # an unknown authority is the client's to refuse
        with pytest.raises(httpx.RemoteProtocolError):
            answer.get(f"http://127.0.0.1:{port}/metrics")
        answer.close()
        old = ssl.create_default_context(cafile=str(authority.file))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert httpx.get(f"https://localhost:{port}/-/ready", verify=old).status_code == 200


def test_a_version_that_is_too_old_is_refused(authority: Authority, outputs: Outputs) -> None:
    access = accessed(authority.directory, TLS + "  min_version: TLS13\n" + USERS)
    old = ssl.create_default_context(cafile=str(authority.file))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(create_app(outputs, access), access.context()) as port:
        assert ask(authority, port, headers=RIGHT)[0] == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"https://localhost:{port}/-/ready", verify=old)


def test_a_client_without_a_good_certificate_gets_nothing(
    authority: Authority, outputs: Outputs
) -> None:
    access = accessed(authority.directory, TLS + CLIENTS)
    with serving(create_app(outputs, access), access.context()) as port:
        assert ask(authority, port, client="client")[0] == 200
        for bad in (None, "late", "intruder"):
            with pytest.raises(OSError, match=r"alert|EOF|reset|closed|Broken"):
                ask(authority, port, client=bad)
        assert ask(authority, port, client="client")[0] == 200


def test_a_renewed_certificate_and_a_new_password_hold_at_once(
    tmp_path: Path, outputs: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_module, "LOOK_EVERY_S", 0.0)
    made = Authority(tmp_path)
    made.issue("server")
    access = accessed(tmp_path, TLS + USERS)
    with serving(create_app(outputs, access), access.context()) as port:
        first = ask(made, port, headers=RIGHT)
        made.issue("server", days=30)
        second = ask(made, port, headers=RIGHT)
        assert (first[0], second[0]) == (200, 200)
        assert first[2] != second[2]
        (tmp_path / "server.pem").write_text("half a certif")
        assert ask(made, port, headers=RIGHT)[2] == second[2]
        made.issue("server", days=31)
        other = bcrypt.hashpw(b"other", bcrypt.gensalt(8)).decode()
        accessed(tmp_path, TLS + USERS.replace(HASH, other))
        assert ask(made, port, headers=RIGHT)[0] == 401
        assert ask(made, port, headers=basic("prometheus", b"other"))[0] == 200
        accessed(tmp_path, TLS)  # without users, everybody: that needs a restart
        assert ask(made, port)[0] == 401


def test_the_end_of_the_certificate_is_a_metric(authority: Authority, outputs: Outputs) -> None:
    access = accessed(authority.directory, TLS)
    (end,) = access.figures().values()
    config = access.config
    assert config is not None
    assert config.expires_at is not None
    assert end == config.expires_at.timestamp()
    outputs.living = access.figures
    text = local(outputs, None, "/metrics").text
    assert "\nbackupguard_http_certificate_expiry_timestamp_seconds{site=" in text
    assert Access(HttpSettings()).figures() == {}


# ------------------------------------------------------------------------------------- the guard


def local(
    outputs: Outputs,
    access: Access | None,
    path: str,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    client: str = "127.0.0.1",
) -> httpx.Response:
    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(app=create_app(outputs, access), client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as made:
            return await made.request(method, path, headers=headers)

    return asyncio.run(request())


def test_every_page_asks_but_those_of_a_supervisor(authority: Authority, outputs: Outputs) -> None:
    access = accessed(authority.directory, USERS)
    paths = []
    for route in create_app(outputs).routes:
        if isinstance(route, Mount):
            paths.append(f"{route.path}/style.css")
        elif isinstance(route, Route) and "GET" in (route.methods or ()):
            paths.append(route.path.replace("{alert}", "X").replace("{name}", "x.html"))
    assert len(paths) > 6
    for path in paths:
        status = local(outputs, access, path).status_code
        assert (status == 401) is (path not in OPEN), path
    assert local(outputs, access, "/nowhere").status_code == 401


def test_what_is_posted_carries_its_own_proof(authority: Authority, outputs: Outputs) -> None:
    access = accessed(authority.directory, USERS)
    outputs.take_vantage = lambda *_given: (200, "taken")
    outputs.take_report = lambda *_given: (401, "no token")
    signed = {"x-backupguard-vantage": "ward", "x-backupguard-signature": "x"}
    answer = local(outputs, access, "/api/v1/vantage", "POST", signed, client="10.9.9.9")
    assert (answer.status_code, answer.text) == (200, "taken\n")
    assert local(outputs, access, "/api/v1/runs", "POST").text == "no token\n"
    assert local(outputs, access, "/api/v1/runs", "GET").status_code == 401


@pytest.mark.parametrize(
    "header",
    [
        "", "Basic", "Basic !!!", "Bearer x", "Basic " + base64.b64encode(b"nocolon").decode(),
        "Basic " + base64.b64encode(b"a:\0").decode(), "Basic " + base64.b64encode(b":").decode(),
    ],
)  # fmt: skip
def test_a_header_that_says_nothing_is_refused(
    authority: Authority, outputs: Outputs, header: str
) -> None:
    access = accessed(authority.directory, USERS)
    answer = local(outputs, access, "/metrics", headers={"authorization": header})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic realm=")


def test_only_a_declared_proxy_is_believed(outputs: Outputs) -> None:
    access = Access(HttpSettings(proxy=Proxy(addresses=("10.1.2.0/24",), header="X-User")))

    def status(client: str, *headers: tuple[str, str]) -> int:
        async def request() -> int:
            transport = httpx.ASGITransport(app=create_app(outputs, access), client=(client, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as made:
                return (await made.get("/metrics", headers=list(headers))).status_code

        return asyncio.run(request())

    named = ("x-user", "claire")
    assert status("10.1.2.3", named) == 200
    assert status("::ffff:10.1.2.3", named) == 200
    assert status("10.1.2.3") == 401
    assert status("10.1.2.3", ("x-user", " ")) == 401
    assert status("10.1.2.3", ("x-user", "root"), named) == 401
    assert status("10.1.3.3", named) == 403
    assert status("127.0.0.1", named) == 403


def test_who_asks_is_known_to_the_pages(authority: Authority) -> None:
    found: list[object] = []

    async def page(scope, _receive, send) -> None:
        found.append(scope.get("state", {}).get("user"))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def scenario() -> None:
        access = accessed(authority.directory, USERS)
        transport = httpx.ASGITransport(app=Guard(page, access))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            await client.get("/", headers=RIGHT)

    asyncio.run(scenario())
    assert found == ["prometheus"]


# --------------------------------------------------------------------------------------- passwords


class Counted:
    """A comparison that counts, as quick as none is."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, bytes]] = []

    def __call__(self, password: bytes, known: bytes) -> bool:
        self.calls.append((password, known))
        return password == PASSWORD and known == HASH.encode()


KNOWN = {"prometheus": HASH.encode()}


def answers(
    passwords: Passwords, *asked: tuple[str, str, bytes], users: dict[str, bytes] = KNOWN
) -> list[Answer]:
    async def scenario() -> list[Answer]:
        return [await passwords.verify(users, *one) for one in asked]

    return asyncio.run(scenario())


def test_a_right_password_is_compared_once() -> None:
    counted = Counted()
    passwords = Passwords(counted)
    asked = [("10.0.0.1", "prometheus", PASSWORD)] * 20
    assert set(answers(passwords, *asked)) == {Answer.RIGHT}
    assert len(counted.calls) == 1
    other = {"prometheus": HASH.replace("5a", "6a").encode()}
    assert answers(passwords, asked[0], users=other) == [Answer.WRONG]  # the hash was changed


def test_an_unknown_user_costs_as_much_as_a_known_one() -> None:
    counted = Counted()
    asked = ("10.0.0.1", "nobody", PASSWORD)
    assert answers(Passwords(counted), asked) == [Answer.WRONG]
    ((_, against),) = counted.calls
    assert against[:7] == HASH[:7].encode()
    assert bcrypt.checkpw(PASSWORD, against) is False  # bcrypt reads it as a hash


def test_guessing_gets_slower_for_who_guesses_only() -> None:
    clock = [0.0]
    counted = Counted()
    passwords = Passwords(counted, now=lambda: clock[0])
    right = ("10.0.0.1", "prometheus", PASSWORD)
    assert answers(passwords, right) == [Answer.RIGHT]
    guess = ("10.6.6.6", "prometheus", b"guess")
    told = answers(passwords, *[guess] * 50)
    assert told.count(Answer.WRONG) == FREE_TRIES + 1
    assert told[-1] is Answer.LATER
    assert answers(passwords, ("10.6.6.6", *right[1:]), right) == [Answer.RIGHT, Answer.RIGHT]
    guesses = 0
    for _ in range(720):
        clock[0] += 5.0
        guesses += answers(passwords, guess)[0] is Answer.WRONG
    assert guesses < 80  # in an hour


def test_beyond_what_bcrypt_reads_nothing_is_right() -> None:
    long = PASSWORD + b"x" * 70
    known = bcrypt.hashpw(long[:72], bcrypt.gensalt(8))
    asked = ("10.0.0.1", "prometheus", long)
    assert answers(Passwords(), asked, users={"prometheus": known}) == [Answer.WRONG]
    asked = ("10.0.0.1", "prometheus", long[:72])
    assert answers(Passwords(), asked, users={"prometheus": known}) == [Answer.RIGHT]


def test_the_event_loop_moves_while_a_password_is_compared() -> None:
    costly = {"prometheus": bcrypt.hashpw(PASSWORD, bcrypt.gensalt(11))}

    async def scenario() -> tuple[float, float, list[Answer]]:
        loop, late = asyncio.get_running_loop(), [0.0]

        async def tick() -> None:
            while True:
                before = loop.time()
                await asyncio.sleep(0.005)
                late.append(loop.time() - before - 0.005)

        ticking = asyncio.create_task(tick())
        passwords, began = Passwords(), loop.time()
        asked = [passwords.verify(costly, f"10.0.0.{n}", "prometheus", b"no") for n in range(3)]
        told = await asyncio.gather(*asked)
        ticking.cancel()
        return loop.time() - began, sorted(late)[len(late) // 2], list(told)

    took, late, told = asyncio.run(scenario())
    assert told == [Answer.WRONG] * 3
    assert took > 0.15  # one after the other
    assert late < took / 6


def test_a_flood_of_passwords_is_not_queued() -> None:
    held: list[Callable[[], None]] = []

    async def scenario() -> list[Answer]:
        import threading

        gate = threading.Event()
        held.append(gate.set)
        passwords = Passwords(lambda *_: gate.wait(5) and False)
        asked = [
            asyncio.create_task(passwords.verify(KNOWN, f"10.0.{n}.1", "prometheus", b"x"))
            for n in range(WAITING + 5)
        ]
        await asyncio.sleep(0.05)
        gate.set()
        return await asyncio.gather(*asked)

    told = asyncio.run(scenario())
    assert told.count(Answer.LATER) == 5
    assert told.count(Answer.WRONG) == WAITING


def test_places_are_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords_module, "_PLACES", 10)
    passwords = Passwords(Counted())
    answers(passwords, *[(f"10.0.0.{n}", "prometheus", b"no") for n in range(50)])
    assert len(passwords._tries) == 10
