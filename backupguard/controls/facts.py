"""What a view holds, and the small questions that controls share.

Durations are seconds in `settings` and times are microseconds in `known`.

every scope
    settings: `criticality` ("C1"; a repository's and the site's is that of the most vital
        application that stands on it)
    known: `newest_record_at` (when the newest record was written; None for an empty store),
        `attestations` (what people state about it and did not take back: TOPIC, or TOPIC/NAME where
        the statement has a `name` among its values, to `seq`, `made_at`, `expires_at`, `expired`,
        `authenticated` (it is signed), `person` (of the settings; None: unknown), `author`, `origin`,
        `text`, `values`)
application
    settings: `failure_domain` (of production; None: not declared), `rpo_s`, `rto_s` (None: not
        declared), `declared_by`, `declared_at` (who promised them and when; None: nobody said),
        `retention` (`daily`, `monthly`, `yearly` of its own; None: the catalogue's), `steps_s`
        (declared manual steps of a recovery), `repositories` (ids that keep copies of it), `fetchable`
        (those of them that can be restored from)
    latest: `restore-test.result`, `restore-test.closed`, and, picked out of all results,
        `restore-test.passed` and `restore-test.concluded/REPOSITORY`: the newest one that passed, and
        per repository the newest one that passed or failed ("-": no repository was reached), and
        `restore-test.age/CLASS`, the newest such one of a point of that age (`model.AgeClass`), and
        `restore-test.forecast`, the one that the recovery forecast rests on
        `restore-test.first-bad` and `restore-test.last-clean`: the tests of those points, where a
        search for the last clean point is or was,
        `restore-test.declared/SEQ`: every test told of (origin imported or attested) that stands; all
        the others are observed
    children: its jobs (without those of unproven repositories, for controls that rest on points)
    known: `today`, `first_day` (when it was first seen), as days since 1970 at the site,
        `repositories_since` (when each of its repositories was first judged), `copies`: one
        per repository and covered data, with `repository`, `type`, `jobs`, `covers`, `kind` ("backup",
        "snapshot", "replica"), `medium`, `domain`, `declared_at` (None: never), `off_site`, `claims`,
        `device` (words that name a place), `repository_id`, `code`, `points`, `newest_at`
        (restorable), `seen_at`, `allowed_s` (how old its newest point may be to count), `broken`
        ("restore", "integrity", None), `unproven` (needs a person's confirmation), `offline_at` (newest
        point on a medium that is proved away; None), `medium_id` (the offline medium it lies on; None),
        `online` ("attached", "answers": how something reaches it; None), `immutable` ("proved",
        "refuted", "inconclusive"; None: nothing was ever tried), `media`: one per offline medium that
        carries copies of it, with `medium`, `kind`, `may_stay_s`, `every_s` (None: no rotation
        planned), `seen_at` (when it was last looked for), `here_at` (when it was here), `attached`,
        `attached_since_at`, `mismatch`, `code`, `slot`, `copies` (`repository`, `seen_at`, `newest_at`
        of this application, `verdict`, `code`, `may_leave`, `restore_test`), `moved` (`direction`,
        `at`, `holder`, `place`, `seal`),
        `forecast` (of its recovery: `end_ms` (after everything began; a lower bound where anything is
        in `missing` ("steps", "test") or `waits_for` (what it depends on and that has no figure)),
        `behind` (how many without a figure come before it), `repository`, `failed` (the copy it rests
        on failed a test since)),
        `reach` (per medium: `targets`, `vantages`: how many, `proved_at`, `fresh_until` (since when
        and until when production is proved to reach none of them; None: it is not), `answers`
        (`target`, `name`, `port`, `vantage`, `seen_at`, `seq`; None)),
        `reached` (while the newest point that anything is known of is bad: `bad_at`, `bad_point`,
        `bad_repository` (of the oldest bad one that no clean one follows), `check`, `code`,
        `clean_at`, `clean_point`, `clean_repository` (None: none is known), `between` (points not
        known between the two), `unverified` (of those); None)
job
    settings: `application`, `job`, `repository`, `selection` (equal for copies of the same data),
        `interval_s` (None: neither schedule nor interval), `grace_s`
    known: `seen_at` (when its repository was last listed to the end, None: never), `reachable`,
        `code`, `restorable_at` (newest point that is complete, or complete with warnings, and not
        dated in the future), `covers_until` (where logs that follow its points reach to; None without
        logs), `points`, `days` (with a restorable point, as days since 1970 at the site), `future`
        (points dated in the future), `newest_state`, `newest_kind`, `newest_bytes`, `newest_files` (of
        the newest run, point or not), `failures` (in a row, the newest), `running_since`, `usual_ms`
        (None below three runs), `week_runs`, `week_done` (of the last seven days), `week_missed` (that
        nothing stands for), `due_at` (the next run of its calendar after the newest point; None without
        one), `doubtful_at` (one before it at a time that the spring night leaves out), `asked_days` (on
        which its calendar has a run, as days since 1970 at the site; None without one), `exposure`
        (pairs of what a point holds reaches to and when it was there, oldest first, of a month),
        `samples` (per completed run, newest first: `at`, `weekday`, `kind` and its numbers), `peers`
        (the same of each other job of the application that saves the same), `loss`
        (points lost at once: `seen_at`, `lost`, `before`, `after`), `kept_us` (how old the oldest point
        was that the tool left when it dropped older ones; None: never seen), `unproven` (its repository
        needs a person's confirmation)
repository
    settings: `claims` (protections that the configuration claims), `verifiable` (False: this type can
        only list), `leaves_site` (by what is declared: off site, in a bucket, on a tape or a medium),
        `key_testable` (its type decrypts with `credentials.reader`, so that an escrowed key can be
        tried), `targets` (per target that it lies behind: `asked`: pairs of name and port, `offline`: a
        medium lies behind it), `vantages` (per vantage point in production: `zone`, `max_age_s`),
        `backup_domains` (directories that are not production's)
    latest: `repository.inspected`, `repository.verified`, and `repository.verified/complete` (newest
        one that says since when every unit was read), `repository.verified/failed` (newest one with a
        unit that was found wrong and has not been found right since), `isolation.seen/VANTAGE` (newest
        look of each), `isolation.seen/VANTAGE/TARGET` (newest that settles it: `reach.is_conclusive`),
        `host.joined` (of the host BackupGuard runs on), `repository.inspected/encryption` (newest that
        says whether it is encrypted), `restore-test.escrow/opened` and `/refused` (newest result in
        which the escrowed key opened it, and did not), `immutability.tried`,
        `immutability.tried/concluded` (newest one that proved or refuted),
        `immutability.tried/proved`, `protection.seen`, `protection.seen/read` (newest that was read)
    known: `points_encrypted` (how many of the newest points are `encrypted`, `clear`, `unknown`)
site
    settings: `applications` (per id: `criticality`, `jobs`: ids of its jobs, `depends_on`), `servers`
        (how many database servers are declared), `without` (base services that are not here, and why),
        `repositories` (per id its type), `anchors` (places where anchors are put
        down), `plan_every_s` (how often the recovery plan is kept elsewhere; None: nowhere)
        `self_tests` (whether there is a copy that could be broken on purpose)
    latest: `plan.issued/kept` (the newest recovery plan that was written where the settings keep it),
        `report.issued/awaited` (of the oldest month whose report was issued as PDF after its end and
        has not come back signed),
        `evidence.anchored`, `evidence.anchored/PLACE` (the newest that was put down there, and not
        told of), `secrets.seen`, `restore-test.rebuild/APPLICATION/SEQ` (tests of every
        base service, observed or told of), `self-test.concluded` (newest `self-test.result` that
        settles whether damage was noticed), and `discovery.seen/SUBJECT`,
        `reference.loaded/SUBJECT`, `repository.inspected/SUBJECT`, `immutability.tried/SUBJECT`: the
        newest of every host, list or repository
    known: `services` (per base service, one per application that is it: `application`, `production`,
        `grace_s`, `copies` as above), `evidence_valid` (None: not checked), `evidence_wrong_seq`,
        `reported` (newest month a report was issued for, "2026-10"), `awaited` (how many months'
        reports have not come back signed), `weakenings` (that were not
        undone, oldest first: `seq`, `at`, `of` ("policy", "configuration"), `what` (a code of
        `weakening.CODE`), `path`, `before`, `after`), `policies` (`seen_at`, `unread`: since when by
        name, `never_read`), `rejected` (the load of settings that was refused last and that no good one
        followed: `seq`, `at`, `file`, `line`, `key`)
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from backupguard.model import (
    Criticality,
    Fact,
    Judgement,
    Message,
    NotMeasurableCause,
    Origin,
    Policy,
    Severity,
    Status,
    Verdict,
    View,
    to_us,
)

SECOND = 1_000_000
DAY = 86_400 * SECOND
#: A loss of sight warns after a day and counts as non-compliant after three.
LOST_WARNS = DAY
LOST_COUNTS = 3 * DAY
#: Clocks of hosts differ by less than this.
CLOCK_TOLERANCE = 60 * SECOND
#: A run that was ended by somebody or something of ours says nothing about the backup.
NOT_OF_THE_BACKUP = frozenset(
    {"by_operator", "by_stop", "by_reload", "daemon_died", "already_running", "store_busy"}
)
CONCLUDED = "restore-test.concluded/"
DECLARED = "restore-test.declared/"
#: A test told of is one of a restore from this level on: below, only bytes were read.
RESTORED = 2


def data(fact: Fact | None) -> Mapping[str, Any]:
    """Return a fact's payload; nothing for no fact."""
    payload = fact.observation.data if fact is not None else None
    return payload if isinstance(payload, Mapping) else {}


def seen_at(fact: Fact) -> int:
    """Return when a fact was observed, in microseconds."""
    return to_us(fact.observation.observed_at)


def not_in_future(fact: Fact | None, now: datetime) -> Fact | None:
    """Return the fact, or None when it is dated after `now`: a last run in the future is none."""
    if fact is None or seen_at(fact) > to_us(now) + CLOCK_TOLERANCE:
        return None
    return fact


def seqs(*facts: Fact | None) -> tuple[int, ...]:
    """Return the sequence numbers of the facts that are there, in order and once each."""
    return tuple(sorted({fact.seq for fact in facts if fact is not None}))


def seconds(policy: Policy, name: str) -> int:
    """Return a duration threshold in seconds; 0 where the criticality has none."""
    value = policy.thresholds.get(name)
    return value if isinstance(value, int) else 0


def count(policy: Policy, name: str, default: int) -> int:
    """Return a threshold in percent or a count; `default` where the criticality has none."""
    value = policy.thresholds.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def number(value: object) -> int | None:
    """Return `value` when it is a whole number."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def code(payload: Mapping[str, Any]) -> str:
    """Return the message id of a payload's error code, as a value that is said in words."""
    return f"@code.{payload.get('code') or 'none'}"


def judged(
    status: Status, severity: Severity, reason: str, *facts: Fact | None, **values: int | str
) -> Judgement:
    """Return a judgement with its reason and the facts it rests on."""
    message = Message(id=reason, values=values)
    return Judgement(status=status, severity=severity, reason=message, facts=seqs(*facts))


def compliant(reason: str, *facts: Fact | None, **values: int | str) -> Judgement:
    """Return `compliant`."""
    return judged(Status.COMPLIANT, Severity.INFO, reason, *facts, **values)


def warning(reason: str, *facts: Fact | None, **values: int | str) -> Judgement:
    """Return `warning`."""
    return judged(Status.WARNING, Severity.WARNING, reason, *facts, **values)


def non_compliant(
    severity: Severity, reason: str, *facts: Fact | None, **values: int | str
) -> Judgement:
    """Return `non_compliant`."""
    return judged(Status.NON_COMPLIANT, severity, reason, *facts, **values)


def never_set_up(reason: str, *facts: Fact | None, **values: int | str) -> Judgement:
    """Return `not_measurable` because nothing was ever there to measure: work to do, no alert."""
    return Judgement(
        status=Status.NOT_MEASURABLE,
        cause=NotMeasurableCause.NEVER_SET_UP,
        reason=Message(id=reason, values=values),
        facts=seqs(*facts),
    )


def unproven(repository: str, *facts: Fact | None) -> Judgement:
    """Return `not_measurable`: the type of that repository was never seen against a live server."""
    return never_set_up("reason.unproven", *facts, repository=repository)


def lost(
    policy: Policy, now: datetime, since: int, reason: str, *facts: Fact | None, **values: int | str
) -> Judgement:
    """Return what a loss of sight since `since` means: not measurable, then warning, then worse."""
    elapsed = to_us(now) - since
    if elapsed >= LOST_COUNTS:
        status, severity = Status.NON_COMPLIANT, policy.severity
    elif elapsed >= LOST_WARNS:
        status, severity = Status.WARNING, Severity.WARNING
    else:
        status, severity = Status.NOT_MEASURABLE, Severity.INFO
    return Judgement(
        status=status,
        cause=NotMeasurableCause.LOST,
        severity=severity,
        reason=Message(id=reason, values=values),
        facts=seqs(*facts),
    )


def attested(view: View, topic: str, name: str | None = None) -> Mapping[str, Any] | None:
    """Return what people state about a subject on a topic; None when nothing stands.

    One whose day has passed is returned too: its `expired` is true.
    """
    standing: Mapping[str, Any] = view.known.get("attestations") or {}
    found: Mapping[str, Any] | None = standing.get(topic if name is None else f"{topic}/{name}")
    return found


def clock_behind(view: View, now: datetime) -> Judgement | None:
    """Return `not_measurable` while the clock is behind the newest record: no age can be trusted."""
    newest = number(view.known.get("newest_record_at"))
    if newest is None or to_us(now) + CLOCK_TOLERANCE >= newest:
        return None
    return Judgement(
        status=Status.NOT_MEASURABLE,
        cause=NotMeasurableCause.LOST,
        reason=Message(id="reason.clock_behind", values={"newest_at": newest}),
    )


def past_deadline(view: View, now: datetime, allowed_s: int) -> bool:
    """Tell whether a subject has been configured for longer than `allowed_s`."""
    if view.first_seen is None:
        return False
    return to_us(now) - to_us(view.first_seen) > allowed_s * SECOND


def most_vital(view: View) -> Criticality:
    """Return the criticality in a view's settings; the least vital one when there is none."""
    value = view.settings.get("criticality")
    return Criticality(value) if value in set(Criticality) else Criticality.C3


_ORDER = (Status.NON_COMPLIANT, Status.WARNING, Status.NOT_MEASURABLE, Status.COMPLIANT)


def worst_of(judgements: list[Judgement]) -> Judgement:
    """Return the worst of several judgements of one subject; the first among equals."""
    return min(
        judgements,
        key=lambda one: _ORDER.index(one.status) if one.status in _ORDER else len(_ORDER),
    )


# ---------------------------------------------------------------------------------- restore tests


def concluded(view: View, now: datetime) -> dict[str, Fact]:
    """Return per repository the newest restore test that passed or failed, newest first.

    A repository that keeps no copies of the application any more is left out. A test that failed
    before it reached a repository counts until a later test concludes anything.
    """
    configured = set(view.settings.get("repositories") or ())
    found = {
        kind.removeprefix(CONCLUDED): fact
        for kind, fact in view.latest.items()
        if kind.startswith(CONCLUDED) and not_in_future(fact, now)
    }
    nowhere = found.pop("-", None)
    kept = {name: fact for name, fact in found.items() if name in configured}
    if nowhere is not None and all(seen_at(fact) <= seen_at(nowhere) for fact in kept.values()):
        kept["-"] = nowhere
    return dict(sorted(kept.items(), key=lambda item: (-seen_at(item[1]), item[0])))


def last_passed(view: View, now: datetime) -> Fact | None:
    """Return the newest restore test that passed."""
    return not_in_future(view.latest.get("restore-test.passed"), now)


def last_attempt(view: View, now: datetime) -> Fact | None:
    """Return the newest attempt at a restore test that was not ended by ourselves."""
    attempts = [
        fact
        for kind in ("restore-test.result", "restore-test.closed")
        if (fact := not_in_future(view.latest.get(kind), now)) is not None
        and data(fact).get("code") not in NOT_OF_THE_BACKUP
        and data(fact).get("verdict") != Verdict.SKIPPED
    ]
    return max(attempts, key=lambda fact: (seen_at(fact), fact.seq), default=None)


def declared_tests(view: View, now: datetime) -> list[Fact]:
    """Return the tests told of that stand, of this view's repositories, newest first.

    One that failed stands until a later one of its kind, or until its repository was observed to
    restore after it.
    """
    configured = set(view.settings.get("repositories") or ())
    observed = {
        name: seen_at(fact)
        for name, fact in concluded(view, now).items()
        if data(fact).get("verdict") == Verdict.PASSED
    }
    found = [
        fact
        for kind, fact in view.latest.items()
        if kind.startswith(DECLARED)
        and not_in_future(fact, now)
        and (repository := str(data(fact).get("repository"))) in configured
        and not (
            data(fact).get("verdict") == Verdict.FAILED
            and observed.get(repository, 0) > seen_at(fact)
        )
    ]
    return sorted(found, key=lambda fact: (-seen_at(fact), fact.seq))


def authenticated(fact: Fact) -> bool:
    """Tell whether a test told of is a tool's record, or a statement that somebody signed."""
    told = data(fact).get("declared") or {}
    return fact.observation.origin is Origin.IMPORTED or told.get("signature") is not None


def part_tested(fact: Fact, now: datetime) -> tuple[dict[str, int | str], bool] | None:
    """Return what part of the data a declared partial test restored, and whether all of it was read.

    In the time that the site declared, that is. None: everything was restored.
    """
    part = data(fact).get("partial")
    if not isinstance(part, Mapping):
        return None
    percent, within = number(part.get("percent")) or 0, number(part.get("within_ms")) or 0
    since = number(part.get("covered_since"))
    said: dict[str, int | str] = {"percent": percent, "within_ms": within}
    if since is not None:
        said["covered_at"] = since
    return said, since is not None and to_us(now) - since <= within * 1000


def level_of(fact: Fact) -> int:
    """Return the level that a test reached."""
    return number(data(fact).get("level")) or 0


def told_by(fact: Fact) -> dict[str, int | str]:
    """Return what every sentence about a test told of says: whose word, when, how far, from where."""
    result = data(fact)
    return {
        "origin": f"@origin.{fact.observation.origin.value}",
        "tested_at": seen_at(fact),
        "level": level_of(fact),
        "repository": str(result.get("repository") or "—"),
    }


def allowed_s(policy: Policy) -> int:
    """Return how old a test may be: the period and its grace, in seconds."""
    return seconds(policy, "period") + seconds(policy, "grace")
