"""A host for discovery's unit tests: configuration files in a directory, and planted secrets."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backupguard.contracts import Command, Completed, Tools
from backupguard.evidence.kinds import check_payload
from backupguard.testing import contexts
from probes import discovery
from probes.discovery_found import Found, Places, Plan
from probes.discovery_host import Host

#: Planted where secrets stand; must never come back.
SECRET = "Canari-7hK2"
NOW = datetime(2026, 3, 5, 9, tzinfo=UTC)


class Answers(Tools):
    """`contracts.Tools` that answers calls from a table: the first key that is in the command."""

    def __init__(self, answers: dict[str, bytes | int] | None = None) -> None:
        self.answers = answers or {}
        self.asked: list[Command] = []

    def run(self, command: Command) -> Completed:
        self.asked.append(command)
        line = " ".join(command.argv)
        for key, answer in self.answers.items():
            if key in line:
                if isinstance(answer, int):
                    return Completed(returncode=answer, stdout=b"", stderr=b"refused")
                return Completed(returncode=0, stdout=answer, stderr=b"")
        return Completed(returncode=1, stdout=b"", stderr=b"")

    def which(self, program: str) -> Path | None:
        return Path("/usr/bin") / program


def places(directory: Path) -> Places:
    """Return places below a directory, made when absent."""
    for name in ("etc", "crontabs", "systemd"):
        (directory / name).mkdir(exist_ok=True)
    return Places(
        etc=directory / "etc", crontabs=directory / "crontabs", systemd=directory / "systemd"
    )


def write(path: Path, text: str) -> Path:
    """Write a file and the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def found() -> Found:
    return Found(host="srv-db1")


def seen(
    directory: Path, plan: Plan | None = None, host: Host | None = None, tools: Tools | None = None
) -> dict[str, Any]:
    """Return the payload of `discovery.seen`; it has its declared shape and holds no secret."""
    return everything(directory, plan, host, tools)["discovery.seen"]


def everything(
    directory: Path, plan: Plan | None = None, host: Host | None = None, tools: Tools | None = None
) -> dict[str, dict[str, Any]]:
    from dataclasses import replace

    context = contexts.context(directory, tools=tools or Answers())
    context.clock.set(NOW)
    plan = replace(plan or Plan(), places=places(directory))
    payloads = {}
    for one in discovery.look("site", plan, host or Host(name="srv-db1"), context):
        check_payload(one.kind, one.kind_version, one.data)
        assert SECRET not in json.dumps(one.data, ensure_ascii=False)
        payloads[one.kind] = one.data
    return payloads
