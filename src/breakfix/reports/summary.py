"""What a grade comes to in words, the same in every format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from breakfix.model import Grade, Outcome, Result

if TYPE_CHECKING:
    from breakfix.reports.record import Report

NOT_YOURS = "That never counts against the candidate."


def plural(count: int, word: str) -> str:
    """Join a count and its word.

    >>> plural(1, "hint"), plural(2, "hint")
    ('1 hint', '2 hints')
    """
    return f"{count} {word}{'' if count == 1 else 's'}"


def verdict(grade: Grade) -> str:
    """Say in one sentence whether the lab was passed."""
    checks = plural(len(grade.results), "check")
    if not grade.results:
        return "Not graded: no check was made."
    if not grade.gradable:
        return f"Not graded: we could not look at {len(grade.of(Outcome.ERROR))} of {checks}. {NOT_YOURS}"
    if grade.passed:
        return f"Passed: {len(grade.results)} of {checks}."
    return f"Not passed: {len(grade.of(Outcome.PASSED))} of {checks} passed."


def score_line(grade: Grade) -> str:
    """Say how the score comes about."""
    if not grade.gradable:
        return "No score: a grade with a check that could not be made does not count."
    score = f"Score {grade.score} of {grade.total}"
    if not grade.hints_taken and not grade.hint_cost:
        return f"{score}, no hints taken."
    return f"{score}: {grade.earned} earned, {grade.hint_cost} paid for {plural(grade.hints_taken, 'hint')}."


def percent(grade: Grade) -> int:
    """Return the score in whole percent, rounded down, so that 100 means everything."""
    return 100 * grade.score // grade.total if grade.total else 0


def next_step(report: Report) -> str:
    """Say what to type next."""
    grade = report.grade
    if not grade.gradable:
        return "`breakfix grade` looks again."
    if not grade.passed:
        return "`breakfix hint` gives a nudge; `breakfix grade` looks again."
    if report.debrief is None:
        return "`breakfix debrief` tells the story behind it."
    return "`breakfix stop` ends the session."


def waits_for(result: Result, grade: Grade) -> tuple[str, ...]:
    """Return the titles of the checks that a skipped check needs and that did not pass."""
    # the same look comes last, so that it wins where a check was asked before and after a restart
    by_look = sorted(grade.results, key=lambda other: other.look is result.look)
    others = {other.check.name: other for other in by_look}
    missing = [name for name in result.check.needs if _did_not_pass(others.get(name))]
    return tuple(others[name].check.title if name in others else name for name in missing)


def waiting(result: Result, grade: Grade) -> str:
    """Say why a check was not asked."""
    titles = waits_for(result, grade)
    if not titles:
        return "Not asked: a check that it needs did not pass."
    return f"Not asked: it needs {' and '.join(f'“{title}”' for title in titles)}."


def _did_not_pass(result: Result | None) -> bool:
    return result is None or result.outcome is not Outcome.PASSED
