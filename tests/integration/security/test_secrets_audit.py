"""A secret of its own in every setting that names one, a daemon that uses them: nobody sees one."""

from __future__ import annotations

import base64
import gzip
import io
import os
import re
import signal
import sqlite3
import ssl
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.error import HTTPError

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, NameObject

from backupguard.cli.main import main as cli
from backupguard.contracts import Secret
from backupguard.daemon import client
from backupguard.model import Json
from backupguard.settings import Settings
from tests.counts import FULL
from tests.integration.daemon.living import PROGRAM, wait_for
from tests.integration.security.audited import WEB_USER, Audited, audited
from tests.integration.security.canaries import (
    STEM,
    Searcher,
    Watcher,
    canary,
)
from tests.secret_places import every_place, used_places

#: Where a secret stands by nature, below the state directory, and why.
ALLOWED = {
    "keys": "the key that evidence is signed with lives here, and in an export of the state",
}
#: Core dumps are allowed to whoever starts this, in a directory where they can be written.
CORES = ("/bin/sh", "-c", 'cd "$0" && ulimit -c unlimited && exec "$@"')
#: Pages that are looked at of each kind: one application is as another.
_OF_A_KIND = 3


@dataclass
class Life:
    """What a daemon did with its secrets, and everything that anybody could have read of it."""

    made: Audited
    watcher: Watcher
    cores: Path
    texts: dict[str, bytes] = field(default_factory=dict)
    runs: dict[str, Json] = field(default_factory=dict)
    pid: int = 0

    @cached_property
    def settings(self) -> Settings:
        return self.made.site.settings

    def get(self, path: str, password: str | None = None, **more: object) -> tuple[int, bytes]:
        """Ask the daemon's port, as the person of the pages unless a password is given."""
        secret = canary("web") if password is None else password
        login = base64.b64encode(f"{WEB_USER}:{secret}".encode()).decode()
        headers = {"authorization": f"Basic {login}", **more.pop("headers", {})}  # type: ignore[dict-item]
        url = f"https://localhost:{self.made.site.port}{path}"
        asked = urllib.request.Request(url, headers=headers, **more)  # type: ignore[arg-type]
        trusted = ssl.create_default_context(cafile=str(self.made.authority))
        try:
            with urllib.request.urlopen(asked, context=trusted, timeout=20) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            with error:
                return error.code, error.read()

    def command(self, *arguments: str | Path) -> None:
        """Run a command of ours; what it says is searched with all the rest."""
        done = subprocess.run(
            [PROGRAM, "--config", self.made.site.config, "--verbose", *arguments],
            capture_output=True,
            timeout=60,
            env={**os.environ, "SSL_CERT_FILE": str(self.made.authority)},
        )
        name = " ".join(map(str, arguments[:2]))
        self.texts[f"{name}, its output"] = done.stdout
        self.texts[f"{name}, its errors"] = done.stderr

    def end_of(self, run: str) -> None:
        """Wait for a run's end."""
        *_, last = client.follow(self.settings, run)
        self.runs[f"{last['task']} {len(self.runs)}"] = last

    def crawl(self) -> None:
        """Keep pages of every kind there is, as the person and as nobody."""
        waiting, kinds = ["/", "/metrics", "/api/v1/status"], Counter[str]()
        while waiting:
            path = waiting.pop(0)
            kind = re.split(r"[?/]", path)[1] + "?" * path.count("?")
            kinds[kind] += 1
            if kinds[kind] > _OF_A_KIND or kind in ("static", "runbooks"):
                continue
            status, body = self.get(path)
            self.texts[f"page {path} ({status})"] = body
            found = re.findall(rb'href="(/[^"#]*)', body)
            more = [one.decode().replace("&amp;", "&") for one in found]
            waiting += [one for one in dict.fromkeys(more) if one not in waiting]
        # passwords that are wrong, or in the wrong place
        for path in ("/", f"/nowhere/{canary('web', awkward=False)}?token={STEM}"):
            status, body = self.get(path, password=canary("mistyped"))
            self.texts[f"refused {path[:8]} ({status})"] = body


def _use(life: Life) -> None:
    """Let the daemon do everything that needs a secret."""
    made, settings = life.made, life.settings
    # the key that a person brings: it goes over the socket and a pipe, and opens the repository
    brought = Secret("escrow", canary("restic.reader").encode())
    options = {"key": "escrow", "repository": "restic"}
    own = [
        client.enqueue(settings, "integrity", "repository/restic"),
        client.enqueue(settings, "restore-test", "application/dpi", options, brought),
    ]
    token = made.secrets / "token"
    life.command(
        *("report-run", "--job", "labo.reported", "--token-file", token),
        *("--url", f"https://localhost:{made.site.port}/api/v1/runs", "--", "sleep", "0.1"),
    )
    life.command("prepare-instance", "scratch", "--dry-run")
    life.get("/api/v1/vantage", method="POST", data=b"{}", headers={
        "x-backupguard-vantage": "bureautique", "x-backupguard-signature": "wrong",
    })  # fmt: skip
    for run in own:
        life.end_of(run)
    wait_for(lambda: not client.runs(settings))
    month = f"{made.site.facts('daemon.started')[0].observation.observed_at:%Y-%m}"
    options = {
        "month": month,
        # putting it on paper takes as long as all the rest
        "formats": ["html", "pdf"] if FULL else ["html"],
        "languages": ["fr"],
        "output": str(made.site.state / "reports"),
    }
    life.end_of(client.enqueue(settings, "report", "site", options))
    life.crawl()


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    patch = pytest.MonkeyPatch()
    directory = tmp_path_factory.mktemp("a")
    cores = directory / "cores"
    cores.mkdir()
    with audited(directory, patch) as made:
        watcher = Watcher(made.searcher(), (made.site.state / "runs",))
        lived = Life(made, watcher, cores)
        with watcher:
            process = made.site.start(program=(*CORES, cores, PROGRAM))
            lived.pid = process.pid
            _use(lived)
            process.send_signal(signal.SIGABRT)
            assert process.wait(20) == -signal.SIGABRT
        general = ["--config", str(made.site.config)]
        exported = str(directory / "exported")
        assert cli([*general, "evidence", "export", "--output", exported]) == 0
        assert cli([*general, "state", "export", str(directory / "state.tar.gz")]) == 0
        yield lived
    patch.undo()


def _alive(life: Life, searcher: Searcher) -> list[str]:
    """Return every secret found in what the daemon told while it lived, and in its store."""
    found = [f"{name}: {what}" for name, text in life.texts.items() for what in searcher.find(text)]
    found += searcher.find_in_file(life.made.site.log)
    found += searcher.find_below(life.cores)
    for path in life.made.site.state.glob("store.*"):
        found += searcher.find_in_file(path)
    return found


def _everywhere(life: Life, searcher: Searcher) -> list[str]:
    """Return every secret found where anybody could have read it."""
    made, state = life.made, life.made.site.state
    found = _alive(life, searcher)
    found += searcher.find_below(state, (state / name for name in ALLOWED))
    found += searcher.find_below(made.site.directory / "exported")
    found += [f"mail: {what}" for one in made.mails.mails for what in searcher.find(bytes(one))]
    return found


def test_every_setting_that_names_a_secret_has_a_canary(life: Life) -> None:
    assert used_places(life.made.site.settings) == every_place()


def test_the_secrets_were_used(life: Life) -> None:
    """What was never used could not leak."""
    heard = b"\n".join(life.made.heard.heard)
    assert canary("bareos.reader").encode() in heard
    assert canary("discovery").encode() in heard
    assert canary("instance").encode() in heard
    assert canary("proxmox.reader", awkward=False).encode() in heard
    assert STEM.encode() in heard.partition(b"grant_type=password")[2]
    assert canary("dead-man", awkward=False).encode() in heard
    assert life.made.mails.mails
    assert all(life.made.mails.logins)
    assert b"BackupGuard" in heard  # the collector's lines
    verdicts = [run["verdict"] for run in life.runs.values()]
    assert verdicts[:2] == ["passed", "passed"], life.runs
    assert life.runs["report 2"]["verdict"] == "passed"
    bugs = [*life.made.site.events("repository.bug"), *life.made.site.events("run.bug")]
    assert bugs == []  # whatever a server says is understood, or said to be not
    taken = life.made.site.events("job-report.taken")
    assert [event["job"] for event in taken] == ["labo.reported"] * 2


def test_no_secret_is_anywhere_else(life: Life) -> None:
    assert _everywhere(life, life.made.searcher()) == []


def test_no_other_process_sees_one(life: Life) -> None:
    assert life.watcher.hits == set()
    programs = {seen.program for seen in life.watcher.below(life.pid).values()}
    assert {b"bwrap", b"restic-0.18"} <= programs
    assert {b"bwrap", b"restic-0.18"} <= life.watcher.environments


def test_the_state_export_holds_the_signing_key_and_no_other_secret(life: Life) -> None:
    file = life.made.site.directory / "state.tar.gz"
    assert Searcher(life.made.keys).find_in_file(file) == []
    assert any("signing key" in found for found in life.made.searcher().find_in_file(file))


def test_what_dies_leaves_no_core_dump(life: Life) -> None:
    assert list(life.cores.iterdir()) == []
    below = life.watcher.below(life.pid)
    assert {seen.core for seen in below.values() if seen.program not in (b"sh", b"")} == {
        (b"0", b"0")
    }
    runners = [seen for seen in below.values() if b"backupguard.daemon.runner" in seen.line]
    assert len(runners) > 5
    assert {seen.owner for seen in (below[life.pid], *runners)} == {0}


# ----------------------------------------------------------------- the same, where something is wrong


def test_a_core_dump_is_written_where_nobody_forbids_it(tmp_path: Path) -> None:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    script = f"import os; secret = {STEM[:6]!r} + {STEM[6:]!r}; os.abort()"
    subprocess.run([*CORES, tmp_path, sys.executable, "-c", script], capture_output=True)
    if not pattern.startswith(("/", "|")):  # elsewhere the host keeps them, out of our sight
        assert Searcher().find_below(tmp_path)


def test_a_secret_in_a_command_line_or_an_environment_is_seen(tmp_path: Path) -> None:
    watcher = Watcher(Searcher())
    with watcher:
        subprocess.run(["/bin/sh", "-c", "sleep 0.2; :", "sh", canary("planted")])
        subprocess.run(["sleep", "0.2"], env={"PASSWORD": canary("planted")})
        (tmp_path / "file").write_text(canary("planted"))
        watcher.scratch = (tmp_path,)
        wait_for(lambda: len(watcher.hits) >= 3)
    kinds = {hit.partition(" of ")[0] for hit in watcher.hits}
    assert {"command line", "environment"} <= kinds


def _json(text: str) -> bytes:
    return text.encode("unicode_escape")


def _pdf(text: str) -> bytes:
    """Return a page with a text, packed as pages are."""
    writer, content = PdfWriter(), DecodedStreamObject()
    content.set_data(f"BT ({text[: len(STEM)]}) Tj ET".encode())
    page = writer.add_blank_page(100, 100)
    page[NameObject("/Contents")] = content.flate_encode()
    made = io.BytesIO()
    writer.write(made)
    assert STEM.encode() not in made.getvalue()
    return made.getvalue()


@pytest.mark.parametrize(
    "hide",
    [
        lambda text: text.encode(),
        lambda text: urllib.request.quote(text, safe="").encode(),  # type: ignore[attr-defined]
        lambda text: f"https://user:{text}@host/"[::-1].encode(),
        lambda text: base64.b64encode(f"user:{text}".encode()),
        lambda text: base64.urlsafe_b64encode(f"me:{text}".encode()),
        lambda text: base64.b64encode(f"{text}".encode()),
        lambda text: text.encode().hex().encode(),
        lambda text: text.upper().encode(),
        lambda text: text.encode("utf-16"),
        lambda text: gzip.compress(text.encode()),
        _json,
        _pdf,
    ],
    ids=range(12),
)
def test_it_is_found_in_whatever_form(tmp_path: Path, hide: object) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"" if hide is None else hide(canary("planted")))  # type: ignore[operator]
    assert Searcher().find_in_file(file)


def test_it_is_found_in_whatever_place(life: Life) -> None:
    """The same search as above, each place with one leak planted."""
    state, searcher = life.made.site.state, life.made.searcher()
    with sqlite3.connect(next(state.glob("*.sqlite3"))) as store:
        store.execute("create table leaked (secret text)")
        store.execute("insert into leaked values (?)", [canary("restic.reader")])
    store.close()
    with life.made.site.log.open("a") as log:
        log.write(f'{{"event.code": "mail.failed", "password": "{canary("mail")}"}}\n')
    (life.cores / "core").write_bytes(b"\0" * 4096 + canary("web").encode())
    life.texts["/metrics"] = f'label="{canary("token")}"'.encode()
    found = "\n".join(_alive(life, searcher))
    for place in (".sqlite3", "log", "core", "/metrics"):
        assert re.search(rf"{re.escape(place)}: as it is", found), found
