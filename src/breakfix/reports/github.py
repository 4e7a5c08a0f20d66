"""The report as annotations of GitHub Actions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from breakfix.model import Outcome
from breakfix.reports.evidence import cleaned
from breakfix.reports.summary import NOT_YOURS, score_line, verdict, waiting

if TYPE_CHECKING:
    from breakfix.model import Grade, Result
    from breakfix.reports.record import Report


def render(report: Report) -> str:
    """Return one annotation for each check that did not pass, and one notice that sums up."""
    grade = cleaned(report).grade
    missed = [_annotation(result, grade) for result in grade.results if result.outcome is not Outcome.PASSED]
    tampering = [_command("warning", "For a human to judge", text) for text in grade.integrity]
    notice = _command("notice", f"breakfix {grade.lab}", f"{verdict(grade)}\n{score_line(grade)}")
    return "\n".join([*missed, *tampering, notice, ""])


def _annotation(result: Result, grade: Grade) -> str:
    title = result.check.title
    if result.outcome is Outcome.FAILED:
        return _command("error", title, _evidence(result))
    if result.outcome is Outcome.ERROR:
        return _command("warning", f"Could not look: {title}", f"{NOT_YOURS}\n{_evidence(result)}")
    return _command("warning", f"Skipped: {title}", waiting(result, grade))


def _evidence(result: Result) -> str:
    return f"expected: {result.expected}\nseen: {result.seen}"


def _command(level: str, title: str, message: str) -> str:
    return f"::{level} title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    # percent first, or what follows would be escaped twice
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
