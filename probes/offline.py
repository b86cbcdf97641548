"""Which offline media are here, and is what is on them good?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backupguard.contracts import Context, ProbeSettings, Repositories
from backupguard.model import Observation, Scope, Subject


class OfflineSettings(ProbeSettings):
    """Settings of the probe `offline`."""


class Offline:
    """Probe `offline`."""

    name = "offline"
    scope = Scope.SITE
    settings: type[ProbeSettings] = OfflineSettings

    def observe(
        self,
        subject: Subject,  # noqa: ARG002
        repositories: Repositories,  # noqa: ARG002
        context: Context,  # noqa: ARG002
        settings: Any,  # noqa: ARG002
    ) -> Iterator[Observation]:
        """Yield what is seen."""
        return iter(())


OFFLINE = Offline()
