"""Firebird inside the sandbox: its library with a place and rules of ours, and what its programs say.

No server is started: gbak, gfix and isql-fb load the engine into themselves ("embedded", Firebird 3
Release Notes, chapter 4). It reads its rules below `FIREBIRD`: a directory made here, where external
files, libraries of functions and everything but the local engine are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from backupguard.contracts import Completed, Program, Trial
from backupguard.errors import BackupDefect, BackupGuardError, MissingMeans, Misunderstood
from restore_tests import inside

PLACE = PurePosixPath("/scratch/firebird")
DATABASE = PurePosixPath("/scratch/restored.fdb")
#: The on-disk structure that each engine reads; only one of them ever.
ENGINES = {12: "3.0", 13: "4.0"}
_BIN = (Path("/usr/bin"),)
PROGRAMS = tuple(
    Program(name=name, directories=_BIN, package="firebird3.0-utils")
    for name in ("gbak", "gfix", "isql-fb", "nbackup")
)
_PACKAGE = "firebird3.0-server-core"
_CONF = b"""Providers = Engine12,Engine13
ServerMode = Super
ExternalFileAccess = None
UdfAccess = None
TempDirectories = /scratch/firebird/tmp
DatabaseAccess = Restrict /scratch
AuditTraceConfigFile =
WireCrypt = Disabled
"""
#: Finds the package's place and puts what the engine needs beside our rules; says which engine it is.
_MAKE = """
for place in /usr/lib/*/firebird/*; do
  [ -e "$place/firebird.msg" ] || continue
  for engine in "$place"/plugins/libEngine*.so; do
    [ -e "$engine" ] || continue
    mkdir -p "$1/intl" "$1/tmp" "$1/lock" || exit 3
    ln -s "$place/plugins" "$1/plugins" && ln -s "$place/firebird.msg" "$1/firebird.msg" || exit 3
    # No link: the engine takes a link's end for another library, and knows no character set then.
    cp "$place"/intl/*.so "$1/intl/" || exit 3
    echo "${engine##*/}"; exit 0
  done
done
exit 4
"""
_SAID = """
program=$1; shift
"$@" >/tmp/said 2>&1; status=$?
LC_ALL=C awk "$program" /tmp/said; echo status $status
"""
_TOKEN = re.compile(r"([a-z_]{2,20}) (\d{1,15})\Z")
ENVIRONMENT = {
    "PATH": "/usr/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/tmp",  # noqa: S108
    "FIREBIRD": str(PLACE),
    "FIREBIRD_LOCK": str(PLACE / "lock"),
    "FIREBIRD_TMP": str(PLACE / "tmp"),
    # The owner of everything: the engine asks nobody for a password when it is no server.
    "ISC_USER": "SYSDBA",
}
#: Programs that ended over the bytes they read: SIGABRT, SIGBUS, SIGFPE, SIGSEGV.
_CRASHED = frozenset({134, 135, 136, 139})
_TOO_LARGE = 153  # SIGXFSZ


def make(trial: Trial) -> None:
    """Make the place that the engine runs from; raise MissingMeans where it is not installed."""
    trial.sandbox.write(PLACE / "firebird.conf", _CONF)
    done = run(trial, ["/bin/sh", "-c", _MAKE, "sh", str(PLACE)])
    found = re.match(rb"libEngine(\d+)\.so", done.stdout)
    if done.returncode == 3:
        raise MissingMeans("no_disk", program="firebird")
    if done.returncode or found is None:
        raise MissingMeans("program_missing", program="libEngine12.so", package=_PACKAGE)
    trial.memory["ods"] = int(found[1])
    trial.memory["tools"] = {"firebird": ENGINES.get(int(found[1]), "?")}


def run(
    trial: Trial, argv: Sequence[str], *, stdin: bytes | None = None, output_limit: int = 1 << 20
) -> Completed:
    """Run a program inside, in the engine's surroundings."""
    return trial.sandbox.run(
        argv,
        scratch=True,
        stdin=stdin,
        environment=ENVIRONMENT,
        timeout_s=int(trial.memory.get("timeout_s", 3600)),
        output_limit=output_limit,
    )


def said(trial: Trial, argv: Sequence[str]) -> dict[str, int]:
    """Run one of Firebird's programs; return its exit status and what its words amount to, counted."""
    text = inside.text("firebird_messages.awk")
    done = run(trial, ["/bin/sh", "-c", _SAID, "sh", text, *argv])
    lines = done.stdout.decode("ascii", "replace").splitlines()
    tokens = {match[1]: int(match[2]) for line in lines if (match := _TOKEN.match(line))}
    if "status" not in tokens or done.oom:
        raise Misunderstood("unknown_exit", program=argv[0], status=done.returncode)
    return tokens


def blamed(tokens: Mapping[str, int], program: str) -> BackupGuardError | None:
    """Return what a program's words amount to; None where it is content.

    What is ours comes first: a full disk leaves damage behind that the backup has not.
    """
    status = tokens["status"]
    if tokens.get("no_disk") or status == _TOO_LARGE:
        return MissingMeans("no_disk", program=program)
    if tokens.get("no_memory"):
        return MissingMeans("no_memory", program=program)
    if tokens.get("version"):
        return MissingMeans("version_unsupported", program=program)
    if tokens.get("not_installed"):
        return MissingMeans("extension_missing", program="firebird")
    for token, code in (("truncated", "truncated"), ("damaged", "corrupt")):
        if tokens.get(token):
            return BackupDefect(code)
    if status in _CRASHED:
        return BackupDefect("corrupt")
    if tokens.get("refused"):
        return BackupDefect("load_refused", count=tokens["refused"])
    if status:
        return Misunderstood("unclassified_stderr", program=program, count=tokens.get("other", 0))
    return None


def sql(
    trial: Trial, script: str, *, charset: str = "NONE", limit_s: int | None = None
) -> Completed:
    """Run a script in isql-fb, ended at its first error; `limit_s` bounds it (exit status 124).

    Triggers of the database do not run. Rows come as words between spaces.
    """
    argv = ["isql-fb", "-q", "-b", "-nodbtriggers", "-ch", charset, str(DATABASE)]
    if limit_s is not None:
        argv = ["timeout", "-k", "5", str(limit_s), *argv]
    head = "set heading off;\n"
    return run(trial, argv, stdin=(head + script).encode(), output_limit=32 << 20)


def rows(done: Completed) -> list[list[str]]:
    """Return the rows of a script; raise Misunderstood, and BackupDefect for a damaged page."""
    if done.returncode or done.oom or done.truncated:
        if any(word in done.stderr for word in (b"consistency check", b"wrong page type")):
            raise BackupDefect("corrupt")
        raise Misunderstood("unknown_exit", program="isql-fb", status=done.returncode)
    lines = done.stdout.decode("ascii", "replace").splitlines()
    return [words for line in lines if (words := line.split())]
