"""Which backup jobs cron and systemd start, how often, and what the server of the copies allows.

Lines of a crontab are told apart by file, tool and repository, never by their place in the file, so
that comments and another order change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from backupguard.contracts import Context
from probes import discovery_cron, discovery_systemd
from probes.discovery_found import Found, FoundJob, Places
from probes.discovery_host import Host
from probes.drift_found import Policies
from probes.drift_frequency import per_year

_SERVER = "rest-server"
_DEFAULT_PATH = "/tmp/restic"  # noqa: S108 - what rest-server takes where no path is given


def cron(places: Places, policies: Policies) -> None:
    """Add the backup jobs of cron."""
    found = Found(host="")
    discovery_cron.look(places.etc, places.crontabs, found)
    together: dict[str, list[FoundJob]] = {}
    for job in found.jobs:
        source = job.source.partition(" line ")[0]
        tool = job.name.rpartition(" ")[2] if " " in job.name else ""
        name = " ".join([source, *([tool] if tool else []), *job.repositories])
        together.setdefault(name, []).append(job)
    for name, jobs in together.items():
        _several("cron", name, jobs, policies)
    policies.lacks("cron", found)


def _several(source: str, name: str, jobs: Iterable[FoundJob], policies: Policies) -> None:
    """Add the jobs of one name, those that run and run most often first."""
    ordered = sorted(
        jobs, key=lambda job: (not job.enabled, -(per_year(job.schedule) or 0), job.schedule)
    )
    for number, job in enumerate(ordered, 1):
        place = policies.read(source, name if number == 1 else f"{name} #{number}")
        place.put("job.enabled", job.enabled)
        often = per_year(job.schedule)
        if often is not None:
            place.put("job.runs_per_year", often)
        if job.schedule:
            place.put("info.schedule", job.schedule)


def systemd(places: Places, policies: Policies, context: Context) -> None:
    """Add the timers that start a backup tool."""
    found = Found(host="")
    discovery_systemd.look(places.systemd, found, context)
    for job in found.jobs:
        _several("systemd", job.name, [job], policies)
    policies.lacks("systemd", found)


def rest_server(host: Host, policies: Policies) -> None:
    """Add with which options restic's rest-server runs here; one that does not run keeps its word.

    Source: `rest-server --help`.
    """
    seen = False
    for process in host.processes:
        if PurePosixPath(process.argv[0]).name != _SERVER:
            continue
        seen = True
        directory = process.option("--path") or _DEFAULT_PATH
        place = policies.read(_SERVER, str(Path(directory)))
        for option in ("append-only", "private-repos"):
            place.put(
                f"protection.append_only.{option}" if option == "append-only" else f"info.{option}",
                _given(process.argv, option),
            )
        place.put("access.authentication", not _given(process.argv, "no-auth"))
    if not seen:
        policies.absent.add(f"{_SERVER}|")
    if not host.sees_all:  # another one may run, or the one that ran
        policies.unread_if_known.add(f"{_SERVER}|")


def _given(argv: tuple[str, ...], option: str) -> bool:
    """Tell whether a flag is given: "--append-only", and not "--append-only=false"."""
    given = False
    for argument in argv[1:]:
        name, mark, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == option:
            given = not mark or value.lower() in {"1", "t", "true"}
    return given
