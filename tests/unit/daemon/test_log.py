"""The log: one JSON object a line, with names that a SIEM knows."""

from __future__ import annotations

import errno
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from backupguard.daemon.log import configure, told
from backupguard.errors import Unreachable


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    written = io.StringIO()
    handlers, level = logging.root.handlers[:], logging.root.level
    configure(stream=written)
    yield written
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def test_an_event_is_one_line_with_its_code_first(stream: io.StringIO) -> None:
    structlog.get_logger("x").warning("run.late", run="01X", name="été")
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert list(event) == ["@timestamp", "log.level", "event.code", "run", "name"]
    assert (event["log.level"], event["event.code"], event["name"]) == (
        "warning",
        "run.late",
        "été",
    )


def test_a_traceback_stays_on_its_line(stream: io.StringIO) -> None:
    try:
        raise ValueError("what")
    except ValueError:
        structlog.get_logger("x").exception("run.bug")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError" in json.loads(line)["error.stack_trace"]


def test_libraries_speak_in_the_same_log(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").warning("Invalid %s", "request")
    logging.getLogger("uvicorn.error").info("chatter")
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert (event["event.code"], event["message"]) == ("library.uvicorn", "Invalid request")


def test_details_are_for_the_verbose(stream: io.StringIO) -> None:
    structlog.get_logger("x").debug("detail")
    assert stream.getvalue() == ""


def test_what_an_unforeseen_error_quotes_stays_out_of_the_log(stream: io.StringIO) -> None:
    patient, born = "Dup" + "ont", "1985" + "-04-12"
    try:
        try:
            raise ValueError(patient)
        except ValueError as error:
            raise KeyError(born) from error
    except KeyError:
        structlog.get_logger().exception("run.bug")
    written = stream.getvalue()
    assert patient not in written
    assert born not in written
    trace = json.loads(written)["error.stack_trace"]
    assert "builtins.ValueError" in trace
    assert trace.endswith("builtins.KeyError")
    assert "test_log.py" in trace


def test_what_the_system_or_we_say_is_told() -> None:
    file = "/srv/Dup" + "ont.dump"
    try:
        raise OSError(errno.ENOSPC, "No space", file)
    except OSError as error:
        cause = error
    try:
        raise Unreachable("timeout", repository="nas") from cause
    except Unreachable as error:
        said = told(error)
    assert "OSError: ENOSPC" in said
    assert "timeout" in said.splitlines()[-1]
    assert "nas" in said.splitlines()[-1]
    assert file not in said
