"""A backup that attacks, engine by engine: nothing of the host is made, read or called.

Each attack tries to write a marker, to read a secret of the host into what is restored, or to reach a
port of the host. Whatever the verdict, it must have had no effect; what the backup's own tool never
writes is called hostile.
"""

from __future__ import annotations

import gzip
import io
import shutil
import sqlite3
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from backupguard.model import RestoreTestResult, Verdict
from backupguard.sandbox import SandboxLimits
from tests.integration.restore_tests.harness import Trials
from tests.integration.survival.engines import BY_NAME, Backups
from tests.sabotage.corpus.sources import AT

SECRET = "Canari-Secret-4711"
PASSED, FAILED, UNKNOWN = Verdict.PASSED, Verdict.FAILED, Verdict.COULD_NOT_VERIFY
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What an attack goes for: a file that must not come to be, a secret, a port of the host."""

    marker: Path
    secret: Path
    port: int


#: Makes the hostile backup in an empty directory.
Attack = Callable[[Backups, Path, Target], Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One attack and what is said of it."""

    engine: str
    name: str
    make: Attack
    verdict: Verdict
    codes: frozenset[str | None]
    settings: Mapping[str, Any] = field(default_factory=dict)


# ------------------------------------------------------------------------------------- what attacks


def _mariadb(line: str) -> Attack:
    def make(backups: Backups, into: Path, target: Target) -> Path:
        text = backups.artifact("mariadb").read_text(encoding="utf-8")
        said = line.format(marker=target.marker, secret=target.secret, port=target.port)
        path = into / "dump.sql"
        path.write_text(text.replace("-- Dump completed", f"{said}\n-- Dump completed"), "utf-8")
        return path

    return make


def _ldif(lines: str) -> Attack:
    def make(backups: Backups, into: Path, target: Target) -> Path:
        text = backups.artifact("openldap").read_text(encoding="utf-8")
        said = lines.format(marker=target.marker, secret=target.secret)
        path = into / "annuaire.ldif"
        assert "\nuid: u7\n" in text
        path.write_text(text.replace("\nuid: u7\n", f"\n{said}\nuid: u7\n", 1), "utf-8")
        return path

    return make


def _script(statement: str) -> Attack:
    def make(backups: Backups, into: Path, target: Target) -> Path:
        with closing(sqlite3.connect(backups.artifact("sqlite"))) as connection:
            text = "PRAGMA foreign_keys=OFF;\n" + "\n".join(connection.iterdump()) + "\n"
        said = statement.format(marker=target.marker, secret=target.secret)
        path = into / "labo.sql"
        path.write_text(text.replace("COMMIT;", f"{said}\nCOMMIT;"), encoding="utf-8")
        return path

    return make


def _database(*statements: str) -> Attack:
    def make(backups: Backups, into: Path, target: Target) -> Path:
        path = Path(shutil.copy(backups.artifact("sqlite"), into / "labo.db"))
        with closing(sqlite3.connect(path)) as connection:
            for statement in statements:
                connection.execute(statement.format(marker=target.marker, secret=target.secret))
            connection.commit()
        return path

    return make


def _links(backups: Backups, into: Path, target: Target) -> Path:
    """A tree whose links, names and special files lead out of it."""
    root = into / "ged"
    shutil.copytree(backups.artifact("files"), root)
    (root / "canari.bin").unlink()
    (root / "canari.bin").symlink_to(target.secret)
    (root / "out").symlink_to(target.marker.parent)
    (root / "up.pdf").symlink_to("../" * 30 + str(target.secret).lstrip("/"))
    (root / "\x1b]0;owned\x07\n$(touch owned)`touch owned`.pdf").write_bytes(b"%PDF-1.4\n")
    return root


def _deep(backups: Backups, into: Path, target: Target) -> Path:
    """A tree deeper than a path may be long, and a file with a hole of a terabyte."""
    root = into / "ged"
    shutil.copytree(backups.artifact("files"), root)
    place = root
    for _ in range(60):
        place /= "d" * 60
        place.mkdir()
    with (root / "hole.pdf").open("wb") as file:
        file.write(b"%PDF-1.4\n")
        file.truncate(200 * _MIB)
    return root


def _traversal(member: str, link: str | None = None) -> Attack:
    """A base backup whose tar has one more member: out of the directory, by name or through a link."""

    def make(backups: Backups, into: Path, target: Target) -> Path:
        root = into / "base"
        shutil.copytree(backups.artifact("postgresql-physical"), root)
        name = member.format(marker=target.marker, up="../" * 30 + str(target.marker).lstrip("/"))
        plain = gzip.decompress((root / "base.tar.gz").read_bytes())
        source, packed = io.BytesIO(plain), io.BytesIO()
        with tarfile.open(fileobj=source) as old, tarfile.open(fileobj=packed, mode="w") as new:
            for one in old:
                new.addfile(one, old.extractfile(one) if one.isfile() else None)
            if link is not None:
                way = tarfile.TarInfo(name.partition("/")[0])
                way.type, way.linkname = tarfile.SYMTYPE, link.format(marker=target.marker.parent)
                new.addfile(way)
            added = tarfile.TarInfo(name)
            added.size = 5
            new.addfile(added, io.BytesIO(b"owned"))
        (root / "base.tar.gz").write_bytes(gzip.compress(packed.getvalue(), 1))
        return root

    return make


def _obeyed(backups: Backups, into: Path, target: Target) -> Path:
    """A data directory whose settings run programs, and read the host's files."""
    root = into / "base"
    shutil.copytree(backups.artifact("postgresql-physical"), root)
    settings = (
        f"restore_command = 'touch {target.marker}'\narchive_command = 'touch {target.marker}'\n"
        f"archive_mode = on\ninclude_if_exists = '{target.secret}'\n"
        f"recovery_end_command = 'touch {target.marker}'\nlisten_addresses = '*'\n"
    ).encode()
    plain = gzip.decompress((root / "base.tar.gz").read_bytes())
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(plain)) as old,
        tarfile.open(fileobj=packed, mode="w") as new,
    ):
        for one in old:
            content = old.extractfile(one)
            if one.name.endswith("postgresql.auto.conf"):
                one.size, content = len(settings), io.BytesIO(settings)
            new.addfile(one, content)
    (root / "base.tar.gz").write_bytes(gzip.compress(packed.getvalue(), 1))
    (root / "backup_manifest").unlink()
    return root


def _bomb(name: str, head: bytes) -> Attack:
    """A compressed file that becomes far more than there is room for."""

    def make(backups: Backups, into: Path, target: Target) -> Path:
        path = into / name
        with gzip.open(path, "wb", 1) as file:
            file.write(head)
            for _ in range(192):
                file.write(bytes(_MIB))
        return path

    return make


def _zipped(backups: Backups, into: Path, target: Target) -> Path:
    path = into / "export.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("../" * 30 + str(target.marker).lstrip("/"), "owned")
        packed.writestr(str(target.marker), "owned")
    return path


def _greedy(backups: Backups, into: Path, target: Target) -> Path:
    """An artifact for the site's program, which was changed to look for a way out."""
    path = into / "export.bin"
    path.write_bytes(b"x" * 1000)
    place = into / "site"
    place.mkdir()
    program = place / "look"
    program.write_text(
        f"#!/bin/sh\ntouch {target.marker} /site/owned /in/owned /usr/owned 2>/dev/null\n"
        f"cat {target.secret} /etc/shadow 2>/dev/null\n"
        f"python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {target.port}))'\n"
        "kill -9 -1\nexit 7\n"
    )
    program.chmod(stat.S_IRWXU)
    return path


HOSTILE, ODD = frozenset({"hostile"}), frozenset({None})
CASES = [
    *(
        Case(engine="mariadb", name=name, make=_mariadb(line), verdict=FAILED, codes=HOSTILE)
        for name, line in {
            "shell": "\\! touch {marker}",
            "system": "system touch {marker}",
            "tee": "\\T {marker}",
            "local-file": "LOAD DATA LOCAL INFILE '{secret}' INTO TABLE drugs;",
            "local-in-lower-case": "load data local infile '{secret}' into table drugs;",
            "local-in-a-comment": "/*!50000 LOAD DATA LOCAL INFILE '{secret}' INTO TABLE drugs */;",
            "server-file": " LOAD DATA INFILE '{secret}' INTO TABLE drugs;",
            "outfile": "/**/ SELECT 1 INTO OUTFILE '{marker}';",
            "dumpfile": "select 'x'\ninto dumpfile '{marker}';",
            "prepared": "prepare p from 'select 1 into outfile ''{marker}'''; execute p;",
            "library": "create function evil returns string soname 'evil.so';",
            "plugin": "install plugin evil soname 'evil.so';",
        }.items()
    ),
    *(
        Case(engine="sqlite", name=name, make=_script(line), verdict=FAILED, codes=HOSTILE)
        for name, line in {
            "attach": "ATTACH '{secret}' AS x;",
            "attach-in-a-comment": "/* */ attach/**/ database '{marker}' as x;",
            "load-extension": "select load_extension('{secret}');",
            "vacuum-into": "COMMIT;\nVACUUM INTO '{marker}';\nBEGIN;",
        }.items()
    ),
    Case(engine="sqlite", name="trigger-and-view", verdict=PASSED, codes=ODD,
         make=_database("create view evil as select load_extension('{secret}')",
                        "create trigger t after insert on settings begin select "
                        "load_extension('{secret}'); end",
                        "create view endless as with recursive n(i) as (select 1 union all "
                        "select i + 1 from n) select count(*) from n")),
    *(
        Case(engine="openldap", name=name, make=_ldif(lines), verdict=FAILED, codes=HOSTILE)
        for name, lines in {
            "url": "description:< file://{secret}",
            "url-of-an-option": "description;x-a:< file://{secret}",
            "url-in-capitals": "DESCRIPTION:<file://{secret}",
            "folded-url": "descr\n iption:< file:///usr/lib/os-release",
            "folded-before-the-sign": "description:\n < file:///usr/lib/os-release",
        }.items()
    ),
    Case(engine="files", name="links", make=_links, verdict=FAILED,
         codes=frozenset({"check_failed"}),
         settings={"checks": [{"name": "canari", "files": "canari.bin", "sha256": "0" * 64}]}),
    Case(engine="files", name="deep-and-hollow", make=_deep, verdict=PASSED, codes=ODD,
         settings={"checks": [{"name": "creux", "files": "hole.pdf", "at-least": 1}]}),
    *(
        Case(engine="postgresql-physical", name=name, make=make, verdict=FAILED,
             codes=frozenset({"corrupt", "hostile"}))
        for name, make in {
            "upwards": _traversal("{up}"),
            "through-a-link": _traversal("way/owned", link="{marker}"),
        }.items()
    ),
    Case(engine="postgresql-physical", name="settings", make=_obeyed, verdict=PASSED, codes=ODD),
    *(
        Case(engine=engine, name="bomb", make=_bomb(name, head), verdict=UNKNOWN,
             codes=frozenset({"scratch_limit", "no_disk", "no_memory"}))
        for engine, name, head in (
            ("sqlite", "labo.db.gz", b"SQLite format 3\0" + bytes(84)),
            ("openldap", "a.ldif.gz", b"dn: dc=a\nobjectClass: dcObject\n\n"),
        )
    ),
    Case(engine="command", name="program", make=_greedy, verdict=UNKNOWN,
         codes=frozenset({"unknown_exit"}), settings={"program": "{place}/site/look"}),
    Case(engine="sqlite", name="zip", make=_zipped, verdict=UNKNOWN,
         codes=frozenset({"unrecognised_artifact"})),
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of them are restored: an empty server is made once."""
    return tmp_path_factory.mktemp("hostile")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.engine}-{case.name}")
def test_an_attack_has_no_effect(
    backups: Backups, listener: tuple[int, list[str]], place: Path, tmp_path: Path, case: Case
) -> None:
    outside, made = tmp_path / "outside", tmp_path / "made"
    outside.mkdir()
    made.mkdir()
    target = Target(marker=outside / "owned", secret=outside / "secret", port=listener[0])
    target.secret.write_text(SECRET)
    path = case.make(backups, made, target)
    room = 64 * _MIB if case.name == "bomb" else 2048 * _MIB
    trials = Trials(
        place,
        engines={case.engine: BY_NAME[case.engine].plugin},
        limits=SandboxLimits(disk_bytes=room, reserve_percent=1),
    )
    settings = {**BY_NAME[case.engine].settings, **case.settings}
    read = BY_NAME[case.engine].plugin.settings.model_validate(
        {"engine": case.engine, **{name: _filled(value, made) for name, value in settings.items()}}
    )
    result = trials.restore(path, settings=read, point_at=AT)
    no_effect(target, listener[1], trials, result)
    assert (result.verdict, result.code in case.codes) == (case.verdict, True), result


def _filled(value: Any, place: Path) -> Any:
    return value.replace("{place}", str(place)) if isinstance(value, str) else value


def no_effect(
    target: Target, callers: list[str], trials: Trials, result: RestoreTestResult
) -> None:
    """See that nothing was made, read or called outside."""
    assert sorted(path.name for path in target.marker.parent.iterdir()) == ["secret"]
    assert target.secret.read_text() == SECRET
    assert callers == []
    assert SECRET not in repr((result, trials.facts))
    assert SECRET.encode() not in trials.traces
    owned = [Path(place, "owned") for place in ("/etc", "/usr", "/tmp", "/var/tmp", Path.cwd())]
    assert not any(path.exists() for path in owned)
