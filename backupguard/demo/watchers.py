"""Prometheus and Alertmanager as a site runs them, with what BackupGuard ships for them.

The shipped rules and routes are used as they are; only how long everything waits is shortened, so that
a demonstration takes seconds and not minutes, and whoever is notified is a web server in this process.
"""

from __future__ import annotations

import json
import queue
import re
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from backupguard.demo import layout, programs
from backupguard.errors import MissingMeans
from backupguard.model import Message
from backupguard.resources import shipped

#: How often Prometheus asks and judges here; a site does so every minute or less.
_EVERY = "1s"
_READY_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Where the programs are."""

    prometheus: Path
    alertmanager: Path


def means() -> Means:
    """Look for the programs. Raises MissingMeans (program_missing) with the package to install."""
    return Means(
        prometheus=programs.required("prometheus"),
        alertmanager=programs.required("prometheus-alertmanager"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert of a notification, as Alertmanager's webhook delivers it."""

    name: str
    receiver: str
    status: str
    severity: str
    control: str
    subject: str
    summary: str
    description: str
    runbook: str
    since: str


def alerts_of(notification: Mapping[str, Any], language: str) -> tuple[Alert, ...]:
    """Return the alerts in the body of a webhook (version 4)."""
    return tuple(
        Alert(
            name=one["labels"]["alertname"],
            receiver=notification["receiver"],
            status=one["status"],
            severity=one["labels"].get("severity", ""),
            control=one["labels"].get("control", ""),
            subject=one["labels"].get("subject", ""),
            summary=_said(one["annotations"], "summary", language),
            description=_said(one["annotations"], "description", language),
            runbook=one["annotations"].get("runbook_url", ""),
            since=one["startsAt"],
        )
        for one in notification["alerts"]
    )


def _said(annotations: Mapping[str, str], name: str, language: str) -> str:
    return annotations.get(f"{name}_{language}") or annotations.get(name, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Soc:
    """The running watchers: what was delivered, and where their own pages are."""

    delivered: queue.SimpleQueue[Mapping[str, Any]]
    language: str
    prometheus: str
    alertmanager: str

    def wait(self, count: int, seconds: float) -> tuple[Alert, ...]:
        """Return the next alerts that fire, that many. Raises MissingMeans when they do not come."""
        found: list[Alert] = []
        end = time.monotonic() + seconds
        while len(found) < count:
            found += self._next(end)
            if time.monotonic() > end:
                raise MissingMeans("server_refused", Message(id="demo.soc.no_alert"))
        return tuple(found)

    def more(self, seconds: float) -> tuple[Alert, ...]:
        """Return what else fires within so many seconds."""
        found: list[Alert] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found += self._next(end)
        return tuple(found)

    def settled(self) -> tuple[Alert, ...]:
        """Wait until the rules were judged on what the daemon says; return what fires then."""
        programs.wait_until(self._judged, "prometheus", _READY_S)
        return self.more(4)

    def _judged(self) -> bool:
        """Tell whether every group of rules was evaluated since the first metrics were there."""
        with suppress(OSError):
            seen = self._ask("query?query=min_over_time(timestamp(backupguard_build_info)[1h:1s])")
            groups = self._ask("rules")["groups"]
            first = [float(one["value"][1]) for one in seen["result"]]
            evaluated = [datetime.fromisoformat(one["lastEvaluation"]) for one in groups]
            return bool(first and evaluated) and min(evaluated).timestamp() > first[0] + 2
        return False

    def _ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/{path}", timeout=10) as answer:  # noqa: S310
            return json.load(answer)["data"]

    def _next(self, end: float) -> list[Alert]:
        try:
            notification = self.delivered.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            return []
        return [one for one in alerts_of(notification, self.language) if one.status == "firing"]


@contextmanager
def watching(place: layout.Layout, chosen: Means, listen: str, language: str) -> Iterator[Soc]:
    """Run Prometheus, which asks `listen`, and Alertmanager until the block ends."""
    directory = place.root / "soc"
    directory.mkdir(mode=0o700, exist_ok=True)
    ports = {name: programs.free_port() for name in ("prometheus", "alertmanager")}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    with ExitStack() as stack:
        delivered: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
        receiver = stack.enter_context(_receiving(delivered))
        files = _written(directory, listen, ports["alertmanager"], receiver)
        for name, argv in _commands(chosen, directory, files, ports).items():
            log = place.log / f"{name}.log"
            stack.enter_context(programs.running(argv, partial(_answers, urls[name]), log))
        yield Soc(
            delivered=delivered,
            language=language,
            prometheus=urls["prometheus"],
            alertmanager=urls["alertmanager"],
        )


def _commands(
    chosen: Means, directory: Path, files: Mapping[str, Path], ports: Mapping[str, int]
) -> dict[str, list[str]]:
    """Return how the two are started; neither talks to anybody but on loopback."""
    return {
        "alertmanager": [
            str(chosen.alertmanager),
            f"--config.file={files['alertmanager']}",
            f"--storage.path={directory / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{ports['alertmanager']}",
            "--cluster.listen-address=",
        ],
        "prometheus": [
            str(chosen.prometheus),
            f"--config.file={files['prometheus']}",
            f"--storage.tsdb.path={directory / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
        ],
    }


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:  # noqa: S310
        return bool(answer.status == 200)
    return False


@contextmanager
def _receiving(delivered: queue.SimpleQueue[Mapping[str, Any]]) -> Iterator[str]:
    """Take what Alertmanager posts until the block ends; yields where to."""

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()
            delivered.put(json.loads(body))

        def log_message(self, *_arguments: object) -> None:
            """Say nothing: what arrives is shown."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _written(directory: Path, listen: str, alertmanager: int, receiver: str) -> dict[str, Path]:
    """Write both configurations and the rules into `directory`; return where."""
    rules = directory / "backupguard.rules.yml"
    text = (shipped("prometheus") / rules.name).read_text(encoding="utf-8")
    rules.write_text(quicker_rules(text), encoding="utf-8")
    routes = (shipped("alertmanager") / "alertmanager.yml").read_text(encoding="utf-8")
    files = {
        "alertmanager": quicker_routes(yaml.safe_load(routes), receiver),
        "prometheus": {
            "global": {"scrape_interval": _EVERY, "evaluation_interval": _EVERY},
            "rule_files": [str(rules)],
            "alerting": {
                "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]
            },
            "scrape_configs": [
                {"job_name": "backupguard", "static_configs": [{"targets": [listen]}]},
            ],
        },
    }
    places = {}
    for name, content in files.items():
        places[name] = directory / f"{name}.yml"
        places[name].write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return places


def quicker_rules(text: str) -> str:
    """Return rules that are judged every second; what they ask and how long they wait stays."""
    return re.sub(r"(?m)^( +interval:) .*$", rf"\1 {_EVERY}", text)


def quicker_routes(routes: Mapping[str, Any], receiver: str) -> dict[str, Any]:
    """Return an Alertmanager configuration that waits a second, and tells this process only.

    Routes, groups, inhibitions and the names of the receivers stay.
    """
    kept = {name: routes[name] for name in ("inhibit_rules", "time_intervals") if name in routes}
    hook = {"webhook_configs": [{"url": receiver, "send_resolved": True}]}
    told = [
        # one without any means is there to stay silent
        {"name": one["name"], **(hook if len(one) > 1 else {})}
        for one in routes["receivers"]
    ]
    return {**kept, "route": _quicker(routes["route"]), "receivers": told}


def _quicker(route: Mapping[str, Any]) -> dict[str, Any]:
    quick = {**route, "group_wait": _EVERY, "group_interval": _EVERY}
    if "routes" in route:
        quick["routes"] = [_quicker(below) for below in route["routes"]]
    return quick
