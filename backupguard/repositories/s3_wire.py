"""Signed HEAD and GET over kept connections: what boto3 does for one object, for many at once.

Looking at the locks of every object of a repository takes one request per object, and boto3 spends two
milliseconds of processor time on each. Here it is a twentieth of that: a connection stays, the signing
key is derived once a day, and of an answer only its head is read. Nothing but HEAD of an object and GET
of a listing can be sent. Signature: AWS Signature Version 4,
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import Empty, LifoQueue
from threading import Lock
from urllib.parse import quote, urlsplit

from backupguard.contracts import Cancel
from backupguard.errors import Misunderstood, Unreachable

_EMPTY = hashlib.sha256(b"").hexdigest()
_ATTEMPTS = 4
_WAITS_S = (0.2, 1.0, 3.0)
_HEAD_LIMIT = 64 << 10
_BODY_LIMIT = 16 << 20
_END = b"\r\n\r\n"
#: How long answers may gather before they are taken one by one, in seconds.
_GATHER_S = 0.2
#: Statuses that say "later".
_BUSY = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs requests to one host with one key (`service` s3, nothing in the body)."""

    access: str
    private: str = field(repr=False)
    token: str | None = field(repr=False)
    region: str
    host: str

    def key(self, day: str) -> bytes:
        """Return the signing key of a day ("20260322")."""
        key = b"AWS4" + self.private.encode()
        for part in (day, self.region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return key

    def headers(self, method: str, path: str, query: str, moment: str, key: bytes) -> str:
        """Return the header lines of a request. `path` and `query` are encoded, the latter sorted."""
        signed = "host;x-amz-content-sha256;x-amz-date"
        given = f"host:{self.host}\nx-amz-content-sha256:{_EMPTY}\nx-amz-date:{moment}\n"
        more = ""
        if self.token is not None:
            signed += ";x-amz-security-token"
            given += f"x-amz-security-token:{self.token}\n"
            more = f"x-amz-security-token: {self.token}\r\n"
        scope = f"{moment[:8]}/{self.region}/s3/aws4_request"
        asked = f"{method}\n{path}\n{query}\n{given}\n{signed}\n{_EMPTY}"
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        return (
            f"Host: {self.host}\r\nx-amz-content-sha256: {_EMPTY}\r\nx-amz-date: {moment}\r\n{more}"
            f"Authorization: AWS4-HMAC-SHA256 Credential={self.access}/{scope}, "
            f"SignedHeaders={signed}, Signature={signature}\r\n"
        )


class Wire:
    """Connections to the server of one bucket, shared by threads; each is used by one at a time."""

    def __init__(
        self,
        *,
        base: str,
        signer: Callable[[str], Signer],
        trust: ssl.SSLContext | None,
        timeout_s: int,
        identifier: str,
        cancel: Cancel,
    ) -> None:
        """`base` is the bucket's address: "https://host/bucket", or "https://bucket.host"."""
        parts = urlsplit(base)
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._name = parts.hostname or ""
        usual = parts.port in (None, 443 if self._tls else 80)
        self._signer = signer(self._name if usual else f"{self._name}:{parts.port}")
        self._path = parts.path.rstrip("/")
        self._trust = trust
        self._timeout_s = timeout_s
        self._identifier = identifier
        self._cancel = cancel
        self._idle: LifoQueue[http.client.HTTPConnection] = LifoQueue()
        self._key: tuple[str, bytes] = ("", b"")
        self._counting = Lock()
        self._together = True  # whether requests are sent without waiting for the answers before
        self._least = 0  # bytes of the shortest answer of those last sent together
        self.requests: Counter[str] = Counter()

    def close(self) -> None:
        """Close all connections that are not in use."""
        with suppress(Empty):
            while True:
                self._idle.get_nowait().close()

    # ---- requests

    def head(self, key: str, version: str) -> tuple[int, bytes]:
        """Ask for the head of one version; return the status and the header lines as they came.

        Raises Unreachable (timeout, refused, tls, http_5xx), Misunderstood, Cancelled.
        """
        request = self._request(key, version)
        return self._asked("HeadObject", lambda found: self._head(found, request))

    def heads(self, wanted: Sequence[tuple[str, str]]) -> list[tuple[int, bytes]]:
        """Ask for the heads of several versions at once, and return what `head` would of each.

        They are sent one after the other without waiting (RFC 9112, 9.3.2). A server or proxy that
        does not answer all of them, in order, is asked one by one from then on.
        """
        found: list[tuple[int, bytes]] = []
        if self._together and len(wanted) > 1 and all(version != "null" for _, version in wanted):
            found = self._pipelined(wanted)
        return found + [self.head(*one) for one in wanted[len(found) :]]

    def listing(self, parameters: Mapping[str, str]) -> tuple[int, bytes]:
        """Ask for a page of the versions of the bucket's objects; return the status and the body."""
        given = {"versions": "", **parameters}
        query = "&".join(
            f"{name}={quote(value.encode('utf-8', 'surrogateescape'), safe='-_.~')}"
            for name, value in sorted(given.items())
        )
        return self._asked(
            "ListObjectVersions", lambda found: self._get(found, self._path or "/", query)
        )

    # ---- one of them

    def _asked(
        self, operation: str, ask: Callable[[http.client.HTTPConnection], tuple[int, bytes]]
    ) -> tuple[int, bytes]:
        error: Unreachable | None = None
        for attempt in range(_ATTEMPTS):
            self._cancel.raise_if_set()
            fresh, connection = self._connection()
            try:
                if fresh:
                    connection.connect()
                with self._counting:
                    self.requests[operation] += 1
                status, answer = ask(connection)
            except TimeoutError:
                connection.close()
                error = Unreachable("timeout", repository=self._identifier)
            except ssl.SSLError:
                connection.close()
                raise Unreachable("tls", repository=self._identifier) from None
            except (OSError, http.client.HTTPException):
                connection.close()
                error = Unreachable("refused", repository=self._identifier)
                if not fresh:  # the server had closed a connection that was kept
                    continue
            else:
                self._keep(connection, answer)
                if status not in _BUSY:
                    return status, answer
                error = Unreachable("http_5xx", repository=self._identifier)
            if attempt < len(_WAITS_S):
                self._cancel.wait(_WAITS_S[attempt])
        raise error or Unreachable("refused", repository=self._identifier)

    def _request(self, key: str, version: str) -> bytes:
        query = "" if version == "null" else f"versionId={quote(version, safe='-_.~')}"
        path = f"{self._path}/{quote(key.encode('utf-8', 'surrogateescape'), safe='/-_.~')}"
        target = f"{path}?{query}" if query else path
        return f"HEAD {target} HTTP/1.1\r\n{self._headers('HEAD', path, query)}\r\n".encode()

    def _head(self, connection: http.client.HTTPConnection, request: bytes) -> tuple[int, bytes]:
        connection.sock.sendall(request)
        answer = b""
        while _END not in answer:
            more = connection.sock.recv(_HEAD_LIMIT)
            if not more:
                raise ConnectionResetError
            answer += more
            if len(answer) > _HEAD_LIMIT:
                raise Misunderstood("output_unparsable", repository=self._identifier)
        if not _is_answer(answer):
            raise Misunderstood("output_unparsable", repository=self._identifier)
        if not answer.endswith(_END):  # a body after HEAD: the connection is good for nothing more
            connection.close()
        return int(answer[9:12]), answer

    def _pipelined(self, wanted: Sequence[tuple[str, str]]) -> list[tuple[int, bytes]]:
        """Return the answers up to the first that is not what was asked for; none is an error."""
        self._cancel.raise_if_set()
        fresh, connection = self._connection()
        answers = b""
        try:
            if fresh:
                connection.connect()
            connection.sock.sendall(b"".join(self._request(*one) for one in wanted))
            answers = self._gathered(connection.sock, len(wanted))
            while answers.count(_END) < len(wanted) and len(answers) < _BODY_LIMIT:
                more = connection.sock.recv(_HEAD_LIMIT)
                if not more:
                    break
                answers += more
        except (OSError, http.client.HTTPException):
            pass
        parts = answers.split(_END)[:-1]
        with self._counting:
            self.requests["HeadObject"] += len(parts)
        found: list[tuple[int, bytes]] = []
        strange = len(parts) < len(wanted) and fresh  # one that was kept may have been closed
        for part, (_, version) in zip(parts, wanted, strict=False):
            told = f"\r\nx-amz-version-id: {version}\r\n".lower().encode()
            right = _is_answer(part) and told in (part + _END).lower()
            if part[9:12] != b"200" or not right:
                # What is gone, or may not be seen, is asked for alone: that is no reason to give up.
                strange |= part[9:12] == b"200" or not _is_answer(part)
                break
            found.append((200, part + _END))
        if len(found) == len(wanted) and answers.endswith(_END):
            self._least = min(len(part) for part in parts)
            self._keep(connection, answers)
        else:
            connection.close()
        self._together = self._together and not strange
        return found

    def _gathered(self, sock: socket.socket, count: int) -> bytes:
        """Return what has come of some answers once most of it has, or after a moment; maybe nothing.

        A server sends each by itself, and waking up for each costs as much as reading it.
        """
        if self._tls or not self._least:
            return b""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, self._least * (count - 1))
        sock.settimeout(_GATHER_S)
        try:
            return sock.recv(_HEAD_LIMIT)
        except TimeoutError:
            return b""
        finally:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            sock.settimeout(self._timeout_s)

    def _get(
        self, connection: http.client.HTTPConnection, path: str, query: str
    ) -> tuple[int, bytes]:
        connection.putrequest("GET", f"{path}?{query}", skip_host=True, skip_accept_encoding=True)
        for line in self._headers("GET", path, query).splitlines():
            name, _, value = line.partition(": ")
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        body = response.read(_BODY_LIMIT + 1)
        if len(body) > _BODY_LIMIT:
            connection.close()
            raise Misunderstood("output_unparsable", repository=self._identifier)
        return response.status, body

    def _headers(self, method: str, path: str, query: str) -> str:
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        day, key = self._key
        if day != moment[:8]:
            day, key = moment[:8], self._signer.key(moment[:8])
            self._key = (day, key)
        return self._signer.headers(method, path, query, moment, key)

    # ---- connections

    def _connection(self) -> tuple[bool, http.client.HTTPConnection]:
        try:
            return False, self._idle.get_nowait()
        except Empty:
            pass
        if self._tls:
            return True, http.client.HTTPSConnection(
                self._name, self._port, timeout=self._timeout_s, context=self._trust
            )
        return True, http.client.HTTPConnection(self._name, self._port, timeout=self._timeout_s)

    def _keep(self, connection: http.client.HTTPConnection, answer: bytes) -> None:
        if connection.sock is None or b"connection: close" in answer[:_HEAD_LIMIT].lower():
            connection.close()
        else:
            self._idle.put(connection)


def _is_answer(answer: bytes) -> bool:
    return answer.startswith(b"HTTP/1.") and answer[9:12].isdigit()
