"""Makes what came from a candidate's machine safe to show.

Text from there is hostile: it may try to drive a terminal, to hide something, or to flood a page.  Every renderer first
cleans its report here, and then escapes for its own format.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from breakfix.model import Check, Event, Grade, Result
    from breakfix.reports.record import Report

LIMIT = 2000
"""Characters of one field that are shown; the rest is counted."""

_PICTURES = 0x2400
"""Where Unicode keeps a visible picture of each control character."""


def clean(text: str, limit: int = LIMIT) -> str:
    r"""Cut text to the limit and make everything in it visible; lines and tabs stay.

    >>> clean("\x1b[31mred")
    '␛[31mred'
    """
    text = text.replace("\r\n", "\n")
    shown = "".join(_visible(character) for character in text[:limit])
    return shown + _rest(len(text) - limit)


def one_line(text: str, limit: int = LIMIT) -> str:
    """Clean text for a place that has room for one line."""
    return " ".join(clean(text, limit).split())


def cleaned(report: Report) -> Report:
    """Return the report with every text in it cleaned.  Ask once: a second time would cut the cut mark."""
    debrief = report.debrief
    return replace(
        report,
        grade=_grade(report.grade),
        lab_title=one_line(report.lab_title),
        skills=tuple(one_line(skill) for skill in report.skills),
        events=tuple(_event(event) for event in report.events),
        debrief=None if debrief is None else clean(debrief, len(debrief)),
        breakfix_version=one_line(report.breakfix_version),
    )


def _visible(character: str) -> str:
    if character in "\n\t" or character.isprintable():
        return character
    if character < " ":
        return chr(_PICTURES + ord(character))
    if character == "\x7f":
        return "␡"
    # other spaces are harmless; what is left is invisible, turns the writing direction, or is no character at all
    return " " if character.isspace() else "\ufffd"


def _rest(count: int) -> str:
    if count <= 0:
        return ""
    return f"… ({count} more character{'s' if count > 1 else ''})"


def _grade(grade: Grade) -> Grade:
    return replace(
        grade,
        lab=one_line(grade.lab),
        title=one_line(grade.title),
        session=one_line(grade.session),
        results=tuple(_result(result) for result in grade.results),
        integrity=tuple(one_line(text) for text in grade.integrity),
        profile=one_line(grade.profile),
    )


def _result(result: Result) -> Result:
    return replace(result, check=_check(result.check), expected=clean(result.expected), seen=clean(result.seen))


def _check(check: Check) -> Check:
    needs = tuple(one_line(name) for name in check.needs)
    name, title, skill = one_line(check.name), one_line(check.title), one_line(check.skill)
    return replace(check, name=name, title=title, skill=skill, needs=needs)


def _event(event: Event) -> Event:
    session, kind, detail = one_line(event.session), one_line(event.kind), one_line(event.detail)
    return replace(event, session=session, kind=kind, detail=detail)
