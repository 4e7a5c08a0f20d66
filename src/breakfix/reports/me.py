"""One person's skills over all tracks: a page to keep, and a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from breakfix.reports import skillmap
from breakfix.reports.evidence import one_line
from breakfix.reports.html import templates
from breakfix.reports.summary import plural
from breakfix.reports.text import plain
from breakfix.skills import SKILLS, Proof, SkillRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from rich.console import RenderableType

_STYLES = {Proof.SHOWN: "green", Proof.PARTLY: "yellow", Proof.MISSED: "red", Proof.NONE: "dim"}


def render(records: Mapping[str, SkillRecord], passed_labs: Collection[str] = ()) -> str:
    """Return the page for ``History.skills_shown()`` and ``History.passed_labs()``."""
    from markupsafe import Markup  # noqa: PLC0415  # comes with jinja2, which is heavy

    page = templates().get_template("me.html.j2")
    return page.render(
        rows=_rows(records),
        line=_line(records, passed_labs),
        skillmap=Markup(skillmap.svg(records)),  # noqa: S704  # built as a tree, every text escaped
        labs=sorted(one_line(lab) for lab in passed_labs),
    )


def render_text(records: Mapping[str, SkillRecord], passed_labs: Collection[str] = ()) -> str:
    """Return the table as plain text."""
    return plain(renderable(records, passed_labs))


def renderable(records: Mapping[str, SkillRecord], passed_labs: Collection[str] = ()) -> RenderableType:
    """Return what a rich console prints: every skill with its proof, and what to do next."""
    from rich.console import Group  # noqa: PLC0415  # rich is heavy
    from rich.text import Text  # noqa: PLC0415

    return Group(_table(records), Text(""), Text(_line(records, passed_labs)), Text(_next_step(records)))


def _table(records: Mapping[str, SkillRecord]) -> RenderableType:
    from rich.table import Table  # noqa: PLC0415  # rich is heavy
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("skill", "proof", "checks", "labs"):
        table.add_column(heading, overflow="fold")
    for skill, _, record in _rows(records):
        style = _STYLES[record.proof]
        row = (skill, record.proof.value, _checks(record), ", ".join(record.labs))
        table.add_row(*(Text(cell, style=style) for cell in row))
    return table


def _rows(records: Mapping[str, SkillRecord]) -> list[tuple[str, str, SkillRecord]]:
    """Return our skills in their order, and after them those that only somebody else's lab speaks of."""
    skills = [*SKILLS, *sorted(set(records) - set(SKILLS))]
    return [(one_line(skill), SKILLS.get(skill, ""), _shown(records.get(skill, SkillRecord()))) for skill in skills]


def _shown(record: SkillRecord) -> SkillRecord:
    return SkillRecord(record.passed, record.failed, tuple(one_line(lab) for lab in record.labs))


def _checks(record: SkillRecord) -> str:
    return f"{record.passed}/{record.asked}" if record.asked else ""


def _line(records: Mapping[str, SkillRecord], passed_labs: Collection[str]) -> str:
    shown = sum(records.get(skill, SkillRecord()).proof is Proof.SHOWN for skill in SKILLS)
    return f"{shown} of {len(SKILLS)} skills shown, {plural(len(passed_labs), 'lab')} passed."


def _next_step(records: Mapping[str, SkillRecord]) -> str:
    missed = [skill for skill, record in records.items() if record.failed]
    if missed:
        return f"Next: `breakfix list` shows labs for what was missed: {', '.join(map(one_line, sorted(missed)))}."
    return "Next: `breakfix list` shows labs for what has no proof yet."
