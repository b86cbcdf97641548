"""Evidence outside: the bundle, its own verifier, and the commands; all from real stores."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from backupguard.cli.main import main
from backupguard.errors import EvidenceError
from backupguard.evidence.seals import anchor_line
from backupguard.evidence.verify import Standing, prunings, verify
from backupguard.model import Observation
from backupguard.store import open_store
from backupguard.store.bundle import open_bundle, write_bundle
from backupguard.store.sql import SqlStore

from .conftest import SetClock
from .test_store_facts import NOW, step

SETTINGS = """
[site]
name = "CH de Belle-Rive"
timezone = "Europe/Paris"
language = "fr"

[store]
directory = "{state}"

[repositories.nas]
type = "directory"
path = "{state}"
medium-kind = "disk"
failure-domain = "baie-2"

[applications.dpi]
name = "Dossier patient"
criticality = "C1"

[applications.dpi.backups.nightly]
repository = "nas"
select.pattern = "dpi-%Y%m%d.dump"
schedule = "0 22 * * *"
"""


def fill(store: SqlStore) -> None:
    for number in range(8):
        store.append([step(number)])
        if number % 3 == 0:
            store.seal()
    store.append([step(1, kind="pause.ended")])
    store.erase(2, 3, ["clock.stepped"], "durée de conservation", "uid/0")
    store.append([step(100)])
    store.seal()


def offline(directory: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "verify.py", *arguments],
        cwd=directory,
        check=False,
        capture_output=True,
        text=True,
    )


def checked(path: Path, **given: object) -> tuple[Standing, str | None, int | None]:
    with open_bundle(path) as bundle:
        found = verify(
            bundle.records(),
            bundle.seals(),
            store=bundle.store,
            keys=bundle.keys,
            head=bundle.head,
            pruned=tuple(prunings(bundle.records())),
            omitted=bundle.omitted,
            **given,
        )
    problem = found.problem
    return found.standing, problem and problem.code, problem and problem.seq


@pytest.fixture
def filled(store: SqlStore) -> SqlStore:
    fill(store)
    return store


def test_a_bundle_verifies_here_and_by_its_own_verifier(filled: SqlStore, tmp_path: Path) -> None:
    for name in ("bundle", "bundle.tar.gz"):
        assert write_bundle(filled, tmp_path / name) == filled.head()[0]
        assert checked(tmp_path / name)[0] is Standing.COHERENT
        assert (
            checked(tmp_path / name, trusted=[filled.key.fingerprint], anchors=[filled.anchor()])[0]
            is Standing.PROVED
        )
    anchors = tmp_path / "anchors.txt"
    anchors.write_text(anchor_line(filled.anchor()), encoding="utf-8")
    done = offline(tmp_path / "bundle")
    assert done.returncode == 2, done.stdout + done.stderr
    done = offline(
        tmp_path / "bundle", "--key", f"SHA256:{filled.key.fingerprint}", "--anchors", anchors
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PROVED" in done.stdout


_ALONE = """
import runpy, sys
sys.path[:0] = [sys.argv.pop(1)]
for name in ("backupguard", "pydantic", "sqlalchemy"):
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(f"{name} is here")
runpy.run_path("verify.py", run_name="__main__")
"""


def test_a_bundle_verifies_where_there_is_nothing_but_python_and_cryptography(
    store: SqlStore, tmp_path: Path
) -> None:
    fill(store)
    first = store.key.fingerprint
    store.rotate_key("départ", "uid/0")
    document = tmp_path / "report.html"
    document.write_text("<p>mars</p>", encoding="utf-8")
    data = {"month": "2026-03", "format": "html", "language": "fr", "bytes": 11}
    data["sha256"] = hashlib.sha256(document.read_bytes()).hexdigest()
    report = Observation(
        kind="report.issued", subject="site", observed_at=NOW, data=data, key="report"
    )
    (issued,) = store.append([report])
    store.seal()
    bundle = tmp_path / "bundle"
    documents = {"report.html": document, "others/x.pdf": document.with_name("x.pdf")}
    documents["others/x.pdf"].write_bytes(b"%PDF")
    write_bundle(store, bundle, since=NOW + timedelta(days=900), documents=documents)
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for name in ("cryptography", "_cffi_backend"):
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.origin is not None
        origin = Path(found.origin)
        origin = origin.parent if origin.name == "__init__.py" else origin
        (libraries / origin.name).symlink_to(origin)
    (tmp_path / "anchors").write_text(anchor_line(store.anchor()), encoding="utf-8")
    known = ("--key", first, "--anchors", str(tmp_path / "anchors"))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _ALONE, str(libraries), *known, str(bundle)],
        cwd=bundle,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PROVED" in done.stdout
    assert "hashes only" in done.stdout
    assert f"report.html: enregistrement / record {issued.seq}" in done.stdout
    assert "no record names it" in done.stdout


def test_records_in_a_bundle_are_the_exact_bytes(filled: SqlStore, tmp_path: Path) -> None:
    write_bundle(filled, tmp_path / "bundle")
    lines = (tmp_path / "bundle" / "records.jsonl").read_bytes().splitlines()
    assert lines[1] == b"null"
    assert lines == [record.body or b"null" for record in filled.records()]


def edit(name: str, change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        path = directory / name
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("".join(f"{line}\n" for line in change(lines)), encoding="utf-8")

    return apply


def both(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        edit("records.jsonl", change)(directory)
        edit("chain.tsv", change)(directory)

    return apply


@pytest.mark.parametrize(
    ("tamper", "code", "seq"),
    [
        (
            edit("records.jsonl", lambda lines: [x.replace(':5}', ':4}') for x in lines]),
            "body_changed",
            7,
        ),
        (both(lambda lines: lines[:5] + lines[6:]), "record_missing", 6),
        (both(lambda lines: lines[:6] + lines[5:]), "record_extra", 6),
        (both(lambda lines: lines[:11]), "tail_cut", 12),
        (edit("records.jsonl", lambda lines: [*lines, lines[-1]]), "record_extra", 12),
        (edit("records.jsonl", lambda lines: [*lines[:5], "null", *lines[6:]]), "body_removed", 6),
        (edit("seals.jsonl", lambda lines: [lines[0], *lines[2:]]), "seal_missing", 8),
        (edit("chain.tsv", lambda lines: [x.replace("pause.", "clock.") for x in lines]),
         "column_differs", 10),
    ],
)  # fmt: skip
def test_both_verifiers_see_what_was_done_to_a_bundle(
    filled: SqlStore, tmp_path: Path, tamper: Callable[[Path], None], code: str, seq: int
) -> None:
    bundle = tmp_path / "bundle"
    write_bundle(filled, bundle)
    tamper(bundle)
    assert checked(bundle) == (Standing.BROKEN, code, seq)
    done = offline(bundle)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout


def report(store: SqlStore) -> int:
    data = {"month": "2026-03", "format": "html", "language": "fr", "bytes": 1, "sha256": "ab" * 32}
    made = Observation(
        kind="report.issued", subject="site", observed_at=NOW, data=data, key="report"
    )
    return store.append([made])[0].seq


def test_a_slice_after_a_clock_that_was_set_back_is_proved_from_its_beginning_on(
    tmp_path: Path,
) -> None:
    clock = SetClock()
    store = open_store(tmp_path / "state", now=clock)
    store.append([step(1, kind="pause.ended")])
    clock.forward(hours=5)
    report(store)
    clock.forward(hours=-4)
    store.append([step(-4 * 3_600_000)])
    left_out = store.append([step(2, kind="pause.ended")])[0].seq
    store.seal()
    clock.forward(days=1)
    since = clock.time
    store.append([step(3, kind="pause.ended")])
    store.seal()
    bundle, anchors = tmp_path / "bundle", tmp_path / "anchors"
    write_bundle(store, bundle, since=since)
    given = {"trusted": [store.key.fingerprint], "anchors": [store.anchor()]}
    assert checked(bundle, **given) == (Standing.PROVED, None, None)
    anchors.write_text(anchor_line(store.anchor()), encoding="utf-8")
    done = offline(bundle, "--key", store.key.fingerprint, "--anchors", anchors)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"PROVED from {left_out + 1} on" in done.stdout
    store.close()


def test_one_record_that_was_taken_out_is_no_beginning_that_was_left_out(tmp_path: Path) -> None:
    store = open_store(tmp_path / "state")
    seqs = [store.append([step(n, kind="pause.ended")])[0].seq for n in range(4)]
    store.seal()
    bundle = tmp_path / "bundle"
    write_bundle(store, bundle)
    harm = seqs[2]
    edit("records.jsonl", lambda lines: [*lines[: harm - 1], "null", *lines[harm:]])(bundle)
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    manifest["bodies_from"] = harm + 1
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert checked(bundle) == (Standing.BROKEN, "slice_gap", seqs[0])
    done = offline(bundle)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no beginning" in done.stdout
    store.close()


def test_a_body_that_no_pruning_dropped_is_missed_whatever_kind_it_is_called(
    filled: SqlStore, tmp_path: Path
) -> None:
    filled.erase(1, filled.head()[0], ["clock.stepped"], "durée de conservation", "uid/0")
    bundle = tmp_path / "bundle"
    write_bundle(filled, bundle)
    assert checked(bundle)[0] is Standing.COHERENT
    assert offline(bundle).returncode == 2
    edit("records.jsonl", lambda lines: [*lines[:9], "null", *lines[10:]])(bundle)
    edit("chain.tsv", lambda lines: [x.replace("pause.ended", "clock.stepped") for x in lines])(
        bundle
    )
    standing, code, seq = checked(bundle)
    assert (standing, code, seq) == (Standing.BROKEN, "pruned_otherwise", filled.head()[0])
    assert offline(bundle).returncode == 1


def test_nobody_else_may_read_an_archive(filled: SqlStore, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_bundle(filled, tmp_path / "bundle.tar.gz")
    finally:
        os.umask(before)
    assert (tmp_path / "bundle.tar.gz").stat().st_mode & 0o777 == 0o600


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"no archive")
    (tmp_path / "empty").mkdir()
    for name in ("x.tar.gz", "empty"):
        with pytest.raises(EvidenceError), open_bundle(tmp_path / name):
            pass


def test_a_bundle_is_never_written_over(filled: SqlStore, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        write_bundle(filled, tmp_path)


# ------------------------------------------------------------------------------------ commands


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    state = tmp_path / "home"
    config = tmp_path / "backupguard.toml"
    config.write_text(SETTINGS.format(state=state), encoding="utf-8")
    store = open_store(state, site="CH de Belle-Rive")
    fill(store)
    store.close()

    def run(*arguments: str | Path) -> tuple[int, str]:
        capsys.readouterr()
        code = main(["--config", str(config), *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def test_verify_says_what_is_proved(
    command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, said = command("evidence", "verify")
    assert code == 2
    assert "Origine non prouvée" in said
    assert "Exhaustivité non prouvée" in said
    code, said = command("evidence", "show")
    fingerprint = said.split("SHA256:")[1].split()[0]
    (tmp_path / "anchors").write_text(said, encoding="utf-8")
    known = ("--key", fingerprint, "--anchors", tmp_path / "anchors")
    code, said = command("evidence", "verify", *known)
    assert (code, "PROUVÉ" in said) == (0, True)
    code, said = command("--language", "en", "evidence", "verify", "--key", "ab" * 32)
    assert (code, "another key" in said) == (1, True)
    code, said = command("evidence", "verify", "--json")
    assert json.loads(said)["standing"] == "coherent"
    bundle = tmp_path / "preuves.tar.gz"
    assert command("evidence", "export", "--output", bundle)[0] == 0
    assert command("evidence", "verify", bundle, *known)[0] == 0
    assert command("evidence", "export", "--output", bundle)[0] == 64
    part = ("--output", tmp_path / "part", "--since", "2999-01-01")
    assert command("evidence", "export", *part)[0] == 0
    code, said = command("--language", "en", "evidence", "verify", tmp_path / "part", *known)
    assert (code, "PROVED from record" in said, "PROVED:" in said) == (0, True, False)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("UPDATE facts SET body = replace(body, ':5}', ':6}') WHERE seq = 7", "contenu"),
        ("UPDATE facts SET subject = 'host/x' WHERE seq = 7", "subject"),
        ("DELETE FROM facts WHERE seq = 7", "enregistrement 7 manque"),
        ("DELETE FROM facts WHERE seq > 11", "enregistrement 12 et les suivants"),
        ("UPDATE facts SET body = NULL WHERE seq = 7", "retiré"),
        ("UPDATE seals SET signature = zeroblob(64) WHERE seq = 5", "sceau"),
        ("UPDATE chain_head SET seq = 9", "enregistrement 10 est en trop"),
    ],
)
def test_verify_names_what_was_done_to_the_store(
    command: Callable[..., tuple[int, str]], tmp_path: Path, sql: str, words: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "home" / "store.sqlite3")) as connection:
        # As bytes: SQLite's own replace() would make a text of it.
        connection.create_function(
            "replace", 3, lambda b, old, new: bytes(b).replace(old.encode(), new.encode())
        )
        assert connection.execute(sql).rowcount > 0
        connection.commit()
    code, said = command("evidence", "verify")
    assert (code, words in said) == (1, True), said


def test_a_damaged_store_is_reported_and_left_where_it_is(
    command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    file = tmp_path / "home" / "store.sqlite3"
    file.write_bytes(b"not a database" * 1000)
    assert command("evidence", "verify")[0] == 1
    assert file.read_bytes() == b"not a database" * 1000


def test_show_prints_a_record_by_number_or_key(command: Callable[..., tuple[int, str]]) -> None:
    code, said = command("evidence", "show", "4")
    assert code == 0
    record = json.loads(said)["record"]
    assert record["seq"] == 4
    assert json.loads(command("evidence", "show", record["key"])[1])["record"] == record
    assert command("evidence", "show", "4000")[0] == 64


def result(store: SqlStore, tables: dict[str, int] | None, key: str) -> None:
    fingerprint = {"tables": tables, "objects": {}, "columns": {}} if tables else None
    data = {
        "application": "dpi", "engine": "postgresql", "repository": "nas", "point": "p",
        "point_at": 1, "target_at": None, "verdict": "passed", "code": None, "level": 2,
        "phases": [], "checks": [], "checks_configured": 0, "baseline_accepted": False,
        "data_loss_ms": None, "freshness_heuristic_at": None, "bytes": 1, "duration_ms": 1,
        "fingerprint": fingerprint, "tools": {},
    }  # fmt: skip
    store.append(
        [
            Observation(
                kind="restore-test.result",
                subject="application/dpi",
                observed_at=NOW,
                data=data,
                key=key,
            )
        ]
    )


def test_a_baseline_is_accepted_shown_and_reset(
    command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    assert command("baseline", "accept", "dpi", "--reason", "mise en service")[0] == 2
    store = open_store(tmp_path / "home")
    result(store, {"public.séjours": 120}, "r/1")
    assert command("baseline", "accept", "nothing", "--reason", "x")[0] == 64
    assert command("baseline", "accept", "dpi", "--reason", "mise en service")[0] == 0
    (fact,) = store.facts(kinds=["baseline.accepted"])
    assert fact.observation.data["fingerprint"]["tables"] == {"public.séjours": 120}
    assert fact.author.startswith("uid/")
    assert fact.observation.origin == "attested"
    result(store, {"public.séjours": 90}, "r/2")
    code, said = command("baseline", "show", "dpi")
    assert code == 0
    assert "mise en service" in said
    assert "120" in said
    assert "90" in said
    assert command("baseline", "reset", "dpi", "--reason", "nouvelle version")[0] == 0
    assert json.loads(command("baseline", "show", "dpi", "--json")[1])["accepted"] is None
    assert command("baseline", "accept", "dpi", "--reason", "encore")[0] == 0
    assert len(list(store.facts(kinds=["baseline.accepted"]))) == 2
    store.close()
