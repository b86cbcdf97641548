"""The command `backupguard`: global options, the table of commands, how errors leave.

A command's module is imported only when the command is called, so that `--help` and `--version`
cost what Typer costs and nothing else. To add a command, add a `Command` to `COMMANDS`, in the order
in which help shows them:

    Command("NAME", "package.module:attribute", "Help in one line.")

The attribute is a `typer.Typer` for a group of sub-commands, or a plain annotated function for a
single command. A function returns its exit code (None means 0) or raises `typer.Exit(code)`; errors
of `backupguard.errors` are raised and become a sentence, a remedy and an exit code here. What the
global options said is in `backupguard.cli.common.options()`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from backupguard import __version__
from backupguard.cli import common
from backupguard.undumped import stay_undumped

if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_INTERRUPTED = 130

# Typer brings its own copy of click or uses the real one, depending on its version.
_ClickException: Any = typer.BadParameter.__mro__[2]


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its name, where it is ("module:attribute"), its help in one line."""

    name: str
    place: str
    help: str
    hidden: bool = False


_CLI = "backupguard.cli"
COMMANDS = (
    Command("run", f"{_CLI}.run:run", "Run the daemon."),
    Command("setup", f"{_CLI}.setup:setup", "Look at this host, and write a first configuration."),
    Command("config", f"{_CLI}.config:app", "Check or show the configuration, or its JSON Schema."),
    Command("doctor", f"{_CLI}.doctor:app", "Tell what works on this host, and what to do."),
    Command("discover", f"{_CLI}.discover:discover", "Show what runs here and what saves it."),
    Command("inventory", f"{_CLI}.inventory:inventory", "Show jobs, recovery points and copies."),
    Command("probe", f"{_CLI}.probe:probe", "Run probes now."),
    Command(
        "vantage", f"{_CLI}.vantage:app", "What a vantage point in production needs to report here."
    ),
    Command("restore-test", f"{_CLI}.restore_test:restore_test", "Restore backups in a sandbox."),
    Command(
        "prepare-instance",
        f"{_CLI}.prepare_instance:prepare_instance",
        "Mark a scratch server, so that restore tests may use it.",
    ),
    Command("baseline", f"{_CLI}.baseline:app", "Show, accept or reset the shape of the data."),
    Command("canary", f"{_CLI}.canary:app", "What the site's own job writes before each backup."),
    Command("pause", f"{_CLI}.run:pause", "Pause the daemon's own runs, for a reason."),
    Command("status", f"{_CLI}.status:status", "Show what stands; the exit code says how bad."),
    Command(
        "why", f"{_CLI}.status:why", "Explain one finding: since when, which facts, what next."
    ),
    Command("plan", f"{_CLI}.plan:plan", "What comes back when, and how, if all is lost."),
    Command("report", f"{_CLI}.report:app", "Write the monthly report; file the signed one."),
    Command(
        "report-run",
        f"{_CLI}.report_run:report_run",
        "Run a backup command and report how it went.",
    ),
    Command("evidence", f"{_CLI}.evidence:app", "Verify, export or show the evidence."),
    Command(
        "attest", f"{_CLI}.attest:app", "State something, signed, until a day; list, withdraw."
    ),
    Command("waive", f"{_CLI}.waive:app", "Accept an exception until a day; list, confirm, end."),
    Command(
        "override",
        f"{_CLI}.override:app",
        "Change a threshold for a time; list, confirm, end.",
    ),
    Command(
        "state",
        f"{_CLI}.state:app",
        "Take BackupGuard's own state to a file, or bring it back.",
    ),
    Command(
        "engines",
        f"{_CLI}.engines:app",
        "Database engines beside the system's: add, list, remove.",
    ),
    Command("controls", f"{_CLI}.controls:controls", "The catalogue, its sources and its maps."),
    Command("media", f"{_CLI}.media:app", "Where each offline medium is; who took it where."),
    Command(
        "alerts", f"{_CLI}.alerts:app", "The alert rules for Prometheus, as this site wants them."
    ),
    Command("demo", f"{_CLI}.demo:demo", "A small real hospital, and everything above run on it."),
    Command(
        "perform", f"{_CLI}.run:perform", "Perform one run (started by the daemon).", hidden=True
    ),
)


class LazyGroup(TyperGroup):
    """The group of all commands, each imported when it is called."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._table = {command.name: command for command in COMMANDS}
        # Only the names are looked at: for "did you mean".
        self.commands = dict.fromkeys(c.name for c in COMMANDS if not c.hidden)  # type: ignore[assignment]

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's
        """Return the names of commands, in the order of the table."""
        return [command.name for command in COMMANDS if not command.hidden]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - click's
        """Import a command's module and return the command; None when there is none."""
        command = self._table.get(cmd_name)
        if command is None:
            return None
        module, _, attribute = command.place.partition(":")
        return _built(command, getattr(import_module(module), attribute))

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - click's
        """List the commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(c.name, c.help) for c in COMMANDS if not c.hidden])


def _built(command: Command, attribute: typer.Typer | Callable[..., Any]) -> Any:
    if isinstance(attribute, typer.Typer):
        built: Any = typer.main.get_group(attribute)
    else:
        single = typer.Typer(
            add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
        )
        single.command(name=command.name, context_settings=_HELP)(attribute)
        built = typer.main.get_command(single)
    built.name = command.name
    built.help = built.help or command.help
    built.context_settings = {**_HELP, **built.context_settings}
    return built


_HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings=_HELP,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"backupguard {__version__}")
        raise typer.Exit


@app.callback()
def backupguard(
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            readable=False,  # whether it can be read is said with all else that is wrong with it
            help="The configuration file (also BACKUPGUARD_CONFIG).",
            show_default=False,
        ),
    ] = None,
    language: Annotated[
        common.Language | None, typer.Option(help="Language of what is shown.", show_default=False)
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show results only.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show more, tracebacks included.")
    ] = False,
    version: Annotated[  # noqa: ARG001 - its callback acts
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Prove that backups restore: inventory, restore tests, metrics, evidence."""
    common.set_options(
        common.Options(
            config=config,
            language=language.value if language else None,
            quiet=quiet,
            verbose=verbose,
        )
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    if arguments is None:
        stay_undumped()  # a command may read secrets as well as the daemon does
    common.set_options(common.Options())
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app_command().main(given, prog_name="backupguard", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last resort: nothing leaves as a traceback
        return _failed(error)
    return code if isinstance(code, int) else 0


def _failed(error: Exception) -> int:
    """Say what went wrong and return the exit code. Only failures import what this needs."""
    from backupguard.errors import EXIT_NOT_PROVED, EXIT_USAGE, BackupGuardError

    if isinstance(error, BackupGuardError):
        common.show_error(error)
        return error.exit_code
    if isinstance(error, _ClickException):
        if type(error).__name__ == "NoArgsIsHelpError" or not hasattr(error, "ctx"):
            error.show()  # the help itself
        else:
            common.show_usage(error)
        return EXIT_USAGE
    if isinstance(error, BrokenPipeError):
        # Whoever read us has gone; Python would complain again when it flushes at exit.
        sys.stdout = Path("/dev/null").open("w")  # noqa: SIM115 - lives as long as the process
        return EXIT_NOT_PROVED
    common.show_bug(error)
    return EXIT_NOT_PROVED


def app_command() -> Any:
    """Return the whole command, for `main` and for the tests."""
    return typer.main.get_command(app)
