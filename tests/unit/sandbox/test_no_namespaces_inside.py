"""What bubblewrap is told about further user namespaces, on a free host and in a hardened unit."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from backupguard.sandbox import box


@pytest.mark.parametrize(
    ("flags", "told"), [(0, ("--disable-userns",)), (os.ST_RDONLY, ())], ids=["host", "unit"]
)
def test_only_where_proc_sys_can_be_written(
    flags: int, told: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.statvfs", lambda _: SimpleNamespace(f_flag=flags))
    assert box._no_namespaces_inside() == told
