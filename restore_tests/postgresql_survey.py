"""One pass over a restored PostgreSQL database that counts what is in it.

Each query runs with an empty search path, so that nothing the dump defines can stand in for what it
calls, and all of them in one client. Counts and times leave the sandbox, nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from backupguard.contracts import Trial
from backupguard.errors import Misunderstood
from backupguard.model import Fingerprint, from_us
from restore_tests import inside
from restore_tests.postgresql_server import of
from restore_tests.survey import (
    FLOOR,
    RANDOM_TEXT_COLUMN,
    TEXT_COLUMN,
    TOLERANCE,
    Survey,
    settings_of,
    zone,
)

#: What is answered for every database, be it empty.
_COUNTS = {"row-security", "invalid-index", "unlogged"}
_OBJECTS = {"routine", "trigger", "constraint", "policy", "extension", "large-object", "type"}


def survey(trial: Trial) -> Survey:
    """Return the survey of this trial's database, made once."""
    made = trial.memory.get("survey")
    if not isinstance(made, Survey):
        made = trial.memory["survey"] = _survey(trial)
    return made


def _survey(trial: Trial) -> Survey:
    server, settings = of(trial), settings_of(trial)
    variables = {
        "limit": (trial.point_at + TOLERANCE).astimezone(UTC).isoformat(),
        "floor": FLOOR,
        "zone": zone(trial),
        "ignored": ",".join(settings.freshness.ignore),
        "random": "true" if settings.random_text else "false",
    }
    # \set in our own script, so that a value never meets a shell or an argument list.
    lines = "".join(f"\\set {name} {_psql_value(text)}\n" for name, text in variables.items())
    parallel = f"set max_parallel_workers_per_gather = {max(0, server.sizes.jobs - 1)};\n"
    rows = server.query(lines + parallel + inside.text("postgresql_shape.sql"))
    return _read_survey(rows)


def _psql_value(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''").replace("\n", " ") + "'"


@dataclass(slots=True)
class _Counting:
    """Sorts the rows of the survey's queries; an unknown row raises ValueError."""

    tables: dict[str, int] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=dict)
    objects: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    newest: dict[str, datetime] = field(default_factory=dict)
    relations: set[str] = field(default_factory=set)
    sums: dict[str, int] = field(default_factory=dict)

    def add(self, row: list[str]) -> None:
        match row:
            case ["object", kind, count]:
                if kind not in {"table", "other"}:
                    self.objects[kind] = self.objects.get(kind, 0) + int(count)
            case ["count", name, count]:
                self.counts[name] = int(count)
            case ["view", schema, name]:
                self.relations.add(f"{schema}.{name}")
            case ["columns", schema, name, count]:
                self.columns[f"{schema}.{name}"] = int(count)
            case ["rows", schema, name, count, newest]:
                self.tables[f"{schema}.{name}"] = int(count)
                if newest:
                    self.newest[f"{schema}.{name}"] = from_us(int(newest))
            case [name, *numbers]:
                for place, number in enumerate(numbers):
                    self._sum(f"{name}-{place}", int(number))
                self._sum(name, 1)

    def _sum(self, name: str, number: int) -> None:
        self.sums[name] = self.sums.get(name, 0) + number


def _read_survey(rows: list[list[str]]) -> Survey:
    found = _Counting()
    try:
        for row in rows:
            found.add(row)
    except (ValueError, OverflowError) as error:
        raise Misunderstood("output_unparsable", program="psql") from error
    if not (found.counts.keys() >= _COUNTS and found.objects.keys() >= _OBJECTS):
        # A query without an answer is not a count of nothing.
        raise Misunderstood("output_unparsable", program="psql")
    if len(found.tables) != len(found.columns):
        # A table whose rows could not be counted would look like a table that is gone.
        raise Misunderstood("output_unparsable", program="psql")
    found.objects[TEXT_COLUMN] = found.sums.get("text", 0)
    found.objects[RANDOM_TEXT_COLUMN] = found.sums.get("text-0", 0)
    return Survey(
        fingerprint=Fingerprint(tables=found.tables, objects=found.objects, columns=found.columns),
        relations=frozenset(found.relations | found.tables.keys()),
        counts=found.counts,
        newest=found.newest,
        pointers=found.sums.get("pointer-0", 0),
        dangling=found.sums.get("pointer-1", 0),
        sequences_behind=found.sums.get("sequence-0", 0),
    )
