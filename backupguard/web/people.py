"""What people ask for: pages in their language, and files to take away. Everything is read only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import anyio.to_thread
import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from backupguard.errors import BackupGuardError
from backupguard.language import Words
from backupguard.web import downloads
from backupguard.web.asked import Asked, asked
from backupguard.web.published import Outputs
from backupguard.web.readers import Readers

log = structlog.get_logger(__name__)

#: Where each page stands. A new one here needs a row in the access matrix of the tests.
PATHS = {
    "/": "status",
    "/applications/{application}": "application",
    "/applications/{application}/calendar": "calendar",
    "/restore-tests/": "restore-tests",
    "/restore-tests/{test}": "restore-test",
    "/findings/": "findings",
    "/media/": "media",
    "/reports/": "reports",
    "/evidence/": "evidence",
    "/runbooks/": "runbooks",
    "/runbooks/{alert}": "runbook",
}

#: A report brings its own style sheet inside; it may load and run nothing.
_REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"
)

_SPEAKS = {"vary": "accept-language"}


class _NotJudged(Exception):
    """Nothing stands yet that a page could show."""


class People:
    """The pages and downloads over one `Outputs`."""

    def __init__(self, outputs: Outputs, readers: Readers | None = None) -> None:
        self.outputs = outputs
        self.readers = readers or Readers()

    def routes(self) -> list[Route]:
        """Return every page and download."""
        return [
            *(Route(path, self._page(name), name=name) for path, name in PATHS.items()),
            Route("/reports/{name}", self.report),
            Route("/evidence/{name}", self.bundle),
        ]

    def _asked(self, request: Request) -> Asked:
        published = self.outputs.published
        return asked(
            request.url.path,
            request.query_params,
            request.headers.get("accept-language", ""),
            published.language if published is not None else "en",
            request.path_params,
        )

    def _page(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        async def page(request: Request) -> Response:
            """Return a page, made in a thread."""
            wanted = self._asked(request)
            if name == "runbook" and "text/html" not in request.headers.get("accept", ""):
                return await self._runbook(wanted)
            return await self._answered(wanted, lambda: self._made(name, wanted))

        return page

    async def _answered(
        self,
        wanted: Asked,
        make: Callable[[], str | None],
        kind: type[Response] = HTMLResponse,
    ) -> Response:
        """Return what `make` makes, or why it is not there."""
        words = Words(wanted.language)
        later = {"retry-after": "10", **_SPEAKS}
        try:
            made = await self.readers.run(make)
        except _NotJudged:
            return PlainTextResponse(words.text("web.not-judged") + "\n", 503, later)
        except TimeoutError:
            log.warning("web.slow", path=wanted.path)
            return PlainTextResponse(words.text("web.slow") + "\n", 503, later)
        except BackupGuardError as error:
            log.warning("web.unread", path=wanted.path, code=error.code)
            return PlainTextResponse(words.say(error.message) + "\n", 503, later)
        if made is None:
            return self._not_found(wanted)
        return kind(made, headers=_SPEAKS)

    def _made(self, name: str, wanted: Asked) -> str | None:
        # the templates' engine comes with the first page: most daemons are only scraped
        from backupguard.web.pages import PAGES, WITHOUT_JUDGEMENT, View

        view = View(self.outputs, wanted)
        if view.found is None and name not in WITHOUT_JUDGEMENT:
            raise _NotJudged
        return PAGES[name](view)

    def _not_found(self, wanted: Asked) -> Response:
        return PlainTextResponse(Words(wanted.language).text("web.not-found") + "\n", 404, _SPEAKS)

    async def _runbook(self, wanted: Asked) -> Response:
        """Return a runbook as it is written, for who asks from a terminal."""

        def text() -> str | None:
            from backupguard.web.pages.runbooks import text_of

            return text_of(self.outputs.runbooks, wanted.parts["alert"], wanted.language)

        return await self._answered(wanted, text, PlainTextResponse)

    async def report(self, request: Request) -> Response:
        """Return one report."""
        name, wanted = request.path_params["name"], self._asked(request)
        if not downloads.report_like(name):
            return self._not_found(wanted)
        place, limit = self.outputs.reports / name, downloads.REPORT_LIMIT
        content = await anyio.to_thread.run_sync(downloads.read, place, limit)
        if content is None:
            return self._not_found(wanted)
        kind = downloads.REPORT_TYPES[place.suffix]
        headers = {"content-security-policy": _REPORT_POLICY}
        if place.suffix == ".pdf":
            headers = {}  # a browser's own reader is no page: it stays under the rules of all
        return Response(content, media_type=kind, headers=headers)

    async def bundle(self, request: Request) -> Response:
        """Return one bundle of evidence, as large as it may be."""
        name, wanted = request.path_params["name"], self._asked(request)
        records = self.outputs.records
        if records is None or not downloads.bundle_like(name):
            return self._not_found(wanted)
        found: tuple[int, Iterator[bytes]] | None = await anyio.to_thread.run_sync(
            downloads.streamed, records.bundles / name
        )
        if found is None:
            return self._not_found(wanted)
        size, pieces = found
        headers = {
            "content-length": str(size),
            "content-disposition": f'attachment; filename="{name}"',
        }
        return StreamingResponse(pieces, media_type=downloads.BUNDLE_TYPE, headers=headers)
