"""Where everything of a demonstration lies below its directory, and the configuration it leaves."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from backupguard.errors import UsageError
from backupguard.model import Message

MARK = ".backupguard-demo"
#: What a demonstration makes, and what the next one in the same directory removes.
NAMES = (
    "anchors.txt",
    "backupguard.toml",
    "coffre",
    "coffre.sh",
    "evidence",
    "log",
    "metrics.prom",
    "nas",
    "reports",
    "secrets",
    "source",
    "state",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The places of a demonstration."""

    root: Path

    @property
    def configuration(self) -> Path:
        """The configuration file that every other command can be pointed at."""
        return self.root / "backupguard.toml"

    @property
    def state(self) -> Path:
        """The store, its key and what it remembers."""
        return self.root / "state"

    @property
    def reports(self) -> Path:
        """The monthly reports."""
        return self.root / "reports"

    @property
    def evidence(self) -> Path:
        """The exported evidence bundle."""
        return self.root / "evidence"

    @property
    def anchors(self) -> Path:
        """The head of the chain, as a site would put it down somewhere else."""
        return self.root / "anchors.txt"

    @property
    def source(self) -> Path:
        """The hospital's own database server, while it runs."""
        return self.root / "source"

    @property
    def dumps(self) -> Path:
        """Where the hospital puts its dumps before they are backed up."""
        return self.root / "source" / "dumps"

    @property
    def nas(self) -> Path:
        """The first restic repository, a directory."""
        return self.root / "nas"

    @property
    def coffre(self) -> Path:
        """What the append-only rest-server keeps."""
        return self.root / "coffre"

    @property
    def coffre_script(self) -> Path:
        """Starts the rest-server again, once the demonstration is over."""
        return self.root / "coffre.sh"

    @property
    def metrics(self) -> Path:
        """What /metrics would say at the end of the demonstration."""
        return self.root / "metrics.prom"

    @property
    def log(self) -> Path:
        """What the demonstration's servers write."""
        return self.root / "log"

    def secret(self, name: str) -> Path:
        """Return the file of a secret."""
        return self.root / "secrets" / name


def prepare(directory: Path) -> Layout:
    """Make an empty place for a demonstration, over an earlier one if there is one.

    Raises UsageError when the directory holds something that no demonstration made.
    """
    root = directory.expanduser().absolute()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (root / MARK).exists() and any(root.iterdir()):
        message = Message(id="demo.not_empty", values={"directory": str(root)})
        raise UsageError("usage", message, Message(id="demo.not_empty_remedy"))
    for name in NAMES:
        place = root / name
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
    (root / MARK).touch(mode=0o600)
    layout = Layout(root=root)
    for place in (layout.state, layout.reports, layout.dumps, layout.log, root / "secrets"):
        place.mkdir(mode=0o700, parents=True)
    return layout


def write_secret(layout: Layout, name: str) -> Path:
    """Write a new random password into a file that only its owner may read; return the file."""
    place = layout.secret(name)
    place.touch(mode=0o600)
    place.write_text(secrets.token_urlsafe(24) + "\n", encoding="ascii")
    return place


_SITE = """\
# Written by `backupguard demo`. Every other command works on it:
#   backupguard --config {configuration} status

[site]
name = "CH de Belle-Rive (démonstration)"
timezone = "Europe/Paris"
language = "{language}"

[store]
directory = "{state}"

[http]
listen = "127.0.0.1:{http_port}"

[scratch]
clear-text-accepted-by = "backupguard demo: invented data"

[probes.integrity]
data-percent = 100  # small enough to be read whole each time

[repositories.nas]
type = "restic"
url = "{nas}"
program = "{restic}"
data-buckets = 1  # small enough to be read in one piece
credentials.reader.file = "{nas_secret}"
medium-kind = "disk"
failure-domain = "campus-nord/baie-2"
"""

_COFFRE = """
[repositories.coffre]
type = "restic"
url = "rest:http://127.0.0.1:{coffre_port}/"
program = "{restic}"
data-buckets = 1  # small enough to be read in one piece
credentials.reader.file = "{coffre_secret}"
medium-kind = "disk"
failure-domain = "campus-sud/coffre"
claimed-protection = ["append-only"]
"""

_APPLICATIONS = """
[applications.dpi]
name = "Dossier patient informatisé"
criticality = "C1"
rpo = "24h"
rto = "4h"
declared-by = "direction des soins"
declared-on = 2026-03-02
bia-reference = "BIA-2026-04"
depends-on = ["labo"]

[applications.dpi.restore-test]
engine = "postgresql"
required-tables = ["patients", "stays", "observations", "prescriptions"]

[[applications.dpi.restore-test.checks]]
name = "admissions récentes"
sql = "select max(admitted_at) from stays"
newer-than = "26h"

[[applications.dpi.restore-test.checks]]
name = "observations en nombre"
sql = "select count(*) from observations"
at-least = {observations}

[[applications.dpi.restore-test.checks]]
name = "aucun séjour sans patient"
sql = "select count(*) from stays s left join patients p on p.id = s.patient_id where p.id is null"
equals = 0

[applications.labo]
name = "Laboratoire"
criticality = "C2"
rpo = "24h"
rto = "8h"
declared-by = "chef de service du laboratoire"
declared-on = 2026-03-02
bia-reference = "BIA-2026-07"

[applications.labo.restore-test]
engine = "postgresql"

[[applications.labo.restore-test.checks]]
name = "résultats récents"
sql = "select max(validated_at) from results"
newer-than = "26h"
"""

_JOB = """
[applications.{application}.backups.{job}]
repository = "{repository}"
select.paths = ["{dump}"]
every = "24h"
grace = "2h"
"""


def write_configuration(
    layout: Layout,
    *,
    language: str,
    restic: Path,
    http_port: int,
    coffre_port: int | None,
    observations: int,
) -> None:
    """Write the configuration of the demonstration; without a port there is no second repository."""
    values = {
        "configuration": layout.configuration,
        "language": language,
        "state": layout.state,
        "http_port": http_port,
        "nas": layout.nas,
        "restic": restic,
        "nas_secret": layout.secret("nas"),
        "coffre_secret": layout.secret("coffre"),
        "coffre_port": coffre_port,
        "observations": observations * 9 // 10,
    }
    parts = [_SITE.format(**values)]
    if coffre_port is not None:
        parts.append(_COFFRE.format(**values))
    parts.append(_APPLICATIONS.format(**values))
    for application in ("dpi", "labo"):
        jobs = {"nuit": "nas"} | ({"nuit-coffre": "coffre"} if coffre_port is not None else {})
        parts += [
            _JOB.format(
                application=application,
                job=job,
                repository=repository,
                dump=layout.dumps / f"{application}.dump",
            )
            for job, repository in jobs.items()
        ]
    layout.configuration.touch(mode=0o600)
    layout.configuration.write_text("".join(parts), encoding="utf-8")


def write_coffre_script(layout: Layout, argv: tuple[str, ...]) -> None:
    """Write the script that starts the rest-server again as the demonstration had it."""
    quoted = " ".join("'" + part.replace("'", "'\\''") + "'" for part in argv)
    layout.coffre_script.write_text(f"#!/bin/sh\nexec {quoted}\n", encoding="utf-8")
    layout.coffre_script.chmod(0o700)
