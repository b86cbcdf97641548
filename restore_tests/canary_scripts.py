"""What the site's own job runs before each backup to write its canary: nothing of it runs here.

Sources: psql(1), mariadb(1), sqlite3(1), ldapmodify(1), sha256sum(1), date(1).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from restore_tests.canary import ENTRY, FILE, KEPT_DAYS, TABLE, beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a canary is written: the application, and the name of its database, file or directory."""

    application: str
    name: str


def _stamped(place: Place) -> str:
    """Return the lines that set `$at` and `$token` for tools that hash nothing themselves."""
    return (
        "at=$(date -u +%Y-%m-%dT%H:%M:%SZ)\n"
        f"token=$(printf '{beginning(place.application)}%s' \"$at\" | sha256sum | cut -d' ' -f1)\n"
    )


def _postgresql(place: Place) -> str:
    text = '\'YYYY-MM-DD"T"HH24:MI:SS"Z"\''
    return (
        f"psql -X -q -v ON_ERROR_STOP=1 -d {shlex.quote(place.name)} <<'SQL'\n"  # noqa: S608
        "begin;\n"
        f"create table if not exists public.{TABLE}"
        " (written_at timestamptz not null, token text not null);\n"
        f"insert into public.{TABLE} (written_at, token)\n"
        f"select t, encode(sha256(convert_to('{beginning(place.application)}'"
        f" || to_char(t at time zone 'UTC', {text}), 'UTF8')), 'hex')\n"
        "from (select date_trunc('second', now()) as t) as moment;\n"
        f"delete from public.{TABLE} where written_at < now() - interval '{KEPT_DAYS} days';\n"
        "commit;\n"
        "SQL\n"
    )


def _mariadb(place: Place) -> str:
    text = "'%Y-%m-%dT%H:%i:%sZ'"
    return (
        f"mariadb --database={shlex.quote(place.name)} <<'SQL'\n"
        f"create table if not exists {TABLE} (written_at datetime not null, token char(64) not null);\n"
        "set @at = utc_timestamp();\n"
        f"insert into {TABLE} (written_at, token) values\n"
        f"  (@at, sha2(concat('{beginning(place.application)}', date_format(@at, {text})), 256));\n"
        f"delete from {TABLE} where written_at < utc_timestamp() - interval {KEPT_DAYS} day;\n"
        "SQL\n"
    )


def _sqlite(place: Place) -> str:
    return (
        f"{_stamped(place)}"
        f"sqlite3 -bail -cmd '.timeout 10000' {shlex.quote(place.name)} <<SQL\n"
        "begin immediate;\n"
        f"create table if not exists {TABLE} (written_at text not null, token text not null);\n"
        f"insert into {TABLE} (written_at, token) values ('$at', '$token');\n"
        f"delete from {TABLE}"
        f" where written_at < strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-{KEPT_DAYS} days');\n"
        "commit;\n"
        "SQL\n"
    )


def _openldap(place: Place) -> str:
    entry = f"cn={ENTRY},{place.name}"
    tool = "-Q -Y EXTERNAL -H ldapi:///"
    return (
        f"{_stamped(place)}"
        f"ldapsearch {tool} -LLL -s base -b {shlex.quote(entry)} dn >/dev/null 2>&1 ||\n"
        f"ldapadd {tool} >/dev/null <<LDIF\n"
        f"dn: {entry}\n"
        "objectClass: applicationProcess\n"
        f"cn: {ENTRY}\n"
        "LDIF\n"
        f"ldapmodify {tool} >/dev/null <<LDIF\n"
        f"dn: {entry}\n"
        "changetype: modify\n"
        "replace: description\n"
        "description: $at $token\n"
        "LDIF\n"
    )


def _files(place: Place) -> str:
    directory = shlex.quote(place.name.rstrip("/") or "/")
    return (
        f"{_stamped(place)}"
        f"cd {directory}\n"
        f'printf \'%s %s\\n\' "$at" "$token" > .{FILE}.new\n'
        f"mv .{FILE}.new {FILE}\n"
    )


_SCRIPTS: Mapping[str, Callable[[Place], str]] = {
    "files": _files,
    "mariadb": _mariadb,
    "openldap": _openldap,
    "postgresql": _postgresql,
    "postgresql-physical": _postgresql,
    "sqlite": _sqlite,
}
#: Engines whose restore tests look for a canary.
ENGINES = tuple(_SCRIPTS)


def script(engine: str, place: Place) -> str:
    """Return the shell script that writes a canary. Raises KeyError for an engine without one."""
    return "#!/bin/sh\nset -eu\n" + _SCRIPTS[engine](place)
