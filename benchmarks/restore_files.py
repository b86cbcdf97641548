"""restore-files: a restore test of a tree of files, from restic, with everything that is verified.

Two ways from the same repository, in turn: `bare`, `restic restore` alone; `ours`, a restore test
through `perform`, of which all phases up to and with `verify` count. The tree is a hospital's: letters
in small files, images of half a megabyte, some long ones; nothing in it compresses. It is large enough
that what a test costs once (two more calls of restic, each of which derives the key anew; the start of
the sandbox) does not stand for what it costs per byte. Verified: all pieces of all files against the
snapshot's tree (`--verify`), number and bytes against the listing, the beginning of every file, and the
whole content of an eighth of them against earlier tests.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from harness import finish, run, timed
from restores import COUNTED, back_up, site

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
MEGABYTES = int(os.environ.get("BENCH_MEGABYTES", "3000"))
#: Of each hundred megabytes: how many files of how many bytes, and what they begin with.
KINDS = (
    ("letters", "txt", 500, 20_000, b"Compte rendu\n"),
    ("images", "dcm", 120, 500_000, bytes(128) + b"DICM"),
    ("scans", "pdf", 3, 10_000_000, b"%PDF-1.7\n"),
)


def make_tree(root: Path) -> int:
    """Write the tree; return how many files it has."""
    chance = random.Random(7)
    count = 0
    for part in range(max(1, MEGABYTES // 100)):
        for kind, extension, files, size, head in KINDS:
            place = root / kind / f"{part:03}"
            place.mkdir(parents=True)
            for number in range(files):
                body = chance.randbytes(size - len(head))
                if extension == "txt":
                    body = body.hex().encode()[: size - len(head)]
                (place / f"{number:05}.{extension}").write_bytes(head + body)
                count += 1
    (root / "letters" / "newest.txt").write_text(f"{datetime.now(UTC)}", encoding="ascii")
    return count + 1


def main() -> int:
    """Measure both ways in turn."""
    figures: dict[str, list[float]] = {"bare": [], "ours": []}
    with tempfile.TemporaryDirectory(prefix="bg-") as name:
        directory = Path(name)
        tree = directory / "tree"
        print(f"  {make_tree(tree)} files, {MEGABYTES} MB")
        restic = back_up(directory, tree)

        def bare() -> None:
            run(["restic", "restore", "-q", "--no-lock", "latest", "--target", directory / "bare",
                 "--include", tree], restic)  # fmt: skip

        with site(directory, tree, "files") as tested:
            tested.test()
            for _ in range(ROUNDS):
                figures["bare"].append(timed(bare))
                shutil.rmtree(directory / "bare")
                phases = tested.test()
                figures["ours"].append(sum(phases[phase] for phase in (*COUNTED, "verify")))
                print("   ", {k: round(v[-1], 2) for k, v in figures.items()}, flush=True)
    median = {way: statistics.median(values) for way, values in figures.items()}
    for way, seconds in median.items():
        print(f"  {way:12} median {seconds:.2f} s")
    return finish("restore-files", median["ours"] / median["bare"], 1.25)


if __name__ == "__main__":
    sys.exit(main())
