"""A directory's configuration, and OpenLDAP's programs on it; all of it runs inside the sandbox."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from backupguard.contracts import Completed, Program, Server, Trial
from backupguard.errors import BackupDefect, MissingMeans, Misunderstood
from restore_tests import inside
from restore_tests.settings import OpenldapSettings
from restore_tests.unpacking import unpack

PROGRAM = Program(name="slapd", directories=(Path("/usr/sbin"),), package="slapd")
MIB = 1 << 20
_LARGEST = 64 << 30
#: Where Debian keeps the schemas that come with OpenLDAP; the sandbox does not show /etc.
_SCHEMAS = Path("/etc/ldap/schema")
#: In this order, because later ones use what earlier ones define.
_STANDARD = ("core", "cosine", "nis", "inetorgperson", "misc", "dyngroup", "duaconf", "collective")
SOCKET = "ldap"
URL = "ldapi://%2Fshared%2Fldap%2Fldapi"
PLACE = PurePosixPath("/scratch")
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
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8", "HOME": "/tmp"}  # noqa: S108
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
#: What ldapsearch ends with when the directory answers; from 48 on it wants to be bound first.
_ANSWERS = frozenset({0, 48, 49, 50, 53})
TOKEN = re.compile(r"([a-z_]{2,20}) (\d{1,15})\Z")


def settings_of(trial: Trial) -> OpenldapSettings:
    """Return what the site says of this test."""
    settings = trial.settings
    return settings if isinstance(settings, OpenldapSettings) else OpenldapSettings()


def suffix_of(trial: Trial, extra: Mapping[str, Any]) -> str:
    """Return the directory's suffix; raise MissingMeans where nobody says it."""
    suffix = settings_of(trial).suffix or extra.get("suffix")
    if not suffix or '"' in suffix or "\n" in suffix:
        raise MissingMeans("suffix_unknown")
    return str(suffix)


def run(trial: Trial, argv: Sequence[str], *, output_limit: int = 1 << 20) -> Completed:
    """Run a program on the directory's files, inside."""
    return trial.sandbox.run(
        argv,
        scratch=True,
        environment=ENVIRONMENT,
        timeout_s=int(trial.memory.get("timeout_s", 3600)),
        output_limit=output_limit,
    )


def tail(trial: Trial, path: PurePosixPath) -> bytes:
    """Return the last two bytes of a file."""
    done = run(trial, ["tail", "-c", "2", str(path)])
    if done.returncode != 0:  # a program that was killed says nothing of the file
        raise Misunderstood("unknown_exit", program="tail", status=done.returncode)
    return done.stdout


def our_configuration(trial: Trial, suffix: str) -> None:
    """Write a configuration with the schemas of this host's package and those the site names."""
    schemas = [_SCHEMAS / f"{name}.schema" for name in _STANDARD]
    includes = []
    for number, path in enumerate([*filter(Path.is_file, schemas), *settings_of(trial).schemas]):
        target = PLACE / f"{number}.schema"
        try:
            trial.sandbox.write(target, path.read_bytes())
        except OSError as error:
            raise MissingMeans("not_found", name=str(path)) from error
        includes.append(f"include {target}")
    text = _CONF.format(includes="\n".join(includes), maxsize=_largest(trial), suffix=suffix)
    trial.sandbox.write(PLACE / "slapd.conf", text.encode())
    trial.memory["configured"] = ["-f", "/scratch/slapd.conf"]


def _largest(trial: Trial) -> int:
    """Return how long the store's file may be: slapadd makes it as long as `maxsize`, with holes.

    The limit on a file counts the holes too.
    """
    said = run(trial, ["/bin/sh", "-c", "ulimit -f"]).stdout.strip()
    limit = int(said) * 512 if said.isdigit() else _LARGEST  # in blocks of 512 bytes (POSIX)
    return max(MIB, min(_LARGEST, limit - MIB))


def own_configuration(trial: Trial, extra: Mapping[str, Any]) -> None:
    """Load the directory's own configuration, with its schema, overlays and access rules."""
    source = PLACE / "own.ldif"
    unpack(trial, extra["config"], source, extra["compressions"].get(extra["config"]))
    script = (
        'awk -v place=/scratch/db -v largest="$4" "$1" "$2" > "$3" && mkdir -p /scratch/slapd.d'
    )
    fit = PLACE / "config.ldif"
    text = inside.text("openldap_config.awk")
    largest = str(_largest(trial))
    done = run(trial, ["/bin/sh", "-c", script, "sh", text, str(source), str(fit), largest])
    if done.returncode != 0:
        raise MissingMeans("program_missing", program="awk", package="mawk")
    trial.memory["configured"] = ["-F", "/scratch/slapd.d"]
    add(trial, fit, ["-n", "0"])


def add(trial: Trial, file: PurePosixPath, options: Sequence[str]) -> None:
    """Load an LDIF; raise what slapadd's words amount to."""
    argv = ["/usr/sbin/slapadd", *trial.memory["configured"], *options]
    text = inside.text("openldap_messages.awk")
    done = run(trial, ["/bin/sh", "-c", _ADD, "sh", text, str(file), *argv])
    said = tokens(done)
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


def tokens(done: Completed) -> dict[str, int]:
    """Return what a program's words amount to, counted: all that leaves the sandbox of them."""
    lines = done.stdout.decode("ascii", "replace").splitlines()
    return {match[1]: int(match[2]) for line in lines if (match := TOKEN.match(line))}


def wait(trial: Trial) -> None:
    """Wait until the directory answers an anonymous look at its root."""
    server: Server = trial.memory["server"]
    argv = ["ldapsearch", "-x", "-LLL", "-H", URL, "-b", "", "-s", "base", "namingContexts"]
    for attempt in range(300):
        if not server.alive():
            break
        done = trial.sandbox.run(
            argv, scratch=False, shared=(SOCKET,), environment=ENVIRONMENT, timeout_s=20
        )
        if done.returncode in _ANSWERS:
            return
        trial.context.cancel.raise_if_set()
        trial.context.cancel.wait(0.02 if attempt < 50 else 0.2)
    raise MissingMeans("server_refused", program="slapd", status=-1)
