"""Dumps in a bucket of a real S3 server: versions, rights, damage on the way, servers in trouble."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import threading
import tracemalloc
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from backupguard.contracts import (
    Credentials,
    FetchRequest,
    JobSelector,
    SecretReference,
    VerifyPlan,
)
from backupguard.demo.s3_server import S3Server
from backupguard.errors import (
    AccessRefused,
    BackupDefect,
    BackupGuardError,
    Cancelled,
    Changing,
    ConfigurationError,
    MissingMeans,
    Unreachable,
)
from backupguard.model import PointState, RecoveryPoint, Verdict, VerifiedCoverage
from backupguard.repositories import s3_client
from backupguard.repositories.restic import RESTIC
from backupguard.repositories.restic_settings import ResticSettings
from backupguard.repositories.s3 import S3
from backupguard.repositories.s3_objects import objects, patterns_of
from backupguard.repositories.s3_places import place_of
from backupguard.repositories.s3_settings import S3Settings
from backupguard.testing import TestContext
from tests.programs import program

DPI = JobSelector(job="dpi.nightly", application="dpi", pattern="dpi-%Y%m%d.dump")
DUMP = b"PGDMP" + bytes(range(256)) * 400


@pytest.fixture
def server(s3_server: S3Server) -> S3Server:
    return s3_server


_made = iter(range(1000))


@pytest.fixture
def bucket(server: S3Server) -> str:
    """A bucket that keeps versions, with three dumps of one job and one of another."""
    name = f"backups-{os.getpid()}-{next(_made)}"
    admin = server.client()
    admin.create_bucket(Bucket=name)
    admin.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    for day in (3, 4, 5):
        admin.put_object(Bucket=name, Key=f"site/dpi-2026030{day}.dump", Body=DUMP + bytes([day]))
    admin.put_object(Bucket=name, Key="site/ged-20260305.dump", Body=b"other")
    admin.put_object(Bucket=name, Key="elsewhere/dpi-20260305.dump", Body=b"other")
    return name


def settings(
    server: S3Server, bucket: str, tmp_path: Path, identity: str = "reader", **changes: Any
) -> S3Settings:
    secret = tmp_path / f"{identity}.ini"
    secret.write_text(server.credentials(identity))
    values: dict[str, Any] = {
        "type": "s3",
        "endpoint": server.endpoint,
        "bucket": bucket,
        "prefix": "site/",
        "timezone": "Europe/Paris",
        "timeout": "5s",
        "credentials": {"reader": SecretReference(file=secret)},
    }
    return S3Settings.model_validate(values | changes)


def points(here: TestContext, found: S3Settings, *jobs: JobSelector) -> list[RecoveryPoint]:
    with S3.open("cloud", found, here) as repository:
        return sorted(
            repository.points(jobs or (DPI,)), key=lambda point: (point.at, point.native_id)
        )


def fetched(here: TestContext, found: S3Settings, point: RecoveryPoint, into: Path) -> bytes:
    into.mkdir()
    with S3.open("cloud", found, here) as repository:
        result = repository.fetch(FetchRequest(point=point, selector=DPI), into)
    content = (into / result.artifact).read_bytes()
    assert (result.bytes, result.files) == (len(content), 1)
    return content


def everything(server: S3Server, bucket: str) -> list[tuple[Any, ...]]:
    """Return all that a bucket holds: what must be the same after everything was done."""
    listed = server.client().list_object_versions(Bucket=bucket)
    return [
        (entry["Key"], entry["VersionId"], entry.get("Size"), entry["LastModified"])
        for kind in ("Versions", "DeleteMarkers")
        for entry in listed.get(kind, ())
    ]


# -------------------------------------------------------------------------------------- listing


def test_each_matching_object_is_a_point(
    server: S3Server, bucket: str, here: TestContext, tmp_path: Path
) -> None:
    found = points(here, settings(server, bucket, tmp_path))
    assert len(found) == 3
    newest = found[-1]
    assert newest.native_id.startswith("site/dpi-20260305.dump@")
    assert newest.at == datetime(2026, 3, 4, 23, tzinfo=UTC), "midnight of that day in Paris"
    assert (newest.bytes, newest.files) == (len(DUMP) + 1, 1)
    assert newest.content_id == f"md5:{hashlib.md5(DUMP + bytes([5])).hexdigest()}"
    assert newest.state is PointState.COMPLETE
    assert newest.extra is None


def test_old_versions_and_those_below_a_delete_marker_are_points_too(
    server: S3Server, bucket: str, here: TestContext, tmp_path: Path
) -> None:
    admin = server.client()
    fixed = JobSelector(job="dpi.fixed", application="dpi", pattern="fixed.dump")
    for content in (b"one", b"two"):
        admin.put_object(Bucket=bucket, Key="site/fixed.dump", Body=content)
    before = points(here, settings(server, bucket, tmp_path), fixed)
    assert [point.extra for point in before] == [None, None]
    admin.delete_object(Bucket=bucket, Key="site/fixed.dump")
    after = points(here, settings(server, bucket, tmp_path), fixed)
    assert {point.native_id for point in after} == {point.native_id for point in before}
    assert [point.extra for point in after] == [{"hidden": True}] * 2
    contents = {
        fetched(here, settings(server, bucket, tmp_path), point, tmp_path / f"into{number}")
        for number, point in enumerate(after)
    }
    assert contents == {b"one", b"two"}


def test_a_bucket_without_versions_serves_as_well(
    server: S3Server, here: TestContext, tmp_path: Path
) -> None:
    name = f"plain-{os.getpid()}"
    server.client().create_bucket(Bucket=name)
    server.client().put_object(Bucket=name, Key="site/dpi-20260305.dump", Body=DUMP)
    (point,) = points(here, settings(server, name, tmp_path))
    assert point.native_id == "site/dpi-20260305.dump@null"
    assert fetched(here, settings(server, name, tmp_path), point, tmp_path / "into") == DUMP


def test_an_empty_object_is_a_failed_run(
    server: S3Server, bucket: str, here: TestContext, tmp_path: Path
) -> None:
    server.client().put_object(Bucket=bucket, Key="site/dpi-20260306.dump", Body=b"")
    newest = points(here, settings(server, bucket, tmp_path))[-1]
    assert (newest.state, newest.bytes) == (PointState.FAILED, 0)
    with pytest.raises(BackupDefect) as caught:
        fetched(here, settings(server, bucket, tmp_path), newest, tmp_path / "into")
    assert caught.value.code == "empty"


def test_dates_may_lie_in_the_directories_and_names_hold_any_character(
    server: S3Server, bucket: str, here: TestContext, tmp_path: Path
) -> None:
    key = "site/2026/03/dossier été @ 100%-05.dump"
    server.client().put_object(Bucket=bucket, Key=key, Body=DUMP)
    odd = JobSelector(job="x.y", application="x", pattern="%Y/%m/dossier été @ 100%%-%d.dump")
    (point,) = points(here, settings(server, bucket, tmp_path), odd)
    assert point.native_id.isascii()
    assert fetched(here, settings(server, bucket, tmp_path), point, tmp_path / "into") == DUMP


def test_a_pattern_that_cannot_be_read_is_a_mistake_in_the_configuration(
    server: S3Server, bucket: str, here: TestContext, tmp_path: Path
) -> None:
    broken = JobSelector(job="x.y", application="x", pattern="dpi-%Q.dump")
    with pytest.raises(ConfigurationError):
        points(here, settings(server, bucket, tmp_path), broken)


def test_inspect_names_server_and_bucket(
    server: S3Server, bucket: str, here: TestContext, tmp_path: Path
) -> None:
    with S3.open("cloud", settings(server, bucket, tmp_path), here) as repository:
        state = repository.inspect()
    assert state.tool == "s3"
    assert bucket in str(state.device)


def test_nothing_is_written_and_nothing_can_be(
    server: S3Server, bucket: str, here: TestContext, tmp_path: Path
) -> None:
    before = everything(server, bucket)
    found = settings(server, bucket, tmp_path, "admin")  # it would be allowed to
    listed = points(here, found)
    fetched(here, found, listed[0], tmp_path / "into")
    with S3.open("cloud", found, here) as repository:
        assert list(repository.verify(VerifyPlan(data_percent=100, jobs=(DPI,))))
    assert everything(server, bucket) == before
    client = s3_client.client(
        place_of(found), here.secret(SecretReference(file=tmp_path / "admin.ini"))
    )
    for call in (
        lambda: client.put_object(Bucket=bucket, Key="x", Body=b""),
        lambda: client.delete_object(Bucket=bucket, Key="site/dpi-20260305.dump"),
        lambda: client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={}),
    ):
        with pytest.raises(AssertionError, match="only read"):
            call()
    assert everything(server, bucket) == before


# ----------------------------------------------------------------------------- reading and damage


def test_everything_is_read_by_turns(
    server: S3Server, bucket: str, here: TestContext, tmp_path: Path
) -> None:
    found = settings(server, bucket, tmp_path)
    with S3.open("cloud", found, here) as repository:
        names = set(repository.units(VerifyPlan(jobs=(DPI,))))  # type: ignore[attr-defined]
        read: set[str] = set()
        for _ in range(3):
            (unit,) = repository.verify(VerifyPlan(data_percent=30, jobs=(DPI,)))
            assert (unit.verdict, unit.units_total) == (Verdict.PASSED, 3)
            read.add(unit.unit)
            here.known.covered["cloud"] = {
                name: VerifiedCoverage(
                    repository="cloud", unit=name, verified_at=datetime.now(UTC), seq=1
                )
                for name in read
            }
    assert read == names


def test_a_multipart_object_is_compared_by_its_parts(
    server: S3Server, bucket: str, here: TestContext, tmp_path: Path
) -> None:
    admin, key = server.client(), "site/dpi-20260306.dump"
    upload = admin.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    where = {"Bucket": bucket, "Key": key, "UploadId": upload}
    parts = []
    for number, part in enumerate((os.urandom(5 << 20), b"end"), start=1):
        tag = admin.upload_part(**where, PartNumber=number, Body=part)["ETag"]
        parts.append({"PartNumber": number, "ETag": tag})
    admin.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    newest = JobSelector(job="dpi.nightly", application="dpi", pattern="dpi-20260306.dump")
    with S3.open("cloud", settings(server, bucket, tmp_path), here) as repository:
        (unit,) = repository.verify(VerifyPlan(data_percent=100, jobs=(newest,)))
    assert (unit.verdict, unit.code) == (Verdict.PASSED, None)


class _Flipping(BaseHTTPRequestHandler):
    """Passes requests on, and flips a byte of the bodies of dumps as often as it is told to."""

    upstream: str
    times: int
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = urllib.request.Request(self.upstream + self.path, headers=dict(self.headers))
        try:
            answer = urllib.request.urlopen(asked, timeout=10)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            body = bytearray(answer.read())
            if "/site/" in self.path and self.times > 0 and len(body) > 100:
                type(self).times -= 1
                body[50] ^= 1
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def flipping(server: S3Server) -> Iterator[Callable[[int], str]]:
    handler = type("Flipping", (_Flipping,), {"upstream": server.endpoint, "times": 0})
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.02,))
    thread.start()

    def times(count: int) -> str:
        handler.times = count  # type: ignore[attr-defined]
        return f"http://127.0.0.1:{proxy.server_port}"

    yield times
    proxy.shutdown()
    thread.join()
    proxy.server_close()


def verified_through(
    proxy: str, server: S3Server, bucket: str, here: TestContext, tmp_path: Path
) -> list[tuple[Verdict, str | None]]:
    # The signature covers the host: the server is told the one it was signed for.
    found = settings(server, bucket, tmp_path, endpoint=proxy)
    with S3.open("cloud", found, here) as repository:
        units = list(repository.verify(VerifyPlan(data_percent=100, jobs=(DPI,))))
    return [(unit.verdict, unit.code) for unit in units]


@pytest.mark.parametrize(
    ("flips", "expected"),
    [
        (0, (Verdict.PASSED, None)),
        (1, (Verdict.PASSED, None)),
        (100, (Verdict.FAILED, "corrupt")),
    ],
    ids=["clean", "hurt-on-the-way", "corrupt"],
)
def test_a_byte_that_is_wrong_twice_accuses_the_object(
    server: S3Server, bucket: str, here: TestContext, tmp_path: Path,
    flipping: Callable[[int], str], flips: int, expected: tuple[Verdict, str | None],
) -> None:  # fmt: skip
    found = verified_through(flipping(flips), server, bucket, here, tmp_path)
    assert len(found) == 3
    assert set(found) == {expected}


# -------------------------------------------------------------------------------------- trouble


def trouble(here: TestContext, found: S3Settings) -> BackupGuardError:
    with pytest.raises(BackupGuardError) as caught:
        points(here, found)
    with pytest.raises(BackupGuardError), S3.open("cloud", found, here) as repository:
        repository.inspect()
    assert caught.value.verdict is not Verdict.FAILED
    assert "-secret" not in str(caught.value)
    return caught.value


def test_a_bucket_that_is_not_there(server: S3Server, here: TestContext, tmp_path: Path) -> None:
    error = trouble(here, settings(server, "no-such-bucket", tmp_path))
    assert (type(error), error.code) == (Unreachable, "not_found")


def test_a_key_that_nobody_knows(
    server: S3Server, bucket: str, here: TestContext, tmp_path: Path
) -> None:
    error = trouble(here, settings(server, bucket, tmp_path, "stranger"))
    assert (type(error), error.code) == (AccessRefused, "authentication")


def test_a_secret_that_is_no_credentials_file(
    server: S3Server, bucket: str, here: TestContext, tmp_path: Path
) -> None:
    found = settings(server, bucket, tmp_path)
    (tmp_path / "reader.ini").write_text("reader:reader-secret")
    error = trouble(here, found)
    assert (type(error), error.code) == (AccessRefused, "authentication")


def test_nobody_listens(server: S3Server, bucket: str, here: TestContext, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
        error = trouble(here, settings(server, bucket, tmp_path, endpoint=endpoint))
    assert (type(error), error.code) == (Unreachable, "refused")


def test_a_name_that_nobody_knows(
    server: S3Server, bucket: str, here: TestContext, tmp_path: Path
) -> None:
    found = settings(server, bucket, tmp_path, endpoint="http://s3.nowhere.invalid")
    assert trouble(here, found).code == "dns"


def test_a_server_that_accepts_and_never_answers(
    server: S3Server, bucket: str, here: TestContext, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(s3_client, "_ATTEMPTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        found = settings(server, bucket, tmp_path, endpoint=endpoint, timeout="1s")
        assert trouble(here, found).code == "timeout"


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (500, b"<html>oops</html>", "http_5xx"),
        (503, b"", "http_5xx"),
        (429, b"slow down", "http_5xx"),
        (401, b"<html>login</html>", "output_unparsable"),
        (403, b"", "permission"),
        (200, b"<html>welcome to the portal</html>", "output_unparsable"),
        (200, b"<VersioningConfiguration><Sta", "http_5xx"),  # so says the library
    ],
)
def test_answers_that_are_none(
    server: S3Server, bucket: str, here: TestContext, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, code: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(s3_client, "_ATTEMPTS", 1)

    class Strange(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Strange) as strange:
        thread = threading.Thread(target=strange.serve_forever, args=(0.02,))
        thread.start()
        try:
            endpoint = f"http://127.0.0.1:{strange.server_port}"
            found = settings(server, bucket, tmp_path, endpoint=endpoint)
            assert trouble(here, found).code == code
        finally:
            strange.shutdown()
            thread.join()


def test_a_listing_that_has_more_and_says_not_where_is_none(
    server: S3Server, bucket: str, here: TestContext, tmp_path: Path
) -> None:
    body = f"<R><Name>{bucket}</Name><IsTruncated>true</IsTruncated></R>".encode()

    class Cut(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Cut) as cut:
        thread = threading.Thread(target=cut.serve_forever, args=(0.02,))
        thread.start()
        try:
            found = settings(
                server, bucket, tmp_path, endpoint=f"http://127.0.0.1:{cut.server_port}"
            )
            with pytest.raises(BackupGuardError) as caught:
                points(here, found)
            assert caught.value.code == "output_unparsable"
        finally:
            cut.shutdown()
            thread.join()


def test_a_point_that_has_gone_accuses_nobody(
    server: S3Server, bucket: str, here: TestContext, tmp_path: Path
) -> None:
    found = settings(server, bucket, tmp_path)
    point = points(here, found)[0]
    key, _, version = point.native_id.rpartition("@")
    server.client().delete_object(Bucket=bucket, Key=key, VersionId=version)
    with pytest.raises(Changing):
        fetched(here, found, point, tmp_path / "into")


def test_a_full_disk_is_ours(
    server: S3Server, bucket: str, here: TestContext, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    found = settings(server, bucket, tmp_path)
    point = points(here, found)[0]
    # The one place where every write finds no room.
    with S3.open("cloud", found, here) as repository:
        opened = os.open

        def full(path: Any, flags: int, *more: Any, **named: Any) -> int:
            if flags & os.O_CREAT:
                return opened("/dev/full", os.O_WRONLY)
            return opened(path, flags, *more, **named)

        request = FetchRequest(point=point, selector=DPI)
        monkeypatch.setattr("backupguard.repositories.s3.os.open", full)
        with pytest.raises(MissingMeans) as caught:
            repository.fetch(request, tmp_path)
        monkeypatch.undo()
    assert caught.value.code == "no_disk"


def test_a_cancelled_listing_ends(
    server: S3Server, bucket: str, here: TestContext, tmp_path: Path
) -> None:
    here.cancel.set("by_operator")  # type: ignore[attr-defined]
    with pytest.raises(Cancelled):
        points(here, settings(server, bucket, tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {"bucket": "UPPER"},
        {"endpoint": "s3.example.org"},
        {"endpoint": "https://key:secret@s3.example.org"},
        {"prefix": "/site"},
        {"credentials": {}},
        {"timezone": "Europe/Atlantis"},
    ],
    ids=["bucket", "no-scheme", "secret", "prefix", "no-credentials", "timezone"],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    values = {
        "type": "s3",
        "bucket": "backups",
        "credentials": {"reader": {"file": "/etc/x"}},
    }
    with pytest.raises(ValidationError):
        S3Settings.model_validate(values | changes)


def test_many_versions_are_gone_through_in_constant_memory() -> None:
    def pages(_prefix: str) -> Iterator[dict[str, Any]]:
        began = datetime(2026, 1, 1, tzinfo=UTC)
        for page in range(20):
            yield {
                "Versions": [
                    {
                        "Key": f"dpi-{page:03}-{number:04}.dump",
                        "VersionId": f"{page}.{number}",
                        "IsLatest": True,
                        "Size": 1,
                        "ETag": '"x"',
                        "LastModified": began + timedelta(seconds=page * 1000 + number),
                    }
                    for number in range(1000)
                ]
            }

    every = patterns_of(JobSelector(job="a.b", application="a", pattern="dpi-*.dump"), "")
    tracemalloc.start()
    count = sum(1 for _ in objects(every, pages, None))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 4 << 20


# ------------------------------------------------------------------- restic's own S3 backend


def test_a_restic_repository_in_a_bucket_is_listed_checked_and_fetched(
    server: S3Server, here: TestContext, tmp_path: Path
) -> None:
    name = f"restic-{os.getpid()}"
    server.client().create_bucket(Bucket=name)
    password, keys = tmp_path / "password", tmp_path / "keys.ini"
    password.write_text("correct horse\n")
    keys.write_text(server.credentials("writer"))
    dump = tmp_path / "dpi.dump"
    dump.write_bytes(DUMP)
    url = f"s3:{server.endpoint}/{name}"
    for arguments in (["init"], ["backup", "--host", "srv1", str(dump)]):
        subprocess.run(
            [program("restic-0.18"), "--repo", url, "--password-file", password, *arguments],
            env={"AWS_SHARED_CREDENTIALS_FILE": str(keys), "HOME": str(tmp_path), "PATH": "/bin"},
            check=True,
            capture_output=True,
            timeout=60,
        )
    keys.write_text(server.credentials("reader"))
    before = everything(server, name)
    found = ResticSettings(
        type="restic",
        url=url,
        program=program("restic-0.18"),
        credentials=Credentials(
            reader=SecretReference(file=password), backend=SecretReference(file=keys)
        ),
    )
    job = JobSelector(job="dpi.nightly", application="dpi", paths=(str(dump),))
    into = tmp_path / "into"
    into.mkdir()
    with RESTIC.open("cloud", found, here) as repository:
        (point,) = repository.points((job,))
        units = list(repository.verify(VerifyPlan(data_percent=100, jobs=(job,))))
        result = repository.fetch(FetchRequest(point=point, selector=job), into)
    assert {unit.verdict for unit in units} == {Verdict.PASSED}
    assert (into / result.artifact).read_bytes() == DUMP
    assert everything(server, name) == before
