"""Attacks a restic repository behind a rest-server, with the credentials the backup client has.

What is asked, and nothing else (tried with rest-server 0.13):

- in the repository itself, DELETE of a random id that no object bears, once for each kind of file a
  thief would delete: a server that only appends answers 403 before it looks whether the file exists,
  any other one says that it is deleted (200) or absent (404). `locks` are left alone: clients may
  always delete them.
- in a repository of our own, `backupguard-canary` below it or beside it: one file is put there with
  POST, as every backup does; then POST of other bytes over its name, and its DELETE. What came of it
  is read back and never believed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from backupguard.contracts import (
    SYSTEM_TRUST,
    Answered,
    Attacker,
    AttackerKind,
    Attempt,
    Bearing,
    CanaryPlace,
    Context,
    Tampering,
    Trust,
)
from backupguard.errors import AccessRefused, Misunderstood, Unreachable
from backupguard.repositories.attempting import (
    CANARY,
    Came,
    attempted,
    clock_skew,
    notes_on,
    refused,
    untried,
    worked,
    writer_missing,
)
from backupguard.repositories.restic_settings import ResticSettings

_TIMEOUT_S = 30
_ACCEPT = "application/vnd.x.restic.rest.v1"
#: What a thief would delete, by the name of the attempt.
_KINDS = {
    "delete-data": "data",
    "delete-snapshot": "snapshots",
    "delete-index": "index",
    "delete-key": "keys",
}
_NO = frozenset({403, 405})
_DONE = frozenset({200, 202, 204})
_GONE = frozenset({404, 410})


class ResticRestAttacker(Attacker):
    """Tries what is said above, once each."""

    kind = AttackerKind.BACKUP_WRITER

    def __init__(self, identifier: str, settings: ResticSettings, context: Context) -> None:
        self._identifier = identifier
        self._settings = settings
        self._context = context
        certificate = settings.ca_certificate
        self._trust = Trust(ca=certificate) if certificate is not None else SYSTEM_TRUST
        self._tampering: Tampering = context.http.tampering(())
        self._skewed: bool | None = None
        self._put: str | None = None
        self._read_only = False

    def attempts(self, canary: CanaryPlace) -> Iterator[Attempt]:
        """Yield intents and results. Raises Unreachable, AccessRefused (authentication)."""
        base = self._settings.http_url
        absent = hashlib.sha256(f"absent {canary.token}".encode()).hexdigest()
        content = f"BackupGuard canary {canary.token}\n".encode()
        name = hashlib.sha256(content).hexdigest()
        victims = {attempt: f"{base}{kind}/{absent}" for attempt, kind in _KINDS.items()}
        places = [f"{place}{CANARY}/" for place in _places(base)]
        puts = [f"{place}data/{name}" for place in places]
        makes = [f"{place}?create=true" for place in places]
        self._tampering = self._context.http.tampering([*victims.values(), *puts, *makes])
        self._look(base)
        for url, make in zip(puts, makes, strict=True):
            put = partial(self._try_to_put, url, make, content)
            yield from attempted("put-canary", _shown(url), put, destructive=False)
            if self._put is not None:
                break
        for attempt, url in victims.items():
            yield from attempted(attempt, _shown(url), partial(self._delete_absent, url))
        target = _shown(self._put or puts[0])
        over = partial(self._overwrite, content)
        yield from attempted("overwrite-canary", target, over)
        yield from attempted("delete-canary", target, self._delete)

    def bearing(self) -> Bearing:
        """Return that the repository itself was asked, and whether these rights are a writer's."""
        credentials = "writer" if self._put is not None else "unknown"
        if self._put is None and self._read_only:
            credentials = "read_only"
        code = None if self._put is not None else "canary_refused"
        return Bearing(
            reaches_data=True,
            credentials=credentials,
            code="clock_skew" if self._skewed else code,
            notes=notes_on(self._settings.credentials, self._context),
        )

    # ---- what is asked

    def _look(self, base: str) -> None:
        """Raise unless the repository's `config` can be read; compare the clocks."""
        answered = self._ask("GET", f"{base}config")
        identifier = self._identifier
        if answered.status == 403:
            raise AccessRefused("permission", repository=identifier)
        if answered.status == 404:
            raise Unreachable("not_found", repository=identifier)
        if answered.status >= 500:
            raise Unreachable("http_5xx", repository=identifier)
        if answered.status != 200:
            raise Misunderstood("output_unparsable", repository=identifier)
        self._skewed = clock_skew(answered.headers.get("date"), self._context.now())

    def _try_to_put(self, url: str, make: str, content: bytes) -> Came:
        answered = self._ask("POST", url, content, elsewhere=True)
        if answered.status in _GONE:  # no such repository yet
            self._ask("POST", make, elsewhere=True)
            answered = self._ask("POST", url, content, elsewhere=True)
        if answered.status in _DONE and self._read(url) == content:
            self._put = url
            return worked(str(answered.status), _request_id(answered))
        self._read_only = self._read_only or answered.status in _NO
        return refused(str(answered.status), _request_id(answered))

    def _delete_absent(self, url: str) -> Came:
        answered = self._ask("DELETE", url)
        code, request_id = str(answered.status), _request_id(answered)
        if answered.status in _NO:
            return refused(code, request_id)
        if answered.status in _DONE | _GONE:
            return worked(code, request_id)
        return untried(code, request_id)

    def _overwrite(self, content: bytes) -> Came:
        if self._put is None:
            return untried("canary_refused")
        answered = self._ask("POST", self._put, b"overwritten " + content)
        found = self._read(self._put)
        code, request_id = str(answered.status), _request_id(answered)
        if found is None:
            return untried(code, request_id)
        return (refused if found == content else worked)(code, request_id)

    def _delete(self) -> Came:
        if self._put is None:
            return untried("canary_refused")
        answered = self._ask("DELETE", self._put)
        code, request_id = str(answered.status), _request_id(answered)
        left = self._ask("GET", self._put)
        if left.status in _GONE:
            return worked(code, request_id)
        return (refused if left.status == 200 and left.body else untried)(code, request_id)

    def _read(self, url: str) -> bytes | None:
        answered = self._ask("GET", url)
        if answered.status in _GONE:
            return b""
        return answered.body if answered.status == 200 else None

    def _ask(
        self, method: Any, url: str, body: bytes = b"", *, elsewhere: bool = False
    ) -> Answered:
        """Ask once; raises Unreachable, and AccessRefused (authentication) for 401.

        `elsewhere`: not in the repository itself, where an account may have no business.
        """
        reference = self._settings.credentials.writer_for_probe
        headers = {"Accept": _ACCEPT}
        if reference is not None:
            login = base64.b64encode(self._context.secret(reference).reveal().strip())
            headers["Authorization"] = "Basic " + login.decode("ascii")
        answered = self._tampering.ask(
            method, url, headers=headers, body=body, timeout_s=_TIMEOUT_S, trust=self._trust
        )
        if answered.status == 401 and not elsewhere:
            raise AccessRefused("authentication", repository=self._identifier)
        return answered


def _places(base: str) -> list[str]:
    """Return where a repository of our own may lie: below, and beside where there is a beside."""
    parts = urlsplit(base)
    above = parts.path.rstrip("/").rpartition("/")[0]
    beside = urlunsplit(parts._replace(path=f"{above}/"))
    return [base, beside] if parts.path.strip("/") else [base]


def _shown(url: str) -> str:
    """Return the path of a URL: all of it that a record holds."""
    return urlsplit(url).path


def _request_id(answered: Answered) -> str | None:
    return answered.headers.get("x-request-id")


def attack(
    identifier: str, settings: ResticSettings, context: Context
) -> AbstractContextManager[Attacker]:
    """Return the attacker. Raises MissingMeans (writer_missing) where readers log in, and no writer."""
    credentials = settings.credentials
    if credentials.backend is not None and credentials.writer_for_probe is None:
        raise writer_missing(identifier)
    return nullcontext(ResticRestAttacker(identifier, settings, context))
