"""The restore-test engine of OpenLDAP: what slapcat writes (LDIF), and mdb directories.

An LDIF is loaded by `slapadd` into an empty directory, an mdb directory is copied; then `slapd` is
started on it, `slapschema` holds every entry against the schema, and `slapcat` is counted. All of it
runs inside the sandbox; counts of classes and times leave it, no entry and no attribute's value.

A directory's own schema is part of what must be saved: `slapcat -n 0` beside the data. Without it the
schemas of this host's package serve, and `schema` names more.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from backupguard.contracts import (
    EngineSettings,
    Match,
    Requirements,
    Sample,
    Server,
    Trial,
)
from backupguard.errors import BackupDefect, BackupGuardError, MissingMeans
from backupguard.model import CheckResult, Fingerprint, Verdict, to_us
from restore_tests import canary, content, inside, shape
from restore_tests.openldap_recognise import ENGINE, recognise
from restore_tests.openldap_server import (
    ENVIRONMENT,
    MIB,
    PLACE,
    PROGRAM,
    SOCKET,
    TOKEN,
    URL,
    add,
    our_configuration,
    own_configuration,
    run,
    settings_of,
    suffix_of,
    tail,
    tokens,
    wait,
)
from restore_tests.openldap_survey import ROOT, newest_of, slapcat, surveyed
from restore_tests.settings import DirectoryCheck, OpenldapSettings
from restore_tests.survey import Survey
from restore_tests.unpacking import unpack

#: The canary's description, "TIME TOKEN", is looked at inside: only what it amounts to leaves.
_CANARY = """
beginning=$1 dn=$2; shift 2
"$@" -a "(entryDN=$dn)" >/tmp/found 2>/tmp/said || { echo canary error; exit 0; }
grep -q '^dn:' /tmp/found || { echo canary missing; exit 0; }
set -- $(sed -n 's/^description: //p' /tmp/found)
right=$(printf '%s%s' "$beginning" "$1" | sha256sum | cut -d' ' -f1)
if [ $# -eq 2 ] && [ "$2" = "$right" ]; then echo canary found "$1"; else echo canary altered; fi
"""
_FOUND = re.compile(
    r"canary (error|missing|altered|found)(?: (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ))?\Z"
)
_SCHEMA_CHECK = """
messages=$1; shift
"$@" >/tmp/said 2>&1; echo status $?
echo lines $(grep -c . /tmp/said); awk "$messages" /tmp/said
"""
#: Exit statuses from here on are the shell's own word, or a signal's.
_KILLED = 126


class Openldap:
    """`contracts.Engine` for OpenLDAP."""

    name = ENGINE
    settings: type[EngineSettings] = OpenldapSettings

    def recognise(self, sample: Sample) -> Match | None:
        """Say whether this artifact is a directory's, from its bytes alone."""
        return recognise(sample)

    def requirements(self, match: Match, artifact_bytes: int) -> Requirements:
        """Say what the restore needs: an mdb takes some three times its LDIF."""
        growth = 12 if match.compression else 4 if match.format == "ldif" else 1
        return Requirements(
            programs=(PROGRAM,),
            disk_bytes=artifact_bytes * growth + 64 * MIB,
            memory_bytes=256 * MIB,
        )

    def prepare(self, trial: Trial) -> None:
        """Write the configuration: the directory's own where it was saved, else one of ours."""
        extra: Mapping[str, Any] = trial.match.extra or {}
        run(trial, ["mkdir", "-p", *(f"/scratch/db/{n}" for n in range(1, 10))])
        if extra.get("config") is not None:
            own_configuration(trial, extra)
        else:
            our_configuration(trial, suffix_of(trial, extra))

    def load(self, trial: Trial) -> None:
        """Load the LDIF, or put the mdb where slapd looks for it."""
        extra: Mapping[str, Any] = trial.match.extra or {}
        compression = extra["compressions"].get(extra["path"])
        if trial.match.format == "mdb":
            unpack(trial, extra["path"], PLACE / "db" / "1" / "data.mdb", compression)
            return
        target = PLACE / "data.ldif"
        unpack(trial, extra["path"], target, compression)
        if extra["slapcat"] and tail(trial, target) != b"\n\n":
            raise BackupDefect("truncated")  # slapcat ends every entry with an empty line
        add(trial, target, ["-q", "-b", suffix_of(trial, extra)])

    def open(self, trial: Trial) -> None:
        """Count what the directory holds, then start it and ask it."""
        # Read first: what a server would say of a damaged file tells less than the reader does.
        seen = trial.memory["survey"] = surveyed(trial)
        if not seen.fingerprint.tables:
            raise BackupDefect("empty")
        trial.memory["server"] = trial.sandbox.start(
            ["/usr/sbin/slapd", *trial.memory["configured"], "-h", URL, "-d", "0"],
            scratch=True,
            shared=(SOCKET,),
            environment=ENVIRONMENT,
            log="slapd",
        )
        wait(trial)

    def verify(self, trial: Trial, level: int) -> Iterator[CheckResult]:
        """Yield the directory's own check, what needs no configuration, then the site's checks."""
        if level >= 2:
            yield _consistency(trial)
            seen: Survey = trial.memory["survey"]
            yield from shape.compare(seen.fingerprint, trial.baseline, trial.previous)
            yield _same_root(trial, seen)
            yield _lost(trial, seen, "password", "passwords", "passwords_lost")
            yield _lost(trial, seen, "member", "members", "members_lost")
            if settings_of(trial).freshness.enabled:
                yield content.freshness(trial, seen)
        if level >= 3:
            for check in settings_of(trial).checks:
                yield _configured(trial, check)
            _look_for_canary(trial)

    def fingerprint(self, trial: Trial) -> Fingerprint | None:
        """Return the shape of what was restored: entries by structural class."""
        seen: Survey = trial.memory["survey"]
        return seen.fingerprint

    def close(self, trial: Trial) -> None:
        """Stop the directory."""
        server: Server | None = trial.memory.pop("server", None)
        if server is not None:
            try:
                server.stop(signal.SIGTERM, 5)
            except (BackupGuardError, OSError):
                return


def _consistency(trial: Trial) -> CheckResult:
    """Hold every entry against the schema (slapschema(8C)); its lines name entries and stay inside."""
    argv = ["/usr/sbin/slapschema", *trial.memory["configured"]]
    argv += ["-b", suffix_of(trial, trial.match.extra or {})]
    text = inside.text("openldap_messages.awk")
    done = run(trial, ["/bin/sh", "-c", _SCHEMA_CHECK, "sh", text, *argv])
    said = tokens(done)
    if said.get(
        "schema_missing"
    ):  # ours to have: an mdb says nothing of the schema it was made with
        raise MissingMeans("schema_missing", count=said["schema_missing"])
    verdict, code = Verdict.PASSED, shape.OK
    if "status" not in said or said["status"] >= _KILLED or done.oom:
        verdict, code = Verdict.COULD_NOT_VERIFY, "consistency_unknown"
    elif said["status"] or said.get("lines"):
        verdict, code = Verdict.FAILED, "corrupt"
    return CheckResult(
        name="engine-consistency",
        level=2,
        verdict=verdict,
        code=code,
        numbers={"lines": said.get("lines", 0)},
    )


def _same_root(trial: Trial, seen: Survey) -> CheckResult:
    """Tell another directory of the same shape by its suffix."""
    known = shape.known_shape(trial.baseline, trial.previous)
    before = {name for name in known.shape.objects if name.startswith(ROOT)} if known else set()
    return shape.result(
        "same-directory",
        "wrong_directory",
        wrong=bool(before) and not before & seen.fingerprint.objects.keys(),
        proved=known is not None and known.accepted,
    )


def _lost(trial: Trial, seen: Survey, kind: str, name: str, code: str) -> CheckResult:
    """Tell whether passwords or members of groups are gone: half of them, while all entries are there.

    An account without a password logs nobody in, and who is in no group may do nothing.
    """
    known = shape.known_shape(trial.baseline, trial.previous)
    before = known.shape.objects.get(kind, 0) if known else 0
    now = seen.fingerprint.objects[kind]
    return shape.result(
        name,
        code,
        wrong=before > 0 and now * 100 < before * shape.COLLAPSED_PERCENT,
        proved=known is not None and known.accepted,
        numbers={"before": before, "after": now},
    )


def _look_for_canary(trial: Trial) -> None:
    """Look for the entry that the site's own job writes."""
    if canary.wanted(trial) is None:
        return
    suffix = suffix_of(trial, trial.match.extra or {})
    beginning = canary.beginning(canary.application_of(trial))
    # Lines of LDIF are broken at 76 characters (RFC 2849) unless they are told not to be.
    argv = ["/usr/sbin/slapcat", *trial.memory["configured"], "-b", suffix, "-o", "ldif-wrap=no"]
    name = _escaped(f"cn={canary.ENTRY},{suffix}")
    done = run(trial, ["/bin/sh", "-c", _CANARY, "sh", beginning, name, *argv])
    said = _FOUND.match(done.stdout.decode("ascii", "replace").strip())
    if said is None or said[1] == canary.ERROR:
        canary.tell(trial, canary.ERROR, "check_error")
    elif said[1] == canary.FOUND and said[2] is not None:
        moment = datetime.fromisoformat(f"{said[2][:-1]}+00:00")
        canary.tell(trial, canary.FOUND, str(to_us(moment)))
    else:
        canary.tell(trial, canary.ALTERED if said[1] == canary.FOUND else said[1])


def _escaped(text: str) -> str:
    """Return a text as a filter holds it (RFC 4515)."""
    return "".join(f"\\{ord(sign):02x}" if sign in "\\()*\0" else sign for sign in text)


def _filter(check: DirectoryCheck) -> str:
    """Return a check's filter with its base: slapcat's `-s` goes with no filter (slapcat(8))."""
    if check.base is None:
        return check.filter
    return f"(&(entryDN:dnSubtreeMatch:={_escaped(check.base)}){check.filter})"


def _configured(trial: Trial, check: DirectoryCheck) -> CheckResult:
    """Return what the entries of a filter amount to, as slapcat finds them."""
    try:
        lines = slapcat(trial, "-a", _filter(check))
    except BackupDefect:
        return content.answer(check, "error", "", error="check_error")
    count = next(int(m[2]) for line in lines if (m := TOKEN.match(line)) and m[1] == "entries")
    if check.newer_than is None:
        low, high = check.at_least, check.at_most
        right = (
            (check.equals is None or count == check.equals)
            and (low is None or count >= low)
            and (high is None or count <= high)
        )
        return content.answer(check, "passed" if right else "failed", "")
    newest = max(newest_of(lines).values(), default=None)
    if newest is None:
        return content.answer(check, "null", "")
    fresh = newest >= trial.point_at - check.newer_than
    return content.answer(check, "passed" if fresh else "failed", str(to_us(newest)))


OPENLDAP = Openldap()
