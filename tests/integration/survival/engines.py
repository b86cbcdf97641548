"""Every engine as survival tests meet it: a small sound backup and its settings.

A new engine is one more line of `ENGINES`; kills, limits, wedges and second tests then try it as well.
What is in `ELSEWHERE` is kept by another tool than restic, or restored elsewhere: the kills try it.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backupguard.contracts import Engine, EngineSettings
from backupguard.plugins import engines
from tests.counts import FULL
from tests.integration.daemon.living import quiet
from tests.integration.repositories import barman_maker, pgbackrest_maker
from tests.integration.repositories.servers import free_port
from tests.integration.restore_tests import physical
from tests.integration.restore_tests.mariabackup import backup
from tests.integration.restore_tests.test_instance import MARKER, USER, Scratch
from tests.integration.survival.places import REPOSITORY, Place, Restic, Source
from tests.postgres import start_cluster
from tests.programs import program
from tests.sabotage.corpus.files import tree
from tests.sabotage.corpus.sources import Sources

#: Makes a sound backup in an empty directory: a file or a tree.
Maker = Callable[[Sources, Path], Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How a site configures a repository that is not restic's.

    In `table` "{path}" stands for the repository, "{place}" for the directory in which it was made.
    """

    table: str
    select: str
    fetches: str  # the program that is at work while it is fetched


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One engine's backup.

    `settings` are TOML values as a site writes them below `restore-test`; "{place}" in them stands for
    the directory in which the backup was made. `kept` None: restic keeps what was made.
    """

    engine: str
    make: Maker
    settings: Mapping[str, Any] = field(default_factory=dict)
    heavy: bool = False  # tried with BACKUPGUARD_FULL=1 and by script/kills, not in every run
    called: str = ""
    kept: Kept | None = None

    @property
    def name(self) -> str:
        """What its application is called: most often as its engine."""
        return self.called or self.engine

    @property
    def fetches(self) -> str:
        """The program that fetches it."""
        return self.kept.fetches if self.kept else "restic-0.18"

    def toml(self, place: Path) -> str:
        """Return the settings as lines of a table."""
        lines = [f'engine = "{self.engine}"']
        for name, value in self.settings.items():
            text = str(value).replace("{place}", str(place))
            lines.append(f"{name} = {value}" if isinstance(value, int) else f'{name} = "{text}"')
        return "\n".join(lines)

    def read(self, place: Path, **more: Any) -> EngineSettings:
        """Return the settings as the engine reads them."""
        given = {
            name: value.replace("{place}", str(place)) if isinstance(value, str) else value
            for name, value in {**self.settings, **more}.items()
        }
        return self.plugin.settings.model_validate({"engine": self.engine, **given})

    @property
    def plugin(self) -> Engine:
        """The engine itself."""
        return engines()[self.engine]


_SMALL = """
create table patients (id int primary key, nom text not null);
create table stays (id int primary key, patient_id int not null references patients,
  admitted_at timestamptz not null, note text);
insert into patients select i, 'Nom ' || i from generate_series(1, 200) i;
insert into stays select i, 1 + i % 200, now() - i * interval '20 minutes', 'Séjour ordinaire ' || i
  from generate_series(1, 4000) i;
create index by_admission on stays (admitted_at);
"""


def _pg_dump(sources: Sources, into: Path, database: str = "small") -> Path:
    server = sources.postgresql
    server.cluster.create(database)
    server.sql(database, _SMALL)
    server.cluster.run("pg_dump", "-Fc", "-f", str(into / "dpi.dump"), database)
    return into / "dpi.dump"


def _archive(sources: Sources, into: Path) -> Path:
    return _pg_dump(sources, into, "little")


def _barman(sources: Sources, into: Path) -> Path:
    made = barman_maker.make(sources.place())
    made.cluster.stop()
    for other in ("tgz", "copied"):
        shutil.rmtree(made.home / other)
    return Path(shutil.move(made.home, into / "barman"))


def _pgbackrest(sources: Sources, into: Path) -> Path:
    made = pgbackrest_maker.make(sources.place())
    made.cluster.stop()
    Path(shutil.copy(made.secret, into)).chmod(0o600)
    return made.copy(into / "repo")


def _base_backup(sources: Sources, into: Path) -> Path:
    copies = physical.make(sources.place() / "server")
    return Path(shutil.copytree(copies.place / "tar", into / "base"))


def _sqlite(sources: Sources, into: Path) -> Path:
    return sources.sqlite(into / "labo.db")


def _ldif(sources: Sources, into: Path) -> Path:
    path = into / "annuaire.ldif"
    path.write_text(sources.ldif, encoding="utf-8")
    return path


def _mariadb_dump(sources: Sources, into: Path) -> Path:
    return sources.mariadb_dump(into)


def _mariadb_copy(sources: Sources, into: Path) -> Path:
    return backup(sources.mariadb, into / "full")


def _gbak(sources: Sources, into: Path) -> Path:
    return sources.firebird_backup(into)


def _domain(sources: Sources, into: Path) -> Path:
    return Path(shutil.copy(sources.samba, into))


def _tree(_sources: Sources, into: Path) -> Path:
    return tree(into / "ged")


def _site_program(_sources: Sources, into: Path) -> Path:
    program = into / "site" / "look"
    program.parent.mkdir()
    program.write_text('#!/bin/sh -e\nsleep 0.3\nexec wc -c "$BACKUPGUARD_ARTIFACT" >/dev/null\n')
    program.chmod(stat.S_IRWXU)
    artifact = into / "export.bin"
    artifact.write_bytes(b"what only the site's own program knows\n" * 50)
    return artifact


_MEMORY = {"memory": "300MB"}
ENGINES = (
    Subject(engine="postgresql", make=_pg_dump, settings=_MEMORY),
    Subject(engine="postgresql-physical", make=_base_backup, settings=_MEMORY),
    Subject(engine="mariadb", make=_mariadb_dump, settings=_MEMORY),
    Subject(engine="mariadb-physical", make=_mariadb_copy, settings=_MEMORY, heavy=True),
    Subject(engine="firebird", make=_gbak),
    Subject(engine="samba-ad", make=_domain, heavy=True),
    Subject(engine="sqlite", make=_sqlite),
    Subject(engine="openldap", make=_ldif),
    Subject(engine="files", make=_tree),
    Subject(engine="command", make=_site_program, settings={"program": "{place}/site/look"}),
)
ELSEWHERE = (
    Subject(
        called="barman", engine="postgresql-physical", make=_barman, settings=_MEMORY, heavy=True,
        kept=Kept(
            table='type = "barman"\npath = "{path}"\narchive-settle = "0s"\n',
            select='select.name = "dpi"', fetches="cp",
        ),
    ),
    Subject(
        called="pgbackrest", engine="postgresql-physical", make=_pgbackrest, settings=_MEMORY,
        heavy=True,
        kept=Kept(
            table='type = "pgbackrest"\npath = "{path}"\nlock-path = "{place}/lock"\n'
            'archive-settle = "0s"\ncredentials.reader.file = "{place}/passphrase"\n',
            select='select.name = "main"', fetches="pgbackrest",
        ),
    ),
    Subject(engine="instance", make=_archive, settings={"instance": "scratch"}, heavy=True),
)  # fmt: skip
#: The engines that are tried in this run, and those of the kills.
NAMES = [subject.name for subject in ENGINES if FULL or not subject.heavy]
KILLED = [*NAMES, *(subject.name for subject in ELSEWHERE if FULL)]
BY_NAME: Mapping[str, Subject] = {subject.name: subject for subject in (*ENGINES, *ELSEWHERE)}


@dataclass(slots=True, kw_only=True)
class Backups:
    """The backups of the table, each made when it is first asked for, and its restic repository."""

    sources: Sources
    root: Path
    password: Path
    _scratch: list[Scratch] = field(default_factory=list)

    def scratch(self) -> Scratch:
        """Return the site's scratch server, marked; it is started when it is first asked for."""
        if not self._scratch:
            place = self.sources.place()
            cluster = start_cluster(place / "cluster", port=free_port())
            self.sources.stopped_at_the_end(cluster)
            made = Scratch(cluster, place)
            made.prepare()
            self._scratch.append(made)
        return self._scratch[0]

    def place(self, name: str) -> Path:
        """Return the directory in which an engine's backup lies."""
        return self.root / "backups" / name

    def artifact(self, name: str) -> Path:
        """Return an engine's backup, as its job left it."""
        place = self.place(name)
        if not place.exists():
            place.mkdir(parents=True)
            made = BY_NAME[name].make(self.sources, place)
            (place / "made").write_text(made.name, encoding="utf-8")
        return place / (place / "made").read_text(encoding="utf-8")

    def repository(self, name: str, *contents: Path) -> Path:
        """Return a repository that holds an engine's backup, or `contents`, one snapshot each.

        It is made once per name: most of what it costs is its key.
        """
        repository = self.root / "repositories" / name
        if not repository.exists():
            repository.parent.mkdir(parents=True, exist_ok=True)
            restic = Restic(repository=repository, password=self.password)
            restic.call("init")
            for content in contents or (self.artifact(name),):
                restic.call("backup", "--host", "srv-ch", content)
        return repository


APPLICATION = """
[applications.{application}]
name = "Application {application}"
criticality = "C2"
rpo = "24h"
[applications.{application}.backups.nuit]
repository = "{repository}"
{select}
every = "24h"
[applications.{application}.restore-test]
schedule = "{schedule}"
{settings}
"""


class EnginesPlace(Place):
    """A site with one application per engine, called as it, each in a repository of its own."""

    def __init__(self, directory: Path, backups: Backups) -> None:
        self.backups = backups
        # by itself nothing starts but in one minute, days from now; what is asked for starts at once
        self.quiet = quiet()
        source = Source(cluster=None, root=backups.root)  # type: ignore[arg-type]
        super().__init__(directory, source)

    def write(self, more: str = "", language: str = "fr") -> None:
        """Write the configuration; nothing of it is due by itself."""
        super().write(self.quiet + more, language)

    def keep(self, repository: str, *contents: Path) -> None:
        """Add a repository: a copy of the one with an engine's backup, or with other contents."""
        shutil.copytree(self.backups.repository(repository, *contents), self.directory / repository)
        values = {
            "url": str(self.directory / repository),
            "program": str(program("restic-0.18")),
            "password": str(self.backups.password),
            "timeout": "5m",
        }
        self.parts.append(REPOSITORY.format(repository=repository, **values))

    def hold(self, name: str) -> None:
        """Add an application, called as its subject, with that subject's backup."""
        subject, content = BY_NAME[name], self.backups.artifact(name)
        if subject.kept is None:
            self.keep(name)
        else:
            own = shutil.copytree(content, self.directory / name, symlinks=True)
            table = subject.kept.table.format(path=own, place=content.parent)
            self.parts.append(f"[repositories.{name}]\n{table}")
        if subject.engine == "instance":
            self.parts.append(instance(self.backups.scratch()))
        self.restore(name, name, name, content)
        self.write()

    def restore(
        self, application: str, engine: str, repository: str, content: Path, checks: str = ""
    ) -> None:
        """Add an application whose backup lies in a repository that was added before."""
        subject = BY_NAME[engine]
        settings = subject.toml(self.backups.place(engine))
        self.parts.append(
            APPLICATION.format(
                application=application,
                repository=repository,
                select=subject.kept.select if subject.kept else f'select.paths = ["{content}"]',
                schedule="0 0 29 2 *",
                settings=f"{settings}\n{checks}",
            )
        )

    def listing(self) -> dict[str, tuple[int, int]]:
        """Return size and time of every file of the repositories, which nothing may change."""
        return {
            str(path): (path.lstat().st_size, path.lstat().st_mtime_ns)
            for name in self.settings.repositories
            for path in (self.directory / name).rglob("*")
        }


def instance(scratch: Scratch) -> str:
    """Return how a site configures its scratch server."""
    return (
        f'[instances.scratch]\nkind = "postgresql"\nhost = "127.0.0.1"\ntls = "none"\n'
        f'user = "{USER}"\nport = {scratch.cluster.port}\n'
        f'credentials.account.file = "{scratch.password}"\n'
    )


def strangers(scratch: Scratch) -> set[str]:
    """Return the databases that no scratch server has before and after a test."""
    return scratch.databases() - {"postgres", "template0", "template1", MARKER}


def sockets_of(directory: Path) -> Iterator[str]:
    """Yield the paths of Unix sockets below a directory that somebody still listens on."""
    for line in Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace").splitlines():
        path = line.rpartition(" ")[2]
        if path.startswith(str(directory)):
            yield path
