from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from backupguard.contracts import Sample, SampledFile
from backupguard.errors import BackupDefect, MissingMeans
from backupguard.testing.engines import EngineCase, EngineContract, sample_of
from restore_tests.mariadb_physical import MARIADB_PHYSICAL
from restore_tests.mariadb_physical_chain import Backup, chain, read
from restore_tests.mariadb_physical_prepare import concluded

STREAM = b"XBSTCK01\x00P\x05\x00\x00\x00a.ibd" + bytes(40)
INFO = b"tool_version = 10.11.19-MariaDB\nserver_version = 10.11.19-MariaDB-0+deb12u1\n"
CNF = b"[mysqld]\ninnodb_page_size=16384\n"


def tree(**files: bytes) -> Sample:
    found = tuple(
        SampledFile(path=PurePosixPath(name), size=len(head), head=head, tail=head)
        for name, head in files.items()
    )
    return Sample(artifact=PurePosixPath("b"), is_directory=True, files=found, total_bytes=9)


class TestMariadbPhysical(EngineContract):
    @pytest.fixture
    def case(self) -> EngineCase:
        return EngineCase(
            engine=MARIADB_PHYSICAL,
            own={
                "full": tree(xtrabackup_checkpoints=b"", xtrabackup_info=INFO),
                "of 11": tree(**{"a/mariadb_backup_info": INFO, "b/mariadb_backup_info": INFO}),
                "stream": sample_of(STREAM),
                "streams": tree(**{"full.mb": STREAM, "inc.mb": STREAM}),
                "broken off": tree(**{"backup-my.cnf": CNF, "ibdata1": b"x"}),
            },
            others={
                "dump": sample_of(b"-- MariaDB dump 10.19\n"),
                "one file": sample_of(INFO, "xtrabackup_info"),
                "a server's directory": tree(ibdata1=b"x", ib_logfile0=b"x"),
                "settings": tree(**{"backup-my.cnf": CNF}),
            },
        )


def test_version_and_maker_are_those_of_the_newest() -> None:
    older = INFO.replace(b"10.11.19-MariaDB-0", b"10.6.2-MariaDB")
    match = MARIADB_PHYSICAL.recognise(
        tree(**{"full/xtrabackup_info": older, "inc/xtrabackup_info": INFO})
    )
    assert match is not None
    assert (match.version, match.extra["maker"]) == ("10.11", "MariaDB")


def test_mysql_is_told() -> None:
    match = MARIADB_PHYSICAL.recognise(tree(xtrabackup_info=b"server_version = 8.0.35-27\n"))
    assert match is not None
    with pytest.raises(MissingMeans) as caught:
        MARIADB_PHYSICAL.requirements(match, 9)
    assert caught.value.code == "version_unsupported"


def test_streams_beside_directories_are_not_guessed_between() -> None:
    with pytest.raises(MissingMeans) as caught:
        MARIADB_PHYSICAL.recognise(tree(**{"xtrabackup_info": INFO, "x.mb": STREAM}))
    assert caught.value.code == "ambiguous_artifact"


# ---- what a backup says of itself


def test_only_what_the_files_need_is_taken_from_the_sources_settings() -> None:
    asked = (
        b"[mysqld]\ninnodb_page_size=16384\ninnodb_data_file_path=ibdata1:12M;ib2:9M:autoextend\n"
        b"innodb_undo_tablespaces=3\ninnodb_checksum_algorithm=full_crc32\nplugin_load=evil.so\n"
        b"init_file=/x\ninnodb_undo_directory=/etc\ndatadir=/etc\n"
    )
    assert read(0, b"", INFO, asked).options == {
        "innodb_page_size": "16384",
        "innodb_data_file_path": "ibdata1:12M;ib2:9M:autoextend",
        "innodb_undo_tablespaces": "3",
        "innodb_checksum_algorithm": "full_crc32",
    }


@pytest.mark.parametrize("path", ["../ibdata1:12M", "/etc/passwd:1M", "ibdata1", "ibdata1:12M;x"])
def test_a_place_elsewhere_is_not_taken(path: str) -> None:
    asked = f"innodb_data_file_path={path}\n".encode()
    assert not read(0, b"", INFO, asked).options


@pytest.mark.parametrize(
    ("asked", "encrypted"),
    [
        (b"plugin_load=file_key_management=file_key_management", True),
        (b"innodb_encrypt_tables=FORCE", True),
        (b"innodb_encrypt_log=0\ninnodb_encrypt_tables=OFF", False),
        (b"plugin_load=evil=evil.so", False),
    ],
    ids=["key plug-in", "tables", "off", "another plug-in"],
)
def test_encryption_is_seen(asked: bytes, encrypted: bool) -> None:
    assert read(0, b"", INFO, asked).encrypted is encrypted


def test_words_that_are_no_numbers_are_none() -> None:
    one = read(0, b"backup_type = full-backuped\nto_lsn = many\nlast_lsn = -3\n", b"", b"")
    assert (one.finished, one.to_lsn, one.last_lsn, one.version) == (True, 0, 0, None)


# ---- chains


def backup(number: int, begins: int | None, to: int, last: int = 0, **values: object) -> Backup:
    given: dict[str, object] = {
        "number": number,
        "finished": True,
        "incremental": begins is not None,
        "from_lsn": begins or 0,
        "to_lsn": to,
        "last_lsn": last or to,
        "ended": f"2026-11-22 0{number}:00:00",
        **values,
    }
    return Backup(**given)  # type: ignore[arg-type]


def numbers(*backups: Backup) -> list[int]:
    return [one.number for one in chain(backups)]


def test_the_newest_comes_with_all_it_needs() -> None:
    full, one, two = backup(0, None, 10), backup(1, 10, 20), backup(2, 20, 30)
    assert numbers(two, full, one) == [0, 1, 2]
    assert numbers(full, one, two, backup(3, None, 40)) == [3]
    assert numbers(full, one, backup(2, 10, 30)) == [0, 2], "two upon one base"


def test_where_nothing_was_written_the_full_one_serves() -> None:
    assert numbers(backup(0, None, 10), backup(1, 10, 10), backup(2, 10, 10)) == [0, 2]


@pytest.mark.parametrize(
    "backups",
    [
        (backup(1, 10, 20),),
        (backup(0, None, 10), backup(2, 20, 30)),
        (backup(0, None, 11), backup(1, 10, 20)),
        (backup(0, None, 10, finished=False), backup(1, 10, 20)),
        (backup(1, 10, 10), backup(2, 10, 10)),
    ],
    ids=["alone", "one skipped", "another base", "unfinished base", "each other's"],
)
def test_a_chain_without_its_beginning(backups: tuple[Backup, ...]) -> None:
    with pytest.raises(BackupDefect) as caught:
        chain(backups)
    assert caught.value.code == "base_missing"
    with pytest.raises(MissingMeans) as other:
        chain(backups, whole=False)
    assert other.value.code == "base_elsewhere"


def test_backups_of_several_servers_are_not_guessed_between() -> None:
    with pytest.raises(MissingMeans) as caught:
        chain([backup(0, None, 900), backup(1, None, 10)])
    assert caught.value.code == "ambiguous_artifact"


# ---- what mariadb-backup says


@pytest.mark.parametrize(
    ("said", "code", "defect"),
    [
        ("word done\nended 30\nstatus 0", None, False),
        ("word done\nended 29\nstatus 0", "truncated", True),
        ("word done\nended 30\nstatus 137", "unknown_exit", False),
        ("ended 30\nstatus 0", "unknown_exit", False),
        ("status 1", "unknown_exit", False),
        ("", "unknown_exit", False),
        ("word corrupt\nword no_disk\nstatus 1", "no_disk", False),
        ("word corrupt\nword no_memory\nstatus 1", "no_memory", False),
        ("word corrupt\nword key\nstatus 1", "tables_encrypted", False),
        ("word bad_log\nword version\nstatus 1", "version_unsupported", False),
        ("word unfit\nstatus 1", "base_missing", True),
        ("word no_log", "missing_object", True),
        ("word cut_log\nstatus 1", "truncated", True),
        ("word corrupt\nstatus 1", "corrupt", True),
    ],
)
def test_its_words_are_judged(said: str, code: str | None, defect: bool) -> None:
    found = concluded(said.encode(), backup(0, None, 20, 30), (10, 11))
    assert getattr(found, "code", None) == code
    assert isinstance(found, BackupDefect) is defect


def test_older_versions_do_not_say_where_the_log_ends_to_the_byte() -> None:
    assert concluded(b"word done\nended 29\nstatus 0", backup(0, None, 20, 30), (10, 6)) is None
