"""Brings one file of the artifact into scratch, inside the sandbox; unpacked, where need be."""

from __future__ import annotations

import signal
from pathlib import PurePosixPath

from backupguard.contracts import Trial
from backupguard.errors import BackupDefect, MissingMeans, Misunderstood

#: A function of the shell that writes a file to standard output, unpacked: compression, file.
READ = """
opened() {
  case "$1" in
    gzip) gzip -dc -- "$2" ;;
    xz) xz -dc -- "$2" ;;
    zstd) zstd -dcq --long=31 -- "$2" ;;
    *) cat -- "$2" ;;
  esac
}
"""
_PROGRAMS = {"gzip": "gzip", "xz": "xz", "zstd": "zstd"}
#: What it says of a place that is full.
_FULL = (b"No space left", b"File too large", b"Disk quota")
#: What a file ends with that grew beyond its limit: SIGXFSZ, by the program itself or its shell.
_OUT_OF_FILE = frozenset({128 + signal.SIGXFSZ})
#: What a decompressor says of an archive that ends too early.
_CUT = (b"unexpected end", b"premature end", b"Unexpected end", b"truncated", b"Read error (39)")


def unpack(trial: Trial, path: str, target: PurePosixPath, compression: str | None) -> None:
    """Copy `path` of the artifact to `target` below `/scratch`.

    Raises BackupDefect (truncated, corrupt) for an archive that cannot be unpacked, MissingMeans for a
    program, a disk or a memory that is missing, Misunderstood for a program that was killed.
    """
    source = str(trial.artifact if path in {".", ""} else trial.artifact / path)
    if compression is None:
        argv = ["/usr/bin/cp", "--reflink=auto", "--no-preserve=all", "--", source, str(target)]
    else:
        program = _PROGRAMS[compression]
        more = " --long=31" if compression == "zstd" else ""
        script = f'exec {program} -dc{more} -- "$1" > "$2"'
        argv = ["/bin/sh", "-c", script, "sh", source, str(target)]
    done = trial.sandbox.run(argv, scratch=True, timeout_s=int(trial.memory.get("timeout_s", 3600)))
    if done.returncode == 0:
        return
    if compression is not None and done.returncode == 127:
        raise MissingMeans("program_missing", program=compression, package=compression)
    if done.returncode in _OUT_OF_FILE or any(word in done.stderr for word in _FULL):
        raise MissingMeans("no_disk")
    if done.oom or b"memory" in done.stderr.lower():
        raise MissingMeans("no_memory")
    if compression is None or done.returncode >= 126:  # killed, or never started
        raise Misunderstood("unknown_exit", program=compression or "cp", status=done.returncode)
    raise BackupDefect("truncated" if any(word in done.stderr for word in _CUT) else "corrupt")
