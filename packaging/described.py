# ruff: noqa: INP001 - scripts of script/build-deb, no package
"""Writes what a package says of its own content: the licences and the bill of materials.

usage: described.py SITE-PACKAGES SBOM.json DIRECTORY VERSION

Makes DIRECTORY/copyright (machine-readable, one paragraph per library, from what each declares) and
DIRECTORY/sbom.cdx.json (CycloneDX, without a time or a random number of the build).
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator
from email.message import Message
from importlib.metadata import Distribution, distributions
from pathlib import Path

_HEAD = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: BackupGuard
Comment: The libraries below /usr/lib/backupguard are the wheels that uv.lock names, unchanged.
 The whole text of each licence lies beside its library, in NAME.dist-info.

Files: *
Copyright: The BackupGuard developers
License: Apache-2.0

License: Apache-2.0
 On Debian systems, the whole text is in /usr/share/common-licenses/Apache-2.0.
"""


def licence(declared: Message) -> str:
    """Return the licence that a library declares, in one line."""
    expression = declared.get("License-Expression")
    if expression:
        return str(expression)
    classified = [
        one.rpartition("::")[2].strip()
        for one in declared.get_all("Classifier", [])
        if one.startswith("License ::")
    ]
    named = str(declared.get("License") or "").strip().splitlines()
    return (
        " or ".join(classified) or (named[0] if named and len(named) == 1 else "") or "see its file"
    )


def paragraphs(found: list[Distribution]) -> Iterator[str]:
    """Yield a paragraph for each library."""
    for one in found:
        declared: Message = one.metadata  # type: ignore[assignment]
        name = declared["Name"]
        if name == "backupguard":
            continue
        who = declared.get("Author") or declared.get("Author-email") or f"the authors of {name}"
        home = str(one.locate_file(""))  # below site-packages, whose place in the package is known
        module = name.replace("-", "_").lower()
        python = Path(home).parent.name
        short = f"{module}-licence"
        yield (
            f"Files: usr/lib/backupguard/lib/{python}/site-packages/{module}*\n"
            f"Copyright: {' '.join(str(who).split())}\n"
            f"License: {short}\n\n"
            f"License: {short}\n {name} {declared['Version']}: {' '.join(licence(declared).split())}\n"
        )


def bill(read: dict[str, object], version: str) -> dict[str, object]:
    """Return the bill of materials as any build of the same lock file makes it."""
    metadata = dict(read.get("metadata") or {})  # type: ignore[call-overload]
    metadata.pop("timestamp", None)
    component = dict(metadata.get("component") or {"type": "application", "name": "backupguard"})
    metadata["component"] = {**component, "version": version}
    made = {**read, "metadata": metadata}
    made.pop("serialNumber", None)
    content = json.dumps(made, sort_keys=True)
    made["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}"
    return made


def main(site: Path, sbom: Path, directory: Path, version: str) -> None:
    """Write both files."""
    directory.mkdir(parents=True)
    found = sorted(distributions(path=[str(site)]), key=lambda one: one.metadata["Name"].lower())
    text = "\n".join([_HEAD, *paragraphs(found)])
    (directory / "copyright").write_text(text, encoding="utf-8")
    made = bill(json.loads(sbom.read_text(encoding="utf-8")), version)
    (directory / "sbom.cdx.json").write_text(
        json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
