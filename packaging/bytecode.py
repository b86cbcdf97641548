# ruff: noqa: INP001 - a script of script/build-deb, no package
"""Compiles every module of a package for the interpreter that runs this script, always to one result.

usage: bytecode.py DIRECTORY PLACE     where DIRECTORY will lie once it is installed

Each module is compiled in a process of its own, forked from this one: what marshal writes depends on
which strings are known already, so the modules compiled before must not count. The files are taken as
they are and never compared with their sources ("unchecked", PEP 552): both belong to the same package.
Needs PYTHONHASHSEED=0, since sets of constants are written in their order.
"""

from __future__ import annotations

import os
import py_compile
import sys
import warnings


def sources(directory: str) -> list[str]:
    """Return the modules below a directory, in one order everywhere."""
    return sorted(
        os.path.join(place, name)  # noqa: PTH118 - pathlib is not in an interpreter's smallest package
        for place, _, names in os.walk(directory)
        for name in names
        if name.endswith(".py")
    )


def compiled(source: str, shown: str) -> int:
    """Compile one module; return the exit status of the process that did it."""
    warnings.simplefilter("ignore")  # what libraries write is theirs
    try:
        py_compile.compile(
            source,
            dfile=shown,
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    except (py_compile.PyCompileError, OSError) as error:
        print(f"{source}: {error}", file=sys.stderr)
        return 1
    return 0


def main(directory: str, place: str) -> int:
    """Compile all of them, as many at a time as there are processors."""
    if sys.flags.hash_randomization:
        print("bytecode.py: PYTHONHASHSEED=0 is missing", file=sys.stderr)
        return 2
    free, failed = os.cpu_count() or 1, False
    for source in sources(directory):
        if not free:
            failed |= os.wait()[1] != 0
            free += 1
        if os.fork() == 0:
            os._exit(compiled(source, place + source[len(directory) :]))
        free -= 1
    while True:
        try:
            failed |= os.wait()[1] != 0
        except ChildProcessError:
            return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1].rstrip("/"), sys.argv[2].rstrip("/")))
