"""Settings, ports that answer and ports that do not, for tests of what must not answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backupguard.settings import Settings
from backupguard.settings.loading import model_for

KEY = "k" * 64


@contextmanager
def listening(family: int = socket.AF_INET, backlog: int = 5) -> Iterator[int]:
    """Yield a port of the loopback that answers."""
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        server.listen(backlog)
        yield server.getsockname()[1]


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "vantage.key"
    file.write_text(KEY + "\n")
    file.chmod(0o600)
    return file


def settings(tmp_path: Path, *, witness: str = "localhost:1", **isolation: Any) -> Settings:
    """Return settings with an isolated store behind a target, and two vantage points."""
    vantage = {"zone": "bureautique", "witness": witness, "key": {"file": str(key_file(tmp_path))}}
    data = {
        "site": {"name": "CH de Belle-Rive", "timezone": "Europe/Paris"},
        "store": {"directory": str(tmp_path / "state")},
        "repositories": {"coffre": {"type": "directory", "path": "/srv"}},
        "isolation": {
            "targets": {
                "coffre": {"hosts": ["localhost"], "ports": [445], "repositories": ["coffre"]}
            },
            "vantages": {
                "bureautique": vantage,
                "dmz": {**vantage, "key": {"file": str(tmp_path / "missing.key")}},
            },
            **isolation,
        },
    }
    return model_for(data).model_validate(data)
