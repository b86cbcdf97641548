"""The probe as people run it, against a real S3 server: what is shown, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backupguard.cli.main import main
from backupguard.demo.s3_server import S3Server
from backupguard.model import Fact
from backupguard.store import open_store
from tests.integration.repositories.bucket_maker import Bucket, make
from tests.recording import Recorder, recorded

_SITE = """
[site]
name = "Essai"
language = "fr"
[store]
directory = "{state}"
"""
_REPOSITORY = """
[repositories.{name}]
type = "s3"
endpoint = "{endpoint}"
bucket = "{bucket}"
prefix = "site/"
timeout = "5s"
credentials.reader.file = "{reader}"
credentials.writer-for-probe.file = "{writer}"
[applications.{name}]
name = "{name}"
criticality = "C1"
[applications.{name}.backups.nightly]
repository = "{name}"
select.pattern = "dpi-%Y%m%d.dump"
every = "24h"
"""


@pytest.fixture(scope="module")
def recorder(s3_server: S3Server) -> Iterator[Recorder]:
    with recorded(s3_server.endpoint) as found:
        yield found


def site(tmp_path: Path, **buckets: tuple[Bucket, str]) -> Path:
    text = _SITE.format(state=tmp_path / "state")
    for name, (bucket, writer) in buckets.items():
        files = {key: bucket.keys(tmp_path, who).file for key, who in
                 (("reader", "reader"), ("writer", writer))}  # fmt: skip
        for file in files.values():
            assert file is not None
            file.chmod(0o600)
        endpoint = bucket.recorder.endpoint
        text += _REPOSITORY.format(name=name, endpoint=endpoint, bucket=bucket.name, **files)
    path = tmp_path / "backupguard.toml"
    path.write_text(text)
    return path


def facts(tmp_path: Path, *kinds: str) -> list[Fact]:
    store = open_store(tmp_path / "state")
    try:
        return list(store.facts(kinds=kinds))
    finally:
        store.close()


def test_a_proved_a_refuted_and_an_inconclusive_one_are_told_apart(
    s3_server: S3Server, recorder: Recorder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = site(
        tmp_path,
        locked=(make(s3_server, recorder, "COMPLIANCE"), "locker"),
        open=(make(s3_server, recorder, None, "Enabled"), "writer"),
        unsure=(make(s3_server, recorder, "COMPLIANCE"), "reader"),
    )
    assert main(["--config", str(path), "probe", "immutability"]) == 1
    told = capsys.readouterr().out
    assert "repository/locked\u00a0: prouvé" in told
    assert "repository/open\u00a0: réfuté" in told
    assert "A réussi\u00a0: supprimer la version même" in told
    assert "repository/unsure\u00a0: non concluant" in told
    assert "Non testé\u00a0: administrateur du stockage, administrateur de l’hyperviseur" in told

    tried = {fact.observation.subject: fact for fact in facts(tmp_path, "immutability.tried")}
    attempts = facts(tmp_path, "immutability.attempt")
    locked = tried["repository/locked"].observation.data
    assert locked["verdict"] == "passed"
    assert locked["attempts"] == [
        fact.seq for fact in attempts if fact.observation.subject == "repository/locked"
    ]
    command = ["--config", str(path), "--language", "en", "probe", "immutability"]
    assert main([*command, "--repository", "locked", "--json"]) == 0
    run: dict[str, Any] = json.loads(capsys.readouterr().out)[0]
    assert run["verdict"] == "passed"
    assert run["immutability"]["verdict"] == "proved"
    assert set(run["immutability"]["attackers"].values()) == {"untested"}
    again = facts(tmp_path, "immutability.tried")[-1].observation.data
    assert again["before"] == "passed"
    assert set(locked["canaries"]) < set(again["canaries"]), "their locks have not ended"


def test_killed_between_intent_and_result_the_next_run_knows_what_was_begun(
    s3_server: S3Server, recorder: Recorder, tmp_path: Path
) -> None:
    bucket = make(s3_server, recorder, "COMPLIANCE")
    before = bucket.listing()
    path = site(tmp_path, locked=(bucket, "writer"))
    command = ["--config", str(path), "probe", "immutability"]
    killed: list[int] = []

    def alter(request: Any, status: int, headers: Any, body: bytes) -> Any:
        if request.method == "DELETE" and not killed:
            killed.append(runner.pid)
            os.kill(runner.pid, signal.SIGKILL)
        return status, headers, body

    recorder.alter = alter
    runner = subprocess.Popen(
        [Path(sys.executable).with_name("backupguard"), *command],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert runner.wait(60) == -signal.SIGKILL
    begun = facts(tmp_path, "immutability.attempt")[-1].observation
    assert begun.data["outcome"] is None
    assert not facts(tmp_path, "immutability.tried")

    main(command)
    closed = facts(tmp_path, "immutability.closed")
    assert closed[0].observation.data["verdict"] == "could_not_verify"
    answered = [
        fact.observation.data["code"]
        for fact in facts(tmp_path, "immutability.attempt")
        if fact.observation.key == begun.key.replace("/intent", "/result")
    ]
    assert answered == ["daemon_died"]
    tried = facts(tmp_path, "immutability.tried")[-1].observation.data
    assert tried["verdict"] == "passed"
    assert begun.data["target"] in tried["canaries"]
    assert bucket.listing() == before
    bucket.assert_only_canaries_were_touched()
