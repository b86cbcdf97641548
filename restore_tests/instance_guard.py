"""What keeps production safe from restore tests on a scratch server: the same for every kind of one.

Nothing is made on a server that does not carry a marker for exactly this server, whose identity or
address is one that production has, where databases live that nobody named when it was marked, or whose
account may do more than make databases of its own. Names of databases are made here; only such a name,
recorded on the server before the database was made, is ever dropped.
"""

from __future__ import annotations

import json
import re
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Any, Protocol

from backupguard.contracts import GivenInstance, ProductionServer, Secret, SecretReference
from backupguard.databases import same_host
from backupguard.errors import Busy, MissingMeans
from backupguard.model import CheckResult, Verdict

#: The database that is the marker; it also holds what restores have begun.
MARKER_DATABASE = "backupguard_marker"
PREFIX = "backupguard_"
GENERATED = re.compile(r"backupguard_[0-9a-f]{24}\Z")
#: Kinds of server that nobody saw alive when this was written: a person has to confirm each.
UNPROVEN = frozenset({"mssql"})
_VERSION = 1
_MOST_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a server says it is: an identifier of its own, its version, and names and addresses."""

    identifier: str
    version: str
    names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """A person's word that a server is a scratch server: which one, since when, beside what."""

    identifier: str
    prepared_at: str
    prepared_by: str
    beside: frozenset[str] = frozenset()

    def text(self) -> str:
        """Write it as `read` reads it."""
        return json.dumps(
            {
                "backupguard_marker": _VERSION,
                "identifier": self.identifier,
                "prepared_at": self.prepared_at,
                "prepared_by": self.prepared_by,
                "beside": sorted(self.beside),
            },
            sort_keys=True,
        )

    @classmethod
    def read(cls, text: str) -> Marker | None:
        """Return the marker that a text is, None for anything else."""
        try:
            said: Any = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(said, dict) or said.get("backupguard_marker") != _VERSION:
            return None
        beside = said.get("beside")
        texts = [said.get(name) for name in ("identifier", "prepared_at", "prepared_by")]
        if not all(isinstance(one, str) for one in texts) or not isinstance(beside, list):
            return None
        return cls(
            identifier=str(texts[0]),
            prepared_at=str(texts[1]),
            prepared_by=str(texts[2]),
            beside=frozenset(str(name) for name in beside),
        )


class ScratchServer(Protocol):
    """A connection to a server that may be a scratch server. Raises errors of ours only."""

    def identity(self) -> Identity:
        """Return what the server says it is."""

    def excess(self) -> tuple[str, ...]:
        """Return the rights of the account by which it could harm what is not its own."""

    def lacking(self) -> tuple[str, ...]:
        """Return the rights without which it cannot make a database."""

    def databases(self) -> frozenset[str]:
        """Return the names of all databases but the server's own."""

    def enter_marker(self) -> bool:
        """Go on inside the marker's database; False where there is none."""

    def marker(self) -> str | None:
        """Return the marker's text, from inside its database."""

    def make_marker(self, text: str) -> None:
        """Make the marker's database and its tables, or write the text into them anew."""

    def lock(self) -> bool:
        """Hold the server for this connection; False while another one does."""

    def begun(self) -> tuple[str, ...]:
        """Return the names of databases whose making was recorded and whose end was not."""

    def begin(self, name: str, since: str) -> None:
        """Record that a database of that name is about to be made."""

    def end(self, name: str) -> None:
        """Forget that record."""

    def drop(self, name: str) -> None:
        """Drop a database, its connections ended."""

    def reconnect(self) -> None:
        """Connect anew to the marker's database where the connection was lost."""

    def close(self) -> None:
        """Close the connection; never raises."""


def needs_confirmation(given: GivenInstance, version: str) -> bool:
    """Tell whether nobody has confirmed this kind of server under this major version."""
    major = version.partition(".")[0]
    return given.settings.kind in UNPROVEN and given.confirmed != major


def unproven_check() -> CheckResult:
    """Return the check that stays open until a person has confirmed what this kind of server does."""
    return CheckResult(
        name="instance-confirmed", level=2, verdict=Verdict.COULD_NOT_VERIFY,
        code="instance_unproven",
    )  # fmt: skip


# ------------------------------------------------------------------------------- production is not


def refuse_address(given: GivenInstance, sources: Iterable[str], here: str) -> None:
    """Raise MissingMeans (instance_is_source) where the address is one that production has.

    Names and what they resolve to are compared, before anything is connected to. `here` is this host's
    name. `sources` are hosts that the backup came from: no scratch server lives there, nor on a host
    that is on the site's own list, whatever the port.
    """
    settings = given.settings
    host = "" if settings.by_socket else settings.host
    whole = (ProductionServer(host=one) for one in (*settings.production, *sources) if one)
    forbidden = [*given.production, *whole]
    own: frozenset[str] | None = None
    for server in forbidden:
        if server.port is not None and server.port != settings.port_used:
            continue
        if own is None:
            own = _addresses(host)
        if same_host(host, server.host, here) or own & _addresses(server.host):
            raise MissingMeans("instance_is_source", name=given.name, server=server.host or here)


def refuse_identity(
    given: GivenInstance, identity: Identity, sources: Iterable[str], here: str
) -> None:
    """Raise MissingMeans (instance_is_source) where the server is one that production has.

    `sources` are the names by which the backup and its inventory know the server it was made on.
    """
    own = {identity.identifier, *identity.names}
    known = {*given.settings.production, *(one for one in sources if one)}
    ports = (None, given.settings.port_used)
    known |= {one.host for one in given.production if one.host and one.port in ports}
    for name in sorted(known):
        if any(name.casefold() == one.casefold() or same_host(name, one, here) for one in own):
            raise MissingMeans("instance_is_source", name=given.name, server=name)


def _addresses(host: str) -> frozenset[str]:
    """Return what a name resolves to, as far as it does; this host itself is not resolved."""
    if not host or host.startswith("/") or "*" in host:
        return frozenset()
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return frozenset()
    # All of them are this host, which names tell already, and ports tell apart.
    return frozenset(one for one in found if not ip_address(one.partition("%")[0]).is_loopback)


def refuse_others(given: GivenInstance, databases: frozenset[str], known: frozenset[str]) -> None:
    """Raise MissingMeans (instance_not_empty) where databases live that nobody named."""
    strangers = sorted(name for name in databases - known if not _is_ours(name))
    if strangers:
        raise MissingMeans(
            "instance_not_empty",
            name=given.name,
            databases=", ".join(strangers[:_MOST_SHOWN]),
            count=len(strangers),
        )


def _is_ours(name: str) -> bool:
    return name == MARKER_DATABASE or GENERATED.match(name) is not None


def refuse_account(given: GivenInstance, server: ScratchServer) -> None:
    """Raise MissingMeans (instance_account) for an account that may do too much, or too little."""
    user = given.settings.user
    if excess := server.excess():
        held = ", ".join(excess[:_MOST_SHOWN])
        raise MissingMeans("instance_account", name=given.name, user=user, excess=held)
    if lacking := server.lacking():
        wanted = ", ".join(lacking[:_MOST_SHOWN])
        raise MissingMeans("instance_account", name=given.name, user=user, lacking=wanted)


# --------------------------------------------------------------------------------------- the marker


def marked(given: GivenInstance, server: ScratchServer, identity: Identity) -> Marker:
    """Return the marker of exactly this server; raise MissingMeans where there is none."""
    if not server.enter_marker():
        raise MissingMeans("instance_unmarked", name=given.name)
    text = server.marker()
    marker = Marker.read(text) if text is not None else None
    if marker is None:
        raise MissingMeans("instance_unmarked", name=given.name)
    if marker.identifier != identity.identifier:
        raise MissingMeans("instance_marker_differs", name=given.name)
    return marker


def hold(given: GivenInstance, server: ScratchServer) -> None:
    """Hold the server; raise Busy while another test does."""
    if not server.lock():
        raise Busy("already_running", name=given.name)


def drop_leftovers(server: ScratchServer) -> tuple[str, ...]:
    """Drop what tests that were killed have left: recorded there, and of a name made here."""
    standing = server.databases()
    dropped = []
    for name in server.begun():
        if GENERATED.match(name) is None:
            continue  # a record that nobody here wrote
        if name in standing:
            server.drop(name)
            dropped.append(name)
        server.end(name)
    return tuple(dropped)


def admit(
    given: GivenInstance, server: ScratchServer, sources: Iterable[str], here: str
) -> Identity:
    """Make sure that a test may use this server; raise what forbids it. Reads only."""
    identity = server.identity()
    refuse_identity(given, identity, sources, here)
    marker = marked(given, server, identity)
    refuse_account(given, server)
    refuse_others(given, server.databases(), marker.beside)
    return identity


def new_name(
    given: GivenInstance,
    server: ScratchServer,
    now: datetime,
    make: Callable[[], str] | None = None,
) -> str:
    """Return a name that no database has, recorded on the server.

    Raises MissingMeans (instance_name_taken) where it is taken: a name out of 96 random bits that
    somebody already has was given on purpose, and nobody tries another one against that.
    """
    name = (make or _random_name)()
    if GENERATED.match(name) is None:
        raise ValueError(f"{name!r} is no name made here")
    if name in server.databases() or name in server.begun():
        raise MissingMeans("instance_name_taken", name=given.name, database=name)
    server.begin(name, now.isoformat())
    return name


def _random_name() -> str:
    return PREFIX + secrets.token_hex(12)


def discard(server: ScratchServer, name: str) -> None:
    """Drop one database made here, and its record once it is gone."""
    if GENERATED.match(name) is None:
        raise ValueError(f"{name!r} is no name made here")
    if name in server.databases():
        server.drop(name)
    server.end(name)


# -------------------------------------------------------------------------------------- preparation


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What preparing a server would do. `renewed`: it carries a marker already."""

    identity: Identity
    databases: frozenset[str]
    beside: frozenset[str]
    renewed: bool
    leftovers: tuple[str, ...] = ()


def look(
    given: GivenInstance, server: ScratchServer, beside: Iterable[str], here: str
) -> Preparation:
    """Return what preparing a server would do, having changed nothing; raise what forbids it."""
    identity = server.identity()
    refuse_identity(given, identity, (), here)
    refuse_account(given, server)
    databases, named = server.databases(), frozenset(beside)
    refuse_others(given, databases, named)
    renewed = False
    leftovers: tuple[str, ...] = ()
    if server.enter_marker():
        renewed = server.marker() is not None
        leftovers = tuple(name for name in server.begun() if name in databases)
    return Preparation(
        identity=identity,
        databases=frozenset(name for name in databases if not _is_ours(name)),
        beside=named & databases,
        renewed=renewed,
        leftovers=leftovers,
    )


def prepare(server: ScratchServer, plan: Preparation, by: str, now: datetime) -> Marker:
    """Put the marker on the server, for exactly this one and beside exactly these databases."""
    marker = Marker(
        identifier=plan.identity.identifier,
        prepared_at=now.isoformat(),
        prepared_by=by[:200],
        beside=plan.beside,
    )
    server.make_marker(marker.text())
    return marker


SecretReader = Callable[[SecretReference], Secret]
Opener = Callable[[GivenInstance, SecretReader], ScratchServer]


def openers() -> Mapping[str, Opener]:
    """Return how each kind of server is connected to; imports no driver."""
    from restore_tests.instance_mssql_server import MssqlScratch
    from restore_tests.instance_postgresql_server import PostgresqlScratch

    return {"postgresql": PostgresqlScratch.open, "mssql": MssqlScratch.open}


def open_server(
    given: GivenInstance, secret_of: SecretReader, sources: Iterable[str] = ()
) -> ScratchServer:
    """Connect to the server, after its address was held against production's."""
    refuse_address(given, sources, socket.gethostname())
    return openers()[given.settings.kind](given, secret_of)


@contextmanager
def opened(given: GivenInstance, secret_of: SecretReader) -> Iterator[ScratchServer]:
    """Yield a connection to the server and close it; raises what `open_server` does."""
    server = open_server(given, secret_of)
    try:
        yield server
    finally:
        server.close()
