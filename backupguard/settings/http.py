"""The port of metrics and pages: where it listens, and who must say who they are."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from backupguard.contracts import SettingsModel
from backupguard.errors import ConfigurationError, ConfigurationProblem
from backupguard.model import Message
from backupguard.settings.files import Trouble
from backupguard.settings.problems import shown

#: Requests per minute of one client; a page is two of them, and a wall of screens a few hundred.
PER_MINUTE = 600

_TOKEN = r"^[A-Za-z][A-Za-z0-9-]{0,63}$"  # noqa: S105 - a header's name


class Proxy(SettingsModel):
    """A reverse proxy that authenticates people itself, and names them in a header of its own.

    Only what comes from `addresses` (addresses or networks) is believed; it must set `header` on every
    request, and drop one that a client sent.
    """

    addresses: tuple[Annotated[str, Field(min_length=2)], ...] = Field(min_length=1)
    header: str = Field(default="X-Forwarded-User", pattern=_TOKEN)


class HttpSettings(SettingsModel):
    """The port of metrics, pages and health.

    `web_config` is a file in the format of Prometheus' own tools: TLS and who may read. Beyond this
    host, either that or a `proxy` is needed. Links of alerts lead to `runbook_base`/ALERT. A client
    that asks more often than `requests_per_minute` is answered 429; metrics and health do not count.
    """

    listen: str = "127.0.0.1:9789"
    web_config: Path | None = None
    proxy: Proxy | None = None
    requests_per_minute: int = Field(default=PER_MINUTE, ge=10, le=1_000_000)
    runbook_base: str | None = None  # left out: the daemon that an alert is about


def is_loopback(listen: str) -> bool:
    """Tell whether "host:port" is reached from this host only; of names, localhost alone is."""
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def rules(data: Mapping[str, Any]) -> Iterator[Trouble]:
    """Report addresses of a proxy that are none."""
    proxy = _table(_table(data, "http"), "proxy")
    addresses = proxy.get("addresses")
    for number, address in enumerate(addresses if isinstance(addresses, list) else ()):
        path = ("http", "proxy", "addresses", number)
        try:
            network = ipaddress.ip_network(str(address), strict=False)
        except ValueError:
            values = {"found": shown(address, path)}
            yield Trouble(path=path, message=Message(id="settings.http.no-address", values=values))
            continue
        if network.prefixlen == 0:
            yield Trouble(path=path, message=Message(id="settings.http.proxy-everywhere"))


def access(data: Mapping[str, Any]) -> tuple[list[Trouble], list[ConfigurationProblem]]:
    """Return what is wrong with who may read: with the port's own settings, and in the file they name.

    A port that others reach needs TLS with users or client certificates, or a proxy.
    """
    http = _table(data, "http")
    listen, place = http.get("listen"), http.get("web-config")
    secured = False
    if isinstance(place, str) and place:
        from backupguard.settings.web_config import read

        try:
            secured = read(Path(place)).secured
        except ConfigurationError as error:
            return [], list(error.problems)
    if not isinstance(listen, str) or secured or "proxy" in http:
        return [], []
    if ":" not in listen or is_loopback(listen):  # no address at all is reported elsewhere
        return [], []
    path = ("http", "listen")
    message = Message(id="settings.http.open", values={"found": shown(listen, path)})
    remedy = Message(id="remedy.http-open")
    return [Trouble(path=path, message=message, remedy=remedy)], []


def _table(data: Any, name: str) -> Mapping[str, Any]:
    found = data.get(name) if isinstance(data, Mapping) else None
    return found if isinstance(found, Mapping) else {}
