"""What a bucket's policy and its lifecycle rules mean for locks: read, not simulated.

A policy's grammar: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

_BYPASS = "s3:bypassgovernanceretention"
_EVERYBODY = "*"
DAY_S = 86_400


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else () if value is None else (value,)


def _matches(pattern: object, name: str) -> bool:
    """Tell whether a pattern of a policy (`*`, `?`) stands for a name."""
    parts = re.split(r"([*?])", str(pattern).lower())
    expression = "".join({"*": ".*", "?": "."}.get(part, re.escape(part)) for part in parts)
    return re.fullmatch(expression, name, re.DOTALL) is not None


def _about_bypass(statement: Mapping[str, Any]) -> bool:
    if "NotAction" in statement:
        return not any(_matches(one, _BYPASS) for one in _list(statement["NotAction"]))
    return any(_matches(one, _BYPASS) for one in _list(statement.get("Action")))


def _principals(statement: Mapping[str, Any]) -> frozenset[str]:
    """Return whom a statement speaks of; "*" is everybody, and so is "all but these"."""
    if "NotPrincipal" in statement:
        return frozenset({_EVERYBODY})
    principal = statement.get("Principal")
    if isinstance(principal, Mapping):
        return frozenset(str(one) for values in principal.values() for one in _list(values))
    return frozenset(str(one) for one in _list(principal))


def bypass_holders(policy: str) -> tuple[str, ...]:
    """Return whom a bucket's policy lets take governance locks off; "*" is everybody.

    Somebody counts as denied only where a statement says so without any condition. Raises ValueError
    for what is no policy. Users and roles may have the right by policies of their own, which no
    reader of a bucket sees.
    """
    read = json.loads(policy)
    if not isinstance(read, dict):
        raise ValueError("a policy is an object")
    allowed: set[str] = set()
    denied: set[str] = set()
    for statement in _list(read.get("Statement")):
        if not isinstance(statement, dict) or not _about_bypass(statement):
            continue
        if statement.get("Effect") == "Allow":
            allowed |= _principals(statement)
        elif not statement.get("Condition") and "NotPrincipal" not in statement:
            denied |= _principals(statement)
    return () if _EVERYBODY in denied else tuple(sorted(allowed - denied))


def early_rules(
    rules: Sequence[Mapping[str, Any]], prefix: str, now: datetime
) -> Iterator[tuple[str, int]]:
    """Yield name and days of the rules that expire objects below `prefix` by their age alone.

    A rule for objects with a tag is passed over: no backup tool sets any.
    """
    for number, rule in enumerate(rules, 1):
        scope = rule.get("Filter") or {}
        both = scope.get("And") or {}
        reach = scope.get("Prefix") or both.get("Prefix") or rule.get("Prefix") or ""
        tagged = "Tag" in scope or both.get("Tags")
        apart = not (reach.startswith(prefix) or prefix.startswith(reach))
        if rule.get("Status") != "Enabled" or tagged or apart:
            continue
        days = [
            found
            for found in (
                (rule.get("Expiration") or {}).get("Days"),
                (rule.get("NoncurrentVersionExpiration") or {}).get("NoncurrentDays"),
                _days_until((rule.get("Expiration") or {}).get("Date"), now),
            )
            if isinstance(found, int)
        ]
        if days:
            yield str(rule.get("ID") or number), min(days)


def _days_until(date: Any, now: datetime) -> int | None:
    return max(0, (date - now).days) if isinstance(date, datetime) else None
