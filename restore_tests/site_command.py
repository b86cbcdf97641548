"""A program of the site's that runs in the sandbox, and what its answer amounts to.

It sees its own directory at `/site`, the artifact at `/in`, and what it is given besides; no network,
no other file of the host. What it prints is JSON, one line per check: {"check": NAME, "verdict":
"passed" or "failed", "numbers": {…}}. Only names that the settings know leave the sandbox, and whole
numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from backupguard.contracts import Completed, Trial
from backupguard.errors import MissingMeans
from backupguard.model import CheckResult, Verdict
from restore_tests.settings import SiteProgram

SITE = "/site"
OK, REFUSED, SILENT, UNREADABLE, UNKNOWN_EXIT = (
    "ok", "command_failed", "command_silent", "command_unreadable", "command_exit",
)  # fmt: skip
#: What numbers may be called: nothing that a program read can leave as a name.
NUMBERS = frozenset({"count", "expected", "errors", "milliseconds"})
_OUTPUT = 64 << 10
_MOST_LINES = 500
_LARGEST = 1 << 53
_ANSWERS = {"passed": (Verdict.PASSED, OK), "failed": (Verdict.FAILED, REFUSED)}


def run(
    trial: Trial,
    wanted: SiteProgram,
    *,
    scratch: bool = False,
    shared: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Completed:
    """Run the program to its end; raises MissingMeans (program_missing) where there is none."""
    if not wanted.program.is_file():
        raise MissingMeans("program_missing", program=wanted.program.name, package="—")
    inside = wanted.program.relative_to(wanted.place)
    return trial.sandbox.run(
        [f"{SITE}/{inside}", *wanted.arguments],
        scratch=scratch,
        shared=shared,
        environment={
            "BACKUPGUARD_ARTIFACT": str(trial.artifact),
            "BACKUPGUARD_POINT_AT": trial.point_at.isoformat(),
            **(environment or {}),
        },
        timeout_s=int(wanted.time_limit.total_seconds()),
        output_limit=_OUTPUT,
        site=wanted.place,
    )


def ended(wanted: SiteProgram, done: Completed) -> tuple[Verdict, str]:
    """Return what the exit status says by itself; one that nobody declared says nothing."""
    if done.oom or done.truncated:
        return Verdict.COULD_NOT_VERIFY, UNREADABLE
    if done.returncode in wanted.exit_codes:
        return Verdict.PASSED, OK
    if done.returncode in wanted.failed_exit_codes:
        return Verdict.FAILED, REFUSED
    return Verdict.COULD_NOT_VERIFY, UNKNOWN_EXIT


def judged(wanted: SiteProgram, done: Completed, level: int) -> list[CheckResult]:
    """Return one result per check of the settings, in their order; one without an answer is open.

    A check that was answered twice, or beside one that the settings do not know, is open as well: the
    program and the settings do not speak of the same.
    """
    answers, readable = _answers(wanted, done)
    results = []
    for check in wanted.checks:
        found = answers.get(check.name)
        verdict, code, numbers = found or (Verdict.COULD_NOT_VERIFY, SILENT, {})
        if not readable and verdict is Verdict.PASSED:
            verdict, code = Verdict.COULD_NOT_VERIFY, UNREADABLE
        results.append(
            CheckResult(
                name=check.name, level=level, verdict=verdict, code=code,
                numbers=numbers, configured=True,
            )
        )  # fmt: skip
    return results


_Answer = tuple[Verdict, str, Mapping[str, int]]


def _answers(wanted: SiteProgram, done: Completed) -> tuple[dict[str, _Answer], bool]:
    """Return the answers by check, and whether every line was one."""
    names = {check.name for check in wanted.checks}
    lines = [line for line in done.stdout.split(b"\n") if line.strip()]
    readable = not done.truncated and len(lines) <= _MOST_LINES
    found: dict[str, _Answer] = {}
    for line in lines[:_MOST_LINES]:
        answer = _answer(line)
        if answer is None or answer[0] not in names or answer[0] in found:
            readable = False
            continue
        found[answer[0]] = answer[1]
    return found, readable


def _answer(line: bytes) -> tuple[str, _Answer] | None:
    try:
        said: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or said.keys() - {"check", "verdict", "numbers"}:
        return None
    name, verdict, numbers = said.get("check"), said.get("verdict"), said.get("numbers") or {}
    if not isinstance(name, str) or not isinstance(verdict, str) or verdict not in _ANSWERS:
        return None
    if not isinstance(numbers, dict) or numbers.keys() - NUMBERS:
        return None
    if not all(type(value) is int and abs(value) < _LARGEST for value in numbers.values()):
        return None
    return name, (*_ANSWERS[verdict], numbers)
