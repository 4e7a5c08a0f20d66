"""The report as one page that needs no network and no script, to read, to send on and to print."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from breakfix.model import Outcome
from breakfix.reports import markdown, skillmap, summary, timeline
from breakfix.reports.evidence import cleaned
from breakfix.skills import SKILLS, shown_in

if TYPE_CHECKING:
    from jinja2 import Environment

    from breakfix.reports.record import Report

SHOWN_EVENTS = 40
"""Rows of the timeline's table; somebody who looks every second should not fill twenty pages."""


def render(report: Report) -> str:
    """Return the whole page."""
    from markupsafe import Markup  # noqa: PLC0415  # comes with jinja2, which is heavy

    shown = cleaned(report)
    happened = timeline.moments(shown)
    # These three are ours: drawings built as trees, and Markdown that was escaped before it was marked up.
    parts = {
        "timeline": Markup(timeline.svg(shown)),  # noqa: S704
        "skillmap": Markup(skillmap.svg(shown_in([shown.grade]))),  # noqa: S704
        "debrief": Markup(markdown.to_html(shown.debrief or "")),  # noqa: S704
    }
    more = len(happened[SHOWN_EVENTS:])
    events = {"moments": happened[:SHOWN_EVENTS], "more_moments": more, "used": timeline.used(shown)}
    page = templates().get_template("report.html.j2")
    return page.render(report=shown, grade=shown.grade, skills=SKILLS, summary=summary, **parts, **events)


def templates() -> Environment:
    """Return the template engine: everything is escaped, and a name that is missing is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415  # jinja2 is heavy

    loader = FileSystemLoader(Path(__file__).parent / "templates")
    engine = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    engine.filters.update(day=_day, clock=_clock, duration=_duration, plural=summary.plural)
    engine.globals["OUTCOMES"] = tuple(outcome.value for outcome in Outcome)
    return engine


def _day(at: datetime) -> str:
    return f"{at.astimezone(UTC):%d %B %Y, %H:%M} UTC".removeprefix("0")


def _clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%H:%M:%S} UTC"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{round(seconds, 1):g} s"
