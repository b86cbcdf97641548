"""Does anything answer that must not?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backupguard.contracts import Context, ProbeSettings, Repositories
from backupguard.model import Observation, Scope, Subject


class IsolationSettings(ProbeSettings):
    """Settings of the probe `isolation`."""


class Isolation:
    """Probe `isolation`."""

    name = "isolation"
    scope = Scope.SITE
    settings: type[ProbeSettings] = IsolationSettings

    def observe(
        self,
        subject: Subject,  # noqa: ARG002
        repositories: Repositories,  # noqa: ARG002
        context: Context,  # noqa: ARG002
        settings: Any,  # noqa: ARG002
    ) -> Iterator[Observation]:
        """Yield what is seen."""
        return iter(())


ISOLATION = Isolation()
