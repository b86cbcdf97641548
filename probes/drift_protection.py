"""What repositories say of their own protection: from the newest record of it, nothing is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backupguard.model import Verdict
from probes.drift_found import Place, Policies

_SOURCE = "protection"
_SETTINGS = {"versioning": "protection.versioning", "mfa-delete": "protection.mfa_delete"}
#: Settings that the record holds beside the map as well.
_SAID = frozenset({"mode", "retention-s", "lock"})
#: What a part that could not be read would have said; nothing of what is only ever unknown.
_HIDES = {
    "versioning": ("protection.versioning", "protection.mfa_delete", "protection.weakness"),
    "lock-configuration": (
        "protection.mechanism",
        "protection.mode",
        "protection.weakness",
        "retention.default",
    ),
    "lifecycle": ("protection.weakness",),
    "policy": ("admin.bypass", "protection.weakness"),
    "iam": (),
}


def encryption(encrypted: Mapping[str, bool | None], policies: Policies) -> None:
    """Add whether each repository's copies are encrypted, as its tool says; None: nobody knows."""
    for repository, is_encrypted in encrypted.items():
        if is_encrypted is None:
            policies.absent.add(f"repository|{repository}")
        else:
            policies.read("repository", repository).put("protection.encryption", is_encrypted)


def look(protections: Mapping[str, Mapping[str, Any]], policies: Policies) -> None:
    """Add mechanism, mode, retention, bypass holders, weaknesses and settings of each repository.

    Of one that could not be read in part, what it does not say now stands as it was.
    """
    for repository, seen in protections.items():
        if seen.get("verdict") != Verdict.PASSED:
            # Where nothing could be read so far there is nothing to lose; IMM-01 says it.
            policies.unread_if_known.add(f"{_SOURCE}|{repository}")
            continue
        for name in seen.get("unread") or ():
            for key in _HIDES.get(name, ("",)):
                policies.absent.add(f"{_SOURCE}|{repository}" + (f"|{key}" if key else ""))
        _protection(policies.read(_SOURCE, repository), seen)


def _protection(place: Place, seen: Mapping[str, Any]) -> None:
    place.put("protection.mechanism", str(seen.get("mechanism") or "none"))
    if seen.get("mode"):
        place.put("protection.mode", str(seen["mode"]))
    retention = seen.get("retention_ms")
    if retention is not None:
        place.put("retention.default", f"{retention // 3_600_000} hours")
    for holder in seen.get("bypass_holders") or ():
        place.element("admin.bypass", str(holder))
    for weakness in seen.get("weaknesses") or ():
        place.element("protection.weakness", str(weakness["code"]))
    for name, value in (seen.get("settings") or {}).items():
        if name not in _SAID:
            place.put(_SETTINGS.get(name, f"info.{name}"), value)
