"""Where canaries go, and when a policy treats them as it treats the backups: strictly."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backupguard.contracts import JobSelector
from backupguard.repositories.s3_attack_places import (
    is_canary,
    spots_of_dumps,
    spots_of_restic,
    treats_alike,
)

RESTIC = spots_of_restic("dpi/")


def job(pattern: str | None) -> JobSelector:
    return JobSelector(job="dpi.nightly", application="dpi", pattern=pattern)


@pytest.mark.parametrize(
    ("prefix", "patterns", "bases"),
    [
        ("site/", ["dpi-%Y%m%d.dump"], ["site/"]),
        ("site/", ["dpi/dpi-%Y%m%d.dump", "ged/%Y/%m/ged.dump"], ["site/dpi/", "site/ged/"]),
        ("site/", [None], ["site/"]),
        ("site/", [], ["site/"]),
        ("", ["dpi-%Y%m%d.dump"], [""]),
        ("site/dpi-", ["%Y%m%d.dump"], ["site/dpi-"]),
    ],
)
def test_canaries_lie_beside_the_points_of_each_job(
    prefix: str, patterns: list[str | None], bases: list[str]
) -> None:
    spots = spots_of_dumps(prefix, [job(pattern) for pattern in patterns])
    assert [spot.base for spot in spots] == bases
    for spot in spots:
        assert is_canary(spot.key("0" * 16, "plain"), prefix)


@pytest.mark.parametrize(
    "key",
    [
        "dpi/data/00/0123",
        "other/backupguard-canary-0123456789abcdef-plain",
        "dpi/backupguard-canary-0123456789abcdef-plain/more",
        "dpi/backupguard-canary-0123456789ABCDEF-plain",
        "dpi/backupguard-canary-",
        "",
    ],
)
def test_what_is_no_canary_of_ours(key: str) -> None:
    assert not is_canary(key, "dpi/")


def policy(**statement: Any) -> str:
    about = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", **statement}
    return json.dumps({"Version": "2012-10-17", "Statement": about})


@pytest.mark.parametrize(
    ("resource", "alike"),
    [
        ("arn:aws:s3:::b/*", True),
        ("arn:aws:s3:::b", True),
        ("arn:aws:s3:::b*", True),
        ("*", True),
        ("arn:aws:s3:::b/dpi/*", True),
        ("arn:aws:s3:::b/dpi/data/*", True),
        ("arn:aws:s3:::b/dpi/locks/*", True),
        ("arn:aws:s3:::b/other/*", True),
        ("arn:aws:s3:::other/*", True),
        ("arn:aws:s3:::b/dpi/data/backupguard-canary-*", False),
        ("arn:aws:s3:::b/dpi/data/0*", False),
        ("arn:aws:s3:::b/dpi/data/??", False),
        ("arn:aws:s3:::b/*/data/*", False),
        ("arn:aws:s3:::*/dpi/data/*", False),
        ("arn:aws:s3:::b/dpi/keys/abc", False),
    ],
)
@pytest.mark.parametrize("which", ["Resource", "NotResource"])
def test_a_statement_is_about_both_or_about_neither(which: str, resource: str, alike: bool) -> None:
    assert treats_alike(policy(**{which: ["arn:aws:s3:::b/*", resource]}), "b", RESTIC) is alike


def test_dumps_are_compared_by_what_their_names_begin_with() -> None:
    """A policy for `dpi-…` alone is not about the canary beside them."""
    spots = spots_of_dumps("site/", [job("dpi-%Y%m%d.dump")])
    assert treats_alike(policy(Resource="arn:aws:s3:::b/site/dpi-*"), "b", spots) is False
    assert treats_alike(policy(Resource="arn:aws:s3:::b/site/*"), "b", spots) is True


def test_a_condition_on_tags_may_tell_them_apart() -> None:
    condition = {"StringEquals": {"s3:ExistingObjectTag/kind": "backup"}}
    found = policy(Resource="arn:aws:s3:::b/*", Condition=condition)
    assert treats_alike(found, "b", RESTIC) is False
    condition = {"Bool": {"aws:SecureTransport": "false"}}
    assert treats_alike(policy(Resource="arn:aws:s3:::b/*", Condition=condition), "b", RESTIC)


def test_what_only_lets_somebody_read_is_passed_over() -> None:
    one = "arn:aws:s3:::b/dpi/data/0*"
    assert treats_alike(policy(Resource=one, Action=["s3:GetObject", "s3:ListBucket"]), "b", RESTIC)
    assert not treats_alike(policy(Resource=one, Action=["s3:GetObject", "s3:*"]), "b", RESTIC)
    assert not treats_alike(policy(Resource=one, NotAction="s3:DeleteObject"), "b", RESTIC)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"Statement": [1]}', "null"])
def test_what_is_no_policy_is_not_compared(text: str) -> None:
    assert treats_alike(text, "b", RESTIC) is None
