"""What is asked of a Prometheus as Grafana would ask it, and small servers that it scrapes."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from dashboards.__main__ import built

#: Every panel of the English dashboards, by dashboard and title.
PANELS: dict[tuple[str, str], dict[str, Any]] = {
    (name.removeprefix("en/").removesuffix(".json"), panel["title"]): panel
    for name, dashboard in built().items()
    if name.startswith("en/")
    for panel in dashboard["panels"]
}

#: Rules that the dashboards read.
RULES = ("backupguard.rules.yml", "backupguard-ght.rules.yml")


@dataclass
class Sites:
    """What each site serves now, by its number; one that has nothing answers 503."""

    served: dict[int, bytes] = field(default_factory=dict)
    port: int = 0

    def scrapes(self, count: int) -> list[dict[str, Any]]:
        """Return the `scrape_configs` of so many sites: one job, an instance each."""
        targets = [
            {
                "targets": [f"127.0.0.1:{self.port}"],
                "labels": {"__metrics_path__": f"/{number}", "instance": f"site-{number}:9789"},
            }
            for number in range(count)
        ]
        return [{"job_name": "backupguard", "static_configs": targets}]


class _Handler(BaseHTTPRequestHandler):
    sites: ClassVar[Sites]

    def do_GET(self) -> None:
        text = self.sites.served.get(int(self.path.removeprefix("/")))
        self.send_response(200 if text else 503)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.end_headers()
        self.wfile.write(text or b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(served: Mapping[int, bytes] | None = None) -> Iterator[Sites]:
    """Serve the metrics of sites over HTTP."""
    sites = Sites(dict(served or {}))
    handler = type("Handler", (_Handler,), {"sites": sites})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    sites.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield sites
    finally:
        server.shutdown()
        server.server_close()


def interpolated(expression: str, site: str, application: str = "dpi") -> str:
    """Return a query as Grafana sends it (its Prometheus source, `interpolateQueryExpr`).

    Double quotes are not escaped there, unless prometheusSpecialCharsInLabelValues is switched on.
    """
    escaped = re.sub(r"[$^*{}\[\]'+?.()|]", r"\\\\\g<0>", site.replace("\\", "\\\\\\\\"))
    values = {"site": escaped, "application": application, "control": ".*", "__range": "1h"}
    return re.sub(r"\$(site|application|control|__range)\b", lambda m: values[m[1]], expression)
