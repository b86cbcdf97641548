"""What the offline probe is told, and what it finds: plain shapes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumPlan:
    """One medium as the settings have it. `root` is what stands for its place in its repositories."""

    id: str
    kind: str  # "removable", "tape", "vtl", "vault"
    root: Path
    filesystem_uuid: str | None = None
    luks_uuid: str | None = None
    serial: str | None = None
    image: Path | None = None
    barcode: str | None = None
    library: str | None = None
    mount: Path | None = None
    repositories: tuple[str, ...] = ()  # that lie on it
    fresh_s: int = 86_400  # how old the newest point may be for it to leave


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """Where the host shows its devices; elsewhere in tests."""

    dev: Path = Path("/dev")
    blocks: Path = Path("/sys/class/block")
    udev: Path = Path("/run/udev/data")
    mounts: Path = Path("/proc/self/mountinfo")


class Mounted(Protocol):
    """A medium that a helper mounted."""

    @property
    def path(self) -> Path:
        """Where."""

    @property
    def already(self) -> bool:
        """Whether it was mounted before, so that it is not ours to unmount."""


class Helper(Protocol):
    """What may be asked of somebody with more rights; every method may raise MissingMeans."""

    def mount(self, medium: str) -> Mounted:
        """Mount a medium read-only."""

    def unmount(self, medium: str) -> bool:
        """Unmount it again."""

    def mtx_status(self, medium: str) -> str:
        """Return what `mtx status` says of a tape's library."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything the settings say to the probe.

    `sample_percent` and `sample_bytes` bound how much of a copy is read when it comes; `scan` says
    whether disks that are in no register are looked at.
    """

    media: tuple[MediumPlan, ...]
    helper: Helper | None = None
    roots: Roots = Roots()
    sample_percent: int = 5
    sample_bytes: int | None = None
    scan: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One medium as it is now. `code` says why nobody can tell, where nobody can."""

    attached: bool = False
    device: str | None = None
    mount: Path | None = None
    identity: str | None = None
    mismatch: str | None = None
    slot: str | None = None
    code: str | None = None

    def data(self) -> dict[str, Any]:
        """Return it as the part of a `medium.seen` that is seen now."""
        return {
            "attached": self.attached,
            "device": self.device,
            "mounted": self.mount is not None,
            "identity": self.identity,
            "mismatch": self.mismatch,
            "slot": self.slot,
            "code": self.code,
        }
