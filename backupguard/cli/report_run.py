"""`backupguard report-run -- COMMAND`: run a backup command, and report how it went.

It needs neither the configuration nor the store, so it runs as whatever account makes the backup.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from backupguard.cli import common

_POST_TIMEOUT_S = 10.0


def report_run(
    command: Annotated[list[str], typer.Argument(help="The command, after --.")],
    job: Annotated[
        str, typer.Option(help="The backup job it is, as in the configuration: dpi.nightly.")
    ],
    artifact: Annotated[
        list[Path] | None,
        typer.Option(help="What the command makes: its size is reported. May be given again."),
    ] = None,
    warning_code: Annotated[
        list[int] | None,
        typer.Option(help="An exit code that means a warning (borg: 1). May be given again."),
    ] = None,
    spool: Annotated[
        Path | None, typer.Option(help="Where reports are laid, /var/spool/backupguard by default.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Report over HTTP instead: https://HOST/api/v1/runs.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="The file with the job's token, for --url.")
    ] = None,
) -> int:
    """Run COMMAND and report when it began, when it ended and how.

    The exit code is the command's own, whatever becomes of the report; 127 when it is not there.
    """
    from backupguard.errors import UsageError
    from backupguard.job_reports import SPOOL, JobReport
    from backupguard.model import Message, PointState
    from backupguard.processes.foreground import run_in_foreground

    if (url is None) != (token_file is None) or (url is not None and spool is not None):
        raise UsageError("usage", Message(id="report-run.one-way"))
    from pydantic import ValidationError

    def report(**more: Any) -> JobReport:
        return JobReport(
            job=job,
            id=f"{started:%Y%m%dT%H%M%S.%fZ}-{os.getpid()}",
            started_at=started,
            host=socket.gethostname(),
            **more,
        )

    complained: list[dict[str, int | str]] = []

    def tell(told: JobReport) -> None:
        problem = _post(url, token_file, told) if url and token_file else _lay(spool or SPOOL, told)
        if problem and problem not in complained:  # its beginning and its end: said once
            complained.append(problem)
            common.complain(common.words().say(Message(id="report-run.failed", values=problem)))

    started = datetime.now(UTC)
    try:
        began = report(state=PointState.RUNNING)
    except ValidationError as error:
        raise UsageError("usage", Message(id="report-run.bad-job", values={"job": job})) from error
    tell(began)
    code = run_in_foreground(command)
    state = PointState.COMPLETE if code == 0 else PointState.FAILED
    if code in (warning_code or ()):
        state = PointState.WARNING
    size, files = (
        _measured(artifact) if artifact and state is not PointState.FAILED else (None, None)
    )
    tell(
        report(
            state=state,
            ended_at=max(started, datetime.now(UTC)),
            exit_code=min(code, 255),
            bytes=size,
            files=files,
        )
    )
    return code


def _lay(spool: Path, report: Any) -> dict[str, int | str] | None:
    """Lay a report into the spool; return what went wrong, None when nothing did."""
    from backupguard.job_reports import write_report

    try:
        write_report(spool, report)
    except OSError as error:
        return {"place": str(spool), "why": _why(error)}
    return None


def _why(error: OSError) -> str:
    """Return the sentence of an error of the file system, the system's own words for rare ones."""
    codes = {errno.EACCES: "permission", errno.EPERM: "permission", errno.EROFS: "permission"}
    codes |= {errno.ENOENT: "not_found", errno.ENOTDIR: "not_found"}
    codes |= {errno.ENOSPC: "no_disk", errno.EDQUOT: "no_disk"}
    code = codes.get(error.errno or 0)
    return f"@code.{code}" if code else error.strerror or type(error).__name__


def _post(url: str, token_file: Path, report: Any) -> dict[str, int | str] | None:
    """Post a report; return what went wrong, None when nothing did."""
    import urllib3

    from backupguard.contracts import SecretReference
    from backupguard.errors import BackupGuardError
    from backupguard.settings.secrets import read_secret

    place = url.partition("?")[0]
    try:
        token = read_secret(SecretReference(file=token_file)).reveal().decode("ascii")
        retries = urllib3.Retry(total=2, redirect=0, allowed_methods=None, backoff_factor=0.5)
        with urllib3.PoolManager(retries=retries) as pool:
            answer = pool.request(
                "POST",
                url,
                body=report.model_dump_json(exclude_none=True).encode(),
                headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
                timeout=_POST_TIMEOUT_S,
            )
    except BackupGuardError as error:
        return {"place": str(token_file), "why": f"@code.{error.code}"}
    except urllib3.exceptions.HTTPError as error:
        cause = getattr(error, "reason", None) or error
        if isinstance(cause, urllib3.exceptions.SSLError):
            return {"place": place, "why": "@code.tls"}
        if isinstance(cause, urllib3.exceptions.NewConnectionError):
            return {"place": place, "why": "@code.refused"}
        return {"place": place, "why": "@code.timeout"}
    except (UnicodeDecodeError, ValueError) as error:
        return {"place": place, "why": type(error).__name__}
    if answer.status not in (200, 201):
        return {"place": place, "why": f"HTTP {answer.status}"}
    return None


def _measured(artifacts: Iterable[Path]) -> tuple[int, int]:
    """Return bytes and files of what a command made; nothing there is 0 bytes in 0 files."""
    size = count = 0
    for artifact in artifacts:
        for path in _files(artifact):
            size += path.lstat().st_size
            count += 1
    return size, count


def _files(artifact: Path) -> Iterator[Path]:
    if artifact.is_dir() and not artifact.is_symlink():
        for directory, _, names in os.walk(artifact):
            yield from (p for name in names if (p := Path(directory, name)).is_file())
    elif artifact.is_file():
        yield artifact
