"""Events over TLS to a real rsyslog: all of them, in order, as they are; and what goes wrong."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from backupguard.contracts import SecretReference
from backupguard.errors import Unreachable
from backupguard.language import Words
from backupguard.notify import Event, samples, syslog
from backupguard.notify.ecs import Sender, document
from backupguard.settings.soc import Syslog
from tests.integration.daemon.living import free_port

from .collector import Authority, Collector

WHO = Sender(site="CH de Belle-Rive", host="srv-backupguard", words=Words("fr", "Europe/Paris"))


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=["gtls", "ossl"])
def collector(
    request: pytest.FixtureRequest, tmp_path: Path, authority: Authority
) -> Iterator[Collector]:
    """An rsyslog that asks its clients for a certificate; with each of its two TLS drivers."""
    made = Collector(tmp_path, authority, request.param, "x509/certvalid")
    made.start()
    yield made
    made.stop()


def reached(collector: Collector, *, own: bool = True) -> Syslog:
    certificate, key = collector.authority.issue("backupguard")
    return Syslog(
        host="127.0.0.1",
        port=collector.port,
        ca=collector.authority.file,
        certificate=certificate if own else None,
        key=SecretReference(file=key) if own else None,
        patience=timedelta(seconds=5),
    )


def deliver(settings: Syslog, events: Sequence[Event]) -> None:
    """Deliver; Debian 12's rsyslog with OpenSSL garbles one handshake in a hundred, so try again."""
    for _ in range(3):
        try:
            return syslog.deliver(settings, WHO, events)
        except Unreachable as error:
            if error.code != "tls":
                raise
    raise AssertionError("no handshake in three attempts")


def test_every_event_arrives_whole_and_in_order(collector: Collector) -> None:
    events = samples.events()

    deliver(reached(collector), events)

    assert collector.wait(len(events)) == [document(event, WHO) for event in events]
    for event, (priority, version, host, program, msgid, _) in zip(
        events, collector.lines(), strict=True
    ):
        assert int(priority) == 16 * 8 + int(event.level)
        assert (version, host, program, msgid) == ("1", WHO.host, "backupguard", event.code)


def test_a_client_without_certificate_delivers_nothing_and_knows_it(collector: Collector) -> None:
    with pytest.raises(Unreachable) as caught:
        syslog.deliver(reached(collector, own=False), WHO, samples.events()[:3])
    assert caught.value.code in {"tls", "refused"}
    assert collector.lines() == []


def test_the_longest_event_is_not_cut_by_the_collector(collector: Collector) -> None:
    event = samples.events()[0]
    long = replace(event, values={"fingerprint": "é" * 1200})
    assert len(syslog.message(long, WHO, 16)) <= syslog.LIMIT

    deliver(reached(collector), [long, event])

    found = collector.wait(2)
    assert found[0]["backupguard.fingerprint"] == "é" * 1200
    assert found[1]["event.id"] == event.id


# ------------------------------------------------------------------------- without a real collector


def plain(port: int, authority: Authority, **more: object) -> Syslog:
    given = {"patience": timedelta(seconds=1), **more}
    return Syslog.model_validate({"host": "127.0.0.1", "port": port, "ca": authority.file, **given})


def test_a_collector_that_is_down_is_told_as_such(authority: Authority) -> None:
    with pytest.raises(Unreachable) as caught:
        syslog.deliver(plain(free_port(), authority), WHO, samples.events()[:1])
    assert caught.value.code == "refused"


def test_a_collector_that_says_nothing_does_not_hold_us_up(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(Unreachable) as caught:
        syslog.deliver(plain(mute.getsockname()[1], authority), WHO, samples.events()[:1])
    assert caught.value.code == "timeout"


@pytest.mark.parametrize("reads", [False, True], ids=["unread", "read"])
def test_only_what_was_read_to_its_end_counts(authority: Authority, reads: bool) -> None:
    """A collector that dies with a message unread resets the connection: it is sent again."""
    certificate, key = authority.issue("half")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            accepted, _ = listener.accept()
            secured = context.wrap_socket(accepted, server_side=True)
            if reads:
                while piece := secured.recv(65536):
                    got.append(piece)
            else:
                secured.recv(10)
                threading.Event().wait(0.2)  # until the rest has come and lies there unread
            secured.close()

        server = threading.Thread(target=serve)
        server.start()
        settings = plain(listener.getsockname()[1], authority)
        events = samples.events()
        if reads:
            syslog.deliver(settings, WHO, events)
            assert b"".join(got).count(b"1 2026-") >= len(events)
        else:
            with pytest.raises(Unreachable):
                syslog.deliver(settings, WHO, events)
        server.join()


def test_another_authority_is_not_believed(
    collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("other"))
    with pytest.raises(Unreachable) as caught:
        syslog.deliver(plain(collector.port, other), WHO, samples.events()[:1])
    assert caught.value.code == "tls"
    assert collector.lines() == []


def test_another_name_is_not_believed(collector: Collector) -> None:
    settings = reached(collector).model_copy(update={"server_name": "siem.example"})
    with pytest.raises(Unreachable) as caught:
        syslog.deliver(settings, WHO, samples.events()[:1])
    assert caught.value.code == "tls"
