"""The live attempt on a real S3 server: what is proved, what is refuted, what says nothing.

The sabotages of the issue of immutability that an attempt finds are here, each with its clean twin.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from backupguard.contracts import Credentials, JobSelector, SecretReference
from backupguard.demo.s3_server import S3Server
from backupguard.errors import AccessRefused, MissingMeans, Unreachable
from backupguard.repositories.restic import RESTIC
from backupguard.repositories.restic_settings import ResticSettings
from backupguard.repositories.s3 import S3
from backupguard.repositories.s3_attack_calls import AttackingClient
from backupguard.repositories.s3_places import place_of
from backupguard.testing import TestContext
from tests.integration.repositories.attacks import TOKEN
from tests.integration.repositories.attacks import attack as attack_any
from tests.integration.repositories.bucket_maker import CANARY, DPI, DUMP, Bucket, make
from tests.integration.repositories.restic_maker import VERSIONS
from tests.programs import program
from tests.recording import Recorder, recorded

MAY_BE_UNTRIED = {"no_probe_bucket", "not_offered", "not_locked"}
USER = "arn:aws:iam::000000000000:user/{}"


def attack(settings: Any, here: TestContext, kind: Any = S3, **more: Any) -> Any:
    return attack_any(kind, settings, here, jobs=(DPI,), **more)


def proved(found: Any) -> bool:
    """Tell what the probe would: everything that could be tried was refused."""
    blocked = {
        one.code
        for one in found.attempts
        if one.destructive and one.outcome == "untried" and one.code not in MAY_BE_UNTRIED
    }
    bearing = found.bearing
    told = (bearing.reaches_data, bearing.credentials, bearing.code)
    return (
        bool(found.refused) and not found.worked and not blocked and told == (True, "writer", None)
    )


@pytest.fixture(scope="module")
def recorder(s3_server: S3Server) -> Iterator[Recorder]:
    with recorded(s3_server.endpoint) as found:
        yield found


Maker = Callable[..., Bucket]


@pytest.fixture
def bucket(s3_server: S3Server, recorder: Recorder) -> Maker:
    def made(mode: str | None = None, versioning: str | None = None) -> Bucket:
        return make(s3_server, recorder, mode, versioning)

    return made


# ------------------------------------------------------------------------- sabotages and clean twins


@pytest.mark.parametrize(
    ("mode", "versioning", "writer", "worked"),
    [
        pytest.param(None, None, "writer", {"overwrite", "delete"}, id="no-lock-no-versions"),
        pytest.param(None, "Enabled", "locker", {"delete-version"}, id="no-lock"),
        pytest.param("", None, "locker", {"delete-version"}, id="lock-without-default-retention"),
        pytest.param(
            None, "Suspended", "writer", {"overwrite", "delete"}, id="versioning-suspended"
        ),
    ],
)
def test_sabotage_what_is_not_locked_is_destroyed(
    bucket: Maker,
    here: TestContext,
    tmp_path: Path,
    writer: str,
    mode: str | None,
    versioning: str | None,
    worked: set[str],
) -> None:
    found = bucket(mode, versioning)
    before = found.listing()
    tried = attack(found.settings(tmp_path, writer), here)
    assert worked == tried.worked - {"remove-legal-hold"}
    assert found.listing() == before
    found.assert_only_canaries_were_touched()


def test_sabotage_a_writer_that_may_bypass_governance(
    bucket: Maker, here: TestContext, tmp_path: Path
) -> None:
    """Governance where compliance is required: whoever may bypass it gets at the backups."""
    tried = attack(bucket("GOVERNANCE").settings(tmp_path, "bypasser"), here)
    assert tried.worked == {"delete-version-bypass"}


@pytest.mark.parametrize(
    ("mode", "writer"),
    [("COMPLIANCE", "writer"), ("COMPLIANCE", "locker"), ("GOVERNANCE", "locker")],
)
def test_clean_twin_everything_is_refused(
    bucket: Maker, here: TestContext, tmp_path: Path, mode: str, writer: str
) -> None:
    found = bucket(mode)
    before = found.listing()
    tried = attack(found.settings(tmp_path, writer), here)
    assert proved(tried), tried
    assert {"overwrite", "delete", "delete-version", "delete-version-bypass", "delete-batch",
            "shorten-retention"} <= tried.refused  # fmt: skip
    assert found.listing() == before
    found.assert_only_canaries_were_touched()
    by_name = {one.name: one for one in tried.attempts}
    assert by_name["overwrite"].code == "new_version"
    assert by_name["delete"].code == "delete_marker"
    assert by_name["delete-version"].code == "AccessDenied"
    assert all(one.request_id for one in tried.attempts if one.outcome == "refused")
    if writer == "locker":  # it may lock canaries itself: these are tried as well
        assert {"delete-locked", "delete-locked-bypass", "shorten-locked", "switch-locked",
                "remove-legal-hold"} <= tried.refused  # fmt: skip


def test_a_right_to_bypass_governance_harms_no_compliance(
    bucket: Maker, here: TestContext, tmp_path: Path
) -> None:
    assert proved(attack(bucket("COMPLIANCE").settings(tmp_path, "bypasser"), here))


def deny(bucket: Bucket, keys: str) -> None:
    bucket.allow(
        {
            "Effect": "Deny",
            "Principal": {"AWS": [USER.format("writer")]},
            "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion"],
            "Resource": [f"arn:aws:s3:::{bucket.name}/{keys}"],
        }
    )


def test_sabotage_delete_denied_for_the_canary_and_allowed_for_the_data(
    bucket: Maker, here: TestContext, tmp_path: Path
) -> None:
    found = bucket(None, "Enabled")
    deny(found, f"site/{CANARY}*")
    tried = attack(found.settings(tmp_path), here)
    assert not tried.worked
    assert "delete-version" in tried.refused
    assert (tried.bearing.reaches_data, tried.bearing.code) == (False, "policy_differs")
    assert not proved(tried)


def test_clean_twin_delete_denied_for_everything(
    bucket: Maker, here: TestContext, tmp_path: Path
) -> None:
    found = bucket(None, "Enabled")
    deny(found, "*")
    tried = attack(found.settings(tmp_path), here)
    assert proved(tried), tried


# ----------------------------------------------------------------------------- what proves nothing


@pytest.mark.parametrize(
    ("identity", "credentials"), [("admin", "administrator"), ("reader", "read_only")]
)
def test_the_wrong_credentials_prove_nothing(
    bucket: Maker, here: TestContext, tmp_path: Path, identity: str, credentials: str
) -> None:
    tried = attack(bucket("COMPLIANCE").settings(tmp_path, identity), here)
    assert not tried.worked
    assert tried.bearing.credentials == credentials
    assert ("same_as_reader" in tried.bearing.notes) is (identity == "reader")


def test_credentials_that_the_server_does_not_know(
    bucket: Maker, here: TestContext, tmp_path: Path
) -> None:
    found = bucket()
    with pytest.raises(AccessRefused) as raised:
        attack(found.settings(tmp_path, "nobody"), here)
    assert raised.value.code == "authentication"
    (tmp_path / "writer.ini").write_text(
        "[default]\naws_access_key_id = writer\naws_secret_access_key = wrong\n"
    )
    keys = SecretReference(file=tmp_path / "writer.ini")
    settings = found.settings(tmp_path, None)
    settings = settings.model_copy(
        update={"credentials": Credentials(reader=keys, writer_for_probe=keys)}
    )
    with pytest.raises(AccessRefused) as raised:
        attack(settings, here)
    assert raised.value.code == "authentication"
    assert not found.recorder.changing


def test_without_the_writers_credentials_nothing_is_tried(
    bucket: Maker, here: TestContext, tmp_path: Path
) -> None:
    with pytest.raises(MissingMeans) as raised:
        attack(bucket().settings(tmp_path, None), here)
    assert raised.value.code == "writer_missing"
    assert raised.value.remedy is not None


def test_a_server_that_is_down(bucket: Maker, here: TestContext, tmp_path: Path) -> None:
    settings = bucket().settings(tmp_path, endpoint="http://127.0.0.1:9")
    with pytest.raises(Unreachable):
        attack(settings, here)


@pytest.mark.parametrize(("seconds", "agree"), [(-90, False), (20, True)])
def test_a_server_whose_clock_is_another(
    bucket: Maker, here: TestContext, tmp_path: Path, seconds: int, agree: bool
) -> None:
    found = bucket("COMPLIANCE")

    def alter(_request: Any, status: int, headers: Any, body: bytes) -> Any:
        shown = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
        kept = [(name, value) for name, value in headers if name.lower() != "date"]
        return status, [*kept, ("Date", shown)], body

    found.recorder.alter = alter
    tried = attack(found.settings(tmp_path), here)
    assert bool(tried.attempts) is agree
    assert bool(found.recorder.changing) is agree
    assert tried.bearing.code == (None if agree else "clock_skew")


def test_a_page_of_something_in_between_is_no_refusal(
    bucket: Maker, here: TestContext, tmp_path: Path
) -> None:
    """A filter that answers 403 in the server's place protects nobody who goes around it."""
    found = bucket("", None)

    def alter(request: Any, status: int, headers: Any, body: bytes) -> Any:
        return (
            (status, headers, body) if request.method != "DELETE" else (403, [], b"<html>no</html>")
        )

    found.recorder.alter = alter
    tried = attack(found.settings(tmp_path), here)
    assert not proved(tried)


def test_a_server_that_breaks_off_in_the_middle(
    bucket: Maker, here: TestContext, tmp_path: Path
) -> None:
    found = bucket("COMPLIANCE")

    def alter(request: Any, status: int, headers: Any, body: bytes) -> Any:
        return (status, headers, body) if request.method != "DELETE" else (503, [], b"")

    found.recorder.alter = alter
    with pytest.raises(Unreachable):
        attack(found.settings(tmp_path), here)


def test_a_server_that_says_yes_and_does_nothing_has_refused(
    bucket: Maker, here: TestContext, tmp_path: Path
) -> None:
    """And one that says no and does it anyway has not: only the canary's bytes count."""
    found = bucket("COMPLIANCE")

    def alter(request: Any, status: int, headers: Any, body: bytes) -> Any:
        lies = request.method == "DELETE" and "versionId" in request.query
        return (204, [], b"") if lies else (status, headers, body)

    found.recorder.alter = alter
    tried = attack(found.settings(tmp_path), here)
    assert tried.outcomes["delete-version"] == ("refused", "still_there")
    lying = bucket("")

    def refuse(request: Any, status: int, headers: Any, body: bytes) -> Any:
        said = b"<Error><Code>AccessDenied</Code></Error>"
        lies = request.method == "DELETE" and "versionId" in request.query
        return (
            (403, [("Content-Type", "application/xml")], said) if lies else (status, headers, body)
        )

    lying.recorder.alter = refuse
    assert attack(lying.settings(tmp_path), here).worked == {"delete-version"}


# --------------------------------------------------------------------------- canaries, and only they


def test_expired_canaries_are_removed_and_nothing_else(
    bucket: Maker, here: TestContext, tmp_path: Path
) -> None:
    found = bucket("")
    locked: dict[str, Any] = {"ObjectLockMode": "COMPLIANCE"}
    now = datetime.now(UTC)
    names = {name: f"site/{CANARY}{'ab' * 8}-{name}" for name in ("expired", "standing", "never")}
    put = found.admin.put_object
    until = now + timedelta(seconds=2)
    put(
        Bucket=found.name,
        Key=names["expired"],
        Body=b"1",
        ObjectLockRetainUntilDate=until,
        **locked,
    )
    found.admin.delete_object(Bucket=found.name, Key=names["expired"])
    until = now + timedelta(minutes=10)
    put(
        Bucket=found.name,
        Key=names["standing"],
        Body=b"1",
        ObjectLockRetainUntilDate=until,
        **locked,
    )
    time.sleep(max(0.0, (now + timedelta(seconds=2.2) - datetime.now(UTC)).total_seconds()))
    before = found.listing()
    strange = (DUMP, "elsewhere/" + names["standing"], "../" + names["standing"], "")
    tried = attack(found.settings(tmp_path, "locker"), here, remembered=[*strange, *names.values()])
    removed = [one for one in tried.attempts if one.name == "remove-canary"]
    assert {one.target for one in removed if TOKEN not in one.target} == {
        names["expired"], names["never"],
    }  # fmt: skip
    assert all(one.outcome == "worked" and not one.destructive for one in removed)
    keys = {one[1] for one in found.listing(canaries=True)}
    assert names["standing"] in keys
    assert names["expired"] not in keys
    assert found.listing() == before
    found.assert_only_canaries_were_touched()


def test_what_weakens_a_whole_bucket_is_tried_on_one_of_the_probes_own(
    bucket: Maker, here: TestContext, tmp_path: Path
) -> None:
    found, own = bucket("COMPLIANCE"), bucket("COMPLIANCE")
    found.recorder.requests.clear()
    tried = attack(found.settings(tmp_path, probe_bucket=own.name), here)
    assert proved(tried)
    assert {"suspend-versioning", "change-lock-rule"} <= tried.refused
    found.assert_only_canaries_were_touched(own_bucket=own.name)
    versioned = bucket(None, "Enabled")
    tried = attack(
        found.settings(tmp_path, "admin", probe_bucket=versioned.name), here, token="f" * 16
    )
    assert "suspend-versioning" in tried.worked
    status = versioned.admin.get_bucket_versioning(Bucket=versioned.name)["Status"]
    assert status == "Enabled", "it is put right again"


def test_an_attacker_cannot_ask_for_anything_else(
    bucket: Maker, here: TestContext, tmp_path: Path
) -> None:
    found = bucket()
    settings = found.settings(tmp_path)
    secret = here.secret(settings.credentials.writer_for_probe)
    client = AttackingClient("cloud", place_of(settings), secret, own_bucket=found.name)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("DeleteObject", {"Key": DUMP}),
        ("PutObject", {"Key": "site/other", "Body": b""}),
        ("PutObjectRetention", {"Key": DUMP, "Retention": {}}),
        ("DeleteObjects", {"Delete": {"Objects": [{"Key": DUMP}]}}),
        ("DeleteObjects", {"Delete": {"Objects": []}}),
        ("DeleteObject", {"Key": f"other/{CANARY}{TOKEN}-plain"}),
        ("PutBucketVersioning", {"VersioningConfiguration": {"Status": "Suspended"}}),
        ("PutObjectLockConfiguration", {}),
        ("DeleteBucket", {}),
        ("PutBucketPolicy", {"Policy": "{}"}),
        ("CopyObject", {"Key": f"site/{CANARY}{TOKEN}-plain", "CopySource": "a/b"}),
    ]
    for operation, parameters in calls:
        with pytest.raises(AssertionError, match=operation):
            client.ask(operation, Bucket=found.name, **parameters)
    assert not found.recorder.requests


def test_a_canary_is_no_recovery_point(bucket: Maker, here: TestContext, tmp_path: Path) -> None:
    found = bucket("COMPLIANCE")
    settings = found.settings(tmp_path)
    attack(settings, here)
    everything = JobSelector(job="dpi.nightly", application="dpi", pattern="*")
    with S3.open("cloud", settings, here) as repository:
        assert {point.native_id.partition("@")[0] for point in repository.points([everything])} == {
            DUMP
        }


# ------------------------------------------------------------------------------------------- restic


def restic(found: Bucket, tmp_path: Path, version: str, *arguments: str) -> Any:
    password = tmp_path / "password"
    password.write_text("correct horse\n")
    url = f"s3:{found.server.endpoint}/{found.name}/dpi"
    keys = found.keys(tmp_path, "writer").file
    return subprocess.run(
        [program(f"restic-{version}"), "--repo", url, "--password-file", password, "--no-cache",
         *arguments],
        env={**os.environ, "AWS_SHARED_CREDENTIALS_FILE": str(keys)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def restic_settings(found: Bucket, tmp_path: Path) -> ResticSettings:
    return ResticSettings(
        type="restic",
        url=f"s3:{found.recorder.endpoint}/{found.name}/dpi",
        credentials=Credentials(
            reader=SecretReference(file=tmp_path / "password"),
            backend=found.keys(tmp_path, "reader"),
            writer_for_probe=found.keys(tmp_path, "writer"),
        ),
    )


def test_canaries_lie_where_restic_keeps_what_it_needs_and_disturb_no_version_of_it(
    bucket: Maker, here: TestContext, tmp_path: Path
) -> None:
    found = bucket("GOVERNANCE")
    (tmp_path / "source").write_bytes(b"dump")
    assert restic(found, tmp_path, "0.14", "init").returncode == 0
    assert restic(found, tmp_path, "0.14", "backup", str(tmp_path / "source")).returncode == 0
    before = found.listing()
    tried = attack(restic_settings(found, tmp_path), here, kind=RESTIC)
    assert proved(tried), tried
    assert found.listing() == before
    found.assert_only_canaries_were_touched()
    places = {one.target.rpartition("/")[0] for one in tried.attempts if one.name == "put-canary"}
    assert places == {"dpi/data", "dpi/snapshots", "dpi/index", "dpi/keys"}
    for version in VERSIONS:
        for call in (["check"], ["prune", "--dry-run"]):
            done = restic(found, tmp_path, version, *call)
            assert done.returncode == 0, (version, call, done.stderr)
            assert "canary" not in done.stdout + done.stderr


def test_sabotage_only_the_packs_of_restic_are_protected(
    bucket: Maker, here: TestContext, tmp_path: Path
) -> None:
    """Without its keys, or its snapshots, a repository is lost as well."""
    found = bucket(None, "Enabled")
    deny(found, "dpi/data/*")
    (tmp_path / "password").write_text("correct horse\n")
    tried = attack(restic_settings(found, tmp_path), here, kind=RESTIC)
    worked = {one.target.split("/")[1] for one in tried.attempts if one.name == "delete-version"
              and one.outcome == "worked"}  # fmt: skip
    assert worked == {"snapshots", "index", "keys"}
