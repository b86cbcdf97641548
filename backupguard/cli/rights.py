"""The rights that features need beyond the bare unit: one row each, with what gives the right.

`docs/rights.md` is this table in words; `doctor` looks at every row that the configuration asks for.
Rights are judged as the account that runs this, plus the groups that the unit of runs gives (`systemctl
edit backupguard-runner@.service`), since a command run by hand is not inside the unit.
"""

from __future__ import annotations

import fnmatch
import grp
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from backupguard.cli.unit_directives import NAMESPACES, allows_sandbox, is_group, is_yes, namespaces
from backupguard.contracts import SecretReference

if TYPE_CHECKING:
    from pydantic import BaseModel

    from backupguard.settings import Settings

#: The daemon, which listens and signs; its runs, which read repositories and build sandboxes; root.
UNIT = "backupguard.service"
RUNNER = "backupguard-runner@.service"
HELPER = "backupguard-helper@.service"
#: Where units lie; of two files of one name the later place counts (systemd.unit(5)).
_PLACES = ("usr/lib/systemd/system", "lib/systemd/system", "run/systemd/system",
           "etc/systemd/system")  # fmt: skip
_CREDENTIALS = frozenset(
    {"LoadCredential", "LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted"}
)
_PRIVILEGED_PORTS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Whether one right is there: `what` asks for it, None in `held` where nobody can tell from here.

    `gives` is the directive or group that would give it, as it is written.
    """

    what: str
    held: bool | None
    gives: str = ""


@dataclass(frozen=True, kw_only=True)
class Host:
    """This host as rights are looked for: its files below `root`, the units with their drop-ins."""

    root: Path = field(default=Path("/"))

    def directives(self, name: str = UNIT) -> tuple[tuple[str, str], ...]:
        """Return the directives of an installed unit and its drop-ins, as systemd reads them."""
        unit: Path | None = None
        dropped: dict[str, Path] = {}
        for place in _PLACES:
            directory = self.root / place
            found = directory / name
            unit = found if found.is_file() else unit
            dropped |= {path.name: path for path in (directory / f"{name}.d").glob("*.conf")}
        files = [unit] if unit is not None else []
        files += [dropped[name] for name in sorted(dropped)]
        return tuple(line for file in files for line in _directives(file))

    @property
    def installed(self) -> bool:
        """Tell whether the service is installed here."""
        return any((self.root / place / UNIT).is_file() for place in _PLACES)

    def values(self, *names: str, unit: str = UNIT) -> list[str]:
        """Return what a unit says under these names; an empty value takes back what stood before."""
        found: list[str] = []
        for key, value in self.directives(unit):
            if key in names:
                found = [*found, value] if value else []
        return found

    @cached_property
    def groups(self) -> frozenset[int]:
        """The groups whose rights count: this process', and those that the unit of runs gives."""
        given = self.values("SupplementaryGroups", unit=RUNNER)
        named = {name for value in given for name in value.split()}
        known = {entry.gr_name: entry.gr_gid for entry in grp.getgrall()}
        return frozenset({*os.getgroups(), os.getegid(), *(known[n] for n in named if n in known)})

    def may(self, path: Path, mode: int) -> bool | None:
        """Tell whether a path may be used (os.R_OK, W_OK, X_OK); None where that cannot be told.

        What the unit's groups open is taken from the modes: this process does not belong to them.
        A path that does not exist is told elsewhere, and no question of rights.
        """
        for place in (*reversed(path.parents), path):
            wanted = mode if place == path else os.X_OK
            try:
                if os.access(place, wanted):
                    continue
                status = place.stat()
            except PermissionError:
                return None
            except OSError:
                return None
            if not place.exists():
                return None
            if status.st_gid in self.groups and (status.st_mode >> 3) & wanted == wanted:
                continue
            return False
        return True


def _directives(file: Path) -> Iterator[tuple[str, str]]:
    try:
        text = file.read_text("utf-8", "replace")
    except OSError:
        return
    for line in text.replace("\\\n", " ").splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith(("#", ";", "[")):
            yield key.strip(), value.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """One row: sentences `cli.rights.ID`, `.needs` and `.gives` tell feature, right and remedy."""

    id: str
    look: Callable[[Settings, Host], Iterator[Held]]


def group_of(path: Path) -> str:
    """Return the name of the group that owns a path, "GROUP" where nobody can tell."""
    try:
        return grp.getgrgid(path.stat().st_gid).gr_name
    except (OSError, KeyError):
        return "GROUP"


def _reading(path: Path) -> int:
    """Return what access(2) is asked for to read a file, or what a directory holds."""
    try:
        return os.R_OK if path.is_file() else os.R_OK | os.X_OK
    except PermissionError:
        return os.R_OK | os.X_OK


# -------------------------------------------------------------------------------------- the rows


def _repositories(settings: Settings, host: Host) -> Iterator[Held]:
    for name, place in settings.repositories.items():
        if place.type == "reported" or place.medium is not None:
            continue
        for key in ("path", "file"):
            path = getattr(place, key, None)
            if isinstance(path, Path):
                mode = _reading(path)
                gives = f"SupplementaryGroups={group_of(path)}"
                what = f"repositories.{name}: {path}"
                yield Held(what=what, held=host.may(path, mode), gives=gives)


def _reports(settings: Settings, host: Host) -> Iterator[Held]:
    for name, place in settings.repositories.items():
        spool = getattr(place, "spool", None)
        if isinstance(spool, Path):
            what = f"repositories.{name}: {spool}"
            mode = os.R_OK | os.W_OK | os.X_OK
            held = host.may(spool, mode) and _writable_in_unit(spool, host, UNIT)
            yield Held(what=what, held=held, gives=f"ReadWritePaths={spool}")


def _written(settings: Settings, host: Host) -> Iterator[Held]:
    places = [("plan.directory", settings.plan.directory)]
    places += [
        (f"instances.{name}.exchange", one.exchange) for name, one in settings.instances.items()
    ]
    places += [
        (f"evidence.anchors.{name}.directory", getattr(one, "directory", None))
        for name, one in settings.evidence.anchors.items()
    ]
    if settings.scratch.directory is not None:
        places.append(("scratch.directory", settings.scratch.directory))
    for key, path in places:
        if path is not None:
            held = host.may(path, os.W_OK | os.X_OK)
            held = held and _writable_in_unit(path, host, RUNNER)
            if key == "scratch.directory":  # what a killed run leaves there, the daemon removes
                held = held and _writable_in_unit(path, host, UNIT)
            yield Held(what=f"{key}: {path}", held=held, gives=f"ReadWritePaths={path}")


def _writable_in_unit(path: Path, host: Host, unit: str) -> bool:
    """Tell whether a unit lets anybody write there at all (ProtectSystem=strict)."""
    if not host.installed or "strict" not in host.values("ProtectSystem", unit=unit):
        return True
    named = host.values("ReadWritePaths", unit=unit)
    listed = [one.lstrip("-+") for value in named for one in value.split()]
    for directive, base in (
        ("StateDirectory", "/var/lib"),
        ("CacheDirectory", "/var/cache"),
        ("LogsDirectory", "/var/log"),
        ("RuntimeDirectory", "/run"),
    ):
        named = host.values(directive, unit=unit)
        listed += [f"{base}/{name}" for value in named for name in value.split()]
    return any(path.is_relative_to(place) for place in listed)


def _read(settings: Settings, host: Host) -> Iterator[Held]:
    places: list[tuple[str, Path | None]] = [
        ("reference.file", settings.reference.file.parent if settings.reference else None),
        ("http.web-config", settings.http.web_config),
    ]
    for name, owner in settings.applications.items():
        imports = owner.restore_test.imports if owner.restore_test is not None else None
        if imports is not None:
            places.append((f"applications.{name}.restore-test.imports", imports.directory))
    for glob in settings.discovery.sqlite if settings.discovery.enabled else ():
        fixed = Path(glob[: min((glob.find(c) for c in "*?[" if c in glob), default=len(glob))])
        places.append(("discovery.sqlite", fixed if glob.endswith("/") else fixed.parent))
    for key, path in places:
        if path is not None:
            mode = _reading(path)
            gives = f"SupplementaryGroups={group_of(path)}"
            yield Held(what=f"{key}: {path}", held=host.may(path, mode), gives=gives)


def _processes(settings: Settings, host: Host) -> Iterator[Held]:
    if not settings.discovery.enabled:
        return
    from backupguard.sandbox.protection import mounts

    options = _proc_options(host.root)
    hidden = options.get("hidepid", "0") not in {"0", "off"}
    gid = options.get("gid", "")
    seen = gid.isdigit() and int(gid) in host.groups
    if any(mount.kind == "proc" for mount in mounts(host.root)):
        unit = set(host.values("ProtectProc", unit=RUNNER)[-1:]) & {
            "invisible",
            "ptraceable",
            "noaccess",
        }
        gives = f"SupplementaryGroups={_name(int(gid))}" if gid.isdigit() else "ProtectProc=default"
        yield Held(what="discovery: /proc", held=(not hidden or seen) and not unit, gives=gives)


def _proc_options(root: Path) -> Mapping[str, str]:
    """Return the options that the host's /proc is mounted with (proc(5): hidepid, gid)."""
    for line in (root / "proc/self/mountinfo").read_text("utf-8", "replace").splitlines():
        place, _, rest = line.partition(" - ")
        if place.split(" ")[4:5] == ["/proc"] and rest.startswith("proc "):
            given = rest.rpartition(" ")[2].split(",")
            return {key: value for key, _, value in (option.partition("=") for option in given)}
    return {}


def _name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _media(settings: Settings, host: Host) -> Iterator[Held]:
    for name, medium in settings.media.items():
        if medium.kind != "removable" or medium.image is not None:
            continue
        udev = host.root / "run/udev/data"
        what = f"media.{name}: /run/udev/data"
        yield Held(what=what, held=os.access(udev, os.R_OK | os.X_OK), gives="systemd-udevd")


def _helper(settings: Settings, _host: Host) -> Iterator[Held]:
    """Yield what only the helper can do; whether it is there is the check `helper`."""
    for name, medium in settings.media.items():
        if medium.mount is None and medium.kind != "vault":
            yield Held(what=f"media.{name}", held=None, gives="backupguard-helper.socket")
    for name, place in settings.repositories.items():
        if getattr(place, "backup_user", None):
            yield Held(what=f"repositories.{name}.backup-user", held=None,
                       gives="backupguard-helper.socket")  # fmt: skip


def _tapes(settings: Settings, host: Host) -> Iterator[Held]:
    """Look for the drop-in that lets the helper ask tape libraries."""
    given = {word for value in host.values("DeviceAllow", unit=HELPER) for word in value.split()}
    for name, medium in settings.media.items():
        if medium.library is not None and host.installed:
            gives = "backupguard-helper@.service.d/tapes.conf"
            yield Held(what=f"media.{name}: {medium.library}", held="char-sg" in given, gives=gives)


def _secrets(settings: Settings, host: Host) -> Iterator[Held]:
    if not host.installed:
        return
    given = [value.partition(":")[0] for value in host.values(*_CREDENTIALS)]
    given += host.values("ImportCredential")
    for name in sorted(set(credentials(settings))):
        held = any(fnmatch.fnmatchcase(name, pattern) for pattern in given)
        place = f"/etc/backupguard/credentials/{name}"
        yield Held(what=name, held=held, gives=f"LoadCredential={name}:{place}")


def credentials(model: BaseModel) -> Iterator[str]:
    """Yield the name of every systemd credential that settings refer to."""
    for value in dict(model).values():
        yield from _credentials_in(value)


def _credentials_in(value: object) -> Iterator[str]:
    from pydantic import BaseModel

    if isinstance(value, SecretReference):
        if value.credential is not None:
            yield value.credential
    elif isinstance(value, BaseModel):
        yield from credentials(value)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _credentials_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _credentials_in(inner)


def _port(settings: Settings, host: Host) -> Iterator[Held]:
    port = settings.http.listen.rpartition(":")[2]
    if not port.isdigit() or int(port) >= _PRIVILEGED_PORTS:
        return
    first = _first_open_port(host.root)
    given = "CAP_NET_BIND_SERVICE" in " ".join(host.values("AmbientCapabilities")).split()
    gives = "AmbientCapabilities=CAP_NET_BIND_SERVICE"
    yield Held(what=f"http.listen: {port}", held=int(port) >= first or given, gives=gives)


def _first_open_port(root: Path) -> int:
    try:
        return int((root / "proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return _PRIVILEGED_PORTS


def _catalogues(settings: Settings, _host: Host) -> Iterator[Held]:
    """Yield the roles of local servers; whether they may read is what each discovery records."""
    if settings.discovery.enabled:
        for engine, role in settings.discovery.roles.items():
            yield Held(what=f"discovery.roles.{engine}: {role}", held=None, gives="GRANT")


def _sandbox(_settings: Settings, host: Host) -> Iterator[Held]:
    """Look at the directives without which no sandbox can be built inside the unit."""
    if not host.installed:
        return

    def told(key: str, held: Callable[[Sequence[str]], bool], gives: str) -> Iterator[Held]:
        values = host.values(key, unit=RUNNER)
        if values:
            yield Held(what=f"{key}={values[-1]}", held=held(values), gives=f"{key}={gives}")

    yield from told("ProcSubset", lambda values: values[-1] != "pid", "all")
    # RestrictSUIDSGID=: Debian 13's bubblewrap uses openat2(2)
    for key in ("ProtectHostname", "RestrictSUIDSGID"):
        yield from told(key, lambda values: not is_yes(values[-1]), "no")
    kinds = "user pid net ipc uts cgroup mnt"
    yield from told("RestrictNamespaces", lambda values: namespaces(values) == NAMESPACES, kinds)
    yield from told("SystemCallFilter", allows_sandbox, "@system-service @mount sethostname")


def _groups(_settings: Settings, host: Host) -> Iterator[Held]:
    """Look for the groups that the unit of runs names: without one of them systemd starts none."""
    for value in host.values("SupplementaryGroups", unit=RUNNER):
        for name in value.split():
            held = is_group(name)
            yield Held(what=f"SupplementaryGroups={name}", held=held, gives=f"groupadd {name}")


#: The table, in the order of its page.
RIGHTS: Sequence[Right] = (
    Right(id="sandbox", look=_sandbox),
    Right(id="groups", look=_groups),
    Right(id="repositories", look=_repositories),
    Right(id="reports", look=_reports),
    Right(id="secrets", look=_secrets),
    Right(id="reading", look=_read),
    Right(id="writing", look=_written),
    Right(id="processes", look=_processes),
    Right(id="catalogues", look=_catalogues),
    Right(id="media", look=_media),
    Right(id="helper", look=_helper),
    Right(id="tapes", look=_tapes),
    Right(id="port", look=_port),
)
