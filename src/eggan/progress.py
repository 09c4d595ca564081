"""Progress of long work: one rich bar with rate and time left in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["bar", "track"]

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 30


def bar(console: Console) -> Progress:
    """The progress bar, with room for a line of figures in the field `note`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Iterate with a bar on standard error, or a line every half minute where that is no terminal.

    Args:
        items: what to iterate over.
        what: the work, as the bar names it.
        total: how many items there are; not needed where they have a length.
    """
    total = len(items) if total is None and isinstance(items, Sized) else total
    console = Console(stderr=True)
    start = last = time.monotonic()
    with bar(console) as progress:
        task = progress.add_task(what, total=total, note="")
        for done, item in enumerate(items, 1):
            yield item
            progress.update(task, completed=done)
            now = time.monotonic()
            if not console.is_terminal and now - last > SECONDS_BETWEEN_LINES:
                console.print(f"{what}: {done}/{total}, {done / (now - start):.1f} a second", highlight=False)
                last = now
