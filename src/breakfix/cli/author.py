"""What a lab's author and CI type: new, lint, selftest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from breakfix.cli.output import Form, Output, print_json
from breakfix.cli.settings import catalog_of
from breakfix.errors import UsageError

if TYPE_CHECKING:
    from breakfix.cli.settings import Settings
    from breakfix.errors import Problem
    from breakfix.model import Lab
    from breakfix.proving import Verdict

PROVEN, NOT_PROVEN, INVALID = 0, 1, 2

Labs = Annotated[list[str] | None, typer.Argument(metavar="[LAB]...", help="Labs by id or last part; all if none.")]


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(lint)
    app.command()(selftest)
    app.command()(new)


def _labs(ctx: typer.Context, names: list[str] | None) -> tuple[Lab, ...]:
    catalog = catalog_of(ctx)
    return tuple(catalog.find(name) for name in names) if names else tuple(catalog.labs.values())


def lint(ctx: typer.Context, labs: Labs = None, output: Output = Form.TEXT) -> None:
    """Check the format of labs and graders without running them; every problem at once."""
    from breakfix import linting  # noqa: PLC0415

    found = _labs(ctx, labs)
    problems = linting.lint(catalog_of(ctx), found)
    if output is Form.JSON:
        print_json("problems", [_problem(one) for one in problems])
    else:
        for problem in problems:
            typer.echo(str(problem))
        typer.echo(f"{len(found)} labs, {len(problems)} problems")
    raise typer.Exit(INVALID if problems else PROVEN)


def _problem(problem: Problem) -> dict[str, str | int]:
    return {"path": str(problem.path), "line": problem.line, "message": problem.message}


def selftest(  # noqa: PLR0913, PLR0917  # each is a way to choose or to report, named in the README
    ctx: typer.Context,
    labs: Labs = None,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="How many labs at the same time.")] = 4,
    shard: Annotated[str | None, typer.Option(metavar="K/N", help="Only every N-th, beginning with the K-th.")] = None,
    changed_since: Annotated[str | None, typer.Option(metavar="REV", help="Only labs changed since then.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="1,2", help="These seeds instead of the lab's own.")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a JUnit report.")] = None,
    status: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table of proven labs.")] = None,
    output: Output = Form.TEXT,
) -> None:
    """Prove labs both ways: untouched 0, solutions 100, cheats caught, reset and stop clean; on every seed."""
    from breakfix.cli import proofs  # noqa: PLC0415
    from breakfix.cli.status import page  # noqa: PLC0415

    found = _labs(ctx, labs)
    if changed_since:
        found = proofs.changed(found, changed_since)
    work = proofs.share([(lab, seed) for lab in found for seed in _seeds(seeds) or lab.seeds], shard)
    settings: Settings = ctx.obj
    verdicts = proofs.run(work, jobs, settings.labs)
    if junit:
        junit.write_text(proofs.junit(verdicts), encoding="utf-8")
    if status:
        before = status.read_text(encoding="utf-8") if status.exists() else ""
        status.write_text(page(_labs(ctx, None), verdicts, before), encoding="utf-8")
    if output is Form.JSON:
        print_json("verdicts", [proofs.to_json(one) for one in verdicts])
    else:
        _print(verdicts)
    raise typer.Exit(PROVEN if all(one.proven for one in verdicts) else NOT_PROVEN)


def _seeds(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise UsageError(f"{text!r} are no seeds", next_step="Give numbers: --seeds 1,2,3") from error


def _print(verdicts: tuple[Verdict, ...]) -> None:
    from breakfix.cli import proofs  # noqa: PLC0415

    proofs.print_table(verdicts)
    for verdict in verdicts:
        for finding in verdict.findings:
            if not finding.ok:
                typer.secho(f"\n{verdict.lab} seed {verdict.seed}: {finding.proof} {finding.subject}", fg="red")
                typer.echo(finding.detail)
    proven = sum(one.proven for one in verdicts)
    typer.echo(f"\n{proven} passed, {len(verdicts) - proven} failed")


def new(
    ctx: typer.Context,
    lab: Annotated[str, typer.Argument(metavar="TRACK/NAME", help="Where it shall stand.")],
) -> None:
    """Begin a lab: it passes lint at once, and fails selftest honestly until it is written."""
    from breakfix import catalog, scaffold  # noqa: PLC0415

    settings: Settings = ctx.obj
    root = settings.labs[-1] if settings.labs else catalog.bundle()
    for path in scaffold.write(root, lab):
        typer.echo(f"wrote {path}")
    typer.echo(f"→ docs/authoring.md tells the rest; then breakfix lint {lab} and breakfix selftest {lab}")
