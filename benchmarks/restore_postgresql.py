"""restore-postgresql: a restore test of a custom dump of at least 1 GB of database, from restic.

Three ways from the same repository, in turn: `default`, what an administrator would type (restic
restore, createdb, pg_restore -j1 into a running server with Debian's defaults); `reference`, the
hand-tuned pipeline in `reference/restore-postgresql`, at the better of one transaction and two jobs;
`ours`, a restore test through `perform`, of which the phases select to open count. Ours with full
verification is printed too.

Two databases: a hospital's, four long tables under three indexes each, which the goals are for; and
pgbench's own (scale 90), one table under one index, which anybody can repeat and which is bound by one
processor however many there are: its ratios are printed without a goal.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import CHECKOUT, finish, run
from restores import COUNTED, back_up, site

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))
SCALE = int(os.environ.get("BENCH_SCALE", "90"))
ROWS = int(os.environ.get("BENCH_ROWS", "7000000"))
REFERENCE = CHECKOUT / "benchmarks" / "reference" / "restore-postgresql"

#: The tables that hold the work of a hospital, each as long as the others.
TABLES = ("observations", "prescriptions", "acts", "administrations")

SCHEMA = f"""
create table patients (id int primary key, name text not null, born date, ward text);
insert into patients select i, md5(i::text), date '1930-01-01' + i % 30000, 'ward ' || i % 40
  from generate_series(1, {ROWS // 50}) i;
""" + "".join(
    f"""
create table {table} (
  id bigint primary key, patient int not null references patients, code text not null,
  value numeric(10, 3), taken_at timestamptz not null, note text);
insert into {table} select i, 1 + i % {ROWS // 50}, 'LOINC-' || i % 900, (i % 100000) / 7.0,
  now() - (i % 5000000) * interval '11 seconds', md5(i::text) || md5((i * 7)::text)
  from generate_series(1, {ROWS // len(TABLES)}) i;
create index on {table} (patient, taken_at);
create index on {table} (code);
"""
    for table in TABLES
)


def binaries() -> Path:
    """Return the newest installed PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    return found[-1]


@contextmanager
def default_server(directory: Path) -> Iterator[dict[str, str]]:
    """Run a server with default settings; yield the environment that reaches it."""
    socket = directory / "s"
    socket.mkdir()
    data = directory / "data"
    run([binaries() / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
         "--locale=C.UTF-8"])  # fmt: skip
    options = f"-c listen_addresses='' -c unix_socket_directories={socket}"
    log = directory / "log"
    run([binaries() / "pg_ctl", "-D", data, "-w", "-s", "-l", log, "-o", options, "start"])
    try:
        yield {"PGHOST": str(socket), "PGUSER": "postgres"}
    finally:
        run([binaries() / "pg_ctl", "-D", data, "-m", "immediate", "-s", "stop"])


def pgbench(reach: dict[str, str]) -> None:
    """Fill the database with pgbench's own tables: 9 million accounts, 1.3 GB."""
    run([binaries() / "pgbench", "-i", "-q", "-s", str(SCALE), "hospital"], reach)


def hospital(reach: dict[str, str]) -> None:
    """Fill the database with observations of patients."""
    run(["psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", "hospital", "-c", SCHEMA], reach)


SHAPES = {"pgbench": pgbench, "hospital": hospital}


def make_dump(path: Path, fill: Callable[[dict[str, str]], None]) -> int:
    """Make the database in a server of its own and dump it to `path`; return its size in bytes."""
    source = path.with_suffix(".source")
    source.mkdir()
    with default_server(source) as reach:
        run([binaries() / "createdb", "hospital"], reach)
        fill(reach)
        query = "select pg_database_size('hospital')"
        size = int(run(["psql", "-At", "-d", "hospital", "-c", query], reach))
        run([binaries() / "pg_dump", "-Fc", "-f", path, "hospital"], reach)
    shutil.rmtree(source)
    return size


def measure(shape: str) -> dict[str, float]:
    """Measure the three ways in turn; return the medians in seconds."""
    with tempfile.TemporaryDirectory(prefix="bg-") as name:
        directory = Path(name)
        dump = directory / "hospital.dump"
        size = make_dump(dump, SHAPES[shape])
        restic = back_up(directory, dump)
        print(
            f"  {shape}: database {size / 2**20:.0f} MiB, dump {dump.stat().st_size / 2**20:.0f} MiB"
        )

        def reference(jobs: int) -> float:
            target = directory / "reference"
            target.mkdir()
            start = time.perf_counter()
            run([REFERENCE, target, "latest", dump, str(jobs)], restic)
            seconds = time.perf_counter() - start
            shutil.rmtree(target)
            return seconds

        (directory / "server").mkdir()
        with (
            site(directory, dump, "postgresql") as tested,
            default_server(directory / "server") as reach,
        ):

            def ours() -> tuple[float, float]:
                seconds = tested.test()
                counted = sum(seconds[phase] for phase in COUNTED)
                return counted, counted + seconds["verify"]

            def default() -> float:
                target = directory / "plain"
                start = time.perf_counter()
                run(["restic", "restore", "-q", "--no-lock", "latest", "--target", target,
                     "--include", dump], restic)  # fmt: skip
                run([binaries() / "createdb", "plain"], reach)
                run([binaries() / "pg_restore", "-j1", "-d", "plain", f"{target}{dump}"], reach)
                seconds = time.perf_counter() - start
                shutil.rmtree(target)
                run([binaries() / "dropdb", "plain"], reach)
                return seconds

            one, two = reference(1), reference(2)  # warm-up, and the choice between the two
            jobs = 1 if one < two else 2
            print(f"  reference: one transaction {one:.2f} s, two jobs {two:.2f} s")
            ours()
            figures: dict[str, list[float]] = {
                "default": [],
                "reference": [],
                "ours": [],
                "full": [],
            }
            for _ in range(ROUNDS):
                figures["default"].append(default())
                figures["reference"].append(reference(jobs))
                counted, full = ours()
                figures["ours"].append(counted)
                figures["full"].append(full)
                print("   ", {k: round(v[-1], 2) for k, v in figures.items()}, flush=True)
    return {name: statistics.median(values) for name, values in figures.items()}


def main() -> int:
    """Measure both databases, or those in BENCH_SHAPES; the goals are for the hospital's."""
    status = 0
    for shape in os.environ.get("BENCH_SHAPES", "pgbench hospital").split():
        median = measure(shape)
        for way, seconds in median.items():
            print(f"  {shape} {way:12} median {seconds:.2f} s")
        default, reference = (median["ours"] / median[way] for way in ("default", "reference"))
        full = median["full"] / median["default"]
        print(f"  {shape} ours: {default:.2f} of default, {reference:.2f} of reference, ", end="")
        print(f"{full:.2f} of default with full verification")
        if shape == "hospital":
            status |= finish("restore-postgresql-reference", reference, 1.10)
            status |= finish("restore-postgresql", default, 0.75)
    return status


if __name__ == "__main__":
    sys.exit(main())
