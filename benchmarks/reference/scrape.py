"""The reference of `scrape`: prometheus_client's own server, as its documentation starts it.

Reads a text of metrics from standard input, puts every series into a registry, serves that on a free
port and prints the port. Ends with its standard input.
"""

from __future__ import annotations

import sys

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server
from prometheus_client.parser import text_string_to_metric_families


def main() -> None:
    """Serve what stands in the file that the first argument names until standard input ends."""
    registry = CollectorRegistry()
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123
        text = file.read()
    for family in text_string_to_metric_families(text):
        labels = tuple(family.samples[0].labels)
        kind = Counter if family.type == "counter" else Gauge
        made = kind(family.name, family.documentation, labels, registry=registry)
        for sample in family.samples:
            child = made.labels(**sample.labels)
            if isinstance(child, Counter):
                child.inc(sample.value)
            else:
                child.set(sample.value)
    server, _thread = start_http_server(0, "127.0.0.1", registry)
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
