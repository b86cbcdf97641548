"""Runners: started, asked to end, ended by force, reaped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupguard.daemon import runners as module
from backupguard.daemon.requests import request
from backupguard.daemon.runners import Runners, environment
from backupguard.model import Run, RunState

RUN = Run(
    id="0" * 26,
    request=request("inventory", "site", requested_by="schedule"),
    state=RunState.WAITING,
    created_at=datetime(2026, 3, 5, tzinfo=UTC),
)

POLITE = "import time; time.sleep(60)"
DEAF = (
    "import signal, time\n"
    "for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):\n"
    "    signal.signal(number, signal.SIG_IGN)\n"
    "print('deaf', flush=True)\n"
    "time.sleep(60)\n"
)


def scene(
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    *,
    within: float = 60,
    grace_s: float = 20,
    ask: str | None = None,
) -> int:
    """Run `script` as a runner and return how it ended."""
    monkeypatch.setattr(module, "command", lambda *_: [sys.executable, "-c", script])

    async def main() -> int:
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        all_ = Runners(lambda _run, status: ended.set_result(status), grace_s=grace_s)
        all_.start(RUN, Path("unused"), timedelta(seconds=within))
        assert RUN.id in all_
        assert all_.used() == {"probe": 1}
        assert all_.excluded() == {"inventory/site"}
        await asyncio.sleep(0.5)
        if ask == "cancel":
            assert all_.cancel(RUN.id)
        elif ask == "stop":
            await all_.stop()
        status = await asyncio.wait_for(ended, 10)
        assert len(all_) == 0
        assert not all_.cancel(RUN.id)
        await all_.stop()
        return status

    return asyncio.run(main())


def test_a_runner_that_ends_is_reaped_with_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scene(monkeypatch, "raise SystemExit(7)") == 7


def test_each_end_has_its_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scene(monkeypatch, POLITE, ask="cancel") == -signal.SIGUSR1
    assert scene(monkeypatch, POLITE, ask="stop") == -signal.SIGTERM
    assert scene(monkeypatch, POLITE, within=0.2) == -signal.SIGUSR2


@pytest.mark.parametrize("ask", ["cancel", "stop"])
def test_what_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch, ask: str) -> None:
    assert scene(monkeypatch, DEAF, grace_s=0.3, ask=ask) == -signal.SIGKILL


def test_a_runner_has_a_session_of_its_own_and_no_more_environment_than_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RESTIC_PASSWORD", "secret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x")
    script = (
        "import os\n"
        "ok = os.getsid(0) == os.getpid() and 'RESTIC_PASSWORD' not in os.environ\n"
        "raise SystemExit(0 if ok and 'CREDENTIALS_DIRECTORY' in os.environ else 1)\n"
    )
    assert scene(monkeypatch, script) == 0
    assert set(environment({"PATH": "x", "AWS_SECRET_ACCESS_KEY": "y"})) == {"PATH"}


def test_the_command_names_the_run_its_settings_and_its_parent() -> None:
    found = module.command("01RUN", Path("/state/settings/s.json"))
    assert found[-5:] == [
        "01RUN",
        "--settings",
        "/state/settings/s.json",
        "--parent",
        str(os.getpid()),
    ]
