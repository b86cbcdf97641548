"""What the benchmarks of restore tests share: applications in one restic repository, real tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from harness import run

from backupguard.contracts import Store
from backupguard.daemon.tasks import TASKS
from backupguard.model import RunRequest
from backupguard.processes import Cancellation
from backupguard.runs import perform
from backupguard.settings import Settings, load
from backupguard.store import open_store

#: The phases that end with data that can be read; `verify` comes after them.
COUNTED = ("select", "fetch", "prepare", "load", "open")
#: The application of a site that has one.
APPLICATION = "hospital"


def back_up(directory: Path, *sources: Path) -> dict[str, str]:
    """Back each source up into a new repository below `directory`; return restic's environment."""
    password = directory / "password"
    password.write_text("benchmark", encoding="ascii")
    password.chmod(0o600)
    restic = {
        "RESTIC_REPOSITORY": str(directory / "repository"),
        "RESTIC_PASSWORD_FILE": str(password),
        "RESTIC_CACHE_DIR": str(directory / "cache"),
    }
    run(["restic", "init", "-q"], restic)
    for source in sources:
        run(["restic", "backup", "-q", source], restic)
    return restic


def configuration(
    directory: Path, sources: Mapping[str, Path], engine: str, more: str = ""
) -> Path:
    """Write the settings of applications in that repository, by what each keeps; return their path."""
    path = directory / "backupguard.toml"
    path.write_text(
        f"""
[site]
name = "Banc"
timezone = "Europe/Paris"
language = "fr"
[store]
directory = "{directory / "state"}"
[scratch]
clear-text-accepted-by = "banc d'essai"
[repositories.local]
type = "restic"
url = "{directory / "repository"}"
credentials.reader.file = "{directory / "password"}"
"""
        + "".join(
            f"""
[applications.{name}]
name = "{name.capitalize()}"
criticality = "C1"
[applications.{name}.backups.nightly]
repository = "local"
select.paths = ["{source}"]
every = "24h"
[applications.{name}.restore-test]
engine = "{engine}"
"""
            for name, source in sources.items()
        )
        + more,
        encoding="utf-8",
    )
    return path


def seconds_of(store: Store, application: str) -> dict[str, float]:
    """Return how long each phase of an application's last restore test took."""
    subject = f"application/{application}"
    result = store.latest([subject])[subject]["restore-test.result"].observation.data
    return {str(one["phase"]): float(one["duration_ms"]) / 1000 for one in result["phases"]}


class Site:
    """A site whose restore tests are performed here, in this process."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.request("inventory", "site")

    def request(self, task: str, subject: str) -> None:
        """Perform one task; end the benchmark when it does not pass."""
        asked = RunRequest(
            task=task,
            subject=subject,
            due_at=datetime.now(UTC),
            exclusive=subject,
            resource=task,
            requested_by="benchmark",
        )
        run_ = self.store.enqueue(asked)
        verdict = perform(run_, self.settings, self.store, Cancellation(), TASKS)
        if verdict.value != "passed":
            raise SystemExit(f"{task} ended {verdict.value}: {self.store.run(run_.id)}")

    def test(self) -> Mapping[str, float]:
        """Perform one restore test; return the seconds of its phases."""
        self.request("restore-test", f"application/{APPLICATION}")
        seconds = seconds_of(self.store, APPLICATION)
        print("    " + " ".join(f"{k} {v:.2f}" for k, v in seconds.items()), flush=True)
        return seconds


@contextmanager
def site(directory: Path, source: Path, engine: str) -> Iterator[Site]:
    """Open a site of one application whose backups are `source` in restic; its inventory is done."""
    settings = load(configuration(directory, {APPLICATION: source}, engine))
    store = open_store(settings.state_directory)
    try:
        yield Site(settings, store)
    finally:
        store.close()
