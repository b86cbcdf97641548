"""Syslog over TLS: RFC 5424 messages in the octet-counted frames of RFC 5425 (TCP: RFC 6587, 3.4.1).

Syslog knows no answer, so a sender that only writes learns nothing when a collector turns it away or
dies with what the network had brought. A delivery here is therefore a connection of its own, and counts
only once the collector has read it to its end: our close_notify (RFC 5425, 4.4) is the last that it
gets, and it closes the connection after that. Linux, and every system that keeps to RFC 1122 (4.2.2.13)
and RFC 2525 (2.17), resets a connection that is closed with something unread; a reset, or silence, and
the delivery is made again: twice rather than never, with the same `event.id`.

What a collector has read and lost afterwards, from its own memory, nobody here can know.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import ssl
import struct
import termios
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

from backupguard.errors import Unreachable
from backupguard.notify.catalogue import Event
from backupguard.notify.ecs import Sender, line, moment
from backupguard.settings.secrets import place_of, read_secret
from backupguard.settings.soc import FACILITIES, Syslog

APP_NAME = "backupguard"
#: Octets: every collector takes 2,048, and should take 8,192 (RFC 5425, 4.3.1).
LIMIT = 8192

_RECORD = 16 * 1024
_CLOSED = 7  # TCP_CLOSE of linux/tcp_states.h

_NOT_PRINTABLE = re.compile(r"[^\x21-\x7e]+")


def message(event: Event, sender: Sender, facility: int) -> bytes:
    """Return an event as an RFC 5424 message: the code as MSGID, ASCII JSON as MSG.

    No structured data, whose names want a registered number; no byte order mark, which ASCII does
    not need.
    """
    host = _NOT_PRINTABLE.sub("-", sender.host)[:255] or "-"
    header = (
        f"<{facility * 8 + int(event.level)}>1 {moment(event.happened_at)} {host}"
        f" {APP_NAME} - {event.code[:32]} - "
    )
    return (header + line(event, sender, LIMIT - len(header))).encode("ascii")


def frames(messages: Iterable[bytes]) -> bytes:
    """Return messages one behind the other, the length of each before it."""
    return b"".join(b"%d %b" % (len(one), one) for one in messages)


def trust(settings: Syslog) -> ssl.SSLContext:
    """Return what is believed of a collector, and shown to it. Files are read now.

    Raises Unreachable (tls), MissingMeans (secret_missing) and AccessRefused (permission).
    """
    try:
        context = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.certificate is not None and settings.key is not None:
            read_secret(settings.key)  # says what is wrong with the file, in words
            context.load_cert_chain(settings.certificate, place_of(settings.key, os.environ))
    except OSError as error:  # a file that is missing or is no certificate
        raise Unreachable("tls") from error
    return context


def deliver(settings: Syslog, sender: Sender, events: Sequence[Event]) -> None:
    """Hand events to the collector; return only when it has read all of them.

    Raises Unreachable (dns, refused, timeout, tls), MissingMeans and AccessRefused. What the collector
    got before an error is not known.
    """
    facility = FACILITIES[settings.facility]
    hand_over(settings, [message(event, sender, facility) for event in events])


def hand_over(settings: Syslog, messages: Sequence[bytes]) -> None:
    """Hand RFC 5424 messages to the collector; returns and raises as `deliver` does."""
    told = frames(messages)
    context = trust(settings)
    until = time.monotonic() + settings.patience.total_seconds()
    try:
        with socket.create_connection((settings.host, settings.port), timeout=_left(until)) as peer:
            secured = _Secured(peer, context, settings.server_name or settings.host, until)
            secured.handshake()
            secured.write(told)
            secured.end()
    except socket.gaierror as error:
        raise Unreachable("dns") from error
    except TimeoutError as error:
        raise Unreachable("timeout") from error
    except ssl.SSLError as error:
        raise Unreachable("tls") from error
    except OSError as error:
        raise Unreachable("refused") from error


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _Secured:
    """A TLS connection that can be closed in one direction, and tells how the other one ended.

    `ssl.SSLSocket` cannot: its `unwrap` calls a fatal alert ("certificate required", which TLS 1.3
    tells after the handshake) a good end. All within `until`, by the monotonic clock.
    """

    def __init__(
        self, peer: socket.socket, context: ssl.SSLContext, name: str, until: float
    ) -> None:
        self._peer = peer
        self._until = until
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)

    def _flush(self) -> None:
        if told := self._out.read():
            self._peer.settimeout(_left(self._until))
            self._peer.sendall(told)

    def _receive(self) -> bytes:
        self._peer.settimeout(_left(self._until))
        return self._peer.recv(65536)

    def handshake(self) -> None:
        """Agree on keys and see who the collector is."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if not (got := self._receive()):
                    raise ConnectionResetError from None
                self._in.write(got)
            except ssl.SSLError:
                with suppress(OSError):
                    self._flush()  # the alert that says why
                raise
            else:
                self._flush()
                return

    def write(self, told: bytes) -> None:
        """Send bytes, a record at a time."""
        for start in range(0, len(told), _RECORD):
            self._tls.write(told[start : start + _RECORD])
            self._flush()

    def end(self) -> None:
        """Say that nothing follows, and return when the collector has closed after reading all.

        Raises ssl.SSLError for an alert, OSError for a reset, TimeoutError.
        """
        with suppress(ssl.SSLWantReadError):
            self._tls.unwrap()  # nothing was put in since the handshake: it only tells
        self._flush()
        alert: ssl.SSLError | None = None
        while got := self._receive():
            self._in.write(got)
            alert = alert or self._alert()
        self._settle()
        if alert is not None:
            raise alert

    def _alert(self) -> ssl.SSLError | None:
        try:
            while self._tls.read(_RECORD):
                pass  # nobody is meant to answer
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            return None
        except ssl.SSLError as error:  # whatever else follows a good end is no business of ours
            return error if "ALERT" in (error.reason or "") else None
        return None

    def _settle(self) -> None:
        """Wait until the other system has answered for all we sent: with a reset, if it was late."""
        while True:
            failed = self._peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failed:
                raise OSError(failed, os.strerror(failed))
            (owed,) = struct.unpack("i", fcntl.ioctl(self._peer, termios.TIOCOUTQ, b"\0" * 4))
            if owed == 0:
                break
            _left(self._until)
            time.sleep(0.01)
        # tcp(7), linux/tcp.h: the first octet of tcp_info is the state; a reset leaves it closed
        state = self._peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        if state == _CLOSED:
            raise ConnectionResetError
