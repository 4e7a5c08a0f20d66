"""Makes grades, keeps them, and says what a script is told by the exit code."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from breakfix import __version__
from breakfix.errors import NotReady
from breakfix.grading.runner import grade
from breakfix.history import History
from breakfix.model import Event
from breakfix.reports.record import Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from breakfix.environments import Environment
    from breakfix.model import Grade, Lab, Session

PASSED, FAILED, NOT_GRADED = 0, 1, 4


def note(session: Session, kind: str, detail: str = "") -> None:
    """Write an event into the history.  A history that can't be written never stops a session."""
    try:
        with History() as history:
            history.record(Event(session.id, datetime.now(UTC), kind, detail))
    except NotReady as error:
        typer.secho(f"breakfix: the history could not be written: {error.what}", err=True, fg="yellow")


def make(
    environment: Environment, session: Session, lab: Lab, tell: Callable[[str], None], *, restart: bool = True
) -> Grade:
    """Grade a session, less what its hints cost."""
    taken = hints_taken(session)
    cost = sum(hint.cost for hint in lab.hints[:taken])
    return grade(environment, session, lab, tell, restart=restart, hints=(taken, cost))


def keep(made: Grade, lab: Lab) -> None:
    """Write a grade into the history; say so where that fails, for the grade itself is not lost by it."""
    try:
        with History() as history:
            history.record_grade(made, lab.skills)
    except NotReady as error:
        typer.secho(f"breakfix: the grade could not be kept: {error.what}", err=True, fg="yellow")


def note_changes(environment: Environment, session: Session) -> None:
    """Take into the history what the candidate changed in a cluster since the last time."""
    from breakfix.environments import ClusterEnvironment  # noqa: PLC0415

    if not isinstance(environment, ClusterEnvironment):
        return
    # A log that can't be read costs no grade.
    with suppress(NotReady), History() as history:
        known = [event.at for event in history.events(session.id) if event.kind == "change"]
        for event in environment.changes(session, max(known, default=None)):
            history.record(event)


def hints_taken(session: Session) -> int:
    """Return how many hints were taken in this session."""
    with suppress(NotReady), History() as history:
        return history.hints_taken(session.id)
    return 0


def events_of(session_id: str) -> tuple[Event, ...]:
    """Return the timeline of a session."""
    with suppress(NotReady), History() as history:
        return history.events(session_id)
    return ()


def report_of(lab: Lab, made: Grade, events: tuple[Event, ...]) -> Report:
    """Return the record that every renderer takes.  The debrief is in it once it was earned or asked for."""
    earned = made.passed or any(event.kind == "debrief" for event in events)
    return Report(
        grade=made,
        lab_title=lab.title,
        level=lab.level,
        minutes=lab.minutes,
        skills=lab.skills,
        events=events,
        debrief=_debrief(lab, made) if earned else None,
        breakfix_version=__version__,
    )


def _debrief(lab: Lab, made: Grade) -> str | None:
    from breakfix.cli.briefs import debrief  # noqa: PLC0415
    from breakfix.errors import UsageError  # noqa: PLC0415
    from breakfix.model import Host  # noqa: PLC0415
    from breakfix.variants import draw  # noqa: PLC0415

    # The hosts may be gone by now, and a debrief speaks of them by name.
    hosts = {host.name: Host(host.name, host.name) for host in lab.hosts}
    with suppress(UsageError):
        return debrief(draw(lab, made.seed, hosts))
    return None


def exit_code(made: Grade) -> int:
    """Return what a script is told."""
    if not made.gradable:
        return NOT_GRADED
    return PASSED if made.passed else FAILED
