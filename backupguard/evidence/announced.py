"""Which facts may have something to tell a SOC: those that a notification is put in line for.

The store asks when it records a fact, so the answer must be quick and need nothing but the fact.
What is told of them, if anything, is the affair of `backupguard.notify`.
"""

from __future__ import annotations

from backupguard.model import MAIL, Observation

#: Kinds of fact from which events are derived.
ANNOUNCED = frozenset(
    {
        "attestation.made",
        "attestation.withdrawn",
        "baseline.accepted",
        "baseline.reset",
        "clock.stepped",
        "configuration.loaded",
        "configuration.rejected",
        "daemon.started",
        "daemon.stopped",
        "evidence.anchored",
        "evidence.key-created",
        "evidence.pruned",
        "finding.changed",
        "host.joined",
        "immutability.attempt",
        "immutability.tried",
        "isolation.seen",
        "media.unknown",
        "medium.moved",
        "medium.seen",
        "override.asked",
        "override.confirmed",
        "override.ended",
        "pause.ended",
        "pause.started",
        "policy.changed",
        "report.acknowledged",
        "report.issued",
        "report.reminded",
        "repository.inspected",
        "repository.verified",
        "restore-test.result",
        "self-test.result",
        "store.replaced",
        "waiver.asked",
        "waiver.confirmed",
        "waiver.ended",
    }
)

#: Kinds that are mailed.
MAILED = frozenset({"notice.due", "report.mailed", "report.reminded"})

#: Kinds that say how something stands: what they tell depends on how it stood before.
COMPARED = frozenset(
    {"host.joined", "isolation.seen", "media.unknown", "medium.seen", "repository.inspected"}
)


def is_announced(observation: Observation) -> bool:
    """Tell whether a notification belongs in line for this fact."""
    return observation.kind in ANNOUNCED


def wants(channel: str, observation: Observation) -> bool:
    """Tell whether a notification for that channel belongs in line for this fact."""
    if channel == MAIL:
        return observation.kind in MAILED
    return is_announced(observation)
