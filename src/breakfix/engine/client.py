"""Reaches the engine, wherever DOCKER_HOST says it is."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from breakfix.errors import EngineUnavailable, HostUnreachable, NotReady

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import APIClient

SLOWEST_CALL = 120
"""Seconds after which an engine that does not answer one call is given up."""


@cache
def connect() -> APIClient:
    """Return a client of the engine's API.  Raises EngineUnavailable."""
    from docker.errors import DockerException  # noqa: PLC0415

    import docker  # noqa: PLC0415  # heavy

    try:
        # The version is asked here and now, so that a dead engine is found out before anything was begun.
        return docker.from_env(version="auto", timeout=SLOWEST_CALL).api
    except DockerException as error:
        raise EngineUnavailable(
            "no container engine answers",
            why=str(error).partition("\n")[0],
            next_step="Start Docker (or set DOCKER_HOST), then `breakfix doctor`.",
        ) from error


@contextmanager
def not_ready(doing: str) -> Iterator[None]:
    """Turn what the engine refuses while ``doing`` something into NotReady."""
    from docker.errors import DockerException  # noqa: PLC0415
    from requests.exceptions import RequestException  # noqa: PLC0415

    try:
        yield
    except (DockerException, RequestException) as error:
        raise NotReady(f"{doing}: the engine refused", why=reason(error), next_step="breakfix doctor") from error


@contextmanager
def unreachable(host: str) -> Iterator[None]:
    """Turn what the engine says of a dead container into HostUnreachable."""
    from docker.errors import DockerException  # noqa: PLC0415
    from requests.exceptions import RequestException  # noqa: PLC0415

    try:
        yield
    except (DockerException, RequestException, OSError) as error:
        raise HostUnreachable(
            f"{host} cannot be reached", why=reason(error), next_step="breakfix reset brings the start state back."
        ) from error


def reason(error: BaseException) -> str:
    """Return the engine's own words, without the URL that they come wrapped in."""
    explanation = getattr(error, "explanation", None)
    return str(explanation or error).strip()
