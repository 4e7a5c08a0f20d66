"""Commands about this machine: doctor, images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from breakfix.cli.output import Form, Output, print_json, print_table
from breakfix.cli.progress import progress
from breakfix.errors import EngineUnavailable

if TYPE_CHECKING:
    from breakfix.environments import Capability
    from breakfix.model import JsonValue

NOT_READY = 3


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    images = typer.Typer(help="The images that labs are made of.", no_args_is_help=True, rich_markup_mode=None)
    images.command("build")(build)
    app.add_typer(images, name="images")
    app.command()(doctor)


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
        return environments.load("docker").examine()
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
