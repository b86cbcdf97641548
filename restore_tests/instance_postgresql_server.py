"""A PostgreSQL scratch server (13 or later): its marker, its databases, what its account may do.

Sources: PostgreSQL's manual, "System Information Functions" (pg_control_system), "Predefined Roles",
"Advisory Locks", DROP DATABASE (WITH FORCE, since 13).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from backupguard.contracts import GivenInstance
from backupguard.errors import (
    AccessRefused,
    BackupGuardError,
    MissingMeans,
    Misunderstood,
    Unreachable,
)
from backupguard.model import Message
from restore_tests.instance_guard import GENERATED, MARKER_DATABASE, Identity, SecretReader

SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"
OLDEST = 13
_LOCK = 0x626B7067  # the same for every BackupGuard
_STATEMENT_MS = 600_000

#: Roles by which an account reads or writes beyond its own databases, or runs programs.
_POWERS = (
    "pg_execute_server_program", "pg_read_server_files", "pg_write_server_files",
    "pg_read_all_data", "pg_write_all_data", "pg_signal_backend", "pg_checkpoint",
    "pg_create_subscription", "pg_maintain",
)  # fmt: skip
_ATTRIBUTES = {
    "superuser": "rolsuper",
    "createrole": "rolcreaterole",
    "replication": "rolreplication",
    "bypassrls": "rolbypassrls",
}
_BY_STATE: tuple[tuple[str, type[BackupGuardError], str], ...] = (
    ("28", AccessRefused, "authentication"),
    ("42501", AccessRefused, "permission"),
    ("3D000", Unreachable, "not_found"),
    ("57014", Unreachable, "timeout"),
    ("53100", MissingMeans, "no_disk"),
    ("53", Unreachable, "refused"),
    ("57", Unreachable, "refused"),
    ("08", Unreachable, "refused"),
)


class PostgresqlScratch:
    """`ScratchServer` for PostgreSQL: first in the database `postgres`, then in the marker's."""

    def __init__(self, given: GivenInstance, password: str | None) -> None:
        self.given = given
        self._password = password
        self._connection: Any = None
        self._connect("postgres")

    @classmethod
    def open(cls, given: GivenInstance, secret_of: SecretReader) -> PostgresqlScratch:
        """Connect; raises AccessRefused, Unreachable, MissingMeans (program_missing…)."""
        reference = given.settings.credentials.account
        secret = secret_of(reference) if reference is not None else None
        password = secret.reveal().decode("utf-8").strip("\r\n") if secret else None
        return cls(given, password)

    def _connect(self, database: str) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise MissingMeans(
                "program_missing",
                Message(id="repositories.driver-missing", values={"package": "psycopg"}),
                Message(id="repositories.driver-missing.remedy", values={"extra": "postgresql"}),
            ) from error
        self.close()
        settings = self.given.settings
        values = {
            "host": settings.host,
            "port": settings.port_used,
            "user": settings.user,
            "dbname": database,
            "connect_timeout": 15,
            "application_name": "backupguard",
            "passfile": "/dev/null",
            "keepalives_idle": 60,
            "options": f"-c statement_timeout={_STATEMENT_MS} -c search_path=pg_catalog",
        }
        if not settings.by_socket:
            verify = settings.tls == "verify"
            values["sslmode"] = "verify-full" if verify else "disable"
            if verify:
                values["sslrootcert"] = str(settings.ca_certificate or SYSTEM_CA)
        if self._password is not None:
            values["password"] = self._password
        try:
            self._connection = psycopg.connect(autocommit=True, **values)  # type: ignore[arg-type]
        except psycopg.Error as error:
            raise understood(error) from None

    def _rows(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        import psycopg

        try:
            cursor = self._connection.execute(statement, values or None)
            return list(cursor.fetchall()) if cursor.description else []
        except psycopg.Error as error:
            raise understood(error) from None

    def _value(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        rows = self._rows(statement, values)
        return rows[0][0] if rows else None

    # -- what it is

    def identity(self) -> Identity:
        """Return the system identifier; raises MissingMeans (version_unsupported) before 13."""
        row = self._rows(
            "select (select system_identifier from pg_control_system())::text,"
            " current_setting('server_version'), current_setting('server_version_num')::int,"
            " host(inet_server_addr()), pg_is_in_recovery()"
        )[0]
        if row[2] < OLDEST * 10_000 or row[4]:
            # A standby is another server's copy, and takes nothing.
            raise MissingMeans(
                "version_unsupported", program="postgresql", version=str(row[1])[:20], package="—"
            )
        names = frozenset({str(row[3])} if row[3] else ())
        return Identity(identifier=str(row[0]), version=str(row[1]).split(" ")[0], names=names)

    def excess(self) -> tuple[str, ...]:
        """Return attributes and roles that reach beyond databases of its own, and databases it owns."""
        columns = ", ".join(_ATTRIBUTES.values())
        row = self._rows(f"select {columns} from pg_roles where rolname = current_user")[0]  # noqa: S608
        found = [name for name, held in zip(_ATTRIBUTES, row, strict=True) if held]
        if "superuser" in found:
            return ("superuser",)
        found += [
            str(held[0])
            for held in self._rows(
                "select rolname from pg_roles where rolname = any(%s)"
                " and pg_has_role(current_user, oid, 'MEMBER') order by 1",
                (list(_POWERS),),
            )
        ]
        owned = self._rows(
            "select datname from pg_database where pg_has_role(current_user, datdba, 'MEMBER')"
        )
        mine = {MARKER_DATABASE}
        found += sorted(
            f"owner of {name}"
            for (name,) in owned
            if name not in mine and not GENERATED.match(name)
        )
        return tuple(found)

    def lacking(self) -> tuple[str, ...]:
        """Return CREATEDB where it is not there."""
        may = self._value("select rolcreatedb from pg_roles where rolname = current_user")
        return () if may else ("createdb",)

    def databases(self) -> frozenset[str]:
        """Return all databases but `postgres` and the templates."""
        rows = self._rows(
            "select datname from pg_database where datname not in"
            " ('postgres', 'template0', 'template1')"
        )
        return frozenset(str(name) for (name,) in rows)

    # -- the marker

    def enter_marker(self) -> bool:
        """Go on inside the marker's database."""
        if MARKER_DATABASE not in self.databases():
            return False
        self._connect(MARKER_DATABASE)
        return True

    def marker(self) -> str | None:
        """Return the marker's text; None where its table is not there or somebody else's."""
        if self._value("select to_regclass('public.marker')") is None:
            return None
        text = self._value("select document from public.marker limit 1")
        return str(text) if text is not None else None

    def make_marker(self, text: str) -> None:
        """Make the marker's database and its tables, or write the text into them anew."""
        if MARKER_DATABASE not in self.databases():
            self._rows(f"create database {MARKER_DATABASE} template template0")
        self._connect(MARKER_DATABASE)
        self._rows(f"revoke all on database {MARKER_DATABASE} from public")
        self._rows("create table if not exists public.marker (document text not null)")
        self._rows(
            "create table if not exists public.restores (name text primary key, since text not null)"
        )
        self._rows(
            "with gone as (delete from public.marker)"
            " insert into public.marker (document) values (%s)",
            (text,),
        )

    def lock(self) -> bool:
        """Hold a session's advisory lock: it ends with the connection, however that ends."""
        return bool(self._value("select pg_try_advisory_lock(%s)", (_LOCK,)))

    def begun(self) -> tuple[str, ...]:
        """Return the recorded names; none where the table is not there."""
        if self._value("select to_regclass('public.restores')") is None:
            return ()
        return tuple(str(name) for (name,) in self._rows("select name from public.restores"))

    def begin(self, name: str, since: str) -> None:
        """Record a name."""
        self._rows("insert into public.restores (name, since) values (%s, %s)", (name, since))

    def end(self, name: str) -> None:
        """Forget a name."""
        self._rows("delete from public.restores where name = %s", (name,))

    def create(
        self, name: str, encoding: str, collate: str | None, ctype: str | None
    ) -> str | None:
        """Make a database with the source's locale where the server has it; return the one it has.

        Nobody but the account may connect to it.
        """
        from psycopg import sql

        kept = encoding if encoding == "SQL_ASCII" else "UTF8"
        choices = [(collate, ctype or collate)] if collate and kept == "UTF8" else []
        for order, kind in [*choices, ("C", "C.UTF-8"), ("C", "C")]:
            made = sql.SQL(
                "create database {} template template0 encoding {} lc_collate {} lc_ctype {}"
            ).format(sql.Identifier(name), sql.Literal(kept), sql.Literal(order), sql.Literal(kind))
            try:
                self._rows(made)  # type: ignore[arg-type]
            except (Misunderstood, MissingMeans):
                if (order, kind) == ("C", "C"):
                    raise
                continue
            self._rows(f"revoke all on database {name} from public")
            return order
        return None

    def drop(self, name: str) -> None:
        """Drop a database; connections to it are ended (they are the account's own)."""
        if GENERATED.match(name) is None:
            raise ValueError(f"{name!r} is no name made here")
        self._rows(f"drop database if exists {name} with (force)")

    def reconnect(self) -> None:
        """Connect anew to the marker's database where the connection was lost."""
        try:
            self._value("select 1")  # a connection that was cut off does not know it yet
        except (BackupGuardError, AttributeError):
            self._connect(MARKER_DATABASE)

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()


def understood(error: Exception) -> BackupGuardError:
    """Return our error for the driver's. Its text is not kept: it may quote what it stumbled on."""
    state = getattr(error, "sqlstate", None)
    if state is not None:
        for prefix, cls, code in _BY_STATE:
            if state.startswith(prefix):
                return cls(code)
        return Misunderstood("unclassified_stderr", program="postgresql", state=state)
    text = str(error)
    for words, cls, code in (
        (("password", "authentication", "pg_hba", "role "), AccessRefused, "authentication"),
        (("certificate", "SSL"), Unreachable, "tls"),
        (("could not translate", "failed to resolve", "Name or service"), Unreachable, "dns"),
        (("timeout", "timed out"), Unreachable, "timeout"),
        (("does not exist",), Unreachable, "not_found"),
    ):
        if any(word in text for word in words):
            return cls(code)
    return Unreachable("refused")
