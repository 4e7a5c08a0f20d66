"""Prints: tables and text for people, JSON with a schema version for scripts."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from breakfix.model import JsonValue


class Form(StrEnum):
    """How to print what a person or a script may read."""

    TEXT = "text"
    JSON = "json"


class ReportForm(StrEnum):
    """How to print a grade."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"
    TAP = "tap"
    GITHUB = "github"
    HTML = "html"


Output = Annotated[Form, typer.Option("-o", "--output", help="For people, or for scripts.")]
ReportOutput = Annotated[ReportForm, typer.Option("-o", "--output", help="The report's format.")]


def print_json(kind: str, content: JsonValue) -> None:
    """Print one document: what it is, its schema's version, and the content under the name of its kind."""
    import json  # noqa: PLC0415  # what --help needs not, it does not load

    from breakfix.model import SCHEMA_VERSION  # noqa: PLC0415

    typer.echo(json.dumps({"schema_version": SCHEMA_VERSION, "kind": kind, kind: content}, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under headings, as wide as their content; plain text, so that it can be piped."""
    table = [list(columns), *(list(row) for row in rows)]
    widths = [max(len(row[n]) for row in table) for n in range(len(columns))]
    for number, row in enumerate(table):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        typer.secho(line, bold=number == 0)
