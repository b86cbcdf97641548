"""Where everything of a demonstration lies below its directory."""

from __future__ import annotations

import secrets
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backupguard.errors import UsageError
from backupguard.model import Message

MARK = ".backupguard-demo"
#: What a demonstration makes, and what the next one in the same directory removes.
NAMES = (
    "anchors.txt",
    "backupguard.toml",
    "barman",
    "borg",
    "cloud",
    "cloud.sh",
    "coffre",
    "coffre.sh",
    "disk",
    "etc",
    "evidence",
    "exports",
    "log",
    "media",
    "metrics.prom",
    "nas",
    "pgbackrest",
    "reference",
    "reports",
    "secrets",
    "soc",
    "source",
    "spool",
    "state",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The places of a demonstration.

    Repositories lie in directories of their names: nas, coffre, exports, cloud, borg, pgbackrest,
    barman, and spool for what jobs report; the restic repository behind a lock lies in the S3 server.
    """

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
        """The hospital's own database servers and files."""
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
    def exports(self) -> Path:
        """Dumps in a directory."""
        return self.root / "exports"

    @property
    def cloud(self) -> Path:
        """What the S3 server keeps."""
        return self.root / "cloud"

    @property
    def cloud_script(self) -> Path:
        """Starts the S3 server again, once the demonstration is over."""
        return self.root / "cloud.sh"

    @property
    def borg(self) -> Path:
        """The borg repository."""
        return self.root / "borg"

    @property
    def pgbackrest(self) -> Path:
        """The pgBackRest repository."""
        return self.root / "pgbackrest"

    @property
    def barman(self) -> Path:
        """Barman's home."""
        return self.root / "barman"

    @property
    def spool(self) -> Path:
        """Where jobs lay reports of their own runs."""
        return self.root / "spool"

    @property
    def disk(self) -> Path:
        """What stands for a disk that is carried away: a job that reports itself writes it."""
        return self.root / "disk"

    @property
    def medium(self) -> Path:
        """The image file that stands for a removable disk: attached while it lies there."""
        return self.root / "media" / "attached" / "disque-rouge.img"

    @property
    def medium_away(self) -> Path:
        """Where it lies once somebody took it away."""
        return self.root / "media" / "coffre-ignifuge" / "disque-rouge.img"

    @property
    def images(self) -> Path:
        """The hospital's images, as files."""
        return self.source / "images"

    @property
    def documents(self) -> Path:
        """The hospital's letters, as files."""
        return self.source / "documents"

    @property
    def etc(self) -> Path:
        """The configuration of the hospital's own backup tools."""
        return self.root / "etc"

    @property
    def reference(self) -> Path:
        """The hospital's list of its applications, as its CMDB would export it."""
        return self.root / "reference"

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
    made = (layout.state, layout.reports, layout.dumps, layout.images, layout.documents, layout.log)
    media = (layout.medium.parent, layout.medium_away.parent)
    kept = (layout.exports, layout.disk, layout.etc, layout.reference, root / "secrets")
    for place in (*made, *media, *kept):
        place.mkdir(mode=0o700, parents=True)
    return layout


def write_secret(layout: Layout, name: str, content: str | None = None) -> Path:
    """Write a secret, by default a new random password, that only its owner may read.

    Returns its file.
    """
    place = layout.secret(name)
    place.touch(mode=0o600)
    place.write_text(content or secrets.token_urlsafe(24) + "\n", encoding="ascii")
    return place


def write_script(
    place: Path, argv: Sequence[str | Path], environment: Mapping[str, str] | None = None
) -> None:
    """Write a script that starts a server again as the demonstration had it."""
    given = [f"{name}={value}" for name, value in (environment or {}).items()]
    command = shlex.join([*(["env", *given] if given else []), *map(str, argv)])
    place.write_text(f"#!/bin/sh\nexec {command}\n", encoding="utf-8")
    place.chmod(0o700)
