"""The live attempt on a second implementation of Object Lock, Ceph's gateway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backupguard.repositories.s3 import S3
from backupguard.testing import TestContext
from tests.integration.repositories import ceph
from tests.integration.repositories.attacks import attack
from tests.integration.repositories.bucket_maker import DPI, Bucket, make
from tests.recording import Recorder, recorded

_WRITES = ("PutObject", "GetObject", "GetObjectVersion", "ListBucket", "DeleteObject",
           "DeleteObjectVersion", "PutObjectRetention", "PutObjectLegalHold")  # fmt: skip


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Recorder]]:
    # A socket's path may not be longer than 107 bytes.
    with ceph.running(tmp_path_factory.mktemp("rgw")) as server, recorded(server.endpoint) as found:
        yield server, found


def bucket(recorder: tuple[Any, Recorder], mode: str | None) -> Bucket:
    made = make(*recorder, mode)
    both = [f"arn:aws:s3:::{made.name}", f"arn:aws:s3:::{made.name}/*"]
    rights = {"writer": [f"s3:{name}" for name in _WRITES], "reader": ["s3:Get*", "s3:List*"]}
    made.allow(
        *(
            {
                "Effect": "Allow",
                "Principal": {"AWS": [f"arn:aws:iam:::user/{name}"]},
                "Action": actions,
                "Resource": both,
            }
            for name, actions in rights.items()
        )
    )
    return made


@pytest.mark.parametrize(
    ("mode", "worked"),
    [
        ("COMPLIANCE", set()),
        # Ceph 16.2 asks nobody for the right to bypass: governance locks out nobody there.
        ("GOVERNANCE", {"delete-version-bypass"}),
        ("", {"delete-version", "remove-legal-hold"}),
        (None, {"overwrite", "delete"}),
    ],
)
def test_attempts_come_to_what_the_lock_is_worth(
    recorder: tuple[Any, Recorder],
    here: TestContext,
    tmp_path: Path,
    mode: str | None,
    worked: set[str],
) -> None:
    made = bucket(recorder, mode)
    before = made.listing()
    tried = attack(S3, made.settings(tmp_path), here, jobs=(DPI,))
    assert tried.worked == worked
    assert (tried.bearing.credentials, tried.bearing.code) == ("writer", None)
    assert tried.bearing.reaches_data
    assert "delete-version" in tried.refused | tried.worked or mode is None
    assert made.listing() == before
    made.assert_only_canaries_were_touched()


@pytest.mark.parametrize(
    ("who", "credentials"), [("admin", "administrator"), ("reader", "read_only")]
)
def test_the_wrong_credentials_are_told(
    recorder: tuple[Any, Recorder], here: TestContext, tmp_path: Path, who: str, credentials: str
) -> None:
    made = bucket(recorder, "COMPLIANCE")
    tried = attack(S3, made.settings(tmp_path, who), here, jobs=(DPI,))
    assert tried.bearing.credentials == credentials
    assert not tried.worked
