"""Threads that make pages: few of them, and nobody waits for one without end.

Reading the store is quick and bounded; where a disk hangs, those who ask are told so after a while, and
no more threads hang with it than these.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

#: Pages made at the same time.
AT_ONCE = 2

#: Seconds that somebody waits for a page, the time until its turn included.
WITHIN_S = 10.0

T = TypeVar("T")


class Readers:
    """Makes pages in threads of its own; they are started with the first page."""

    def __init__(self, within_s: float = WITHIN_S) -> None:
        self.within_s = within_s
        self._pool = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="pages")

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns; raise TimeoutError where it takes too long."""
        made = asyncio.get_running_loop().run_in_executor(self._pool, work)
        # what has not begun is not begun then; what has begun ends unheard
        return await asyncio.wait_for(made, self.within_s)
