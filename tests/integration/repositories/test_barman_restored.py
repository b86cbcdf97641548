"""What Barman keeps comes back to life in the sandbox, and what it lost is told."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backupguard.contracts import FetchRequest
from backupguard.errors import AccessRefused, BackupDefect, BackupGuardError, MissingMeans
from backupguard.model import RestoreTestResult, Verdict
from backupguard.repositories.barman import BARMAN
from backupguard.repositories.barman_log import bring
from backupguard.testing import TestContext
from backupguard.testing.trees import listing
from restore_tests.postgresql_physical import POSTGRESQL_PHYSICAL
from restore_tests.settings import PostgresqlPhysicalSettings
from tests.integration.repositories.barman_maker import Barman, copy_by_rsync, selector
from tests.integration.repositories.servers import sshd_in
from tests.integration.restore_tests.harness import Trials

PASSED = (Verdict.PASSED, None)


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    return Trials(
        tmp_path, engines={"postgresql-physical": POSTGRESQL_PHYSICAL}, now=datetime.now(UTC)
    )


@pytest.fixture
def broken(barman: Barman, tmp_path: Path) -> Path:
    return barman.copy(tmp_path / "broken")


def restored(
    trials: Trials,
    barman: Barman,
    here: TestContext,
    home: Path | None = None,
    *,
    server: str = "dpi",
    rows: int = 2,
    **plan: Any,
) -> RestoreTestResult:
    check = {"name": "séjours", "sql": "select count(*) from stays", "equals": rows}
    settings = {"engine": "postgresql-physical", "memory": 600_000_000, "checks": [check]}
    with BARMAN.open("bm", barman.settings(home), here) as repository:
        return trials.perform(
            repository,
            settings=PostgresqlPhysicalSettings.model_validate(settings),
            selectors={"nas": (selector(server),)},
            **plan,
        )


def judged(result: RestoreTestResult) -> tuple[Verdict, str | None]:
    return result.verdict, result.code


def failed(code: str) -> tuple[Verdict, str]:
    return Verdict.FAILED, code


def mark(barman: Barman) -> datetime:
    return datetime.fromisoformat(barman.mark.read_text())


# ---- what is sound


@pytest.mark.parametrize(("server", "rows"), [("dpi", 2), ("tgz", 6)], ids=["plain", "tars"])
def test_both_kinds_open_with_tablespace_and_log(
    trials: Trials, barman: Barman, here: TestContext, server: str, rows: int
) -> None:
    before = listing(barman.home)
    result = restored(trials, barman, here, server=server, rows=rows)
    assert judged(result) == PASSED, result
    assert listing(barman.home) == before
    assert result.fingerprint is not None
    assert result.fingerprint.tables["public.labs"] == 500
    found = {check.name: check.code for check in result.checks}
    assert (found["manifest"], found["recovery"]) == ("ok", "ok")


def test_a_chosen_time(trials: Trials, barman: Barman, here: TestContext) -> None:
    result = restored(trials, barman, here, at=mark(barman), rows=5)
    assert judged(result) == PASSED, result
    (recovery,) = [check for check in result.checks if check.name == "recovery"]
    assert recovery.code == "ok"
    assert recovery.times["replayed"] <= mark(barman)


@pytest.fixture(scope="module")
def copied(barman: Barman, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    with sshd_in(tmp_path_factory.mktemp("ssh")) as (port, key, known):
        return copy_by_rsync(barman, port, key, known)


def test_copies_by_rsync_open_linked_or_not(
    trials: Trials, barman: Barman, copied: list[str], here: TestContext, tmp_path: Path
) -> None:
    rows = int(barman.sql("select count(*) from stays"))
    before = listing(barman.home)
    for number, point in enumerate(copied):
        result = restored(
            trials, barman, here, server="copied", point=point, rows=rows - len(copied) + number
        )
        assert judged(result) == PASSED, result
        assert result.fingerprint is not None
        assert result.fingerprint.tables["public.labs"] == 500  # in a tablespace
        found = {check.name: check.code for check in result.checks}
        assert (found["manifest"], found["recovery"]) == ("warning_no_manifest", "ok")
    assert listing(barman.home) == before
    broken = barman.copy(tmp_path / "broken")
    path = heap(barman.base("copied", broken))
    path.write_bytes(path.read_bytes()[:-5000])
    result = restored(trials, barman, here, broken, server="copied", point=copied[-1])
    assert result.verdict is Verdict.FAILED, result
    shutil.rmtree(tablespace(barman.base("copied", broken)))  # nothing in the data names it
    result = restored(trials, barman, here, broken, server="copied", point=copied[-1])
    assert judged(result) == failed("missing_object"), result


# ---- what is not


def heap(base: Path) -> Path:
    """Return a file of a backup that PostgreSQL made of a table."""
    return max((base / "data" / "base").glob("*/*"), key=lambda path: path.stat().st_size)


def tablespace(base: Path) -> Path:
    (found,) = [path for path in base.iterdir() if path.name.isdecimal()]
    return found


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda base: heap(base).unlink(), "missing_object"),
        (lambda base: _flip(heap(base)), "corrupt"),
        (lambda base: shutil.rmtree(tablespace(base)), "missing_object"),
        (lambda base: (base / "data" / "backup_label").unlink(), "missing_object"),
        (lambda base: shutil.rmtree(base / "data"), "missing_object"),
    ],
    ids=["a file gone", "a flipped bit", "a tablespace gone", "the label gone", "nothing left"],
)
def test_a_damaged_base(
    trials: Trials, barman: Barman, here: TestContext, broken: Path,
    damage: Callable[[Path], object], code: str,
) -> None:  # fmt: skip
    damage(barman.base("dpi", broken))
    point = barman.base("dpi", broken).name
    result = restored(trials, barman, here, broken, point=point)
    assert judged(result) == failed(code), result


def test_a_tar_cut_short(trials: Trials, barman: Barman, here: TestContext, broken: Path) -> None:
    path = barman.base("tgz", broken) / "data" / "base.tar.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert judged(restored(trials, barman, here, broken, server="tgz")) == failed("truncated")


def fetched(barman: Barman, here: TestContext, home: Path, into: Path, **request: Any) -> Path:
    into.mkdir()
    with BARMAN.open("bm", barman.settings(home), here) as repository:
        point = max(repository.points([selector()]), key=lambda one: one.at)
        asked = FetchRequest(point=point, selector=selector(), **request)
        return into / repository.fetch(asked, into).artifact


def refusal(barman: Barman, here: TestContext, home: Path, into: Path, **request: Any) -> str:
    with pytest.raises(BackupGuardError) as caught:
        fetched(barman, here, home, into, **request)
    assert isinstance(caught.value, BackupDefect)
    return caught.value.code


def test_log_that_is_missing_or_damaged(
    barman: Barman, here: TestContext, broken: Path, tmp_path: Path
) -> None:
    at = mark(barman)
    segments = barman.segments(broken)
    names = sorted(segments)
    sound = fetched(barman, here, broken, tmp_path / "a", at=at)
    brought = sorted(path.name for path in (sound / "wal").iterdir() if len(path.name) == 24)
    assert set(brought) <= set(names)
    assert {(sound / "wal" / name).stat().st_size for name in brought} == {16 << 20}
    middle = segments[brought[1]]
    kept, stamp = middle.read_bytes(), middle.stat()
    _flip(middle)
    assert refusal(barman, here, broken, tmp_path / "b", at=at) == "corrupt"
    middle.write_bytes(kept[: len(kept) // 2])
    assert refusal(barman, here, broken, tmp_path / "c", at=at) == "corrupt"
    middle.unlink()
    assert refusal(barman, here, broken, tmp_path / "d", at=at) == "wal_gap"
    middle.write_bytes(kept)
    shutil.copystat(barman.segments()[middle.name], middle)
    assert middle.stat().st_size == stamp.st_size
    segments[brought[0]].unlink()  # the backup's own
    assert refusal(barman, here, broken, tmp_path / "e") == "wal_gap"


def test_log_that_went_on_from_before_the_backup_is_of_no_use(
    barman: Barman, here: TestContext, broken: Path, tmp_path: Path
) -> None:
    segments = barman.segments(broken)
    info = (barman.base("dpi", broken) / "backup.info").read_text()
    (stop,) = [line[8:] for line in info.splitlines() if line.startswith("end_wal=")]
    later = broken / "dpi" / "wals" / "0000000200000000"
    later.mkdir()
    for name in sorted(segments):
        if name > stop:
            segments[name].rename(later / f"00000002{name[8:]}")
    history = broken / "dpi" / "wals" / "00000002.history"
    fork = int(stop[16:], 16) + 1
    history.write_bytes(gzip.compress(f"1\t0/{fork << 24:X}\tno reason\n".encode()))
    at = mark(barman)
    place = fetched(barman, here, broken, tmp_path / "a", at=at)  # the twin: it leads on
    assert (place / "wal" / "00000002.history").read_text().startswith("1\t0/")
    history.write_bytes(gzip.compress(b"1\t0/1000000\tno reason\n"))
    assert refusal(barman, here, broken, tmp_path / "b", at=at) in {"no_point", "wal_gap"}


@pytest.mark.parametrize(
    ("old", "new"),
    [("mode=postgres", "mode=snapshot"), ("size=", "parent_backup_id=20200101T000000\nsize=")],
    ids=["lies in the cloud", "incremental"],
)
def test_what_cannot_be_had_here_accuses_nobody(
    barman: Barman, here: TestContext, broken: Path, tmp_path: Path, old: str, new: str
) -> None:
    path = barman.base("dpi", broken) / "backup.info"
    path.write_text(path.read_text().replace(f"\n{old}", f"\n{new}"))
    with pytest.raises(MissingMeans) as caught:
        fetched(barman, here, broken, tmp_path / "a")
    assert caught.value.code == "not_fetchable"


def test_what_may_not_be_read_accuses_nobody(
    barman: Barman, here: TestContext, broken: Path, tmp_path: Path
) -> None:
    path = heap(barman.base("dpi", broken))
    path.chmod(0)
    with pytest.raises(AccessRefused):
        fetched(barman, here, broken, tmp_path / "a")
    path.chmod(0o600)
    barman.segments(broken)[max(barman.segments(broken))].chmod(0)
    with pytest.raises(AccessRefused):
        fetched(barman, here, broken, tmp_path / "b", at=mark(barman))


# ---- segments


SIZE = 1 << 16
BARE = b"\x10\xd1" + bytes(range(256)) * (SIZE // 256 - 1) + bytes(254)


def by(program: str) -> Callable[[bytes], bytes]:
    return lambda content: (
        subprocess.run([program, "-c"], input=content, capture_output=True, check=True).stdout
    )


PACKED = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress,
          "zstd": by("zstd"), "lz4": by("lz4"), "None": bytes}  # fmt: skip


@pytest.mark.parametrize("kind", PACKED)
def test_every_compression_is_opened_and_its_damage_told(
    here: TestContext, tmp_path: Path, kind: str
) -> None:
    path, content = tmp_path / "000000010000000000000007", PACKED[kind](BARE)
    path.write_bytes(content)
    bring(here, "bm", path, tmp_path / "a", SIZE, kind)
    assert (tmp_path / "a").read_bytes() == BARE
    path.write_bytes(content[:-9])
    with pytest.raises(BackupDefect):
        bring(here, "bm", path, tmp_path / "b", SIZE, kind)
    path.write_bytes(PACKED[kind](BARE + BARE))
    with pytest.raises(BackupDefect):
        bring(here, "bm", path, tmp_path / "c", SIZE, kind)


def test_a_packing_of_the_sites_own_accuses_nobody(here: TestContext, tmp_path: Path) -> None:
    path = tmp_path / "000000010000000000000007"
    path.write_bytes(b"\x85\x02" + bytes(500))
    with pytest.raises(MissingMeans):
        bring(here, "bm", path, tmp_path / "a", SIZE, "custom")
    with pytest.raises(BackupDefect):  # of a kind that is known, and does not begin like it
        bring(here, "bm", path, tmp_path / "b", SIZE, "gzip")
