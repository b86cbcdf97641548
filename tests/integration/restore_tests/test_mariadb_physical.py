"""Copies of whole MariaDB servers come back to life: clean ones pass, each broken one is named."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.model import Fingerprint, RestoreTestResult, Verdict
from backupguard.repositories.borg import BORG
from backupguard.repositories.restic import RESTIC
from backupguard.sandbox import SandboxLimits
from backupguard.testing import listing
from backupguard.testing.contexts import context as new_context
from restore_tests.breaking import break_artifact, harms_of
from restore_tests.mariadb_physical import MARIADB_PHYSICAL
from restore_tests.settings import MariadbSettings
from tests.integration.repositories import borg_maker, restic_maker
from tests.integration.restore_tests.harness import Trials
from tests.integration.restore_tests.mariabackup import Copies, stream
from tests.integration.restore_tests.test_mariadb import MANY, NEWEST, RECENT, accepted
from tests.mariadb import start_mariadb

CHAIN = ("full", "inc-1", "inc-2")
#: Code of the copy that must never run here.
HOSTILE = (
    "create table ran (what varchar(20))",
    "create trigger ran_t before insert on patients for each row insert into ran values ('trigger')",
    "create event ran_e on schedule every 1 second do insert into clinic.ran values ('event')",
    "create procedure ran_p() insert into ran values ('routine')",
    "create table legacy (id int primary key, label varchar(20)) engine=myisam",
    "insert into legacy values (1, 'a')",
)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copies]:
    """One server, copied again and again: each copy after the first holds what changed meanwhile."""
    directory = tmp_path_factory.mktemp("mariabackup")
    server = start_mariadb(directory / "data")
    try:
        made = Copies(server, directory)
        made.full("empty")
        made.fill(*HOSTILE)
        made.full("full")
        made.change("insert into letters (patient, body) select 1, 'Suite' from seq_1_to_40")
        made.incremental("inc-1", "full")
        made.change("insert into letters (patient, body) select 2, 'Suite' from seq_1_to_30")
        made.incremental("inc-2", "inc-1")
        stream(server, directory / "clinic.mbstream")
        made.change("drop table letters", "update patients set seen_at = seen_at - interval 40 day")
        made.incremental("lost", "full")
        yield made
    finally:
        server.stop()


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Trials:
    return Trials(
        tmp_path_factory.mktemp("trials"), engines={MARIADB_PHYSICAL.name: MARIADB_PHYSICAL}
    )


def settings(*checks: dict[str, Any], **values: Any) -> MariadbSettings:
    return MariadbSettings.model_validate(
        {"engine": "mariadb-physical", "memory": "600MB", "checks": checks, **values}
    )


def restored(trials: Trials, path: Path, **plan: Any) -> RestoreTestResult:
    plan.setdefault("settings", settings())
    return trials.restore(path, **plan)


def judged(result: RestoreTestResult) -> tuple[Verdict, str | None]:
    return result.verdict, result.code


@pytest.fixture(scope="module")
def shape(copies: Copies, trials: Trials, tmp_path_factory: pytest.TempPathFactory) -> Fingerprint:
    """The shape of the full copy with both of its incrementals."""
    result = restored(trials, copies.tree(tmp_path_factory.mktemp("chain") / "all", CHAIN))
    assert judged(result) == (Verdict.PASSED, None), result
    assert result.fingerprint is not None
    return result.fingerprint


def test_a_full_copy_proves_its_content(trials: Trials, copies: Copies, shape: Fingerprint) -> None:
    assert shape.tables["clinic.letters"] == 970
    assert shape.tables["clinic.ran"] == 0, "nothing of the copy's own ran"
    wanted = {"view": 1, "routine": 2, "trigger": 2, "event": 2}
    assert {kind: shape.objects[kind] for kind in wanted} == wanted
    result = restored(
        trials, copies["full"], settings=settings(RECENT, MANY), baseline=accepted(shape)
    )
    assert judged(result) == (Verdict.PASSED, None), result
    assert result.level == 3
    assert result.data_loss_ms == 31 * 60 * 1000
    assert result.freshness_heuristic == NEWEST - timedelta(minutes=1)
    assert {check.code for check in result.checks} == {"ok"}
    told = repr((result, trials.facts)).encode() + trials.traces
    assert b"ZZSECRETZZ" not in told


def test_a_compressed_stream_and_one_that_was_cut(
    trials: Trials, copies: Copies, tmp_path: Path
) -> None:
    content = copies["clinic.mbstream"].read_bytes()
    packed = tmp_path / "clinic.mbstream.gz"
    packed.write_bytes(gzip.compress(content, 1))
    result = restored(trials, packed)
    assert judged(result) == (Verdict.PASSED, None), result
    packed.write_bytes(packed.read_bytes()[:-500])
    assert judged(restored(trials, packed)) == (Verdict.FAILED, "truncated")
    plain = tmp_path / "clinic.mbstream"
    plain.write_bytes(content[: len(content) // 2])
    assert judged(restored(trials, plain)) == (Verdict.FAILED, "truncated")
    plain.write_bytes(flipped(content, 0.3))
    assert judged(restored(trials, plain)) == (Verdict.FAILED, "corrupt")


def flipped(content: bytes, share: float) -> bytes:
    changed = bytearray(content)
    changed[int(len(content) * share)] ^= 1
    return bytes(changed)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def say(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def another_base(tree: Path) -> None:
    shutil.rmtree(tree / "full")
    (tree / "empty").rename(tree / "full")


PAGE = 16384
INFO, CHECKPOINTS = "xtrabackup_info", "xtrabackup_checkpoints"
SABOTAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit of a table": (lambda p: flip(p / "clinic/patients.ibd", 3 * PAGE + 500), "corrupt"),
    "a bit of the system's": (lambda p: flip(p / "ibdata1", 300 * PAGE + 9), "corrupt"),
    "a table cut at a page": (
        lambda p: os.truncate(p / "clinic/patients.ibd", 4 * PAGE),
        "truncated",
    ),
    "a table cut in a page": (
        lambda p: os.truncate(p / "clinic/patients.ibd", 4 * PAGE + 99),
        "truncated",
    ),
    "a table gone": (lambda p: (p / "clinic/patients.ibd").unlink(), "corrupt"),
    "a table of another engine": (
        lambda p: os.truncate(p / "clinic/codes.MAD", 0),
        "corrupt",
    ),
    "the log gone": (lambda p: (p / "ib_logfile0").unlink(), "missing_object"),
    "the log empty": (lambda p: os.truncate(p / "ib_logfile0", 0), "truncated"),
    "a bit of the log": (lambda p: flip(p / "ib_logfile0", 12300), "corrupt"),
    "never finished": (lambda p: (p / CHECKPOINTS).unlink(), "truncated"),
}
CHAINS: dict[str, tuple[Callable[[Path], object], str]] = {
    "an increment's log gone": (lambda p: (p / "inc-1/ib_logfile0").unlink(), "missing_object"),
    "what changed was cut": (
        lambda p: os.truncate(p / "inc-1/clinic/letters.ibd.delta", 20000),
        "truncated",
    ),
    "the base gone": (lambda p: shutil.rmtree(p / "full"), "base_missing"),
    "one in the middle gone": (lambda p: shutil.rmtree(p / "inc-1"), "base_missing"),
    "another base": (another_base, "base_missing"),
}


@pytest.mark.parametrize("what", SABOTAGE)
def test_damage_is_named(trials: Trials, copies: Copies, tmp_path: Path, what: str) -> None:
    change, code = SABOTAGE[what]
    copy = Path(shutil.copytree(copies["full"], tmp_path / "full"))
    change(copy)
    result = restored(trials, copy)
    assert judged(result) == (Verdict.FAILED, code), result


@pytest.mark.parametrize("what", CHAINS)
def test_a_broken_chain_is_named(trials: Trials, copies: Copies, tmp_path: Path, what: str) -> None:
    change, code = CHAINS[what]
    names = (*CHAIN, "empty") if what == "another base" else CHAIN
    tree = copies.tree(tmp_path / "all", names)
    change(tree)
    result = restored(trials, tree)
    assert judged(result) == (Verdict.FAILED, code), result


def test_what_was_lost_before_the_copy_is_named(
    trials: Trials, copies: Copies, shape: Fingerprint, tmp_path: Path
) -> None:
    tree = copies.tree(tmp_path / "all", ("full", "lost"))
    result = restored(trials, tree, settings=settings(RECENT), baseline=accepted(shape))
    assert result.verdict is Verdict.FAILED, result
    assert {"tables_lost", "stale_data"} <= {check.code for check in result.checks}


def test_a_server_without_anything_of_the_sites(trials: Trials, copies: Copies) -> None:
    assert judged(restored(trials, copies["empty"])) == (Verdict.FAILED, "empty")


OURS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a newer server": (
        lambda p: say(p / INFO, "version = 10.", "version = 99."),
        "version_unsupported",
    ),
    "mysql": (
        lambda p: (p / INFO).write_text("tool_version = 8.0.35-30\nserver_version = 8.0.35-27\n"),
        "version_unsupported",
    ),
    "qpress": (
        lambda p: say(p / INFO, "compressed = N", "compressed = compressed"),
        "version_unsupported",
    ),
    "a part": (lambda p: say(p / INFO, "partial = N", "partial = Y"), "partial_copy"),
    "encrypted": (
        lambda p: say(p / "backup-my.cnf", "[mysqld]", "[mysqld]\ninnodb_encrypt_log=1"),
        "tables_encrypted",
    ),
}


@pytest.mark.parametrize("what", OURS)
def test_what_this_host_cannot_open_accuses_nobody(
    trials: Trials, copies: Copies, tmp_path: Path, what: str
) -> None:
    change, code = OURS[what]
    copy = Path(shutil.copytree(copies["full"], tmp_path / "full"))
    change(copy)
    assert judged(restored(trials, copy)) == (Verdict.COULD_NOT_VERIFY, code)


def test_an_increment_streamed_alone_accuses_nobody(
    trials: Trials, copies: Copies, tmp_path: Path
) -> None:
    path = tmp_path / "inc.mbstream"
    files = [str(one.relative_to(copies["inc-1"])) for one in copies["inc-1"].rglob("*")]
    with path.open("wb") as file:
        argv = ["mbstream", "-c", *(one for one in files if (copies["inc-1"] / one).is_file())]
        subprocess.run(argv, check=True, stdout=file, cwd=copies["inc-1"])
    assert judged(restored(trials, path)) == (Verdict.COULD_NOT_VERIFY, "base_elsewhere")


def test_a_full_place_accuses_nobody(copies: Copies, tmp_path: Path) -> None:
    limits = SandboxLimits(reserve_percent=1, disk_bytes=30_000_000)
    small = Trials(tmp_path, engines={MARIADB_PHYSICAL.name: MARIADB_PHYSICAL}, limits=limits)
    result = restored(small, copies["clinic.mbstream"])
    assert result.verdict is Verdict.COULD_NOT_VERIFY, result


def test_settings_and_links_of_the_copy_do_nothing(
    trials: Trials, copies: Copies, shape: Fingerprint, tmp_path: Path
) -> None:
    copy = copies.tree(tmp_path / "all", CHAIN)
    for one in copy.iterdir():
        with (one / "backup-my.cnf").open("a", encoding="ascii") as file:
            file.write("plugin_load=evil=evil.so\nplugin_dir=/scratch/backups/0\n")
            file.write("init_file=/scratch/backups/0/run.sql\nevent_scheduler=ON\n")
        (one / "run.sql").write_text("drop table clinic.letters;")
        (one / "evil.so").write_bytes(b"\x7fELF")
        (one / "clinic" / "passwd.ibd").symlink_to("/etc/passwd")
        (one / "sys.isl").write_text("/etc/passwd")
    result = restored(trials, copy, baseline=accepted(shape))
    assert judged(result) == (Verdict.PASSED, None), result
    assert result.fingerprint == shape


def test_the_self_test_breaks_what_is_looked_at(
    trials: Trials, copies: Copies, tmp_path: Path
) -> None:
    tree = copies.tree(tmp_path / "all", ("full", "inc-1"))
    (harm,) = harms_of(MARIADB_PHYSICAL.name, tree)
    break_artifact(tree, harm)
    assert restored(trials, tree).verdict is Verdict.FAILED


def test_an_unfinished_copy_beside_a_sound_one_is_told(
    trials: Trials, copies: Copies, shape: Fingerprint, tmp_path: Path
) -> None:
    tree = copies.tree(tmp_path / "all", ("full", "inc-1", "lost"))
    for name in (CHECKPOINTS, INFO):
        (tree / "lost" / name).unlink()
    result = restored(trials, tree, baseline=accepted(shape))
    assert result.verdict is Verdict.PASSED, result
    said = {check.code for check in result.checks if check.code != "ok"}
    assert said == {"warning_unfinished_copy"}


@pytest.mark.parametrize("tool", ["restic", "borg"])
def test_a_chain_comes_back_from_a_real_repository(
    copies: Copies, shape: Fingerprint, tmp_path: Path, tool: str
) -> None:
    kind: Any
    if tool == "restic":
        kind, made = RESTIC, restic_maker.make(tmp_path / "r", "0.18")
    else:
        kind, made = BORG, borg_maker.make(tmp_path / "r", "1.2")
    tree = copies.tree(made.source / "mariadb", CHAIN)
    if isinstance(made, restic_maker.Restic):
        made.backup(tree)
        job = made.selector(tree)
    else:
        made.create("dpi-1", tree)
        job = borg_maker.job(tree)
    before = listing(made.root)
    now = datetime.now(UTC) + timedelta(minutes=1)
    trials = Trials(tmp_path / "trials", engines={MARIADB_PHYSICAL.name: MARIADB_PHYSICAL}, now=now)
    with kind.open("nas", made.settings(), new_context(tmp_path / "context")) as repository:
        result = trials.perform(
            repository,
            settings=settings(MANY),
            selectors={"nas": (job,)},
            baseline=accepted(shape),
        )
    assert judged(result) == (Verdict.PASSED, None), result
    assert (result.level, result.fingerprint) == (3, shape)
    assert {tool, "mariadb"} <= result.tools.keys()
    assert listing(made.root) == before
