"""The restore-test engine of Samba's Active Directory: what `samba-tool domain backup` writes, a tree.

The archive is unpacked inside the sandbox, and Samba's own library opens the copy of `private/sam.ldb`,
checks every entry as `samba-tool dbcheck` does without mending any, and counts. The controller is not
started and sysvol is not looked at: level 2 is all that can be reached, and that is said each time.
"""

from __future__ import annotations

import bz2
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from backupguard.contracts import (
    EngineSettings,
    Match,
    Program,
    Requirements,
    Sample,
    SampledFile,
    Trial,
)
from backupguard.errors import BackupDefect, MissingMeans, Misunderstood
from backupguard.model import CheckResult, Fingerprint, Verdict, from_us, to_us
from restore_tests import content, inside, shape
from restore_tests.settings import DirectoryCheck, SambaAdSettings
from restore_tests.survey import FLOOR, TOLERANCE, Survey

ENGINE = "samba-ad"
_MIB = 1 << 20
_PLACE = PurePosixPath("/scratch/private")
_PACKAGE = "python3-samba"
#: The library's own parts for a domain, without which it would read none; where Debian keeps them.
_PARTS = Program(
    name="samldb.so",
    directories=(*Path("/usr/lib").glob("*/samba/ldb"), Path("/usr/lib/samba/ldb")),
    package="samba-dsdb-modules",
)
_PROGRAMS = (
    _PARTS,
    Program(name="python3", directories=(Path("/usr/bin"),), package="python3"),
    Program(name="samba", directories=(Path("/usr/lib/python3/dist-packages"),), package=_PACKAGE),
)
_TDB = b"TDB file\n"
_DATABASE = "private/sam.ldb"
#: What the archives of `samba-tool domain backup` hold beside the database.
_MARKS = ("sysvol.tar.gz", _DATABASE)
_SAID = b"Using samba-tool version"
_NAMED = "samba-backup-"
#: A small hospital's domain counts; below so many entries of a kind nothing is concluded.
_SMALL = 20
_ERRORS = "directory-error"
_MORE_ERRORS = "corrupt"
_ROOT = "domain-"
#: Programs that ended over the bytes they read: SIGABRT, SIGBUS, SIGSEGV.
_CRASHED = frozenset({134, 135, 139})


class SambaAd:
    """`contracts.Engine` for Samba's Active Directory."""

    name = ENGINE
    settings: type[EngineSettings] = SambaAdSettings
    #: No controller is started: nothing more is proved, whatever the checks say.
    highest_level = 2

    def recognise(self, sample: Sample) -> Match | None:
        """Say whether this artifact is a domain's, from its bytes."""
        return recognise(sample)

    def requirements(self, match: Match, artifact_bytes: int) -> Requirements:
        """Say what the restore needs: a domain's database packs to a tenth."""
        growth = 2 if match.format == "tree" else 24
        return Requirements(
            programs=_PROGRAMS,
            disk_bytes=artifact_bytes * growth + 64 * _MIB,
            memory_bytes=512 * _MIB,
        )

    def prepare(self, trial: Trial) -> None:
        """Nothing has to run before: Samba's library reads the files."""

    def load(self, trial: Trial) -> None:
        """Unpack what belongs to the database, or copy it."""
        extra: Mapping[str, Any] = trial.match.extra or {}
        path = extra["path"]
        source = str(trial.artifact if path in {".", ""} else trial.artifact / path)
        try:
            self._run(
                trial, "load", source=source, below=extra.get("below", ""), target=str(_PLACE)
            )
        except BackupDefect as error:
            if error.code == "not_a_dump" and extra["by_name"]:
                raise MissingMeans("unrecognised_artifact") from error
            raise

    def open(self, trial: Trial) -> None:
        """Open the domain's database, let Samba check it and count what is in it."""
        told = self._run(
            trial,
            "look",
            place=str(_PLACE),
            floor=to_us(datetime.fromisoformat(FLOOR)),
            limit=to_us(trial.point_at + TOLERANCE),
            questions=[
                {"filter": check.filter, "base": check.base} for check in _settings(trial).checks
            ],
        )
        try:
            trial.memory["survey"] = _survey(told)
            trial.memory["domain"] = str(told["domain"])
            trial.memory["keys"] = int(told["keys"])
            trial.memory["answers"] = list(told["answers"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Misunderstood("output_unparsable", program="python3") from error

    def verify(self, trial: Trial, level: int) -> Iterator[CheckResult]:
        """Yield Samba's own check, what needs no configuration, then the site's checks."""
        seen: Survey = trial.memory["survey"]
        if level >= 2:
            yield _consistency(trial, seen)
            yield shape.result("controller", "controller_not_started", wrong=True)
            yield from shape.compare(seen.fingerprint, trial.baseline, trial.previous, small=_SMALL)
            yield _same_domain(trial, seen)
            missing: int = trial.memory["keys"]
            yield shape.result(
                "domain-keys", "keys_missing", wrong=missing > 0, numbers={"missing": missing}
            )
            yield _members(trial, seen)
            if _settings(trial).freshness.enabled:
                yield content.freshness(trial, seen)
        if level >= 3:
            for check, answer in zip(_settings(trial).checks, trial.memory["answers"], strict=True):
                yield _configured(trial, check, answer)

    def fingerprint(self, trial: Trial) -> Fingerprint | None:
        """Return the shape of what was restored: entries by kind."""
        seen: Survey = trial.memory["survey"]
        return seen.fingerprint

    def close(self, trial: Trial) -> None:
        """Do nothing: nothing runs on."""

    def _run(self, trial: Trial, stage: str, **request: Any) -> Mapping[str, Any]:
        """Run the program inside; raise what it accuses, or what it lacks."""
        done = trial.sandbox.run(
            ["/usr/bin/python3", "-I", "-c", inside.text("samba_look.py")],
            scratch=True,
            stdin=json.dumps({"stage": stage, **request}).encode(),
            environment={"PATH": "/usr/bin", "LC_ALL": "C.UTF-8", "HOME": "/tmp"},  # noqa: S108
            timeout_s=int(trial.memory.get("timeout_s", 3600)),
        )
        # one that got no memory crashes as well, and says so
        crashed = done.returncode in _CRASHED and b"llocate" not in done.stderr
        if crashed and stage == "look":
            raise BackupDefect("corrupt")
        try:
            told = json.loads(done.stdout)
        except ValueError as error:
            raise Misunderstood(
                "unknown_exit", program="python3", status=done.returncode
            ) from error
        if not isinstance(told, dict):
            raise Misunderstood("output_unparsable", program="python3")
        if "defect" in told:
            raise BackupDefect(str(told["defect"]))
        if told.get("error") in {"no_memory", "no_disk"}:
            raise MissingMeans(told["error"], program="python3")
        if told.get("error") in {"program_missing", "version_unsupported"}:
            raise MissingMeans(told["error"], program="samba", version="?", package=_PACKAGE)
        if "error" in told:
            raise Misunderstood("unclassified_stderr", program="python3", count=1)
        return told


def _settings(trial: Trial) -> SambaAdSettings:
    settings = trial.settings
    return settings if isinstance(settings, SambaAdSettings) else SambaAdSettings()


def _survey(told: Mapping[str, Any]) -> Survey:
    counts = {str(kind): int(count) for kind, count in told["counts"].items()}
    domain = hashlib.sha256(str(told["domain"]).encode()).hexdigest()[:12]
    return Survey(
        fingerprint=Fingerprint(
            tables=counts,
            objects={
                "group": counts["group"],
                "member": int(told["members"]),
                _ERRORS: int(told["errors"]),
                _ROOT + domain: 1,
            },
        ),
        relations=frozenset(counts),
        newest={str(kind): from_us(int(us)) for kind, us in told["newest"].items()},
    )


def _consistency(trial: Trial, seen: Survey) -> CheckResult:
    """Every entry was read. Errors of the domain's own are copied faithfully: more of them is news."""
    known = shape.known_shape(trial.baseline, trial.previous)
    before = known.shape.objects.get(_ERRORS, 0) if known else 0
    errors = seen.fingerprint.objects[_ERRORS]
    verdict, code = Verdict.PASSED, shape.OK
    if errors:
        proved = known is not None and known.accepted and errors > before
        code = shape.WARNING + "directory_errors"
        if proved:
            verdict, code = Verdict.FAILED, _MORE_ERRORS
    return CheckResult(
        name="engine-consistency", level=2, verdict=verdict, code=code,
        numbers={"lines": errors, "before": before},
    )  # fmt: skip


def _same_domain(trial: Trial, seen: Survey) -> CheckResult:
    """Tell another domain: from the one that is declared, else from the one that is known."""
    wanted = _settings(trial).domain
    if wanted is not None:
        wrong = wanted.lower().rstrip(".") != trial.memory["domain"]
        return shape.result("same-directory", "wrong_directory", wrong=wrong, proved=True)
    known = shape.known_shape(trial.baseline, trial.previous)
    before = {name for name in known.shape.objects if name.startswith(_ROOT)} if known else set()
    return shape.result(
        "same-directory",
        "wrong_directory",
        wrong=bool(before) and not before & seen.fingerprint.objects.keys(),
        proved=known is not None and known.accepted,
    )


def _members(trial: Trial, seen: Survey) -> CheckResult:
    """Tell whether half of the groups' members are gone: who is in no group may do nothing."""
    known = shape.known_shape(trial.baseline, trial.previous)
    before = known.shape.objects.get("member", 0) if known else 0
    now = seen.fingerprint.objects["member"]
    return shape.result(
        "members",
        "members_lost",
        wrong=before > 0 and now * 100 < before * shape.COLLAPSED_PERCENT,
        proved=known is not None and known.accepted,
        numbers={"before": before, "after": now},
    )


def _configured(trial: Trial, check: DirectoryCheck, answer: Any) -> CheckResult:
    """Return what the entries of a filter amount to."""
    if not isinstance(answer, Sequence) or len(answer) != 2:
        return content.answer(check, "error", "")
    count, newest = int(answer[0]), answer[1]
    if check.newer_than is None:
        low, high = check.at_least, check.at_most
        right = (
            (check.equals is None or count == check.equals)
            and (low is None or count >= low)
            and (high is None or count <= high)
        )
        return content.answer(check, "passed" if right else "failed", "")
    if newest is None:
        return content.answer(check, "null", "")
    fresh = from_us(int(newest)) >= trial.point_at - check.newer_than
    return content.answer(check, "passed" if fresh else "failed", str(int(newest)))


# -------------------------------------------------------------------------------------- recognition


def recognise(sample: Sample) -> Match | None:
    """Return what of a domain's a sample is: an archive of it, or its tree."""
    trees = [
        file
        for file in sample.files
        if f"/{file.path}".endswith(f"/{_DATABASE}") and file.head.startswith(_TDB)
    ]
    if len(trees) == 1:
        below = str(trees[0].path.parent)
        return _match("tree", 95, ".", None, below=below)
    archives = [match for file in sample.files if (match := _archive(sample, file))]
    if len(trees) + len(archives) > 1:
        raise MissingMeans("ambiguous_artifact", engines=ENGINE)
    return archives[0] if archives else None


def _archive(sample: Sample, file: SampledFile) -> Match | None:
    head, by_name = file.head, False
    if head.startswith(b"BZh"):
        head = _opened(head)
        name = str(sample.artifact.name if str(file.path) == "." else file.path.name)
        # A block of bzip2 may be longer than what may be looked at: then its name says whose it is.
        by_name = not head and name.startswith(_NAMED)
    if by_name:
        return _match("archive", 40, str(file.path), "bzip2", by_name=True)
    if head[257:262] != b"ustar":
        return None
    names = list(_members_of(head))
    if any(name in _MARKS or name.startswith(f"{_DATABASE}.d/") for name in names) or (
        "backup.txt" in names and _SAID in head
    ):
        return _match("archive", 95, str(file.path), file.compression)
    return None


def _opened(head: bytes) -> bytes:
    """Return what the first blocks hold of bzip2, nothing where they are not whole."""
    try:
        return bz2.BZ2Decompressor().decompress(head, _MIB)
    except (OSError, ValueError):
        return b""


def _members_of(head: bytes) -> Iterator[str]:
    """Yield the names of a tar's first members (POSIX ustar; sizes in octal)."""
    place = 0
    while place + 512 <= len(head):
        block = head[place : place + 512]
        if block[257:262] != b"ustar":
            return
        yield block[:100].rstrip(b"\0").decode("utf-8", "replace").removeprefix("./")
        try:
            size = int(block[124:135].rstrip(b" \0") or b"0", 8)
        except ValueError:
            return
        place += 512 + (size + 511) // 512 * 512


def _match(
    form: str,
    certainty: int,
    path: str,
    compression: str | None,
    *,
    below: str = "",
    by_name: bool = False,
) -> Match:
    return Match(
        engine=ENGINE,
        certainty=certainty,
        format=form,
        version=None,
        compression=compression,
        extra={"path": path, "below": below, "by_name": by_name},
    )


SAMBA_AD = SambaAd()
