"""Commands that only look: list, show, sessions, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from breakfix.cli.output import Form, Output, ReportForm, ReportOutput, print_json, print_table
from breakfix.cli.settings import catalog_of

if TYPE_CHECKING:
    from breakfix.history import History
    from breakfix.model import JsonValue, Lab, Session


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("list")(list_labs)
    app.command()(show)
    app.command()(sessions)
    app.command()(report)


def list_labs(
    ctx: typer.Context,
    track: Annotated[str | None, typer.Option(help="Only this track.")] = None,
    skill: Annotated[str | None, typer.Option(help="Only this skill, or group of skills.")] = None,
    level: Annotated[str | None, typer.Option(help="junior, mid, senior or staff.")] = None,
    output: Output = Form.TEXT,
) -> None:
    """List the labs, and which of them I have passed."""
    catalog = catalog_of(ctx)
    scores = _scores()
    labs = [lab for lab in catalog.labs.values() if _wanted(lab, track, skill, level)]
    if output is Form.JSON:
        print_json("labs", [_described(lab, scores) for lab in labs])
        return
    rows = [(lab.id, lab.level, f"{lab.minutes} min", _standing(scores.get(lab.id)), lab.title) for lab in labs]
    print_table(("LAB", "LEVEL", "TIME", "BEST", "TITLE"), rows)
    if catalog.problems:
        typer.secho(
            f"{len(catalog.problems)} problems in labs that are not shown: breakfix lint", err=True, fg="yellow"
        )


def _wanted(lab: Lab, track: str | None, skill: str | None, level: str | None) -> bool:
    in_skill = skill is None or any(one == skill or one.startswith(f"{skill}.") for one in lab.skills)
    return track in (None, lab.track) and level in (None, lab.level) and in_skill


def _scores() -> dict[str, int]:
    from breakfix.errors import NotReady  # noqa: PLC0415
    from breakfix.history import History  # noqa: PLC0415

    try:
        with History() as history:
            return dict(history.best_scores())
    except NotReady:
        # The list is worth having without one's own scores.
        return {}


def _standing(score: int | None) -> str:
    return "-" if score is None else f"{score}"


def _described(lab: Lab, scores: dict[str, int]) -> JsonValue:
    return {
        "id": lab.id,
        "title": lab.title,
        "track": lab.track,
        "level": lab.level.value,
        "minutes": lab.minutes,
        "skills": list(lab.skills),
        "environment": lab.environment,
        "hosts": [{"name": host.name, "memory": host.memory} for host in lab.hosts],
        "seeds": list(lab.seeds),
        "best_score": scores.get(lab.id),
    }


def show(
    ctx: typer.Context,
    lab: Annotated[str, typer.Argument(help="A lab's id, or its last part.")],
    seed: Annotated[int | None, typer.Option(help="The variant to show.")] = None,
    output: Output = Form.TEXT,
) -> None:
    """Show a lab's brief, and what it needs."""
    from breakfix.cli.briefs import brief, print_markdown  # noqa: PLC0415
    from breakfix.variants import draw  # noqa: PLC0415

    found = catalog_of(ctx).find(lab)
    text = brief(draw(found, found.seeds[0] if seed is None else seed))
    if output is Form.JSON:
        described = _described(found, _scores())
        assert isinstance(described, dict)  # noqa: S101
        print_json("lab", {**described, "brief": text, "hints": len(found.hints)})
        return
    print_markdown(text)
    hosts = ", ".join(f"{host.name} ({host.memory})" for host in found.hosts)
    typer.echo(f"\n{found.id}: {found.level}, {found.minutes} minutes, {', '.join(found.skills)}; hosts: {hosts}")
    typer.echo(f"→ breakfix start {found.name}")


def sessions(output: Output = Form.TEXT) -> None:
    """List my sessions, those that a crash left behind too."""
    from breakfix.sessions import mine  # noqa: PLC0415

    found = mine()
    if output is Form.JSON:
        print_json("sessions", [_session(one) for one in found])
        return
    if not found:
        typer.echo("No session runs. → breakfix list, then breakfix start LAB")
        return
    rows = [(one.id, one.lab, one.state, f"{one.started:%Y-%m-%d %H:%M}", ", ".join(one.hosts)) for one in found]
    print_table(("SESSION", "LAB", "STATE", "STARTED (UTC)", "HOSTS"), rows)


def _session(session: Session) -> JsonValue:
    return {
        "id": session.id,
        "lab": session.lab,
        "seed": session.seed,
        "state": session.state.value,
        "started": session.started.isoformat(),
        "hosts": {host.name: host.address for host in session.hosts.values()},
        "profile": session.profile,
    }


def report(
    ctx: typer.Context,
    wanted: Annotated[str | None, typer.Argument(metavar="[SESSION|LAB]", help="Whose latest grade.")] = None,
    me: Annotated[bool, typer.Option("--me", help="All my skills over all tracks, instead.")] = False,  # noqa: FBT002
    save: Annotated[Path | None, typer.Option(help="Write it to this file.")] = None,
    output: ReportOutput = ReportForm.TEXT,
) -> None:
    """Print the latest grade again, or draw which skills I have shown."""
    from breakfix.history import History  # noqa: PLC0415

    with History() as history:
        text = _me(history, output) if me else _grade(ctx, history, wanted, output)
    if save:
        save.write_text(text, encoding="utf-8")
        typer.echo(f"The report is in {save}")
    else:
        typer.echo(text, nl=not text.endswith("\n"))


def _me(history: History, output: ReportForm) -> str:
    import json  # noqa: PLC0415

    from breakfix.errors import UsageError  # noqa: PLC0415
    from breakfix.model import SCHEMA_VERSION  # noqa: PLC0415
    from breakfix.reports import me  # noqa: PLC0415

    records, passed = history.skills_shown(), history.passed_labs()
    if output is ReportForm.HTML:
        return me.render(records, tuple(sorted(passed)))
    if output is ReportForm.TEXT:
        return me.render_text(records, tuple(sorted(passed)))
    if output is not ReportForm.JSON:
        raise UsageError(f"there is no {output} of one's own skills", next_step="Use -o text, json or html.")
    skills = {
        name: {"passed": one.passed, "failed": one.failed, "labs": list(one.labs)} for name, one in records.items()
    }
    document = {"schema_version": SCHEMA_VERSION, "kind": "skills", "skills": skills, "passed_labs": sorted(passed)}
    return json.dumps(document, indent=2)


def _grade(ctx: typer.Context, history: History, wanted: str | None, output: ReportForm) -> str:
    from breakfix.cli.grades import report_of  # noqa: PLC0415
    from breakfix.errors import UnknownSession  # noqa: PLC0415
    from breakfix.reports import render  # noqa: PLC0415
    from breakfix.sessions import mine  # noqa: PLC0415

    names = [wanted] if wanted else [one.id for one in mine()]
    if wanted and "/" not in wanted:
        names += [lab.id for lab in catalog_of(ctx).labs.values() if lab.name == wanted]
    grade = next((found for name in names if (found := history.latest_grade(name))), None)
    if grade is None:
        raise UnknownSession(
            f"no grade of {wanted or 'a running session'} is known", next_step="breakfix grade makes one."
        )
    return render(report_of(catalog_of(ctx).find(grade.lab), grade, history.events(grade.session)), output.value)
