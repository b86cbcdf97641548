"""A Samba domain's backup is opened by Samba's library: clean ones pass, each broken one is named."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.model import Baseline, RestoreTestResult, Verdict
from restore_tests.samba_ad import SAMBA_AD
from restore_tests.settings import SambaAdSettings
from tests import samba
from tests.integration.restore_tests.harness import Trials

DOMAIN = "DC=HOPITAL,DC=EXAMPLE.ldb"


class Domain:
    """A domain, its backup, and what lies in it; made once."""

    def __init__(self, place: Path) -> None:
        made = samba.provisioned(place / "dc")
        self.backup = samba.backed_up(made, place)
        self.tree = place / "tree"
        with tarfile.open(self.backup) as archive:
            archive.extractall(self.tree)

    def packed(self, into: Path, change: Callable[[Path], None]) -> Path:
        """Change a copy of what lies in the backup, and pack it again, quickly."""
        tree = into / "changed"
        shutil.copytree(self.tree, tree)
        change(tree / "private")
        path = into / "samba-backup-x.tar.gz"
        with tarfile.open(path, "w:gz", compresslevel=1) as archive:
            archive.add(tree, "")
        shutil.rmtree(tree)
        return path


@pytest.fixture(scope="session")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Domain:
    return Domain(tmp_path_factory.mktemp("domain"))


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    return Trials(tmp_path, engines={"samba-ad": SAMBA_AD}, now=datetime.now(UTC))


def settings(*checks: dict[str, Any], **values: Any) -> SambaAdSettings:
    return SambaAdSettings.model_validate({"engine": "samba-ad", "checks": checks, **values})


def restored(trials: Trials, path: Path, **plan: Any) -> RestoreTestResult:
    plan.setdefault("settings", settings())
    plan.setdefault("point_at", trials.now)
    return trials.restore(path, **plan)


def judged(result: RestoreTestResult) -> tuple[Verdict, str | None]:
    return result.verdict, result.code


PEOPLE = {"name": "agents", "filter": "(&(objectClass=user)(sn=Noel*))", "equals": 60}
RECENT = {"name": "récents", "filter": "(sAMAccountName=u7)", "newer-than": "26h"}


@pytest.fixture(scope="module")
def sound(domain: Domain, tmp_path_factory: pytest.TempPathFactory) -> RestoreTestResult:
    trials = Trials(
        tmp_path_factory.mktemp("sound"), engines={"samba-ad": SAMBA_AD}, now=datetime.now(UTC)
    )
    result = restored(trials, domain.backup, settings=settings(PEOPLE, RECENT, domain=samba.REALM))
    assert b"ZZSECRETZZ" not in repr((result, trials.facts)).encode() + trials.traces
    return result


def accepted(result: RestoreTestResult) -> Baseline:
    assert result.fingerprint is not None, result
    return Baseline(fingerprint=result.fingerprint, accepted=True, seq=1)


def codes(result: RestoreTestResult) -> dict[str, str]:
    return {check.name: check.code for check in result.checks}


def test_a_sound_domain_says_what_was_not_done(sound: RestoreTestResult) -> None:
    assert judged(sound) == (Verdict.PASSED, None), sound
    assert sound.fingerprint is not None
    tables = sound.fingerprint.tables
    assert (tables["controller"], tables["computer"]) == (1, 12)
    assert tables["user"] >= 63  # with those that every domain has
    assert (tables["policy"], sound.fingerprint.objects["member"] >= 60) == (2, True)
    warnings = [code for code in codes(sound).values() if code.startswith("warning_")]
    assert warnings == ["warning_controller_not_started"]
    assert sound.data_loss_ms is not None


def test_a_tree_stays_as_it_is_and_nothing_reaches_more_than_level_2(
    trials: Trials, domain: Domain, sound: RestoreTestResult
) -> None:
    def listing() -> list[Any]:
        files = sorted(domain.tree.rglob("*"))
        return [(str(p), p.lstat().st_size, p.lstat().st_mtime_ns) for p in files]

    before = listing()
    known = settings(PEOPLE, RECENT, domain=samba.REALM)
    result = restored(trials, domain.tree, settings=known, baseline=accepted(sound))
    assert (result.verdict, result.level) == (Verdict.PASSED, 2), result
    assert listing() == before


def test_another_domain_in_which_nothing_changed_for_two_months(
    trials: Trials, domain: Domain
) -> None:
    trials.now = later = trials.now + timedelta(days=60)
    other = settings(RECENT, domain="ecole.example")
    result = restored(trials, domain.backup, point_at=later, settings=other)
    assert judged(result) == (Verdict.FAILED, "stale_data"), result
    told = codes(result)
    assert (told["same-directory"], told["récents"]) == ("wrong_directory", "stale_data")


def test_users_deleted_and_secrets_left_out(
    trials: Trials, domain: Domain, tmp_path: Path, sound: RestoreTestResult
) -> None:
    def change(private: Path) -> None:
        samba.changed(private, "[database.deleteuser(f'u{n}') for n in range(5, 60)]")
        (private / "secrets.tdb").unlink()

    path = domain.packed(tmp_path, change)
    result = restored(trials, path, baseline=accepted(sound), settings=settings(PEOPLE))
    assert judged(result) == (Verdict.FAILED, "rows_lost"), result
    told = codes(result)
    assert (told["members"], told["agents"]) == ("members_lost", "check_failed")
    assert told["domain-keys"] == "warning_keys_missing"


def _remove(name: str) -> Callable[[Path], None]:
    return lambda private: (private / name).unlink()


def _overwrite(name: str) -> Callable[[Path], None]:
    def change(private: Path) -> None:
        content = bytearray((private / name).read_bytes())
        for place in range(8192, len(content) - 4096, 16384):
            content[place : place + 64] = b"\xa5" * 64
        (private / name).write_bytes(content)

    return change


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_remove(f"sam.ldb.d/{DOMAIN}"), "missing_object"),
        (_remove("encrypted_secrets.key"), "missing_object"),
        (_remove("sam.ldb"), "missing_object"),
        (_overwrite(f"sam.ldb.d/{DOMAIN}"), "corrupt"),
        (_overwrite("sam.ldb"), "corrupt"),
    ],
    ids=["partition", "key", "database", "overwritten-partition", "overwritten-database"],
)
def test_parts_that_are_missing_or_damaged(
    trials: Trials, domain: Domain, tmp_path: Path, change: Callable[[Path], None], code: str
) -> None:
    result = restored(trials, domain.packed(tmp_path, change))
    assert judged(result) == (Verdict.FAILED, code), result


def test_a_cut_archive_and_another_one(trials: Trials, domain: Domain, tmp_path: Path) -> None:
    content = domain.backup.read_bytes()
    path = tmp_path / domain.backup.name
    path.write_bytes(content[: len(content) * 2 // 3])
    assert judged(restored(trials, path)) == (Verdict.FAILED, "truncated")
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    path.write_bytes(changed)
    assert judged(restored(trials, path)) == (Verdict.FAILED, "corrupt")
    other = tmp_path / "samba-backup-other.tar.bz2"
    with tarfile.open(other, "w:bz2") as archive:
        archive.addfile(tarfile.TarInfo("notes.txt"), io.BytesIO())
    assert restored(trials, other, settings=None).verdict is Verdict.COULD_NOT_VERIFY


@pytest.mark.parametrize("kind", ["absolute", "upwards", "link"])
def test_an_archive_that_leads_out_is_contained(trials: Trials, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "samba-backup-x.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("sysvol.tar.gz"), io.BytesIO())
        member = tarfile.TarInfo(
            {"absolute": "/scratch/x", "upwards": "private/../../x", "link": "private/sam.ldb"}[
                kind
            ]
        )
        if kind == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member, io.BytesIO())
    assert judged(restored(trials, path)) == (Verdict.FAILED, "hostile")


def test_a_filter_that_asks_for_passwords_is_refused() -> None:
    with pytest.raises(ValueError, match="must not ask for passwords"):
        settings({"name": "x", "filter": "(unicodePwd=*)", "at-least": 1})
