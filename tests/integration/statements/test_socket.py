"""Statements and exceptions asked of a living daemon over its socket."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupguard.daemon import client
from backupguard.errors import UsageError
from backupguard.processes.programs import require_program
from tests.integration.daemon.living import Site, stop, wait_for

ME = pwd.getpwuid(os.getuid())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.end()


def test_a_living_daemon_takes_what_its_callers_sign_and_waive(site: Site) -> None:
    keygen = require_program("ssh-keygen")
    key = site.directory / "key"
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    public = key.with_suffix(".pub").read_text(encoding="utf-8").strip()
    site.write(
        f'[people.moi]\nname = "Moi"\nuser = "{ME.pw_name}"\nroles = ["rssi"]\n'
        f'signing-key = "{public}"\n'
    )
    process = site.start()
    settings = site.settings
    until = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
    body = {"topic": "escrow", "subject": "repository/dumps", "text": "clé au coffre",
            "until": until, "values": {}}  # fmt: skip
    signed = subprocess.run(
        [keygen, "-q", "-Y", "sign", "-n", "backupguard", "-f", key],
        check=True, capture_output=True, input=client.statement(settings, body).encode(),
    )  # fmt: skip
    file = site.directory / "s.sig"
    file.write_bytes(signed.stdout)
    done = site.command(
        "attest", "escrow", "dumps", "--text", "clé au coffre", "--until", until,
        "--signature", str(file),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with pytest.raises(UsageError) as refused:
        client.attest(
            settings, {**body, "text": "autre texte", "signature": signed.stdout.decode()}
        )
    assert refused.value.message.values["why"] == "@statements.refused.text"
    (row,) = client.attestations(settings)
    assert row["author"] == f"uid/{os.getuid()} ({ME.pw_name})"
    assert (row["person"], row["state"]) == ("moi", "in_force")
    assert row["key"].startswith("SHA256:")

    asked = {"control": "RST-02", "subject": "application/dpi", "reason": "essai",
             "owner": "DSI", "until": until}  # fmt: skip
    seq, waits = client.waive(settings, asked)
    assert waits
    with pytest.raises(UsageError) as own:
        client.confirm(settings, seq)
    assert own.value.message.id == "statements.own-waiver"
    assert client.waivers(settings)[0]["state"] == "waiting"
    wait_for(lambda: "déclaration signée" in site.get("/findings/")[1])
    # The page may be older than the waiver: what is judged follows within seconds.
    wait_for(lambda: f"{seq}  RST-02 application/dpi" in site.command("status").stdout)
    client.end_waiver(settings, seq, "fini")
    client.withdraw(settings, row["seq"], "fini")
    assert stop(process) == 0
    facts = site.facts("attestation.made", "waiver.asked", "waiver.ended", "attestation.withdrawn")
    assert {fact.author for fact in facts} == {f"uid/{os.getuid()} ({ME.pw_name})"}
    assert len(facts) == 4
