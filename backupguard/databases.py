"""How a database is named in the configuration and in facts: `ENGINE://HOST[:PORT]/NAME`.

    postgresql://srv-db1/dpi            one database, on whatever port
    postgresql://srv-db1:5433/*         every database of one server
    mariadb://localhost/planning_*      localhost and an empty host are this host
    sqlite:///srv/labo/labo.sqlite3     a file of this host, by its absolute path
    openldap://ldap1/dc=chu,dc=example  a suffix of a directory

In NAME, `*` stands for any characters and `?` for one. A user or password has no place there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import ip_address

ENGINES = ("postgresql", "mariadb", "sqlite", "openldap")
_ALIASES = {"postgres": "postgresql", "mysql": "mariadb", "ldap": "openldap"}
_LOCAL = frozenset({"", "localhost", "localhost.localdomain", "127.0.0.1", "::1"})
_FORM = re.compile(
    r"(?P<engine>[a-z]+)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._*-]*)"
    r"(?::(?P<port>[0-9]{1,5}))?/(?P<name>[^\x00-\x1f\x7f]+)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabasePattern:
    """One database, or all whose names match. `port` None means any; `host` "" this host."""

    engine: str
    host: str
    port: int | None
    name: str

    def __str__(self) -> str:
        """Write it as `parse_database_pattern` reads it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port is not None else ""
        name = self.name.removeprefix("/") if self.engine == "sqlite" else self.name
        return f"{self.engine}://{host}{port}/{name}"

    def is_on(self, host: str, here: str) -> bool:
        """Tell whether it speaks of a host. `here` is the name of the host that "" stands for."""
        return self.host == "*" or same_host(self.host, host, here)

    def matches(self, engine: str, host: str, port: int | None, name: str, here: str) -> bool:
        """Tell whether it means the database `name` of that engine, host and port."""
        return (
            self.engine == engine
            and (self.port is None or port is None or self.port == port)
            and self.is_on(host, here)
            and fnmatchcase(name, self.name)
        )


def parse_database_pattern(text: str) -> DatabasePattern:
    """Return what `text` means; raise ValueError when it is no `ENGINE://HOST[:PORT]/NAME`."""
    found = _FORM.fullmatch(text)
    engine = _ALIASES.get(found["engine"], found["engine"]) if found else ""
    if found is None or engine not in ENGINES or int(found["port"] or 1) not in range(1, 65536):
        raise ValueError("write ENGINE://HOST[:PORT]/NAME, for example postgresql://srv-db1/dpi")
    return DatabasePattern(
        engine=engine,
        host=found["host"].strip("[]").lower(),
        port=int(found["port"]) if found["port"] else None,
        name="/" + found["name"] if engine == "sqlite" else found["name"],
    )


def is_here(host: str, here: str) -> bool:
    """Tell whether a host's name or address means the host named `here`."""
    return same_host(host, here, here)


def same_host(one: str, other: str, here: str) -> bool:
    """Tell whether two names mean one host: a short name is the same as a full one beginning so.

    Localhost, its addresses and "" are the host named `here`. Nothing is resolved.
    """
    first, second = _canonical(one, here), _canonical(other, here)
    if first == second:
        return True
    if _is_address(first) or _is_address(second) or ("." in first and "." in second):
        return False
    return first.partition(".")[0] == second.partition(".")[0]


def _canonical(host: str, here: str) -> str:
    name = host.strip("[]").rstrip(".").lower()
    return here.rstrip(".").lower() if name in _LOCAL or name.startswith("/") else name


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
