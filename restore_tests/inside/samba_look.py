"""Looks at a Samba domain's database, inside the sandbox: prints counts, codes and times.

Started as `python3 -I -c TEXT` with a request as JSON on standard input; prints one JSON object. Its
library reads the database as `samba-tool dbcheck` does, and mends nothing. No secret attribute is
asked for; of no entry more than its classes, its times and how many members it has.
"""

from __future__ import annotations

import calendar
import contextlib
import io
import json
import lzma
import os
import sys
import tarfile
import time
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

#: What of a backup is unpacked: the database and its keys, nothing of shares.
_WANTED = "private/"
_KEYS = ("encrypted_secrets.key", "secrets.ldb", "secrets.tdb")
_KINDS = {
    "policy": "(objectClass=groupPolicyContainer)",
    "unit": "(objectClass=organizationalUnit)",
    "group": "(objectClass=group)",
    "controller": "(&(objectClass=computer)(userAccountControl:1.2.840.113556.1.4.803:=8192))",
    "computer": "(&(objectClass=computer)(!(userAccountControl:1.2.840.113556.1.4.803:=8192)))",
    "user": "(&(objectClass=user)(!(objectClass=computer)))",
}
_FEATURES = {"encryptedSecrets", "lmdbLevelOne", "sortedLinks"}
#: Less memory than this left, and an error of the library may be ours.
_HEADROOM = 32 << 20
_FULL = (27, 28, 122)  # EFBIG, ENOSPC, EDQUOT


class Defect(Exception):
    """The backup is to blame; its text is a code."""


class Later(Exception):
    """A later version of Samba made this."""


def main(request: dict[str, Any]) -> None:
    """Do what is asked and print what came of it."""
    try:
        answer = {"load": load, "look": look}[request["stage"]](request)
    except Defect as error:
        answer = {"defect": str(error)}
    except Later:
        answer = {"error": "version_unsupported"}
    except MemoryError:
        answer = {"error": "no_memory"}
    except ImportError:
        answer = {"error": "program_missing"}
    except OSError as error:
        answer = {"error": "no_disk" if error.errno in _FULL else type(error).__name__}
    print(json.dumps(answer))


# --------------------------------------------------------------------------------------- unpacking


def load(request: dict[str, Any]) -> dict[str, Any]:
    """Unpack an archive, or copy a tree: regular files below `private/` only."""
    source, target = Path(request["source"]), Path(request["target"])
    if source.is_dir():
        return {"files": copied(source / request["below"], target)}
    found = 0
    try:
        with tarfile.open(source, "r:*") as archive:
            for member in archive:
                refuse(member)
                name = member.name.removeprefix("./")
                if member.isreg() and name.startswith(_WANTED):
                    found += 1
                    written(archive, member, target / name.removeprefix(_WANTED))
            ended(archive)
    except (EOFError, tarfile.ReadError) as error:
        # An archive whose first bytes are none of a tar is something else, not a damaged one.
        cut = isinstance(error, EOFError) or "unexpected end" in str(error)
        raise Defect("truncated" if cut or found else "not_a_dump") from error
    except (OSError, ValueError, tarfile.TarError, zlib.error, lzma.LZMAError) as error:
        if getattr(error, "errno", None):
            raise
        raise Defect("corrupt") from error
    if not found:
        raise Defect("not_a_dump")
    return {"files": found}


def ended(archive: tarfile.TarFile) -> None:
    """Read on to the end: a header that is none ends a tar without a word, hiding what follows."""
    stream: Any = archive.fileobj
    stream.seek(archive.offset)
    while piece := stream.read(1 << 20):
        if piece.strip(b"\0"):
            raise Defect("corrupt")


def refuse(member: tarfile.TarInfo) -> None:
    """Refuse what no backup of a domain holds: places and links that lead out of it."""
    names = [member.name, *([member.linkname] if member.islnk() or member.issym() else [])]
    if any(name.startswith("/") or ".." in name.split("/") for name in names):
        raise Defect("hostile")
    if not (member.isreg() or member.isdir()) and member.name.startswith(_WANTED):
        raise Defect("hostile")


def written(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    """Write one member's bytes to a new file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    content = archive.extractfile(member)
    left = member.size
    with target.open("xb") as file:
        while content is not None and left:
            piece = content.read(min(left, 1 << 20))
            if not piece:
                raise Defect("truncated")
            file.write(piece)
            left -= len(piece)


def copied(source: Path, target: Path) -> int:
    """Copy regular files of a tree; follow no link."""
    count = 0
    for place, _, names in os.walk(source):
        for name in names:
            path = Path(place) / name
            if path.is_symlink() or not path.is_file():
                continue
            to = target / path.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as read, to.open("xb") as write:
                while piece := read.read(1 << 20):
                    write.write(piece)
            count += 1
    return count


# ---------------------------------------------------------------------------------------- the look


def look(request: dict[str, Any]) -> dict[str, Any]:
    """Open the domain's database, have Samba check it, count what is in it, answer questions."""
    # Samba's own modules, where it is installed.
    ldb: Any = import_module("ldb")
    system_session = import_module("samba.auth").system_session
    rules = import_module("samba.param").LoadParm()

    place = Path(request["place"])
    missing_parts(ldb, place)
    rules.set("private dir", str(place))
    rules.set("log level", "0")
    opened = import_module("samba.samdb").SamDB
    session = system_session(rules)
    try:
        database = opened(url=f"tdb://{place}/sam.ldb", session_info=session, lp=rules)
        root = database.search(base="", scope=ldb.SCOPE_BASE, attrs=["defaultNamingContext"])
        domain = str(root[0]["defaultNamingContext"])
        told = counted(ldb, database, request)
        told["errors"] = checked(ldb, database)
    except (ldb.LdbError, KeyError, IndexError, RuntimeError) as error:
        ours = MemoryError() if short_of_memory() else lacking(str(error))
        if ours is not None:
            raise ours from error
        # A domain that its own library does not read, from files that are all there.
        raise Defect("corrupt") from error
    told["answers"] = [answered(ldb, database, one, request) for one in request["questions"]]
    told["domain"] = ".".join(part.partition("=")[2] for part in domain.lower().split(","))
    told["keys"] = sum(not (place / name).is_file() for name in _KEYS)
    return told


def short_of_memory() -> bool:
    """Tell whether there was little left for the library, whose errors do not say so."""
    try:
        bytearray(_HEADROOM)
    except MemoryError:
        return True
    return False


def lacking(said: str) -> Exception | None:
    """Return what an error of the library says that this host lacks; None where it is the domain."""
    if "memory" in said:
        return MemoryError()
    if "No space left" in said:
        return OSError(28, said)
    return ImportError(said) if "backend 'mdb'" in said else None


def missing_parts(ldb: Any, place: Path) -> None:
    """Raise Defect where a part is missing: one file for each partition, named in the first."""
    if not (place / "sam.ldb").is_file():
        raise Defect("missing_object")
    try:
        plain = ldb.Ldb(f"tdb://{place}/sam.ldb", ldb.FLG_DONT_CREATE_DB, ["modules:"])
        found = plain.search(base="@PARTITION", scope=ldb.SCOPE_BASE, attrs=["partition"])
        features = plain.search(base="@SAMBA_DSDB", scope=ldb.SCOPE_BASE, attrs=["*"])
        parts = [str(value) for value in found[0]["partition"]]
    except (ldb.LdbError, KeyError, IndexError) as error:
        if short_of_memory():
            raise MemoryError from error
        raise Defect("corrupt") from error
    for part in parts:
        name = part.partition(":")[2]
        if name.startswith("/") or ".." in name.split("/"):
            raise Defect("hostile")
        if not (place / name).is_file():
            raise Defect("missing_object")
    # Features of a later version: https://wiki.samba.org, "requiredFeatures" of @SAMBA_DSDB.
    wanted = [str(value) for value in features[0].get("requiredFeatures", [])] if features else []
    if set(wanted) - _FEATURES:
        raise Later
    if "encryptedSecrets" in wanted and not (place / _KEYS[0]).is_file():
        raise Defect("missing_object")  # nobody's password can be read any more


def checked(ldb: Any, database: Any) -> int:
    """Count what `samba-tool dbcheck --cross-ncs` finds; its words name entries and go nowhere."""
    with contextlib.redirect_stdout(io.StringIO()):
        check = import_module("samba.dbchecker").dbcheck(
            database, fix=False, yes=False, quiet=True, in_transaction=False
        )
        controls = ["search_options:1:2", "show_deleted:1", "show_recycled:1"]
        return int(
            check.check_database(DN=None, scope=ldb.SCOPE_SUBTREE, controls=controls, attrs=["*"])
        )


def counted(ldb: Any, database: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Count entries by kind, members of groups, and the newest change of each kind."""
    counts: dict[str, int] = {}
    newest: dict[str, int] = {}
    members = 0
    for kind, expression in _KINDS.items():
        attributes = ["whenChanged", *(["member"] if kind == "group" else [])]
        entries = found(ldb, database, expression, None, attributes)
        counts[kind] = len(entries)
        members += sum(len(entry.get("member", [])) for entry in entries)
        times = [moment for entry in entries if (moment := changed(entry, request)) is not None]
        if times:
            newest[kind] = max(times)
    return {"counts": counts, "members": members, "newest": newest}


def found(ldb: Any, database: Any, expression: str, base: str | None, attributes: Any) -> Any:
    """Return the entries of the domain, or below `base`, that a filter matches."""
    return database.search(
        base=base or database.domain_dn(),
        scope=ldb.SCOPE_SUBTREE,
        expression=expression,
        attrs=attributes,
    )


def changed(entry: Any, request: dict[str, Any]) -> int | None:
    """Return when an entry was changed, in microseconds, where that can be true."""
    try:
        stamp = time.strptime(str(entry["whenChanged"])[:14], "%Y%m%d%H%M%S")
    except (KeyError, ValueError):
        return None
    moment = calendar.timegm(stamp) * 1_000_000
    return moment if request["floor"] <= moment <= request["limit"] else None


def answered(ldb: Any, database: Any, question: dict[str, Any], request: dict[str, Any]) -> Any:
    """Return how many entries a filter matches, and when the newest was changed."""
    try:
        entries = found(ldb, database, question["filter"], question["base"], ["whenChanged"])
    except ldb.LdbError:
        return None
    times = [moment for entry in entries if (moment := changed(entry, request)) is not None]
    return [len(entries), max(times, default=None)]


if __name__ == "__main__":
    main(json.load(sys.stdin))
