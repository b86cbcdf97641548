"""Which engines a host has: its own and added ones, usable or why not, and which one goes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupguard import engines
from backupguard.contracts import Command, Completed
from backupguard.engines import listing
from backupguard.engines.listing import Found
from backupguard.errors import MissingMeans
from tests.unit.engines.archives import KEY, archive


class Said:
    """Tools that read what a program would say from the file itself."""

    def run(self, command: Command) -> Completed:
        text = Path(command.argv[0]).read_bytes()
        if text == b"":
            raise MissingMeans("sandbox_unavailable")
        failed = text.startswith(b"error")
        return Completed(
            returncode=int(failed),
            stdout=b"" if failed else text,
            stderr=text if failed else b"",
            duration_ms=1,
        )


@pytest.fixture(autouse=True)
def _no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "Jail", lambda *_, **__: Said())


def put(place: Path, said: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(said)


def looked(tmp_path: Path) -> dict[tuple[str, str], Found]:
    listed = engines.found(tmp_path / "engines", tmp_path / "system")
    return {(one.place.parent.name if one.origin != "system" else "system", one.version): one for one in listed}  # noqa: E501  # fmt: skip


def test_the_systems_goes_first_for_postgresql_and_the_added_one_for_mariadb(
    tmp_path: Path,
) -> None:
    put(tmp_path / "system/usr/lib/postgresql/15/bin/postgres", "postgres (PostgreSQL) 15.20 (Debian 15.20-0)")  # noqa: E501  # fmt: skip
    put(tmp_path / "engines/postgresql/15/bin/postgres", "postgres (PostgreSQL) 15.19")
    put(tmp_path / "engines/postgresql/17/bin/postgres", "postgres (PostgreSQL) 17.6")
    put(tmp_path / "system/usr/sbin/mariadbd", "mariadbd  Ver 10.11.19-MariaDB-0+deb12u1")
    put(tmp_path / "engines/mariadb/10.11/sbin/mariadbd", "mariadbd  Ver 10.11.18-MariaDB")
    put(
        tmp_path / "engines/mariadb/11.8/sbin/mariadbd",
        f"{tmp_path}/engines/mariadb/11.8/sbin/mariadbd  Ver 11.8.3-MariaDB",
    )

    seen = looked(tmp_path)

    assert {name: (one.usable, one.hidden) for name, one in seen.items()} == {
        ("system", "15.20"): (True, False),
        ("postgresql", "15.19"): (True, True),
        ("postgresql", "17.6"): (True, False),
        ("system", "10.11.19"): (True, True),
        ("mariadb", "10.11.18"): (True, False),
        ("mariadb", "11.8.3"): (True, False),
    }
    assert seen["postgresql", "17.6"].restore_tests == ("postgresql", "postgresql-physical")


def test_an_added_engine_says_where_it_came_from(tmp_path: Path) -> None:
    engines.add(archive(tmp_path / "stick"), KEY.public_key(), tmp_path / "engines")
    (one,) = engines.found(tmp_path / "engines", tmp_path / "system")
    assert (one.version, one.origin, one.release, one.usable) == ("17.6", "added", "trixie", True)


@pytest.mark.parametrize(
    ("place", "said", "problem"),
    [
        ("postgresql/17/bin/postgres", "postgres (PostgreSQL) 15.20", "engines.other-version"),
        ("postgresql/1/bin/postgres", "postgres (PostgreSQL) 1.0", "engines.outside"),
        ("postgresql/17/bin/initdb", "", "engines.no-program"),
        ("postgresql/17/bin/postgres", "error: GLIBC_2.38 not found", "engines.does-not-start"),
        ("postgresql/17/bin/postgres", "", "engines.does-not-start"),
        ("mongodb/8.0/bin/mongod", "8.0.1", "engines.unused"),
    ],
    ids=["other-version", "too-old", "no-program", "loader", "no-jail", "unknown"],
)
def test_why_an_engine_cannot_be_used(tmp_path: Path, place: str, said: str, problem: str) -> None:
    put(tmp_path / "engines" / place, said)
    (one,) = engines.found(tmp_path / "engines", tmp_path / "system")
    assert one.problem is not None
    assert (one.problem.id, one.usable, one.origin) == (problem, False, "by-hand")


def test_what_is_no_engine_is_not_listed(tmp_path: Path) -> None:
    for name in (".unfinished-x/tree", "postgresql/..data", "Postgres/17", "postgresql/file"):
        put(tmp_path / "engines" / name / "x", "") if name != "postgresql/file" else put(
            tmp_path / "engines" / name, ""
        )
    assert engines.found(tmp_path / "engines", tmp_path / "system") == ()
