"""Briefs, hints and debriefs on the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from breakfix import templates
from breakfix.errors import InvalidLab, Problem, UsageError

if TYPE_CHECKING:
    from breakfix.model import Variant


def brief(variant: Variant) -> str:
    """Return the brief that the candidate reads.  Raises InvalidLab."""
    path = templates.find(variant.lab.folder, "brief.md")
    if path is None:
        raise InvalidLab((Problem(variant.lab.folder / "brief.md.j2", 1, "a lab needs a brief"),))
    return templates.read(path, variant)


def debrief(variant: Variant) -> str:
    """Return the story behind the lab.  Raises UsageError where only labs were handed out."""
    path = variant.lab.grader and templates.find(variant.lab.grader, "debrief.md")
    if not path:
        raise UsageError(f"{variant.lab.id} has no debrief here")
    return templates.read(path, variant)


def print_markdown(text: str) -> None:
    """Print Markdown: drawn on a terminal, as it is elsewhere."""
    if not sys.stdout.isatty():
        typer.echo(text.rstrip())
        return
    from rich.console import Console  # noqa: PLC0415  # heavy
    from rich.markdown import Markdown  # noqa: PLC0415

    Console(width=min(Console().width, 100)).print(Markdown(text))
