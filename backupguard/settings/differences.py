"""What changed between two settings, in words for the evidence, and whether it weakens anything.

Works on what `Settings.dump` gives, so that a load can be compared with one recorded long ago.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from backupguard.contracts import parse_duration, parse_size
from backupguard.evidence.kinds import Difference
from backupguard.settings.schedule import longest_gap

_LONGEST = 200
#: A fixed time to compare schedules from, so that one pair always compares the same way.
_REFERENCE = datetime(2026, 1, 1, tzinfo=UTC)

Path = tuple[str, ...]


def differences(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[Difference]:
    """Given two dumps (`Settings.dump`), return every change, the weakening ones marked.

    Without an old one there is nothing to compare: no differences. Lists of named tables, such as
    checks, are compared by name.
    """
    if old is None:
        return []
    return list(_compare((), _told(old["settings"]), _told(new["settings"])))


def _told(settings: Mapping[str, Any]) -> Any:
    """Return settings without the texts of catalogue and maps: they are compared by what they say."""
    controls = {k: v for k, v in (settings.get("controls") or {}).items() if k != "files"}
    return _named({**settings, "controls": controls})


def _named(value: Any) -> Any:
    """Return a value in which lists of named tables are tables keyed by name."""
    if isinstance(value, Mapping):
        return {key: _named(inner) for key, inner in value.items()}
    if isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
        names = [v.get("name") for v in value]
        if None not in names and len(set(map(str, names))) == len(names):
            return {str(v["name"]): _named(v) for v in value}
    return value


def _compare(path: Path, old: Any, new: Any) -> Iterator[Difference]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            here = (*path, str(key))
            if key not in new:
                yield _difference(here, "removed", old[key], None)
            elif key not in old:
                yield _difference(here, "added", None, new[key])
            else:
                yield from _compare(here, old[key], new[key])
    elif old != new:
        yield _difference(path, "changed", old, new)


def _difference(path: Path, change: str, before: Any, after: Any) -> Difference:
    found = Difference(path=".".join(path), change=change, weakened=weakens(path, before, after))
    if before is not None:
        found["before"] = _text(before)
        if (digest := _digest(before)) is not None:
            found["before_sha256"] = digest
    if after is not None:
        found["after"] = _text(after)
        if (digest := _digest(after)) is not None:
            found["after_sha256"] = digest
    return found


def _whole(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _text(value: Any) -> str:
    text = _whole(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _digest(value: Any) -> str | None:
    """Return the SHA-256 of a value that is recorded cut, so that putting it back can be told."""
    text = _whole(value)
    return hashlib.sha256(text.encode()).hexdigest() if len(text) > _LONGEST else None


# --------------------------------------------------------------------------------- what is weaker


def weakens(path: Path, before: Any, after: Any) -> bool:
    """Tell whether a change makes the settings ask for less. None stands for "not there"."""
    rule = next((rule for pattern, rule in _RULES if _matches(pattern, path)), None)
    return rule is not None and rule(before, after)


def _matches(pattern: str, path: Path) -> bool:
    parts = pattern.split("/")
    if parts[-1] == "**":
        if len(path) < len(parts) - 1:
            return False
        path, parts = path[: len(parts) - 1], parts[:-1]
    return len(parts) == len(path) and all(
        part in {"*", key} for part, key in zip(parts, path, strict=True)
    )


def _gone(before: Any, after: Any) -> bool:
    # A list whose last table went is an empty list.
    return after is None or (bool(before) and after == [])


def _changed_or_gone(before: Any, _after: Any) -> bool:
    """Something that cannot be compared: any other value may ask for less."""
    return before is not None


def _any_change(_before: Any, _after: Any) -> bool:
    """Whose word counts, and by which key it is known: nobody can say that another one is as good."""
    return True


def _longer(before: Any, after: Any) -> bool:
    if before is None:
        return False  # a promise where there was none
    return after is None or _seconds(after) > _seconds(before)


def _longer_where_default_is_unknown(before: Any, after: Any) -> bool:
    """As `_longer`, where leaving it out means a measured value nobody can compare with."""
    if before is None or after is None:
        return before is None
    return _seconds(after) > _seconds(before)


def _rarer(before: Any, after: Any) -> bool:
    if before is None:
        return False
    return after is None or _gap(after) > _gap(before)


def _shorter(before: Any, after: Any) -> bool:
    return before is not None and (after is None or _seconds(after) < _seconds(before))


def _lower_number(before: Any, after: Any) -> bool:
    return before is not None and (after is None or after < before)


def _lower_where_default_is_unknown(before: Any, after: Any) -> bool:
    """As `_lower_number`, where leaving it out means a figure of the catalogue's."""
    return before is None or after is None or after < before


def _higher_number(before: Any, after: Any) -> bool:
    return before is not None and (after is None or after > before)


def _more_hands(before: Any, after: Any) -> bool:
    """An assumption that makes the recovery forecast shorter; left out, it is one at a time."""
    return int(after or 1) > int(before or 1)


def _quicker_writes(before: Any, after: Any) -> bool:
    """As `_more_hands`; left out, it is the figure that was measured."""
    return int(after or 165) < int(before or 165)


def _less_critical(before: Any, after: Any) -> bool:
    return before is not None and (after is None or str(after) > str(before))


def _fewer(before: Any, after: Any) -> bool:
    return not {str(v) for v in before or ()} <= {str(v) for v in after or ()}


def _more(before: Any, after: Any) -> bool:
    """A list of what is left out of a look grew."""
    return not {str(v) for v in after or ()} <= {str(v) for v in before or ()}


def _switched_off(_before: Any, after: Any) -> bool:
    return after is False


def _switched_on(before: Any, after: Any) -> bool:
    """A statement that excuses something, where there was none."""
    return not before and bool(after)


def _later(before: Any, after: Any) -> bool:
    return after is not None and (before is None or str(after) > str(before))


def _smaller(before: Any, after: Any) -> bool:
    """A bound on reading that got tighter: less can be tested."""
    return after is not None and (before is None or parse_size(after) < parse_size(before))  # type: ignore[operator]


def _seconds(value: Any) -> float:
    parsed = parse_duration(value)
    return parsed.total_seconds() if isinstance(parsed, timedelta) else 0.0


def _gap(value: Any) -> timedelta:
    return longest_gap(str(value), _REFERENCE, "UTC")


_APPLICATION = "applications/*"
_CHECKS = f"{_APPLICATION}/restore-test/checks"

#: By what a medium is recognised: with another one it is another medium.
_MEDIUM_IDENTITY = ("kind", "filesystem-uuid", "luks-uuid", "serial", "barcode", "library")

#: The first pattern that matches decides; what matches none weakens nothing.
_RULES: tuple[tuple[str, Callable[[Any, Any], bool]], ...] = (
    ("applications", _gone),
    (_APPLICATION, _gone),
    (f"{_APPLICATION}/criticality", _less_critical),
    (f"{_APPLICATION}/rpo", _longer),
    (f"{_APPLICATION}/rto", _longer),
    (f"{_APPLICATION}/retention/*", _lower_where_default_is_unknown),
    (f"{_APPLICATION}/depends-on", _fewer),
    (f"{_APPLICATION}/recovery/steps", _gone),
    (f"{_APPLICATION}/recovery/steps/*", _gone),
    (f"{_APPLICATION}/recovery/steps/*/duration", _shorter),
    (f"{_APPLICATION}/backups", _gone),
    (f"{_APPLICATION}/backups/*", _gone),
    (f"{_APPLICATION}/backups/*/every", _longer),
    (f"{_APPLICATION}/backups/*/schedule", _rarer),
    (f"{_APPLICATION}/backups/*/grace", _longer_where_default_is_unknown),
    (f"{_APPLICATION}/backups/*/select/**", _changed_or_gone),
    (f"{_APPLICATION}/backups/*/covers", _fewer),
    (f"{_APPLICATION}/restore-test", _gone),
    (f"{_APPLICATION}/restore-test/schedule", _rarer),
    (f"{_APPLICATION}/restore-test/imports", _gone),
    (f"{_APPLICATION}/restore-test/application", _gone),
    (f"{_APPLICATION}/restore-test/application/*", _any_change),
    (f"{_APPLICATION}/restore-test/imports/*", _any_change),
    (_CHECKS, _gone),
    (f"{_CHECKS}/*", _gone),
    (f"{_CHECKS}/*/newer-than", _longer),
    (f"{_CHECKS}/*/at-least", _lower_number),
    (f"{_CHECKS}/*/at-most", _higher_number),
    (f"{_CHECKS}/*/**", _changed_or_gone),
    (f"{_APPLICATION}/restore-test/invariants", _gone),
    (f"{_APPLICATION}/restore-test/invariants/*", _gone),
    (f"{_APPLICATION}/restore-test/invariants/*/since", _later),
    (f"{_APPLICATION}/restore-test/invariants/*/**", _changed_or_gone),
    (f"{_APPLICATION}/restore-test/canary", _gone),
    (f"{_APPLICATION}/restore-test/canary/since", _later),
    (f"{_APPLICATION}/restore-test/canary/newer-than", _longer_where_default_is_unknown),
    (f"{_APPLICATION}/restore-test/required-tables", _fewer),
    (f"{_APPLICATION}/restore-test/freshness/enabled", _switched_off),
    (f"{_APPLICATION}/restore-test/freshness/ignore", _more),
    (f"{_APPLICATION}/restore-test/random-text", _switched_off),
    (f"{_APPLICATION}/restore-test/instance", _changed_or_gone),
    ("instances/*/production", _fewer),
    ("repositories", _gone),
    ("repositories/*", _gone),
    ("repositories/*/limits/max-bytes-per-day", _smaller),
    ("repositories/*/failure-domain", _changed_or_gone),
    ("repositories/*/off-site", _switched_on),
    ("repositories/*/copy-kind", _changed_or_gone),
    ("repositories/*/claimed-protection", _fewer),
    ("repositories/*/medium", _changed_or_gone),
    ("repositories/*/medium-kind", _changed_or_gone),
    ("repositories/*/credentials/writer-for-probe", _gone),
    ("repositories/*/credentials/escrow", _gone),
    ("media", _gone),
    ("media/*", _gone),
    *((f"media/*/{name}", _changed_or_gone) for name in _MEDIUM_IDENTITY),
    ("media/*/may-stay", _longer),
    ("media/*/every", _longer),
    ("soc/syslog", _gone),
    ("notify/mail", _gone),
    ("notify/dead-man", _gone),
    ("notify/dead-man/every", _longer),
    ("people", _any_change),
    ("people/*", _any_change),
    ("people/*/roles", _any_change),
    ("people/*/user", _any_change),
    ("people/*/signing-key", _any_change),
    *(
        (f"daemon/cadences/{name}", _longer)
        for name in ("immutability", "offline", "drift", "imports", "self-test")
    ),
    (f"{_APPLICATION}/failure-domain", _changed_or_gone),
    (f"{_APPLICATION}/provides", _fewer),
    ("site/without", _switched_on),
    ("site/without/*", _switched_on),
    ("daemon/cadences/*/*", _longer),
    ("probes/*/every", _longer),
    ("daemon/cadences/discovery", _longer),
    ("discovery/enabled", _switched_off),
    ("discovery/ignore", _more),
    ("discovery/servers", _gone),
    ("discovery/servers/*", _gone),
    ("discovery/sqlite", _fewer),
    ("reference", _gone),
    ("reference/file", _changed_or_gone),
    ("reference/kinds", _changed_or_gone),
    ("reference/max-age", _longer),
    ("isolation/witness", _gone),
    ("isolation/backup-domains", _more),
    ("isolation/targets", _gone),
    ("isolation/targets/*", _gone),
    ("isolation/targets/*/windows", _more),
    ("isolation/targets/*/*", _fewer),
    ("isolation/vantages", _gone),
    ("isolation/vantages/*", _gone),
    ("isolation/vantages/*/witness", _changed_or_gone),
    ("isolation/vantages/*/max-age", _longer),
    ("daemon/cadences/isolation", _longer),
    ("evidence/anchors", _gone),
    ("evidence/anchors/*", _gone),
    ("evidence/anchors/*/**", _changed_or_gone),
    ("evidence/every", _longer),
    ("plan", _gone),
    ("plan/directory", _gone),
    ("plan/every", _longer),
    ("plan/parallel", _more_hands),
    ("plan/durable-writes", _quicker_writes),
    ("site/commissioning-until", _later),
    ("scratch/clear-text-accepted-by", _later),
    ("host/failure-domains", _fewer),
    ("host/accepted", _switched_on),
    ("host/accepted/*", _switched_on),
    ("host/accepted/*/until", _later),
    (
        "catalogue/**",
        _changed_or_gone,
    ),  # compared by `controls.compare`; here: until it is put back
)
