"""ACC-01: each defect of accounts and secrets, and its clean twin beside it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from backupguard.language import Words
from backupguard.model import Fact, NotMeasurableCause, Scope, Status, View, to_us
from tests.unit.controls.control_facts import DAY, NOW, fact, judge

INSPECTED = {
    "reachable": True,
    "code": None,
    "type": "veeam",
    "tool": None,
    "tool_version": None,
    "repository_id": None,
    "format_version": None,
    "encrypted": None,
    "locks": [],
    "device": None,
}


def stated(
    *, days: int = 30, authenticated: bool = True, seq: int = 21, **values: Any
) -> dict[str, Any]:
    expires = to_us(NOW + days * DAY)
    return {
        "seq": seq,
        "made_at": to_us(NOW - 100 * DAY),
        "expires_at": expires,
        "expired": expires <= to_us(NOW),
        "authenticated": authenticated,
        "person": "claire",
        "author": "uid/1001 (claire)",
        "origin": "attested",
        "text": "vu",
        "values": values,
    }


def all_stated(**changed: Any) -> dict[str, Any]:
    return {
        "mfa/veeam": stated(name="veeam"),
        "mfa/restic": stated(name="restic", percent=100),
        "admins": stated(count=3),
    } | changed


def secret(use: str = "reader", age: Any = 100 * DAY, repository: str = "nas") -> dict[str, Any]:
    written_at = None if age is None else to_us(NOW - age)
    return {"repository": repository, "use": use, "written_at": written_at, "code": None}


def looked(*secrets: dict[str, Any], at: datetime = NOW, shared: tuple[str, ...] = ()) -> Fact:
    data = {"secrets": list(secrets or (secret(),)), "shared": list(shared)}
    return fact("secrets.seen", "site", at, data, seq=11)


def inspected(warnings: list[str], repository: str = "console") -> Fact:
    return fact(
        "repository.inspected", f"repository/{repository}", NOW, INSPECTED | {"warnings": warnings}
    )


def tried(credentials: str) -> Fact:
    data = {
        "attacker": "backup_writer",
        "verdict": "could_not_verify",
        "code": None,
        "worked": [],
        "refused": [],
        "untried": [],
        "credentials": credentials,
        "reaches_data": True,
        "before": None,
        "canaries": [],
        "attempts": [],
    }
    return fact("immutability.tried", "repository/nas", NOW, data)


def site(
    attestations: dict[str, Any] | None = None,
    look: Fact | None = None,
    repositories: dict[str, str] | None = None,
    **latest: Fact,
) -> View:
    return View(
        scope=Scope.SITE,
        subject="site",
        settings={
            "criticality": "C1",
            "repositories": {"nas": "restic", "console": "veeam"}
            if repositories is None
            else repositories,
        },
        latest={"secrets.seen": look or looked()}
        | {f"{name.replace('_', '.')}/repository/{of}": one for name, one in latest.items()
           for of in [one.observation.subject.partition("/")[2]]},
        first_seen=NOW - 400 * DAY,
        known={
            "newest_record_at": None,
            "attestations": all_stated() if attestations is None else attestations,
        },
    )  # fmt: skip


def outcome(view: View, now: datetime = NOW) -> tuple[Status, str]:
    judgement = judge("ACC-01", view, now)
    for language in ("fr", "en"):
        assert "{" not in Words(language).say(judgement.reason)
    return judgement.status, judgement.reason.id.removeprefix("reason.ACC-01.")


def test_everything_stated_signed_and_seen_is_compliant() -> None:
    assert outcome(site()) == (Status.COMPLIANT, "kept")
    assert judge("ACC-01", site()).reason.values == {"consoles": 2, "admins": 3}


@pytest.mark.parametrize(
    ("view", "status", "reason"),
    [
        (
            site(repository_inspected=inspected(["administrator_credential"])),
            Status.NON_COMPLIANT, "administrator_reader",
        ),
        (
            site(immutability_tried=tried("administrator")),
            Status.NON_COMPLIANT, "administrator_writer",
        ),
        (site(look=looked(secret(age=366 * DAY))), Status.NON_COMPLIANT, "old_secret"),
        (
            site(look=looked(secret(), secret("writer-for-probe", 366 * DAY))),
            Status.NON_COMPLIANT, "old_secret",
        ),
        (site(look=looked(shared=("nas",))), Status.WARNING, "shared_secret"),
        (site(look=looked(secret(age=None))), Status.NOT_MEASURABLE, "rotation_unstated"),
        (
            site(all_stated(secrets=stated(authenticated=False)), looked(secret(age=None))),
            Status.WARNING, "rotation_unsigned",
        ),
        (
            site(all_stated(secrets=stated(days=-4)), looked(secret(age=None))),
            Status.NON_COMPLIANT, "rotation_expired",
        ),
        (site(look=looked(at=NOW - 7 * DAY)), Status.NON_COMPLIANT, "look_lost"),
        (
            site({k: v for k, v in all_stated().items() if k != "mfa/veeam"}),
            Status.NOT_MEASURABLE, "mfa_unstated",
        ),
        (
            site(all_stated(**{"mfa/veeam": stated(name="veeam", percent=90)})),
            Status.NON_COMPLIANT, "mfa_partial",
        ),
        (
            site(all_stated(**{"mfa/veeam": stated(name="veeam", authenticated=False)})),
            Status.WARNING, "mfa_unsigned",
        ),
        (
            site(all_stated(**{"mfa/veeam": stated(name="veeam", days=-4)})),
            Status.NON_COMPLIANT, "mfa_expired",
        ),
        (
            site({k: v for k, v in all_stated().items() if k != "admins"}),
            Status.NOT_MEASURABLE, "admins_unstated",
        ),
        (site(all_stated(admins=stated(days=-4, count=3))), Status.NON_COMPLIANT, "admins_expired"),
        (
            site(all_stated(admins=stated(authenticated=False, count=3))),
            Status.WARNING, "admins_unsigned",
        ),
        (site({}, repositories={}), Status.NOT_MEASURABLE, "no_repository"),
    ],
    ids=[
        "reader-is-an-administrator", "writer-is-an-administrator", "reader-secret-of-a-year",
        "writer-secret-of-a-year", "one-secret-for-both", "credential-of-unknown-age",
        "rotation-not-signed", "rotation-expired", "nobody-looks-any-more", "a-console-nobody-stated",
        "mfa-for-some", "mfa-not-signed", "mfa-expired", "administrators-not-counted",
        "administrators-expired", "administrators-not-signed", "nothing-configured",
    ],
)  # fmt: skip
def test_a_defect_is_named(view: View, status: Status, reason: str) -> None:
    assert outcome(view) == (status, reason)


@pytest.mark.parametrize(
    "view",
    [
        site(repository_inspected=inspected([])),
        site(repository_inspected=inspected(["administrator_credential"], "gone")),
        site(immutability_tried=tried("writer")),
        site(look=looked(secret(age=365 * DAY), secret("writer-for-probe"))),
        site(look=looked(secret(), secret(age=900 * DAY, repository="gone"), shared=("gone",))),
        site(all_stated(secrets=stated()), looked(secret(age=None))),
        site(look=looked(at=NOW - 2 * DAY)),
        site(
            {k: v for k, v in all_stated().items() if k != "mfa/veeam"}
            | {"mfa/console": stated(name="console")}
        ),
        site(
            {k: v for k, v in all_stated().items() if k != "admins"}
            | {"admins/restic": stated(name="restic", count=2)}
        ),
    ],
    ids=[
        "reader-with-few-rights", "another-site's-administrator", "writer-with-few-rights",
        "secrets-of-a-year-less-a-day", "what-is-not-configured-any-more", "rotation-signed",
        "looked-two-days-ago", "console-by-repository", "administrators-by-console",
    ],
)  # fmt: skip
def test_its_clean_twin_is_compliant(view: View) -> None:
    assert outcome(view) == (Status.COMPLIANT, "kept")


def test_a_look_that_was_never_taken_measures_nothing() -> None:
    view = site()
    unseen = View(scope=view.scope, subject=view.subject, settings=view.settings, known=view.known)
    judgement = judge("ACC-01", unseen)
    assert (judgement.status, judgement.cause) == (
        Status.NOT_MEASURABLE,
        NotMeasurableCause.NEVER_SET_UP,
    )


LADDER = (Status.COMPLIANT, Status.NOT_MEASURABLE, Status.WARNING, Status.NON_COMPLIANT)


@pytest.mark.parametrize("authenticated", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("age", [100, 400, -3, None], ids=str)
def test_time_alone_only_worsens(authenticated: bool, age: int | None) -> None:
    changed = {
        name: stated(days=20, authenticated=authenticated, count=1, name="veeam")
        for name in ("mfa/veeam", "admins", "secrets")
    }
    view = site(all_stated(**changed), looked(secret(age=None if age is None else age * DAY)))
    found = [LADDER.index(outcome(view, NOW + days * DAY)[0]) for days in range(0, 400, 3)]
    assert found == sorted(found)
