"""`GET /api/v1/status`: what stands, for pollers that have no BackupGuard of their own.

JSON by default; `format=nagios` is what a monitoring plugin prints, with its exit code in the header
`X-BackupGuard-Exit`. `application=` and `control=` choose. An answer that says UNKNOWN is an answer:
status 200. A status that is too old says so rather than what it said last.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from backupguard.errors import UsageError
from backupguard.language import LANGUAGES, Words
from backupguard.model import Json, Message
from backupguard.notify import standing
from backupguard.web.published import Outputs

EXIT_HEADER = "x-backupguard-exit"
_FORMATS = ("json", "nagios")


def _plugin(text: str, code: int) -> Response:
    return PlainTextResponse(
        text + "\n",
        media_type="text/plain; charset=utf-8",
        headers={EXIT_HEADER: str(code), "cache-control": "no-store"},
    )


def _json(document: Json, status: int = 200) -> Response:
    return JSONResponse(document, status_code=status, headers={"cache-control": "no-store"})


def endpoint(outputs: Outputs) -> Callable[[Request], object]:
    """Return the handler of `/api/v1/status` over these outputs."""

    def answer(request: Request) -> Response:
        asked = request.query_params
        form = asked.get("format", "json")
        published = outputs.published
        language = asked.get("language", published.language if published else "en")
        if form not in _FORMATS or language not in LANGUAGES:
            return _json({"error": "unknown_parameter"}, 400)
        words = Words(language, published.timezone if published else "UTC")
        now = datetime.now(UTC)
        if published is None or published.document is None:
            text = words.text("web.not-judged")
            if form == "nagios":
                return _plugin(standing.unknown(text), standing.NOT_MEASURABLE)
            return _json({"error": "not_judged", "text": text}, 503)
        document = published.document
        try:
            findings = standing.chosen(document, asked.get("application"), asked.get("control"))
        except UsageError as error:
            text = words.say(error.message)
            if form == "nagios":
                return _plugin(standing.unknown(text), standing.NOT_MEASURABLE)
            return _json({"error": error.code, "text": text}, 404)
        old = standing.stale(document, now)
        code = standing.NOT_MEASURABLE if old else standing.exit_code(findings)
        if form == "nagios":
            return _plugin(standing.plugin(document, findings, words, now), code)
        told = standing.as_json(document, findings, words)
        said = Message(id="status.silent", values={"judged_at": document["judged_at"]})
        return _json(
            {
                **told,
                "exit_code": code,
                "stale": old,
                "text": words.say(said) if old else None,
                "applications": standing.applications(document),
            }
        )

    async def status(request: Request) -> Response:
        """Return what stands; rendered in a thread, because a large site takes a while."""
        return await anyio.to_thread.run_sync(answer, request)

    return status
