"""`backupguard inventory`: applications, jobs, recovery points and copies as they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from backupguard.cli import common, inventory_copies, repository_notes
from backupguard.cli.acting import Wanted, act, exit_code, sentence
from backupguard.errors import EXIT_DONE
from backupguard.model import SITE, Fact, JobSummary, job_subject, repository_subject

if TYPE_CHECKING:
    from backupguard.assess.counted import CopiesOf
    from backupguard.settings import Settings


def inventory(
    no_refresh: Annotated[
        bool, typer.Option("--no-refresh", help="Show what is known without asking again.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show every application's jobs and copies, after asking the repositories."""
    from backupguard.assess.counted import copies_of

    settings = common.settings()
    code = EXIT_DONE
    if not no_refresh:
        code = exit_code(act(settings, [Wanted(task="inventory", subject=SITE)]))
    store = common.store(settings)
    try:
        summaries = {(one.job, one.repository): one for one in store.summaries()}
        seen = store.latest(
            [repository_subject(name) for name in settings.repositories], ["repository.inspected"]
        )
        copies = copies_of(store, settings)
    finally:
        store.close()
    inspected = {subject: kinds.get("repository.inspected") for subject, kinds in seen.items()}
    if as_json:
        common.print_json(_as_json(settings, summaries, inspected, copies))
        return code
    words = common.words()
    common.print_table(
        [
            words.text(f"inventory.column.{name}")
            for name in ("application", "job", "repository", "points", "newest", "size", "state")
        ],
        [
            (
                f"{application.name} ({application.criticality})",
                job,
                repository_notes.label(settings, backup.repository),
                str(one.points) if one else "0",
                words.time(one.newest) if one else "—",
                words.size(one.newest_bytes) if one else "—",
                _state(inspected.get(repository_subject(backup.repository))),
            )
            for identifier, application in settings.applications.items()
            for job, backup in application.backups.items()
            for one in [summaries.get((f"{identifier}.{job}", backup.repository))]
        ],
    )
    for name in settings.repositories:
        for line in repository_notes.notes(inspected.get(repository_subject(name))):
            told = (
                line if line.startswith(" ") else words.text("inventory.of", name=name, told=line)
            )
            print(common.printable(told))
    print()
    inventory_copies.show(copies, settings)
    return code


def _state(fact: Fact | None) -> str:
    """Return in words how the repository was found."""
    words = common.words()
    if fact is None:
        return words.text("inventory.never-asked")
    data = fact.observation.data
    if not data["reachable"]:
        return sentence(data["code"])
    return words.text("inventory.locked" if data["locks"] else "inventory.answers")


def _as_json(
    settings: Settings,
    summaries: dict[tuple[str, str], JobSummary],
    inspected: dict[str, Fact | None],
    copies: list[CopiesOf],
) -> Any:
    applications = []
    for identifier, application in settings.applications.items():
        jobs = []
        for job, backup in application.backups.items():
            one = summaries.get((f"{identifier}.{job}", backup.repository))
            jobs.append(
                {
                    "subject": job_subject(identifier, job),
                    "repository": backup.repository,
                    "points": one.points if one else 0,
                    "newest": one.newest.isoformat() if one and one.newest else None,
                    "oldest": one.oldest.isoformat() if one and one.oldest else None,
                    "newest_bytes": one.newest_bytes if one else None,
                }
            )
        applications.append(
            {
                "id": identifier,
                "name": application.name,
                "criticality": application.criticality.value,
                "jobs": jobs,
                "copies": inventory_copies.as_json(copies, identifier),
            }
        )
    return {
        "applications": applications,
        "repositories": [
            {
                "id": name,
                "type": settings.repositories[name].type,
                "origin": repository_notes.origin(settings, name).value,
                "inspected": fact.observation.data
                if (fact := inspected.get(repository_subject(name)))
                else None,
            }
            for name in settings.repositories
        ],
    }
