"""Stores images in the engine.  It answers with a stream of steps, and says in the midst of it what went wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from breakfix.errors import ImageBuildFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from docker import APIClient

AGAIN = "breakfix images build --debug shows everything."


def store_flat(api: APIClient, archive: object, image: str = "", labels: Mapping[str, str] | None = None) -> str:
    """Make an image of one layer from a tar archive; return its id.  ``image`` is ``REPOSITORY:TAG``, or nothing.

    Raises ImageBuildFailed.
    """
    repository, _, version = image.rpartition(":")
    answer = api.import_image_from_data(
        archive,
        repository=repository or None,
        tag=version or None,
        changes=[f"LABEL {key}={value}" for key, value in (labels or {}).items()],
    )
    last = json.loads(answer.strip().splitlines()[-1])
    if "error" in last:
        raise ImageBuildFailed(f"{image or 'an image'} could not be stored", why=last["error"], next_step=AGAIN)
    return str(last["status"])


def follow_build(steps: Iterable[dict[str, Any]], image: str, tell: Callable[[str], None]) -> None:
    """Read what a build says until it ends.  Raises ImageBuildFailed with the last lines where it failed."""
    log: list[str] = []
    for step in steps:
        if line := str(step.get("stream", "")).strip():
            log.append(line)
            if line.startswith("Step "):
                tell(line[:70])
        if "error" in step:
            why = "\n".join([*log[-12:], str(step["error"])])
            raise ImageBuildFailed(f"the image {image} could not be built", why=why, next_step=AGAIN)
