"""A second S3 server that enforces Object Lock: one Ceph monitor, one store in memory, one gateway."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest

from backupguard.demo.s3_server import S3Server
from tests.integration.repositories.servers import free_port

_WITHIN_S = 90
#: Users beside the one that owns the buckets; each key is the name, each secret "NAME-secret".
_USERS = ("admin", "writer", "reader")
_SETTINGS = """[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]
mon initial members = a
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
ms bind ipv6 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon max pg per osd = 1000
osd crush chooseleaf type = 0
osd objectstore = memstore
run dir = {here}/run
log file = {here}/log/$name.log
admin socket = {here}/run/$name.asok
pid file = {here}/run/$name.pid
mon data = {here}/mon
osd data = {here}/osd
[osd.0]
keyring = {here}/osd/keyring
[client]
keyring = {here}/keyring
rgw data = {here}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw enable usage log = false
"""


@contextmanager
def running(here: Path) -> Iterator[S3Server]:
    """Run Ceph with its files in `here`; takes about 15 s."""
    if shutil.which("radosgw") is None:
        pytest.fail("radosgw is missing; run script/install-programs --test")
    for name in ("mon", "osd", "rgw", "run", "log"):
        (here / name).mkdir(parents=True)
    port = free_port()
    settings = here / "ceph.conf"
    values = {"fsid": uuid4(), "v1": free_port(), "v2": free_port(), "port": port, "here": here}
    settings.write_text(_SETTINGS.format(**values))

    def call(program: str, *arguments: object, text: str | None = None) -> str:
        argv = [program, "-c", str(settings), *map(str, arguments)]
        done = subprocess.run(
            argv, input=text, capture_output=True, text=True, timeout=_WITHIN_S, check=False
        )
        assert done.returncode == 0, (argv, done.stderr[-2000:])
        return done.stdout.strip()

    try:
        _start_storage(here, call, values)
        call("radosgw", "-n", "client.admin")
        _await(f"http://127.0.0.1:{port}/")
        for user in _USERS:
            key = (f"--access-key={user}", f"--secret-key={user}-secret")
            call("radosgw-admin", "user", "create", f"--uid={user}", f"--display-name={user}", *key)
        yield S3Server(endpoint=f"http://127.0.0.1:{port}")
    finally:
        _stop(here / "run")


def _start_storage(here: Path, call, values) -> None:
    ring = here / "keyring"
    everything = ("--cap", "mon", "allow *", "--cap", "osd", "allow *")
    call("ceph-authtool", ring, "--create-keyring", "--gen-key", "-n", "mon.", *everything[:3])
    call("ceph-authtool", ring, "--gen-key", "-n", "client.admin", *everything)
    address = f"[v2:127.0.0.1:{values['v2']},v1:127.0.0.1:{values['v1']}]"
    subprocess.run(
        ["monmaptool", "--create", "--addv", "a", address, "--fsid", str(values["fsid"]),
         str(here / "monmap")],
        check=True, capture_output=True,
    )  # fmt: skip
    call("ceph-mon", "--mkfs", "-i", "a", "--monmap", here / "monmap", "--keyring", ring)
    call("ceph-mon", "-i", "a")
    key = call("ceph-authtool", "--gen-print-key")
    store = uuid4()
    call("ceph", "osd", "new", store, "-i", "-", text=f'{{"cephx_secret": "{key}"}}')
    own = here / "osd" / "keyring"
    call("ceph-authtool", own, "--create-keyring", "--name", "osd.0", f"--add-key={key}")
    call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", store)
    call("ceph-osd", "-i", "0")
    until = time.monotonic() + _WITHIN_S
    while "1 up" not in call("ceph", "osd", "stat"):
        assert time.monotonic() < until, "the store did not come up"
        time.sleep(0.3)


def _await(url: str) -> None:
    until = time.monotonic() + _WITHIN_S
    while time.monotonic() < until:
        with suppress(OSError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        time.sleep(0.2)
    pytest.fail("the gateway did not come up")


def _stop(pids: Path) -> None:
    for file in pids.glob("*.pid"):
        with suppress(ValueError, ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGKILL)
