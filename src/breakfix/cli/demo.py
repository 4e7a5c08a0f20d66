"""Plays one lab by itself, for real: what a candidate and a hiring manager would see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from breakfix.cli.progress import progress
from breakfix.cli.settings import catalog_of, environment_of, variant_of

if TYPE_CHECKING:
    from breakfix.environments import Environment
    from breakfix.model import Grade, Lab, Session

DEFAULT = "linux/disk-full-deleted-log"


def add_to(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(demo)


def demo(
    ctx: typer.Context, lab: Annotated[str, typer.Argument(help="A lab's id, or its last part.")] = DEFAULT
) -> None:
    """Play one lab by itself: graded red, mended by its reference solution, graded green, also after a restart."""
    from breakfix import sessions  # noqa: PLC0415
    from breakfix.cli import briefs, grades  # noqa: PLC0415

    found = catalog_of(ctx).find(lab)
    environment = environment_of(found)
    _say(f"breakfix start {found.name}")
    with progress(f"start {found.name}") as tell:
        started = sessions.start(environment, found, found.seeds[0], tell)
    try:
        session = started.session
        grades.note(session, "start", f"seed {session.seed}")
        typer.echo(f"Proven broken in {started.seconds:.1f} s. This is the brief:\n")
        briefs.print_markdown(briefs.brief(variant_of(found, session)))
        _play(environment, session, found)
    finally:
        _say("breakfix stop")
        environment.stop((started.session.id,))
        typer.echo("Nothing is left of it.")


def _play(environment: Environment, session: Session, lab: Lab) -> None:
    from breakfix.cli import grades  # noqa: PLC0415
    from breakfix.errors import CannotGrade  # noqa: PLC0415

    _say("breakfix grade, before anything was done")
    red = _graded(environment, session, lab, restart=False)
    _say("the reference solution is typed into the host")
    _solve(environment, session, lab)
    _say("breakfix grade, without a restart")
    _graded(environment, session, lab, restart=False)
    _say("breakfix grade: it restarts the host and looks again")
    green = _graded(environment, session, lab, restart=True)
    typer.echo(f"\nThe HTML report is in {_save(green, lab)}")
    if red.earned or not green.passed:
        raise CannotGrade("the demo did not go from 0 to 100", next_step=f"breakfix selftest {lab.name}")
    raise typer.Exit(grades.exit_code(green))


def _solve(environment: Environment, session: Session, lab: Lab) -> None:
    from breakfix import proving, templates  # noqa: PLC0415

    solution = proving.attempts(lab, "solutions")[0]
    for _, script in solution.scripts:
        typer.secho(templates.read(script, variant_of(lab, session)).rstrip(), dim=True)
    proving.perform(environment, session, lab, solution)


def _graded(environment: Environment, session: Session, lab: Lab, *, restart: bool) -> Grade:
    from breakfix.cli import grades  # noqa: PLC0415
    from breakfix.cli.candidate import print_report  # noqa: PLC0415

    with progress("grade") as tell:
        made = grades.make(environment, session, lab, tell, restart=restart)
    # Not kept: the demo's pass is nobody's own.
    grades.note(session, "grade", f"{made.score} of {made.total}")
    print_report(grades.report_of(lab, made, grades.events_of(session.id)))
    return made


def _save(made: Grade, lab: Lab) -> str:
    from breakfix.cli import grades  # noqa: PLC0415
    from breakfix.history import data_folder  # noqa: PLC0415
    from breakfix.reports import render  # noqa: PLC0415

    folder = data_folder() / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{made.session}.html"
    path.write_text(render(grades.report_of(lab, made, grades.events_of(made.session)), "html"), encoding="utf-8")
    return str(path)


def _say(what: str) -> None:
    typer.secho(f"\n━━ {what}", fg="cyan", bold=True)
