"""A real Alertmanager for tests, with the shipped routes, and the receiver that it tells."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import urllib3

from backupguard.resources import shipped
from tests.prometheus import free_port


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """What a receiver was told: where, of which group, whether it fires, and the alerts in it."""

    receiver: str
    alert: str
    site: str
    firing: bool
    alerts: tuple[dict[str, Any], ...]


@dataclass
class Told:
    """Every notification that came, in order."""

    all: list[Notification] = field(default_factory=list)

    def of(self, site: str, *, firing: bool = True) -> list[tuple[str, str, int]]:
        """Return (receiver, alert, how many alerts in it) of a site's notifications."""
        return [
            (one.receiver, one.alert, len(one.alerts))
            for one in self.all
            if one.site == site and one.firing == firing
        ]


class _Receiver(BaseHTTPRequestHandler):
    told: ClassVar[Told]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        labels = body["groupLabels"]
        self.told.all.append(
            Notification(
                receiver=self.path.strip("/"),
                alert=labels.get("alertname", ""),
                site=labels.get("site", ""),
                firing=body["status"] == "firing",
                alerts=tuple(body["alerts"]),
            )
        )
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def quick_routes(receiver: int) -> str:
    """Return the shipped routes with short waits, and the receivers at a port of the loopback."""
    text = shipped("alertmanager/alertmanager.yml").read_text(encoding="utf-8")
    text = re.sub(r"group_wait: \w+", "group_wait: 2s", text)
    text = re.sub(r"group_interval: \w+", "group_interval: 3s", text)
    return text.replace("127.0.0.1:8080", f"127.0.0.1:{receiver}")


class Alertmanager:
    """An Alertmanager that can be stopped and started again on the same directory."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.told = Told()
        handler = type("Receiver", (_Receiver,), {"told": self.told})
        self._receiver = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._receiver.serve_forever, daemon=True).start()
        self.port = free_port()
        self._file = directory / "alertmanager.yml"
        self._file.write_text(quick_routes(self._receiver.server_port), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None
        self._http = urllib3.PoolManager(retries=False)

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        program = shutil.which("prometheus-alertmanager")
        if program is None:
            pytest.fail("prometheus-alertmanager is missing; run script/install-programs --test")
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={self._file}",
                    f"--storage.path={self.directory / 'data'}",
                    "--cluster.listen-address=",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log,
                stderr=log,
            )
        self.until(self._is_ready)

    def _is_ready(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.port}/-/ready"
            return self._http.request("GET", url).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def until(self, what: Callable[[], bool], timeout_s: float = 30) -> None:
        """Wait until something is so."""
        end = time.monotonic() + timeout_s
        while not what():
            if time.monotonic() > end:
                pytest.fail(
                    (self.directory / "log").read_text(encoding="utf-8") + str(self.told.all)
                )
            time.sleep(0.1)

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts it knows, the inhibited ones too."""
        answer = self._http.request("GET", f"http://127.0.0.1:{self.port}/api/v2/alerts")
        found: list[dict[str, Any]] = json.loads(answer.data)
        return found

    def post(self, alerts: list[dict[str, Any]]) -> None:
        """Give it alerts, as Prometheus does."""
        url = f"http://127.0.0.1:{self.port}/api/v2/alerts"
        assert self._http.request("POST", url, json=alerts).status == 200

    def stop(self) -> None:
        """End it; what it remembers of notifications stays in its directory."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def close(self) -> None:
        """End it and its receiver."""
        self.stop()
        self._receiver.shutdown()
        self._receiver.server_close()


@contextmanager
def alertmanager(directory: Path) -> Iterator[Alertmanager]:
    """Run an Alertmanager with the shipped routes."""
    made = Alertmanager(directory)
    try:
        made.start()
        yield made
    finally:
        made.close()
