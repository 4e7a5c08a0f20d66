"""The report for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from breakfix.model import Look, Outcome
from breakfix.reports.evidence import cleaned
from breakfix.reports.summary import NOT_YOURS, next_step, score_line, verdict, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType
    from rich.text import Text

    from breakfix.model import Grade, Result
    from breakfix.reports.record import Report

COLUMNS = 80
"""How wide plain text is, and no terminal is filled wider than a line can be read."""

_LOOKS = {
    Outcome.PASSED: ("✓", "green"),
    Outcome.FAILED: ("✗", "red"),
    Outcome.SKIPPED: ("○", "dim"),
    Outcome.ERROR: ("?", "yellow"),
}


def render(report: Report) -> str:
    """Return plain text without colour or any other escape."""
    return plain(renderable(report))


def renderable(report: Report) -> RenderableType:
    """Return what a rich console prints: colours where the terminal has them."""
    from rich.console import Group  # noqa: PLC0415  # rich is heavy
    from rich.constrain import Constrain  # noqa: PLC0415
    from rich.padding import Padding  # noqa: PLC0415

    clean_report = cleaned(report)
    parts = [*_heading(clean_report), _checks(clean_report.grade), *_foot(clean_report)]
    return Constrain(Padding(Group(*parts), (0, 1)), COLUMNS)


def plain(content: RenderableType) -> str:
    """Render for a file, whatever the environment says about colours and columns."""
    from io import StringIO  # noqa: PLC0415

    from rich.console import Console  # noqa: PLC0415  # rich is heavy

    out = StringIO()
    console = Console(file=out, width=COLUMNS, force_terminal=False, color_system=None, highlight=False)
    console.print(content)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def _heading(report: Report) -> Iterator[RenderableType]:
    grade = report.grade
    yield _text(report.lab_title, "bold")
    facts = [grade.lab, report.level.value, f"{report.minutes} min", f"seed {grade.seed}"]
    yield _text(" · ".join([*facts, grade.profile] if grade.profile else facts), "dim")
    yield _text("")


def _checks(grade: Grade) -> RenderableType:
    from rich.table import Table  # noqa: PLC0415  # rich is heavy

    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=1)
    table.add_column(ratio=1, overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    for result in grade.results:
        mark, style = _LOOKS[result.outcome]
        table.add_row(_text(mark, style), _check(result, grade), _text(f"{result.points}/{result.check.points}", style))
    return table


def _check(result: Result, grade: Grade) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415  # rich is heavy

    return Group(_text(_title(result), _LOOKS[result.outcome][1]), *_under(result, grade))


def _title(result: Result) -> str:
    return result.check.title if result.look is Look.FIRST else f"{result.check.title} ({result.look.value})"


def _under(result: Result, grade: Grade) -> Iterator[RenderableType]:
    if result.outcome is Outcome.SKIPPED:
        yield _text(waiting(result, grade), "dim")
    if result.outcome is Outcome.ERROR:
        yield _text(f"Could not look. {NOT_YOURS}", "yellow")
    if result.outcome in (Outcome.FAILED, Outcome.ERROR):
        yield _evidence(result)


def _evidence(result: Result) -> RenderableType:
    from rich.table import Table  # noqa: PLC0415  # rich is heavy

    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=8, style="dim")
    table.add_column(ratio=1, overflow="fold")
    for name, value in (("expected", result.expected), ("seen", result.seen)):
        if value:
            table.add_row(name, _text(value))
    return table


def _foot(report: Report) -> Iterator[RenderableType]:
    grade = report.grade
    style = "green" if grade.passed else "red" if grade.gradable else "yellow"
    yield _text("")
    yield _text(verdict(grade), f"bold {style}")
    yield _text(score_line(grade))
    for text in grade.integrity:
        yield _text(f"! For a human to judge: {text}", "bold magenta")
    yield _text("")
    yield _text(f"Next: {next_step(report)}")


def _text(text: str, style: str = "") -> Text:
    # Text and not a plain string: rich would read markup and :emoji: in one
    from rich.text import Text  # noqa: PLC0415  # rich is heavy

    return Text(text, style=style, overflow="fold")
