"""Finishes an image in a privileged container: a Dockerfile may not mount, and what unpacks container images must.

A recipe with a ``finish.sh`` has it run once in a container of the image that its Dockerfile made.  What is in the
container then is stored as one flat layer, so that what the script removed takes no room.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from breakfix.engine.client import not_ready
from breakfix.engine.storing import follow_build, store_flat
from breakfix.errors import ImageBuildFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from docker import APIClient

    Tell = Callable[[str], None]

SCRIPT = "finish.sh"
LONGEST = 1800
"""Seconds after which a script that has not ended is given up."""


def finish(api: APIClient, unfinished: str, image: str, labels: Mapping[str, str], tell: Tell) -> None:
    """Run the script in ``unfinished``, and make ``image`` of what is there then.  Raises ImageBuildFailed."""
    name = image.partition(":")[0].rpartition("/")[2]
    with not_ready(f"finishing {name}"):
        config = api.inspect_image(unfinished)["Config"]  # type: ignore[no-untyped-call]
        box = _create(api, unfinished)
        try:
            tell(f"{name}: loading")
            api.start(box)
            if api.wait(box, timeout=LONGEST)["StatusCode"]:
                why = bytes(api.logs(box, tail=12)).decode(errors="replace").strip()
                raise ImageBuildFailed(f"{name} could not be finished", why=why, next_step="breakfix images build")
            tell(f"{name}: storing")
            flat = store_flat(api, api.export(box))
        finally:
            api.remove_container(box, force=True, v=True)
        _describe(api, flat, image, settings(config, labels))
        api.remove_image(unfinished)


def _create(api: APIClient, unfinished: str) -> str:
    config = api.create_host_config(privileged=True, network_mode="none")
    created = api.create_container(
        unfinished, [f"/rootfs/{SCRIPT}"], entrypoint=["/bin/sh"], host_config=config, labels={"breakfix.image": ""}
    )
    return str(created["Id"])


def _describe(api: APIClient, flat: str, image: str, lines: tuple[str, ...]) -> None:
    """Give the flat image what an import cannot: how it is started and stopped.  That adds no layer."""
    dockerfile = io.BytesIO("\n".join((f"FROM {flat}", *lines)).encode())
    follow_build(api.build(fileobj=dockerfile, tag=image, rm=True, forcerm=True, decode=True), image, lambda _: None)


def settings(config: Mapping[str, Any], labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the lines of a Dockerfile that say what ``config`` says."""
    lines = [f"LABEL {json.dumps(key)}={json.dumps(value)}" for key, value in labels.items()]
    for setting in config.get("Env") or ():
        key, _, value = setting.partition("=")
        lines.append(f"ENV {key}={json.dumps(value)}")
    if config.get("StopSignal"):
        lines.append(f"STOPSIGNAL {config['StopSignal']}")
    words = [word for word in ("Entrypoint", "Cmd") if config.get(word)]
    return (*lines, *(f"{word.upper()} {json.dumps(config[word])}" for word in words))
