"""Proxmox Backup Server and Veeam, through a stand-in that answers as their descriptions say.

Neither runs here: what these tests prove is that answers are read as they are described, and that
whatever else a server may answer is neither taken for an empty listing nor for a success.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from backupguard.contracts import FetchRequest, JobRun, JobSelector, RepositoryType, SecretReference
from backupguard.errors import (
    AccessRefused,
    BackupGuardError,
    Cancelled,
    Changing,
    MissingMeans,
    Misunderstood,
    Unreachable,
)
from backupguard.model import PointKind, PointState, RecoveryPoint, Verdict
from backupguard.repositories import rest
from backupguard.repositories.proxmox import PROXMOX, ProxmoxSettings
from backupguard.repositories.rest_settings import RestSettings
from backupguard.repositories.veeam import VEEAM, VeeamSettings
from backupguard.testing import TestContext, context
from tests.integration.repositories.rest_server import RestServer, serving

SECRET = "not-to-be-seen-anywhere"
T0 = 1_772_661_600  # 2026-03-04 22:00 UTC
AT = datetime.fromtimestamp(T0, UTC)


@dataclass
class Vendor:
    """A type, its settings against a server, a job and the path of its listing."""

    kind: RepositoryType
    settings: Callable[..., RestSettings]
    job: JobSelector
    listing: str
    server: RestServer


@pytest.fixture
def here(tmp_path: Path) -> TestContext:
    return context(tmp_path / "context")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RestServer]:
    with serving(tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "PATIENCE_S", (0.0, 0.0))


def secret(tmp_path: Path, content: str) -> SecretReference:
    path = tmp_path / "secret"
    path.write_text(content)
    return SecretReference(file=path)


# -------------------------------------------------------------------------------------- Proxmox

PBS = "/api2/json"
STORE = f"{PBS}/admin/datastore/chb"


def snapshot(number: int, group: str = "vm/100", **changes: Any) -> dict[str, Any]:
    kind, _, name = group.partition("/")
    found = {
        "backup-type": kind,
        "backup-id": name,
        "backup-time": T0 + number * 86400,
        "size": 5 * 10**9,
        "owner": "backup@pbs",
        "protected": False,
        "files": [
            {"filename": "index.json.blob", "crypt-mode": "sign-only", "size": 500},
            {"filename": "drive-scsi0.img.fidx", "crypt-mode": "encrypt", "size": 5 * 10**9},
        ],
    } | changes
    return {name: value for name, value in found.items() if value is not None}


def task(number: int, status: str | None, **changes: Any) -> dict[str, Any]:
    return {
        "upid": f"UPID:pbs:0000:{number:08X}:backup:chb\\x3avm-100:backup@pbs:",
        "worker_type": "backup",
        "worker_id": "chb:vm/100",
        "starttime": T0 + number * 86400,
        **({"endtime": T0 + number * 86400 + 600, "status": status} if status else {}),
    } | changes


@pytest.fixture
def proxmox(server: RestServer, tmp_path: Path) -> Vendor:
    token = f"backupguard@pbs!read:{SECRET}"

    def guarded(body: Any) -> Any:
        def answer(_query: dict[str, str], headers: dict[str, str]) -> tuple[int, Any]:
            if headers.get("authorization") != f"PBSAPIToken={token}":
                return 401, b""
            return 200, body

        return answer

    snapshots = [snapshot(0), snapshot(1), snapshot(0, "host/srv-ged")]
    server.answers |= {
        f"{PBS}/version": guarded({"data": {"version": "3.2", "release": "3.2-7"}}),
        f"{STORE}/status": guarded({"data": {"total": 100, "used": 40, "avail": 60}}),
        f"{STORE}/snapshots": guarded({"data": snapshots}),
        f"{PBS}/access/permissions": guarded({"data": {"/datastore/chb": {"Datastore.Audit": 1}}}),
        f"{PBS}/nodes/localhost/tasks": guarded(
            {
                "data": [
                    task(0, "OK"),
                    task(1, "WARNINGS: 2"),
                    task(2, "unable to open disk"),
                    task(3, None),
                    task(0, "OK", worker_id="chb:vm/200"),
                ]
            }
        ),
    }

    def settings(**changes: Any) -> RestSettings:
        values: dict[str, Any] = {
            "type": "proxmox",
            "url": server.url,
            "datastore": "chb",
            "fingerprint": server.fingerprint,
            "timeout": "5s",
            "credentials": {"reader": secret(tmp_path, token)},
        }
        return ProxmoxSettings.model_validate(values | changes)

    job = JobSelector(job="dpi.vm", application="dpi", name="vm/100")
    return Vendor(PROXMOX, settings, job, f"{STORE}/snapshots", server)


# ---------------------------------------------------------------------------------------- Veeam


def paged(records: list[dict[str, Any]], token: str = "T") -> Any:
    def answer(query: dict[str, str], headers: dict[str, str]) -> tuple[int, Any]:
        if headers.get("authorization") != f"Bearer {token}":
            return 401, {"errorCode": "Unauthorized"}
        start, count = int(query["skip"]), min(int(query["limit"]), 2)
        found = records[start : start + count]
        pagination = {"total": len(records), "count": len(found), "skip": start, "limit": count}
        return 200, {"data": found, "pagination": pagination}

    return answer


def restore_point(number: int, machine: str = "srv-dpi", **changes: Any) -> dict[str, Any]:
    return {
        "id": f"point-{machine}-{number}",
        "name": machine,
        "platformName": "VMware",
        "creationTime": f"2026-03-0{number}T22:00:00+01:00",
        "backupId": "backup-1",
        "type": "Full" if number == 1 else "Increment",
    } | changes


def session(number: int, result: str | None, **changes: Any) -> dict[str, Any]:
    ended = result is not None
    return {
        "id": f"session-{number}",
        "name": "DPI nightly",
        "sessionType": "BackupJob",
        "creationTime": f"2026-03-0{number}T22:00:00+01:00",
        "endTime": f"2026-03-0{number}T23:00:00+01:00" if ended else None,
        "state": "Stopped" if ended else "Working",
        "result": {"result": result or "None", "isCanceled": False},
    } | changes


VBR = "/api/v1"


@pytest.fixture
def veeam(server: RestServer, tmp_path: Path) -> Vendor:
    def log_in(form: dict[str, str], headers: dict[str, str]) -> tuple[int, Any]:
        good = form.get("username") == "viewer" and form.get("password") == SECRET
        if not good or form.get("grant_type") != "password" or "x-api-version" not in headers:
            return 400, {"error": "invalid_grant"}
        return 200, {"access_token": "T", "expires_in": 900}

    points = [restore_point(1), restore_point(2), restore_point(3)]
    points += [restore_point(2, "srv-ged", backupId="backup-2")]
    sessions = [
        session(1, "Success"),
        session(2, "Warning"),
        session(3, "Failed"),
        session(4, None),
        session(5, "Success") | {"result": {"result": "Success", "isCanceled": True}},
        session(6, "Success", sessionType="SureBackup"),
        session(7, "Success", name="GED"),
    ]
    server.answers |= {
        "/api/oauth2/token": log_in,
        f"{VBR}/serverInfo": lambda _q, _h: (200, {"buildVersion": "12.1.0.2131", "name": "vbr"}),
        f"{VBR}/backupInfrastructure/repositories": paged(
            [
                {"id": "r1", "repository": {"makeRecentBackupsImmutableDays": 14}},
                {"id": "r2", "bucket": {"immutability": {"isEnabled": True, "daysCount": 30}}},
            ]
        ),
        f"{VBR}/backups": paged(
            [
                {"id": "backup-1", "name": "DPI nightly", "repositoryId": "r1"},
                {"id": "backup-2", "name": "GED", "repositoryId": "gone"},
            ]
        ),
        f"{VBR}/objectRestorePoints": paged(points),
        f"{VBR}/sessions": paged(sessions),
        f"{VBR}/credentials": lambda _q, _h: (403, {"errorCode": "AccessDenied"}),
    }

    def settings(**changes: Any) -> RestSettings:
        values: dict[str, Any] = {
            "type": "veeam",
            "url": server.url,
            "user": "viewer",
            "ca-certificate": server.certificate,
            "timeout": "5s",
            "credentials": {"reader": secret(tmp_path, SECRET)},
        }
        return VeeamSettings.model_validate(values | changes)

    job = JobSelector(job="dpi.nightly", application="dpi", name="DPI *")
    return Vendor(VEEAM, settings, job, f"{VBR}/objectRestorePoints", server)


@pytest.fixture(params=["proxmox", "veeam"])
def vendor(request: pytest.FixtureRequest) -> Vendor:
    found: Vendor = request.getfixturevalue(request.param)
    return found


def points(
    vendor: Vendor, here: TestContext, *jobs: JobSelector, **changes: Any
) -> list[RecoveryPoint]:
    with vendor.kind.open("vendor", vendor.settings(**changes), here) as repository:
        return sorted(repository.points(jobs or (vendor.job,)), key=lambda point: point.at)


def runs(vendor: Vendor, here: TestContext) -> list[JobRun]:
    with vendor.kind.open("vendor", vendor.settings(), here) as repository:
        list(repository.points((vendor.job,)))
        return sorted(repository.runs(AT), key=lambda run: run.started_at)


def inspected(vendor: Vendor, here: TestContext) -> Any:
    with vendor.kind.open("vendor", vendor.settings(), here) as repository:
        return repository.inspect()


# ------------------------------------------------------------------------------ what is described


def test_snapshots_of_a_group_are_points(proxmox: Vendor, here: TestContext) -> None:
    first, second = points(proxmox, here)
    assert first.native_id == "vm/100/2026-03-04T22:00:00Z"
    assert (first.at, first.bytes, first.encrypted) == (AT, 5 * 10**9, True)
    assert first.state is PointState.COMPLETE
    assert second.at > first.at
    every = JobSelector(job="a.b", application="a", name="*")
    assert len(points(proxmox, here, every)) == 3


@pytest.mark.parametrize(
    ("change", "state", "extra"),
    [
        ({"verification": {"state": "ok"}}, PointState.COMPLETE, {"verification": "ok"}),
        ({"verification": {"state": "failed"}}, PointState.FAILED, {"verification": "failed"}),
        ({"size": 0}, PointState.FAILED, None),
        ({"size": None}, PointState.RUNNING, None),
    ],
    ids=["verified", "damaged", "empty", "under-way"],
)
def test_what_the_server_found_out_about_a_snapshot_counts(
    proxmox: Vendor, here: TestContext, change: dict[str, Any], state: PointState, extra: Any
) -> None:
    proxmox.server.always(proxmox.listing, 200, {"data": [snapshot(0, **change)]})
    (point,) = points(proxmox, here)
    assert (point.state, point.extra) == (state, extra)


def test_a_snapshot_with_one_file_in_clear_is_not_encrypted(
    proxmox: Vendor, here: TestContext
) -> None:
    files = [
        {"filename": "a.fidx", "crypt-mode": "encrypt"},
        {"filename": "b", "crypt-mode": "none"},
    ]
    proxmox.server.always(proxmox.listing, 200, {"data": [snapshot(0, files=files)]})
    (point,) = points(proxmox, here)
    assert point.encrypted is False


def test_tasks_are_runs_with_their_end(proxmox: Vendor, here: TestContext) -> None:
    assert [run.state for run in runs(proxmox, here)] == [
        "complete",
        "warning",
        "failed",
        "running",
    ]


def test_restore_points_of_a_job_are_points(veeam: Vendor, here: TestContext) -> None:
    found = points(veeam, here)
    assert [point.kind for point in found] == [
        PointKind.FULL,
        PointKind.INCREMENTAL,
        PointKind.INCREMENTAL,
    ]
    assert found[0].at == datetime(2026, 3, 1, 21, tzinfo=UTC)
    assert {point.source_host for point in found} == {"srv-dpi"}
    by_host = JobSelector(job="a.b", application="a", host="srv-g*")
    assert [point.native_id for point in points(veeam, here, by_host)] == ["point-srv-ged-2"]


def test_a_point_that_its_server_calls_infected_is_a_warning(
    veeam: Vendor, here: TestContext
) -> None:
    veeam.server.answers[veeam.listing] = paged([restore_point(1, malwareStatus="Infected")])
    (point,) = points(veeam, here)
    assert (point.state, point.extra) == (PointState.WARNING, {"malware": "Infected"})


def test_sessions_are_runs_and_a_cancelled_one_is_no_success(
    veeam: Vendor, here: TestContext
) -> None:
    assert [run.state for run in runs(veeam, here)] == [
        "complete",
        "warning",
        "failed",
        "running",
        "failed",
    ]


def test_immutability_is_the_server_s_word(veeam: Vendor, here: TestContext) -> None:
    with VEEAM.open("vendor", veeam.settings(), here) as repository:
        found = list(repository.points((JobSelector(job="a.b", application="a"),)))
        protections = {one.native_id: one for one in repository.protection(found)}
    assert protections["point-srv-dpi-1"].locked_until == datetime(2026, 3, 15, 21, tzinfo=UTC)
    assert protections["point-srv-ged-2"].locked_until is None
    with VEEAM.open("vendor", veeam.settings(), here) as repository:  # as a probe asks: at once
        again = {one.native_id: one for one in repository.protection(found)}
        state = repository.protection_state()
    assert again == protections
    # the least of all backups: one of them lies where nothing is kept
    assert (state.mechanism, state.retention_s) == ("vendor", None)
    assert VEEAM.attack("vendor", veeam.settings(), here) is None


def test_version_13_is_asked_where_it_answers(veeam: Vendor, here: TestContext) -> None:
    veeam.server.always(f"{VBR}/serverInfo", 200, {"buildVersion": "13.0.1.1071"})
    veeam.server.answers[f"{VBR}/restorePoints"] = veeam.server.answers.pop(veeam.listing)
    assert len(points(veeam, here)) == 3


def test_inspect_tells_version_and_place(vendor: Vendor, here: TestContext) -> None:
    state = inspected(vendor, here)
    assert state.tool_version in ("3.2", "12.1.0.2131")
    assert str(state.device).startswith("host:")
    assert state.warnings == ()


def test_an_administrator_s_account_is_told(
    proxmox: Vendor, veeam: Vendor, here: TestContext
) -> None:
    proxmox.server.always(f"{PBS}/access/permissions", 200, {"data": {"/": {"Datastore.Prune": 1}}})
    veeam.server.always(f"{VBR}/credentials", 200, {"data": []})
    for vendor in (proxmox, veeam):
        assert inspected(vendor, here).warnings == ("administrator_credential",)


def test_nothing_but_reading_is_asked(vendor: Vendor, here: TestContext) -> None:
    inspected(vendor, here)
    runs(vendor, here)
    posted = {path for method, path in vendor.server.requests if method != "GET"}
    assert posted <= {"/api/oauth2/token"}
    with vendor.kind.open("vendor", vendor.settings(), here) as repository:
        point = next(iter(repository.points((vendor.job,))))
        request = FetchRequest(point=point, selector=vendor.job)
        with pytest.raises(MissingMeans):
            repository.fetch(request, here.work)


def test_no_jobs_no_points(vendor: Vendor, here: TestContext) -> None:
    with vendor.kind.open("vendor", vendor.settings(), here) as repository:
        assert list(repository.points(())) == []


def test_both_say_that_nobody_saw_them_work() -> None:
    assert PROXMOX.unproven
    assert VEEAM.unproven


# ---------------------------------------------------------------------------------------- trouble


def trouble(vendor: Vendor, here: TestContext, **changes: Any) -> BackupGuardError:
    with pytest.raises(BackupGuardError) as caught:
        points(vendor, here, **changes)
    assert caught.value.verdict is not Verdict.FAILED
    told = f"{caught.value} {caught.value.message.values}"
    assert SECRET not in told
    return caught.value


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (401, b"", AccessRefused, "authentication"),
        (403, b"{}", AccessRefused, "permission"),
        (404, b"{}", Unreachable, "not_found"),
        (429, b"slow down", Unreachable, "http_5xx"),
        (500, b"{}", Unreachable, "http_5xx"),
        (503, b"", Unreachable, "http_5xx"),
        (302, b"", Misunderstood, "output_unparsable"),
        (200, b"<html>log in to the portal</html>", Misunderstood, "output_unparsable"),
        (200, b'{"data": [{"id": 1}', Misunderstood, "output_unparsable"),
        (200, b"", Misunderstood, "output_unparsable"),
        (200, b"[]", Misunderstood, "output_unparsable"),
        (200, b'{"data": null}', Misunderstood, "output_unparsable"),
        (200, b'{"data": [5]}', Misunderstood, "output_unparsable"),
        (200, b'{"data": [{}], "pagination": {"total": 1}}', Misunderstood, "output_unparsable"),
        (200, b"[" * 100_000, Misunderstood, "output_unparsable"),
        (200, b"\xff\xfe{", Misunderstood, "output_unparsable"),
    ],
)
def test_an_answer_that_is_no_listing_is_none(
    vendor: Vendor, here: TestContext, status: int, body: bytes, kind: type, code: str
) -> None:
    if body == b'{"data": [{}], "pagination": {"total": 1}}' and vendor.kind is VEEAM:
        body = b'{"data": [{"backupId": "backup-1"}], "pagination": {"total": 1}}'
    vendor.server.always(vendor.listing, status, body)
    error = trouble(vendor, here)
    assert (type(error), error.code) == (kind, code)


def test_a_busy_server_is_asked_again(vendor: Vendor, here: TestContext) -> None:
    good = vendor.server.answers[vendor.listing]
    asked = iter([429, 503])
    vendor.server.answers[vendor.listing] = lambda query, headers: (
        (status, b"") if (status := next(asked, 0)) else good(query, headers)
    )
    assert points(vendor, here)


def test_a_page_that_went_missing_makes_nothing_vanish(veeam: Vendor, here: TestContext) -> None:
    def short(query: dict[str, str], _headers: dict[str, str]) -> tuple[int, Any]:
        found = [restore_point(1)] if query["skip"] == "0" else []
        return 200, {"data": found, "pagination": {"total": 3}}

    veeam.server.answers[veeam.listing] = short
    assert isinstance(trouble(veeam, here), Misunderstood)


def test_a_point_that_moves_up_a_page_meanwhile_does_not_vanish(
    veeam: Vendor, here: TestContext
) -> None:
    def shrinking(query: dict[str, str], _headers: dict[str, str]) -> tuple[int, Any]:
        # Between the two pages the first point was deleted, and the third became the second.
        if query["skip"] == "0":
            return 200, {
                "data": [restore_point(1), restore_point(2)],
                "pagination": {"total": 4},
            }
        return 200, {"data": [restore_point(4)], "pagination": {"total": 3}}

    veeam.server.answers[veeam.listing] = shrinking
    assert isinstance(trouble(veeam, here), Changing)


def test_a_wrong_secret(vendor: Vendor, here: TestContext, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("another" + SECRET)
    error = trouble(vendor, here, credentials={"reader": SecretReference(file=wrong)})
    assert (type(error), error.code) == (AccessRefused, "authentication")


@pytest.mark.parametrize("version", ["1.9", "11.0.1.1261", "99.1"])
def test_a_version_that_nobody_read_about_is_refused(
    vendor: Vendor, here: TestContext, version: str
) -> None:
    vendor.server.always(f"{PBS}/version", 200, {"data": {"version": version}})
    vendor.server.always(f"{VBR}/serverInfo", 200, {"buildVersion": version})
    with pytest.raises(MissingMeans) as caught:
        inspected(vendor, here)
    assert caught.value.code == "version_unsupported"


def test_a_certificate_of_somebody_else(vendor: Vendor, here: TestContext) -> None:
    other = {"ca-certificate": None, "fingerprint": "ab" * 32}
    assert trouble(vendor, here, **other).code == "tls"
    assert trouble(vendor, here, **{"ca-certificate": None, "fingerprint": None}).code == "tls"


@pytest.mark.parametrize(
    "about", [{"days": -1}, {"name": "pbs.example.org"}], ids=["expired", "wrong-host"]
)
def test_a_certificate_that_does_not_hold(
    vendor: Vendor, here: TestContext, tmp_path: Path, about: dict[str, Any]
) -> None:
    with serving(tmp_path, **about) as bad:
        changes = {"url": bad.url, "ca-certificate": bad.certificate, "fingerprint": None}
        assert trouble(vendor, here, **changes).code == "tls"
        assert bad.requests == []


def test_nobody_answers(vendor: Vendor, here: TestContext) -> None:
    assert trouble(vendor, here, url="https://localhost:1").code == "refused"
    assert trouble(vendor, here, url="https://vbr.nowhere.invalid").code == "dns"


def test_a_cancelled_listing_ends(vendor: Vendor, here: TestContext) -> None:
    here.cancel.set("by_operator")  # type: ignore[attr-defined]
    with pytest.raises(Cancelled):
        points(vendor, here)


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "http://vbr:9419"},
        {"url": "https://user:password@vbr:9419"},
        {"url": "vbr:9419"},
        {"fingerprint": "abc"},
        {"credentials": {}},
    ],
    ids=["clear-text", "secret-in-url", "no-scheme", "fingerprint", "no-credentials"],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    values = {"url": "https://vbr:9419", "credentials": {"reader": {"file": "/etc/x"}}}
    with pytest.raises(ValidationError):
        VeeamSettings.model_validate({"type": "veeam", "user": "x"} | values | changes)
    with pytest.raises(ValidationError):
        ProxmoxSettings.model_validate({"type": "proxmox", "datastore": "x"} | values | changes)
