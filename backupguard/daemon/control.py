"""The control socket: what operators ask of a living daemon, over HTTP on a Unix socket.

Who asks is the peer's uid as the kernel knows it; whoever may open the socket (0660, group
`backupguard-operators`) may ask.
"""

from __future__ import annotations

import grp
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Protocol, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from backupguard.contracts import Tools
from backupguard.daemon import custody, declared_tests, overrides
from backupguard.daemon.clock import utc_now
from backupguard.daemon.requests import RESOURCES, author, run_json
from backupguard.daemon.signatures import LONGEST
from backupguard.daemon.statements import Statements
from backupguard.errors import BackupGuardError, Busy, ConfigurationError, UsageError
from backupguard.evidence.statements import Statement
from backupguard.model import Json, Run
from backupguard.settings import Settings

SOCKET_NAME = "control.sock"
OPERATORS = "backupguard-operators"
BODY_LIMIT = 64 * 1024
#: A little more than the largest signed report, and the authorities that come with one.
FILE_LIMIT, CA_LIMIT = 65 << 20, 256 << 10

T = TypeVar("T")


class Operations(Protocol):
    """What the daemon does for operators; all but `about` may take a while."""

    def about(self) -> Mapping[str, Json]:
        """Return what the daemon is and what it does now."""

    async def enqueue(
        self, task: str, subject: str, options: Json, author: str, key: bytes | None = None
    ) -> Run:
        """Insert a run, with the key a person brought for it; UsageError for an unknown subject."""

    async def run(self, run: str) -> Run | None:
        """Return a run."""

    async def runs(self) -> tuple[Run, ...]:
        """Return the runs that wait or run."""

    async def cancel(self, run: str, author: str) -> bool:
        """End a run; False when it has ended already."""

    async def pause(self, until: datetime | None, reason: str, author: str) -> None:
        """Start nothing by itself until then."""

    async def end_pause(self, reason: str, author: str) -> bool:
        """End the pause; False when there is none."""

    async def reload(self, author: str) -> None:
        """Load the settings again; raises ConfigurationError, and the old ones stay."""

    async def state(self, work: Callable[[Statements], T]) -> T:
        """Have what people state and accept done or told; raises UsageError for what is refused."""

    def tools(self) -> Tools:
        """Return what verifies signatures."""

    def settings(self) -> Settings:
        """Return the settings that hold."""


def listen(directory: Path) -> socket.socket:
    """Return the bound control socket, ready to be served; one that a dead daemon left is replaced.

    The caller holds the store's daemon lock, so nobody alive listens there.
    """
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = directory / SOCKET_NAME
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o117)
    try:
        listener.bind(_short(path))
    finally:
        os.umask(mask)
    with suppress(KeyError, PermissionError):
        os.chown(path, -1, grp.getgrnam(OPERATORS).gr_gid)
    return listener


def _short(path: Path) -> str:
    """Return a name of the path that fits a socket address (107 bytes), whatever its length."""
    if len(os.fsencode(path)) <= 107:
        return str(path)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    # the descriptor stays open on purpose: the name goes through it, and there is one per process
    return f"/proc/self/fd/{directory}/{path.name}"


Endpoint = Callable[[Request], Awaitable[Response]]


def _problem(status: int, code: str, **more: Json) -> JSONResponse:
    return JSONResponse({"code": code, **more}, status_code=status)


def _guarded(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint with its errors told as JSON."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ConfigurationError as error:
            problems = [
                {"file": found.file, "line": found.line, "key": found.key, **_told(found.message)}
                for found in error.problems
            ]
            return _problem(422, error.code, problems=problems)
        except UsageError as error:
            return _problem(422, error.code, **_told(error.message))
        except Busy as error:
            return _problem(409, error.code, **_told(error.message))
        except BackupGuardError as error:
            return _problem(503, error.code, **_told(error.message))

    return answer


def _told(message: object) -> dict[str, Json]:
    return {"message": getattr(message, "id", ""), "values": dict(getattr(message, "values", {}))}


async def _body(request: Request) -> dict[str, Json]:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > BODY_LIMIT:
            raise UsageError("usage")
    return _parsed(content)


async def _with_file(request: Request, into: Path) -> dict[str, Json]:
    """Return the JSON of a request's first line; what follows it is written into a file."""
    first, written, parted = bytearray(), 0, False
    with into.open("wb") as file:
        async for part in request.stream():
            rest = part
            if not parted:
                line, newline, rest = part.partition(b"\n")
                first += line
                parted = bool(newline)
                if len(first) > CA_LIMIT + BODY_LIMIT:
                    raise UsageError("usage")
            written += file.write(rest)
            if written > FILE_LIMIT:  # refused in words where it is judged
                break
    return _parsed(first)


def _parsed(content: bytes | bytearray) -> dict[str, Json]:
    try:
        value = json.loads(content or b"{}")
    except ValueError as error:
        raise UsageError("usage") from error
    if not isinstance(value, dict):
        raise UsageError("usage")
    return value


def _text(body: Mapping[str, Json], name: str, limit: int = 500) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value.strip() or len(value) > limit:
        raise UsageError("usage")
    return value.strip()


def _time(body: Mapping[str, Json], name: str) -> datetime | None:
    if body.get(name) is None:
        return None
    try:
        moment = datetime.fromisoformat(_text(body, name))
    except ValueError as error:
        raise UsageError("usage") from error
    if moment.tzinfo is None:
        raise UsageError("usage")
    return moment.astimezone(UTC)


def _caller(request: Request) -> str:
    client = request.scope["client"]
    return author(client[1])


def _uid(request: Request) -> int:
    uid: int = request.scope["client"][1]
    return uid


def _day(body: Mapping[str, Json], name: str) -> date:
    try:
        return date.fromisoformat(_text(body, name))
    except ValueError as error:
        raise UsageError("usage") from error


def statement_of(body: Mapping[str, Json]) -> Statement:
    """Return the statement that a request makes; raises UsageError for what is none."""
    values = body.get("values", {})
    if not isinstance(values, dict) or not all(
        isinstance(value, str | int) and not isinstance(value, bool) for value in values.values()
    ):
        raise UsageError("usage")
    return Statement(
        topic=_text(body, "topic"),
        subject=_text(body, "subject"),
        text=_text(body, "text"),
        until=_day(body, "until"),
        values=values,
    )


class _Control:
    """The endpoints."""

    def __init__(self, operations: Operations) -> None:
        self.operations = operations

    async def about(self, _request: Request) -> Response:
        """Say that the daemon lives, and what it does."""
        return JSONResponse(dict(self.operations.about()))

    async def modules(self, _request: Request) -> Response:
        """List what this process has imported: what makes a daemon heavy is meant for runners."""
        return JSONResponse(sorted(name for name, module in sys.modules.items() if module))

    async def enqueue(self, request: Request) -> Response:
        """Ask for a run."""
        body = await _body(request)
        task, subject = _text(body, "task"), _text(body, "subject")
        options = body.get("options") or {}
        if task not in RESOURCES or not isinstance(options, dict):
            raise UsageError("usage")
        key = body.get("key")  # not among the options: those are remembered
        if key is not None and not isinstance(key, str):
            raise UsageError("usage")
        brought = key.encode("utf-8", "surrogateescape") if key is not None else None
        run = await self.operations.enqueue(task, subject, options, _caller(request), brought)
        return JSONResponse(run_json(run), status_code=202)

    async def runs(self, _request: Request) -> Response:
        """List what waits and runs."""
        return JSONResponse([run_json(run) for run in await self.operations.runs()])

    async def run(self, request: Request) -> Response:
        """Say how far a run is."""
        run = await self.operations.run(request.path_params["run"])
        return JSONResponse(run_json(run)) if run else _problem(404, "unknown_subject")

    async def cancel(self, request: Request) -> Response:
        """End a run."""
        run = request.path_params["run"]
        if await self.operations.run(run) is None:
            return _problem(404, "unknown_subject")
        return JSONResponse({"cancelled": await self.operations.cancel(run, _caller(request))})

    async def pause(self, request: Request) -> Response:
        """Pause what the daemon starts by itself, or end the pause."""
        body, caller = await _body(request), _caller(request)
        reason = _text(body, "reason")
        if request.method == "DELETE":
            return JSONResponse({"ended": await self.operations.end_pause(reason, caller)})
        await self.operations.pause(_time(body, "until"), reason, caller)
        return JSONResponse({"paused": True})

    async def reload(self, request: Request) -> Response:
        """Load the settings again."""
        await self.operations.reload(_caller(request))
        return JSONResponse({"reloaded": True})

    async def attestations(self, _request: Request) -> Response:
        """List what people stated."""
        return JSONResponse(await self.operations.state(lambda s: s.attestations(utc_now())))

    async def attest(self, request: Request) -> Response:
        """Take a statement."""
        body, uid = await _body(request), _uid(request)
        statement = statement_of(body)
        armored = _text(body, "signature", LONGEST) if body.get("signature") is not None else None
        tools = self.operations.tools()
        seq = await self.operations.state(
            lambda s: s.attest(statement, armored, uid=uid, now=utc_now(), tools=tools)
        )
        return JSONResponse({"seq": seq, "authenticated": armored is not None}, status_code=201)

    async def statement(self, request: Request) -> Response:
        """Return the exact text that who asks would sign."""
        statement, uid = statement_of(await _body(request)), _uid(request)
        text = await self.operations.state(lambda s: s.text(statement, uid=uid, now=utc_now()))
        return JSONResponse({"text": text})

    async def withdraw(self, request: Request) -> Response:
        """Take a statement back."""
        reason, uid = _text(await _body(request), "reason"), _uid(request)
        seq = request.path_params["seq"]
        await self.operations.state(lambda s: s.withdraw(seq, reason, uid=uid, now=utc_now()))
        return JSONResponse({"withdrawn": seq})

    async def declare_test(self, request: Request) -> Response:
        """Take the record of a restore test that was done elsewhere."""
        body, uid = await _body(request), _uid(request)
        test, armored = body.get("test"), None
        if not isinstance(test, dict):
            raise UsageError("usage")
        if body.get("signature") is not None:
            armored = _text(body, "signature", LONGEST)
        tools = self.operations.tools()
        seq, new = await self.operations.state(
            lambda s: declared_tests.take(
                s.store, s.settings, test, armored, uid=uid, now=utc_now(), tools=tools
            )
        )
        return JSONResponse({"seq": seq, "new": new}, status_code=201 if new else 200)

    async def declared_text(self, request: Request) -> Response:
        """Return the exact text of a restore test, for its author to sign."""
        test, uid = await _body(request), _uid(request)
        text = await self.operations.state(
            lambda s: declared_tests.text(s.settings, test, uid, utc_now())
        )
        return JSONResponse({"text": text})

    async def file_signed(self, request: Request) -> Response:
        """Take a report that comes back signed, or a scan of its signed page."""
        from backupguard.daemon import acknowledgements  # and with it what writes reports

        uid, tools, settings = _uid(request), self.operations.tools(), self.operations.settings()
        with acknowledgements.received(settings) as file:
            body = await _with_file(request, file)
            scan, ca = None, None
            if body.get("month") is not None or body.get("text") is not None:
                scan = acknowledgements.Scan(month=_text(body, "month"), text=_text(body, "text"))
            if body.get("ca") is not None:
                ca = _text(body, "ca", CA_LIMIT).encode("ascii", "replace")
            taken = await self.operations.state(
                lambda s: acknowledgements.take(
                    s.store, s.settings, file, scan, ca=ca, uid=uid, now=utc_now(), tools=tools
                )
            )
        return JSONResponse(taken.as_json(), status_code=201 if taken.new else 200)

    async def media(self, _request: Request) -> Response:
        """List the offline media: where each one is."""
        return JSONResponse(
            await self.operations.state(lambda s: custody.register(s.store, s.settings, utc_now()))
        )

    async def move_medium(self, request: Request) -> Response:
        """Take somebody's word that a medium went out or came in."""
        body, uid, medium = await _body(request), _uid(request), request.path_params["medium"]
        direction, holder, place = (_text(body, name) for name in ("direction", "holder", "place"))
        seal = _text(body, "seal") if body.get("seal") is not None else None
        at = _time(body, "at")
        row = await self.operations.state(
            lambda s: custody.move(
                s.store,
                s.settings,
                medium=medium,
                direction=direction,
                holder=holder,
                place=place,
                seal=seal,
                at=at,
                uid=uid,
                now=utc_now(),
            )
        )
        return JSONResponse(row, status_code=201)

    async def waivers(self, _request: Request) -> Response:
        """List the exceptions that were asked for."""
        return JSONResponse(await self.operations.state(lambda s: s.waivers(utc_now())))

    async def waive(self, request: Request) -> Response:
        """Take the wish for an exception."""
        body, uid = await _body(request), _uid(request)
        control, subject = _text(body, "control"), _text(body, "subject")
        reason, owner, until = _text(body, "reason"), _text(body, "owner"), _day(body, "until")
        seq, waits = await self.operations.state(
            lambda s: s.waive(
                control=control,
                subject=subject,
                reason=reason,
                owner=owner,
                until=until,
                uid=uid,
                now=utc_now(),
            )
        )
        return JSONResponse({"seq": seq, "needs_confirmation": waits}, status_code=201)

    async def confirm(self, request: Request) -> Response:
        """Take a second person's word for an exception."""
        seq, uid = request.path_params["seq"], _uid(request)
        await self.operations.state(lambda s: s.confirm(seq, uid=uid, now=utc_now()))
        return JSONResponse({"confirmed": seq})

    async def end(self, request: Request) -> Response:
        """End an exception before its day."""
        reason, uid = _text(await _body(request), "reason"), _uid(request)
        seq = request.path_params["seq"]
        await self.operations.state(lambda s: s.end(seq, reason, uid=uid, now=utc_now()))
        return JSONResponse({"ended": seq})

    async def overrides(self, _request: Request) -> Response:
        """List the thresholds that people changed."""
        return JSONResponse(await self.operations.state(lambda s: overrides.every(s, utc_now())))

    async def override(self, request: Request) -> Response:
        """Take the wish for another threshold."""
        body, uid = await _body(request), _uid(request)
        names = ("control", "threshold", "value", "subject", "reason")
        said = {name: _text(body, name) for name in names}
        until = _day(body, "until")
        seq, waits = await self.operations.state(
            lambda s: overrides.override(s, **said, until=until, uid=uid, now=utc_now())
        )
        return JSONResponse({"seq": seq, "needs_confirmation": waits}, status_code=201)

    async def confirm_override(self, request: Request) -> Response:
        """Take a second person's word for another threshold."""
        seq, uid = request.path_params["seq"], _uid(request)
        await self.operations.state(lambda s: overrides.confirm(s, seq, uid=uid, now=utc_now()))
        return JSONResponse({"confirmed": seq})

    async def end_override(self, request: Request) -> Response:
        """End another threshold before its day."""
        reason, uid = _text(await _body(request), "reason"), _uid(request)
        seq = request.path_params["seq"]
        await self.operations.state(lambda s: overrides.end(s, seq, reason, uid=uid, now=utc_now()))
        return JSONResponse({"ended": seq})


def create_app(operations: Operations) -> Starlette:
    """Return the application behind the control socket."""
    control = _Control(operations)
    return Starlette(
        routes=[
            Route("/", _guarded(control.about)),
            Route("/modules", _guarded(control.modules)),
            Route("/runs", _guarded(control.runs), methods=["GET"]),
            Route("/runs", _guarded(control.enqueue), methods=["POST"]),
            Route("/runs/{run}", _guarded(control.run)),
            Route("/runs/{run}/cancel", _guarded(control.cancel), methods=["POST"]),
            Route("/pause", _guarded(control.pause), methods=["POST", "DELETE"]),
            Route("/reload", _guarded(control.reload), methods=["POST"]),
            Route("/attestations", _guarded(control.attestations), methods=["GET"]),
            Route("/attestations", _guarded(control.attest), methods=["POST"]),
            Route("/attestations/{seq:int}/withdraw", _guarded(control.withdraw), methods=["POST"]),
            Route("/attestations/text", _guarded(control.statement), methods=["POST"]),
            Route("/restore-tests", _guarded(control.declare_test), methods=["POST"]),
            Route("/restore-tests/text", _guarded(control.declared_text), methods=["POST"]),
            Route("/reports/signed", _guarded(control.file_signed), methods=["POST"]),
            Route("/media", _guarded(control.media), methods=["GET"]),
            Route("/media/{medium}/moves", _guarded(control.move_medium), methods=["POST"]),
            Route("/overrides", _guarded(control.overrides), methods=["GET"]),
            Route("/overrides", _guarded(control.override), methods=["POST"]),
            Route(
                "/overrides/{seq:int}/confirm", _guarded(control.confirm_override), methods=["POST"]
            ),
            Route("/overrides/{seq:int}/end", _guarded(control.end_override), methods=["POST"]),
            Route("/waivers", _guarded(control.waivers), methods=["GET"]),
            Route("/waivers", _guarded(control.waive), methods=["POST"]),
            Route("/waivers/{seq:int}/confirm", _guarded(control.confirm), methods=["POST"]),
            Route("/waivers/{seq:int}/end", _guarded(control.end), methods=["POST"]),
        ]
    )
