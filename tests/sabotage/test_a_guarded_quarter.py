"""Seven weeks of locked, append-only and offline copies: silence while all is well, and then not.

With a disk that comes a day late, a vantage point that is cut off for two hours, the night on which
the clock goes back, an attestation that is renewed in time and a weekly attempt at every protection.
The records are made up (`tests.sabotage.guarded_quarter`); store, views and controls are the real ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog

from backupguard.model import Finding, Severity, Status, to_us
from tests.sabotage.guarded_quarter import DAY, START, Guarded

CONTROLS = frozenset(
    {"321-01", "OFF-01", "IMM-01", "IMM-02", "ISO-01", "ACC-01", "CHF-01", "CFG-01"}
)
DAYS = 52

Found = Mapping[tuple[str, str], Finding]


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()


def alarms(found: Found) -> set[tuple[str, str, str]]:
    """Return what somebody has to act upon on the same day."""
    return {
        (*key, one.reason.id.removeprefix("reason."))
        for key, one in found.items()
        if key[0] in CONTROLS
        and one.status not in {Status.COMPLIANT, Status.NOT_APPLICABLE}
        and one.severity in {Severity.HIGH, Severity.CRITICAL}
    }


def test_nobody_is_called_while_everything_is_guarded(tmp_path: Path) -> None:
    site = Guarded(root=tmp_path)
    said: dict[tuple[str, str], set[str]] = {}
    for at in site.live(DAYS):
        found = site.judge(at)
        assert alarms(found) == set(), at
        for key, one in found.items():
            said.setdefault(key, set()).add(one.reason.id.rpartition(".")[2])
    site.close()
    assert said["OFF-01", "application/dpi"] == {"away", "stale"}  # stale: on the day of the ritual
    assert said["IMM-01", "repository/verrou"] == {"locked"}
    assert said["IMM-01", "repository/coffre"] == {"tried"}
    assert said["IMM-02", "repository/coffre"] == {"proved"}
    for name in ("verrou", "coffre", "usb-a", "usb-b"):
        assert said["ISO-01", f"repository/{name}"] == {"closed"}
        assert said["CHF-01", f"repository/{name}"] == {"good"}
    assert said["ACC-01", "site"] == said["CFG-01", "site"] == {"kept"}
    assert found["321-01", "application/dpi"].status is Status.COMPLIANT


@dataclass(frozen=True, kw_only=True)
class Broken:
    """What is different from day two on, and which finding there is so many days later."""

    control: str
    subject: str
    reason: str
    within: int = 7
    changed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    skipped: frozenset[str] = frozenset()
    severities: frozenset[Severity] = frozenset({Severity.HIGH, Severity.CRITICAL})
    also: frozenset[str] = frozenset()  # controls that rightly say it as well


OPEN = {"target": "coffres", "name": "192.0.2.7", "address": "192.0.2.7", "family": "ipv4",
        "port": 445, "outcome": "open", "announced": False}  # fmt: skip
OLD = [{"repository": "verrou", "use": "reader", "written_at": to_us(START - 400 * DAY),
        "code": None}]  # fmt: skip
TWINS = {
    "the lock is taken off": Broken(
        control="IMM-01", subject="repository/verrou", reason="no_lock",
        changed={"protection.seen repository/verrou": {
            "mechanism": "none", "mode": None, "points": [],
            "weaknesses": [{"code": "no_lock", "values": {}}]}},
    ),
    "append-only is dropped": Broken(
        control="IMM-02", subject="repository/coffre", reason="lost_protection",
        changed={"immutability.tried repository/coffre": {
            "verdict": "failed", "worked": ["delete-data"], "refused": []}},
        also=frozenset({"IMM-01"}),
    ),
    "the disk stays attached": Broken(
        control="OFF-01", subject="application/dpi", reason="left_attached",
        skipped=frozenset({"detach", "carry"}),
        severities=frozenset({Severity.WARNING, Severity.HIGH, Severity.CRITICAL}),
        also=frozenset({"321-01"}),
    ),
    "nobody says where the disk went": Broken(
        control="OFF-01", subject="application/dpi", reason="stale",
        skipped=frozenset({"carry"}), also=frozenset({"321-01"}),
    ),
    "the store answers": Broken(
        control="ISO-01", subject="repository/coffre", reason="open", within=2,
        changed={"isolation.seen": {"rows": [OPEN]}}, also=frozenset({"OFF-01", "321-01"}),
    ),
    "the backup host joins production": Broken(
        control="ISO-01", subject="repository/verrou", reason="joined", within=2,
        changed={"host.joined": {"joined": True, "domains": ["chb.local"], "seen_by": ["sssd"]}},
    ),
    "the vantage point falls silent": Broken(
        control="ISO-01", subject="repository/verrou", reason="silent",
        skipped=frozenset({"vantage"}), also=frozenset({"OFF-01"}),
        severities=frozenset({Severity.WARNING, Severity.HIGH, Severity.CRITICAL}),
    ),
    "the copy is no longer encrypted": Broken(
        control="CHF-01", subject="repository/verrou", reason="clear", within=2,
        changed={"repository.inspected repository/verrou": {"encrypted": False}},
    ),
    "the escrow is not attested again": Broken(
        control="CHF-01", subject="repository/verrou", reason="escrow_expired", within=9,
        skipped=frozenset({"attest"}),
    ),
    "a retention is halved": Broken(
        control="CFG-01", subject="site", reason="weakened", within=2,
        skipped=frozenset({"policies"}),
    ),
    "a secret is never renewed": Broken(
        control="ACC-01", subject="site", reason="old_secret", within=2,
        changed={"secrets.seen": {"secrets": OLD}},
        severities=frozenset({Severity.WARNING, Severity.HIGH, Severity.CRITICAL}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("broken", TWINS.values(), ids=[name.replace(" ", "-") for name in TWINS])
def test_what_breaks_is_named_by_its_own_control(tmp_path: Path, broken: Broken) -> None:
    site = Guarded(
        root=tmp_path, broken=broken.changed, broken_from=START + 2 * DAY, skipped=broken.skipped
    )
    said: set[tuple[str, Severity]] = set()
    for at in site.live(2 + broken.within):
        found = site.judge(at)
        one = found[broken.control, broken.subject]
        if one.status in {Status.NON_COMPLIANT, Status.WARNING}:
            said.add((one.reason.id.removeprefix(f"reason.{broken.control}."), one.severity))
        strange = {one for one in alarms(found) if one[0] not in {broken.control, *broken.also}}
        assert strange == set(), at
    site.close()
    assert said & {(broken.reason, severity) for severity in broken.severities}, said
