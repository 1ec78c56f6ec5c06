"""Progress on a terminal, on standard error; nothing where there is none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol


class Bar(Protocol):
    """Shows one step after the other."""

    def step(self, text: str) -> AbstractContextManager[Callable[[float], object]]:
        """Show ``text`` until the block ends; what it gives takes the share that is done, 0 to 1."""
        ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def step(self, text: str) -> Iterator[Callable[[float], object]]:  # noqa: ARG002  nobody is there to read it
        yield lambda _: None


class Shown:
    """A bar of rich: it moves by itself until a share is told."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress

    @contextmanager
    def step(self, text: str) -> Iterator[Callable[[float], object]]:
        task = self._progress.add_task(text, total=None)
        yield lambda share: self._progress.update(task, total=1.0, completed=share)
        self._progress.update(task, total=1.0, completed=1.0)


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Bar]:
    """The bar of a command: gone when the block ends."""
    if quiet or not sys.stderr.isatty():
        yield Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Shown(progress)
