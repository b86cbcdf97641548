"""What the helper refuses: anything but a well-formed request of the daemon for a declared id."""

from __future__ import annotations

import array
import getpass
import json
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from backupguard.helper import protocol
from backupguard.helper.configuration import Trust
from backupguard.helper.media import Media
from backupguard.helper.server import Place, serve

TOKEN = "0123456789abcdef"


def touch(directory: int, token: str, attempt: str, remembered: Sequence[str]) -> Mapping[str, Any]:
    """Stand for the shipped attempts: put a canary there and say who did."""
    name = f"backupguard-canary-{token}"
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=directory))
    return {"attempt": attempt, "uid": os.getuid(), "remembered": len(remembered)}


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """Return a configuration directory that this user owns alone, from the test's directory on."""
    directory = tmp_path / "etc"
    directory.mkdir(mode=0o755)
    (tmp_path / "nas").mkdir()
    write(
        directory / "backupguard.toml",
        f"""
        [media.usb]
        kind = "removable"
        filesystem-uuid = "3f0c-usb0"
        image = "{tmp_path}/usb.img"
        [media.safe]
        kind = "vault"
        [media.tape]
        kind = "tape"
        library = "/dev/null/../sg0"
        [repositories.nas]
        type = "directory"
        path = "{tmp_path}/nas"
        backup-user = "{getpass.getuser()}"
        [repositories.far]
        type = "restic"
        url = "rest:https://nas.example/"
        backup-user = "{getpass.getuser()}"
        [repositories.as-root]
        type = "directory"
        path = "{tmp_path}/nas"
        backup-user = "root"
        [repositories.nobody]
        type = "directory"
        path = "{tmp_path}/nas"
        """,
    )
    return directory


def write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)


@pytest.fixture
def place(etc: Path) -> Place:
    return Place(
        callers=frozenset({os.getuid()}),
        trust=Trust(file=etc / "backupguard.toml", root=etc.parent, owner=os.getuid()),
        media=Media(directory=etc.parent / "run" / "media", gid=os.getgid(), wait_s=0.1),
        perform=lambda: touch,
        request_s=0.3,
    )


def knock(place: Place, content: bytes, descriptors: Sequence[int] = ()) -> dict[str, Any]:
    """Say `content` to the helper and return what it answers."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        ours.sendmsg([content], rights if descriptors else [])
        serve(theirs, place)
        theirs.close()
        ours.setblocking(True)
        answer = b""
        while part := ours.recv(65536):
            answer += part
    told = json.loads(answer)
    assert isinstance(told, dict)
    return told


def ask(place: Place, verb: str, **more: Any) -> dict[str, Any]:
    return knock(place, json.dumps({"verb": verb, **more}).encode() + b"\n")


def attempt(place: Place, repository: str, **more: Any) -> dict[str, Any]:
    asked = {"id": repository, "token": TOKEN, "attempt": "unlink", "remembered": [], **more}
    return ask(place, protocol.TRY_FILES, **asked)


def test_it_answers_its_own_caller(place: Place) -> None:
    assert ask(place, protocol.PING) == {"ok": True}


def test_nobody_else_is_served(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    stranger = Place(
        callers=frozenset({os.getuid() + 1}),
        trust=place.trust,
        media=place.media,
        perform=place.perform,
    )

    for verb in (protocol.PING, protocol.MOUNT):
        assert ask(stranger, verb, id="usb")["code"] == "peer"
    assert f"peer_uid={os.getuid()}" in capfd.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\n", id="nothing"),
        pytest.param(b"{\n", id="no JSON"),
        pytest.param(b"\xff\xfe\n", id="no text"),
        pytest.param(b"[" * 9000 + b"\n", id="nested"),
        pytest.param(b'["mount", "usb"]\n', id="a list"),
        pytest.param(b'{"verb": ["mount"], "id": "usb"}\n', id="verb of another type"),
        pytest.param(b'{"verb": "sh", "id": "usb"}\n', id="unknown verb"),
        pytest.param(b'{"verb": "mount"}\n', id="no id"),
        pytest.param(b'{"verb": "mount", "id": "usb", "device": "/dev/sda"}\n', id="a device"),
        pytest.param(b'{"verb": "mount", "id": "usb", "options": "rw"}\n', id="options"),
        pytest.param(b'{"verb": "mount", "id": 7}\n', id="a number"),
        pytest.param(b'{"verb": "mount", "id": ""}\n', id="empty"),
        pytest.param(b'{"verb": "mount", "id": "../usb"}\n', id="slashes"),
        pytest.param(b'{"verb": "mount", "id": "usb\\n"}\n', id="line end"),
        pytest.param(b'{"verb": "mount", "id": "-usb"}\n', id="an option"),
        pytest.param(b'{"verb": "mount", "id": "usb\\u0000"}\n', id="zero"),
        pytest.param(b'{"verb": "luks-open", "id": "usb"}\n', id="no key"),
        pytest.param(b'{"verb": "mount", "id": "usb"}', id="no end of line"),
        pytest.param(b"x" * (protocol.REQUEST_LIMIT + 4096) + b"\n", id="huge"),
    ],
)
def test_what_is_no_request_is_refused(place: Place, content: bytes) -> None:
    assert knock(place, content)["code"] == "usage"


def test_descriptors_come_with_a_key_only(place: Place) -> None:
    with Path("/dev/null").open() as file:
        sent = b'{"verb": "ping"}\n'
        assert knock(place, sent, [file.fileno()])["code"] == "usage"
        many = knock(place, b'{"verb": "luks-open", "id": "usb"}\n', [file.fileno()] * 9)
        assert many["code"] == "usage"


def test_no_descriptor_is_kept(place: Place) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with Path("/dev/null").open() as file:
        for _ in range(3):
            knock(place, b'{"verb": "ping"}\n', [file.fileno()] * 3)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    "verb", [protocol.MOUNT, protocol.UNMOUNT, protocol.LUKS_CLOSE, protocol.MTX_STATUS]
)
def test_only_declared_media_are_touched(place: Place, verb: str) -> None:
    assert ask(place, verb, id="other")["code"] == "unknown"


def test_a_repository_is_no_medium(place: Place) -> None:
    assert ask(place, protocol.MOUNT, id="nas")["code"] == "unknown"
    assert attempt(place, "usb")["code"] == "unknown"


def test_what_a_verb_needs_must_be_declared(place: Place) -> None:
    assert ask(place, protocol.MOUNT, id="safe")["code"] == "undeclared"
    assert ask(place, protocol.LUKS_CLOSE, id="usb")["code"] == "undeclared"
    assert ask(place, protocol.MTX_STATUS, id="tape")["code"] == "undeclared"
    assert attempt(place, "far")["code"] == "undeclared"
    assert attempt(place, "nobody")["code"] == "undeclared"


def test_an_image_that_is_away_is_absent(place: Place) -> None:
    assert ask(place, protocol.MOUNT, id="usb")["code"] == "absent"


def test_an_image_that_is_a_link_is_not_followed(place: Place, tmp_path: Path) -> None:
    (tmp_path / "usb.img").symlink_to("/etc/passwd")
    assert ask(place, protocol.MOUNT, id="usb")["code"] == "other"


def test_media_are_served_one_request_at_a_time(place: Place) -> None:
    with place.media._alone():
        assert ask(place, protocol.UNMOUNT, id="usb")["code"] == "busy"
    assert ask(place, protocol.UNMOUNT, id="usb") == {"ok": True, "done": False}


# ------------------------------------------------------------------------- root's configuration


def test_a_file_of_conf_d_counts(place: Place, etc: Path) -> None:
    (etc / "conf.d").mkdir(mode=0o755)
    write(etc / "conf.d" / "more.toml", '[media.other]\nkind = "vault"\n')
    write(etc / "conf.d" / ".hidden.toml", "no toml at all")
    assert ask(place, protocol.MOUNT, id="other")["code"] == "undeclared"
    assert ask(place, protocol.UNMOUNT, id="usb") == {"ok": True, "done": False}


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666], ids=["group", "others", "both"])
def test_a_file_that_others_may_write_is_refused(place: Place, etc: Path, mode: int) -> None:
    (etc / "backupguard.toml").chmod(mode)
    assert ask(place, protocol.UNMOUNT, id="usb")["code"] == "configuration"


def test_so_is_one_in_a_directory_that_others_may_write(place: Place, etc: Path) -> None:
    (etc / "conf.d").mkdir()
    write(etc / "conf.d" / "more.toml", "")
    (etc / "conf.d").chmod(0o775)
    assert ask(place, protocol.UNMOUNT, id="usb")["code"] == "configuration"
    (etc / "conf.d").chmod(0o755)
    etc.parent.chmod(0o777)
    assert ask(place, protocol.UNMOUNT, id="usb")["code"] == "configuration"


def test_so_is_one_of_another_owner(place: Place) -> None:
    trust = Trust(file=place.trust.file, root=place.trust.root, owner=os.getuid() + 1)
    other = Place(callers=place.callers, trust=trust, media=place.media)
    assert ask(other, protocol.UNMOUNT, id="usb")["code"] == "configuration"


def test_so_is_a_link(place: Place, etc: Path, tmp_path: Path) -> None:
    (etc / "backupguard.toml").rename(tmp_path / "mine.toml")
    (etc / "backupguard.toml").symlink_to(tmp_path / "mine.toml")
    assert ask(place, protocol.UNMOUNT, id="usb")["code"] == "configuration"


@pytest.mark.parametrize("text", ["[media", '[media.usb]\nkind = "vtl"'], ids=["broken", "twice"])
def test_so_is_one_that_cannot_be_understood(place: Place, etc: Path, text: str) -> None:
    (etc / "conf.d").mkdir(mode=0o755)
    write(etc / "conf.d" / "more.toml", text)
    assert ask(place, protocol.UNMOUNT, id="usb")["code"] == "configuration"


def test_so_is_one_that_is_not_there(place: Place, etc: Path) -> None:
    (etc / "backupguard.toml").unlink()
    assert ask(place, protocol.UNMOUNT, id="usb")["code"] == "configuration"


# ------------------------------------------------------------------------------------- canaries


def test_an_attempt_is_made_as_the_backup_user(place: Place, tmp_path: Path) -> None:
    told = attempt(place, "nas", remembered=[f"backupguard-canary-{TOKEN}"])
    assert told == {
        "ok": True,
        "result": {"attempt": "unlink", "uid": os.getuid(), "remembered": 1},
    }
    assert (tmp_path / "nas" / f"backupguard-canary-{TOKEN}").exists()


def test_nothing_is_tried_as_root(place: Place, tmp_path: Path) -> None:
    assert attempt(place, "as-root")["code"] == "root"
    assert list((tmp_path / "nas").iterdir()) == []


@pytest.mark.parametrize(
    "more",
    [
        {"token": "0123"},
        {"token": "../../../../etc/"},
        {"attempt": "rm -rf"},
        {"attempt": "../unlink"},
        {"remembered": ["dump.gz"]},
        {"remembered": [f"../backupguard-canary-{TOKEN}"]},
        {"remembered": [f"backupguard-canary-{TOKEN}/../dump"]},
        {"remembered": "backupguard-canary"},
        {"remembered": [f"backupguard-canary-{TOKEN}"] * 65},
    ],
    ids=str,
)
def test_only_names_of_canaries_are_taken(
    place: Place, tmp_path: Path, more: dict[str, Any]
) -> None:
    assert attempt(place, "nas", **more)["code"] == "usage"
    assert list((tmp_path / "nas").iterdir()) == []


@pytest.mark.parametrize("step", ["nas", "."], ids=["the directory", "a step to it"])
def test_a_directory_swapped_for_a_link_is_not_entered(
    place: Place, etc: Path, tmp_path: Path, step: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "nas").mkdir(parents=True)
    if step == "nas":
        (tmp_path / "nas").rmdir()
        (tmp_path / "nas").symlink_to(elsewhere / "nas")
    else:
        (tmp_path / "link").symlink_to(elsewhere)
        text = (etc / "backupguard.toml").read_text()
        write(etc / "backupguard.toml", text.replace(f"{tmp_path}/nas", f"{tmp_path}/link/nas"))
    assert attempt(place, "nas")["code"] == "other"
    assert list((elsewhere / "nas").iterdir()) == []


def test_a_directory_that_is_away_is_absent(place: Place, tmp_path: Path) -> None:
    (tmp_path / "nas").rmdir()
    assert attempt(place, "nas")["code"] == "absent"


@pytest.mark.parametrize("bad", ["raises", "dies", "floods"])
def test_an_attempt_that_goes_wrong_is_told(place: Place, bad: str) -> None:
    def wrong(directory: int, token: str, name: str, remembered: Sequence[str]) -> dict[str, Any]:
        if bad == "raises":
            raise PermissionError(1, "no")
        if bad == "dies":
            os._exit(3)
        return {"text": "x" * 200_000}

    other = Place(
        callers=place.callers, trust=place.trust, media=place.media, perform=lambda: wrong
    )
    assert attempt(other, "nas")["code"] == "failed"


def test_every_code_is_known_to_the_client() -> None:
    from backupguard.helper import client
    from backupguard.language import catalogue

    assert set(client._ERRORS) == protocol.CODES
    for language in ("fr", "en"):
        assert {f"helper.{code}" for code in protocol.CODES} <= set(catalogue(language))


def test_its_imports_are_the_standard_library_and_itself() -> None:
    import subprocess
    import sys

    code = (
        "import sys; before = set(sys.modules); import backupguard.helper.server; "
        "print(*sorted({n.split('.')[0] for n in set(sys.modules) - before}"
        " - set(sys.stdlib_module_names))); "
        "print(*sorted(n for n in sys.modules if n.startswith('backupguard')))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    foreign, ours = told.stdout.splitlines()
    assert foreign == "backupguard"
    assert all(name == "backupguard" or "helper" in name for name in ours.split())
