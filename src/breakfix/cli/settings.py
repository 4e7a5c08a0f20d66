"""What holds for every command of one call, and how it gets at labs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from breakfix.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import typer

    from breakfix.catalog import Catalog
    from breakfix.environments import Environment
    from breakfix.model import Lab, Session, Variant


@dataclass(frozen=True, slots=True)
class Settings:
    """The global options."""

    labs: tuple[Path, ...]
    debug: bool

    def catalog(self) -> Catalog:
        """Read every lab of every root.  Raises UsageError."""
        from breakfix import catalog  # noqa: PLC0415

        return catalog.load(catalog.roots(self.labs))


def catalog_of(ctx: typer.Context) -> Catalog:
    """Return the labs that this call can see."""
    settings: Settings = ctx.obj
    return settings.catalog()


def environment_of(lab: Lab, context: str = "") -> Environment:
    """Connect to what runs ``lab``; to another cluster where the user names its context.  Raises NotReady."""
    from breakfix import environments  # noqa: PLC0415

    if context:
        from breakfix.cluster import k3d  # noqa: PLC0415
        from breakfix.environments import existing  # noqa: PLC0415

        if lab.cluster is None:
            raise UsageError(f"{lab.id} has no cluster", next_step=f"breakfix start {lab.name}")
        return environments.load("k3d") if context == k3d.CONTEXT else existing.connect(context)
    return environments.load(lab.environment)


def session_and_lab(ctx: typer.Context, wanted: str | None) -> tuple[Environment, Session, Lab]:
    """Return the session that ``wanted`` means, its lab, and what runs it."""
    from breakfix import environments, sessions  # noqa: PLC0415
    from breakfix.errors import UnknownSession  # noqa: PLC0415
    from breakfix.model import SessionState  # noqa: PLC0415

    session = sessions.find(sessions.mine(), wanted)
    environment = environments.load(session.environment)
    if session.state is SessionState.INCOMPLETE:
        raise UnknownSession(
            f"{session.id} is not complete",
            why="It is being started in another terminal, or its start died half-way.",
            next_step=f"breakfix stop {session.id}",
        )
    if session.state is SessionState.STOPPED:
        environment.resume(session)
    return environment, session, catalog_of(ctx).find(session.lab)


def variant_of(lab: Lab, session: Session) -> Variant:
    """Return the lab as this session drew it."""
    from breakfix import variants  # noqa: PLC0415

    return variants.of(lab, session)
