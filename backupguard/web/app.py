"""The pages and `/metrics`. They only read: a scrape costs memory reads and starts nothing."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import anyio.to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from backupguard.job_reports import REPORT_LIMIT as JOB_REPORT_LIMIT
from backupguard.language import Words
from backupguard.metrics import living
from backupguard.model import Message
from backupguard.settings.http import PER_MINUTE
from backupguard.web import status_api
from backupguard.web.access import Access
from backupguard.web.guard import Guard
from backupguard.web.limits import Limited
from backupguard.web.middleware import POSTED, VANTAGE, Bounded, ReadOnly
from backupguard.web.people import People
from backupguard.web.published import Outputs

STATIC = Path(__file__).parent / "static"

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Bytes a vantage point's report may have: a hundred and fifty for each port of each address.
VANTAGE_LIMIT = 1024 * 1024


def _accepts_gzip(request: Request) -> bool:
    for part in request.headers.get("accept-encoding", "").split(","):
        coding, _, quality = part.strip().partition(";")
        if coding.strip().lower() in ("gzip", "x-gzip"):
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _is_local(request: Request) -> bool:
    """Tell whether a request comes from this host: a token must not cross a network in clear text."""
    host = request.client.host if request.client else ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _body(request: Request, limit: int) -> bytes | None:
    """Return a request's body, None when it has more than `limit` bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)


class _Machines:
    """What programs ask for, over one `Outputs`."""

    def __init__(self, outputs: Outputs) -> None:
        self.outputs = outputs

    def _words(self) -> Words:
        published = self.outputs.published
        return Words(published.language, published.timezone) if published else Words("en")

    def _not_found(self) -> Response:
        return PlainTextResponse(self._words().text("web.not-found") + "\n", status_code=404)

    async def metrics(self, request: Request) -> Response:
        """Return the metrics of the last assessment, then this process's own."""
        published = self.outputs.published
        if published is None:
            return PlainTextResponse("not judged yet\n", status_code=503)
        own = living.render(published.site, self.outputs.living())
        headers = {"vary": "accept-encoding"}
        if _accepts_gzip(request):
            headers["content-encoding"] = "gzip"
            body = published.compressed.ended(own)
        else:
            body = published.text + own
        return Response(body, media_type=METRICS_TYPE, headers=headers)

    def _verdict(self, reasons: tuple[Message, ...], good: str) -> Response:
        if not reasons:
            return PlainTextResponse(good + "\n")
        words = self._words()
        told = "".join(f"{words.say(reason)}\n" for reason in reasons)
        return PlainTextResponse(told, status_code=503)

    async def healthy(self, _request: Request) -> Response:
        """Say whether the daemon's threads move."""
        return self._verdict(self.outputs.unhealthy(), "healthy")

    async def ready(self, _request: Request) -> Response:
        """Say whether the daemon can do its work."""
        return self._verdict(self.outputs.unready(), "ready")

    async def job_report(self, request: Request) -> Response:
        """Take what a backup job posts of its own run (`daemon.job_reports` says how it answers)."""
        if self.outputs.take_report is None:
            return self._not_found()
        if not _is_local(request):
            refusal = "reports come from this host: put a TLS proxy in front\n"
            return PlainTextResponse(refusal, status_code=403, headers={"connection": "close"})
        body = await _body(request, JOB_REPORT_LIMIT)
        if body is None:
            return PlainTextResponse(
                "too large\n", status_code=413, headers={"connection": "close"}
            )
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else None
        status, line = await anyio.to_thread.run_sync(self.outputs.take_report, given, body)
        headers = {"www-authenticate": "Bearer"} if status == 401 else None
        return PlainTextResponse(line + "\n", status_code=status, headers=headers)

    async def vantage_report(self, request: Request) -> Response:
        """Take what a vantage point posts (`daemon.vantage_reports` says how it answers).

        From anywhere: it is signed, and there is nothing secret in it.
        """
        if self.outputs.take_vantage is None:
            return self._not_found()
        vantage = request.headers.get("x-backupguard-vantage")
        signed = request.headers.get("x-backupguard-signature")
        if vantage is None or signed is None:
            refusal = "not a report of a known vantage point\n"
            return PlainTextResponse(refusal, status_code=401, headers={"connection": "close"})
        body = await _body(request, VANTAGE_LIMIT)
        if body is None:
            return PlainTextResponse(
                "too large\n", status_code=413, headers={"connection": "close"}
            )
        take = self.outputs.take_vantage
        status, line = await anyio.to_thread.run_sync(take, vantage, signed, body)
        return PlainTextResponse(line + "\n", status_code=status)


def create_app(
    outputs: Outputs, access: Access | None = None, *, per_minute: int = PER_MINUTE
) -> Starlette:
    """Return the application that serves `outputs` to whom `access` lets in; left out: to everybody.

    `per_minute` is how often one client may ask.
    """
    served, people = _Machines(outputs), People(outputs)
    return Starlette(
        routes=[
            Route("/metrics", served.metrics),
            Route("/-/healthy", served.healthy),
            Route("/-/ready", served.ready),
            Route(POSTED, served.job_report, methods=["POST"]),
            Route(VANTAGE, served.vantage_report, methods=["POST"]),
            Route("/api/v1/status", status_api.endpoint(outputs)),
            *people.routes(),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[
            Middleware(ReadOnly),
            Middleware(Limited, per_minute=per_minute, access=access),
            *([Middleware(Guard, access=access)] if access is not None else []),
            Middleware(Bounded),
        ],
    )
