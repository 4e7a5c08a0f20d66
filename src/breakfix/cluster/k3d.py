"""Runs the k3d command, where it is installed.  The user's own kubeconfig is never changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from breakfix import recipes
from breakfix.cluster import node, tool
from breakfix.engine.client import connect, not_ready
from breakfix.errors import NotReady
from breakfix.images import one_at_a_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Tell = Callable[[str], None]

NAME: Final = "breakfix"
CONTEXT: Final = f"k3d-{NAME}"
SERVER: Final = f"{CONTEXT}-server-0"
"""k3d's name for the container that is the cluster's one node."""
CREATE: Final = (
    "--servers", "1", "--no-lb", "--wait", "--timeout", "180s",
    "--kubeconfig-update-default=false", "--kubeconfig-switch-context=false",
    # Labs bring what they need of these, and ports of theirs would be open on this machine.
    "--k3s-arg", "--disable=traefik@server:0", "--k3s-arg", "--disable=servicelb@server:0",
)  # fmt: skip


def installed() -> bool:
    """Return whether there is a k3d."""
    return shutil.which("k3d") is not None


def exists() -> bool:
    """Return whether the cluster has been made, running or not."""
    return installed() and _ours() is not None


def ensure(tell: Tell) -> None:
    """Have the cluster up.  Raises NotReady."""
    with one_at_a_time("k3d"):
        ours = _ours()
        if ours is None:
            _k3d(tell, "cluster", "create", NAME, *CREATE)
        elif not ours["serversRunning"]:
            _k3d(tell, "cluster", "start", NAME)


def kubeconfig() -> dict[str, Any]:
    """Return the administrator's kubeconfig, which k3d writes with a mark of YAML before it.  Raises NotReady."""
    import yaml  # type: ignore[import-untyped]  # noqa: PLC0415

    (found,) = [one for one in yaml.safe_load_all(_k3d(_quiet, "kubeconfig", "get", NAME)) if one]
    whole: dict[str, Any] = found
    return whole


def load(wanted: Mapping[str, str], tell: Tell) -> None:
    """Have images of ours in the node, under the names that pods give them.  Raises NotReady."""
    engine = connect()
    with one_at_a_time("k3d"):
        there = set(node.run(engine, SERVER, "ctr -n k8s.io images ls -q").split())
        for image in sorted(set(wanted.values())):
            ours = recipes.tag(image)
            names = {name for name, of in wanted.items() if of == image}
            # An image that is not the one of today's recipe has its names again.
            if missing := names - there if f"docker.io/{ours}" in there else {ours, *names}:
                tell(f"loading {image} into {NAME}")
                _import(sorted(missing), ours, tell)


def _import(names: list[str], ours: str, tell: Tell) -> None:
    engine = connect()
    with not_ready("naming an image for the cluster"):
        for name in names:
            repository, _, version = name.rpartition(":")
            engine.tag(ours, repository, version)
    try:
        _k3d(tell, "image", "import", "--cluster", NAME, "--mode", "direct", *names)
    finally:
        with not_ready("taking an image's names back"):
            for name in names:
                if name != ours:
                    engine.remove_image(name, noprune=True)


def delete(tell: Tell) -> None:
    """Delete the cluster.  What is not there is fine."""
    if exists():
        _k3d(tell, "cluster", "delete", NAME)


def _ours() -> dict[str, Any] | None:
    """Return what k3d tells of the cluster; None where it has not made it."""
    found: list[dict[str, Any]] = json.loads(_k3d(_quiet, "cluster", "list", "--output", "json"))
    return next((one for one in found if one["name"] == NAME), None)


def _k3d(tell: Tell, *arguments: str) -> str:
    command = shutil.which("k3d")
    if command is None:
        raise NotReady(
            "k3d is not installed", next_step="https://k3d.io/stable/#installation; without --context, kind is taken"
        )
    return tool.run("k3d", Path(command), arguments, tell)


def _quiet(_: str) -> None:
    """Tell nobody: it takes no time."""
