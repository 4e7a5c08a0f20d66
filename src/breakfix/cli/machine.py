"""Commands about this machine: doctor, images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from breakfix.cli.output import Form, Output, print_json, print_table
from breakfix.cli.progress import progress
from breakfix.errors import EngineUnavailable

if TYPE_CHECKING:
    from breakfix.cluster.clusters import State
    from breakfix.environments import Capability
    from breakfix.model import JsonValue

NOT_READY = 3


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    images = typer.Typer(help="The images that labs are made of.", no_args_is_help=True, rich_markup_mode=None)
    images.command("build")(build)
    app.add_typer(images, name="images")
    app.command()(doctor)
    cluster = typer.Typer(
        help="The practice cluster, which Kubernetes labs share.", invoke_without_command=True, rich_markup_mode=None
    )
    cluster.callback()(show)
    cluster.command("warm")(warm)
    cluster.command("drop")(drop)
    app.add_typer(cluster, name="cluster")


def doctor(output: Output = Form.TEXT) -> None:
    """Say what this machine can run, how, and what to do about what is missing."""
    found = _examine()
    if output is Form.JSON:
        rows: list[JsonValue] = [
            {"name": one.name, "ok": one.ok, "found": one.found, "advice": one.advice} for one in found
        ]
        print_json("capabilities", rows)
    else:
        print_table(("WHAT", "OK", "FOUND"), [(one.name, "yes" if one.ok else "no", one.found) for one in found])
        for one in found:
            if one.advice and (not one.ok or one.name in {"systemd", "inotify"}):
                typer.secho(f"→ {one.name}: {one.advice}", fg="yellow")
    raise typer.Exit(0 if all(one.ok for one in found) else NOT_READY)


def _examine() -> tuple[Capability, ...]:
    from breakfix import environments  # noqa: PLC0415
    from breakfix.environments import Capability  # noqa: PLC0415

    try:
        return tuple(found for environment in environments.every() for found in environment.examine())
    except EngineUnavailable as error:
        return (Capability("engine", ok=False, found=error.why or error.what, advice=error.next_step),)


def build(
    names: Annotated[
        list[str] | None, typer.Argument(help="Images or parts; without any, what every lab needs.")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build even what is up to date.")] = False,  # noqa: FBT002
    output: Output = Form.TEXT,
) -> None:
    """Build what is missing or out of date, and remove what no recipe makes any more."""
    from breakfix import images  # noqa: PLC0415

    with progress("images") as tell:
        built = images.ensure(tuple(names or images.NAMES), tell, rebuild=rebuild)
        images.remove_old(tell)
    if output is Form.JSON:
        print_json("images", [{"name": one.name, "tag": one.tag} for one in built])
    else:
        print_table(("IMAGE", "TAG"), [(one.name, one.tag) for one in built])


def show(ctx: typer.Context, output: Output = Form.TEXT) -> None:
    """Show the practice cluster, who is in it and what it costs; and the clusters that sessions have to themselves."""
    if ctx.invoked_subcommand:
        return
    from breakfix import environments  # noqa: PLC0415
    from breakfix.cluster import clusters, k3d, own, practice  # noqa: PLC0415

    found = practice.state(memory=True)
    sessions = [one.id for one in environments.load("kind").sessions() if practice.holds(one)]
    others = [(one, clusters.state(one.cluster, memory=True)) for one in own.found()]
    if output is Form.JSON:
        content: JsonValue = {
            **_told(practice.PRACTICE.name, found),
            "sessions": sessions,
            "own": [
                {**_told(one.cluster.name, state), "workers": one.cluster.workers, "session": one.session or None}
                for one, state in others
            ],
        }
        print_json("cluster", content)
        return
    if found.exists:
        typer.echo(_line(practice.PRACTICE.name, found))
        typer.echo(f"sessions: {', '.join(sessions) or 'none'}")
    else:
        typer.echo("There is no practice cluster. → breakfix cluster warm, or just start a lab")
    if found.exists and not found.current:
        typer.echo("Today's recipe makes another node image. → breakfix cluster drop, when no session needs it")
    for one, state in others:
        typer.echo(f"{_line(one.cluster.name, state)}; {one.session or 'standby'}")
    if k3d.exists():
        typer.echo(f"{k3d.CONTEXT}: made by k3d, for what is begun with --context {k3d.CONTEXT}")


def _told(name: str, state: State) -> dict[str, JsonValue]:
    return {
        "name": name,
        "exists": state.exists,
        "running": state.running,
        "paused": state.paused,
        "current": state.current,
        "image": state.image,
        "memory": state.memory,
    }


def _line(name: str, state: State) -> str:
    how = "running" if state.running else "paused" if state.paused else "stopped"
    return f"{name}: {how}, {state.memory >> 20} MiB, made of {state.image}"


def warm(
    standby: Annotated[  # noqa: FBT002
        bool, typer.Option("--standby", help="Make a cluster for the next lab that wants one whole, instead.")
    ] = False,
    workers: Annotated[int, typer.Option(help="The standby's nodes beside its control plane.", min=0, max=2)] = 0,
) -> None:
    """Have the practice cluster up before a lab asks for it."""
    from breakfix import environments, images  # noqa: PLC0415
    from breakfix.cluster import own, practice  # noqa: PLC0415

    kind = environments.load("kind")
    with progress("cluster") as tell:
        images.ensure(("toolbox", "app", "workstation"), tell)
        if standby:
            own.stand_by(workers, tell)
        else:
            practice.ensure(tell, lambda: bool(kind.sessions()))
    name = "A standby" if standby else practice.PRACTICE.name
    typer.echo(f"{name} is up. → breakfix list --track kubernetes")


def drop() -> None:
    """Delete the practice cluster, what stands by, and k3d's.  Sessions in a cluster must be stopped first."""
    from breakfix import environments  # noqa: PLC0415
    from breakfix.cluster import k3d, own, practice  # noqa: PLC0415
    from breakfix.errors import UsageError  # noqa: PLC0415

    if sessions := [one.id for name in ("kind", "k3d") for one in environments.load(name).sessions()]:
        raise UsageError("the cluster is in use", why=", ".join(sessions), next_step="breakfix stop --all")
    with progress("cluster") as tell:
        own.drop_standbys(tell)
        practice.drop(tell)
        k3d.delete(tell)
    typer.echo(f"{practice.PRACTICE.name} is gone.")
