"""Who may read: what the web-config file and a declared proxy say, followed while the daemon lives.

A renewed certificate or a changed password holds for the next connection or request; a file that cannot
be used is logged once, and what held before it stays.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import time
from collections.abc import Callable
from typing import Any

import structlog

from backupguard.errors import ConfigurationError
from backupguard.settings.http import HttpSettings
from backupguard.settings.web_config import WebConfig, read

log = structlog.get_logger(__name__)

#: Seconds between two looks at the files.
LOOK_EVERY_S = 5.0

_Signature = tuple[tuple[int, int, int], ...]


class _Follows(ssl.SSLContext):
    """A context that hands each new connection to the one that holds at that moment."""

    now: Callable[[], ssl.SSLContext]

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Begin a connection."""
        return self.now().wrap_bio(*args, **kwargs)


class Access:
    """Who may read the port, by its settings; raises ConfigurationError where the file is wrong.

    `clock` counts seconds.
    """

    def __init__(self, settings: HttpSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.header = settings.proxy.header.lower() if settings.proxy is not None else None
        addresses = settings.proxy.addresses if settings.proxy is not None else ()
        self._proxies = [ipaddress.ip_network(one, strict=False) for one in addresses]
        self._clock = clock
        self._file = settings.web_config
        self._looked_at = clock()
        self._seen: _Signature = ()
        self._config: WebConfig | None = None
        self._context: ssl.SSLContext | None = None
        if self._file is not None:
            self._config = read(self._file)
            self._context = self._config.context()
            self._seen = _signature(self._config)

    @property
    def config(self) -> WebConfig | None:
        """What the file says now; None where none is named."""
        if self._config is not None and self._clock() - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = self._clock()
            self._look(self._config)
        return self._config

    def context(self) -> ssl.SSLContext | None:
        """Return what a server is given for TLS, None without; whether there is TLS stays as it is."""
        if self._context is None:
            return None
        made = _Follows(ssl.PROTOCOL_TLS_SERVER)
        made.now = self._now
        return made

    def is_proxy(self, host: str) -> bool:
        """Tell whether a request comes from a declared proxy."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._proxies)

    @property
    def by_proxy_only(self) -> bool:
        """Tell whether nobody but a proxy can say who somebody is."""
        return bool(self._proxies) and (self._config is None or not self._config.users)

    def figures(self) -> dict[str, float]:
        """Return the metrics of the port: when its certificate ends."""
        config = self.config
        end = config.expires_at if config is not None else None
        name = "http_certificate_expiry_timestamp_seconds"
        return {name: end.timestamp()} if end is not None else {}

    def _now(self) -> ssl.SSLContext:
        _ = self.config
        assert self._context is not None
        return self._context

    def _look(self, before: WebConfig) -> None:
        """Read again what changed; keep what held where that cannot be used."""
        seen = _signature(before)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            config = read(before.file)
            context = config.context()
        except ConfigurationError as error:
            for one in error.problems:
                log.error("web.access-kept", file=one.file, line=one.line, problem=one.message.id)
            return
        except (OSError, ValueError) as error:
            log.error("web.access-kept", file=str(before.file), problem=type(error).__name__)
            return
        weaker = (before.secured and not config.secured) or (before.users and not config.users)
        if weaker or (context is None) != (self._context is None):
            # what opens the port is decided at a start, where somebody looks
            log.error("web.access-kept", file=str(before.file), problem="restart-needed")
            return
        self._config, self._context = config, context
        self._seen = _signature(config)
        log.info("web.access-changed", file=str(before.file))


def _signature(config: WebConfig) -> _Signature:
    found = []
    for file in config.files:
        try:
            status = os.stat(file)  # noqa: PTH116 - follows links, as the reader does
        except OSError:
            found.append((0, 0, 0))
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)
