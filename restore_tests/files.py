"""The restore-test engine of files: trees of documents, images, messages.

What no other engine knows is looked at where the site names this one: a tree is not a database that
was not recognised. A fixed program for the distribution's own Python counts the files inside the
sandbox, and looks whether they begin as their extensions say: an encryption that keeps the names does
not keep the first bytes (PDF, images, office documents, DICOM PS3.10, HL7 v2, CDA).

That the bytes are those that were backed up is proved by the repository, against its own listing, when
it fetches (`exact`). Against the site's own manifests and canaries, and against what an earlier test
saw of files that look unchanged, contents are hashed in the sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from backupguard.contracts import EngineSettings, Match, Program, Requirements, Sample, Trial
from backupguard.errors import BackupDefect, Misunderstood
from backupguard.model import CheckResult, Fingerprint, Verdict, from_us, to_us
from restore_tests import content, files_canary, files_earlier, inside, shape
from restore_tests.settings import FilesCheck, FilesSettings
from restore_tests.survey import FLOOR, TOLERANCE, Survey

ENGINE = "files"
_MIB = 1 << 20
_PYTHON = Program(name="python3", directories=(Path("/usr/bin"),), package="python3")
#: Fewer files whose beginning is known say nothing together.
_FEW = 10
_HALF = 50
#: So many more files of a wrong beginning than before, and one of a hundred, are no accident.
_FEW_NEW = 5
#: A kind of which there were fewer files says nothing when it shrinks.
_SMALL_KIND = 20
#: An extension that nobody knew, on so many of all files, was given by somebody else.
_BURST_PERCENT = 30


class Files:
    """`contracts.Engine` for trees of files."""

    name = ENGINE
    settings: type[EngineSettings] = FilesSettings
    only_when_named = True  # a dump that nobody recognises is no tree of files
    exact = True  # nothing else reads what was written: a server would

    def recognise(self, sample: Sample) -> Match | None:
        """Take any tree."""
        if not sample.files or not sample.total_bytes:
            return None
        return Match(engine=ENGINE, certainty=1, format="tree", version=None)

    def requirements(self, match: Match, artifact_bytes: int) -> Requirements:  # noqa: ARG002
        """Say what the restore needs: nothing is copied."""
        return Requirements(programs=(_PYTHON,), disk_bytes=16 * _MIB, memory_bytes=128 * _MIB)

    def prepare(self, trial: Trial) -> None:
        """Nothing has to run before."""

    def load(self, trial: Trial) -> None:
        """Nothing is to be loaded: the tree lies where it was fetched to."""

    def open(self, trial: Trial) -> None:
        """Go through the tree once and look at every file's beginning."""
        turn = files_earlier.begin(trial)
        request = {
            **files_earlier.request(turn),
            "part": trial.memory.get("partial") is not None,
            "manifests": _settings(trial).manifests,
            "root": str(trial.artifact),
            "limit": to_us(trial.point_at + TOLERANCE),
            "floor": to_us(datetime.fromisoformat(FLOOR)),
            "checks": [
                {"files": check.files, "sha256": check.sha256} for check in _settings(trial).checks
            ],
        }
        done = trial.sandbox.run(
            ["/usr/bin/python3", "-I", "-S", "-c", inside.text("files_look.py")],
            scratch=True,
            stdin=json.dumps(request).encode(),
            timeout_s=int(trial.memory.get("timeout_s", 3600)),
            output_limit=4 * _MIB,
        )
        try:
            found = json.loads(done.stdout)
            trial.memory["found"] = found
            trial.memory["survey"] = _survey(found)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Misunderstood("output_unparsable", program="python3") from error
        if not found["files"] and not found["unreadable"]:
            raise BackupDefect("empty")
        files_earlier.keep(trial, turn)

    def verify(self, trial: Trial, level: int) -> Iterator[CheckResult]:
        """Yield whether every file could be read, what needs no configuration, the site's checks."""
        found: Mapping[str, Any] = trial.memory["found"]
        if level >= 2:
            unreadable = int(found["unreadable"])
            yield CheckResult(
                name="engine-consistency",
                level=2,
                # Rights that a fetch kept, or this host's disk: neither accuses the backup.
                verdict=Verdict.COULD_NOT_VERIFY if unreadable else Verdict.PASSED,
                code="consistency_unknown" if unreadable else shape.OK,
                numbers={"lines": unreadable},
            )
            if unreadable:  # what was not seen must not look as if it were gone
                return
            yield from _unconfigured(trial, found)
        if level >= 3:
            for check, seen in zip(_settings(trial).checks, found["checks"], strict=True):
                if _can_answer(trial, check):
                    yield _configured(trial, check, seen)
            files_canary.look(trial)
            if _settings(trial).manifests:
                yield from _manifest(trial, found["manifest"])

    def fingerprint(self, trial: Trial) -> Fingerprint | None:
        """Return the shape of what was restored: files by extension."""
        seen: Survey = trial.memory["survey"]
        return seen.fingerprint

    def close(self, trial: Trial) -> None:
        """Do nothing: nothing runs on."""


def _settings(trial: Trial) -> FilesSettings:
    settings = trial.settings
    return settings if isinstance(settings, FilesSettings) else FilesSettings()


def _survey(found: Mapping[str, Any]) -> Survey:
    extensions = {str(name): int(count) for name, count in found["extensions"].items()}
    counts = {name: int(found[name]) for name in ("headed", "strange", "even", "sampled", "notes")}
    return Survey(
        fingerprint=Fingerprint(
            tables=extensions,
            objects={
                "directory": int(found["directories"]),
                "link": int(found["links"]),
                "strange-file": counts["strange"],
                "even-file": counts["even"],
            },
        ),
        relations=frozenset(extensions),
        counts=counts,
        newest={str(name): from_us(int(us)) for name, us in found["newest"].items()},
    )


def _unconfigured(trial: Trial, found: Mapping[str, Any]) -> Iterator[CheckResult]:
    seen: Survey = trial.memory["survey"]
    known = shape.known_shape(trial.baseline, trial.previous)
    accepted = known is not None and known.accepted
    yield from shape.compare(seen.fingerprint, trial.baseline, trial.previous, small=_SMALL_KIND)
    headed, strange = seen.counts["headed"], seen.counts["strange"]
    usual = known.shape.objects.get("strange-file") if known else None
    more = strange - usual if usual is not None else 0
    # First bytes are part of a format: no application writes half of its documents without them. Fewer
    # are worth a word where there were none of them before: an encryption that has just begun.
    half = headed >= _FEW and strange * 100 >= headed * _HALF
    yield shape.result(
        "file-heads",
        "files_encrypted",
        wrong=half or (more >= _FEW_NEW and more * 100 >= headed),
        proved=half,
        numbers={"known": headed, "strange": strange, "before": usual or 0},
    )
    before = known.shape.objects.get("even-file") if known else None
    even, sampled = seen.counts["even"], seen.counts["sampled"]
    yield shape.result(
        "file-contents",
        "files_encrypted",
        wrong=before is not None and sampled >= _FEW and (even - before) * 100 >= sampled * _HALF,
        proved=accepted,
        numbers={"sampled": sampled, "even": even, "before": before or 0},
    )
    yield _burst(seen, known)
    yield _silent_changes(found["earlier"], accepted=accepted)
    yield shape.result(
        "ransom-notes",
        "ransom_notes",
        wrong=seen.counts["notes"] > 0,
        numbers={"files": seen.counts["notes"]},
    )
    yield shape.result(
        "empty-files",
        "files_empty",
        wrong=int(found["empty"]) * 100 >= int(found["files"]) * _HALF,
        proved=int(found["bytes"]) == 0,
        numbers={"files": int(found["files"]), "empty": int(found["empty"])},
    )
    if _settings(trial).freshness.enabled:
        yield content.freshness(trial, seen)


def _burst(seen: Survey, known: shape.Known | None) -> CheckResult:
    """Tell whether many files have an extension that there was none of before."""
    files = sum(seen.fingerprint.tables.values())
    new = (
        sum(n for name, n in seen.fingerprint.tables.items() if name not in known.shape.tables)
        if known is not None
        else 0
    )
    return shape.result(
        "extensions",
        "files_renamed",
        wrong=known is not None and new * 100 >= files * _BURST_PERCENT and new >= _FEW,
        proved=known is not None and known.accepted,
        numbers={"files": files, "new": new},
    )


def _silent_changes(earlier: Mapping[str, Any], *, accepted: bool) -> CheckResult:
    """Tell whether files of the same place, size and time have another content than in earlier tests.

    One may be a file whose program puts its time back; one of a hundred are a rotting disk, a tampering
    or an encryption that hides.
    """
    numbers = {name: int(earlier[name]) for name in ("hashed", "compared", "changed")}
    changed = numbers["changed"]
    return shape.result(
        "silent-changes",
        "files_changed",
        wrong=changed > 0,
        proved=accepted and changed >= _FEW_NEW and changed * 100 >= numbers["compared"],
        numbers=numbers,
    )


def _can_answer(trial: Trial, check: FilesCheck) -> bool:
    """Tell whether what was restored can answer a check: of a part, only what each test brings."""
    said = _settings(trial).partial
    return trial.memory.get("partial") is None or (said is not None and said.holds(check.files))


def _manifest(trial: Trial, said: Mapping[str, Any]) -> Iterator[CheckResult]:
    """Yield what the site's own manifests amount to: each file listed there, to the byte.

    Of a part, that files are missing says nothing, and neither does a manifest that is.
    """
    part = trial.memory.get("partial") is not None
    numbers = {name: int(said[name]) for name in ("files", "listed", "right", "wrong", "missing")}
    numbers["lines"] = int(said["unread"])
    verdict, code = Verdict.PASSED, shape.OK
    if part and not numbers["right"] + numbers["wrong"]:
        return
    if numbers["wrong"] or (numbers["missing"] and not part):
        verdict, code = Verdict.FAILED, "manifest_differs"
    elif not numbers["listed"]:
        verdict, code = Verdict.FAILED, "manifest_missing"
    elif numbers["lines"]:
        verdict, code = Verdict.COULD_NOT_VERIFY, "manifest_unread"
    yield CheckResult(
        name="site-manifest", level=3, verdict=verdict, code=code, numbers=numbers, configured=True
    )


def _configured(trial: Trial, check: FilesCheck, seen: Mapping[str, Any]) -> CheckResult:
    """Return what the files that a check names amount to."""
    count, newest = int(seen["matched"]), seen["newest"]
    if check.sha256 is not None:
        said = "null" if not count else "passed" if seen["right"] else "failed"
        return content.answer(check, said, "")
    if check.newer_than is not None:
        if newest is None:
            return content.answer(check, "null", "")
        fresh = int(newest) >= to_us(trial.point_at - check.newer_than)
        ahead = int(newest) > to_us(trial.point_at + TOLERANCE)
        said = "future" if ahead else "passed" if fresh else "failed"
        return content.answer(check, said, str(newest))
    right = (
        (check.equals is None or count == check.equals)
        and (check.at_least is None or count >= check.at_least)
        and (check.at_most is None or count <= check.at_most)
    )
    return content.answer(check, "passed" if right else "failed", "")


FILES = Files()
