"""The register of offline media: what may be taken away, how it is recognised, how long it may stay."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from backupguard.contracts import Duration, SettingsModel

Positive = Annotated[Duration, Field(gt=timedelta(0))]


class Medium(SettingsModel):
    """A disk, tape or vault. What is on it is said by the repositories that name it.

    A removable disk is recognised by `filesystem_uuid`, `luks_uuid` or `serial` (all that are given
    must be right), an image file by `image` and the UUID inside it, a tape by `barcode` in one of the
    `libraries`. `mount` is where it is mounted, read-only, while it is attached. A virtual tape
    library (`vtl`) is never offline.
    """

    kind: Literal["removable", "tape", "vtl", "vault"]
    filesystem_uuid: str | None = None
    luks_uuid: str | None = None
    serial: str | None = None
    image: Path | None = None
    barcode: str | None = None
    library: str | None = None  # a changer device: "/dev/sg3"
    mount: Path | None = None
    may_stay: Positive = timedelta(hours=12)  # attached longer: a finding
    every: Positive | None = None  # the rotation: not seen for longer is a finding

    @model_validator(mode="after")
    def _recognisable(self) -> Self:
        known_by = (self.filesystem_uuid, self.luks_uuid, self.serial, self.barcode)
        if self.kind in ("removable", "tape") and not any(known_by):
            raise PydanticCustomError(
                "medium_identity",
                "a medium is recognised by filesystem-uuid, luks-uuid, serial or barcode",
            )
        return self
