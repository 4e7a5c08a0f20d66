"""Draws every skill of the role, and what the grades prove."""

from __future__ import annotations

from typing import TYPE_CHECKING

from breakfix.reports.evidence import one_line
from breakfix.skills import SKILLS, Proof, SkillRecord, group

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree.ElementTree import Element

COLUMNS = 6
TILE, HIGH, GAP, LABEL = 118, 30, 6, 18
NAME_ROOM = 15
"""Characters of a skill's name that fit on its tile."""

_MARKS = {Proof.SHOWN: ("✓", "goodtext"), Proof.PARTLY: ("±", ""), Proof.MISSED: ("✗", "badtext")}


def svg(records: Mapping[str, SkillRecord]) -> str:
    """Return one drawing: shown is green, tried and missed is red, no proof yet is a grey outline."""
    from breakfix.reports.svg import canvas, source  # noqa: PLC0415  # only for those who ask for a drawing

    rows = _rows(_groups(records))
    height = len(rows) * (LABEL + HIGH + GAP)
    drawing = canvas(COLUMNS * (TILE + GAP) - GAP + 2, height, "Map of skills")
    for number, row in enumerate(rows):
        _row(drawing, row, number * (LABEL + HIGH + GAP), records)
    return source(drawing)


def _groups(records: Mapping[str, SkillRecord]) -> list[tuple[str, ...]]:
    """Group our skills, and after them those that only somebody else's lab speaks of."""
    groups: dict[str, list[str]] = {}
    for skill in [*SKILLS, *sorted(set(records) - set(SKILLS))]:
        groups.setdefault(group(skill), []).append(skill)
    return [
        tuple(skills[start : start + COLUMNS]) for skills in groups.values() for start in range(0, len(skills), COLUMNS)
    ]


def _rows(groups: list[tuple[str, ...]]) -> list[list[tuple[str, ...]]]:
    """Put each group into the first row that has room, so that small groups fill what large ones leave."""
    rows: list[list[tuple[str, ...]]] = []
    for skills in groups:
        roomy = next((row for row in rows if sum(map(len, row)) + len(skills) <= COLUMNS), None)
        if roomy is None:
            rows.append([skills])
        else:
            roomy.append(skills)
    return rows


def _row(drawing: Element, row: list[tuple[str, ...]], top: int, records: Mapping[str, SkillRecord]) -> None:
    from breakfix.reports.svg import add  # noqa: PLC0415

    left = 1
    for skills in row:
        add(drawing, "text", "soft", one_line(group(skills[0]), NAME_ROOM), x=left, y=top + 13, font_weight="600")
        for skill in skills:
            _tile(drawing, skill, records.get(skill, SkillRecord()), left, top + LABEL)
            left += TILE + GAP


def _tile(drawing: Element, skill: str, record: SkillRecord, left: int, top: int) -> None:
    from breakfix.reports.svg import add  # noqa: PLC0415

    tile = add(drawing, "g")
    add(tile, "title", "", _tooltip(skill, record))
    _boxes(tile, record, left, top)
    mark, style = _MARKS.get(record.proof, ("", "nonetext"))
    name = one_line(skill.partition(".")[2] or skill, NAME_ROOM + 1)[: NAME_ROOM + 1]
    add(tile, "text", style, name if len(name) <= NAME_ROOM else f"{name[: NAME_ROOM - 1]}…", x=left + 7, y=top + 19)
    add(tile, "text", style, mark, x=left + TILE - 7, y=top + 19, text_anchor="end")


def _boxes(tile: Element, record: SkillRecord, left: int, top: int) -> None:
    """Draw the tile's ground; one that is shown in part is green as far as its checks passed."""
    from breakfix.reports.svg import add  # noqa: PLC0415

    box = {"x": left, "y": top, "height": HIGH, "rx": 5}
    whole = {Proof.SHOWN: "good", Proof.NONE: "none"}.get(record.proof, "bad")
    add(tile, "rect", whole, width=TILE, **box)
    if record.proof is Proof.PARTLY:
        add(tile, "rect", "good", width=TILE * record.passed / record.asked, **box)


def _tooltip(skill: str, record: SkillRecord) -> str:
    counts = f" ({record.passed} of {record.asked} checks)" if record.asked else ""
    return f"{one_line(skill)}: {record.proof.value}{counts}. {SKILLS.get(skill, '')}".strip()
