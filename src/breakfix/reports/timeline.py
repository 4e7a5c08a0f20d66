"""Draws a session over time: when it started, which hints were taken, when somebody looked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from breakfix.model import Event

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from breakfix.reports.record import Report

WIDTH, HEIGHT = 740, 132
LEFT, RIGHT = 62, 712
LANES = {"session": 26, "hints": 58, "grades": 90}
TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 360, 720, 1440, 2880, 10080)
"""Minutes between two marks of the scale."""
MARKS = 8
EDGE = 60
HOUR, DAY = 60, 1440


@dataclass(frozen=True, slots=True)
class Moment:
    """One event, and how long after the start it happened."""

    event: Event
    after: timedelta

    @property
    def clock(self) -> str:
        """The time since the start as minutes and seconds, with hours where there are any."""
        minutes, seconds = divmod(int(self.after.total_seconds()), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def moments(report: Report) -> tuple[Moment, ...]:
    """Return everything that happened, oldest first; the grade itself is there even if nobody recorded it."""
    events = list(report.events)
    if not any(event.kind == "grade" for event in events):
        events.append(Event(report.grade.session, report.grade.started, "grade", "this report"))
    events.sort(key=lambda event: _utc(event.at))
    return tuple(Moment(event, _utc(event.at) - _utc(events[0].at)) for event in events)


def svg(report: Report) -> str:
    """Return the drawing."""
    from breakfix.reports.svg import canvas, source  # noqa: PLC0415  # only for those who ask for a drawing

    happened = moments(report)
    minutes = max(happened[-1].after.total_seconds() / 60, float(report.minutes), 1.0)
    drawing = canvas(WIDTH, HEIGHT, "Timeline of the session")
    _lanes(drawing)
    _scale(drawing, minutes)
    _budget(drawing, report.minutes, minutes)
    for moment in happened:
        _mark(drawing, moment, minutes)
    return source(drawing)


def used(report: Report) -> str | None:
    """Say how long the candidate had been at it when this grade was made, or None where no start was recorded."""
    starts = [event for event in report.events if event.kind == "start"]
    if not starts:
        return None
    return Moment(starts[-1], max(timedelta(), _utc(report.grade.started) - _utc(starts[-1].at))).clock


def _lanes(drawing: Element) -> None:
    from breakfix.reports.svg import add  # noqa: PLC0415

    for name, y in LANES.items():
        add(drawing, "text", "soft", name, x=0, y=y + 4)
        add(drawing, "line", "line", x1=LEFT, x2=RIGHT, y1=y, y2=y)


def _scale(drawing: Element, minutes: float) -> None:
    from breakfix.reports.svg import add  # noqa: PLC0415

    for minute in range(0, int(minutes) + 1, _step(minutes)):
        x = _x(minute, minutes)
        add(drawing, "line", "line", x1=x, x2=x, y1=104, y2=109)
        add(drawing, "text", "soft", _duration(minute), x=x, y=124, text_anchor="middle", font_size="11")


def _step(minutes: float) -> int:
    """Choose the smallest round step that keeps the scale readable."""
    weeks = TICKS[-1] * (1 + int(minutes / TICKS[-1] / MARKS))
    return next((tick for tick in TICKS if minutes / tick <= MARKS), weeks)


def _budget(drawing: Element, budget: int, minutes: float) -> None:
    from breakfix.reports.svg import add  # noqa: PLC0415

    x = _x(budget, minutes)
    add(drawing, "line", "budget", x1=x, x2=x, y1=14, y2=104)
    add(drawing, "text", "soft", "budget", y=12, font_size="11", **_beside(x, 5))


def _mark(drawing: Element, moment: Moment, minutes: float) -> None:
    from breakfix.reports.svg import add  # noqa: PLC0415

    kind = moment.event.kind
    lane, style = {"hint": ("hints", "hint"), "grade": ("grades", "grade")}.get(kind, ("session", "other"))
    x = _x(moment.after.total_seconds() / 60, minutes)
    # Changes in a cluster may be many, and close together.
    dot = add(drawing, "circle", style, cx=x, cy=LANES[lane], r=2 if kind == "change" else 5)
    add(dot, "title", "", f"{moment.clock} {kind}: {moment.event.detail}")
    if lane == "session" and kind != "change":
        add(drawing, "text", "", kind[:10], y=LANES[lane] - 8, font_size="11", **_beside(x, -5))


def _x(minute: float, minutes: float) -> float:
    return LEFT + (RIGHT - LEFT) * minute / minutes


def _beside(x: float, gap: float) -> dict[str, float | str]:
    """Place a word right of a point, or left of one that is near the edge."""
    return {"x": x - gap, "text_anchor": "end"} if x > RIGHT - EDGE else {"x": x + gap}


def _duration(minutes: int) -> str:
    if minutes % HOUR or minutes < 2 * HOUR:
        return f"{minutes} min"
    return f"{minutes // HOUR} h" if minutes < 2 * DAY else f"{minutes // DAY} d"


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC)
