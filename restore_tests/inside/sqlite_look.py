"""Looks at restored SQLite files, inside the sandbox: what it prints are counts, codes and times.

Started as `python3 -I -S -c TEXT STAGE` with a request as JSON on standard input; prints one JSON
object. Only Python's own library is used, whatever Python the sandbox shows. Nothing that is read from
a database is printed but names of tables and numbers.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

_MAGIC = b"SQLite format 3\0"
_DAY = 86400
#: Julian day of 1970-01-01T00:00Z.
_JULIAN_EPOCH = 2440587.5
_OWN = re.compile(r"(DATE|TIME)", re.IGNORECASE)
_HEX = re.compile(r"[0-9A-Fa-f-]+\Z")
#: Errors of the place where a script is loaded: memory, input and output, a full disk.
_OURS = frozenset({sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL})
_ALLOWED = frozenset(
    {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
    }
)


class Defect(Exception):
    """The backup is to blame; its text is a code."""


def main(stage: str, request: dict[str, Any]) -> None:
    """Perform one stage and print what it found."""
    try:
        stages = {"check": check, "load": load, "open": survey, "ask": ask, "measure": measure}
        answer = stages[stage](request)
    except Defect as error:
        answer = {"defect": str(error)}
    except sqlite3.DatabaseError as error:
        answer = {"defect": blamed(error)} if blamed(error) else {"error": type(error).__name__}
    print(json.dumps(answer))


def blamed(error: sqlite3.Error) -> str | None:
    """Return what of the backup an error of SQLite accuses; None for what may be ours."""
    code = getattr(error, "sqlite_errorcode", None)
    text = str(error)
    if (code is not None and code & 0xFF in (11, 26)) or "malformed" in text:
        return "corrupt"
    if "not a database" in text or "unsupported file format" in text:
        return "corrupt"
    return None


def connect(path: str, *, writing: bool = False) -> sqlite3.Connection:
    """Open a database that nothing in it can make do anything."""
    mode = "rw" if writing else "ro"
    connection = sqlite3.connect(
        f"file:{path}?mode={mode}",  # a path of ours: /scratch/0.db
        uri=True,
        isolation_level=None,
    )
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    connection.execute("pragma trusted_schema = off")
    connection.execute("pragma cell_size_check = on")
    return connection


def check(request: dict[str, Any]) -> dict[str, Any]:
    """Compare what each file's header says of its length with what there is of it."""
    for one in request["databases"]:
        path = Path(one["path"])
        with path.open("rb") as file:
            head = file.read(100)
        if len(head) < 100:
            raise Defect("truncated")
        if not head.startswith(_MAGIC):
            raise Defect("corrupt")
        page = int.from_bytes(head[16:18], "big")
        page = 65536 if page == 1 else page
        # The header's length counts only where the same version of SQLite wrote both counters.
        pages = int.from_bytes(head[28:32], "big") if head[24:28] == head[92:96] else 0
        if page < 512 or page & (page - 1):
            raise Defect("corrupt")
        if path.stat().st_size < pages * page:
            raise Defect("truncated")
    return {"version": sqlite3.sqlite_version}


def load(request: dict[str, Any]) -> dict[str, Any]:
    """Make a database of a script, statement by statement, and without what reaches out of it."""
    target, ended = request["target"], False
    connection = sqlite3.connect(target, isolation_level=None)
    connection.text_factory = bytes
    refused = (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH)
    hostile: list[int] = []

    def authorize(action: int, _first: Any, second: Any, *_: Any) -> int:
        if action in refused or (action == sqlite3.SQLITE_FUNCTION and second == "load_extension"):
            hostile.append(action)
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    connection.set_authorizer(authorize)
    failed = 0
    with Path(request["source"]).open(encoding="utf-8", errors="surrogateescape") as file:
        for statement in statements(file):
            text = statement.strip()
            ended = text.upper() in ("COMMIT;", "END;")
            if text.upper().startswith("ROLLBACK"):  # how sqlite3 ends a dump that went wrong
                raise Defect("truncated")
            try:
                connection.execute(text)
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in _OURS:
                    raise
                failed += 1
    if hostile:
        return {"hostile": len(hostile)}
    if not ended:
        raise Defect("truncated")
    connection.close()
    return {"failed": failed}


def statements(file: Iterable[str]) -> Iterator[str]:
    """Yield the statements of a script; a last one that is not complete is left out."""
    held: list[str] = []
    for line in file:
        held.append(line)
        if line.rstrip().endswith(";") and sqlite3.complete_statement("".join(held)):
            yield "".join(held)
            held = []


# ------------------------------------------------------------------------------------------ survey


def survey(request: dict[str, Any]) -> dict[str, Any]:
    """Count what is in the databases; let SQLite check each of them."""
    found: dict[str, Any] = {"tables": {}, "columns": {}, "objects": {}, "newest": {}}
    found |= {"relations": [], "problems": 0, "orphans": 0}
    for one in request["databases"]:
        # With rights to write, so that its own log is played back first.
        connection = connect(one["path"], writing=True)
        try:
            rows = connection.execute("pragma integrity_check(100)").fetchall()
            found["problems"] += sum(row[0] != "ok" for row in rows)
            found["orphans"] += orphans(connection)
            look(connection, one["name"], request, found)
        finally:
            connection.close()
    return found


def orphans(connection: sqlite3.Connection) -> int:
    """Count rows that refer to rows that are not there: SQLite lets them in unless told otherwise."""
    try:
        found = connection.execute("select count(*) from pragma_foreign_key_check").fetchone()
    except sqlite3.DatabaseError:
        return 0  # a reference to a table or a column that never was: nothing to lose
    return int(found[0])


def quoted(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def look(
    connection: sqlite3.Connection, schema: str, request: dict[str, Any], found: dict[str, Any]
) -> None:
    """Count one database."""
    entries = connection.execute(
        "select type, name, sql from sqlite_master where name not like 'sqlite\\_%' escape '\\'"
    ).fetchall()
    objects = found["objects"]
    for kind, name, sql in entries:
        if kind == "table" and not (sql or "").upper().lstrip().startswith("CREATE VIRTUAL"):
            count(connection, schema, name, request, found)
        elif kind in ("view", "index", "trigger"):
            objects[kind] = objects.get(kind, 0) + 1
        if kind in ("table", "view"):
            found["relations"].append(f"{schema}.{name}")


def count(
    connection: sqlite3.Connection,
    schema: str,
    name: str,
    request: dict[str, Any],
    found: dict[str, Any],
) -> None:
    """Count one table: rows, columns, its newest time that can be true, text gone random."""
    key = f"{schema}.{name}"
    columns = connection.execute(f"pragma table_info({quoted(name)})").fetchall()
    found["columns"][key] = len(columns)
    found["tables"][key] = connection.execute(f"select count(*) from {quoted(name)}").fetchone()[0]
    newest = None
    for _, column, kind, *_rest in columns:
        names = {name, key, f"{name}.{column}", f"{key}.{column}"}
        if _OWN.search(kind or "") and not names & set(request["ignored"]):
            seen = newest_of(connection, name, column, request)
            newest = seen if newest is None else max(newest, seen or newest)
        if re.search("CHAR|TEXT|CLOB", kind or "", re.IGNORECASE) and request["random"]:
            objects = found["objects"]
            objects["text-column"] = objects.get("text-column", 0) + 1
            is_random = random_text(connection, name, column)
            objects["random-text-column"] = objects.get("random-text-column", 0) + is_random
    if newest is not None:
        found["newest"][key] = newest


def newest_of(
    connection: sqlite3.Connection, table: str, column: str, request: dict[str, Any]
) -> int | None:
    """Return a column's newest time between the floor and the limit, in microseconds."""
    connection.create_function("when_us", 1, lambda value: when(value, request["zone"]))
    try:
        row: tuple[int | None] = connection.execute(
            f"select max(t) from (select when_us({quoted(column)}) as t from {quoted(table)})"
            " where t between ? and ?",
            (request["floor"], request["limit"]),
        ).fetchone()
    except sqlite3.OperationalError:
        return None
    return row[0]


def when(value: Any, zone: str) -> int | None:
    """Return a value as microseconds since 1970, None where it is no time.

    SQLite has no type for times: text in ISO 8601 (without an offset: the site's time), seconds or
    milliseconds since 1970, or Julian days (https://www.sqlite.org/lang_datefunc.html).
    """
    if isinstance(value, (bytes, bytearray)) or value is None:
        return None
    if isinstance(value, (int, float)):
        if 1e8 <= abs(value) < 1e10:
            return int(value * 1_000_000)
        if 1e11 <= abs(value) < 1e13:
            return int(value * 1000)
        if 2.4e6 <= value < 2.6e6:
            return int((value - _JULIAN_EPOCH) * _DAY * 1_000_000)
        return None
    text = value.strip()
    if not re.match(r"\d{4}-\d\d-\d\d", text):
        return None
    try:
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    try:
        return int(moment.astimezone(UTC).timestamp()) * 1_000_000 + moment.microsecond
    except (OverflowError, ValueError):
        return None


def random_text(connection: sqlite3.Connection, table: str, column: str) -> int:
    """Tell whether a text column's characters are as even as an encryption's."""
    rows = connection.execute(
        f"select substr(cast({quoted(column)} as text), 1, 100) from {quoted(table)}"
        f" where length({quoted(column)}) >= 16 limit 100"
    ).fetchall()
    values = [row[0] for row in rows if row[0]]
    letters = "".join(values)
    if len(values) < 50 or len(letters) < 1000 or len(set(values)) < 0.9 * len(values):
        return 0
    total = float(len(letters))
    counts: dict[str, int] = {}
    for letter in letters:
        counts[letter] = counts.get(letter, 0) + 1
    entropy = -sum(n / total * math.log2(n / total) for n in counts.values())
    return int(entropy >= (3.8 if _HEX.match(letters) else 5.5))


# --------------------------------------------------------------------------------------- questions


def ask(request: dict[str, Any]) -> dict[str, Any]:
    """Answer the site's questions: a verdict each, and for `newer_than` the time that was found."""
    answers = []
    for question in request["questions"]:
        connection = connect(request["databases"][question["database"]]["path"])
        try:
            answers.append(answered(connection, question, request["zone"]))
        finally:
            connection.close()
    return {"answers": answers}


def answered(connection: sqlite3.Connection, question: dict[str, Any], zone: str) -> list[str]:
    """Return what one question is answered with, and what goes with it."""
    only_reading(connection, question["timeout_s"])
    try:
        row = connection.execute(f"select ({question['sql']}\n)").fetchone()
    except sqlite3.Error as error:
        return ["error", why(error)]
    value = row[0] if row else None
    return ["null", ""] if value is None else judged(value, question, zone)


def only_reading(connection: sqlite3.Connection, timeout_s: int) -> None:
    """Let a connection do nothing but read, and for so long."""
    deadline = time.monotonic() + timeout_s

    def authorize(action: int, _first: Any, second: Any, *_: Any) -> int:
        refused = action == sqlite3.SQLITE_FUNCTION and second == "load_extension"
        return sqlite3.SQLITE_OK if action in _ALLOWED and not refused else sqlite3.SQLITE_DENY

    connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
    connection.set_authorizer(authorize)


def why(error: sqlite3.Error) -> str:
    """Return why a question of the site's has no answer, as a code."""
    text = str(error) if isinstance(error, sqlite3.OperationalError) else ""
    if "interrupted" in text:
        return "check_timeout"
    undefined = "no such table" in text or "no such column" in text
    return "check_undefined" if undefined else "check_error"


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Measure what must hold between points, and look at the canary."""
    path = request["databases"][request["database"]]["path"]
    answers: list[list[str]] = []
    canary = ["missing", ""]
    connection = connect(path)
    try:
        for question in request["questions"]:
            only_reading(connection, request["timeout_s"])
            try:
                ask_one = closed_set if question["closed"] else number
                answers.append(ask_one(connection, question["sql"], request["key"]))
            except sqlite3.Error as error:
                answers.append(["error", why(error), ""])
        if request["canary"] is not None:
            only_reading(connection, request["timeout_s"])
            canary = canaries(connection, request["canary"])
    finally:
        connection.close()
    return {"answers": answers, "canary": canary}


def number(connection: sqlite3.Connection, sql: str, _key: str) -> list[str]:
    """Return the whole number that a query yields."""
    row = connection.execute(f"select ({sql}\n)").fetchone()
    if row is None or row[0] is None:
        return ["null", "", ""]
    return ["value", str(int(row[0])), ""] if isinstance(row[0], (int, float)) else _WRONG


_WRONG = ["error", "check_error", ""]


def closed_set(connection: sqlite3.Connection, sql: str, key: str) -> list[str]:
    """Return how many rows a query yields, and the sums of two parts of their keyed digests."""
    rows = first = second = 0
    for row in connection.execute(sql):
        text = key + repr([(type(value).__name__, value) for value in row])
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        rows, first, second = (
            rows + 1,
            first + int(digest[:12], 16),
            second + int(digest[12:24], 16),
        )
    return ["set", str(rows), f"{first}:{second}"]


def canaries(connection: sqlite3.Connection, beginning: str) -> list[str]:
    """Return when the newest canary was written, and whether all are as they were written."""
    try:
        rows = connection.execute("select written_at, token from backupguard_canary").fetchall()
    except sqlite3.DatabaseError as error:
        missing = "no such table" in str(error)
        altered = "no such column" in str(error)
        code = why(error)
        return ["missing", ""] if missing else ["altered", ""] if altered else ["error", code]
    newest = None
    for written, token in rows:
        right = hashlib.sha256(f"{beginning}{written}".encode("utf-8", "replace")).hexdigest()
        moment = when(written, "UTC")
        if token != right or moment is None:
            return ["altered", ""]
        newest = moment if newest is None else max(newest, moment)
    return ["missing", ""] if newest is None else ["found", str(newest)]


def judged(value: Any, question: dict[str, Any], zone: str) -> list[str]:
    """Compare an answer with what the site wants."""
    if question["oldest"] is not None:
        moment = when(value, zone)
        if moment is None:
            return ["error", "check_error"]
        if moment > question["latest"]:
            return ["future", ""]
        return ["passed" if moment >= question["oldest"] else "failed", str(moment)]
    expected = question["equals"]
    if isinstance(expected, str):
        return ["passed" if str(value) == expected else "failed", ""]
    try:
        number = float(value)
    except (TypeError, ValueError):
        return ["error", "check_error"]
    least, most = question["at_least"], question["at_most"]
    right = (
        (expected is None or number == expected)
        and (least is None or number >= least)
        and (most is None or number <= most)
    )
    return ["passed" if right else "failed", ""]


if __name__ == "__main__":
    main(sys.argv[1], json.load(sys.stdin))
