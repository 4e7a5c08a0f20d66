"""The practice cluster: long-lived, and shared by all sessions that own namespaces and no cluster."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from breakfix import images, recipes
from breakfix.cluster import kind, loading, node
from breakfix.cluster.api import Api
from breakfix.cluster.node import NAME, NODE
from breakfix.cluster.objects import field
from breakfix.engine.client import connect, not_ready
from breakfix.errors import CannotGrade, NotReady

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from breakfix.cluster.api import Object
    from docker import APIClient

    Tell = Callable[[str], None]

APP: Final = "breakfix.local/app:1"
"""What the image ``app`` is called in the cluster."""
UP: Final = 180.0
"""Seconds that a cluster may take to serve after its node was started again: 20 to 40 on two idle cores."""
# Pods answer whoever asks, and reach the cluster and nothing beyond: not the world, not the machine around it, not the
# workstations.  Replies pass.  The node forgets it when it restarts, so every start says it again.
FENCE: Final = """nft -f - <<'END'
table ip breakfix-fence
delete table ip breakfix-fence
table ip breakfix-fence {
    chain forward {
        type filter hook forward priority -10
        ct state established,related accept
        iifname "veth*" oifname "eth*" drop
        iifname "eth*" oifname "eth*" drop
    }
}
END"""


@dataclass(frozen=True, slots=True)
class State:
    """What the engine has of the practice cluster."""

    exists: bool
    running: bool = False
    current: bool = False
    """It is made of the node image that today's recipe makes."""
    image: str = ""
    memory: int = 0
    """Bytes in use; 0 where it does not run."""


def folder() -> Path:
    """Return where the cluster's files are."""
    from platformdirs import user_data_path  # noqa: PLC0415

    return user_data_path("breakfix", ensure_exists=True) / "clusters" / NAME


def state(*, memory: bool = False) -> State:
    """Read from the engine what there is of the cluster.  Raises NotReady."""
    api = connect()
    with not_ready("looking for the practice cluster"):
        found = api.containers(all=True, filters={"label": f"{kind.CLUSTER_LABEL}={NAME}"})
        if not found:
            return State(exists=False)
        running = found[0]["State"] == "running"
        image = str(found[0]["Image"])
        used = _used(api) if memory and running else 0
    return State(exists=True, running=running, current=_is_current(image), image=image, memory=used)


def _used(api: APIClient) -> int:
    """Return what docker stats shows: without the files that the kernel could forget."""
    memory = api.stats(NODE, stream=False)["memory_stats"]
    details = memory.get("stats", {})
    return int(memory.get("usage", 0)) - int(details.get("total_inactive_file", details.get("inactive_file", 0)))


def _is_current(image: str) -> bool:
    return image == recipes.tag("node") or not is_ours(image)


def is_ours(image: str) -> bool:
    """Return True if a node image was made here, and False if it is upstream's."""
    return image.startswith(f"{recipes.REPOSITORY}/")


def ensure(tell: Tell, busy: Callable[[], bool]) -> None:
    """Have the cluster up, with our images in it.

    One that an older recipe made is made anew unless it is ``busy`` with sessions.  Raises NotReady.
    """
    found = state()
    if not (found.running and found.current and _is_complete()):
        with images.one_at_a_time("cluster"):
            _bring_up(tell, busy)
    # It may run since a moment ago: the engine starts its node by itself when it comes up.
    _wait(tell)
    node.run(connect(), FENCE)
    loading.load(connect(), administrator(), "app", (APP,), tell)


def _is_complete() -> bool:
    """Return True if the cluster was made to its end: only then is its kubeconfig kept."""
    return (folder() / "kubeconfig.json").is_file()


def _bring_up(tell: Tell, busy: Callable[[], bool]) -> None:
    found = state()
    if found.exists and (not _is_complete() or not (found.current or busy())):
        drop(tell)
        found = state()
    if not found.exists:
        _create(tell)
    elif not found.running:
        tell("starting the practice cluster again")
        with not_ready("starting the practice cluster"):
            connect().start(NODE)


def _create(tell: Tell) -> None:
    try:
        kind.create(NAME, folder(), tell)
        text = json.dumps(kind.kubeconfig(NAME, tell))
        write_private(folder() / "kubeconfig.json", text)
        administrator.cache_clear()
        _wait(tell)
    except BaseException:
        drop(lambda _: None)
        raise


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else may read, not even for a moment."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _wait(tell: Tell) -> None:
    """Wait until the API server answers and names can be resolved."""
    deadline, told = time.monotonic() + UP, ""
    while (why := _what_is_missing()) is not None:
        if time.monotonic() > deadline:
            raise NotReady(
                "the practice cluster does not come up", why=why,
                next_step="breakfix cluster drop makes the next start build it anew",
            )  # fmt: skip
        if why != told:
            tell(f"waiting for the cluster: {why.splitlines()[0]}")
        told = why
        time.sleep(0.5)


def _what_is_missing() -> str | None:
    try:
        administrator().request("GET", "/readyz", kind="")
        pods = administrator().list("/api/v1/namespaces/kube-system/pods", labelSelector="k8s-app=kube-dns")
    except CannotGrade as error:
        return error.why or error.what
    since = _node_started()
    return None if any(_serves(pod, since) for pod in pods) else "CoreDNS has no ready pod"


def _node_started() -> datetime:
    with not_ready("looking at the cluster's node"):
        return _moment(connect().inspect_container(NODE)["State"]["StartedAt"])


def _serves(pod: Object, since: datetime) -> bool:
    """Return True if a pod is ready, and not by what was written of it before the node was started."""
    containers = field(pod, "status.containerStatuses", [])
    return any(one.get("ready") and _moment(field(one, "state.running.startedAt")) >= since for one in containers)


def _moment(text: str) -> datetime:
    """Return a moment of the engine's or the API's.  The engine gives nanoseconds."""
    return datetime.fromisoformat(text[: len("2026-01-01T00:00:00")]).replace(tzinfo=UTC)


def drop(tell: Tell) -> None:
    """Delete the cluster."""
    kind.delete(NAME, folder(), tell)
    administrator.cache_clear()


@cache
def administrator() -> Api:
    """Return the cluster's API with all rights.  Raises NotReady where there is no cluster."""
    return Api(_kubeconfig(), "the practice cluster")


def certificate_authority() -> str:
    """Return what the API server's certificate is signed with, in base64 as a kubeconfig has it.  Raises NotReady."""
    return str(_kubeconfig()["clusters"][0]["cluster"]["certificate-authority-data"])


def _kubeconfig() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder() / "kubeconfig.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotReady("there is no practice cluster", next_step="breakfix cluster warm") from error
    return found
