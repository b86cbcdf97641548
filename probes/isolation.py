"""Does anything answer that must not, and is this host joined to a directory?

Each port is opened and closed at once, nothing is sent. What this host sees is one vantage point
(`vantage/self`); others in production run `probes/isolation_vantage.py`, the same code in one file.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from backupguard.contracts import Context, ProbeSettings, Repositories
from backupguard.model import Json, Observation, Scope, Subject, from_us, to_us
from probes import isolation_joined, isolation_vantage

#: The vantage point that this host is.
SELF = "self"

#: Tells whether a target may answer at some time between these two.
Announced = Callable[[str, datetime, datetime], bool]


def _never(_target: str, _began: datetime, _ended: datetime) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the settings say to the probe: what to try, beside which witness, and what is announced.

    `root` is where this host's files are looked for.
    """

    wanted: tuple[tuple[str, str, int], ...] = ()  # target, name, port
    witness: str | None = None  # "HOST:PORT"
    announced: Announced = _never
    root: Path = field(default=Path("/"))


class Isolation:
    """Probe `isolation`: one `host.joined`, and an `isolation.seen` where there is something to try."""

    name = "isolation"
    scope = Scope.SITE
    settings: type[ProbeSettings] = ProbeSettings

    def observe(
        self,
        subject: Subject,  # noqa: ARG002 - it speaks of this host
        repositories: Repositories,  # noqa: ARG002 - it looks at ports, not at copies
        context: Context,
        settings: Any,
    ) -> Iterator[Observation]:
        """Yield what is seen. `settings` is a `Plan`, or says nothing. Raises Cancelled."""
        plan = settings if isinstance(settings, Plan) else Plan()
        yield _joined(plan.root, context)
        if not plan.wanted:
            return
        context.progress(0, len(plan.wanted), "ports")
        seen = isolation_vantage.look(plan.wanted, plan.witness, stopped=context.cancel.is_set)
        context.cancel.raise_if_set()  # half a look proves nothing
        context.progress(len(plan.wanted), len(plan.wanted), "ports")
        code = None if seen["families"] else "witness_silent" if plan.witness else "no_witness"
        yield Observation(
            kind="isolation.seen",
            subject=f"vantage/{SELF}",
            observed_at=from_us(seen["ended_at"]),
            data=seen_data(SELF, None, seen, plan.announced, code),
            key=f"isolation.seen/{context.work.name}",
        )


def seen_data(
    vantage: str, zone: str | None, seen: Mapping[str, Json], announced: Announced, code: str | None
) -> dict[str, Json]:
    """Return the payload of an `isolation.seen`: a look, with what was announced at its time."""
    began, ended = from_us(seen["began_at"]), from_us(seen["ended_at"])
    targets = {row["target"] for row in seen["rows"]}
    excused = {target: announced(target, began, ended) for target in targets}
    return {
        "vantage": vantage,
        "zone": zone,
        "witness": bool(seen["families"]),
        "families": list(seen["families"]),
        "began_at": to_us(began),
        "ended_at": to_us(ended),
        "rows": [{**row, "announced": excused[row["target"]]} for row in seen["rows"]],
        "code": code,
    }


def _joined(root: Path, context: Context) -> Observation:
    host = socket.gethostname()
    found = isolation_joined.look(root)
    return Observation(
        kind="host.joined",
        subject=f"host/{host}",
        observed_at=context.now(),
        data={
            "host": host,
            "joined": bool(found.seen_by),
            "domains": sorted(found.domains),
            "seen_by": sorted(found.seen_by),
            "unread": sorted(found.unread),
        },
        key=f"host.joined/{context.work.name}",
    )


ISOLATION = Isolation()
