"""`backupguard demo`: a small real hospital, and everything above run on it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupguard.cli import common
from backupguard.errors import EXIT_DONE, EXIT_NOT_PROVED, UsageError
from backupguard.model import Message

if TYPE_CHECKING:
    from rich.console import Console

    from backupguard.demo.story import Told
    from backupguard.language import Words

DIRECTORY = Path("backupguard-demo")


def demo(
    directory: Annotated[
        Path, typer.Option(help="Where everything of the demonstration is made and left.")
    ] = DIRECTORY,
    once: Annotated[
        bool, typer.Option("--once", help="End when all is done, instead of running the daemon.")
    ] = False,
    soc: Annotated[
        bool,
        typer.Option(
            "--soc", help="Show a SOC's view: a backup breaks, one alert arrives with its runbook."
        ),
    ] = False,
) -> int:
    """Make a small hospital, back it up with seven kinds of tools, and prove what restores."""
    _leave_root(directory)
    from rich.console import Console

    from backupguard.daemon.log import configure
    from backupguard.demo import story, summary

    configure(quiet=not common.options().verbose)
    words, console = common.words(), Console(highlight=False, quiet=common.options().quiet)
    if not console.is_terminal:
        console.width = 200  # a pipe has no width: nothing is cut there

    def tell(message: Message) -> None:
        console.print(words.say(message), soft_wrap=True, markup=False)

    if soc:
        return _for_a_soc(directory, once, words, console, tell)

    def stay(told: Told) -> None:
        summary.show(told, words, console)
        listen = told.settings.http.listen
        tell(Message(id="demo.stays", values={"url": f"http://{listen}/"}))
        story.run_daemon(told)

    told = story.play(directory, language=common.language(), tell=tell, stay=None if once else stay)
    if once:
        summary.show(told, words, console)
    return EXIT_DONE if told.proved else EXIT_NOT_PROVED


def _for_a_soc(
    directory: Path, once: bool, words: Words, console: Console, tell: Callable[[Message], None]
) -> int:
    """Show the one alert of a broken backup; unless `once`, until Ctrl-C."""
    from backupguard.demo import soc, summary

    def stay(shown: soc.Shown) -> None:
        summary.show_alert(shown, words, console)
        if not once:
            tell(Message(id="demo.soc.stays"))
            soc.until_interrupted()

    shown = soc.play(directory, language=common.language(), tell=tell, stay=stay)
    return EXIT_DONE if shown.proved else EXIT_NOT_PROVED


def _leave_root(directory: Path) -> None:
    """As root, become the directory's owner; refuse where there is nobody to become."""
    if os.geteuid() != 0:
        return
    from backupguard.processes import become_owner

    if not directory.is_dir() or directory.stat().st_uid == 0:
        raise UsageError(
            "usage",
            Message(id="demo.root", values={"directory": str(directory)}),
            Message(id="demo.root_remedy", values={"directory": str(directory)}),
        )
    become_owner(directory)
