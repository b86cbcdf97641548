"""How often one client may ask: a bucket of requests that fills again by the minute."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from backupguard.web.access import Access

#: Clients that are remembered; the one that was silent for longest is forgotten first.
CLIENTS = 2048

#: Never counted: a supervisor and a scraper ask at their own pace, and get what lies in memory.
EXEMPT = frozenset({"/metrics", "/-/healthy", "/-/ready"})


class Limited:
    """Answers 429 to a client that asks more often than `per_minute`; that many at once are fine.

    A client is an address, of IPv6 its network of 64 bits; behind a declared proxy it is whom the proxy
    names, for all of them have the proxy's address. `clock` counts seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        per_minute: int,
        access: Access | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app = app
        self.per_minute = per_minute
        self._access = access
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it unread."""
        if scope["type"] == "http" and scope["path"] not in EXEMPT:
            wait = self._wait(self._client(scope))
            if wait > 0:
                headers = {"retry-after": str(wait), "connection": "close"}
                refusal = PlainTextResponse("too many requests\n", 429, headers)
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _wait(self, client: str) -> int:
        """Take one request out of a client's bucket; return the seconds to wait where it is empty."""
        now, rate = self._clock(), self.per_minute / 60
        left, since = self._left.pop(client, (float(self.per_minute), now))
        left = min(float(self.per_minute), left + (now - since) * rate)
        empty = left < 1
        self._left[client] = (left if empty else left - 1, now)
        if len(self._left) > CLIENTS:
            self._left.popitem(last=False)
        return int((1 - left) / rate) + 1 if empty else 0

    def _client(self, scope: Scope) -> str:
        peer = scope.get("client")
        place = str(peer[0]) if peer else ""
        access = self._access
        if access is not None and access.header is not None and access.is_proxy(place):
            named = Headers(scope=scope).getlist(access.header)
            return f"{place} {named[0][:200]}" if named else place
        try:
            address = ipaddress.ip_address(place)
        except ValueError:
            return place
        if isinstance(address, ipaddress.IPv6Address):
            mapped = address.ipv4_mapped
            return (
                str(mapped) if mapped else str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
            )
        return place
