"""Asks a vendor's REST interface: only by GET, page by page, its troubles put into our words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from backupguard.contracts import SYSTEM_TRUST, Context, Trust
from backupguard.errors import AccessRefused, Changing, Misunderstood, Unreachable

#: Waits before a server that is too busy is asked again, in seconds.
PATIENCE_S = (1.0, 5.0)
#: More pages than any server has: a listing that never ends is none.
PAGES_LIMIT = 20_000
_BUSY = frozenset({429, 503})
_STATUS_NAMES: Mapping[int, tuple[type[AccessRefused | Unreachable], str]] = {
    401: (AccessRefused, "authentication"),
    403: (AccessRefused, "permission"),
    404: (Unreachable, "not_found"),
}


@dataclass(slots=True, kw_only=True)
class Rest:
    """One server. `headers` carry the authorization and are never part of an error."""

    context: Context
    identifier: str
    base: str
    timeout_s: int
    trust: Trust = SYSTEM_TRUST
    headers: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, **asked: str | int) -> Any:
        """Return the JSON that a path answers with.

        Raises AccessRefused (authentication, permission), Unreachable (not_found, http_5xx and what
        `Http.get` raises), Misunderstood (output_unparsable) for what is no JSON: a portal's page, half
        an answer, a redirect.
        """
        query = f"?{urlencode(asked)}" if asked else ""
        url = self.base + path + query
        for wait in (*PATIENCE_S, None):
            status, body = self.context.http.get(
                url, headers=self.headers, timeout_s=self.timeout_s, trust=self.trust
            )
            if status not in _BUSY or wait is None:
                break
            self.context.cancel.wait(wait)
            self.context.cancel.raise_if_set()
        return self.understood(status, body)

    def understood(self, status: int, body: bytes) -> Any:
        """Return the JSON of an answer; raises as `get` does."""
        known = _STATUS_NAMES.get(status)
        if known is not None:
            kind, code = known
            raise kind(code, repository=self.identifier)
        if status in _BUSY or status >= 500:
            raise Unreachable("http_5xx", repository=self.identifier)
        try:
            if status != 200:
                raise ValueError(status)
            return json.loads(body)
        except (ValueError, RecursionError):
            raise self.misunderstood() from None

    def list_at(self, answer: Any, key: str = "data") -> list[Mapping[str, Any]]:
        """Return the list of objects at a key of an answer; raises Misunderstood for anything else."""
        found = answer.get(key) if isinstance(answer, Mapping) else None
        if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
            raise self.misunderstood()
        return found

    def pages(self, path: str, size: int, **asked: str | int) -> Iterator[Mapping[str, Any]]:
        """Yield every object of a listing with `skip`, `limit` and `pagination.total`.

        Raises Misunderstood when the server's count and what it gave do not agree, Changing when that
        count falls meanwhile, for what moves up a page is not seen: a listing that lost something on
        its way must not make points vanish.
        """
        seen, most = 0, 0
        for _ in range(PAGES_LIMIT):
            answer = self.get(path, skip=seen, limit=size, **asked)
            found = self.list_at(answer)
            pagination = answer.get("pagination")
            total = pagination.get("total") if isinstance(pagination, Mapping) else None
            if not isinstance(total, int):
                raise self.misunderstood()
            if total < most:
                raise Changing("repository_changed", repository=self.identifier)
            most = total
            yield from found
            seen += len(found)
            if seen >= total:
                return
            if not found:
                raise self.misunderstood()
        raise self.misunderstood()

    def moment(self, text: object) -> datetime:
        """Return an ISO 8601 time with a zone, or seconds since 1970; raises Misunderstood."""
        try:
            if isinstance(text, int) and not isinstance(text, bool):
                return datetime.fromtimestamp(text, UTC)
            read = datetime.fromisoformat(str(text))
            if read.tzinfo is None:
                raise ValueError
            return read.astimezone(UTC)
        except (ValueError, OverflowError, OSError):
            raise self.misunderstood() from None

    def text(self, record: Mapping[str, Any], key: str) -> str:
        """Return a text that a record must have; raises Misunderstood."""
        value = record.get(key)
        if not isinstance(value, str) or not value:
            raise self.misunderstood()
        return value

    def misunderstood(self) -> Misunderstood:
        """Return the error of an answer that cannot be understood; nothing of it stands there."""
        return Misunderstood("output_unparsable", repository=self.identifier)


def path_part(name: str) -> str:
    """Return a name as one component of a URL's path."""
    return quote(name, safe="")
