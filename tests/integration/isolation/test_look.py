"""The look itself, on real sockets of the loopback: what each outcome is, and that nothing is sent."""

from __future__ import annotations

import errno
import socket
import threading
import time
from pathlib import Path

import pytest

from probes import isolation_vantage as vantage
from tests.integration.isolation.places import free_port, listening


def outcomes(*ports: int, family: int = socket.AF_INET, seconds: float = 1.0) -> list[str]:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    tail = () if family == socket.AF_INET else (0, 0)
    return vantage.connect([(family, (host, port, *tail)) for port in ports], seconds)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_what_listens_is_open_and_what_does_not_is_refused(family: int) -> None:
    with listening(family) as port:
        assert outcomes(port, free_port(), port, family=family) == ["open", "refused", "open"]


def test_no_answer_in_time_is_filtered() -> None:
    with listening(backlog=0) as port:
        full = [socket.create_connection(("127.0.0.1", port))]  # a full queue drops what comes
        try:
            for _ in range(3):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
                full.append(one)
            began = time.monotonic()
            assert outcomes(port, seconds=0.4) == ["filtered"]
            assert 0.3 < time.monotonic() - began < 2
        finally:
            for one in full:
                one.close()


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_many_are_tried_together_and_never_more_than_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alive: list[int] = []
    most = 0
    real = vantage._begin

    def counted(place: object) -> object:
        nonlocal most
        begun = real(place)
        if not isinstance(begun, str):
            alive.append(begun.fileno())
            most = max(most, _descriptors() - before)
        return begun

    monkeypatch.setattr(vantage, "_begin", counted)
    monkeypatch.setattr(vantage, "AT_ONCE", 8)
    before = _descriptors()
    with listening(backlog=200) as port:
        assert outcomes(*[port] * 100) == ["open"] * 100
    assert most <= 8 + 4  # the selector and the listener
    assert _descriptors() <= before


def test_nothing_is_sent_and_the_end_comes_at_once() -> None:
    got: list[bytes] = []
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(5)
                got.append(connection.recv(100))

        thread = threading.Thread(target=serve)
        thread.start()
        assert outcomes(server.getsockname()[1]) == ["open"]
        thread.join(5)
    assert got == [b""]


@pytest.mark.parametrize(
    ("code", "family", "expected"),
    [
        (errno.EHOSTUNREACH, socket.AF_INET, "unreachable"),
        (errno.ENETUNREACH, socket.AF_INET6, "unreachable"),
        (errno.ETIMEDOUT, socket.AF_INET, "filtered"),
        (errno.EACCES, socket.AF_INET6, "filtered"),
        (errno.EACCES, socket.AF_INET, "untried"),
        (errno.EPERM, socket.AF_INET, "untried"),
        (errno.EMFILE, socket.AF_INET, "untried"),
        (errno.EADDRNOTAVAIL, socket.AF_INET6, "untried"),
        (errno.ECONNRESET, socket.AF_INET, "open"),
    ],
    ids=lambda value: errno.errorcode.get(value, str(value)) if type(value) is int else None,
)
def test_what_this_host_itself_forbids_proves_nothing(
    code: int, family: int, expected: str
) -> None:
    assert vantage._outcome(code, family) == expected


def test_every_address_of_a_name_is_tried_over_both_families() -> None:
    with listening() as port:
        seen = vantage.look([("coffre", "localhost", port)], f"127.0.0.1:{port}", 1.0)
    by_family = {row["family"]: row for row in seen["rows"]}
    assert by_family["ipv4"]["outcome"] == "open"
    assert by_family["ipv4"]["address"] == "127.0.0.1"
    assert seen["families"] == ["ipv4"]
    addresses = {info[4][0] for info in socket.getaddrinfo("localhost", None)}
    assert {row["address"] for row in seen["rows"]} == addresses


def test_addresses_may_be_given_as_they_are_written() -> None:
    with listening(socket.AF_INET6) as port:
        rows = vantage.look([("a", "::1", port), ("b", "[::1]", port)], None, 1.0)["rows"]
    assert [row["outcome"] for row in rows] == ["open", "open"]
    assert {row["family"] for row in rows} == {"ipv6"}


def test_a_name_without_an_address_is_not_closed() -> None:
    (row,) = vantage.look([("coffre", "nas.invalid", 445)], None, 1.0)["rows"]
    assert (row["outcome"], row["address"], row["family"]) == ("unresolved", None, None)


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def slow(host: str, *rest: object, **more: object) -> object:
        if host == "slow.example":
            time.sleep(3)
        return real("127.0.0.1", *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    began = time.monotonic()
    found = vantage.resolve(["slow.example", "quick.example"], 0.3)
    assert time.monotonic() - began < 2
    assert found["slow.example"] == []
    assert len(found["quick.example"]) == 1


def test_addresses_beyond_the_limit_are_said_to_be_untried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = [(socket.AF_INET, (f"127.0.0.{n}", 0)) for n in range(1, 20)]
    monkeypatch.setattr(vantage, "resolve", lambda names, _s=0: dict.fromkeys(names, many))
    rows = vantage.look([("coffre", "many.example", free_port())], None, 1.0)["rows"]
    assert len(rows) == vantage.ADDRESSES_LIMIT + 1
    assert rows[-1]["outcome"] == "untried"


def test_a_witness_that_dies_meanwhile_is_none() -> None:
    with socket.socket() as witness, listening() as port:
        witness.bind(("127.0.0.1", 0))
        witness.listen()
        place = f"127.0.0.1:{witness.getsockname()[1]}"
        real = vantage.resolve

        def then_dies(names: list[str], seconds: float = 1.0) -> object:
            if "localhost" in names:
                witness.close()
            return real(names, seconds)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(vantage, "resolve", then_dies)
            seen = vantage.look([("coffre", "localhost", port)], place, 1.0)
    assert seen["families"] == []


@pytest.mark.parametrize("text", ["", "host", "host:", ":1", "host:0", "host:65536", "host:x"])
def test_a_witness_that_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(vantage.Wrong):
        vantage.split_place(text)


def test_the_file_needs_no_newer_python_than_it_says() -> None:
    import ast

    source = Path(vantage.__file__).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 7))
    imported = {
        alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {
        (node.module or "").partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
    }
    import sys

    assert imported <= set(sys.stdlib_module_names)
