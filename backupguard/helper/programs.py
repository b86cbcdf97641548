"""Runs the few programs the helper needs: by absolute path, without anybody's environment."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from backupguard.helper.protocol import Refusal

_PLACES: Final = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
_ENVIRONMENT: Final = {"PATH": ":".join(_PLACES), "LC_ALL": "C", "LANG": "C"}
TIMEOUT_S: Final = 90


def run(
    name: str, *arguments: str, stdin: int = subprocess.DEVNULL
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; raises Refusal (program_missing, timeout)."""
    path = next((p for place in _PLACES if (p := Path(place) / name).is_file()), None)
    if path is None:
        raise Refusal("program_missing", name)
    try:
        return subprocess.run(
            [str(path), *arguments],
            stdin=stdin,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=_ENVIRONMENT,
            cwd="/",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Refusal("timeout", name) from error
