"""Were policies or protections weakened since they were last seen?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backupguard.contracts import Context, ProbeSettings, Repositories
from backupguard.model import Observation, Scope, Subject


class DriftSettings(ProbeSettings):
    """Settings of the probe `drift`."""


class Drift:
    """Probe `drift`."""

    name = "drift"
    scope = Scope.SITE
    settings: type[ProbeSettings] = DriftSettings

    def observe(
        self,
        subject: Subject,  # noqa: ARG002
        repositories: Repositories,  # noqa: ARG002
        context: Context,  # noqa: ARG002
        settings: Any,  # noqa: ARG002
    ) -> Iterator[Observation]:
        """Yield what is seen."""
        return iter(())


DRIFT = Drift()
