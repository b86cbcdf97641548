"""A real Prometheus for tests: it scrapes, judges rules and answers queries on a port of its own."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import urllib3

from backupguard.resources import shipped

#: How often it scrapes and judges here, in seconds; the shipped rules say a minute.
INTERVAL = 1

Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One that runs, at `url`."""

    url: str
    _http: urllib3.PoolManager

    def api(self, path: str, **fields: str) -> Any:
        """Return the data of an answer of the HTTP API; what is refused fails the test."""
        answer = self._http.request("GET", f"{self.url}/api/v1/{path}", fields=fields)
        told = json.loads(answer.data)
        assert told["status"] == "success", (fields, told)
        return told["data"]

    def query(self, expression: str, at: float | None = None) -> list[tuple[Labels, float]]:
        """Return (labels, value) of each series of a vector, now or at a time in seconds."""
        when = {} if at is None else {"time": f"{at:.3f}"}
        found = self.api("query", query=expression, **when)
        assert found["resultType"] == "vector", expression
        return [(one["metric"], float(one["value"][1])) for one in found["result"]]

    def until(self, expression: str, holds: Callable[[list[tuple[Labels, float]]], bool]) -> None:
        """Wait until what a query returns is as it should be; 30 s at most."""
        end = time.monotonic() + 30
        while not holds(found := self.query(expression)):
            if time.monotonic() > end:
                pytest.fail(f"{expression} stayed {found}")
            time.sleep(0.1)

    def judged(self) -> float:
        """Wait until every rule has been judged twice from now on, and return the time then.

        Twice: a group may read what another one records.
        """
        begin = time.time()
        end = time.monotonic() + 30
        while True:
            groups = self.api("rules")["groups"]
            if min(_when(group["lastEvaluation"]) for group in groups) > begin + 2 * INTERVAL:
                return time.time()
            if time.monotonic() > end:
                pytest.fail("the rules are not judged")
            time.sleep(0.2)


def _when(text: str) -> float:
    """Return a time of Prometheus, which has nanoseconds, in seconds."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).timestamp()


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def quick(rules: Path, directory: Path) -> Path:
    """Return a copy of a rules file that is judged every second."""
    text = rules.read_text(encoding="utf-8")
    copy = directory / rules.name
    copy.write_text(re.sub(r"interval: \w+", f"interval: {INTERVAL}s", text), encoding="utf-8")
    return copy


@contextmanager
def prometheus(
    directory: Path,
    scrapes: Sequence[dict[str, Any]],
    *,
    rules: Sequence[str] = ("backupguard.rules.yml",),
    more: dict[str, Any] | None = None,
    flags: Sequence[str] = (),
) -> Iterator[Prometheus]:
    """Run a Prometheus over `scrapes` (entries of `scrape_configs`) and rules that are shipped.

    `more` is the rest of its configuration, for example `alerting`, and goes before what is usual here;
    `flags` are added to its command line. What it says stands in `directory`/prometheus.log.
    """
    program = shutil.which("prometheus")
    if program is None:
        pytest.fail("prometheus is missing; run script/install-programs --test")
    directory.mkdir(exist_ok=True)
    copies = [str(quick(shipped(f"prometheus/{name}"), directory)) for name in rules]
    configuration = {
        "global": {"scrape_interval": f"{INTERVAL}s", "evaluation_interval": f"{INTERVAL}s"},
        "rule_files": copies,
        "scrape_configs": list(scrapes),
        **(more or {}),
    }
    file = directory / "prometheus.yml"
    file.write_text(json.dumps(configuration), encoding="utf-8")  # JSON is YAML
    port = free_port()
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={file}",
                f"--storage.tsdb.path={directory / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                *flags,
            ],
            stdout=log,
            stderr=log,
        )
        try:
            made = Prometheus(f"http://127.0.0.1:{port}", urllib3.PoolManager(retries=False))
            _ready(made, process, directory / "prometheus.log")
            yield made
        finally:
            process.terminate()
            process.wait(20)


def _ready(made: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            if made._http.request("GET", f"{made.url}/-/ready").status == 200:
                return
        except urllib3.exceptions.HTTPError:
            pass
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(log.read_text(encoding="utf-8"))
        time.sleep(0.05)
