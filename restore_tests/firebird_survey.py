"""One pass over a restored Firebird database that counts what is in it: counts and times leave it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from backupguard.contracts import Trial
from backupguard.errors import Misunderstood
from backupguard.model import Fingerprint
from restore_tests import inside
from restore_tests.firebird_server import DATABASE, rows, run, sql
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

_SCHEMA = "main"
#: A shape's number that stands for all names below tables.
DEFINITION_NAMES = "definition-names"
#: RDB$RELATION_TYPE: a table that keeps its rows, a view, an external file's.
_TABLE, _VIEW, _EXTERNAL = 0, 1, 2
#: RDB$FIELD_TYPE of dates and times.
_TIMES = frozenset({12, 35})
_CHAR, _VARCHAR, _BLOB = 14, 37, 261
_TEXT_COLUMNS = 300
#: Newest times are counted in seconds from here, without a zone: as the database keeps them.
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001


def _hex(column: str) -> str:
    return f"cast(trim({column}) as varchar(252) character set octets)"


_LISTING = f"""
select 'dialect', mon$sql_dialect from mon$database;
select 'charset', coalesce(rdb$character_set_name, 'NONE') from rdb$database;
select 'table', {_hex("rdb$relation_name")},
  case when rdb$external_file is not null then 2 when rdb$view_blr is not null then 1
    else coalesce(rdb$relation_type, 0) end
  from rdb$relations where coalesce(rdb$system_flag, 0) = 0;
select 'column', {_hex("c.rdb$relation_name")}, {_hex("c.rdb$field_name")}, f.rdb$field_type,
  coalesce(f.rdb$field_sub_type, 0), coalesce(f.rdb$character_set_id, 0),
  iif(f.rdb$computed_blr is null, 0, 1)
  from rdb$relation_fields c join rdb$fields f on f.rdb$field_name = c.rdb$field_source
  where coalesce(c.rdb$system_flag, 0) = 0
  order by c.rdb$relation_name, c.rdb$field_position;
select 'object', 'routine', (select count(*) from rdb$procedures
  where coalesce(rdb$system_flag, 0) = 0) + (select count(*) from rdb$functions
  where coalesce(rdb$system_flag, 0) = 0) from rdb$database;
select 'object', 'trigger', count(*) from rdb$triggers where coalesce(rdb$system_flag, 0) = 0;
select 'object', 'sequence', count(*) from rdb$generators where coalesce(rdb$system_flag, 0) = 0;
select 'object', 'constraint', count(*) from rdb$relation_constraints k
  join rdb$relations t on t.rdb$relation_name = k.rdb$relation_name
  where k.rdb$constraint_type <> 'NOT NULL' and coalesce(t.rdb$system_flag, 0) = 0;
select 'object', 'index', count(*) from rdb$indices where coalesce(rdb$system_flag, 0) = 0;
select 'count', 'inactive', count(*) from rdb$indices i
  join rdb$relation_constraints k on k.rdb$index_name = i.rdb$index_name
  where coalesce(i.rdb$index_inactive, 0) <> 0;
select 'count', 'libraries', count(*) from rdb$functions
  where rdb$module_name is not null and coalesce(rdb$system_flag, 0) = 0;
select 'name', 'routine', {_hex("rdb$procedure_name")} from rdb$procedures
  where coalesce(rdb$system_flag, 0) = 0;
select 'name', 'routine', {_hex("rdb$function_name")} from rdb$functions
  where coalesce(rdb$system_flag, 0) = 0;
select 'name', 'trigger', {_hex("rdb$trigger_name")} from rdb$triggers
  where coalesce(rdb$system_flag, 0) = 0;
select 'name', 'sequence', {_hex("rdb$generator_name")} from rdb$generators
  where coalesce(rdb$system_flag, 0) = 0;
select 'name', 'index', {_hex("rdb$index_name")} from rdb$indices
  where coalesce(rdb$system_flag, 0) = 0 and rdb$index_name not starting with 'RDB$';
select 'end', 0 from rdb$database;
"""  # noqa: S608 - names of ours
_TEXTS = """
program=$1; shift
{ "$@" 2>/dev/null; echo $? >/tmp/status; } | sed 's/ *$//' | LC_ALL=C awk "$program"
echo status $(cat /tmp/status)
"""


@dataclass(slots=True, kw_only=True)
class Table:
    """A table or view, by its name, its kind and its columns."""

    name: str
    kind: int
    columns: list[tuple[str, int, int, int, bool]] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Its name in a shape."""
        return f"{_SCHEMA}.{self.name}"


@dataclass(slots=True, kw_only=True)
class Listing:
    """What the system tables say of the database."""

    dialect: int
    charset: str
    tables: list[Table]
    objects: dict[str, int]
    counts: dict[str, int]
    names: list[tuple[str, str]] = field(default_factory=list)

    def quoted(self, name: str) -> str:
        """Return a name as SQL writes it; the first dialect has no quotes for names."""
        return name if self.dialect == 1 else '"' + name.replace('"', '""') + '"'


def survey(trial: Trial) -> Survey:
    """Count what is in the database; raise Misunderstood where it cannot be understood."""
    try:
        found = _listed(rows(sql(trial, _LISTING)))
        base = [table for table in found.tables if table.kind == _TABLE]
        counted, newest = _counted(trial, found, base)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise Misunderstood("output_unparsable", program="isql-fb") from error
    if len(counted) != len(base):
        raise Misunderstood("output_unparsable", program="isql-fb")
    trial.memory["charset"] = "NONE" if found.charset == "NONE" else "UTF8"
    found.objects[DEFINITION_NAMES] = _sum_of_names(found)
    found.objects[TEXT_COLUMN] = sum(_is_text(column) for t in base for column in t.columns)
    if settings_of(trial).random_text:
        looked = _texts(trial, found, base, counted)
        found.objects[RANDOM_TEXT_COLUMN] = looked.get("random", 0)
        found.objects[DAMAGED_TEXT_COLUMN] = looked.get("damaged", 0)
    keys = {table.key for table in found.tables}
    return Survey(
        fingerprint=Fingerprint(
            tables=counted,
            objects=found.objects,
            columns={table.key: len(table.columns) for table in base},
        ),
        # Names without quotes are capitals in the database, and mostly not in what people write.
        relations=frozenset(keys | {key.lower() for key in keys if key[5:] == key[5:].upper()}),
        counts=found.counts,
        newest=newest,
    )


def _sum_of_names(found: Listing) -> int:
    """Return a number that stands for all names: of columns, routines, triggers, sequences, indexes.

    What the engine names by itself is left out: it may count on from elsewhere after a restore.
    """
    columns = [(table.key, column[0]) for table in found.tables for column in table.columns]
    said = json.dumps(sorted([*columns, *found.names]))
    return int.from_bytes(hashlib.sha256(said.encode()).digest()[:6], "big")


def _text(hexadecimal: str) -> str:
    return bytes.fromhex(hexadecimal).decode("utf-8", "replace")


def _listed(found: Sequence[Sequence[str]]) -> Listing:
    listing = Listing(dialect=3, charset="NONE", tables=[], objects={}, counts={})
    tables: dict[str, Table] = {}
    for row in found:
        if row[0] == "table":
            tables[row[1]] = Table(name=_text(row[1]), kind=int(row[2]))
        elif row[0] == "column":
            kind, sub, charset, computed = map(int, row[3:7])
            tables[row[1]].columns.append((_text(row[2]), kind, sub, charset, bool(computed)))
        elif row[0] == "object":
            listing.objects[row[1]] = int(row[2])
        elif row[0] == "name":
            listing.names.append((row[1], row[2]))
        elif row[0] == "count":
            listing.counts[row[1]] = int(row[2])
        elif row[0] == "dialect":
            listing.dialect = int(row[1])
        elif row[0] == "charset":
            listing.charset = row[1]
    if not found or found[-1][0] != "end":
        raise ValueError("the listing ends too early")
    listing.tables = list(tables.values())
    listing.objects["view"] = sum(table.kind == _VIEW for table in listing.tables)
    external = sum(table.kind == _EXTERNAL for table in listing.tables)
    listing.objects["foreign-table"] = listing.counts["external"] = external
    return listing


def _counted(
    trial: Trial, found: Listing, tables: Sequence[Table]
) -> tuple[dict[str, int], dict[str, datetime]]:
    """Count every table's rows, and find its newest time that can be true, in one pass."""
    here = ZoneInfo(zone(trial))
    low, high = datetime.fromisoformat(FLOOR), trial.point_at + TOLERANCE
    bounds = " and ".join(
        f"timestamp '{moment.astimezone(here):%Y-%m-%d %H:%M:%S}'" for moment in (low, high)
    )
    ignored = {name.lower() for name in settings_of(trial).freshness.ignore}
    statements = []
    for number, table in enumerate(tables):
        times = [
            f"coalesce(max(case when {at} between {bounds} then {at} end), timestamp '1858-11-18')"
            for name, kind, _, _, computed in table.columns
            if kind in _TIMES and not computed and not _names(table, name) & ignored
            for at in [f"cast({found.quoted(name)} as timestamp)"]
        ]
        first = times[0] if times else "timestamp '1858-11-18'"
        newest = f"maxvalue({', '.join(times)})" if len(times) > 1 else first
        seconds = f"cast(datediff(second from timestamp '1970-01-01' to {newest}) as bigint)"
        statements.append(
            f"select 'rows', {number}, count(*), {seconds} from {found.quoted(table.name)};\n"  # noqa: S608
        )
    counted: dict[str, int] = {}
    moments: dict[str, datetime] = {}
    charset = "UTF8" if found.dialect != 1 else "NONE"
    for row in rows(sql(trial, "".join(statements), charset=charset)) if statements else ():
        table, moment = tables[int(row[1])], local(int(row[3]) * 1_000_000, trial)
        counted[table.key] = int(row[2])
        if moment > low:
            moments[table.key] = moment
    return counted, moments


def local(us: int, trial: Trial) -> datetime:
    """Return a time that the database keeps without a zone, from microseconds since 1970."""
    naive = _EPOCH + timedelta(microseconds=us)
    return naive.replace(tzinfo=ZoneInfo(zone(trial))).astimezone(UTC)


def _names(table: Table, column: str) -> set[str]:
    return {name.lower() for name in (table.name, table.key, f"{table.name}.{column}",
                                      f"{table.key}.{column}")}  # fmt: skip


def _is_text(column: tuple[str, int, int, int, bool]) -> bool:
    _, kind, sub, charset, computed = column
    if computed:
        return False
    return (kind in {_CHAR, _VARCHAR} and charset != 1) or (kind == _BLOB and sub == 1)


def _texts(
    trial: Trial, found: Listing, tables: Sequence[Table], counted: dict[str, int]
) -> dict[str, int]:
    """Count text columns gone random, or whose letters came through a wrong character set."""
    columns = [
        (table, column[0])
        for table in sorted(tables, key=lambda table: -counted[table.key])
        for column in table.columns
        if _is_text(column)
    ][:_TEXT_COLUMNS]
    if not columns:
        return {}
    script = ["set heading off;\n"]
    for number, (table, name) in enumerate(columns):
        column = found.quoted(name)
        shown = f"cast(substring({column} from 1 for 100) as varchar(400))"
        for sign in (9, 10, 13):
            shown = f"replace({shown}, ascii_char({sign}), ' ')"
        for mark, least in (("", 16), ("d", 4)):
            script.append(
                f"select first 100 '{mark}{number}' || ascii_char(9) || {shown}"  # noqa: S608
                f" from {found.quoted(table.name)} where octet_length({column}) >= {least};\n"
            )
    # The bytes as they are kept: a text in a wrong character set must not end the look.
    client = ["isql-fb", "-q", "-nodbtriggers", "-ch", "NONE", str(DATABASE)]
    program = inside.text("mariadb_text.awk")
    argv = ["/bin/sh", "-c", _TEXTS, "sh", program, *client]
    done = run(trial, argv, stdin="".join(script).encode())
    words = (line.split() for line in done.stdout.decode("ascii", "replace").splitlines())
    counts = {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdigit()}
    if counts.pop("status", -1) not in {0, 1}:
        raise Misunderstood("unknown_exit", program="isql-fb", status=done.returncode)
    return counts
