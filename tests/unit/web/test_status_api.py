"""What a poller is told over HTTP, and what its plugin makes of it: always one of four answers."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.language import Words
from backupguard.model import to_us
from backupguard.notify import standing
from backupguard.resources import shipped
from backupguard.web.app import create_app
from backupguard.web.published import Outputs

from .serving import serving
from .test_web_app import published

PLUGIN = shipped("centreon") / "check_backupguard"


def found(control: str, subject: str, status: str, **more: Any) -> dict[str, Any]:
    return {
        "control": control,
        "subject": subject,
        "criticality": "C1",
        "status": status,
        "cause": None,
        "severity": "critical",
        "reason": {"id": "web.status", "values": {}},
        "facts": [],
        "since": 1772701200000000,
        "last_non_compliant": None,
        "waiver": None,
        **more,
    }


def document(*findings: dict[str, Any], age: timedelta = timedelta(0)) -> dict[str, Any]:
    judged = datetime.now(UTC) - age
    return {
        "site": "CH de Belle-Rive",
        "language": "fr",
        "timezone": "Europe/Paris",
        "judged_at": to_us(judged),
        "stale_after": to_us(judged + timedelta(minutes=10)),
        "head_seq": 7,
        "titles": {"RST-01": {"fr": "Test", "en": "Test"}, "JOB-01": {"fr": "S", "en": "S"}},
        "names": {"application/dpi": 'Dossier "patient" & <soins>'},
        "copies": {"dpi": ["nas"], "labo": []},
        "findings": list(findings),
    }


def broken() -> dict[str, Any]:
    """Judged when the test asks for it: a run of all tests outlasts the ten minutes it holds."""
    return document(
        found("RST-01", "application/dpi", "non_compliant"),
        found("JOB-01", "job/dpi.nightly", "warning"),
        found("JOB-01", "job/labo.nightly", "compliant"),
    )


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    return Outputs(reports=tmp_path, runbooks=None, published=published(document=broken()))


@pytest.fixture
def port(outputs: Outputs) -> Iterator[int]:
    with serving(create_app(outputs)) as number:
        yield number


def plugin(port: int, *more: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, PLUGIN, "--url", f"http://127.0.0.1:{port}", *more],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_poller_is_told_the_worst_first_and_the_figures(port: int) -> None:
    code, said = plugin(port)
    first, *more = said.splitlines()
    text, _, figures = first.partition(" | ")
    assert code == 2
    assert text.startswith("BACKUPGUARD CRITICAL - ")
    assert len(text) < 120
    assert figures.split()[:2] == ["non_compliant=1;;0;0;3", "not_measurable=0;0;;0;3"]
    assert figures.split()[-1].startswith("judgement_age=")
    assert [line.split()[-1 - len(line.split(":")[1].split())] for line in more] == [
        "application/dpi:",
        "job/dpi.nightly:",
    ]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--application", "dpi"], 2),
        (["--application", "labo"], 0),
        (["--application", "dpi", "--control", "JOB-01"], 1),
        (["--control", "D4-RST-01"], 2),
        (["--application", "nobody"], 3),
        (["--control", "XXX-99"], 3),
    ],
    ids=lambda value: "-".join(value).strip("-") if isinstance(value, list) else str(value),
)
def test_an_application_and_a_control_are_chosen(port: int, more: list[str], code: int) -> None:
    exited, said = plugin(port, *more)
    assert exited == code
    assert said.startswith(f"BACKUPGUARD {standing.STATES[code]} - ")


def test_a_status_that_is_too_old_is_unknown_and_not_what_it_was(
    outputs: Outputs, port: int
) -> None:
    old = document(found("RST-01", "application/dpi", "compliant"), age=timedelta(hours=1))
    outputs.published = published(document=old)
    code, said = plugin(port)
    assert code == 3
    assert said.startswith("BACKUPGUARD UNKNOWN - ")
    assert "muet" in said


def test_before_the_first_judgement_nothing_is_known(outputs: Outputs, port: int) -> None:
    outputs.published = None
    assert plugin(port)[0] == 3


def test_whatever_is_wrong_on_the_way_is_unknown(port: int, tmp_path: Path) -> None:
    for more in (["--url", "http://127.0.0.1:1"], ["--user", "x"], ["--language", "de"], ["--no"]):
        done = subprocess.run(
            [sys.executable, PLUGIN, "--url", f"http://127.0.0.1:{port}", *more],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 3, more
    other = Outputs(reports=tmp_path, runbooks=None)
    assert other.published is None


def test_centreon_discovers_applications(port: int) -> None:
    code, said = plugin(port, "--disco-format")
    assert code == 0
    attributes = [one.text for one in ET.fromstring(said.split("\n", 1)[1])]
    code, said = plugin(port, "--disco-show")
    assert code == 0
    labels = [one.attrib for one in ET.fromstring(said.split("\n", 1)[1])]
    assert [one["id"] for one in labels] == ["dpi", "labo"]
    assert labels[0] == {
        "id": "dpi",
        "name": 'Dossier "patient" & <soins>',
        "criticality": "C1",
        "state": "critical",
    }
    assert all(sorted(one) == sorted(attributes) for one in labels)

    code, said = plugin(port, "--discover")
    told = json.loads(said)
    assert code == 0
    assert told["discovered_items"] == 2
    assert told["results"][1]["id"] == "labo"


def test_json_has_words_and_what_can_be_chosen(port: int) -> None:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/status?language=en") as answer:
        said = json.loads(answer.read())
    assert (said["exit_code"], said["stale"], said["text"]) == (2, False, None)
    assert [one["id"] for one in said["applications"]] == ["dpi", "labo"]
    assert said["findings"][0]["reason"]["text"]


def test_what_cannot_be_asked_is_refused(port: int) -> None:
    import urllib.error
    import urllib.request

    for query, status in (("format=xml", 400), ("language=de", 400), ("application=x", 404)):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/status?{query}")
        assert caught.value.code == status
        caught.value.close()


def test_a_reason_neither_ends_a_line_nor_begins_the_figures() -> None:
    one = found("RST-01", "application/dpi", "warning")
    one["reason"] = {"id": "x | y\nz", "values": {}}
    said = standing.plugin(document(one), [one], Words("fr"), datetime.now(UTC))
    assert said.count("|") == 1
    assert said.count("\n") == 1


def test_long_output_is_bounded_and_says_how_much_more() -> None:
    many = [found("JOB-01", f"job/dpi.{n}", "warning") for n in range(100)]
    said = standing.plugin(document(*many), many, Words("en"), datetime.now(UTC)).splitlines()
    assert len(said) == 1 + standing.LONGEST + 1
    assert said[-1] == "and 70 more."


def test_what_was_never_measured_is_unknown() -> None:
    said = standing.plugin(document(), [], Words("fr"), datetime.now(UTC))
    assert said.startswith("BACKUPGUARD UNKNOWN - ")
    assert standing.exit_code([]) == 3


def test_a_status_from_a_time_to_come_is_not_believed() -> None:
    ahead = document(found("RST-01", "application/dpi", "compliant"), age=-timedelta(hours=2))
    assert standing.stale(ahead, datetime.now(UTC))
    assert replace(published(), document=ahead).document is ahead
