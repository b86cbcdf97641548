from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, inspect, text
from structlog.testing import capture_logs

from backupguard.errors import Busy, EvidenceError, StoreError
from backupguard.evidence.records import sha256
from backupguard.evidence.verify import verify
from backupguard.model import Observation
from backupguard.runs import seal_or_tell
from backupguard.store import open_store
from backupguard.store.engine import (
    file_system,
    postgresql_engine,
    refuse_network_file_system,
    sqlite_engine,
)
from backupguard.store.keys import SigningKey
from backupguard.store.migrations import upgrade
from backupguard.store.schema import metadata
from backupguard.store.sql import SqlStore

from .conftest import SetClock
from .test_store_facts import step

pytestmark = pytest.mark.usefixtures("heard")

FILE = "store.sqlite3"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_nobody_else_may_read_what_is_remembered(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = open_store(tmp_path / "state")
        store.append([step(1)])
        store.daily_copy()
        with store.lock("x"):
            found = list((tmp_path / "state").rglob("*"))
    finally:
        os.umask(before)
    assert {path.name for path in found} >= {FILE, f"{FILE}-wal", "signing.pem", "x", "copies"}
    assert mode(tmp_path / "state") == 0o700
    assert {path.name: oct(mode(path)) for path in found} == {
        path.name: oct(0o700 if path.is_dir() else 0o600) for path in found
    }
    store.close()


def test_commits_are_on_the_disk_before_they_are_reported(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store._core.read() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    store.close()


MOUNTS = """\
25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 25 0:45 / {base} rw,relatime shared:9 - {kind} nas:/export rw
"""


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_a_network_file_system_is_refused(tmp_path: Path, kind: str) -> None:
    mounts = MOUNTS.format(base=tmp_path, kind=kind)
    with pytest.raises(StoreError) as caught:
        refuse_network_file_system(tmp_path / "state", mounts)
    assert caught.value.code == "network_filesystem"
    refuse_network_file_system(tmp_path.parent, mounts)
    refuse_network_file_system(tmp_path / "state", MOUNTS.format(base=tmp_path, kind="xfs"))


def test_the_mount_on_top_counts(tmp_path: Path) -> None:
    mounts = MOUNTS.format(base=tmp_path, kind="nfs4")
    mounts += f"41 40 0:46 / {tmp_path} rw - tmpfs tmpfs rw\n"
    assert file_system(tmp_path, mounts) == "tmpfs"


def test_a_store_of_a_newer_version_is_left_alone(opened: Callable[[], SqlStore]) -> None:
    store = opened()
    with store._core.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    with pytest.raises(StoreError) as caught:
        opened()
    assert caught.value.code == "newer_schema"


def indexed(index: Any) -> tuple[object, ...]:
    where = [f"{name}={value}" for name, value in index["dialect_options"].items()]
    return index["name"], tuple(index["column_names"]), bool(index["unique"]), tuple(sorted(where))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_migrations_lead_to_the_same_schema(
    kind: str, tmp_path: Path, database_url: Callable[[], str]
) -> None:
    def described(make: Callable[..., None], name: str) -> object:
        if kind == "sqlite":
            engine = sqlite_engine(tmp_path / name)
        else:
            engine = postgresql_engine(database_url())
        with engine.begin() as connection:
            make(connection)
        found = MetaData()
        with engine.connect() as connection:
            found.reflect(connection)
            looked = inspect(connection)
            tables = {
                table.name: (
                    sorted((c.name, str(c.type), c.nullable, c.primary_key) for c in table.columns),
                    sorted(indexed(index) for index in looked.get_indexes(table.name)),
                    sorted(repr(one) for one in looked.get_unique_constraints(table.name)),
                )
                for table in found.sorted_tables
            }
        engine.dispose()
        return tables

    assert described(metadata.create_all, "made") == described(upgrade, "migrated")


def test_an_older_store_is_migrated_when_opened(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path / FILE)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('0000')"))
    engine.dispose()
    with pytest.raises(Exception, match="0000"):  # Alembic was asked, and knows no such version
        open_store(tmp_path)


def test_opening_does_not_import_alembic_nor_cryptography(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    program = (
        "import sys; from pathlib import Path; from backupguard.store import open_store; "
        f"open_store(Path({str(tmp_path)!r})).head(); "
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'alembic', 'cryptography', 'psycopg'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert done.stdout == b"[]\n"


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    chance = random.Random(5)
    for start in range(4096, len(content), 4096):
        content[start : start + 600] = chance.randbytes(600)
    file.write_bytes(content)


DIES = """
import os, signal, sqlite3, sys
from pathlib import Path
from backupguard.model import Observation
from backupguard.store import open_store, utc_now

store = open_store(Path(sys.argv[1]))
store.append([
    Observation(
        kind="pause.ended", subject="site", observed_at=utc_now(), data={"reason": "x"}, key=str(n)
    )
    for n in range(300)
])
with sqlite3.connect(Path(sys.argv[1]) / "store.sqlite3") as connection:
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
os.kill(os.getpid(), signal.SIGKILL)
"""


def unclean(directory: Path) -> str:
    """Leave a store as a killed process does, with a WAL beside it; return its id."""
    done = subprocess.run([sys.executable, "-c", DIES, directory], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (directory / f"{FILE}-wal").stat().st_size > 0
    file = f"file:{directory / FILE}?mode=ro&immutable=1"
    with closing(sqlite3.connect(file, uri=True)) as connection:
        return connection.execute("SELECT store_id FROM chain_head").fetchone()[0]


def test_an_unclean_stop_loses_nothing(tmp_path: Path, clock: SetClock) -> None:
    before = unclean(tmp_path)
    store = open_store(tmp_path, now=clock)
    assert (store.store_id, store.head()[0]) == (before, 301)
    store.close()


def test_a_damaged_store_is_set_aside_and_the_new_one_says_so(
    tmp_path: Path, clock: SetClock
) -> None:
    before = unclean(tmp_path)
    (tmp_path / f"{FILE}-wal").write_bytes((tmp_path / f"{FILE}-wal").read_bytes()[:32])
    damage(tmp_path / FILE)
    digest = hashlib.sha256((tmp_path / FILE).read_bytes()).hexdigest()
    with pytest.raises(StoreError) as caught:
        open_store(tmp_path, now=clock, replace_corrupt=False)
    assert caught.value.code == "corrupt_store"
    store = open_store(tmp_path, now=clock)
    assert store.store_id != before
    replaced, key = store.facts()
    assert (replaced.seq, replaced.observation.kind) == (1, "store.replaced")
    assert key.observation.kind == "evidence.key-created"
    data = replaced.observation.data
    assert data["old_sha256"] == digest
    assert sha256((tmp_path / data["old_file"]).read_bytes()).hex() == digest
    store.append([step(1)])
    store.close()
    assert open_store(tmp_path, now=clock).head()[0] == 3


def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path, clock: SetClock) -> None:
    (tmp_path / FILE).write_bytes(b"not a database at all" * 500)
    store = open_store(tmp_path, now=clock)
    assert next(store.facts()).observation.data["last_anchored_seq"] is None
    store.close()


def test_the_last_anchored_head_of_a_damaged_store_is_named(
    tmp_path: Path, clock: SetClock
) -> None:
    store = open_store(tmp_path, now=clock)
    data = {"place": "syslog", "seq": 1, "hash": "ab" * 32, "receipt": None}
    store.append(
        [
            Observation(
                kind="evidence.anchored", subject="site", observed_at=clock(), data=data, key="a"
            )
        ]
    )
    store.close()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("DROP TABLE chain_head")  # no damage that SQLite would see
    (tmp_path / f"{FILE}.suspect").touch()
    with (tmp_path / FILE).open("ab") as file:
        file.write(b"\0" * 100)
    content = bytearray((tmp_path / FILE).read_bytes())
    content[28:32] = (len(content) // 4096 + 9).to_bytes(4)  # a size the file does not have
    (tmp_path / FILE).write_bytes(content)
    found = next(open_store(tmp_path, now=clock).facts()).observation
    assert found.kind == "store.replaced"


def test_a_damaged_store_in_use_is_not_replaced(tmp_path: Path, clock: SetClock) -> None:
    store = open_store(tmp_path, now=clock)
    store.append([step(number) for number in range(300)])
    store._core.engine.dispose()
    damage(tmp_path / FILE)
    with pytest.raises(StoreError) as caught:
        list(store.facts())
    assert caught.value.code == "corrupt_store"
    assert (tmp_path / f"{FILE}.suspect").exists()
    with pytest.raises(StoreError) as caught:
        open_store(tmp_path, now=clock).append([step(999)])
    assert caught.value.code == "corrupt_store"
    store.close()


def test_opened_twice_by_one_process_it_keeps_its_log(tmp_path: Path, clock: SetClock) -> None:
    first = open_store(tmp_path, now=clock)
    first.append([step(1)])
    open_store(tmp_path, now=clock).close()
    script = (
        "import sqlite3, sys; one = sqlite3.connect(sys.argv[1]); "
        "one.execute('select count(*) from facts').fetchall(); one.close()"
    )
    # another process that closes last, as it thinks, would take the log away
    subprocess.run([sys.executable, "-c", script, tmp_path / FILE], check=True)
    assert (tmp_path / f"{FILE}-wal").exists()
    first.append([step(2)])
    other = open_store(tmp_path, now=clock)
    assert other.head() == first.head()
    for store in (other, first):
        store.close()


def test_a_daily_copy_of_which_two_are_kept(tmp_path: Path, clock: SetClock) -> None:
    store = open_store(tmp_path, now=clock)
    for day in range(4):
        store.append([step(day)])
        made = store.daily_copy()
        assert made is not None
        assert store.daily_copy() is None
        clock.forward(days=1)
    kept = sorted(path.name for path in (tmp_path / "copies").iterdir())
    assert kept == ["store-2026-03-07.sqlite3", "store-2026-03-08.sqlite3"]
    store.close()
    (tmp_path / "again").mkdir()
    made.rename(tmp_path / "again" / FILE)
    assert open_store(tmp_path / "again", now=clock).head()[0] >= 5


FULL_DISK = """
import sys
from pathlib import Path
from backupguard.errors import StoreError
from backupguard.model import Observation
from backupguard.store import open_store, utc_now

store = open_store(Path(sys.argv[1]))
try:
    for number in range(10_000):
        data = {"until_at": None, "reason": "x" * 5000}
        store.append([Observation(
            kind="pause.started", subject="site", observed_at=utc_now(), data=data, key=str(number)
        )])
except StoreError as error:
    print(error.code, number > 10, store.head()[0] == number + 1)
"""


def test_a_full_disk_is_said_and_nothing_is_torn(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=2m none "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", tmp_path, sys.executable, FULL_DISK],
        check=True,
        capture_output=True,
    )
    assert done.stdout == b"full True True\n"


def test_a_directory_that_is_not_ours(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreError) as caught:
            open_store(tmp_path / "state")
    finally:
        tmp_path.chmod(0o700)
    assert caught.value.code == "unreadable"


def test_a_store_that_stays_locked_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backupguard.store.engine.BUSY_TIMEOUT_MS", 50)
    store = open_store(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Busy) as caught:
            store.append([step(1)])
        assert store.head()[0] == 1  # reading goes on
    assert caught.value.code == "store_busy"
    store.append([step(1)])
    store.close()


def test_a_postgresql_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(tmp_path, f"postgresql://nobody@/x?host={tmp_path}")
    assert caught.value.code == "unreadable"


def told(opened: SqlStore) -> EvidenceError:
    """Return what is said when the chain should be sealed and cannot."""
    with pytest.raises(EvidenceError) as caught:
        opened.seal()
    assert caught.value.code == "bad_key"
    assert caught.value.remedy is not None
    assert caught.value.remedy.id == "remedy.restore-keys"
    return caught.value


@pytest.mark.parametrize("found", ["none", "another"])
def test_a_lost_key_has_no_successor_and_seals_again_once_it_is_back(
    tmp_path: Path, found: str
) -> None:
    store = open_store(tmp_path / "state")
    store.seal()
    keys, safe = tmp_path / "state" / "keys", tmp_path / "safe"
    keys.rename(safe)
    if found == "another":
        open_store(tmp_path / "other").close()
        (tmp_path / "other" / "keys").rename(keys)
    before = sorted(keys.iterdir()) if keys.exists() else None
    again = open_store(tmp_path / "state")  # what only looks works on
    assert again.key == store.key
    assert again.head() == store.head()
    assert (sorted(keys.iterdir()) if keys.exists() else None) == before
    again.append([step(1)])
    for opened in (store, again):
        told(opened)
    with capture_logs() as logged:
        seal_or_tell(again)  # as daemon and runs do
    assert [entry["event"] for entry in logged] == ["evidence.not-sealed"]
    with pytest.raises((EvidenceError, StoreError)):
        again.rotate_key("trop tard", "uid/0")
    if found == "another":
        keys.rename(tmp_path / "foreign")
    safe.rename(keys)  # the backup of the host
    again.seal()
    proof = verify(again.records(), again.seals(), store=again.store_id, head=again.head())
    assert (proof.problem, proof.sealed_to) == (None, again.head()[0])
    store.close()
    again.close()


def test_a_key_that_another_program_says_was_created_signs_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path / "state")
    other = open_store(tmp_path / "other")
    (fact,) = other.facts()
    store.append([fact.observation])  # as versions did that found another key
    store.seal()
    again = open_store(tmp_path / "state")
    assert again.key == store.key
    proof = verify(again.records(), again.seals(), store=again.store_id, head=again.head())
    assert (proof.problem, proof.sealed_to) == (None, 2)
    for opened in (store, other, again):
        opened.close()


def test_two_rotations_at_once_lose_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, other = open_store(tmp_path), open_store(tmp_path)
    following, refused = SigningKey.next, []

    def between(key: SigningKey) -> object:
        made = following(key)
        if not refused:
            refused.append("meanwhile")
            with pytest.raises(Busy):
                other.rotate_key("en même temps", "uid/1001")
        return made

    monkeypatch.setattr(SigningKey, "next", between)
    store.rotate_key("départ", "uid/1000")
    assert refused
    other.rotate_key("après", "uid/1001")
    store.append([step(1)])
    store.seal()
    found = verify(store.records(), store.seals(), store=store.store_id, head=store.head())
    assert (found.problem, found.sealed_to) == (None, store.head()[0])
    store.close()
    other.close()


def test_a_rotation_after_one_that_was_killed_keeps_the_key_that_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    with monkeypatch.context() as patched:  # killed after the transaction, before the files
        patched.setattr("backupguard.store.sql.settled", lambda key, _public: key)
        store.rotate_key("essai", "uid/1000")
    store.rotate_key("encore", "uid/1000")
    store.append([step(1)])
    store.seal()
    found = verify(store.records(), store.seals(), store=store.store_id, head=store.head())
    assert (found.problem, len(found.fingerprints)) == (None, 3)
    store.close()


def test_a_key_hands_over_to_another_and_both_sign_it(tmp_path: Path) -> None:
    store, daemon = open_store(tmp_path), open_store(tmp_path)
    first = store.key
    store.append([step(1)])
    fact = store.rotate_key("départ de l’exploitant", "uid/1000")
    assert fact.observation.data["previous_fingerprint"] == first.fingerprint
    daemon.append([step(2)])
    daemon.seal()  # a process that had the store open all the while follows
    assert daemon.key == store.key != first
    for trusted in (first.fingerprint, store.key.fingerprint):
        found = verify(store.records(), store.seals(), store=store.store_id, trusted=[trusted])
        assert (found.problem, found.unproved) == (None, ("completeness",))
        assert found.fingerprints == (first.fingerprint, store.key.fingerprint)
    assert [path.name for path in sorted((tmp_path / "keys").iterdir())] == [
        "signing.pem",
        "signing.pub",
    ]
    store.close()
    daemon.close()


def test_a_rotation_that_was_killed_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    keys = tmp_path / "keys"
    old = (keys / "signing.pem").read_bytes()
    with monkeypatch.context() as patched:  # killed after the transaction, before the files
        patched.setattr("backupguard.store.sql.settled", lambda key, _identifier: key)
        store.rotate_key("essai", "uid/1000")
    assert (keys / "signing.pem").read_bytes() == old
    store.append([step(1)])
    store.seal()  # the new key is found beside the old one, and put into its place
    again = open_store(tmp_path)
    assert (keys / "signing.pem").read_bytes() != old
    assert not (keys / "signing-next.pem").exists()
    with monkeypatch.context() as patched:  # killed before the transaction
        patched.setattr("backupguard.store.sealing.rotation.payload", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            again.rotate_key("essai", "uid/1000")
    again.append([step(2)])
    again.seal()
    found = verify(again.records(), again.seals(), store=again.store_id, head=again.head())
    assert found.problem is None
    store.close()
    again.close()


def test_a_key_that_was_replaced_cannot_seal_any_more(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    old = (tmp_path / "keys" / "signing.pem").read_bytes()
    store.rotate_key("essai", "uid/1000")
    (tmp_path / "keys" / "signing.pem").write_bytes(old)  # an old copy of the directory came back
    (tmp_path / "keys" / "signing.pub").unlink()
    again = open_store(tmp_path)
    again.append([step(1)])
    with pytest.raises(EvidenceError):
        again.seal()
    store.close()
    again.close()
