"""The restore-test engine of what nobody else knows: a program of the site's, run on the artifact.

It is asked only where the site names it. What it opens and checks is its own affair; its answer is
judged here, and never reaches beyond level 3.
"""

from __future__ import annotations

from collections.abc import Iterator

from backupguard.contracts import Completed, EngineSettings, Match, Requirements, Sample, Trial
from backupguard.errors import BackupDefect, MissingMeans, Misunderstood
from backupguard.model import CheckResult, Fingerprint, Verdict
from restore_tests import outcome, site_command
from restore_tests.settings import CommandSettings

ENGINE = "command"
_MIB = 1 << 20


class SiteCommand:
    """`contracts.Engine` for a program of the site's."""

    name = ENGINE
    settings: type[EngineSettings] = CommandSettings
    only_when_named = True  # any bytes may be its own

    def recognise(self, sample: Sample) -> Match | None:
        """Take whatever is there, with the least certainty; nothing at all is nobody's."""
        if not sample.total_bytes:
            return None
        return Match(engine=ENGINE, certainty=1, format="site", version=None)

    def requirements(self, match: Match, artifact_bytes: int) -> Requirements:  # noqa: ARG002
        """Say what the restore needs: room for what the program unpacks."""
        return Requirements(
            programs=(), disk_bytes=artifact_bytes * 4 + 16 * _MIB, memory_bytes=256 * _MIB
        )

    def prepare(self, trial: Trial) -> None:
        """Raise MissingMeans where the settings name no program."""
        _settings(trial)

    def load(self, trial: Trial) -> None:
        """Nothing is to be loaded: the program reads the artifact where it lies."""

    def open(self, trial: Trial) -> None:
        """Run the program once; raise what its exit status alone says."""
        wanted = _settings(trial)
        done = site_command.run(trial, wanted, scratch=True)
        trial.memory[ENGINE] = done
        verdict, _ = site_command.ended(wanted, done)
        if verdict is Verdict.FAILED:
            raise BackupDefect("command_failed")
        if verdict is not Verdict.PASSED:
            if done.oom:
                raise MissingMeans("no_memory")
            raise Misunderstood("unknown_exit", program=wanted.program.name)

    def verify(self, trial: Trial, level: int) -> Iterator[CheckResult]:
        """Yield that the program ended well, then its answer to each check of the settings."""
        if level >= 2:
            yield CheckResult(
                name=outcome.CONSISTENCY, level=2, verdict=Verdict.PASSED, code=site_command.OK
            )
        if level >= 3:
            yield from _answers(trial)

    def fingerprint(self, trial: Trial) -> Fingerprint | None:
        """Return the counts that the program gave, by check."""
        counts = {
            check.name: check.numbers["count"]
            for check in _answers(trial)
            if "count" in check.numbers
        }
        return Fingerprint(tables=counts)

    def close(self, trial: Trial) -> None:
        """Do nothing: nothing runs on."""


def _answers(trial: Trial) -> list[CheckResult]:
    done: Completed = trial.memory[ENGINE]
    return site_command.judged(_settings(trial), done, outcome.LEVEL_CONTENT)


def _settings(trial: Trial) -> CommandSettings:
    if not isinstance(trial.settings, CommandSettings):
        raise MissingMeans("program_missing", program="—", package="—")
    return trial.settings


COMMAND = SiteCommand()
