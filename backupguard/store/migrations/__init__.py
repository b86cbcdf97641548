"""From an older schema to this program's, by Alembic, inside the caller's transaction.

A new store is made from `schema.py` directly; a test makes one by migrations too and compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection


def upgrade(connection: Connection, target: str = "head") -> None:
    """Run the migrations up to `target` on a connection that is in a writing transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, target)
