"""Object Lock read with a reader's key, on a real server: settings, dumps, and restic object by object.

The sabotages of the issue of immutability that lie in a bucket are here, each with its clean twin; what
IMM-01 says of them is in tests/sabotage/test_immutability_configured.py.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.assess.protections import Protections
from backupguard.contracts import (
    Capability,
    CountsRequests,
    Credentials,
    JobSelector,
    Protection,
    ProtectionState,
    SecretReference,
    StatesProtection,
)
from backupguard.controls import BUILT, load_catalogue
from backupguard.demo.s3_server import S3Server
from backupguard.errors import AccessRefused, Unreachable
from backupguard.evidence.kinds import check_payload
from backupguard.model import Criticality, Fact, RecoveryPoint, Scope, View
from backupguard.repositories.restic import RESTIC
from backupguard.repositories.restic_settings import ResticSettings
from backupguard.repositories.s3 import S3
from backupguard.repositories.s3_settings import S3Settings
from backupguard.testing import TestContext, TestRepositories, context
from probes.immutability_protection import protection_seen
from tests.integration.repositories.restic_maker import Restic
from tests.programs import program

DPI = JobSelector(job="dpi.nightly", application="dpi", pattern="dpi-%Y%m%d.dump")
RESTIC_JOB = JobSelector(job="dpi.nightly", application="dpi")
MONTH = timedelta(days=30)
SOON = datetime.now(UTC) + timedelta(hours=1)
_made = iter(range(1000))


@dataclass
class Bucket:
    """A bucket, and the client of its administrator."""

    server: S3Server
    name: str
    admin: Any = field(repr=False)

    def lock(self, mode: str | None, days: int = 30) -> None:
        rule = {"DefaultRetention": {"Mode": mode, "Days": days}}
        self.admin.put_object_lock_configuration(
            Bucket=self.name,
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                **({"Rule": rule} if mode else {}),
            },
        )

    def put(self, key: str, body: bytes = b"x", **more: Any) -> str:
        return str(self.admin.put_object(Bucket=self.name, Key=key, Body=body, **more)["VersionId"])

    def lock_settings(self, tmp_path: Path, identity: str = "auditor", **more: Any) -> S3Settings:
        values: dict[str, Any] = {
            "type": "s3",
            "endpoint": self.server.endpoint,
            "bucket": self.name,
            "credentials": Credentials(reader=SecretReference(file=self.keys(tmp_path, identity))),
        }
        return S3Settings(**values | more)

    def keys(self, tmp_path: Path, identity: str) -> Path:
        path = tmp_path / f"{identity}.ini"
        path.write_text(self.server.credentials(identity))
        path.chmod(0o600)
        return path

    def everything(self) -> list[tuple[Any, ...]]:
        page = self.admin.list_object_versions(Bucket=self.name)
        return [
            (one["Key"], one["VersionId"], one["LastModified"], one["IsLatest"])
            for kind in ("Versions", "DeleteMarkers")
            for one in page.get(kind, ())
        ]


@pytest.fixture
def bucket(s3_server: S3Server) -> Callable[..., Bucket]:
    def make(mode: str | None = "COMPLIANCE", days: int = 30, *, lock: bool = True) -> Bucket:
        made = Bucket(s3_server, f"locks-{os.getpid()}-{next(_made)}", s3_server.client())
        made.admin.create_bucket(Bucket=made.name, ObjectLockEnabledForBucket=lock)
        if lock:
            made.lock(mode, days)
        return made

    return make


@pytest.fixture(scope="session")
def looking(tmp_path_factory: pytest.TempPathFactory) -> TestContext:
    """A context that remembers the metadata of the repository the tests share, as a daemon does."""
    return context(tmp_path_factory.mktemp("looking"))


def judged(
    here: TestContext, found: Any, job: JobSelector = DPI, kind: Any = S3, **more: Any
) -> str:
    """Return what IMM-01 says of a repository of class C1 that the probe has just looked at."""
    if "known" not in more:
        with kind.open("cloud", found, here) as repository:
            more["known"] = sorted(repository.points((job,)), key=lambda one: one.at, reverse=True)
    here.known.standing_points[job.job, "cloud"] = more["known"]
    places = TestRepositories(context=here, entries={"cloud": (kind, found, (job,))})
    observation, _ = protection_seen("repository/cloud", places, here, 10)
    check_payload("protection.seen", 1, observation.data)
    at = observation.observed_at
    fact = Fact(seq=1, recorded_at=at, run=None, author=None, hash=b"", observation=observation)
    remembered = Protections()
    remembered.learn(fact)
    view = View(
        scope=Scope.REPOSITORY,
        subject="repository/cloud",
        settings={"criticality": "C1", "claims": ["object-lock"]},
        latest={"protection.seen": fact, **remembered.of("repository/cloud")},
        first_seen=None,
        known={"newest_record_at": None},
    )
    policy = load_catalogue().policy("IMM-01", Criticality.C1)
    judgement = BUILT["IMM-01"].judge(view, policy, here.now())
    return f"{judgement.status.value} {judgement.reason.id.removeprefix('reason.IMM-01.')}"


def state(here: TestContext, found: S3Settings) -> ProtectionState:
    with S3.open("cloud", found, here) as repository:
        assert isinstance(repository, StatesProtection)
        return repository.protection_state()


def protections(
    here: TestContext, found: Any, job: JobSelector = DPI, kind: Any = S3
) -> tuple[list[Protection], dict[str, int]]:
    with kind.open("cloud", found, here) as repository:
        assert Capability.PROTECTION in repository.capabilities
        points = sorted(repository.points((job,)), key=lambda one: one.at, reverse=True)
        seen = list(repository.protection(points))
        assert isinstance(repository, CountsRequests)
        return seen, dict(repository.requests())


def today() -> str:
    return f"dpi-{datetime.now(UTC):%Y%m%d}.dump"


def codes(found: ProtectionState) -> set[str]:
    return {one.code for one in found.weaknesses}


# ------------------------------------------------------------------------------------- settings


def test_a_bucket_locked_in_compliance_mode_has_no_weakness(
    bucket: Callable[..., Bucket], here: TestContext, tmp_path: Path
) -> None:
    found = state(here, bucket().lock_settings(tmp_path))
    assert (found.mechanism, found.mode, found.weaknesses) == ("s3-object-lock", "compliance", ())
    assert found.retention_s == 30 * 86_400
    assert found.unread == ("iam",)
    assert found.settings["versioning"] == "enabled"
    locked = bucket()
    locked.put(today())
    assert judged(here, locked.lock_settings(tmp_path)) == "compliant locked"
    short = bucket(days=7)  # retention shorter than policy
    short.put(today())
    assert judged(here, short.lock_settings(tmp_path)) == "non_compliant retention_short"


def test_no_lock(bucket: Callable[..., Bucket], here: TestContext, tmp_path: Path) -> None:
    open_one = bucket(lock=False)
    open_one.admin.put_object(Bucket=open_one.name, Key="dpi-20260305.dump", Body=b"x")
    found = state(here, open_one.lock_settings(tmp_path))
    assert (found.mechanism, codes(found)) == ("none", {"no_lock"})
    (seen,), requests = protections(here, open_one.lock_settings(tmp_path))
    assert (seen.mechanism, seen.locked_until) == ("none", None)
    assert "HeadObject" not in requests
    assert judged(here, open_one.lock_settings(tmp_path)) == "non_compliant no_lock"


def test_lock_without_default_retention(
    bucket: Callable[..., Bucket], here: TestContext, tmp_path: Path
) -> None:
    bare = bucket(None)
    found = state(here, bare.lock_settings(tmp_path))
    assert (found.mechanism, codes(found)) == ("s3-object-lock", {"no_default_retention"})
    bare.put("dpi-20260305.dump")
    (seen,), _ = protections(here, bare.lock_settings(tmp_path))
    assert (seen.locked_until, seen.mode, seen.unlocked) == (None, None, 1)
    assert judged(here, bare.lock_settings(tmp_path)) == "non_compliant no_default_retention"


def test_governance_never_gives_a_date(
    bucket: Callable[..., Bucket], here: TestContext, tmp_path: Path
) -> None:
    weak = bucket("GOVERNANCE")
    weak.put("dpi-20260305.dump")
    assert codes(state(here, weak.lock_settings(tmp_path))) == {"governance"}
    (seen,), _ = protections(here, weak.lock_settings(tmp_path))
    assert (seen.locked_until, seen.mode, seen.unlocked) == (None, "governance", 1)
    assert judged(here, weak.lock_settings(tmp_path)) == "non_compliant governance"


def test_a_legal_hold_alone_can_be_lifted(
    bucket: Callable[..., Bucket], here: TestContext, tmp_path: Path
) -> None:
    held = bucket(None)
    held.put("dpi-20260305.dump", ObjectLockLegalHoldStatus="ON")
    (seen,), _ = protections(here, held.lock_settings(tmp_path))
    assert (seen.locked_until, seen.mode, seen.unlocked) == (None, "legal-hold", 1)


def test_versioning_suspended(
    bucket: Callable[..., Bucket], here: TestContext, tmp_path: Path
) -> None:
    """Both servers refuse it where there is a lock, as AWS does: then the lock is missing as well."""
    open_one = bucket(lock=False)
    for status in ("Enabled", "Suspended"):
        open_one.admin.put_bucket_versioning(
            Bucket=open_one.name, VersioningConfiguration={"Status": status}
        )
    found = state(here, open_one.lock_settings(tmp_path))
    assert codes(found) == {"no_lock", "versioning_suspended"}
    assert judged(here, open_one.lock_settings(tmp_path)) == "non_compliant no_lock"


@pytest.mark.parametrize(
    ("rule", "early"),
    [
        ({"Expiration": {"Days": 5}, "Filter": {"Prefix": ""}}, True),
        ({"NoncurrentVersionExpiration": {"NoncurrentDays": 3}, "Filter": {"Prefix": ""}}, True),
        ({"Expiration": {"Days": 90}, "Filter": {"Prefix": ""}}, False),
        ({"Expiration": {"Days": 5}, "Filter": {"Prefix": "elsewhere/"}}, False),
    ],
    ids=["current", "noncurrent", "later", "elsewhere"],
)
def test_lifecycle_expiring_early(
    bucket: Callable[..., Bucket],
    here: TestContext,
    tmp_path: Path,
    rule: dict[str, Any],
    early: bool,
) -> None:
    one = bucket()
    one.admin.put_bucket_lifecycle_configuration(
        Bucket=one.name,
        LifecycleConfiguration={"Rules": [{"ID": "tidy", "Status": "Enabled", **rule}]},
    )
    found = state(here, one.lock_settings(tmp_path, prefix="dumps/"))
    assert codes(found) == ({"lifecycle_early"} if early else set())
    if early:
        assert found.weaknesses[0].values["rule"] == "tidy"
    one.put(f"dumps/{today()}")
    said = judged(here, one.lock_settings(tmp_path, prefix="dumps/"))
    assert said == ("non_compliant lifecycle_early" if early else "compliant locked")


@pytest.mark.parametrize("allowed", [True, False])
def test_a_policy_that_lets_the_writer_bypass(
    bucket: Callable[..., Bucket], here: TestContext, tmp_path: Path, allowed: bool
) -> None:
    one = bucket("GOVERNANCE")
    action = "s3:BypassGovernanceRetention" if allowed else "s3:GetObject"
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": "writer"},
        "Action": [action],
        "Resource": [f"arn:aws:s3:::{one.name}/*"],
    }
    one.admin.put_bucket_policy(
        Bucket=one.name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )
    found = state(here, one.lock_settings(tmp_path))
    assert ("bypass_allowed" in codes(found)) is allowed
    assert found.bypass_holders == (("writer",) if allowed else ())
    one.put(today())
    said = judged(here, one.lock_settings(tmp_path))
    assert said == f"non_compliant {'bypass_allowed' if allowed else 'governance'}"


def test_a_reader_without_the_right_says_so_and_finds_nothing_good(
    bucket: Callable[..., Bucket], here: TestContext, tmp_path: Path
) -> None:
    one, bare = bucket(), bucket(None)
    bare.put("dpi-20260305.dump")
    for made in (one, bare):
        found = state(here, made.lock_settings(tmp_path, "reader"))
        assert "lock-configuration" in found.unread
        assert (found.mode, found.retention_s, found.weaknesses) == (None, None, ())
    (seen,), _ = protections(here, bare.lock_settings(tmp_path, "reader"))
    assert (seen.code, seen.locked_until, seen.unlocked) == ("permission", None, 0)
    one.put(today())
    for made in (one, bare):
        assert judged(here, made.lock_settings(tmp_path, "reader")) == "not_measurable no_right"


def test_servers_in_trouble_are_no_defect(
    bucket: Callable[..., Bucket], here: TestContext, tmp_path: Path
) -> None:
    one = bucket()
    one.put("dpi-20260305.dump")
    strange = tmp_path / "stranger.ini"
    strange.write_text(one.server.credentials("stranger"))
    wrong = one.lock_settings(
        tmp_path, credentials=Credentials(reader=SecretReference(file=strange))
    )
    with pytest.raises(AccessRefused):
        state(here, wrong)
    gone = one.lock_settings(tmp_path, endpoint="http://127.0.0.1:9")
    with pytest.raises(Unreachable):
        state(here, gone)
    for trouble in (wrong, gone):
        assert judged(here, trouble, known=[]) == "not_measurable unread"


# ---------------------------------------------------------------------------------------- dumps


def test_a_dump_survives_until_its_own_lock_ends(
    bucket: Callable[..., Bucket], here: TestContext, tmp_path: Path
) -> None:
    one = bucket()
    for day in (4, 5):
        one.put(f"dpi-2026030{day}.dump")
    one.admin.delete_object(Bucket=one.name, Key="dpi-20260305.dump")  # a marker over the newest
    before = one.everything()
    seen, requests = protections(here, one.lock_settings(tmp_path))
    assert [point.hidden for point in seen] == [True, False]
    for point in seen:
        assert point.mode == "compliance"
        assert point.locked_until is not None
        assert abs(point.locked_until - datetime.now(UTC) - MONTH) < timedelta(minutes=5)
    assert requests["HeadObject"] == 2
    assert one.everything() == before
    assert judged(here, one.lock_settings(tmp_path)) == "non_compliant hidden"


# --------------------------------------------------------------------------------------- restic


@dataclass
class Uploaded:
    """A restic repository in a bucket, object by object as restic would have put it there."""

    bucket: Bucket
    restic: Restic

    def settings(self, tmp_path: Path, identity: str = "auditor") -> ResticSettings:
        return ResticSettings(
            type="restic",
            url=f"s3:{self.bucket.server.endpoint}/{self.bucket.name}/dpi",
            program=program("restic-0.18"),
            credentials=Credentials(
                reader=SecretReference(file=self.restic.password),
                backend=SecretReference(file=self.bucket.keys(tmp_path, identity)),
            ),
        )


def upload(one: Bucket, restic: Restic, but: Callable[[str], dict[str, Any]]) -> Uploaded:
    """Put every file of a local repository; `but` may give one other headers than the rest."""
    for path in sorted(restic.root.rglob("*")):
        if path.is_file():
            key = str(path.relative_to(restic.root))
            one.put(f"dpi/{key}", path.read_bytes(), **but(key))
    return Uploaded(one, restic)


def as_all(_: str) -> dict[str, Any]:
    return {}


def snapshots(restic: Restic) -> list[dict[str, Any]]:
    found = json.loads(restic.run("snapshots", "--json").stdout)
    return sorted(found, key=lambda one: str(one["time"]), reverse=True)


def test_a_snapshot_survives_as_long_as_everything_it_needs(
    bucket: Callable[..., Bucket], restic_018: Restic, looking: TestContext, tmp_path: Path
) -> None:
    made = upload(bucket(), restic_018, as_all)
    for directory in ("data", "keys", "index", "snapshots"):  # as the probe leaves them there
        canary = f"dpi/{directory}/backupguard-canary-0123456789abcdef-plain"
        made.bucket.put(canary, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=SOON)
        made.bucket.admin.delete_object(Bucket=made.bucket.name, Key=canary)
    before = made.bucket.everything()
    seen, requests = protections(looking, made.settings(tmp_path), RESTIC_JOB, RESTIC)
    assert len(seen) == 2
    for point in seen:
        assert (point.mode, point.unlocked, point.exact, point.code) == (
            "compliance",
            0,
            True,
            None,
        )
        assert point.locked_until is not None
        assert abs(point.locked_until - datetime.now(UTC) - MONTH) < timedelta(minutes=5)
    objects = len(before)
    assert requests["HeadObject"] <= objects
    assert requests["ListObjectVersions"] == 2  # once the indexes alone, while restic is waited for
    assert made.bucket.everything() == before
    # A lock in compliance mode cannot have become shorter: only the earliest end is asked for again.
    again, less = protections(looking, made.settings(tmp_path), RESTIC_JOB, RESTIC)
    assert [(one.locked_until, one.objects) for one in again] == [
        (one.locked_until, one.objects) for one in seen
    ]
    assert less["HeadObject"] < requests["HeadObject"]


def pack_of_newest_only(restic: Restic) -> str:
    """Return a pack that the newest snapshot needs."""
    newest = snapshots(restic)[0]["tree"]
    for path in sorted((restic.root / "index").iterdir()):
        index = json.loads(restic.run("cat", "index", path.name).stdout)
        for pack in index["packs"]:
            if any(blob["id"] == newest for blob in pack["blobs"]):
                return str(pack["id"])
    raise AssertionError


def test_one_pack_without_a_lock_decides_for_the_points_that_need_it(
    bucket: Callable[..., Bucket], restic_018: Restic, looking: TestContext, tmp_path: Path
) -> None:
    pack = pack_of_newest_only(restic_018)
    until = datetime.now(UTC) + MONTH
    lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
    made = upload(bucket(None), restic_018, lambda key: {} if key.endswith(pack) else lock)
    (newest, older), _ = protections(looking, made.settings(tmp_path), RESTIC_JOB, RESTIC)
    assert (newest.locked_until, newest.unlocked, newest.mode) == (None, 1, None)
    assert (older.unlocked, older.mode, older.exact) == (0, "compliance", True)
    found = made.settings(tmp_path)
    assert judged(looking, found, RESTIC_JOB, RESTIC) == "non_compliant unlocked"


def test_a_pack_whose_lock_ends_before_a_newer_snapshot_that_needs_it(
    bucket: Callable[..., Bucket], restic_018: Restic, looking: TestContext, tmp_path: Path
) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    old = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": soon}
    (shared,) = (path.name for path in restic_018.packs(larger_than=300_000))
    made = upload(bucket(), restic_018, lambda key: old if key.endswith(shared) else {})
    seen, _ = protections(looking, made.settings(tmp_path), RESTIC_JOB, RESTIC)
    assert [point.locked_until for point in seen] == [soon, soon]
    found = made.settings(tmp_path)
    assert judged(looking, found, RESTIC_JOB, RESTIC) == "non_compliant ends_early"


def test_delete_markers_on_the_newest_points(
    bucket: Callable[..., Bucket], restic_018: Restic, looking: TestContext, tmp_path: Path
) -> None:
    newest, older = (str(one["id"]) for one in snapshots(restic_018))
    one = bucket()
    upload(one, restic_018, as_all)
    time.sleep(1.1)  # the server tells when an object was written to the second
    one.put(f"dpi/snapshots/{newest}", (restic_018.root / "snapshots" / newest).read_bytes())
    made = Uploaded(one, restic_018)
    one.admin.delete_object(Bucket=one.name, Key=f"dpi/snapshots/{newest}")
    seen, _ = protections(looking, made.settings(tmp_path), RESTIC_JOB, RESTIC)
    assert [(point.native_id, point.hidden) for point in seen] == [(older, False), (newest, True)]
    # Known from an inventory before, it is the same point, and hidden.
    with RESTIC.open("cloud", made.settings(tmp_path), looking) as repository:
        (known,) = repository.points((RESTIC_JOB,))
        (asked,) = repository.protection([renamed(known, newest)])
    assert (asked.native_id, asked.hidden) == (newest, True)
    found = made.settings(tmp_path)
    assert judged(looking, found, RESTIC_JOB, RESTIC) == "non_compliant hidden"


def renamed(point: RecoveryPoint, native_id: str) -> RecoveryPoint:
    from dataclasses import replace

    return replace(point, native_id=native_id)


def test_an_older_snapshot_that_a_retention_dropped_is_no_news(
    bucket: Callable[..., Bucket], restic_018: Restic, looking: TestContext, tmp_path: Path
) -> None:
    newest, older = (str(one["id"]) for one in snapshots(restic_018))
    one = bucket()
    made = upload(one, restic_018, as_all)
    one.admin.delete_object(Bucket=one.name, Key=f"dpi/snapshots/{older}")
    time.sleep(1.1)
    body = (restic_018.root / "snapshots" / newest).read_bytes()
    one.put(f"dpi/snapshots/{newest}", body)
    (seen,), _ = protections(looking, made.settings(tmp_path), RESTIC_JOB, RESTIC)
    assert (seen.native_id, seen.hidden) == (newest, False)
    found = made.settings(tmp_path)
    assert judged(looking, found, RESTIC_JOB, RESTIC, known=[]) == "not_measurable no_points"


def test_a_pack_that_is_gone_is_named(
    bucket: Callable[..., Bucket], restic_018: Restic, looking: TestContext, tmp_path: Path
) -> None:
    pack = pack_of_newest_only(restic_018)
    one = bucket()
    made = upload(one, restic_018, as_all)
    made.bucket.admin.delete_object(Bucket=one.name, Key=f"dpi/data/{pack[:2]}/{pack}")
    (newest, _), _ = protections(looking, made.settings(tmp_path), RESTIC_JOB, RESTIC)
    assert newest.hidden  # its bytes are still there
