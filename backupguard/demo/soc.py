"""The demonstration for a SOC: one backup is broken, one alert arrives, with its runbook.

BackupGuard's own daemon, and Prometheus and Alertmanager as Debian ships them, with the shipped rules,
routes and inhibitions; only their waiting times are shortened, and what receives is a small web server.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from backupguard import settings
from backupguard.demo import backups, layout, others, programs, watchers
from backupguard.errors import BackupGuardError
from backupguard.language import Words
from backupguard.model import Message

Teller = Callable[[Message], None]

#: Seconds that may pass until everything is proved, until the alert is there, and for no second one.
_PROVED_S, _ALERT_S, _QUIET_S = 120, 90, 6

_TOML = """\
# Written by `backupguard demo --soc`. Every other command works on it:
#   backupguard --config {configuration} status

[site]
name = "CH de Belle-Rive (démonstration)"
timezone = "Europe/Paris"
language = "{language}"
[site.without]
directory = "démonstration"
dns = "démonstration"
pki = "démonstration"
vault = "démonstration"
hypervisor = "démonstration"
network = "démonstration"
backup-catalogue = "démonstration"

[store]
directory = "{state}"

[http]
listen = "127.0.0.1:{port}"

[scratch]
clear-text-accepted-by = "backupguard demo: invented data"

[discovery]
enabled = false

[probes.integrity]
data-percent = 100

[repositories.nas]
type = "restic"
url = "{nas}"
program = "{restic}"
data-buckets = 1
credentials.reader.file = "{secret}"
medium-kind = "disk"
failure-domain = "campus-nord/baie-2"
declared-by = "responsable infrastructure"
declared-on = {declared}

[applications.sterilisation]
name = "Traçabilité de stérilisation"
criticality = "C2"
rpo = "24h"
rto = "8h"
failure-domain = "campus-nord/baie-1"
declared-by = "pharmacien gérant"
declared-on = {declared}

[applications.sterilisation.restore-test]
engine = "sqlite"

[[applications.sterilisation.restore-test.checks]]
name = "boîtes récentes"
sql = "select max(used_at) from sets"
newer-than = "26h"

[applications.sterilisation.backups.nuit]
repository = "nas"
every = "24h"
select.paths = ["{database}"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the demonstration showed. `others` are the alerts that came besides; none should."""

    alert: watchers.Alert
    others: tuple[watchers.Alert, ...]
    before: tuple[watchers.Alert, ...]
    runbook: str
    took_ms: int
    pages: Mapping[str, str]

    @property
    def proved(self) -> bool:
        """Tell whether exactly the alert came that belongs to a damaged repository."""
        return self.alert.name == "BackupGuardIntegrityNotProven" and not self.others


def play(
    directory: Path,
    *,
    language: str,
    tell: Teller,
    stay: Callable[[Shown], None] | None = None,
) -> Shown:
    """Make a small site, have it watched, break its backup; return the alert that arrived.

    `stay` is called at the end while everything still runs. Raises MissingMeans for a program that is
    missing, UsageError for a directory in use.
    """
    means = watchers.means()
    restic = programs.required("restic")
    place = layout.prepare(directory)
    with _interrupted(), ExitStack() as stack:
        tell(Message(id="demo.soc.site"))
        chosen = _site(place, restic, language)
        daemon = stack.enter_context(_daemon(place, chosen))
        tell(Message(id="demo.soc.proof"))
        programs.wait_until(daemon.proved, "backupguard", _PROVED_S)
        daemon.accept_one_copy(language)
        tell(Message(id="demo.soc.watchers"))
        soc = stack.enter_context(watchers.watching(place, means, chosen.http.listen, language))
        before = soc.settled()
        pages = {
            "status": daemon.url("/"),
            "prometheus": soc.prometheus,
            "alerts": soc.alertmanager,
        }
        tell(Message(id="demo.soc.quiet", values={"count": len(before)}))
        tell(Message(id="demo.soc.break"))
        began = time.monotonic()
        flip_a_byte(place.nas / "data")
        daemon.look("integrity", "--repository", "nas")
        (alert,) = soc.wait(1, _ALERT_S)
        took = int((time.monotonic() - began) * 1000)
        besides = soc.more(_QUIET_S)
        shown = Shown(
            alert=alert,
            others=besides,
            before=before,
            runbook=daemon.runbook(alert),
            took_ms=took,
            pages=pages,
        )
        if stay is not None:
            stay(shown)
    return shown


def until_interrupted() -> None:
    """Wait for Ctrl-C or a stop."""
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


@contextmanager
def _interrupted() -> Iterator[None]:
    """Have SIGTERM raise KeyboardInterrupt as Ctrl-C does, so that what was started is ended."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def flip_a_byte(data: Path) -> Path:
    """Change one byte in the middle of the largest file below `data`, as a failing disk does."""
    pack = max((f for f in data.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    pack.chmod(0o600)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.write_bytes(content)
    return pack


def _site(place: layout.Layout, restic: Path, language: str) -> settings.Settings:
    """Make one application with one backup, and the configuration that watches it."""
    database = others.sterile_goods(place)
    secret = layout.write_secret(place, "nas")
    job = backups.Restic(program=restic, repository=str(place.nas), password_file=secret)
    job.back_up(sterilisation=database)
    text = _TOML.format(
        configuration=place.configuration,
        language=language,
        state=place.state,
        port=programs.free_port(),
        nas=place.nas,
        restic=restic,
        secret=secret,
        database=database,
        declared=date.fromordinal(datetime.now(UTC).date().toordinal() - 60),
    )
    place.configuration.touch(mode=0o600)
    place.configuration.write_text(text, encoding="utf-8")
    return settings.load(place.configuration, environ={})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Daemon:
    """The daemon of the demonstration, as anybody meets it: its commands and its pages."""

    place: layout.Layout
    listen: str

    def url(self, path: str) -> str:
        return f"http://{self.listen}{path}"

    def page(self, path: str) -> str:
        with urllib.request.urlopen(self.url(path), timeout=10) as answer:  # noqa: S310 - ours
            return str(answer.read().decode())

    def proved(self) -> bool:
        """Tell whether the backup was restored and its repository read, both with success."""
        with suppress(OSError):
            text = self.page("/metrics")
            return all(
                any(
                    line.startswith("backupguard_control_status{")
                    and f'control="{control}"' in line
                    and line.endswith(" 0")
                    for line in text.splitlines()
                )
                for control in ("INT-01", "RST-01")
            )
        return False

    def look(self, probe: str, *options: str) -> None:
        """Have the daemon look now, as an operator does; that something is broken is no failure."""
        with suppress(BackupGuardError):
            self.call("probe", probe, *options)

    def call(self, *arguments: str) -> str:
        """Run one of BackupGuard's commands on the demonstration and return what it printed."""
        program = Path(sys.executable).parent / "backupguard"
        return programs.call([program, "--config", self.place.configuration, *arguments])

    def accept_one_copy(self, language: str) -> None:
        """Accept for a month that this site has one copy, as its people would: 3-2-1 asks for more."""
        until = date.fromordinal(datetime.now(UTC).date().toordinal() + 30).isoformat()
        reason = Words(language).text("demo.soc.one_copy")
        waived = ("321-01", "application/sterilisation", "--until", until)
        self.call("waive", *waived, "--owner", "DSI", "--reason", reason)

    def runbook(self, alert: watchers.Alert) -> str:
        """Return the page that the alert's link leads to, in this language."""
        return self.page(urlsplit(alert.runbook).path)


@contextmanager
def _daemon(place: layout.Layout, chosen: settings.Settings) -> Iterator[_Daemon]:
    program = Path(sys.executable).parent / "backupguard"
    made = _Daemon(place=place, listen=chosen.http.listen)
    argv = [str(program), "--config", str(place.configuration), "run"]

    def ready() -> bool:
        with suppress(OSError):
            return bool(made.page("/-/ready"))
        return False

    with programs.running(argv, ready, place.log / "daemon.log"):
        yield made
