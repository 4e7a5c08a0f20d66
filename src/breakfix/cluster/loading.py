"""Puts images of ours into a cluster, so that no pod ever asks a registry."""

from __future__ import annotations

import io
import tempfile
import time
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from breakfix import images, parts, recipes
from breakfix.cluster import clusters, node
from breakfix.cluster.objects import field
from breakfix.engine.client import connect, not_ready
from breakfix.errors import NotReady
from breakfix.together import together

if TYPE_CHECKING:
    from collections.abc import Callable

    from breakfix.cluster.clusters import Cluster
    from docker import APIClient

    Tell = Callable[[str], None]

ARCHIVE: Final = "/root/image.tar"
PINNED: Final = "io.cri-containerd.pinned=pinned"
"""The label of an image that the kubelet never removes when its disk is full: nobody could pull it again."""
PULSE: Final = 0.5
"""Seconds between two looks at whether a node that is being made has a containerd by now."""
RECIPE: Final = "breakfix.image"
DEFINED: Final = "/root/definitions.yaml"


def load(cluster: Cluster, name: str, names: tuple[str, ...], tell: Tell) -> None:
    """Have the image ``name`` of ours in every node of the cluster under ``names``.  Raises NotReady."""
    together(partial(_load_into, cluster, one, name, names, tell) for one in cluster.nodes)


def bring(cluster: Cluster, name: str, over: Callable[[], bool]) -> None:
    """Copy the image ``name`` of ours into nodes that are only being made, until that is ``over``.

    It saves time and settles nothing: what does not get in is loaded later, and that says why it can't be.
    """
    together(partial(_bring_into, one, recipes.tag(name), over) for one in cluster.nodes)


def _bring_into(where: str, image: str, over: Callable[[], bool]) -> None:
    engine = connect()
    while not over():
        with suppress(NotReady):
            node.run(engine, where, "ctr version")
            with images.one_at_a_time(where):
                _import(engine, where, image, [])
            return
        time.sleep(PULSE)


def _load_into(cluster: Cluster, where: str, name: str, names: tuple[str, ...], tell: Tell) -> None:
    api, engine = clusters.administrator(cluster.name), connect()
    wanted, path = recipes.tag(name), f"/api/v1/nodes/{where}"
    kept = field(api.get(path), "metadata.annotations", {})
    missing = [one for one in names if kept.get(_mark(one)) != wanted]
    if not missing:
        return
    tell(f"loading {name} into the cluster")
    with images.one_at_a_time(where):
        _import(engine, where, wanted, missing)
        if where == cluster.control_plane:
            _define(engine, where, wanted)
    api.merge(path, {"metadata": {"annotations": {_mark(one): wanted for one in missing}}})


def _mark(name: str) -> str:
    """Return the annotation of the node that says what the image ``name`` in it was made from."""
    return f"{RECIPE}/{sha256(name.encode()).hexdigest()[:16]}"


def _import(engine: APIClient, where: str, image: str, names: list[str]) -> None:
    """Copy an image from the engine into a node, where it is not yet, and name it."""
    inside = f"docker.io/{image}"
    if inside not in node.run(engine, where, "ctr -n k8s.io images ls -q 2>/dev/null").split():
        with tempfile.TemporaryFile() as spooled, not_ready(f"sending {image}"):
            for chunk in engine.get_image(image):
                spooled.write(chunk)
            node.put(engine, where, ARCHIVE, spooled)
        node.run(engine, where, f"ctr -n k8s.io images import --local --label {PINNED} {ARCHIVE} && rm {ARCHIVE}")
    tags = (f"ctr -n k8s.io images tag --force {inside} {name}" for name in names)
    node.run(engine, where, "set -e; " + "; ".join(tags))


def _define(engine: APIClient, where: str, image: str) -> None:
    """Tell the cluster of the kinds that an image's pods need."""
    with not_ready(f"reading {image}"):
        labels = engine.inspect_image(image)["Config"].get("Labels") or {}  # type: ignore[no-untyped-call]
    if recipes.DEFINITIONS not in labels:
        return
    content = io.BytesIO()
    content.write(parts.take_file(engine, image, labels[recipes.DEFINITIONS]))
    node.put(engine, where, DEFINED, content)
    apply = f"kubectl --kubeconfig {node.ADMINISTRATOR} apply --server-side --force-conflicts"
    node.run(engine, where, f"{apply} -f {DEFINED} && rm {DEFINED}")
