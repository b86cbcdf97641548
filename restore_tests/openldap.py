"""The restore-test engine of OpenLDAP: what slapcat writes (LDIF), and mdb directories.

An LDIF is loaded by `slapadd` into an empty directory, an mdb directory is copied; then `slapd` is
started on it, `slapschema` holds every entry against the schema, and `slapcat` is counted. All of it
runs inside the sandbox; counts of classes and times leave it, no entry and no attribute's value.

A directory's own schema is part of what must be saved: `slapcat -n 0` beside the data. Without it the
schemas of this host's package serve, and `schema` names more.
"""

from __future__ import annotations

import hashlib
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from backupguard.contracts import (
    Completed,
    EngineSettings,
    Match,
    Program,
    Requirements,
    Sample,
    Server,
    Trial,
)
from backupguard.errors import BackupDefect, BackupGuardError, MissingMeans, Misunderstood
from backupguard.model import CheckResult, Fingerprint, Verdict, to_us
from restore_tests import canary, content, inside, shape
from restore_tests.settings import DirectoryCheck, OpenldapSettings
from restore_tests.survey import FLOOR, TOLERANCE, Survey
from restore_tests.unpacking import unpack

ENGINE = "openldap"
_PROGRAM = Program(name="slapd", directories=(Path("/usr/sbin"),), package="slapd")
_MIB = 1 << 20
_LARGEST = 64 << 30
#: Where Debian keeps the schemas that come with OpenLDAP; the sandbox does not show /etc.
_SCHEMAS = Path("/etc/ldap/schema")
#: In this order, because later ones use what earlier ones define.
_STANDARD = ("core", "cosine", "nis", "inetorgperson", "misc", "dyngroup", "duaconf", "collective")
_MDB_MAGIC = b"\xde\xc0\xef\xbe"
_DN = re.compile(rb"^dn:(:?) *(\S.*)$", re.MULTILINE)
_SOCKET = "ldap"
_URL = "ldapi://%2Fshared%2Fldap%2Fldapi"
_PLACE = PurePosixPath("/scratch")
_CONF = """{includes}
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
database mdb
maxsize {maxsize}
suffix "{suffix}"
directory /scratch/db/1
dbnosync
"""
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8", "HOME": "/tmp"}  # noqa: S108
#: Like slapadd, but what it says leaves only as tokens; one that names a URL reaches for a file.
_ADD = """
awk=$1 file=$2; shift 2
LC_ALL=C awk '
  function reaches_out() { return tolower(line) ~ /^[a-z0-9][a-z0-9;.-]*:</ }
  /^ / { if (length(line) < 400) line = line substr($0, 2); next }  # one line, folded (RFC 2849)
  reaches_out() { exit }
  { line = $0 }
  END { exit reaches_out() ? 3 : 0 }
' "$file"
case $? in 0) ;; 3) echo hostile 1; exit 0 ;; *) exit 1 ;; esac
"$@" -l "$file" >/tmp/said 2>&1; status=$?
awk "$awk" /tmp/said; echo status $status
"""
_COUNTED = """
awk=$1 messages=$2 limit=$3 floor=$4; shift 4
{ "$@" 2>/tmp/said; echo $? >/tmp/status; } | awk -v limit="$limit" -v floor="$floor" "$awk"
echo status $(cat /tmp/status)
awk "$messages" /tmp/said
"""
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
#: What ldapsearch ends with when the directory answers; from 48 on it wants to be bound first.
_ANSWERS = frozenset({0, 48, 49, 50, 53})
#: Exit statuses from here on are the shell's own word, or a signal's.
_KILLED = 126
#: A program that ended over the bytes it read: SIGABRT, SIGBUS, SIGSEGV.
_CRASHED = frozenset({134, 135, 139})
_TOKEN = re.compile(r"([a-z_]{2,20}) (\d{1,15})\Z")
_CLASS = re.compile(r"class ([A-Za-z][A-Za-z0-9-]{0,80}) (\d{1,15})\Z")
_NEWEST = re.compile(r"newest ([A-Za-z][A-Za-z0-9-]{0,80}) (\d{14})\Z")
#: Where a shape says of which directory it is.
_ROOT = "suffix-"
_STAMP = "%Y%m%d%H%M%S"


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
            programs=(_PROGRAM,),
            disk_bytes=artifact_bytes * growth + 64 * _MIB,
            memory_bytes=256 * _MIB,
        )

    def prepare(self, trial: Trial) -> None:
        """Write the configuration: the directory's own where it was saved, else one of ours."""
        extra: Mapping[str, Any] = trial.match.extra or {}
        _run(trial, ["mkdir", "-p", *(f"/scratch/db/{n}" for n in range(1, 10))])
        if extra.get("config") is not None:
            _own_configuration(trial, extra)
        else:
            _our_configuration(trial, _suffix(trial, extra))

    def load(self, trial: Trial) -> None:
        """Load the LDIF, or put the mdb where slapd looks for it."""
        extra: Mapping[str, Any] = trial.match.extra or {}
        compression = extra["compressions"].get(extra["path"])
        if trial.match.format == "mdb":
            unpack(trial, extra["path"], _PLACE / "db" / "1" / "data.mdb", compression)
            return
        target = _PLACE / "data.ldif"
        unpack(trial, extra["path"], target, compression)
        if extra["slapcat"] and _tail(trial, target) != b"\n\n":
            raise BackupDefect("truncated")  # slapcat ends every entry with an empty line
        _add(trial, target, ["-q", "-b", _suffix(trial, extra)])

    def open(self, trial: Trial) -> None:
        """Count what the directory holds, then start it and ask it."""
        # Read first: what a server would say of a damaged file tells less than the reader does.
        survey = trial.memory["survey"] = _survey(trial)
        if not survey.fingerprint.tables:
            raise BackupDefect("empty")
        trial.memory["server"] = trial.sandbox.start(
            ["/usr/sbin/slapd", *trial.memory["configured"], "-h", _URL, "-d", "0"],
            scratch=True,
            shared=(_SOCKET,),
            environment=_ENVIRONMENT,
            log="slapd",
        )
        _wait(trial)

    def verify(self, trial: Trial, level: int) -> Iterator[CheckResult]:
        """Yield the directory's own check, what needs no configuration, then the site's checks."""
        if level >= 2:
            yield _consistency(trial)
            seen: Survey = trial.memory["survey"]
            yield from shape.compare(seen.fingerprint, trial.baseline, trial.previous)
            yield _same_root(trial, seen)
            yield _lost(trial, seen, "password", "passwords", "passwords_lost")
            yield _lost(trial, seen, "member", "members", "members_lost")
            if _settings(trial).freshness.enabled:
                yield content.freshness(trial, seen)
        if level >= 3:
            for check in _settings(trial).checks:
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


def _settings(trial: Trial) -> OpenldapSettings:
    settings = trial.settings
    return settings if isinstance(settings, OpenldapSettings) else OpenldapSettings()


def _suffix(trial: Trial, extra: Mapping[str, Any]) -> str:
    """Return the directory's suffix; raise MissingMeans where nobody says it."""
    suffix = _settings(trial).suffix or extra.get("suffix")
    if not suffix or '"' in suffix or "\n" in suffix:
        raise MissingMeans("suffix_unknown")
    return str(suffix)


def _run(trial: Trial, argv: Sequence[str], *, output_limit: int = 1 << 20) -> Completed:
    return trial.sandbox.run(
        argv,
        scratch=True,
        environment=_ENVIRONMENT,
        timeout_s=int(trial.memory.get("timeout_s", 3600)),
        output_limit=output_limit,
    )


def _tail(trial: Trial, path: PurePosixPath) -> bytes:
    done = _run(trial, ["tail", "-c", "2", str(path)])
    if done.returncode != 0:  # a program that was killed says nothing of the file
        raise Misunderstood("unknown_exit", program="tail", status=done.returncode)
    return done.stdout


# ------------------------------------------------------------------------------------ configuration


def _our_configuration(trial: Trial, suffix: str) -> None:
    """Write a configuration with the schemas of this host's package and those the site names."""
    schemas = [_SCHEMAS / f"{name}.schema" for name in _STANDARD]
    includes = []
    for number, path in enumerate([*filter(Path.is_file, schemas), *_settings(trial).schemas]):
        target = _PLACE / f"{number}.schema"
        try:
            trial.sandbox.write(target, path.read_bytes())
        except OSError as error:
            raise MissingMeans("not_found", name=str(path)) from error
        includes.append(f"include {target}")
    text = _CONF.format(includes="\n".join(includes), maxsize=_largest(trial), suffix=suffix)
    trial.sandbox.write(_PLACE / "slapd.conf", text.encode())
    trial.memory["configured"] = ["-f", "/scratch/slapd.conf"]


def _largest(trial: Trial) -> int:
    """Return how long the store's file may be: slapadd makes it as long as `maxsize`, with holes.

    The limit on a file counts the holes too.
    """
    said = _run(trial, ["/bin/sh", "-c", "ulimit -f"]).stdout.strip()
    limit = int(said) * 512 if said.isdigit() else _LARGEST  # in blocks of 512 bytes (POSIX)
    return max(_MIB, min(_LARGEST, limit - _MIB))


def _own_configuration(trial: Trial, extra: Mapping[str, Any]) -> None:
    """Load the directory's own configuration, with its schema, overlays and access rules."""
    source = _PLACE / "own.ldif"
    unpack(trial, extra["config"], source, extra["compressions"].get(extra["config"]))
    script = (
        'awk -v place=/scratch/db -v largest="$4" "$1" "$2" > "$3" && mkdir -p /scratch/slapd.d'
    )
    fit = _PLACE / "config.ldif"
    text = inside.text("openldap_config.awk")
    largest = str(_largest(trial))
    done = _run(trial, ["/bin/sh", "-c", script, "sh", text, str(source), str(fit), largest])
    if done.returncode != 0:
        raise MissingMeans("program_missing", program="awk", package="mawk")
    trial.memory["configured"] = ["-F", "/scratch/slapd.d"]
    _add(trial, fit, ["-n", "0"])


def _add(trial: Trial, file: PurePosixPath, options: Sequence[str]) -> None:
    """Load an LDIF; raise what slapadd's words amount to."""
    argv = ["/usr/sbin/slapadd", *trial.memory["configured"], *options]
    text = inside.text("openldap_messages.awk")
    done = _run(trial, ["/bin/sh", "-c", _ADD, "sh", text, str(file), *argv])
    said = _tokens(done)
    if said.get("hostile"):
        raise BackupDefect("hostile", count=1)
    status = said.pop("status", None)
    if status is None or done.oom:
        raise Misunderstood("unknown_exit", program="slapadd", status=done.returncode)
    for token, error in (
        ("no_disk", MissingMeans("no_disk", program="slapadd")),
        ("no_memory", MissingMeans("no_memory", program="slapadd")),
        ("schema_missing", MissingMeans("schema_missing", count=said.get("schema_missing", 0))),
        ("module_missing", MissingMeans("extension_missing", program="slapd")),
        ("refused", BackupDefect("load_refused", count=said.get("refused", 0))),
    ):
        if status != 0 and said.get(token):
            raise error
    if status != 0:
        raise Misunderstood("unclassified_stderr", program="slapadd", count=1)


def _tokens(done: Completed) -> dict[str, int]:
    lines = done.stdout.decode("ascii", "replace").splitlines()
    return {match[1]: int(match[2]) for line in lines if (match := _TOKEN.match(line))}


# ----------------------------------------------------------------------------------------- judging


def _wait(trial: Trial) -> None:
    """Wait until the directory answers an anonymous look at its root."""
    server: Server = trial.memory["server"]
    argv = ["ldapsearch", "-x", "-LLL", "-H", _URL, "-b", "", "-s", "base", "namingContexts"]
    for attempt in range(300):
        if not server.alive():
            break
        done = trial.sandbox.run(
            argv, scratch=False, shared=(_SOCKET,), environment=_ENVIRONMENT, timeout_s=20
        )
        if done.returncode in _ANSWERS:
            return
        trial.context.cancel.raise_if_set()
        trial.context.cancel.wait(0.02 if attempt < 50 else 0.2)
    raise MissingMeans("server_refused", program="slapd", status=-1)


def _slapcat(trial: Trial, *options: str) -> list[str]:
    """Return what is counted of entries; raise BackupDefect (corrupt) when they cannot be read."""
    extra: Mapping[str, Any] = trial.match.extra or {}
    suffix = _suffix(trial, extra)
    limit = (trial.point_at + TOLERANCE).astimezone(UTC).strftime(_STAMP)
    floor = datetime.fromisoformat(FLOOR).strftime(_STAMP)
    argv = ["/usr/sbin/slapcat", *trial.memory["configured"], "-b", suffix, *options]
    programs = (inside.text("openldap_survey.awk"), inside.text("openldap_messages.awk"))
    done = _run(trial, ["/bin/sh", "-c", _COUNTED, "sh", *programs, limit, floor, *argv])
    error = unread(_tokens(done), done, own=trial.match.format == "mdb")
    if error is not None:
        raise error
    if "entries" not in _tokens(done):  # what counts them did not come to its end
        raise Misunderstood("output_unparsable", program="awk")
    return done.stdout.decode("ascii", "replace").splitlines()


def unread(said: Mapping[str, int], done: Completed, *, own: bool) -> BackupGuardError | None:
    """Return what it means that slapcat did not read all entries; None when it did.

    Only what LMDB itself says of its file, or a crash over it, accuses the backup; and only where that
    file is the backup's `own` and not one that was made here of an LDIF.
    """
    status = said.get("status")
    if status == 0:
        return None
    if said.get("no_memory") or done.oom:
        return MissingMeans("no_memory", program="slapcat")
    if own and (said.get("damaged") or status in _CRASHED):
        return BackupDefect("corrupt")
    return Misunderstood("unknown_exit", program="slapcat", status=-1 if status is None else status)


def _survey(trial: Trial) -> Survey:
    lines = _slapcat(trial)
    classes = {match[1]: int(match[2]) for line in lines if (match := _CLASS.match(line))}
    numbers = {match[1]: int(match[2]) for line in lines if (match := _TOKEN.match(line))}
    return Survey(
        fingerprint=Fingerprint(
            tables=classes,
            objects={
                "password": numbers.get("passwords", 0),
                "group": numbers.get("groups", 0),
                "member": numbers.get("members", 0),
                _root(trial): 1,
            },
        ),
        relations=frozenset(classes),
        newest=_newest(lines),
    )


def _newest(lines: Sequence[str]) -> dict[str, datetime]:
    """Return the newest change of the entries of each class, where it is one that can be true."""
    return {
        match[1]: datetime.strptime(match[2], _STAMP).replace(tzinfo=UTC)
        for line in lines
        if (match := _NEWEST.match(line))
    }


def _consistency(trial: Trial) -> CheckResult:
    """Hold every entry against the schema (slapschema(8C)); its lines name entries and stay inside."""
    argv = ["/usr/sbin/slapschema", *trial.memory["configured"]]
    argv += ["-b", _suffix(trial, trial.match.extra or {})]
    text = inside.text("openldap_messages.awk")
    done = _run(trial, ["/bin/sh", "-c", _SCHEMA_CHECK, "sh", text, *argv])
    said = _tokens(done)
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


def _root(trial: Trial) -> str:
    """Return what a directory is told from another by: its suffix, as a digest."""
    suffix = _suffix(trial, trial.match.extra or {}).replace(" ", "").lower()
    return _ROOT + hashlib.sha256(suffix.encode()).hexdigest()[:12]


def _same_root(trial: Trial, seen: Survey) -> CheckResult:
    """Tell another directory of the same shape by its suffix."""
    known = shape.known_shape(trial.baseline, trial.previous)
    before = {name for name in known.shape.objects if name.startswith(_ROOT)} if known else set()
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
    suffix = _suffix(trial, trial.match.extra or {})
    beginning = canary.beginning(canary.application_of(trial))
    # Lines of LDIF are broken at 76 characters (RFC 2849) unless they are told not to be.
    argv = ["/usr/sbin/slapcat", *trial.memory["configured"], "-b", suffix, "-o", "ldif-wrap=no"]
    name = _escaped(f"cn={canary.ENTRY},{suffix}")
    done = _run(trial, ["/bin/sh", "-c", _CANARY, "sh", beginning, name, *argv])
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
        lines = _slapcat(trial, "-a", _filter(check))
    except BackupDefect:
        return content.answer(check, "error", "", error="check_error")
    count = next(int(m[2]) for line in lines if (m := _TOKEN.match(line)) and m[1] == "entries")
    if check.newer_than is None:
        low, high = check.at_least, check.at_most
        right = (
            (check.equals is None or count == check.equals)
            and (low is None or count >= low)
            and (high is None or count <= high)
        )
        return content.answer(check, "passed" if right else "failed", "")
    newest = max(_newest(lines).values(), default=None)
    if newest is None:
        return content.answer(check, "null", "")
    fresh = newest >= trial.point_at - check.newer_than
    return content.answer(check, "passed" if fresh else "failed", str(to_us(newest)))


# -------------------------------------------------------------------------------------- recognition


def recognise(sample: Sample) -> Match | None:
    """Return what of a directory's a sample is: its data, and beside it its configuration."""
    ldifs = [file for file in sample.files if _is_ldif(file.head)]
    configs = [file for file in ldifs if _first_dn(file.head) == "cn=config"]
    data = [file for file in ldifs if file not in configs]
    stores = [file for file in sample.files if file.head[16:20] == _MDB_MAGIC]
    chosen = data or stores
    if not chosen:
        return None
    if len(chosen) > 1 or len(configs) > 1:
        raise MissingMeans("ambiguous_artifact", engines=ENGINE)
    file, config = chosen[0], configs[0] if configs else None
    known = [file, config] if config else [file]
    slapcat = b"\nentryCSN: " in file.head
    return Match(
        engine=ENGINE,
        certainty=90 if slapcat or not data else 70,
        format="ldif" if data else "mdb",
        version=None,
        compression=file.compression,
        extra={
            "path": str(file.path),
            "config": str(config.path) if config else None,
            "suffix": _first_dn(file.head) if data else None,
            "slapcat": slapcat,
            "compressions": {str(one.path): one.compression for one in known if one.compression},
        },
    )


def _is_ldif(head: bytes) -> bool:
    return _first_dn(head) is not None and b"\nobjectClass:" in head


def _first_dn(head: bytes) -> str | None:
    """Return the first entry's name where LDIF begins with one (RFC 2849), in plain text only."""
    start = head[:4096].lstrip()
    if start.startswith(b"version:"):
        start = start.partition(b"\n")[2].lstrip()
    found = _DN.match(start)
    if found is None or found[1] or b"\n " in start[: found.end() + 2]:
        return None
    return found[2].decode("utf-8", "replace").strip()


OPENLDAP = Openldap()
