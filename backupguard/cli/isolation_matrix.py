"""What `backupguard probe isolation` shows: source × target × port, and the host's own ties."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from backupguard.cli import common
from backupguard.model import to_us

if TYPE_CHECKING:
    from backupguard.settings import Settings

_SELF = "self"


def matrix(settings: Settings) -> dict[str, Any]:
    """Return the newest look of this host and of every declared vantage point, and the host's ties.

    `looks`: per vantage point `vantage`, `zone`, `seen_at` (None: it never reported anything),
    `witness`, `families`, `code`, `rows`. `host`: what `host.joined` says, None before the first look.
    """
    import socket

    wanted = (_SELF, *settings.isolation.vantages)
    host = f"host/{socket.gethostname()}"
    with closing(common.store(settings)) as store:
        subjects = [host, *(f"vantage/{name}" for name in wanted)]
        latest = store.latest(subjects, ["isolation.seen", "host.joined"])
    looks = []
    for name in wanted:
        fact = latest.get(f"vantage/{name}", {}).get("isolation.seen")
        data = fact.observation.data if fact is not None else None
        zone = None if name == _SELF else settings.isolation.vantages[name].zone
        looks.append(
            {
                "vantage": name,
                "zone": zone,
                "seen_at": to_us(fact.observation.observed_at) if fact is not None else None,
                "witness": bool(data and data["witness"]),
                "families": list(data["families"]) if data else [],
                "code": data["code"] if data else None,
                "rows": list(data["rows"]) if data else [],
            }
        )
    joined = latest.get(host, {}).get("host.joined")
    return {"looks": looks, "host": dict(joined.observation.data) if joined is not None else None}


def show(found: dict[str, Any]) -> None:
    """Print the matrix, a line per vantage point, and a line about this host."""
    words = common.words()
    rows = [
        (
            _zone(look),
            row["target"],
            f"{row['name']}:{row['port']}",
            row["address"] or "—",
            words.text(f"isolation.outcome.{row['outcome']}"),
            words.text("isolation.announced") if row["announced"] else "",
        )
        for look in found["looks"]
        for row in look["rows"]
    ]
    if rows:
        names = ("from", "target", "port", "address", "outcome", "window")
        common.print_table([words.text(f"isolation.column.{name}") for name in names], rows)
    for look in found["looks"]:
        if look["seen_at"] is None:
            if look["vantage"] != _SELF:
                common.result("isolation.look.never", zone=_zone(look))
        elif look["witness"]:
            families = ", ".join(look["families"])
            values = {"zone": _zone(look), "families": families, "seen_at": look["seen_at"]}
            common.result("isolation.look.witness", **values)
        else:
            common.result("isolation.look.blind", zone=_zone(look), seen_at=look["seen_at"])
    host = found["host"]
    if host is not None:
        kind = "joined" if host["joined"] else "unread" if host["unread"] else "apart"
        common.result(
            f"isolation.host.{kind}",
            host=host["host"],
            domains=", ".join(host["domains"]) or "—",
            means=", ".join(host["seen_by"]),
            files=", ".join(host["unread"]),
        )


def _zone(look: dict[str, Any]) -> str:
    if look["vantage"] == _SELF:
        return common.words().text("isolation.here")
    return f"{look['vantage']} ({look['zone']})"
