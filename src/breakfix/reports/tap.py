"""The report as TAP 14.

Neither a skipped check nor an error carries a directive: tools count ``# SKIP`` and ``# TODO`` as passed.  Both are
``not ok``, and the diagnostics say which outcome it was.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from breakfix.model import Outcome
from breakfix.reports.evidence import cleaned
from breakfix.reports.summary import NOT_YOURS, score_line, verdict, waiting

if TYPE_CHECKING:
    from breakfix.model import Grade, Result
    from breakfix.reports.record import Report


def render(report: Report) -> str:
    """Return one test point with diagnostics for each check."""
    grade = cleaned(report).grade
    return "\n".join(["TAP version 14", *_body(grade), ""])


def _body(grade: Grade) -> list[str]:
    if not grade.results:
        # the plan `1..0` would be a success to most tools
        return [f"Bail out! {_escaped(verdict(grade))}"]
    points = [line for number, result in enumerate(grade.results, 1) for line in _point(number, result, grade)]
    comments = [verdict(grade), score_line(grade), *(f"For a human to judge: {text}" for text in grade.integrity)]
    return [f"1..{len(grade.results)}", *points, *(f"# {comment}" for comment in comments)]


def _point(number: int, result: Result, grade: Grade) -> list[str]:
    ok = "ok" if result.outcome is Outcome.PASSED else "not ok"
    diagnostics = [f"  {key}: {value}" for key, value in _diagnostics(result, grade).items()]
    return [f"{ok} {number} - {_escaped(result.check.title)}", "  ---", *diagnostics, "  ..."]


def _diagnostics(result: Result, grade: Grade) -> dict[str, str]:
    check = result.check
    fields = {
        "outcome": result.outcome.value,
        "check": check.name,
        "skill": check.skill,
        "points": f"{result.points}/{check.points}",
        "look": result.look.value,
        **_reason(result, grade),
    }
    return {key: _yaml(value) for key, value in fields.items()}


def _reason(result: Result, grade: Grade) -> dict[str, str]:
    if result.outcome is Outcome.SKIPPED:
        return {"message": waiting(result, grade)}
    if result.outcome is Outcome.ERROR:
        return {"message": f"Could not look. {NOT_YOURS}", "expected": result.expected, "seen": result.seen}
    if result.outcome is Outcome.FAILED:
        return {"expected": result.expected, "seen": result.seen}
    return {}


def _yaml(text: str) -> str:
    # a JSON string is a YAML string, and stays on its line
    return json.dumps(text, ensure_ascii=False)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("#", "\\#")
