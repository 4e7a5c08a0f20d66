"""Shows what goes on, with the time that it has taken: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress


@contextmanager
def progress(title: str) -> Iterator[Callable[[str], None]]:
    """Yield a function that is told each step."""
    if sys.stderr.isatty():
        with _live(title) as tell:
            yield tell
    else:
        begun = time.monotonic()
        yield lambda step: print(f"[{time.monotonic() - begun:6.1f} s] {title}: {step}", file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def _live(title: str) -> Iterator[Callable[[str], None]]:
    from rich.console import Console  # noqa: PLC0415  # heavy
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _teller(bar, title)


def _teller(bar: Progress, title: str) -> Callable[[str], None]:
    from rich.markup import escape  # noqa: PLC0415

    task = bar.add_task(title, total=None)

    def tell(step: str) -> None:
        bar.update(task, description=f"[bold]{escape(title)}[/] {escape(step)}")

    return tell
