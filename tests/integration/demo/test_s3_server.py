"""The S3 server of the demonstration and of the tests."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from backupguard.demo import s3_server


def test_a_port_that_another_program_took_is_another_port_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = s3_server._free_ports
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = [other.getsockname()[1]]
        asked = iter((True, False))
        monkeypatch.setattr(
            s3_server,
            "_free_ports",
            lambda n: [*free(1), *taken, *free(n - 2)] if next(asked) else free(n),
        )
        with s3_server.running(tmp_path / "s3") as server:
            server.client().create_bucket(Bucket="hospital")
            assert f"-master.port={taken[0]}" not in server.argv
    assert not (tmp_path / "s3").exists()
