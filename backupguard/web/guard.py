"""Asks who somebody is before anything is read, but where a caller proves it otherwise."""

from __future__ import annotations

import base64
import binascii

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from backupguard.web.access import Access
from backupguard.web.middleware import POSTED, VANTAGE
from backupguard.web.passwords import Answer, Passwords

#: A supervisor has no password, and is told nothing but a word and why not.
OPEN = frozenset({"/-/healthy", "/-/ready"})

#: What is posted carries its own proof: a token from this host, a signature from anywhere.
_PROVED = frozenset({POSTED, VANTAGE})

_SEEN_AGAIN = {"connection": "close"}


class Guard:
    """Lets pass whom the web-config file or a declared proxy knows; with neither, everybody.

    Where a request passes by a name, that stands in `scope["state"]["user"]`.
    """

    def __init__(self, app: ASGIApp, access: Access, passwords: Passwords | None = None) -> None:
        self.app = app
        self.access = access
        self.passwords = passwords or Passwords()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it unread."""
        if scope["type"] != "http" or _is_open(scope):
            await self.app(scope, receive, send)
            return
        found = await self._user(scope)
        if isinstance(found, Response):
            await found(scope, receive, send)
            return
        if found:
            scope.setdefault("state", {})["user"] = found
        await self.app(scope, receive, send)

    async def _user(self, scope: Scope) -> str | Response:
        """Return who asks, "" where nobody has to say, or what to answer instead."""
        headers = Headers(scope=scope)
        client = scope.get("client")
        place = str(client[0]) if client else ""
        if self.access.header is not None and self.access.is_proxy(place):
            named = headers.getlist(self.access.header)
            # two of them: one is the client's own, and nobody knows which
            if len(named) == 1 and named[0].strip():
                return named[0].strip()
            return _refused(401, "the proxy names nobody")
        if self.access.by_proxy_only:
            return _refused(403, "only through the proxy")
        config = self.access.config
        if config is None or not config.users:
            return ""
        given = _given(headers.get("authorization", ""))
        if given is None:
            return _unknown()
        answer = await self.passwords.verify(config.users, place, *given)
        if answer is Answer.RIGHT:
            return given[0]
        if answer is Answer.LATER:
            return _refused(429, "too many wrong passwords", {"retry-after": "10"})
        return _unknown()


def _is_open(scope: Scope) -> bool:
    if scope["method"] == "POST":
        return scope["path"] in _PROVED
    return scope["path"] in OPEN


def _given(header: str) -> tuple[str, bytes] | None:
    """Return name and password of an `Authorization` header (RFC 7617), None where there is none."""
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    name, colon, password = decoded.partition(b":")
    if not colon or b"\0" in decoded:
        return None
    return name.decode("utf-8", "surrogateescape"), password


def _unknown() -> Response:
    return _refused(
        401, "who are you?", {"www-authenticate": 'Basic realm="BackupGuard", charset="UTF-8"'}
    )


def _refused(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(
        f"{text}\n", status_code=status, headers={**_SEEN_AGAIN, **(headers or {})}
    )
