"""The shared suite of every probe, run over discovery."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupguard.testing import contexts
from backupguard.testing.contexts import TestRepositories
from backupguard.testing.probes import ProbeCase, ProbeContract
from probes import discovery_host
from probes.discovery import DISCOVERY
from probes.discovery_found import Plan
from probes.discovery_host import Host
from tests.unit.probes.discovering import places


class TestDiscovery(ProbeContract):
    """A host on which nothing runs; repositories are nothing to it, alive or dead."""

    @pytest.fixture
    def case(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProbeCase:
        monkeypatch.setattr(discovery_host, "look", lambda: Host(name="srv-db1"))
        context = contexts.context(tmp_path)
        none = TestRepositories(context=context, entries={})
        return ProbeCase(
            probe=DISCOVERY,
            subject="site",
            settings=Plan(places=places(tmp_path)),
            context=context,
            healthy=none,
            unreachable=none,
        )
