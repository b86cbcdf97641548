"""What one look at the places that must not answer says of one of them. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: What proves, beside a witness that answers, that a port did not.
CLOSED = frozenset({"refused", "filtered", "unreachable"})

Row = Mapping[str, Any]
Look = Mapping[str, Any]


def rows_of(look: Look, target: str) -> Iterator[Row]:
    """Yield the rows of a target that were seen outside its windows."""
    for row in look.get("rows") or ():
        if row["target"] == target and not row["announced"]:
            yield row


def answers(look: Look, target: str) -> list[Row]:
    """Return the ports that answered: true with or without a witness."""
    return [row for row in rows_of(look, target) if row["outcome"] == "open"]


def unproved(look: Look, target: str) -> list[tuple[Row, str]]:
    """Return what was not proved closed, and why: "witness", "unresolved", "untried", "family"."""
    found = []
    for row in rows_of(look, target):
        if row["outcome"] not in CLOSED:
            if row["outcome"] != "open":
                found.append((row, str(row["outcome"])))
        elif not look.get("witness"):
            found.append((row, "witness"))
        elif row["family"] not in look["families"]:
            found.append((row, "family"))
    return found


def is_conclusive(look: Look, target: str) -> bool:
    """Tell whether a look settles a target: something answered, or everything is proved closed."""
    if answers(look, target):
        return True
    return bool(list(rows_of(look, target))) and not unproved(look, target)


def asked(look: Look, target: str) -> set[tuple[str, int]]:
    """Return the (name, port) that a look tried of a target, inside its windows or not."""
    return {(row["name"], row["port"]) for row in look.get("rows") or () if row["target"] == target}
