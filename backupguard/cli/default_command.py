"""A group of commands whose name alone does something: `attest escrow nas` beside `attest list`."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

#: The hidden command behind the group's own name.
DEFAULT = "make"


class DefaultGroup(TyperGroup):
    """Arguments that name no command of the group are those of its command `make`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the hidden command's name before arguments that begin with no command's."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return what to call; the hidden command goes by the group's own name in its help."""
        name, command, rest = super().resolve_command(ctx, args)
        return ("" if name == DEFAULT else name), command, rest


def group(usage: str) -> typer.Typer:
    """Return an empty group; give it a command named `make`, whose usage in short is `usage`."""
    return typer.Typer(
        cls=DefaultGroup,
        subcommand_metavar=f"{usage} ... | COMMAND ...",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
