"""What `doctor` says of this host by BackupGuard's own rules: who else could own it, or read its disks.

Whoever proves backups must not fall with what they are there for. `root` is where the files of the
host are looked for (of the running system: "/"); nothing is changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from backupguard.cli import common
from backupguard.cli.doctor_needs import Result
from backupguard.model import Criticality, Message

if TYPE_CHECKING:
    from backupguard.settings import Settings
    from backupguard.settings.host import Judged

#: Programs that throw away what the kernel pipes to them.
_NOWHERE = frozenset({"false", "true"})
_COREDUMP = ("etc/systemd/coredump.conf", "etc/systemd/coredump.conf.d", "run/systemd/coredump.conf.d",
             "usr/lib/systemd/coredump.conf.d")  # fmt: skip


def host(settings: Settings, root: Path = Path("/"), today: date | None = None) -> Iterator[Result]:
    """Judge this host: its directory, its swap, core dumps, scratch, and what it stands on."""
    from backupguard.cli.doctor_place import place, virtualisation

    day = today or datetime.now(ZoneInfo(settings.site.timezone)).date()
    yield domain(settings, root, day)
    yield swap(settings, root, day)
    yield core_dumps(settings, root, day)
    yield clear_text(settings, root)
    yield virtualisation(settings, root)
    yield place(settings, root, day)


def judged(
    settings: Settings, key: Judged, today: date, *, found: str, remedy: Message, check: str = ""
) -> Result:
    """Return what is said of something the rules refuse: work to do, unless a person accepted it.

    An acceptance (`[host.accepted.KEY]`) is shown with its name and last day, and is over after that.
    """
    accepted = settings.host.accepted.get(key)
    check = check or key
    if accepted is None:
        return Result(check=check, state="bad", found=found, remedy=remedy)
    words = common.words()
    values = {"found": found, "who": accepted.by, "until": words.day(accepted.until)}
    if accepted.until < today:
        over = words.text("cli.doctor.host.accepted-over", **values)
        return Result(check=check, state="bad", found=over, remedy=remedy)
    told = words.text("cli.doctor.host.accepted", **values)
    return Result(check=check, state="note", found=told)


def domain(settings: Settings, root: Path, today: date) -> Result:
    """Tell whether this host is joined to a directory that is not the backup's own."""
    from probes import isolation_joined

    joined = isolation_joined.look(root)
    unread = ", ".join(sorted(joined.unread))
    own = {name.lower() for name in settings.isolation.backup_domains}
    words = common.words()
    if joined.seen_by:
        values = {
            "domains": ", ".join(sorted(joined.domains)) or "?",
            "by": ", ".join(sorted(joined.seen_by)),
        }
        found = words.text("cli.doctor.host.joined", **values)
        if joined.domains and joined.domains <= own:
            return Result(check="domain", state="ok", found=found)
        remedy = Message(id="cli.doctor.do.domain")
        return judged(settings, "domain", today, found=found, remedy=remedy)
    if unread:
        found = words.text("cli.doctor.host.unread", files=unread)
        remedy = Message(id="cli.doctor.do.domain-unread")
        return Result(check="domain", state="note", found=found, remedy=remedy)
    return Result(check="domain", state="ok", found=words.text("cli.doctor.host.not-joined"))


def swap(settings: Settings, root: Path, today: date) -> Result:
    """Tell whether memory, restored data included, may be written to a disk in clear text."""
    from backupguard.sandbox.protection import clear_swap

    clear = clear_swap(root)
    if not clear:
        return Result(check="swap", state="ok")
    remedy = Message(id="cli.doctor.do.swap")
    return judged(settings, "swap", today, found=", ".join(clear), remedy=remedy)


def core_dumps(settings: Settings, root: Path, today: date) -> Result:
    """Tell where the memory of a program that dies would be written (core(5), coredump.conf(5)).

    What BackupGuard starts has no core file (RLIMIT_CORE 0), which systemd-coredump respects. Another
    program behind a pipe is handed the memory whatever that limit says.
    """
    pattern = _line(root / "proc/sys/kernel/core_pattern")
    words = common.words()
    if pattern.startswith("|"):
        program = pattern[1:].split()[0].rpartition("/")[2] if pattern[1:].split() else ""
        if program in _NOWHERE:
            return Result(check="core-dumps", state="ok", found=pattern)
        if program != "systemd-coredump":
            remedy = Message(id="cli.doctor.do.core-pipe")
            return judged(settings, "core-dumps", today, found=pattern[:80], remedy=remedy)
        storage = _storage(root)
        if storage == "none":
            found = words.text("cli.doctor.host.coredump", storage=storage)
            return Result(check="core-dumps", state="ok", found=found)
        found = words.text("cli.doctor.host.coredump", storage=storage)
        remedy = Message(id="cli.doctor.do.coredump-storage")
        return Result(check="core-dumps", state="note", found=found, remedy=remedy)
    if not pattern or _host_limit(root) == "0":
        return Result(check="core-dumps", state="ok", found=pattern)
    found = words.text("cli.doctor.host.core-file", pattern=pattern[:80])
    remedy = Message(id="cli.doctor.do.core-limit")
    return Result(check="core-dumps", state="note", found=found, remedy=remedy)


def _host_limit(root: Path) -> str:
    """Return the size of a core file that the first process may leave (proc(5), limits): soft limit."""
    for line in _lines(root / "proc/1/limits"):
        if line.startswith("Max core file size"):
            return line.removeprefix("Max core file size").split()[0]
    return "?"


def _storage(root: Path) -> str:
    """Return what systemd-coredump does with a dump; the last file by name counts, "external" else."""
    main, *directories = (root / place for place in _COREDUMP)
    dropped: dict[str, Path] = {}
    for directory in reversed(directories):  # a file in /etc hides one of that name elsewhere
        dropped |= {path.name: path for path in directory.glob("*.conf")}
    storage = "external"
    for path in (main, *(dropped[name] for name in sorted(dropped))):
        for line in _lines(path):
            key, equals, value = line.partition("=")
            if equals and key.strip().lower() == "storage":
                storage = value.strip().lower() or "external"
    return storage


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def _line(path: Path) -> str:
    return next(iter(_lines(path)), "").strip()


def clear_text(settings: Settings, root: Path = Path("/")) -> Result:
    """Tell where restored data lie while they are tested: patients' data on a disk in clear text.

    Restore tests of vital applications (C1) are refused there unless somebody accepted it by name.
    What a scratch server reads copies from is judged as scratch is; its own disks cannot be seen.
    """
    from backupguard.sandbox import scratch_protection

    runs = settings.runs_directory
    place = next(path for path in (runs, *runs.parents) if os.access(path, os.F_OK))
    protection = scratch_protection(place, root)
    words = common.words()
    vital = sorted(
        name
        for name, owner in settings.applications.items()
        if owner.criticality is Criticality.C1 and settings.fetchable(name)
    )
    refused = vital
    if protection != "clear":
        exchanges = {name: _exchange(settings, name) for name in vital}
        clear = {path for path in {*exchanges.values()} if path and _is_clear(path, root)}
        if not clear:
            told = words.text(f"cli.doctor.host.{protection}", path=str(place))
            return Result(check="clear-text", state="ok", found=told)
        place = min(clear)
        refused = [name for name in vital if exchanges[name] in clear]
    accepted = settings.scratch.clear_text_accepted_by
    if accepted:
        told = words.text("cli.doctor.host.clear-accepted", path=str(place), who=accepted)
        return Result(check="clear-text", state="ok", found=told)
    if not refused:
        remedy = Message(id="cli.doctor.do.clear-text")
        return Result(check="clear-text", state="note", found=str(place), remedy=remedy)
    told = words.text("cli.doctor.host.clear-refused", path=str(place), names=", ".join(refused))
    remedy = Message(id="cli.doctor.do.clear-text")
    return Result(check="clear-text", state="bad", found=told, remedy=remedy)


def _exchange(settings: Settings, application: str) -> Path | None:
    """Return where copies of an application are put for the scratch server its tests name."""
    name = getattr(settings.applications[application].restore_test, "instance", None)
    given = settings.instances.get(name) if name else None
    return given.exchange if given is not None else None


def _is_clear(path: Path, root: Path) -> bool:
    from backupguard.sandbox import scratch_protection

    try:
        return scratch_protection(path, root) == "clear"
    except OSError:  # nothing can be put there, which `doctor instances` tells
        return False
