"""The report as JUnit XML, for CI.  A failure, an error and a skipped check are three different elements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from breakfix.model import Outcome
from breakfix.reports.evidence import cleaned
from breakfix.reports.summary import NOT_YOURS, verdict, waiting

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from breakfix.model import Grade, Result
    from breakfix.reports.record import Report


def render(report: Report) -> str:
    """Return one test suite with one test case for each check."""
    from xml.etree import ElementTree as ET  # noqa: PLC0415  # only for those who ask for XML

    grade = cleaned(report).grade
    root = ET.Element("testsuites")
    suite = ET.SubElement(root, "testsuite", _counts(grade))
    _properties(suite, _facts(grade))
    for result in grade.results:
        _case(suite, result, grade)
    if not grade.results:
        _nothing(suite, grade)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _counts(grade: Grade) -> dict[str, str]:
    return {
        "name": grade.lab,
        "tests": str(max(1, len(grade.results))),
        "failures": str(len(grade.of(Outcome.FAILED))),
        "errors": str(len(grade.of(Outcome.ERROR)) if grade.results else 1),
        "skipped": str(len(grade.of(Outcome.SKIPPED))),
        "time": f"{grade.seconds:.3f}",
        "timestamp": grade.started.isoformat(),
    }


def _facts(grade: Grade) -> list[tuple[str, str]]:
    return [
        ("title", grade.title),
        ("verdict", verdict(grade)),
        ("gradable", str(grade.gradable).lower()),
        ("score", str(grade.score)),
        ("earned", str(grade.earned)),
        ("total", str(grade.total)),
        ("hints_taken", str(grade.hints_taken)),
        ("hint_cost", str(grade.hint_cost)),
        ("seed", str(grade.seed)),
        ("session", grade.session),
        *(("integrity", text) for text in grade.integrity),
    ]


def _case(suite: Element, result: Result, grade: Grade) -> None:
    case = _element(suite, "testcase", name=result.check.name, classname=grade.lab, time=f"{result.seconds:.3f}")
    _properties(case, _about(result))
    if result.outcome is Outcome.FAILED:
        _element(case, "failure", message=result.check.title, type="failed").text = _evidence(result)
    elif result.outcome is Outcome.ERROR:
        _element(case, "error", message=f"Could not look. {NOT_YOURS}", type="error").text = _evidence(result)
    elif result.outcome is Outcome.SKIPPED:
        _element(case, "skipped", message=waiting(result, grade))


def _about(result: Result) -> list[tuple[str, str]]:
    check = result.check
    return [
        ("title", check.title),
        ("skill", check.skill),
        ("points", str(check.points)),
        ("earned", str(result.points)),
        ("look", result.look.value),
        ("at", result.at.isoformat()),
    ]


def _nothing(suite: Element, grade: Grade) -> None:
    # an empty suite is green to most tools, and a grade without a check must never be
    case = _element(suite, "testcase", name="grade", classname=grade.lab, time="0.000")
    _element(case, "error", message=verdict(grade), type="error")


def _properties(parent: Element, pairs: list[tuple[str, str]]) -> None:
    properties = _element(parent, "properties")
    for name, value in pairs:
        _element(properties, "property", name=name, value=value)


def _element(parent: Element, tag: str, **attributes: str) -> Element:
    from xml.etree import ElementTree as ET  # noqa: PLC0415  # only for those who ask for XML

    return ET.SubElement(parent, tag, attributes)


def _evidence(result: Result) -> str:
    return f"expected: {result.expected}\nseen: {result.seen}"
