"""Makes the hospital: databases on two servers, images and letters. All of it is invented."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources

from backupguard.demo import programs
from backupguard.demo.configuration import ROLE
from backupguard.demo.layout import Layout
from backupguard.demo.programs import Source

#: The database that nobody backs up.
UNCOVERED = "bloc_operatoire"
_IMAGES = 12
_IMAGE_BYTES = 200_000
_LETTERS = 60


def script(name: str) -> str:
    """Return one of the SQL scripts: "dpi", "labo", "pharmacie" or "bloc"."""
    return (resources.files("backupguard.demo") / "sql" / f"{name}.sql").read_text("utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was made: sizes in bytes per database, and the version of the servers."""

    sizes: Mapping[str, int]
    rows: int
    version: str


@contextmanager
def servers(layout: Layout, archive_command: str) -> Iterator[tuple[Source, Source]]:
    """Run the hospital's two database servers until the block ends.

    The first one is dumped; of the second every write is archived by `archive_command`.
    """
    archived = {
        "wal_level": "replica",
        "max_wal_senders": "4",
        "archive_mode": "on",
        "archive_command": archive_command,
        "full_page_writes": "on",
        "shared_buffers": "32MB",
        "maintenance_work_mem": "32MB",
        "max_wal_size": "1GB",
    }
    with (
        programs.postgresql(layout.source / "server", port=programs.free_port()) as server,
        programs.postgresql(layout.source / "pharma", archived, programs.free_port()) as pharma,
    ):
        for source in (server, pharma):
            # The right that docs/discovery.md asks for: it sees catalogues and sizes, no data.
            source.psql("postgres", "-c", f"create role {ROLE} login in role pg_monitor")
        yield server, pharma


def fill(layout: Layout, server: Source, pharma: Source, observations: int, results: int) -> Made:
    """Load the hospital into its servers, and write its files."""
    server.create("dpi", script("dpi"), observations=observations)
    server.create("labo", script("labo"), results=results)
    server.create(UNCOVERED, script("bloc"))
    pharma.create("pharmacie", script("pharmacie"), dispensations=results // 4)
    chance = random.Random(36)  # noqa: S311 - pictures of nothing, the same each time
    for number in range(1, _IMAGES + 1):
        image = b"\0" * 128 + b"DICM" + chance.randbytes(_IMAGE_BYTES)
        (layout.images / f"IMG{number:05}.dcm").write_bytes(image)
    for number in range(1, _LETTERS + 1):
        letter = f"Lettre de liaison n° {number}\n\nCher confrère,\n\n" + "…\n" * (number % 9)
        (layout.documents / f"lettre-{number:04}.txt").write_text(letter, encoding="utf-8")
    owners = {"dpi": server, "labo": server, UNCOVERED: server, "pharmacie": pharma}
    return Made(
        sizes={name: owner.bytes_of(name) for name, owner in owners.items()},
        rows=observations,
        version=server.psql("postgres", "-c", "show server_version").split()[0],
    )
