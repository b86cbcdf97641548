"""Scrape: three scrapers at once, gzip, on an estate of 2,000 jobs with 15 series each at least.

Ours is the daemon's own application on the daemon's own server, over what one judgement of a real store
of that size left; the reference is prometheus_client's own server with the same series in its registry.
Both are processes of their own, scraped in turn. A scrape is a whole one: connection, request, the last
byte of the body, not unpacked. Beside it, in our server's process, a thread looks at a clock every
20 ms as the scheduler would: how late it comes with and without scrapers says whether it notices.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path

import structlog
from growth import JOBS, configured
from harness import CHECKOUT, finish

SCRAPERS, EACH, ROUNDS = 3, 100, 3
OF_REFERENCE = 3  # scrapes of each scraper and round: one takes seconds
SERIES_EACH = 15
P99_GOAL_MS, RATIO_GOAL, LATE_GOAL_MS = 60.0, 0.05, 50.0
TICK_S = 0.02


def rendered(directory: Path) -> bytes:
    """Return what one judgement of an estate of that size says."""
    from backupguard import metrics
    from backupguard.assess import Assessor
    from backupguard.controls import load_catalogue
    from backupguard.model import Listing, RecoveryPoint
    from backupguard.store import open_store

    settings, now = configured(directory), datetime.now(UTC)
    with closing(open_store(settings.state_directory, timezone="Europe/Paris")) as store:
        for repository in settings.repositories:
            jobs = sorted({selector.job for selector in settings.jobs_in(repository)})
            points = tuple(
                RecoveryPoint(
                    repository=repository,
                    job=job,
                    native_id=job,
                    at=now,
                    covers_until=now,
                    bytes=50_000_000,
                )
                for job in jobs
            )
            listing = Listing(
                repository=repository, jobs=tuple(jobs), points=points, observed_at=now
            )
            store.merge_listing(listing, run=None)
        return metrics.render(Assessor(store, settings, load_catalogue()).assess(now))


def serve(file: Path) -> None:
    """Serve a text as the daemon does; print the port, then how late a thread's ticks came."""
    from backupguard.web.app import create_app
    from backupguard.web.published import Outputs, Published, compress
    from backupguard.web.server import server

    text = file.read_bytes()
    published = Published(
        site="Banc",
        language="en",
        timezone="Europe/Paris",
        judged_at=datetime.now(UTC),
        findings=(),
        names={},
        text=text,
        compressed=compress(text),
    )
    outputs = Outputs(reports=file.parent, runbooks=None, published=published)
    listener = socket.create_server(("127.0.0.1", 0))
    served = server(create_app(outputs))
    late: list[float] = []

    def tick() -> None:
        while not served.should_exit:
            began = time.monotonic()
            time.sleep(TICK_S)
            late.append((time.monotonic() - began - TICK_S) * 1000)

    def obey() -> None:
        for _ in sys.stdin:  # each line asks how it was since the last one
            known, late[:] = late[:], []
            print(json.dumps(known), flush=True)
        served.should_exit = True

    threading.Thread(target=tick).start()
    threading.Thread(target=obey).start()
    print(listener.getsockname()[1], flush=True)
    asyncio.run(served.serve(sockets=[listener]))


@contextmanager
def started(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start a server that prints its port and ends with its standard input."""
    argv = [sys.executable, *map(str, arguments)]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
        assert process.stdin is not None
        process.stdin.close()


def scrape(port: int) -> tuple[float, bytes]:
    """Scrape once over a connection of its own; return seconds and the body."""
    began = time.perf_counter()
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
    body = connection.getresponse().read()
    connection.close()
    return time.perf_counter() - began, body


def scraped(port: int, times: int) -> list[float]:
    """Scrape with all scrapers at once, again and again; return every scrape's seconds."""
    together = threading.Barrier(SCRAPERS)

    def one(_number: int) -> list[float]:
        found = []
        for _ in range(times):
            time.sleep(TICK_S)
            together.wait()
            found.append(scrape(port)[0])
        return found

    with ThreadPoolExecutor(SCRAPERS) as pool:
        return [seconds for found in pool.map(one, range(SCRAPERS)) for seconds in found]


def lateness(process: subprocess.Popen[str]) -> list[float]:
    """Return how late the ticks came since this was last asked, in milliseconds."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return list(json.loads(process.stdout.readline()))


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that so large a share does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def check(ours: int, reference: int, wanted: int) -> None:
    """Make sure that both serve the same series, and enough of them."""
    counts = []
    for port in (ours, reference):
        lines = gzip.decompress(scrape(port)[1]).decode().splitlines()
        counts.append(
            sum(1 for line in lines if line.startswith("backupguard_") and "_created" not in line)
        )
    print(f"  {counts[0]} series of {JOBS} jobs")
    if counts[0] != counts[1] or counts[0] < wanted:
        raise SystemExit(f"{counts} series, {wanted} wanted")


def measured(file: Path) -> int:
    """Scrape both in turn; print and judge."""
    ours: list[float] = []
    theirs: list[float] = []
    busy: list[float] = []
    idle: list[float] = []
    with (
        started(__file__, file) as (process, port),
        started(CHECKOUT / "benchmarks" / "reference" / "scrape.py", file) as (_, other),
    ):
        check(port, other, JOBS * SERIES_EACH)
        for _ in range(ROUNDS):
            lateness(process)
            time.sleep(1)
            idle += lateness(process)
            ours += scraped(port, EACH)
            busy += lateness(process)
            theirs += scraped(other, OF_REFERENCE)
    p99 = percentile(ours, 0.99) * 1000
    middle, other_middle = statistics.median(ours), statistics.median(theirs)
    late, still = percentile(busy, 0.99), percentile(idle, 0.99)
    print(f"  ours       median {middle * 1000:8.1f} ms   p99 {p99:8.1f} ms   {len(ours)} scrapes")
    print(f"  reference  median {other_middle * 1000:8.1f} ms   {len(theirs)} scrapes")
    print(f"  a tick is late by {late:.1f} ms (p99) while scraped, by {still:.1f} ms while not")
    status = finish("scrape-p99", p99, P99_GOAL_MS, unit="ms")
    status |= finish("scrape-tick", max(0.0, late - still), LATE_GOAL_MS, unit="ms")
    return finish("scrape", middle / other_middle, RATIO_GOAL) or status


def main() -> int:
    """Render the estate, then measure."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory(prefix="bg-") as name:
        file = Path(name) / "metrics.txt"
        (Path(name) / "estate").mkdir()
        text = rendered(Path(name) / "estate")
        file.write_bytes(text)
        print(f"  {len(text) / 1e6:.1f} MB, {len(gzip.compress(text, 4)) / 1e3:.0f} kB as gzip")
        return measured(file)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(Path(sys.argv[1]))
    else:
        sys.exit(main())
