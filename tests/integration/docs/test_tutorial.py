"""The tutorial, word by word, as an ordinary user with a /srv and /etc/backupguard of its own.

What needs a machine of its own (apt, systemd, other accounts) is run by script/test-system:
tests/system/tutorial.py runs every block there, in both languages.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.postgres import SUPERUSER, start_cluster
from tests.tutorial import PAGES, Block, blocks

pytestmark = pytest.mark.timeout(450)  # a dozen commands, three restore tests, on a busy machine
ENGLISH = blocks(PAGES["en"])
#: Runs every block in a shell of its own, as a reader does, up to the first that surprises.
DRIVER = """\
cd "$1"
for block in *.sh; do
  code=0
  sh -eu "$block" >"$block.out" 2>&1 </dev/null || code=$?
  echo "$code" >"$block.code"
  [ "$code" = "$(cat "$block.exit")" ] || exit 1
done
"""


def own_places(place: Path) -> list[str]:
    """Return how bubblewrap gives a process its own /srv, /etc/backupguard and /var/lib."""
    options = ["bwrap", "--die-with-parent", "--dev-bind", "/", "/", "--tmpfs", "/etc"]
    for entry in sorted(Path("/etc").iterdir()):
        if entry.is_symlink():
            options += ["--symlink", str(entry.readlink()), str(entry)]
        elif entry.name != "backupguard":
            options += ["--ro-bind-try", str(entry), str(entry)]
    own = {"srv": "/srv", "etc": "/etc/backupguard", "state": "/var/lib/backupguard"}
    options += ["--tmpfs", "/var/lib"]
    for name, where in own.items():
        (place / name).mkdir()
        options += ["--bind", str(place / name), where]
    (place / "etc/credentials").mkdir(mode=0o700)
    (place / "home").mkdir()
    return options


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[int, str]]:
    """Follow the tutorial and return how each of its blocks ended and what it printed."""
    place = tmp_path_factory.mktemp("tutorial")
    steps = place / "steps"
    steps.mkdir()
    ordinary = [block for block in ENGLISH if not block.machine]
    for block in ordinary:
        name = f"{block.number:02}.sh"
        (steps / name).write_text(block.script, encoding="utf-8")
        (steps / f"{name}.exit").write_text(f"{block.exit}\n", encoding="utf-8")
    cluster = start_cluster(place / "cluster")
    try:
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(place / "home"),
            "TMPDIR": os.environ.get("TMPDIR", "/var/tmp"),
            "LANG": "C.UTF-8",
            "PGHOST": str(cluster.socket),
            "PGUSER": SUPERUSER,
            # What the unit's LoadCredential= does on a whole machine.
            "CREDENTIALS_DIRECTORY": "/etc/backupguard/credentials",
        }
        subprocess.run(
            [*own_places(place), "sh", "-c", DRIVER, "tutorial", str(steps)],
            env=environment,
            check=False,
            timeout=400,
        )
    finally:
        cluster.stop()
    ended = {}
    for block in ordinary:
        code = steps / f"{block.number:02}.sh.code"
        if code.exists():
            printed = code.with_suffix(".out").read_text(encoding="utf-8")
            ended[block.number] = (int(code.read_text()), printed)
    return ended


@pytest.mark.parametrize(
    "block", [pytest.param(one, id=f"{one.number:02}") for one in ENGLISH if not one.machine]
)
def test_each_block_does_what_the_tutorial_says(
    block: Block, followed: dict[int, tuple[int, str]]
) -> None:
    assert block.number in followed, "an earlier block ended otherwise than the tutorial says"
    code, printed = followed[block.number]
    assert code == block.exit, f"{block.script}\n{printed}"
    assert block.missing(printed) is None, printed
