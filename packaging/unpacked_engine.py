# ruff: noqa: INP001 - a script of script/build-bundle, no package
"""Makes an engine archive of a folder of Debian packages: the programs, and every library they need.

usage: unpacked_engine.py list
       unpacked_engine.py make ENGINE/VERSION DEBS OUTPUT

`list` prints a line per engine: its name, Debian release and packages. `make` writes the archive
OUTPUT/ENGINE-VERSION.tar.xz. One that was made of the same packages is kept in .tools/bundle/engines.

The programs are Debian's own; only two texts in them are changed: which loader starts them and where it
looks for libraries. Both are the engine's own, so nothing depends on the release of the host. Needs
dpkg-deb, patchelf, bubblewrap and xz. The same packages give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

LIST = Path(__file__).resolve().parent / "bundle" / "engines.toml"
CACHE = LIST.parents[2] / ".tools" / "bundle" / "engines"
ENGINES = PurePosixPath("/opt/backupguard/engines")
LIBRARIES = "libraries"
_FOUND = re.compile(r"^\s*(\S+) => (\S+|not found)", re.MULTILINE)
_ELF = b"\x7fELF"


def main(arguments: list[str]) -> None:
    """Do what the arguments say."""
    engines = tomllib.loads(LIST.read_text())["engines"]
    match arguments:
        case ["list"]:
            for one in engines:
                print(f"{one['engine']}/{one['version']}", one["suite"], *one["packages"])
        case ["make", name, debs, output]:
            wanted = next(o for o in engines if f"{o['engine']}/{o['version']}" == name)
            made(wanted, sorted(Path(debs).glob("*.deb")), Path(output))
        case _:
            sys.exit(__doc__)


def made(wanted: dict[str, Any], debs: list[Path], output: Path) -> None:
    """Put one engine's archive into `output`: the one that is kept, or a new one."""
    identity = hashlib.sha256(Path(__file__).read_bytes() + json.dumps(wanted).encode())
    for deb in debs:
        identity.update(hashlib.sha256(deb.read_bytes()).digest())
    kept = CACHE / identity.hexdigest()[:32]
    if not list(kept.glob("*.tar.xz")):
        kept.mkdir(parents=True, exist_ok=True)
        make(wanted, debs, kept)
    for archive in kept.glob("*.tar.xz"):
        shutil.copy2(archive, output / archive.name)
        print(f"{archive.name}: {archive.stat().st_size >> 20} MiB", flush=True)


def make(wanted: dict[str, Any], debs: list[Path], output: Path) -> None:
    """Write one engine's archive."""
    with TemporaryDirectory(prefix="backupguard-engine-", dir="/var/tmp") as work:
        root, tree = Path(work, "root"), Path(work, "tree")
        owners, versions = unpacked(debs, root)
        require_version(wanted, versions)
        used = kept(wanted, root, tree)
        used |= with_libraries(wanted, root, tree)
        packages = {owners[path] for path in used}
        copyrights(packages, root, tree)
        for name, target in wanted["links"].items():
            (tree / name).symlink_to(target)
        described = {
            "format": "backupguard-engine-1",
            "engine": wanted["engine"],
            "version": wanted["version"],
            "architecture": run("dpkg", "--print-architecture").strip(),
            "release": wanted["suite"],
            "bytes": sum(p.stat().st_size for p in tree.rglob("*") if is_file(p)),
            "packages": {name: versions[name] for name in sorted(packages)},
        }
        (tree / "engine.json").write_text(json.dumps(described, indent=1) + "\n")
        said = proved(wanted, tree)
        # its times are the newest one's of what it holds
        epoch = max(int(p.lstat().st_mtime) for p in root.rglob("*") if is_file(p))
        archive = Path(work, f"{wanted['engine']}-{wanted['version']}.tar")
        packed(tree, archive, epoch)
        shutil.move(f"{archive}.xz", output)
    print(f"{archive.name}: {described['bytes'] >> 20} MiB unpacked, {said}", flush=True)


def unpacked(debs: list[Path], root: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Unpack packages; return the package of each path, and the version of each package."""
    owners: dict[str, str] = {}
    versions: dict[str, str] = {}
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for deb in debs:
        name, version = run(
            "dpkg-deb", "-W", "--showformat=${Package} ${Version}", str(deb)
        ).split()
        versions[name] = version
        files = output_of("dpkg-deb", "--fsys-tarfile", str(deb))
        # what is one directory on every Debian now was two in the packages of bookworm
        into = ["tar", "-xf", "-", "-C", str(root), "--keep-directory-symlink", "--no-same-owner"]
        output_of(*into, given=files)
        listed = output_of("tar", "-tf", "-", given=files)
        for path in listed.decode().splitlines():
            plain = path.removeprefix("./").rstrip("/")
            owners[plain if plain.startswith("usr/") else f"usr/{plain}"] = name
    return owners, versions


def require_version(wanted: dict[str, Any], versions: dict[str, str]) -> None:
    """End unless the first package has the version that is stated."""
    found = versions[wanted["packages"][0]]
    upstream = found.partition(":")[2] or found
    if not re.match(rf"{re.escape(wanted['version'])}([.+~-]|$)", upstream):
        sys.exit(
            f"{wanted['packages'][0]} of {wanted['suite']} is {found}, not {wanted['version']}:"
            f" state it in {LIST}"
        )


def kept(wanted: dict[str, Any], root: Path, tree: Path) -> set[str]:
    """Copy what is kept; return its paths below /."""
    used = set()
    for pattern in wanted["keep"]:
        for top in sorted(root.glob(pattern)):
            for path in [top, *sorted(top.rglob("*"))] if top.is_dir() else [top]:
                name = str(path.relative_to(root))
                parts = [name, *map(str, PurePosixPath(name).parents)]
                if any(fnmatch(p, no) for p in parts for no in wanted.get("without", ())):
                    continue
                inside = path.is_symlink() and not path.readlink().is_absolute()
                if path.is_dir() and not path.is_symlink():
                    (tree / name).mkdir(parents=True, exist_ok=True)
                elif path.is_symlink() and not (inside and path.exists()):
                    continue  # leads into /etc or /var, which an engine does not have
                else:
                    copy(path, tree / name)
                    used.add(name)
    return used


def with_libraries(wanted: dict[str, Any], root: Path, tree: Path) -> set[str]:
    """Bring every library the kept programs and modules need; have them look for it here."""
    place = ENGINES / wanted["engine"] / wanted["version"] / LIBRARIES
    triplet = run("dpkg-architecture", "-qDEB_HOST_MULTIARCH").strip()
    libraries = root / "usr/lib" / triplet
    loader = next(libraries.glob("ld-linux-*"), None)
    used: set[str] = set()
    for path in sorted(tree.rglob("*")):
        if not is_file(path) or not is_dynamic(path):
            continue
        assert loader is not None, "a dynamic program without a C library"
        said = run(
            *(str(loader), "--inhibit-cache", "--library-path", str(libraries), "--list", str(path))
        )
        for name, found in _FOUND.findall(said):
            library = Path(found)
            if not library.is_relative_to(root):
                sys.exit(f"{path.relative_to(tree)} needs {name}, which no package here has")
            copy(library.resolve(), tree / LIBRARIES / name)
            used.add(str(library.resolve().relative_to(root)))
        copy(loader.resolve(), tree / LIBRARIES / loader.name)
        used.add(str(loader.resolve().relative_to(root)))
        if interpreter(path):
            options = ["--set-interpreter", str(place / loader.name), "--force-rpath"]
            run("patchelf", *options, "--set-rpath", str(place), str(path))
        elif run("patchelf", "--print-rpath", str(path)).strip():
            run("patchelf", "--remove-rpath", str(path))
    for library in (tree / LIBRARIES).glob("*") if (tree / LIBRARIES).is_dir() else ():
        if (
            "ld-linux" not in library.name
            and run("patchelf", "--print-rpath", str(library)).strip()
        ):
            run("patchelf", "--remove-rpath", str(library))
    return used


def copyrights(packages: set[str], root: Path, tree: Path) -> None:
    """Bring each package's licence."""
    for name in packages:
        there = root / "usr/share/doc" / name / "copyright"
        if there.exists():
            copy(there.resolve(), tree / "usr/share/doc" / name / "copyright")


def proved(wanted: dict[str, Any], tree: Path) -> str:
    """Start the program where there is nothing but the engine; return what it says."""
    place = ENGINES / wanted["engine"] / wanted["version"]
    program, *arguments = wanted["program"]
    said = run(
        *("bwrap", "--unshare-all", "--ro-bind", str(tree), str(place), "--proc", "/proc"),
        *("--dev", "/dev", "--clearenv", str(place / program), *arguments),
    )
    if wanted["version"] not in said:
        sys.exit(f"{wanted['engine']}/{wanted['version']} says: {said}")
    return said.strip().splitlines()[0]


def packed(tree: Path, to: Path, epoch: int) -> None:
    """Pack a tree, its description first, and compress the archive to `to`.xz."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = epoch
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        return member

    with tarfile.open(to, "w", format=tarfile.GNU_FORMAT) as archive:
        names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
        names.remove("engine.json")
        for name in ["engine.json", *names]:
            archive.add(tree / name, name, recursive=False, filter=plain)
    # two threads whatever the host has: how it is cut into blocks is part of the bytes
    run("xz", "-3", "--threads=2", str(to))


def copy(source: Path, to: Path) -> None:
    """Copy a file or a link, once; what is hard-linked becomes a file of its own."""
    if to.exists() or to.is_symlink():
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, to, follow_symlinks=False)


def is_file(path: Path) -> bool:
    """Tell whether it is a file, and no link to one."""
    return path.is_file() and not path.is_symlink()


def is_dynamic(path: Path) -> bool:
    """Tell whether it is a program or library that a loader has to join with others."""
    with path.open("rb") as file:
        if file.read(4) != _ELF:
            return False
    return interpreter(path) or ".so" in path.name


def interpreter(path: Path) -> bool:
    """Tell whether a program is started by a loader."""
    asked = ("patchelf", "--print-interpreter", str(path))
    return subprocess.run(asked, check=False, capture_output=True).returncode == 0


def run(*argv: str) -> str:
    """Run a program and return what it printed; end with what it complained about."""
    return output_of(*argv).decode("utf-8", "replace")


def output_of(*argv: str, given: bytes | None = None) -> bytes:
    """Run a program that is given these bytes and return those it printed; end when it failed."""
    done = subprocess.run(
        argv, check=False, input=given, capture_output=True, env={**os.environ, "LC_ALL": "C"}
    )
    if done.returncode:
        sys.exit(f"{' '.join(argv)}: {done.returncode}\n{done.stderr.decode(errors='replace')}")
    return done.stdout


if __name__ == "__main__":
    main(sys.argv[1:])
