"""What holds for every page: how many at once, which methods, which headers."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: The places that take something: a job's report of its own run, and what a vantage point saw.
POSTED = "/api/v1/runs"
VANTAGE = "/api/v1/vantage"

#: Requests answered at the same time; health endpoints are not counted.
AT_ONCE = 8

#: Files taken away at the same time: one of them may take hours over a slow line.
DOWNLOADS_AT_ONCE = 2

#: Where those files stand, each below one of these.
_FILES = ("/reports/", "/evidence/")

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Bounded:
    """Answers 503 beyond `AT_ONCE` requests, so that no flood of readers starves the daemon.

    `/-/` is exempt: a supervisor must hear that a busy daemon is alive. Files that are taken away are
    counted by themselves: slow readers of them hold up neither a scrape nor a page.
    """

    def __init__(
        self, app: ASGIApp, at_once: int = AT_ONCE, downloads_at_once: int = DOWNLOADS_AT_ONCE
    ) -> None:
        self.app = app
        self.at_once = {False: at_once, True: downloads_at_once}
        self.running = {False: 0, True: 0}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the request while it is answered."""
        if scope["type"] != "http" or scope["path"].startswith("/-/"):
            await self.app(scope, receive, send)
            return
        download = _is_download(scope["path"])
        if self.running[download] >= self.at_once[download]:
            later = {"retry-after": "60" if download else "1"}
            busy = PlainTextResponse("busy\n", status_code=503, headers=later)
            await busy(scope, receive, send)
            return
        self.running[download] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.running[download] -= 1


def _is_download(path: str) -> bool:
    return path.startswith(_FILES) and path not in _FILES


class ReadOnly:
    """Refuses, unread, all but GET, HEAD and reports; puts `HEADERS` on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse and hang up."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        posted = scope.get("path") in (POSTED, VANTAGE) and scope.get("method") == "POST"
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD") and not posted:
            headers = {"allow": "GET, HEAD", "connection": "close"}
            refusal = PlainTextResponse("read only\n", status_code=405, headers=headers)
            await refusal(scope, receive, with_headers)
            return
        await self.app(scope, receive, with_headers)
