"""The one record that every renderer reads, and the JSON that a grade travels in.

A grade goes to JSON and back without a change, hostile bytes and all: the history and a submission keep the truth, and
only what is shown to somebody is cleaned (see ``evidence``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from breakfix.errors import UsageError
from breakfix.model import SCHEMA_VERSION, Check, Event, Grade, JsonValue, Level, Look, Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Report:
    """One grade, and what a reader wants to know around it."""

    grade: Grade
    lab_title: str
    level: Level
    minutes: int
    skills: tuple[str, ...]
    events: tuple[Event, ...]
    debrief: str | None
    """The lab's debrief in Markdown, or None where it must not be given away."""
    breakfix_version: str


def to_json_value(report: Report) -> dict[str, JsonValue]:
    """Turn a report into what ``json.dumps`` takes; the keys always come in the same order."""
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "report",
        "breakfix_version": report.breakfix_version,
        "lab": {
            "id": report.grade.lab,
            "title": report.lab_title,
            "level": report.level.value,
            "minutes": report.minutes,
            "skills": list(report.skills),
        },
        "grade": grade_to_json(report.grade),
        "events": [_event(event) for event in report.events],
        "debrief": report.debrief,
    }


def grade_to_json(grade: Grade) -> dict[str, JsonValue]:
    """Turn a grade into a document of its own, with its version and what follows from its results."""
    return {
        "schema_version": SCHEMA_VERSION,
        "lab": grade.lab,
        "title": grade.title,
        "seed": grade.seed,
        "session": grade.session,
        "profile": grade.profile,
        "gradable": grade.gradable,
        "passed": grade.passed,
        "score": grade.score,
        "earned": grade.earned,
        "total": grade.total,
        "hints_taken": grade.hints_taken,
        "hint_cost": grade.hint_cost,
        "started": grade.started.isoformat(),
        "seconds": grade.seconds,
        "engine_seconds": grade.engine_seconds,
        "integrity": list(grade.integrity),
        "results": [_result(result) for result in grade.results],
    }


def grade_from_json(value: JsonValue) -> Grade:
    """Read what ``grade_to_json`` wrote; what follows from the results is worked out again, never believed.

    Raises:
        UsageError: this is no grade, or a newer breakfix wrote it.

    """
    try:
        document = _object(value)
        _expect_version(_take(document, "schema_version", int))
        return _read_grade(document)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = "This is not a grade that breakfix wrote."
        raise UsageError(what, why=f"{type(error).__name__}: {error}", next_step="Grade the session again.") from error


def _event(event: Event) -> JsonValue:
    return {"session": event.session, "at": event.at.isoformat(), "kind": event.kind, "detail": event.detail}


def _result(result: Result) -> JsonValue:
    check = result.check
    return {
        "check": check.name,
        "title": check.title,
        "skill": check.skill,
        "outcome": result.outcome.value,
        "points": check.points,
        "earned": result.points,
        "needs": list(check.needs),
        "stable_for": check.stable_for,
        "look": result.look.value,
        "expected": result.expected,
        "seen": result.seen,
        "at": result.at.isoformat(),
        "seconds": result.seconds,
    }


def _expect_version(version: int) -> None:
    if version > SCHEMA_VERSION:
        what = "A newer breakfix wrote this grade."
        why = f"It has schema {version}, and this breakfix knows schema {SCHEMA_VERSION}."
        raise UsageError(what, why=why, next_step="Type `pip install --upgrade breakfix`.")


def _read_grade(document: Mapping[str, JsonValue]) -> Grade:
    return Grade(
        lab=_take(document, "lab", str),
        title=_take(document, "title", str),
        seed=_take(document, "seed", int),
        session=_take(document, "session", str),
        results=tuple(_read_result(_object(item)) for item in _list(document, "results")),
        started=_time(document, "started"),
        seconds=_number(document, "seconds"),
        engine_seconds=_number(document, "engine_seconds"),
        hints_taken=_take(document, "hints_taken", int),
        hint_cost=_take(document, "hint_cost", int),
        integrity=_texts(document, "integrity"),
        profile=_take(document, "profile", str),
    )


def _read_result(document: Mapping[str, JsonValue]) -> Result:
    return Result(
        check=_read_check(document),
        outcome=Outcome(_take(document, "outcome", str)),
        look=Look(_take(document, "look", str)),
        expected=_take(document, "expected", str),
        seen=_take(document, "seen", str),
        at=_time(document, "at"),
        seconds=_number(document, "seconds"),
    )


def _read_check(document: Mapping[str, JsonValue]) -> Check:
    return Check(
        name=_take(document, "check", str),
        title=_take(document, "title", str),
        points=_take(document, "points", int),
        skill=_take(document, "skill", str),
        needs=_texts(document, "needs"),
        stable_for=_number(document, "stable_for"),
    )


def _take(document: Mapping[str, JsonValue], key: str, kind: type[T]) -> T:
    # bool is an int to Python, and `"points": true` is no number to us
    value = document[key]
    if isinstance(value, bool) or not isinstance(value, kind):
        msg = f"{key} must be {kind.__name__}, not {type(value).__name__}"
        raise TypeError(msg)
    return value


def _number(document: Mapping[str, JsonValue], key: str) -> float:
    value = document[key]
    return float(value) if type(value) is int else _take(document, key, float)


def _time(document: Mapping[str, JsonValue], key: str) -> datetime:
    return datetime.fromisoformat(_take(document, key, str))


def _list(document: Mapping[str, JsonValue], key: str) -> list[JsonValue]:
    value = document[key]
    if not isinstance(value, list):
        msg = f"{key} must be a list, not {type(value).__name__}"
        raise TypeError(msg)
    return value


def _texts(document: Mapping[str, JsonValue], key: str) -> tuple[str, ...]:
    return tuple(_take({key: item}, key, str) for item in _list(document, key))


def _object(value: JsonValue) -> Mapping[str, JsonValue]:
    if not isinstance(value, dict):
        msg = f"an object is expected, not {type(value).__name__}"
        raise TypeError(msg)
    return value
