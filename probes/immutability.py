"""Would an attacker with the backup writer's rights get at the copies? It is tried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backupguard.contracts import Context, ProbeSettings, Repositories
from backupguard.model import Observation, Scope, Subject


class ImmutabilitySettings(ProbeSettings):
    """Settings of the probe `immutability`."""


class Immutability:
    """Probe `immutability`."""

    name = "immutability"
    scope = Scope.REPOSITORY
    settings: type[ProbeSettings] = ImmutabilitySettings

    def observe(
        self,
        subject: Subject,  # noqa: ARG002
        repositories: Repositories,  # noqa: ARG002
        context: Context,  # noqa: ARG002
        settings: Any,  # noqa: ARG002
    ) -> Iterator[Observation]:
        """Yield what is seen."""
        return iter(())


IMMUTABILITY = Immutability()
