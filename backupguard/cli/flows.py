"""Which network flows the configuration asks for: from where, to where, which port, and why.

Made from the settings and from what is mounted here, so that a firewall's rules can be written from it
and compared with it. Nothing is connected to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    from backupguard.contracts import RepositorySettings
    from backupguard.settings import Settings

#: Stands for this host, and for readers that the settings do not name.
SELF, READERS, RESOLVER, CLOCKS, JOBS = "@self", "@readers", "@resolver", "@clocks", "@jobs"
UNKNOWN = "?"
_PORTS = {"http": 80, "https": 443, "ssh": 22, "sftp": 22}
_HERE = frozenset({"", "localhost", "127.0.0.1", "::1"})
_SHARES = {
    "nfs": ("2049/tcp", "nfs"),
    "nfs4": ("2049/tcp", "nfs"),
    "cifs": ("445/tcp", "smb"),
    "smb3": ("445/tcp", "smb"),
    "fuse.sshfs": ("22/tcp", "ssh"),
    "ceph": ("3300, 6789, 6800-7568/tcp", "ceph"),
    "glusterfs": ("24007, 49152-60999/tcp", "glusterfs"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One line of the matrix. `source` opens the connection; `closed`: this one must not be possible.

    `why` is an id below `cli.flows.why.`, `feature` the key of the settings that asks for it.
    """

    source: str
    destination: str
    port: str
    protocol: str
    why: str
    feature: str
    closed: bool = False


def flows(settings: Settings, root: Path = Path("/")) -> tuple[Flow, ...]:
    """Return every flow, each once, in the order of the settings; `root` is where mounts are read."""
    found = [
        *_repositories(settings, root),
        *_own_places(settings, root),
        *_servers(settings),
        *_told(settings),
        *_anchors(settings),
        *_readers(settings),
        *_isolation(settings),
    ]
    return (*dict.fromkeys(found), *_base(found))


def _out(where: tuple[str, int | str, str], why: str, feature: str) -> Flow:
    host, port, protocol = where
    return Flow(
        source=SELF,
        destination=host or UNKNOWN,
        port=port if isinstance(port, str) else f"{port}/tcp",
        protocol=protocol,
        why=why,
        feature=feature,
    )


# ----------------------------------------------------------------------------------- repositories


def _of_url(url: str, protocol: str | None = None) -> tuple[str, int | str, str]:
    parts = urlsplit(url if "://" in url else f"//{url}")
    scheme = parts.scheme or "https"
    return parts.hostname or "", parts.port or _PORTS.get(scheme, 443), protocol or scheme


def _restic(place: RepositorySettings) -> tuple[str, int | str, str] | None:
    url = str(getattr(place, "url", ""))
    kind, _, rest = url.partition(":")
    if kind == "rest":
        return _of_url(rest)
    if kind == "sftp":
        if rest.startswith("//"):
            return _of_url(url)
        return rest.partition(":")[0].rpartition("@")[2], 22, "sftp"
    if kind == "s3":
        return _of_url(rest if "://" in rest else f"https://{rest.lstrip('/')}", "s3")
    return None


def _borg(place: RepositorySettings) -> tuple[str, int | str, str] | None:
    url = str(getattr(place, "url", ""))
    return _of_url(url, "ssh") if url.startswith("ssh://") else None


def _s3(place: RepositorySettings) -> tuple[str, int | str, str]:
    endpoint = getattr(place, "endpoint", None)
    return _of_url(endpoint or f"https://{place.talks_to}", "s3")


def _pgbackrest(place: RepositorySettings) -> tuple[str, int | str, str] | None:
    # Elsewhere, the host stands in the secret file of `credentials.backend`, which nobody reads here.
    return None if getattr(place, "path", None) else (UNKNOWN, "443/tcp", "https")


def _server(protocol: str) -> Callable[[RepositorySettings], tuple[str, int | str, str] | None]:
    def where(place: RepositorySettings) -> tuple[str, int | str, str] | None:
        if place.talks_to in _HERE:
            return None
        return place.talks_to, getattr(place, "port", UNKNOWN), protocol

    return where


def _rest(place: RepositorySettings) -> tuple[str, int | str, str]:
    return _of_url(str(getattr(place, "url", "")))


def _nowhere(_place: RepositorySettings) -> None:
    """Say that a type reads files of this host only."""


#: Type → where it is read, None for this host. What others make says it by `talks_to` alone.
ENDPOINTS: dict[str, Callable[[RepositorySettings], tuple[str, int | str, str] | None]] = {
    "restic": _restic,
    "borg": _borg,
    "s3": _s3,
    "pgbackrest": _pgbackrest,
    "bareos": _server("postgresql"),
    "mssql": _server("tds"),
    "rman": _server("oracle-net"),
    "veeam": _rest,
    "proxmox": _rest,
    "directory": _nowhere,
    "barman": _nowhere,
    "import": _nowhere,
    "reported": _nowhere,
}


def endpoint(place: RepositorySettings) -> tuple[str, int | str, str] | None:
    """Return host, port and protocol that a repository is read by; None for one of this host."""
    return ENDPOINTS.get(place.type, _server(UNKNOWN))(place)


def remote_host(place: RepositorySettings) -> str | None:
    """Return the host that keeps a repository; None for this one, and where it is not known."""
    where = endpoint(place)
    return where[0] if where is not None and where[0] not in {*_HERE, UNKNOWN} else None


def _repositories(settings: Settings, root: Path) -> Iterator[Flow]:
    for name, place in settings.repositories.items():
        feature = f"repositories.{name}"
        where = endpoint(place)
        if where is not None and where[0] not in _HERE:
            yield _out(where, "read-copies", feature)
        for key in ("path", "file", "spool"):
            path = getattr(place, key, None)
            if isinstance(path, Path):
                yield from _share(path, root, "read-copies", feature)


def _share(path: Path, root: Path, why: str, feature: str) -> Iterator[Flow]:
    """Yield the flow to the server of the share that a directory lies on, if it lies on one."""
    from backupguard.cli.doctor_place import grounds
    from backupguard.sandbox.protection import mount_of

    mount = mount_of(str(path), root)
    if mount is None or mount.kind not in _SHARES:
        return
    port, protocol = _SHARES[mount.kind]
    for ground in sorted(grounds(path, root)):
        if ground.startswith("host:"):
            yield _out((ground.partition(":")[2], port, protocol), why, feature)


def _own_places(settings: Settings, root: Path) -> Iterator[Flow]:
    places = [
        ("store.directory", settings.state_directory, "own-files"),
        ("scratch.directory", settings.runs_directory, "own-files"),
        ("plan.directory", settings.plan.directory, "plan"),
    ]
    places += [
        (f"instances.{name}.exchange", one.exchange, "instance")
        for name, one in settings.instances.items()
    ]
    for feature, path, why in places:
        if path is not None:
            yield from _share(path, root, why, feature)
    if settings.store.url is not None:
        host, port, _ = _of_url(settings.store.url)
        if host not in _HERE:
            port = urlsplit(settings.store.url).port or 5432
            yield _out((host, port, "postgresql"), "own-files", "store.url")


# ---------------------------------------------------------------------------------------- servers


def _servers(settings: Settings) -> Iterator[Flow]:
    for name, server in settings.discovery.servers.items() if settings.discovery.enabled else ():
        if server.host.startswith("/") or server.host in _HERE:
            continue
        postgresql = server.engine == "postgresql"
        port = server.port or (5432 if postgresql else 3306)
        protocol = "postgresql" if postgresql else "mysql"
        yield _out((server.host, port, protocol), "discover", f"discovery.servers.{name}")
    for name, instance in settings.instances.items():
        if instance.by_socket or instance.host in _HERE:
            continue
        protocol = "tds" if instance.kind == "mssql" else "postgresql"
        where = (instance.host, instance.port_used, protocol)
        yield _out(where, "instance", f"instances.{name}")


# ------------------------------------------------------------------------------------ who is told


def _told(settings: Settings) -> Iterator[Flow]:
    syslog, mail, ping = settings.soc.syslog, settings.notify.mail, settings.notify.dead_man
    if syslog is not None:
        yield _out((syslog.host, syslog.port, "syslog-tls"), "tell-soc", "soc.syslog")
    if mail is not None:
        host, port = mail.relay
        protocol = {"tls": "smtps", "starttls": "smtp+starttls", "none": "smtp"}[mail.security]
        yield _out((host, port, protocol), "mail", "notify.mail")
    if ping is not None:
        where = _of_url(ping.url) if ping.url else (UNKNOWN, "443/tcp", "https")
        yield _out(where, "alive", "notify.dead-man")


def _anchors(settings: Settings) -> Iterator[Flow]:
    for name, anchor in settings.evidence.anchors.items():
        feature = f"evidence.anchors.{name}"
        if anchor.type == "syslog":
            collector = anchor.collector or settings.soc.syslog
            if collector is not None:
                yield _out((collector.host, collector.port, "syslog-tls"), "anchor", feature)
        elif anchor.type == "mail":
            if settings.notify.mail is not None:
                host, port = settings.notify.mail.relay
                yield _out((host, port, "smtp"), "anchor", feature)
        elif anchor.type == "s3-lock":
            endpoint = anchor.endpoint or f"https://s3.{anchor.region}.amazonaws.com"
            yield _out(_of_url(endpoint, "s3"), "anchor", feature)
        else:
            yield _out(_of_url(anchor.url), "anchor", feature)


def _readers(settings: Settings) -> Iterator[Flow]:
    from backupguard.settings.http import is_loopback

    http = settings.http
    if is_loopback(http.listen):
        return
    protocol = "https" if http.web_config is not None else "http"
    port = f"{http.listen.rpartition(':')[2]}/tcp"
    sources = http.proxy.addresses if http.proxy is not None else (READERS,)
    for source in sources:
        yield Flow(
            source=source, destination=SELF, port=port, protocol=protocol, why="read-pages",
            feature="http.listen",
        )  # fmt: skip
    for name, place in settings.repositories.items():
        if getattr(place, "tokens", None):
            yield Flow(
                source=JOBS, destination=SELF, port=port, protocol=protocol, why="job-reports",
                feature=f"repositories.{name}.tokens",
            )  # fmt: skip


def _isolation(settings: Settings) -> Iterator[Flow]:
    from backupguard.settings import isolation as own

    seen = settings.isolation
    if seen.witness is not None:
        host, _, port = seen.witness.rpartition(":")
        yield _out((host, f"{port}/tcp", "tcp"), "witness", "isolation.witness")
    for name, vantage in seen.vantages.items():
        feature = f"isolation.vantages.{name}"
        host, _, port = vantage.witness.rpartition(":")
        yield Flow(
            source=vantage.zone, destination=host, port=f"{port}/tcp", protocol="tcp",
            why="witness", feature=feature,
        )  # fmt: skip
        if seen.url is not None:
            to, number, protocol = _of_url(seen.url)
            yield Flow(
                source=vantage.zone, destination=to, port=f"{number}/tcp", protocol=protocol,
                why="vantage", feature=feature,
            )  # fmt: skip
    zones = {name: vantage.zone for name, vantage in seen.vantages.items()} | {own.SELF: SELF}
    for name, zone in zones.items():
        for target, host, number in own.wanted(seen, name, settings.repositories):
            yield Flow(
                source=zone, destination=host, port=f"{number}/tcp", protocol="tcp",
                why="must-be-closed", feature=f"isolation.targets.{target}", closed=True,
            )  # fmt: skip


def _base(found: list[Flow]) -> Iterator[Flow]:
    """Yield what every host needs besides: names and the time."""
    if any(flow.source == SELF for flow in found):
        yield Flow(
            source=SELF, destination=RESOLVER, port="53/udp, 53/tcp", protocol="dns", why="names",
            feature="",
        )  # fmt: skip
    yield Flow(
        source=SELF, destination=CLOCKS, port="123/udp", protocol="ntp", why="time", feature=""
    )
