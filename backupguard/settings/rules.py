"""What types cannot say: ids that lead nowhere, circles, schedules, windows, secrets, time zones.

Every rule reads the merged tables as they stand in the files, not the validated settings, so that
these errors are reported together with those of the types, all at once.
"""

from __future__ import annotations

import os
import re
import zoneinfo
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from backupguard import plugins
from backupguard.contracts import SecretReference, parse_size
from backupguard.errors import MissingMeans
from backupguard.model import Message, is_id
from backupguard.settings import schedule, secrets
from backupguard.settings.files import Trouble
from backupguard.settings.positions import KeyPath
from backupguard.settings.problems import nearest, shown

_COMMISSIONING_DAYS = 90
_SECRET_IN_URL = re.compile(r"://[^/@\s]*:[^/@\s]+@")

Tables = Mapping[str, Any]


def table(data: Any, *path: str) -> Tables:
    """Return the table at a path; an empty one where there is none, or something else."""
    for part in path:
        data = data.get(part) if isinstance(data, Mapping) else None
    return data if isinstance(data, Mapping) else {}


def _tables(data: Any, *path: str) -> Iterator[tuple[str, Tables]]:
    for key, value in table(data, *path).items():
        if isinstance(value, Mapping):
            yield key, value


def ids(data: Tables) -> Iterator[Trouble]:
    """Report ids that are not `[a-z0-9][a-z0-9-]{0,62}`."""
    places: list[KeyPath] = [("repositories", key) for key in table(data, "repositories")]
    for application, owner in table(data, "applications").items():
        places.append(("applications", application))
        places += [("applications", application, "backups", job) for job in table(owner, "backups")]
    places += [("discovery", "servers", key) for key in table(data, "discovery", "servers")]
    places += [("instances", key) for key in table(data, "instances")]
    for path in places:
        if not is_id(str(path[-1])):
            values = {"id": str(path[-1])[:80]}
            message = Message(id="settings.bad-id", values=values)
            yield Trouble(path=path, message=message, remedy=Message(id="remedy.bad-id"))


def _dangling(path: KeyPath, name: str, kind: str, known: Tables) -> Trouble:
    meant = nearest(name, known)
    return Trouble(
        path=path,
        message=Message(id=f"settings.no-{kind}", values={"id": name}),
        remedy=Message(id="remedy.meant", values={"meant": meant})
        if meant
        else Message(id="remedy.known", values={"known": ", ".join(sorted(known)) or "—"}),
    )


def references(data: Tables) -> Iterator[Trouble]:
    """Report repositories and applications that are named and do not exist."""
    repositories, applications = table(data, "repositories"), table(data, "applications")
    for application, owner in _tables(data, "applications"):
        for job, backup in _tables(owner, "backups"):
            name = backup.get("repository")
            if isinstance(name, str) and name not in repositories:
                path = ("applications", application, "backups", job, "repository")
                yield _dangling(path, name, "repository", repositories)
        for number, name in enumerate(_names(owner.get("depends-on"))):
            if name not in applications:
                path_to: KeyPath = ("applications", application, "depends-on", number)
                yield _dangling(path_to, name, "application", applications)
        instance = table(owner, "restore-test").get("instance")
        if isinstance(instance, str) and instance not in table(data, "instances"):
            place = ("applications", application, "restore-test", "instance")
            yield _dangling(place, instance, "instance", table(data, "instances"))


def _names(value: Any) -> Sequence[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def selections(data: Tables) -> Iterator[Trouble]:
    """Report what a job selects by that its repository's type does not know: it would be ignored."""
    for application, owner in _tables(data, "applications"):
        for job, backup in _tables(owner, "backups"):
            name = backup.get("repository")
            kind = table(data, "repositories", name).get("type") if isinstance(name, str) else None
            if not isinstance(kind, str) or kind not in plugins.names(plugins.REPOSITORIES):
                continue
            try:
                known = plugins.repository_type(kind).settings.selects
            except MissingMeans:  # told where the type is named
                continue
            given = {key for key, value in table(backup, "select").items() if value}
            for key in sorted({"name", "pattern", "tags"} & given - known):
                values = {"type": kind, "key": f"select.{key}"}
                selectable = ", ".join(f"select.{one}" for one in sorted(known)) or "—"
                yield Trouble(
                    path=("applications", application, "backups", job, "select", key),
                    message=Message(id="settings.select-unknown", values=values),
                    remedy=Message(id="remedy.known", values={"known": selectable}),
                )


def circles(data: Tables) -> Iterator[Trouble]:
    """Report applications that wait for one another, each circle once."""
    applications = table(data, "applications")
    needs = {name: _names(table(owner).get("depends-on")) for name, owner in applications.items()}
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if name in trail:
            yield trail[trail.index(name) :]
            return
        if name in done or len(trail) > 500:
            return
        for other in needs.get(name, ()):
            yield from walk(other, (*trail, name))
        done.add(name)

    seen: set[frozenset[str]] = set()
    for name in needs:
        for circle in walk(name, ()):
            if frozenset(circle) not in seen:
                seen.add(frozenset(circle))
                yield Trouble(
                    path=("applications", circle[0], "depends-on"),
                    message=Message(
                        id="settings.circle", values={"circle": " → ".join([*circle, circle[0]])}
                    ),
                    remedy=Message(id="remedy.circle"),
                )


def _parsed(
    path: KeyPath, value: Any, parse: Callable[[str], object], kind: str
) -> Iterator[Trouble]:
    if not isinstance(value, str):
        return
    try:
        parse(value)
    except ValueError:
        values = {"found": shown(value, path)}
        message = Message(id=f"settings.bad-{kind}", values=values)
        yield Trouble(path=path, message=message, remedy=Message(id=f"remedy.bad-{kind}"))


def times(data: Tables) -> Iterator[Trouble]:
    """Report schedules, windows and bandwidths that nobody can read, and jobs without a rhythm."""
    report = table(data, "daemon", "cadences").get("report")
    yield from _parsed(("daemon", "cadences", "report"), report, schedule.parse_cron, "schedule")
    yield from _windows(("daemon", "windows"), table(data, "daemon").get("windows"))
    for name, _ in _tables(data, "repositories"):
        limits = table(data, "repositories", name, "limits")
        path = ("repositories", name, "limits")
        yield from _windows((*path, "windows"), limits.get("windows"))
        yield from _parsed(
            (*path, "bandwidth"), limits.get("bandwidth"), parse_bandwidth, "bandwidth"
        )
    for name, owner in _tables(data, "applications"):
        at = ("applications", name)
        cron = table(owner, "restore-test").get("schedule")
        yield from _parsed((*at, "restore-test", "schedule"), cron, schedule.parse_cron, "schedule")
        for job, backup in _tables(owner, "backups"):
            place = (*at, "backups", job)
            cron = backup.get("schedule")
            yield from _parsed((*place, "schedule"), cron, schedule.parse_cron, "schedule")
            if ("schedule" in backup) == ("every" in backup):
                kind = "two-rhythms" if "every" in backup else "no-rhythm"
                yield Trouble(
                    path=(*place, "every") if "every" in backup else place,
                    message=Message(id=f"settings.{kind}"),
                    remedy=Message(id="remedy.rhythm"),
                )


def report_mail(data: Tables) -> Iterator[Trouble]:
    """Report a report that is to be mailed where no relay is known."""
    if table(data, "report").get("mail-to") and not table(data, "notify", "mail"):
        yield Trouble(
            path=("report", "mail-to"),
            message=Message(id="settings.report-mail"),
            remedy=Message(id="remedy.report-mail"),
        )


def _windows(path: KeyPath, windows: Any) -> Iterator[Trouble]:
    for number, window in enumerate(windows if isinstance(windows, list) else ()):
        yield from _parsed((*path, number), window, schedule.parse_window, "window")


def parse_bandwidth(text: str) -> int:
    """Given "50MB/s", return bytes per second; raise ValueError when it is none."""
    amount, slash, unit = text.partition("/")
    size = parse_size(amount)
    if not slash or unit != "s" or not isinstance(size, int) or size < 1:
        raise ValueError("write for example 50MB/s")
    return size


def site(data: Tables, today: date) -> Iterator[Trouble]:
    """Report an unknown time zone, and a commissioning period that never ends."""
    zone = table(data, "site").get("timezone")
    if isinstance(zone, str) and zone not in zoneinfo.available_timezones():
        path = ("site", "timezone")
        meant = nearest(zone, zoneinfo.available_timezones())
        yield Trouble(
            path=path,
            message=Message(id="settings.bad-timezone", values={"found": shown(zone, path)}),
            remedy=Message(id="remedy.meant", values={"meant": meant})
            if meant
            else Message(id="remedy.bad-timezone"),
        )
    until = table(data, "site").get("commissioning-until")
    until = until.date() if isinstance(until, datetime) else until
    if isinstance(until, date) and until > today + timedelta(days=_COMMISSIONING_DAYS):
        values: dict[str, int | str] = {
            "found": until.isoformat(),
            "latest": (today + timedelta(days=_COMMISSIONING_DAYS)).isoformat(),
        }
        yield Trouble(
            path=("site", "commissioning-until"),
            message=Message(id="settings.commissioning-too-long", values=values),
        )


def listen(data: Tables) -> Iterator[Trouble]:
    """Report an address that cannot be listened on."""
    value = table(data, "http").get("listen")
    if not isinstance(value, str):
        return
    host, colon, port = value.rpartition(":")
    if not colon or not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        path = ("http", "listen")
        yield Trouble(
            path=path,
            message=Message(id="settings.bad-listen", values={"found": shown(value, path)}),
            remedy=Message(id="remedy.bad-listen"),
        )


def plugin_names(data: Tables) -> Iterator[Trouble]:
    """Report repository types, engines and probes that do not exist or cannot be imported."""
    for name, repository in _tables(data, "repositories"):
        path: KeyPath = ("repositories", name, "type")
        if "type" not in repository:
            known = ", ".join(plugins.names(plugins.REPOSITORIES))
            yield Trouble(
                path=path,
                message=Message(id="settings.missing", values={"key": "type"}),
                remedy=Message(id="remedy.known", values={"known": known}),
            )
        else:
            yield from _plugin(path, repository["type"], plugins.REPOSITORIES)
    for name, _ in _tables(data, "applications"):
        test = table(data, "applications", name, "restore-test")
        if "engine" in test:
            path = ("applications", name, "restore-test", "engine")
            yield from _plugin(path, test["engine"], plugins.RESTORE_TESTS)
    for name in table(data, "probes"):
        yield from _plugin(("probes", name), name, plugins.PROBES)


def _plugin(path: KeyPath, name: Any, group: str) -> Iterator[Trouble]:
    known = plugins.names(group)
    if not isinstance(name, str) or name not in known:
        meant = nearest(str(name), known)
        values = {"found": shown(name, path), "known": ", ".join(known) or "—"}
        yield Trouble(
            path=path,
            message=Message(id="settings.no-plugin", values=values),
            remedy=Message(id="remedy.meant", values={"meant": meant}) if meant else None,
        )
        return
    try:
        plugins.load(group, name)
    except MissingMeans as error:
        yield Trouble(path=path, message=error.message)


# ----------------------------------------------------------------------------------------- secrets


def references_to_secrets(data: Tables) -> Iterator[tuple[KeyPath, SecretReference]]:
    """Yield every reference to a stored secret."""
    for path, named in secrets.named_in(data):
        if path != ("reference",):  # half a table: the types say what it lacks
            yield path, SecretReference.model_validate(named)


def instance_accounts(data: Tables) -> Iterator[Trouble]:
    """Report scratch servers whose account has a secret that something of production's has too."""
    references = list(references_to_secrets(data))
    elsewhere = [reference for path, reference in references if path[0] != "instances"]
    for path, reference in references:
        if path[0] == "instances" and reference in elsewhere:
            message = Message(id="settings.instance-shared-secret")
            remedy = Message(id="remedy.instance-shared-secret")
            yield Trouble(path=path, message=message, remedy=remedy)


def texts(data: Any, path: KeyPath = ()) -> Iterator[Trouble]:
    """Report passwords inside addresses, for no secret stands here, and texts no path can hold."""
    if isinstance(data, str):
        if "\0" in data:
            yield Trouble(path=path, message=Message(id="settings.null-byte"))
        if _SECRET_IN_URL.search(data):
            message = Message(id="settings.secret-in-url")
            yield Trouble(path=path, message=message, remedy=Message(id="remedy.secret-in-url"))
    elif isinstance(data, Mapping):
        for key, value in data.items():
            yield from texts(value, (*path, key))
    elif isinstance(data, list):
        for number, value in enumerate(data):
            yield from texts(value, (*path, number))


def empty_paths(data: Tables) -> Iterator[Trouble]:
    """Report directories given as nothing: they would mean wherever the program was started."""
    for name, key in (
        ("store", "directory"),
        ("scratch", "directory"),
        ("daemon", "runtime-directory"),
    ):
        if table(data, name).get(key) == "":
            yield Trouble(path=(name, key), message=Message(id="settings.empty"))


def secret_files(
    data: Tables, environ: Mapping[str, str], owners: frozenset[int]
) -> Iterator[Trouble]:
    """Report secrets that are missing or that others could read.

    A systemd credential exists only inside its service: elsewhere it is not judged.
    """
    for path, reference in references_to_secrets(data):
        if reference.credential is not None and "/" in reference.credential:
            message = Message(id="settings.bad-credential-name")
            yield Trouble(path=(*path, "credential"), message=message)
            continue
        file = secrets.place_of(reference, environ)
        if file is not None and "\0" not in str(file):
            yield from _secret_file(path, reference, file, owners)


def _secret_file(
    path: KeyPath, reference: SecretReference, file: Path, owners: frozenset[int]
) -> Iterator[Trouble]:
    place = str(reference.file or reference.credential)
    try:
        status = file.stat()
        empty = status.st_size == 0
    except (FileNotFoundError, NotADirectoryError):
        if path[-2:] == ("credentials", "escrow"):
            return  # it lies in a safe, and is brought when it is needed
        yield Trouble(
            path=path,
            message=Message(id="settings.secret-missing", values={"place": place}),
            remedy=Message(id="remedy.secret_create", values={"place": place}),
        )
        return
    except OSError as error:
        values = {"place": place, "why": error.strerror or type(error).__name__}
        yield Trouble(
            path=path,
            message=Message(id="settings.secret-unreadable", values=values),
            remedy=Message(id="remedy.secret_give", values={"place": place}),
        )
        return
    problem = secrets.check_status(reference, status, owners)
    if problem is not None:
        yield Trouble(path=path, message=problem, remedy=secrets.remedy_of(problem))
    elif empty:
        message = Message(id="settings.secret-empty", values={"place": place})
        yield Trouble(path=path, message=message)
    elif not os.access(file, os.R_OK):
        values = {"place": place, "why": os.strerror(13)}
        yield Trouble(
            path=path,
            message=Message(id="settings.secret-unreadable", values=values),
            remedy=Message(id="remedy.secret_give", values={"place": place}),
        )
