"""One pass over a restored MariaDB server that counts what is in it: counts and times leave it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from backupguard.contracts import Trial
from backupguard.errors import Misunderstood
from backupguard.model import CheckResult, Fingerprint, Verdict, from_us
from restore_tests import inside, shape
from restore_tests.mariadb_server import DATABASE, MariadbServer, of
from restore_tests.survey import (
    DAMAGED_TEXT_COLUMN,
    FLOOR,
    RANDOM_TEXT_COLUMN,
    TEXT_COLUMN,
    TOLERANCE,
    Survey,
    settings_of,
    zone,
)

_OWN = "('mysql', 'sys', 'information_schema', 'performance_schema')"
_TIMES = frozenset({"datetime", "timestamp", "date"})
_TEXTS = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})
_TEXT_COLUMNS = 300
#: So many rows without what they refer to are counted of each key; more say nothing more.
_ORPHANS = 1000
_TABLES_A_STATEMENT = 20
#: A client's errors go nowhere: a check that has no answer is seen by its absence.
#: awk looks at bytes, whichever awk it is.
_PIPED = (
    '{ "$@" 2>/dev/null; echo $? >/tmp/status; } | LC_ALL=C awk "$program";'
    " echo status $(cat /tmp/status)"
)
_COUNT = re.compile(r"([a-z]{2,20}) (\d{1,15})\Z")

#: Events come from their own table: a server that never looks at them lists none.
_LISTING = f"""
select 'table', hex(table_schema), hex(table_name), table_type from information_schema.tables
  where table_schema not in {_OWN};
select 'column', hex(table_schema), hex(table_name), hex(column_name), data_type
  from information_schema.columns where table_schema not in {_OWN}
  order by table_schema, table_name, ordinal_position;
select 'object', 'routine', count(*) from information_schema.routines
  where routine_schema not in {_OWN};
select 'object', 'trigger', count(*) from information_schema.triggers
  where trigger_schema not in {_OWN};
select 'object', 'event', count(*) from mysql.event where db not in {_OWN};
select 'object', 'constraint', count(*) from information_schema.table_constraints
  where constraint_schema not in {_OWN};
select 'object', 'index', count(distinct table_schema, table_name, index_name)
  from information_schema.statistics where table_schema not in {_OWN};
select 'definers', count(distinct d) from (
  select definer as d from information_schema.views where table_schema not in {_OWN}
  union select definer from information_schema.routines where routine_schema not in {_OWN}
  union select definer from information_schema.triggers where trigger_schema not in {_OWN}
  union select definer from mysql.event where db not in {_OWN}) x
  where d not in (select concat(user, '@', host) from mysql.global_priv);
select 'key', hex(table_schema), hex(table_name), hex(constraint_name), hex(column_name),
  hex(referenced_table_schema), hex(referenced_table_name), hex(referenced_column_name)
  from information_schema.key_column_usage
  where referenced_table_name is not null and table_schema not in {_OWN}
  order by table_schema, table_name, constraint_name, ordinal_position;
"""  # noqa: S608 - names of ours

_SERVERS_OWN = """\
select hex(table_name) from information_schema.tables
  where table_schema = 'mysql' and table_type = 'BASE TABLE';
"""


@dataclass(slots=True, kw_only=True)
class Table:
    """A table or view as information_schema names it."""

    schema: str
    name: str
    kind: str
    columns: list[tuple[str, str]]
    shown: str  # the schema's name in a shape

    @property
    def quoted(self) -> str:
        """Its name as SQL writes it."""
        return f"{_quoted(self.schema)}.{_quoted(self.name)}"

    @property
    def key(self) -> str:
        """Its name in a shape."""
        return f"{self.shown}.{self.name}"


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def session(trial: Trial) -> str:
    """Return what every session of ours begins with: the site's clock, and waiting for nobody."""
    offset = trial.point_at.astimezone(ZoneInfo(zone(trial))).strftime("%z")
    return f"set time_zone = '{offset[:3]}:{offset[3:5]}', sql_mode = '', lock_wait_timeout = 5;\n"


def survey(trial: Trial) -> Survey:
    """Return the survey of this trial's databases, made once."""
    made = trial.memory.get("survey")
    if not isinstance(made, Survey):
        made = trial.memory["survey"] = _survey(trial, of(trial))
    return made


def base_tables(trial: Trial) -> Sequence[Table]:
    """Return the tables that hold rows, as the server lists them; none of them is opened for that."""
    try:
        return [table for table in _listing(trial)[1] if table.kind == "BASE TABLE"]
    except (ValueError, IndexError, KeyError) as error:
        raise Misunderstood("output_unparsable", program="mariadb") from error


def _listing(
    trial: Trial,
) -> tuple[list[list[str]], list[Table], dict[str, int], dict[str, int]]:
    made = trial.memory.get("listing")
    if made is None:
        found = of(trial).query(_LISTING)
        made = trial.memory["listing"] = (found, *_listed(found, of(trial).database))
    listing: tuple[list[list[str]], list[Table], dict[str, int], dict[str, int]] = made
    return listing


def _survey(trial: Trial, server: MariadbServer) -> Survey:
    try:
        listing, tables, objects, counts = _listing(trial)
        base = base_tables(trial)
        rows, newest = _rows(trial, server, base)
        counts["orphans"] = _orphans(trial, server, listing)
    except (ValueError, IndexError, OverflowError, KeyError) as error:
        raise Misunderstood("output_unparsable", program="mariadb") from error
    if len(rows) != len(base):
        # A table whose rows could not be counted would look like a table that is gone.
        raise Misunderstood("output_unparsable", program="mariadb")
    objects[TEXT_COLUMN] = sum(kind in _TEXTS for table in base for _, kind in table.columns)
    if settings_of(trial).random_text:
        looked = _texts(server, base, rows)
        objects[RANDOM_TEXT_COLUMN] = looked.get("random", 0)
        objects[DAMAGED_TEXT_COLUMN] = looked.get("damaged", 0)
    return Survey(
        fingerprint=Fingerprint(
            tables=rows,
            objects=objects,
            columns={table.key: len(table.columns) for table in base},
        ),
        relations=frozenset(
            name for table in tables for name in (table.key, f"{table.schema}.{table.name}")
        ),
        counts=counts,
        newest=newest,
    )


def _listed(
    found: Sequence[Sequence[str]], loaded: str
) -> tuple[list[Table], dict[str, int], dict[str, int]]:
    """Return the tables, the objects and the counts of a listing.

    The one database of a dump has the same name in every shape: what was renamed is not lost.
    """
    tables: dict[tuple[str, str], Table] = {}
    objects: dict[str, int] = {}
    counts: dict[str, int] = {}
    for row in found:
        if row[0] == "table":
            schema, name = _text(row[1]), _text(row[2])
            shown = DATABASE if schema == loaded else schema
            tables[schema, name] = Table(
                schema=schema, name=name, kind=row[3], columns=[], shown=shown
            )
        elif row[0] == "column":
            tables[_text(row[1]), _text(row[2])].columns.append((_text(row[3]), row[4].lower()))
        elif row[0] == "object":
            objects[row[1]] = int(row[2])
        elif row[0] == "definers":
            counts["definers"] = int(row[1])
    objects["view"] = sum(table.kind == "VIEW" for table in tables.values())
    if "definers" not in counts:
        raise ValueError("the listing ends too early")
    return list(tables.values()), objects, counts


def _text(hexadecimal: str) -> str:
    return bytes.fromhex(hexadecimal).decode("utf-8", "replace")


def _rows(
    trial: Trial, server: MariadbServer, tables: Sequence[Table]
) -> tuple[dict[str, int], dict[str, datetime]]:
    """Count the rows of every table, and find its newest time that can be true, in one pass."""
    limit = int((trial.point_at + TOLERANCE).astimezone(UTC).timestamp())
    floor = int(datetime.fromisoformat(FLOOR).timestamp())
    ignored = set(settings_of(trial).freshness.ignore)
    statements = [session(trial)]
    for number, table in enumerate(tables):
        times = [
            f"max(case when {at} between {floor} and {limit} then {at} end)"
            for column, kind in table.columns
            if kind in _TIMES and not _names(table, column) & ignored
            for at in [_seconds(column)]
        ]
        newest = f"greatest({', '.join(f'coalesce({one}, -1e18)' for one in times)}, -1e18)"
        chosen = newest if times else "-1e18"
        statements.append(
            f"select 'rows', {number}, count(*), floor({chosen} * 1000000) from {table.quoted};\n"  # noqa: S608
        )
    rows: dict[str, int] = {}
    found: dict[str, datetime] = {}
    for row in server.query("".join(statements)):
        table = tables[int(row[1])]
        rows[table.key] = int(row[2])
        if float(row[3]) > floor * 1_000_000:
            found[table.key] = from_us(int(float(row[3])))
    return rows, found


def _names(table: Table, column: str) -> set[str]:
    names = {table.name, table.key, f"{table.schema}.{table.name}"}
    return names | {f"{name}.{column}" for name in names}


def _seconds(column: str) -> str:
    # unix_timestamp() knows nothing before 1970; the difference does, in the session's own time.
    epoch = "from_unixtime(0)"
    return f"(timestampdiff(microsecond, {epoch}, {_quoted(column)}) / 1000000)"


def _orphans(trial: Trial, server: MariadbServer, listing: Sequence[Sequence[str]]) -> int:
    """Count rows whose foreign key leads nowhere: a dump switches the server's own look at it off."""
    keys: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for row in listing:
        if row[0] == "key":
            schema, table, name, column, *other = map(_text, row[1:])
            keys.setdefault((schema, table, name, *other[:2]), []).append((column, other[2]))
    statements = [session(trial)]
    for (schema, table, _, other_schema, other_table), pairs in keys.items():
        joined = " and ".join(f"c.{_quoted(mine)} = p.{_quoted(other)}" for mine, other in pairs)
        filled = " and ".join(f"c.{_quoted(mine)} is not null" for mine, _ in pairs)
        statements.append(
            f"select 'orphans', count(*) from (select 1 from {_quoted(schema)}.{_quoted(table)} c"  # noqa: S608
            f" left join {_quoted(other_schema)}.{_quoted(other_table)} p on {joined}"
            f" where {filled} and p.{_quoted(pairs[0][1])} is null limit {_ORPHANS}) x;\n"
        )
    if not keys:
        return 0
    return sum(int(row[1]) for row in server.query("".join(statements)) if row[0] == "orphans")


def _texts(server: MariadbServer, tables: Sequence[Table], rows: dict[str, int]) -> dict[str, int]:
    """Count text columns gone random, or whose letters came through a wrong character set.

    A sample of each is looked at inside; longer values for the first, any for the second.
    """
    columns = [
        (table, column)
        for table in sorted(tables, key=lambda table: -rows[table.key])
        for column, kind in table.columns
        if kind in _TEXTS
    ][:_TEXT_COLUMNS]
    if not columns:
        return {}
    script = ["set names utf8mb4;\n"]
    for number, (table, column) in enumerate(columns):
        name = _quoted(column)
        for mark, least in (("", 16), ("d", 4)):
            where = f"from {table.quoted} where char_length({name}) >= {least} limit 100"
            script.append(f"select '{mark}{number}', left({name}, 100) {where};\n")
    return _counts(server, "".join(script), "mariadb_text.awk")


def _counts(server: MariadbServer, script: str, program: str) -> dict[str, int]:
    """Run a script whose rows are only counted, inside; raise Misunderstood when it broke off."""
    text = inside.text(program)
    client = server.argv("--batch", "--skip-column-names", "--force")
    done = server.run(
        ["/bin/sh", "-c", f"program=$1; shift; {_PIPED}", "sh", text, *client],
        stdin=script.encode(),
    )
    lines = done.stdout.decode("ascii", "replace").splitlines()
    counts = {match[1]: int(match[2]) for line in lines if (match := _COUNT.match(line))}
    if counts.pop("status", -1) not in {0, 1}:
        raise Misunderstood("unknown_exit", program="mariadb", status=done.returncode)
    return counts


def consistency(trial: Trial, *, servers_own: bool = False) -> CheckResult:
    """Let the server check every table (CHECK TABLE); with `servers_own` those of its accounts too."""
    tables = list(base_tables(trial))
    if servers_own:
        tables += [
            Table(schema="mysql", name=_text(row[0]), kind="BASE TABLE", columns=[], shown="mysql")
            for row in of(trial).query(_SERVERS_OWN)
        ]
    script = "".join(
        f"check table {', '.join(table.quoted for table in tables[at : at + _TABLES_A_STATEMENT])};\n"
        for at in range(0, len(tables), _TABLES_A_STATEMENT)
    )
    counts = _counts(of(trial), script, "mariadb_check.awk")
    errors, sound = counts.get("errors", 0), counts.get("sound", 0)
    verdict, code = Verdict.PASSED, shape.OK
    if errors:
        verdict, code = Verdict.FAILED, "corrupt"
    elif sound < len(tables):
        verdict, code = Verdict.COULD_NOT_VERIFY, "consistency_unknown"
    return CheckResult(
        name="engine-consistency", level=2, verdict=verdict, code=code, numbers={"lines": errors}
    )


def database_of(trial: Trial, wanted: str | None) -> str:
    """Return the database that the site's checks ask: the one it names, else the only one there is."""
    if wanted is not None:
        return wanted
    names = databases(trial)
    return names[0] if len(names) == 1 else of(trial).database


def databases(trial: Trial) -> Sequence[str]:
    """Return the databases that hold tables, in the order of their names."""
    return sorted({table.schema for table in base_tables(trial)})
