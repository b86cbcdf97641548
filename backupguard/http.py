"""Bounded HTTP for plug-ins (`contracts.Http`): system certificates, no redirects, 16 MiB at most.

Nothing is unpacked: a few bytes that become gigabytes are never asked for, and not understood.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

from backupguard.contracts import SYSTEM_TRUST, Answered, Cancel, Http, Tampering, Trust
from backupguard.errors import Misunderstood, Unreachable

BODY_LIMIT = 16 << 20
_CHUNK = 1 << 16
#: A whole answer may take so many times as long as the wait for its next bytes.
_TIMES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundedHttp(Http):
    """HTTP of one run. A fresh connection per request: probes ask little and seldom."""

    cancel: Cancel

    def get(
        self, url: str, *, headers: Mapping[str, str], timeout_s: int, trust: Trust = SYSTEM_TRUST
    ) -> tuple[int, bytes]:
        """Return status and body, whatever the status.

        Raises Unreachable (timeout, dns, tls, refused), Misunderstood (output_unparsable) for a body
        over the limit, Cancelled. No error holds the URL or a header: they may carry credentials.
        """
        answered = self._ask("GET", url, headers, None, timeout_s, trust)
        return answered.status, answered.body

    def post(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: int,
        trust: Trust = SYSTEM_TRUST,
    ) -> tuple[int, bytes]:
        """Post once; returns and raises as `get` does."""
        answered = self._ask("POST", url, headers, body, timeout_s, trust)
        return answered.status, answered.body

    def tampering(self, canaries: Collection[str]) -> Tampering:
        """Return what an attacker asks with: it posts to and deletes `canaries`, exact URLs, only."""
        return _CanariesOnly(send=self._ask, canaries=frozenset(canaries))

    def _ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_s: int,
        trust: Trust,
        *,
        again: int = 1,
    ) -> Answered:
        import urllib3  # here, because the idle daemon imports this module too

        self.cancel.raise_if_set()
        latest = time.monotonic() + _TIMES * timeout_s
        # other=0: a certificate that does not hold now does not hold a second later.
        retries = urllib3.Retry(
            connect=again, read=0, redirect=False, status=0, other=0, backoff_factor=0.2
        )
        try:
            with urllib3.PoolManager(retries=retries, **_tls(trust)) as pool:
                answer = pool.request(
                    method,
                    url,
                    body=body,
                    headers=dict(headers),
                    timeout=timeout_s,
                    preload_content=False,
                    decode_content=False,
                )
                with closing(answer):
                    return Answered(
                        status=answer.status,
                        body=self._body(answer, latest),
                        headers={name.lower(): value for name, value in answer.headers.items()},
                    )
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(_code(error)) from None

    def _body(self, answer: Any, latest: float) -> bytes:
        """Return the body, as it comes; raises Unreachable (timeout) after `latest`."""
        received = bytearray()
        while chunk := answer.read1(_CHUNK, decode_content=False):
            self.cancel.raise_if_set()
            if time.monotonic() > latest:
                raise Unreachable("timeout")
            received += chunk
            if len(received) > BODY_LIMIT:
                raise Misunderstood("output_unparsable")
        return bytes(received)


@dataclass(frozen=True, slots=True, kw_only=True)
class _CanariesOnly(Tampering):
    """HTTP that changes nothing but the URLs it was made for."""

    send: Callable[..., Answered]
    canaries: frozenset[str]

    def ask(
        self,
        method: Literal["GET", "POST", "DELETE"],
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        timeout_s: int,
        trust: Trust = SYSTEM_TRUST,
    ) -> Answered:
        """Ask once; raises ValueError for a change of anything that was not named."""
        if method != "GET" and (method not in {"POST", "DELETE"} or url not in self.canaries):
            raise ValueError(f"{method} is sent to canaries only")
        sent = body if method == "POST" else None
        return self.send(method, url, headers, sent, timeout_s, trust, again=0)


def _tls(trust: Trust) -> dict[str, Any]:
    """Return what the pool is told of the certificates to believe."""
    if trust.fingerprint is not None:
        return {
            "cert_reqs": "CERT_NONE",  # the fingerprint names the one certificate there may be
            "assert_hostname": False,
            "assert_fingerprint": trust.fingerprint.replace(":", "").lower(),
        }
    return {"ca_certs": str(trust.ca)} if trust.ca is not None else {}


def _code(error: BaseException) -> str:
    """Return the code of a failed request from the innermost reason urllib3 gives."""
    import urllib3

    reason = getattr(error, "reason", None)
    innermost = reason if isinstance(reason, BaseException) else error
    if isinstance(innermost, urllib3.exceptions.NameResolutionError):
        return "dns"
    if isinstance(innermost, urllib3.exceptions.SSLError):
        return "tls"
    # A refused connection is a kind of timeout to urllib3.
    late = isinstance(innermost, urllib3.exceptions.TimeoutError)
    if late and not isinstance(innermost, urllib3.exceptions.NewConnectionError):
        return "timeout"
    return "refused"
