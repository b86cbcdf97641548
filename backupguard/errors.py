"""What can go wrong, and who is to blame.

The class of an error decides the verdict of a run: only `BackupDefect` accuses the
backup. `code` belongs to the closed vocabulary `CODES`; the sentences live in
`backupguard.language`, under the message ids `error.CODE` and `remedy.CODE` unless a site of raising
gives its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from backupguard.model import Message, Verdict

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_NOT_PROVED = 2
EXIT_USAGE = 64
EXIT_CONFIGURATION = 78

#: The code of whatever cannot be looked at because its offline medium is away: nothing is wrong.
MEDIUM_AWAY = "medium_away"


class BackupGuardError(Exception):
    """Base of all expected errors: a code, a message, a remedy where one is known."""

    verdict: ClassVar[Verdict] = Verdict.COULD_NOT_VERIFY
    exit_code: ClassVar[int] = EXIT_NOT_PROVED
    codes: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        code: str,
        message: Message | None = None,
        remedy: Message | None = None,
        **values: int | str,
    ) -> None:
        if code not in self.codes:
            raise ValueError(f"{code!r} is not a code of {type(self).__name__}")
        self.code = code
        self.message = message or Message(id=f"error.{code}", values=values)
        self.remedy = remedy
        super().__init__(f"{code}: {self.message.id} {dict(self.message.values)}")


class BackupDefect(BackupGuardError):
    """The backup itself is wrong: the only error that says `failed`."""

    verdict = Verdict.FAILED
    exit_code = EXIT_FAILED
    codes = frozenset(
        {
            "corrupt",
            "truncated",
            "empty",
            "not_a_dump",
            "schema_only",
            "missing_object",
            "wrong_content",
            "wal_gap",
            "wrong_timeline",
            "target_not_reached",
            "stale_data",
            "content_changed",
            "load_refused",
            "declared_failed",
            "command_failed",
            "selection_absent",
            "no_point",
            "rows_lost",
            "tables_lost",
            "check_failed",
            "hostile",
            "random_text",
            "files_encrypted",
            "files_renamed",
            "base_missing",
            "files_changed",
            "canary_altered",
            "canary_lost",
            "invariant_broken",
        }
    )


class Unreachable(BackupGuardError):
    """A repository or service did not answer."""

    codes = frozenset(
        {
            "timeout",
            "dns",
            "tls",
            "http_5xx",
            "refused",
            "not_found",
            "stale_import",
            MEDIUM_AWAY,
            "medium_unmounted",
            "medium_mismatch",
            "witness_silent",
        }
    )


class AccessRefused(BackupGuardError):
    """Somebody answered, and refused us."""

    codes = frozenset({"authentication", "wrong_key", "permission"})


class Locked(BackupGuardError):
    """Another process holds a lock that we neither break nor ignore."""

    codes = frozenset({"lock_alive", "lock_stale"})


class Changing(BackupGuardError):
    """The repository changed while it was being read."""

    codes = frozenset({"repository_changed"})


class MissingMeans(BackupGuardError):
    """This host lacks something: a program, a version, room."""

    codes = frozenset(
        {
            "program_missing",
            "version_unsupported",
            "no_disk",
            "no_memory",
            "sandbox_unavailable",
            "ambiguous_artifact",
            "unrecognised_artifact",
            "declared_skipped",
            "extension_missing",
            "schema_missing",
            "suffix_unknown",
            "base_elsewhere",
            "tables_encrypted",
            "partial_copy",
            "locale_missing",
            "secret_missing",
            "writer_missing",
            "user_missing",
            "server_refused",
            "clock_behind",
            "not_fetchable",
            "not_locked",
            "no_anchor_place",
            "nothing_to_break",
            "damage_missed",
            "no_point_in_time",
            "plugin_missing",
            "plugin_broken",
            "plugin_twice",
            "no_witness",
            "helper_missing",
            "device_mapper_missing",
            "instance_unknown",
            "instance_kind",
            "instance_unmarked",
            "instance_marker_differs",
            "instance_is_source",
            "instance_not_empty",
            "instance_account",
            "instance_name_taken",
            "instance_too_small",
            "instance_unread",
            "instance_not_dropped",
            "instance_unproven",
            "scratch_in_clear",
        }
    )


class TimedOut(BackupGuardError):
    """A limit of ours was reached."""

    codes = frozenset({"phase_limit", "run_limit", "output_limit", "scratch_limit", "daily_limit"})


class Cancelled(BackupGuardError):
    """Somebody, or a stop, ended the run."""

    codes = frozenset({"by_operator", "by_stop", "by_reload"})


class Interrupted(BackupGuardError):
    """The process that performed the run died."""

    codes = frozenset({"daemon_died"})


class Busy(BackupGuardError):
    """The same thing is already running."""

    verdict = Verdict.SKIPPED
    codes = frozenset({"already_running", "store_busy", "second_daemon"})


class Misunderstood(BackupGuardError):
    """A program said something that this version does not understand; never a pass."""

    codes = frozenset(
        {
            "output_unparsable",
            "unknown_exit",
            "program_killed",
            "unclassified_stderr",
            "check_unanswered",
        }
    )


class UsageError(BackupGuardError):
    """The command was called wrongly."""

    exit_code = EXIT_USAGE
    codes = frozenset({"usage", "unknown_subject"})


class StoreError(BackupGuardError):
    """The store cannot be used as it is."""

    codes = frozenset({"corrupt_store", "full", "newer_schema", "network_filesystem", "unreadable"})


class EvidenceError(BackupGuardError):
    """A record, a seal or a key is not what it should be."""

    codes = frozenset(
        {"bad_record", "bad_seal", "bad_key", "unknown_kind", "bad_payload", "not_canonical"}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationProblem:
    """One thing wrong in the configuration: where, what was found, what to do."""

    file: str
    line: int | None
    column: int | None
    key: str
    message: Message
    remedy: Message | None = None


class ConfigurationError(BackupGuardError):
    """The configuration is wrong; carries every problem found, not only the first."""

    exit_code = EXIT_CONFIGURATION
    codes = frozenset({"configuration"})

    def __init__(self, problems: Sequence[ConfigurationProblem]) -> None:
        super().__init__("configuration", count=len(problems))
        self.problems = tuple(problems)


def all_codes() -> Mapping[str, type[BackupGuardError]]:
    """Return every code of the closed vocabulary with the class that owns it."""
    return {code: cls for cls in BackupGuardError.__subclasses__() for code in cls.codes}


def verdict_of(error: BaseException) -> tuple[Verdict, str]:
    """Return the verdict and the code that `error` gives a run; anything unknown is a bug."""
    if isinstance(error, BackupGuardError):
        return error.verdict, error.code
    return Verdict.COULD_NOT_VERIFY, "bug"
