"""The matrix between hosts: network name spaces joined by cables, a store that answers on 445.

A workstation (production), a NAS that is to be offline, and a witness, each in a name space of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from probes import isolation_vantage as vantage

pytestmark = pytest.mark.root

IP = shutil.which("ip") or "ip"
_SERVE = """\
import socket, sys, time
kept = []
for family, address in ((socket.AF_INET, sys.argv[1]), (socket.AF_INET6, sys.argv[2])):
    one = socket.socket(family)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((address, int(sys.argv[3])))
    one.listen()
    kept.append(one)
print("ready", flush=True)
time.sleep(60)
"""


class Network:
    """`post` is cabled to `nas` (10.99.1.0/24, fd99:1::/64) and to `temoin` (10.99.2.0/24)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        tag = f"bg{os.getpid() % 10000}"
        self.post, self.nas, self.witness = (f"{tag}{name}" for name in ("p", "n", "w"))
        self.running: list[subprocess.Popen[str]] = []

    def ip(self, *arguments: str, check: bool = True) -> None:
        told = subprocess.run([IP, *arguments], capture_output=True, text=True, timeout=20)
        assert told.returncode == 0 or not check, told.stderr

    def build(self) -> None:
        for space in (self.post, self.nas, self.witness):
            self.ip("netns", "add", space)
            self.ip("-n", space, "link", "set", "lo", "up")
        for number, other in ((1, self.nas), (2, self.witness)):
            here, there = f"{self.post}{number}", f"{other}0"
            self.ip(
                *("link", "add", here, "netns", self.post),
                *("type", "veth", "peer", "name", there, "netns", other),
            )
            for space, name, last in ((self.post, here, 1), (other, there, 2)):
                self.ip("-n", space, "addr", "add", f"10.99.{number}.{last}/24", "dev", name)
                self.ip(
                    "-n", space, "addr", "add", f"fd99:{number}::{last}/64", "dev", name, "nodad"
                )
                self.ip("-n", space, "link", "set", name, "up")

    def serve(self, space: str, number: int, port: int) -> subprocess.Popen[str]:
        command = [IP, "netns", "exec", space, sys.executable, "-c", _SERVE]
        command += [f"10.99.{number}.2", f"fd99:{number}::2", str(port)]
        started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.running.append(started)
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        return started

    def stop(self, started: subprocess.Popen[str]) -> None:
        started.kill()
        started.wait(10)
        assert started.stdout is not None
        started.stdout.close()
        self.running.remove(started)

    def look(self) -> tuple[list[str], dict[str, str]]:
        """Return the witness's families, and what came of port 445 of the NAS by family."""
        config = {
            "version": 1,
            "vantage": "post",
            "url": "http://127.0.0.1:1/",
            "witness": "10.99.2.2:389",
            "key-file": "/nowhere",
            "targets": {"nas": {"hosts": ["10.99.1.2", "fd99:1::2"], "ports": [445]}},
        }
        file = self.directory / "config.json"
        file.write_text(json.dumps(config))
        command = [IP, "netns", "exec", self.post, sys.executable, "-I", "-S"]
        command += [str(Path(vantage.__file__)), "--config", str(file), "--show"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert told.returncode == 0, told.stderr
        seen: dict[str, Any] = json.loads(told.stdout)
        return seen["families"], {row["family"]: row["outcome"] for row in seen["rows"]}

    def clear(self) -> None:
        for one in list(self.running):
            self.stop(one)
        for space in (self.post, self.nas, self.witness):
            self.ip("netns", "del", space, check=False)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    made = Network(tmp_path_factory.mktemp("network"))
    try:
        made.build()
        made.serve(made.witness, 2, 389)
        time.sleep(0.1)
        yield made
    finally:
        made.clear()


def test_a_nas_that_is_to_be_offline_answers_on_445(network: Network) -> None:
    """Sabotage: NAS "offline" that answers on 445, over both families."""
    smb = network.serve(network.nas, 1, 445)
    try:
        assert network.look() == (["ipv4"], {"ipv4": "open", "ipv6": "open"})
    finally:
        network.stop(smb)


def test_a_machine_that_is_on_with_its_port_closed_refuses(network: Network) -> None:
    assert network.look() == (["ipv4"], {"ipv4": "refused", "ipv6": "refused"})


def test_a_wall_that_drops_is_filtered_and_a_cut_cable_is_unreachable(network: Network) -> None:
    """The clean twins: nothing of the NAS reaches the workstation, and the witness still answers."""
    smb = network.serve(network.nas, 1, 445)
    try:
        network.ip("-n", network.nas, "route", "add", "blackhole", "10.99.1.1/32")
        network.ip("-n", network.nas, "-6", "route", "add", "blackhole", "fd99:1::1/128")
        families, outcomes = network.look()
        assert families == ["ipv4"]
        assert outcomes == {"ipv4": "filtered", "ipv6": "filtered"}
        network.ip("-n", network.nas, "route", "del", "blackhole", "10.99.1.1/32")
        network.ip("-n", network.nas, "-6", "route", "del", "blackhole", "fd99:1::1/128")
        network.ip("-n", network.post, "link", "set", f"{network.post}1", "down")
        families, outcomes = network.look()
        assert families == ["ipv4"]
        assert outcomes == {"ipv4": "unreachable", "ipv6": "unreachable"}
    finally:
        network.stop(smb)


def test_a_dead_uplink_looks_like_an_air_gap_and_is_told_from_one(network: Network) -> None:
    """Sabotage: the workstation reaches nothing any more, so the NAS seems to be away."""
    network.ip("-n", network.post, "link", "set", f"{network.post}1", "down")
    network.ip("-n", network.post, "link", "set", f"{network.post}2", "down")
    families, outcomes = network.look()
    assert families == [], "no witness, no verdict"
    assert set(outcomes.values()) == {"unreachable"}
