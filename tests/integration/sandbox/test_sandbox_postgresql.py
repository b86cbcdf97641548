"""A real database server lives and dies in the sandbox as the engines use it."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.integration.looking import eventually

BIN = max(Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=lambda path: int(path.parent.name))


def test_a_cluster_is_made_started_asked_and_stopped(box):
    initdb = (
        str(BIN / "initdb"),
        "-D",
        "/scratch/data",
        "-A",
        "trust",
        "-U",
        "postgres",
        "--no-sync",
    )
    done = box.run(initdb, scratch=True, timeout_s=120)
    assert done.returncode == 0, done.stderr
    options = ("-c", "listen_addresses=", "-k", "/shared/pg", "-c", "fsync=off")
    argv = (str(BIN / "postgres"), "-D", "/scratch/data", *options)
    server = box.start(argv, scratch=True, shared=("pg",), log="postgres")

    def psql(sql: str, **options: object):
        client = (str(BIN / "psql"), "-XAt", "-h", "/shared/pg", "-U", "postgres", "-c", sql)
        return box.run(client, scratch=False, shared=("pg",), timeout_s=60)

    assert eventually(lambda: psql("select 1").stdout == b"1\n", 30), box.log("postgres", 2000)
    assert server.alive()
    # what a dump may try with the rights of the server
    assert psql("copy (select 1) to program 'cat > /usr/bin/x'").returncode != 0
    environ = "create table e (l text); copy e from program 'cat /proc/1/environ'; table e"
    assert psql(environ).stdout.strip().splitlines()[-1] == b"COPY 0"
    assert psql("select pg_read_file('/etc/passwd')").stdout.count(b"\n") <= 2
    assert b"No such file" in psql("select pg_read_file('/etc/shadow')").stderr
    done = server.stop(signal.SIGINT, 30)
    assert done.returncode == 0
    assert b"database system is shut down" in box.log("postgres", 500)
    assert not (box.directory / "scratch/data/postmaster.pid").exists()
