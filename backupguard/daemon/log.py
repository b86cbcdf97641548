"""The log: one JSON object per line on standard error, where journald takes it.

Field names follow the Elastic Common Schema where it has one (`@timestamp`, `log.level`,
`event.code`). An event is a code such as `run.started`; ids and English only, never a secret, never
a value of restored data.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from backupguard.errors import BackupGuardError

#: An error with more causes than that is a circle.
_CAUSES = 20
_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}


def _ecs(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Return the event with the schema's names, the most telling first."""
    told: dict[str, Any] = {
        "@timestamp": event.pop("timestamp"),
        "log.level": event.pop("level"),
        "event.code": event.pop("event"),
    }
    trace = event.pop("exception", None)
    if trace is not None:
        told["error.stack_trace"] = trace
    told.update(event)
    return told


def told(error: BaseException) -> str:
    """Return where an error came from: frames and classes of it and of its causes, the first first.

    The text of an error nobody foresaw may quote what it stumbled over (a file's name, a value), so it
    stays out; errors of our own and those of the system say what they are.
    """
    parts: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(parts) < _CAUSES:
        kind = type(seen)
        what = ""
        if isinstance(seen, BackupGuardError):
            what = f": {seen}"
        elif isinstance(seen, OSError) and seen.errno is not None:
            what = f": {errno.errorcode.get(seen.errno, seen.errno)}"
        frames = "".join(traceback.format_tb(seen.__traceback__))
        parts.append(f"{frames}{kind.__module__}.{kind.__qualname__}{what}")
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return "\n\n".join(reversed(parts))


def _trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put an error's frames and classes into an event, and not its text."""
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event["exception"] = told(error)
    return event


class _Line:
    """Renders JSON, after the priority that journald reads where standard error is its own."""

    def __init__(self, journal: bool) -> None:
        self.journal = journal

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
        text = json.dumps(event, ensure_ascii=False, default=str)
        return f"<{_PRIORITIES.get(event['log.level'], 6)}>{text}" if self.journal else text


def event_line(text: str, level: int) -> str:
    """Return a line of JSON as this process's log has them, after its priority for journald."""
    return f"<{level}>{text}\n" if "JOURNAL_STREAM" in os.environ else f"{text}\n"


class _Foreign(logging.Handler):
    """Brings the warnings of libraries (uvicorn, APScheduler) into the same log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log a library's record under the event `library.NAME`."""
        structlog.get_logger(record.name).log(
            record.levelno,
            f"library.{record.name.partition('.')[0]}",
            message=record.getMessage(),
            exc_info=record.exc_info or None,
        )


def configure(*, verbose: bool = False, quiet: bool = False, stream: TextIO | None = None) -> None:
    """Set the log up for this process: the daemon or a runner.

    `quiet` silences all but what ends the process: a command says the rest in words.
    """
    level = logging.DEBUG if verbose else logging.CRITICAL if quiet else logging.INFO
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _trace,
            _ecs,
            _Line(journal="JOURNAL_STREAM" in os.environ and stream is None),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[_Foreign()], force=True)
    # the agenda listens to the library's events and says the same in its own words
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
