"""The pages and `/metrics`. They only read: a scrape costs memory reads and starts nothing."""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from pathlib import Path

import anyio.to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from backupguard.job_reports import REPORT_LIMIT as JOB_REPORT_LIMIT
from backupguard.language import Words
from backupguard.metrics import living
from backupguard.model import Message
from backupguard.web import pages, status_api
from backupguard.web.access import Access
from backupguard.web.guard import Guard
from backupguard.web.middleware import POSTED, VANTAGE, Bounded, ReadOnly
from backupguard.web.published import Outputs

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: What may be served from the reports' directory, and as what.
REPORT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".pdf": "application/pdf",
    ".json": "application/json",
}
REPORT_LIMIT = 64 * 1024 * 1024

#: Bytes a vantage point's report may have: a hundred and fifty for each port of each address.
VANTAGE_LIMIT = 1024 * 1024

#: A report brings its own style sheet inside; it may load and run nothing.
_REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_ALERT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}\Z")


def _accepts_gzip(request: Request) -> bool:
    for part in request.headers.get("accept-encoding", "").split(","):
        coding, _, quality = part.strip().partition(";")
        if coding.strip().lower() in ("gzip", "x-gzip"):
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _read(path: Path, limit: int) -> bytes | None:
    """Return a regular file's bytes; None when it is none, is too large, or is a link."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > limit:
            return None
        return file.read(limit)


def _listed(directory: Path) -> list[tuple[str, int]]:
    """Return name and size of every report, newest name first."""
    try:
        with os.scandir(directory) as entries:
            found = [
                (entry.name, entry.stat(follow_symlinks=False).st_size)
                for entry in entries
                if _FILE_NAME.match(entry.name)
                and Path(entry.name).suffix in REPORT_TYPES
                and entry.is_file(follow_symlinks=False)
            ]
    except OSError:
        return []
    return sorted(found, reverse=True)


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


class _Pages:
    """The endpoints over one `Outputs`."""

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

    async def status(self, _request: Request) -> Response:
        """Return the status page."""
        published = self.outputs.published
        if published is None:
            return PlainTextResponse("not judged yet\n", status_code=503)
        return HTMLResponse(await anyio.to_thread.run_sync(pages.status_page, published))

    async def application(self, request: Request) -> Response:
        """Return the page of one application."""
        published, name = self.outputs.published, request.path_params["application"]
        if published is None:
            return PlainTextResponse("not judged yet\n", status_code=503)
        page = await anyio.to_thread.run_sync(pages.application_page, published, name)
        return HTMLResponse(page) if page is not None else self._not_found()

    async def runbook(self, request: Request) -> Response:
        """Return the runbook of an alert, in the site's language where there is one."""
        name, directory = request.path_params["alert"], self.outputs.runbooks
        if directory is None or not _ALERT_NAME.match(name):
            return self._not_found()
        for candidate in (f"{name}.{self._words().language}.md", f"{name}.en.md"):
            content = await anyio.to_thread.run_sync(_read, directory / candidate, 1 << 20)
            if content is not None:
                return Response(content, media_type="text/plain; charset=utf-8")
        return self._not_found()

    async def reports(self, _request: Request) -> Response:
        """Return the list of reports."""
        words = self._words()
        found = await anyio.to_thread.run_sync(_listed, self.outputs.reports)
        published = self.outputs.published
        listed = [(name, words.size(size)) for name, size in found]
        site = published.site if published else ""
        return HTMLResponse(pages.render("reports.html", words, site=site, reports=listed))

    async def report(self, request: Request) -> Response:
        """Return one report."""
        name = request.path_params["name"]
        kind = REPORT_TYPES.get(Path(name).suffix)
        if kind is None or not _FILE_NAME.match(name):
            return self._not_found()
        content = await anyio.to_thread.run_sync(_read, self.outputs.reports / name, REPORT_LIMIT)
        if content is None:
            return self._not_found()
        return Response(
            content, media_type=kind, headers={"content-security-policy": _REPORT_POLICY}
        )

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


def create_app(outputs: Outputs, access: Access | None = None) -> Starlette:
    """Return the application that serves `outputs` to whom `access` lets in; left out: to everybody."""
    served = _Pages(outputs)
    return Starlette(
        routes=[
            Route("/metrics", served.metrics),
            Route("/-/healthy", served.healthy),
            Route("/-/ready", served.ready),
            Route("/", served.status),
            Route("/applications/{application}", served.application),
            Route("/runbooks/{alert}", served.runbook),
            Route(POSTED, served.job_report, methods=["POST"]),
            Route(VANTAGE, served.vantage_report, methods=["POST"]),
            Route("/api/v1/status", status_api.endpoint(outputs)),
            Route("/reports/", served.reports),
            Route("/reports/{name}", served.report),
            Mount("/static", StaticFiles(directory=pages.STATIC)),
        ],
        middleware=[
            Middleware(ReadOnly),
            *([Middleware(Guard, access=access)] if access is not None else []),
            Middleware(Bounded),
        ],
    )
