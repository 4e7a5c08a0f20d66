"""What a candidate types: start, shell, grade, watch, hint, debrief, reset, stop."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from breakfix.cli.output import Form, Output, ReportForm, ReportOutput, print_json
from breakfix.cli.progress import progress
from breakfix.cli.settings import catalog_of, environment_of, session_and_lab, variant_of
from breakfix.errors import NotReady, UsageError

if TYPE_CHECKING:
    from breakfix.environments import Environment
    from breakfix.model import Grade, JsonValue, Lab, Session
    from breakfix.reports.record import Report

WhichSession = Annotated[
    str | None, typer.Argument(metavar="[SESSION]", help="A session's id or its lab; not needed where one runs.")
]
WATCH_PULSE = 2.0


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (start, shell, grade, watch, hint, debrief, reset, stop):
        app.command()(command)


def start(
    ctx: typer.Context,
    lab: Annotated[str, typer.Argument(help="A lab's id, or its last part.")],
    seed: Annotated[int | None, typer.Option(help="Which variant; the lab's first seed where left out.")] = None,
    context: Annotated[
        str,
        typer.Option(
            help="A context of your kubeconfig: run in namespaces of that cluster. k3d-breakfix: one that k3d makes.",
            metavar="NAME",
        ),
    ] = "",
    enter: Annotated[bool, typer.Option("--shell/--no-shell", help="Enter a shell where this is a terminal.")] = True,  # noqa: FBT002
    output: Output = Form.TEXT,
) -> None:
    """Start a lab: prove that it is broken, show the brief, and open a shell."""
    from breakfix import sessions  # noqa: PLC0415
    from breakfix.cli.grades import note  # noqa: PLC0415

    found = catalog_of(ctx).find(lab)
    environment = environment_of(found, context)
    with progress(f"start {found.name}") as tell:
        started = sessions.start(environment, found, found.seeds[0] if seed is None else seed, tell)
    session = started.session
    note(session, "start", f"seed {session.seed}")
    if output is Form.JSON:
        _print_started(session, started.seconds)
        return
    _print_brief(found, session)
    typer.secho(f"{session.id} is ready, proven broken in {started.seconds:.1f} s.", fg="green")
    if enter and sys.stdin.isatty() and sys.stdout.isatty():
        typer.echo("This is a root shell on the host; `exit` leaves it, and `breakfix grade` looks at your work.")
        environment.attach(session, next(iter(session.hosts)))
        typer.echo(f"The session goes on. → breakfix grade {session.id}")
    else:
        typer.echo(f"→ breakfix shell {session.id}, then breakfix grade {session.id}")


def _print_started(session: Session, seconds: float) -> None:
    content: JsonValue = {
        "id": session.id,
        "lab": session.lab,
        "seed": session.seed,
        "seconds": round(seconds, 3),
        "hosts": {host.name: host.address for host in session.hosts.values()},
    }
    print_json("session", content)


def _print_brief(lab: Lab, session: Session) -> None:
    from breakfix.cli.briefs import brief, print_markdown  # noqa: PLC0415

    print_markdown(brief(variant_of(lab, session)))
    typer.echo("")


def shell(
    ctx: typer.Context,
    wanted: WhichSession = None,
    host: Annotated[str | None, typer.Option(help="Which host; the first where left out.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Print how to use a cluster from here, instead.")] = False,  # noqa: FBT002
) -> None:
    """Open a root shell on a host of a session."""
    from breakfix.environments import host_of  # noqa: PLC0415

    environment, session, _ = session_and_lab(ctx, wanted)
    if local:
        _print_local(environment, session)
        return
    place = next(iter(session.hosts)) if host is None else host_of(session, host)
    if not sys.stdin.isatty():
        raise UsageError("a shell needs a terminal", next_step=f"Type breakfix shell {session.id} in one.")
    raise typer.Exit(environment.attach(session, place))


def _print_local(environment: Environment, session: Session) -> None:
    from breakfix.environments import ClusterEnvironment  # noqa: PLC0415

    if not isinstance(environment, ClusterEnvironment):
        raise UsageError(f"{session.id} has no cluster", next_step=f"breakfix shell {session.id}")
    # To be evaluated by a shell: nothing else goes to standard output.
    typer.echo(f"export KUBECONFIG={environment.local_access(session)}")


def grade(
    ctx: typer.Context,
    wanted: WhichSession = None,
    save: Annotated[Path | None, typer.Option(help="Write the report to this file.")] = None,
    output: ReportOutput = ReportForm.TEXT,
) -> None:
    """Look at the session's state and judge it, with evidence."""
    from breakfix.cli import grades  # noqa: PLC0415
    from breakfix.reports import render  # noqa: PLC0415

    environment, session, lab = session_and_lab(ctx, wanted)
    with progress(f"grade {session.id}") as tell:
        made = grades.make(environment, session, lab, tell)
        grades.note_changes(environment, session)
    grades.keep(made, lab)
    grades.note(session, "grade", f"{made.score} of {made.total}" if made.gradable else "could not be graded")
    report = grades.report_of(lab, made, grades.events_of(session.id))
    if save:
        save.write_text(render(report, output.value), encoding="utf-8")
        typer.echo(f"The report is in {save}")
    elif output is ReportForm.TEXT:
        print_report(report)
    else:
        typer.echo(render(report, output.value).rstrip("\n"))
    raise typer.Exit(grades.exit_code(made))


def print_report(report: Report) -> None:
    """Print a report: in colour on a terminal, as plain text elsewhere."""
    from breakfix.reports import text  # noqa: PLC0415

    if not sys.stdout.isatty():
        typer.echo(text.render(report).rstrip("\n"))
        return
    from rich.console import Console  # noqa: PLC0415

    Console().print(text.renderable(report))


def watch(ctx: typer.Context, wanted: WhichSession = None) -> None:
    """Grade again and again on one live screen while I work, without restarting anything.  Ctrl-C ends it."""
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    from breakfix.cli import grades  # noqa: PLC0415

    environment, session, lab = session_and_lab(ctx, wanted)
    with Live(console=Console(), screen=sys.stdout.isatty(), auto_refresh=False) as live:
        try:
            made = _watch(environment, session, lab, live)
        except KeyboardInterrupt:
            raise typer.Exit(grades.FAILED) from None
    typer.echo(f"Everything holds. → breakfix grade {session.id} makes it count.")
    raise typer.Exit(grades.exit_code(made))


def _watch(environment: Environment, session: Session, lab: Lab, live: object) -> Grade:
    from rich.live import Live  # noqa: PLC0415

    from breakfix.cli import grades  # noqa: PLC0415
    from breakfix.reports import text  # noqa: PLC0415

    assert isinstance(live, Live)  # noqa: S101
    while True:
        made = grades.make(environment, session, lab, lambda _: None, restart=False)
        live.update(text.renderable(grades.report_of(lab, made, ())), refresh=True)
        if made.passed:
            return made
        time.sleep(WATCH_PULSE)


def hint(
    ctx: typer.Context,
    wanted: WhichSession = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Pay without being asked.")] = False,  # noqa: FBT002
) -> None:
    """Take the next hint, and pay its price in points."""
    from breakfix.cli import grades  # noqa: PLC0415

    _, session, lab = session_and_lab(ctx, wanted)
    taken = grades.hints_taken(session)
    for number, old in enumerate(lab.hints[:taken], start=1):
        typer.echo(f"{number}. {old.text} (paid: {old.cost})")
    if taken >= len(lab.hints):
        typer.echo("There are no more hints. → breakfix debrief --give-up tells everything.")
        return
    new = lab.hints[taken]
    question = f"Hint {taken + 1} of {len(lab.hints)} costs {new.cost} of 100 points. Take it?"
    if not yes and not (sys.stdin.isatty() and typer.confirm(question)):
        typer.echo(f"{question} → breakfix hint --yes")
        return
    grades.note(session, "hint", f"hint {taken + 1}, {new.cost} points")
    typer.echo(f"{taken + 1}. {new.text}")


def debrief(
    ctx: typer.Context,
    wanted: WhichSession = None,
    give_up: Annotated[bool, typer.Option("--give-up", help="Read it without having passed.")] = False,  # noqa: FBT002
) -> None:
    """Tell the story behind the lab, once it was passed or given up."""
    from breakfix.cli import briefs, grades  # noqa: PLC0415
    from breakfix.history import History  # noqa: PLC0415

    _, session, lab = session_and_lab(ctx, wanted)
    try:
        with History() as history:
            latest = history.latest_grade(session.id)
    except NotReady:
        latest = None
    if not give_up and not (latest and latest.passed):
        raise UsageError(
            "the debrief comes after a pass", next_step=f"breakfix grade {session.id}, or breakfix debrief --give-up"
        )
    grades.note(session, "debrief", "given up" if give_up else "earned")
    briefs.print_markdown(briefs.debrief(variant_of(lab, session)))


def reset(ctx: typer.Context, wanted: WhichSession = None) -> None:
    """Bring the start state back: the same lab and variant, made anew."""
    from breakfix import environments, sessions  # noqa: PLC0415
    from breakfix.cli.grades import note  # noqa: PLC0415

    found = sessions.find(sessions.mine(), wanted)
    lab = catalog_of(ctx).find(found.lab)
    # Where it was begun: the lab itself may name another.
    environment = environments.load(found.environment)
    with progress(f"reset {found.id}") as tell:
        again = sessions.reset(environment, found, lab, tell)
    note(found, "reset")
    typer.secho(f"{found.id} is as it was at the start ({again.seconds:.1f} s).", fg="green")


def stop(
    wanted: WhichSession = None,
    every: Annotated[bool, typer.Option("--all", help="All my sessions.")] = False,  # noqa: FBT002
) -> None:
    """End a session and remove everything of it, also of one that a crash left behind."""
    from breakfix import environments, sessions  # noqa: PLC0415
    from breakfix.cli.grades import note  # noqa: PLC0415

    mine = sessions.mine()
    found = mine if every else (sessions.find(mine, wanted),)
    if not found:
        typer.echo("No session runs.")
        return
    with progress("stop") as tell:
        tell(", ".join(one.id for one in found))
        for name in {one.environment for one in found}:
            environments.load(name).stop(tuple(one.id for one in found if one.environment == name))
    for one in found:
        note(one, "stop")
        typer.echo(f"{one.id} is gone.")
