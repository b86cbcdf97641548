"""What the service manager hears."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from backupguard.daemon.systemd import notifier


@pytest.mark.parametrize("abstract", [False, True])
def test_states_arrive_in_one_datagram(tmp_path: Path, abstract: bool) -> None:
    name = f"@backupguard-test-{os.getpid()}" if abstract else str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(2)
        tells = notifier({"NOTIFY_SOCKET": name})
        assert tells.ready("all well")
        assert manager.recv(4096) == b"READY=1\nSTATUS=all well"
        assert tells.reloading()
        assert manager.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert tells.stopping("x")
        assert manager.recv(4096) == b"STOPPING=1\nSTATUS=x"
        assert tells.beat()
        assert manager.recv(4096) == b"WATCHDOG=1"


def test_more_time_is_asked_for_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        manager.setblocking(False)
        longer = notifier({"NOTIFY_SOCKET": str(tmp_path / "n")}).longer()
        now = 5.0
        monkeypatch.setattr(time, "monotonic", lambda: now)
        longer()
        longer()
        assert manager.recv(4096) == b"EXTEND_TIMEOUT_USEC=300000000"
        with pytest.raises(BlockingIOError):
            manager.recv(4096)
        now += 11
        longer()
        assert manager.recv(4096) == b"EXTEND_TIMEOUT_USEC=300000000"


def test_nobody_listens_and_nothing_fails(tmp_path: Path) -> None:
    assert not notifier({}).ready("x")
    assert not notifier({"NOTIFY_SOCKET": str(tmp_path / "absent")}).ready("x")


def test_a_manager_that_does_not_listen_holds_nobody_up(tmp_path: Path) -> None:
    name = str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        tells = notifier({"NOTIFY_SOCKET": name})
        began = time.monotonic()
        while tells.beat():
            pass
        assert time.monotonic() - began < 10


def test_half_the_watchdog_interval_is_kept_to() -> None:
    assert notifier({"WATCHDOG_USEC": "60000000"}).watchdog_s == 30
    ours = {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}
    assert notifier(ours).watchdog_s == 30
    assert notifier({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}).watchdog_s is None
    assert notifier({}).watchdog_s is None
