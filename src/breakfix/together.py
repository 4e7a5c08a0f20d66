"""Runs things at once that wait for something else: an engine, a host."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def together(jobs: Iterable[Callable[[], object]]) -> None:
    """Run all jobs at once; raise the first error when every one has ended."""
    wanted = list(jobs)
    if len(wanted) < 2:  # noqa: PLR2004  # one alone needs no thread, and is interrupted at once
        for job in wanted:
            job()
        return
    with ThreadPoolExecutor(max_workers=len(wanted)) as pool:
        futures = [pool.submit(job) for job in wanted]
    for future in futures:
        future.result()
