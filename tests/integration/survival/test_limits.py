"""What a restore may take, what is in the way, and what the clock says: never the backup's fault."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from backupguard.daemon import agenda, cadence, client
from backupguard.model import SITE, Status, Verdict, application_subject, repository_subject
from tests.integration.daemon.living import wait_for
from tests.integration.survival.places import DPI, DUE, Place, Source

#: Rows that compress well: a small dump of 110 MB of tables.
BULKY = """
create table bulky (id int primary key, filler text not null);
alter table bulky alter filler set storage plain;
insert into bulky select i, repeat('x', 900) from generate_series(1, 120000) i;
"""


@pytest.fixture
def bulky(source: Source) -> str:
    if not source.repository("bulky").exists():
        source.create("bulky", BULKY)
        source.keep("bulky", source.dumped("bulky", "-Fc"))
    return "bulky"


# ------------------------------------------------------------------------------------------ scratch


@pytest.mark.parametrize(
    ("limits", "codes"),
    [
        ('max-bytes = "110MB"', {"scratch_limit", "no_disk"}),
        ('reserve = "100TB"', {"no_disk"}),
    ],
)
def test_a_full_scratch_space_is_ours_to_answer_for(
    place: Place, bulky: str, limits: str, codes: set[str]
) -> None:
    place.add(bulky)
    text = place.config.read_text()
    place.config.write_text(text.replace("[scratch]\n", f"[scratch]\n{limits}\n"))
    place.start()
    full = place.ask()
    assert (full.verdict, full.code in codes) == (Verdict.COULD_NOT_VERIFY, True), full
    result = place.result()
    assert (result["verdict"], result["code"]) == ("could_not_verify", full.code)
    wait_for(lambda: place.nothing_left(full.id))
    finding = place.judged()["RST-01", DPI]
    assert finding.status is Status.NOT_MEASURABLE, finding
    # the daemon goes on: with the room it needs, the same backup passes
    assert place.get("/-/ready")[0] == 200
    place.write()
    client.reload(place.settings)
    assert place.ask().verdict is Verdict.PASSED, place.result()
    assert place.judged()["RST-01", DPI].status is Status.COMPLIANT
    assert place.proved()


# -------------------------------------------------------------------------------------------- clock

AGES = ("JOB-01", "PDM-01", "INT-01", "RST-01", "RST-02", "RST-03")


def test_a_clock_set_back_a_day_hides_ages_and_loses_nothing(place: Place) -> None:
    place.add("healthy", schedule=DUE)
    place.perform("inventory", SITE)
    place.perform("integrity", repository_subject("nas"))
    assert place.perform().verdict is Verdict.PASSED
    before = {key: found.status for key, found in place.judged().items()}
    assert before["RST-01", DPI] is Status.COMPLIANT
    facts = place.store.head()[0]

    behind = datetime.now(UTC) - timedelta(days=1)
    found = place.judged(behind)
    for key, finding in found.items():
        if key[0] in AGES and before[key] is not Status.NOT_APPLICABLE:
            assert (finding.status, finding.reason.id) == (
                Status.NOT_MEASURABLE,
                "reason.clock_behind",
            ), finding
    assert not [one for one in found.values() if one.status is Status.NON_COMPLIANT]
    # a day set back is no day of silence: what has been done is due again, as another attempt
    (schedule,) = [one for one in cadence.schedules(place.settings) if one.task == "restore-test"]
    last = agenda.last_slot(place.store, schedule, behind)
    assert [
        one.slot <= behind
        for one in cadence.due([schedule], {schedule.key: last} if last else {}, behind)
    ] == [True]
    run = place.perform(clock=lambda: behind)
    # taken back then, the only backup lies in the future: nothing can be restored, nobody is accused
    assert run.verdict is not Verdict.PASSED
    assert place.judged(behind)["RST-01", DPI].status is Status.NOT_MEASURABLE

    assert place.store.head()[0] > facts
    assert len(list(place.store.facts(kinds=["restore-test.result"]))) == 2
    after = {key: found.status for key, found in place.judged().items()}
    # the newest attempt could not conclude, and says so until one does
    assert after.pop(("RST-01", DPI)) is Status.WARNING
    assert {key: after[key] for key in before if key in after} == {
        key: status for key, status in before.items() if key in after
    }
    assert place.perform().verdict is Verdict.PASSED
    assert place.judged()["RST-01", DPI].status is Status.COMPLIANT
    assert place.proved()


# ------------------------------------------------------------------------------------- unreachable


@pytest.fixture
def silent() -> Iterator[int]:
    """A server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def accept() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in held:
                connection.close()


def test_what_cannot_be_reached_is_never_accused(place: Place, silent: int) -> None:
    wrong = place.directory / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("another password\n")
    missing = str(place.directory / "no-restic")
    place.add("healthy", application="sound", repository="sound")
    place.add(
        "healthy", application="hung", repository="hung",
        url=f"rest:http://127.0.0.1:{silent}/", timeout="3s",
    )  # fmt: skip
    place.add("healthy", application="missing", repository="missing", program=missing)
    place.add("healthy", application="locked-out", repository="locked-out", password=str(wrong))
    expected = {
        "hung": "timeout",
        "missing": "program_missing",
        "locked-out": "wrong_key",
    }
    place.start()
    asked = {
        name: client.enqueue(place.settings, "restore-test", application_subject(name))
        for name in ("sound", *expected)
    }
    ended = {name: place.ended(run) for name, run in asked.items()}
    assert ended["sound"].verdict is Verdict.PASSED
    for name, code in expected.items():
        assert (ended[name].verdict, ended[name].code) == (Verdict.COULD_NOT_VERIFY, code)
    place.closed("inventory", 1)
    place.closed("integrity", 4)
    found = place.judged()
    for name in expected:
        about = [found["RST-01", application_subject(name)]]
        about += [found["INT-01", repository_subject(name)]]
        about += [found["JOB-01", f"job/{name}.nuit"], found["PDM-01", application_subject(name)]]
        assert {one.status for one in about} == {Status.NOT_MEASURABLE}, about
        inspected = place.store.latest([repository_subject(name)])[repository_subject(name)]
        told = inspected["repository.inspected"].observation.data
        assert (told["reachable"], told["code"]) == (False, expected[name])
    for key in (("RST-01", application_subject("sound")), ("INT-01", repository_subject("sound"))):
        assert found[key].status is Status.COMPLIANT, found[key]
    # That the sound one has a single copy is true, and no accusation of the others.
    accused = [one for one in found.values() if one.status is Status.NON_COMPLIANT]
    assert {(one.control, one.subject) for one in accused} <= {
        ("321-01", application_subject("sound"))
    }
    page = place.get("/metrics")[1]
    assert "backupguard_probe_success" in page
