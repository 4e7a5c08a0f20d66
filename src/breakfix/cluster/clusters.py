"""Clusters that kind makes: what the engine has of one, bringing it up, waiting until it serves, dropping it."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from breakfix import recipes
from breakfix.cluster import kind, node
from breakfix.cluster.api import Api
from breakfix.cluster.objects import condition, field
from breakfix.engine.client import connect, not_ready
from breakfix.errors import CannotGrade, NotReady

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from breakfix.cluster.api import Object
    from docker import APIClient

    Tell = Callable[[str], None]

APP: Final = "breakfix.local/app:1"
"""What the image ``app`` is called in a cluster."""
UP: Final = 180.0
"""Seconds that a cluster may take to serve after its nodes were started again: 20 to 40 on two idle cores."""
BACK: Final = 60.0
"""Seconds after the start of its nodes in which pods are waited for that ran before; a broken one never comes back."""
PAUSING: Final = 5
"""Times that the engine is asked to pause a node."""
SYSTEM: Final = "/api/v1/namespaces/kube-system"
"""Where the cluster's own pods are."""
SLICES: Final = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices"
LEADERS: Final = ("kube-controller-manager", "kube-scheduler")
"""What works only while it holds the lease of its name."""
PODS: Final = "10.244.0.0/16"
"""Where kind's pods have their addresses."""
LET_GO: Final = (
    "pkill -KILL -x kubelet; pkill -KILL -x containerd; pkill -KILL -x runc; "
    "find /sys/fs/cgroup/freezer -name freezer.state -exec sh -c 'echo THAWED >\"$1\"' - {} ';' 2>/dev/null; true"
)
"""On cgroup v1 runc freezes a container while it sets its devices.  Whoever kills the node just then leaves it frozen,
and what is frozen there can't be killed: the engine then fails to remove the node, for ever."""
# Pods answer whoever asks, and reach the cluster and nothing beyond: not the world, not the machine around it, not the
# workstations.  Replies pass.  Refused and not dropped: what a pod asks of a service's address before the node's rules
# for services are back would otherwise wait half a minute for nothing.  The unit says it again before any pod starts.
FENCE: Final = """cat >/etc/breakfix-fence.nft <<'END'
table ip breakfix-fence
delete table ip breakfix-fence
table ip breakfix-fence {{
    chain forward {{
        type filter hook forward priority -10
        ct state established,related accept
        {among_nodes}
        iifname "veth*" oifname "eth*" reject
        iifname "eth*" oifname "eth*" reject
    }}
}}
END
cat >/etc/systemd/system/breakfix-fence.service <<'END'
[Unit]
Description=Keeps pods in the cluster
Before=containerd.service

[Service]
Type=oneshot
ExecStart=nft -f /etc/breakfix-fence.nft

[Install]
RequiredBy=containerd.service
END
nft -f /etc/breakfix-fence.nft && systemctl enable --quiet breakfix-fence"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as kind knows it: one control plane, and workers beside it."""

    name: str
    workers: int = 0

    @property
    def control_plane(self) -> str:
        """The node's name and its container's; the API server's certificate is made out to it."""
        return f"{self.name}-control-plane"

    @property
    def nodes(self) -> tuple[str, ...]:
        """All of them, as kind calls them: the second worker is the first with a number."""
        names = (f"{self.name}-worker{number if number > 1 else ''}" for number in range(1, self.workers + 1))
        return (self.control_plane, *names)

    @property
    def folder(self) -> Path:
        """Where the cluster's files are."""
        from platformdirs import user_data_path  # noqa: PLC0415

        return user_data_path("breakfix", ensure_exists=True) / "clusters" / self.name

    @property
    def is_complete(self) -> bool:
        """True if it was made to its end: only then is its kubeconfig kept."""
        return (self.folder / "kubeconfig.json").is_file()


@dataclass(frozen=True, slots=True)
class State:
    """What the engine has of a cluster."""

    exists: bool
    running: bool = False
    current: bool = False
    """It is made of the node image that today's recipe makes."""
    image: str = ""
    memory: int = 0
    """Bytes in use by all nodes; 0 where it does not run."""
    paused: bool = False


def state(cluster: Cluster, *, memory: bool = False) -> State:
    """Read from the engine what there is of the cluster.  Raises NotReady."""
    api = connect()
    with not_ready(f"looking for the cluster {cluster.name}"):
        found = api.containers(all=True, filters={"label": f"{kind.CLUSTER_LABEL}={cluster.name}"})
        if not found:
            return State(exists=False)
        states = {str(one["State"]) for one in found}
        image = str(found[0]["Image"])
        used = sum(_used(api, one["Id"]) for one in found) if memory and "exited" not in states else 0
    return State(
        exists=True, running=states == {"running"}, current=_is_current(image), image=image, memory=used,
        paused="paused" in states,
    )  # fmt: skip


def _used(api: APIClient, container: str) -> int:
    """Return what docker stats shows: without the files that the kernel could forget."""
    memory = api.stats(container, stream=False)["memory_stats"]
    details = memory.get("stats", {})
    return int(memory.get("usage", 0)) - int(details.get("total_inactive_file", details.get("inactive_file", 0)))


def _is_current(image: str) -> bool:
    return image == recipes.tag("node") or not is_ours(image)


def is_ours(image: str) -> bool:
    """Return True if a node image was made here, and False if it is upstream's."""
    return image.startswith(f"{recipes.REPOSITORY}/")


# -- up and down ---------------------------------------------------------------------------------------------------


def keep_kubeconfig(cluster: Cluster) -> None:
    """Keep what its administrator comes in with: from now on it counts as complete.  Raises NotReady."""
    write_private(cluster.folder / "kubeconfig.json", json.dumps(kind.kubeconfig(cluster.folder)))
    administrator.cache_clear()


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else may read, not even for a moment."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def rouse(cluster: Cluster, tell: Tell) -> None:
    """Let nodes run that were paused, or that stopped with the engine; wait until the cluster serves."""
    api, since = connect(), None
    with not_ready(f"starting the cluster {cluster.name}"):
        for one in cluster.nodes:
            how = api.inspect_container(one)["State"]
            if how["Running"] and not how["Paused"]:
                continue
            since = since or datetime.now(UTC)
            (api.unpause if how["Paused"] else api.start)(one)
    wait(cluster, tell, since)


def pause(cluster: Cluster) -> bool:
    """Let the nodes stand still: they keep their memory and cost no processor.

    Returns False where one goes on: on a busy machine a node makes processes faster than the kernel stops them.
    """
    return all(_pause(one) for one in cluster.nodes)


def _pause(one: str) -> bool:
    from docker.errors import APIError  # noqa: PLC0415

    for _ in range(PAUSING):
        try:
            connect().pause(one)
        except APIError:
            time.sleep(1)
        else:
            return True
    return False


def drop(cluster: Cluster, tell: Tell) -> None:
    """Delete the cluster and its files."""
    let_go(cluster)
    kind.delete(cluster.name, cluster.folder, tell)
    administrator.cache_clear()


def let_go(cluster: Cluster) -> None:
    """Let the nodes be killed: see ``LET_GO``.  A node that does not run, or is paused, has nothing on its way."""
    for one in cluster.nodes:
        with suppress(NotReady):
            node.run(connect(), one, LET_GO)


def fence(cluster: Cluster) -> None:
    """Keep pods of the cluster in it."""
    api = connect()
    script = FENCE.format(among_nodes=_among_nodes(api, cluster) if cluster.workers else "")
    for one in cluster.nodes:
        node.run(api, one, script)


def _among_nodes(api: APIClient, cluster: Cluster) -> str:
    """Return the rule that lets pods of several nodes reach each other, and the nodes."""
    with not_ready("looking at the cluster's nodes"):
        found = [api.inspect_container(one)["NetworkSettings"]["Networks"] for one in cluster.nodes]
    addresses = [network["kind"]["IPAddress"] for network in found]
    return f"ip saddr {PODS} ip daddr {{ {PODS}, {', '.join(addresses)} }} accept"


# -- does it serve -------------------------------------------------------------------------------------------------


def wait(cluster: Cluster, tell: Tell, since: datetime | None = None) -> None:
    """Wait until the API server answers, every node was heard of ``since``, and names can be resolved.

    Where nodes started only now, what ran in them has started again too: until then the API tells of what was.
    """
    deadline, told = time.monotonic() + UP, ""
    while (why := _what_is_missing(cluster, since)) is not None:
        if time.monotonic() > deadline:
            raise NotReady(
                f"the cluster {cluster.name} does not come up", why=why,
                next_step="breakfix cluster drop makes the next start build it anew",
            )  # fmt: skip
        if why != told:
            tell(f"waiting for the cluster: {why.splitlines()[0]}")
        told = why
        time.sleep(0.5)


def _what_is_missing(cluster: Cluster, since: datetime | None) -> str | None:
    api = administrator(cluster.name)
    try:
        api.request("GET", "/readyz", kind="")
        return (_of_nodes(api, cluster, since) if since else None) or _of_pods(api, _started(cluster))
    except CannotGrade as error:
        return error.why or error.what


def _of_nodes(api: Api, cluster: Cluster, since: datetime) -> str | None:
    leases = api.list("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases")
    if silent := _silent(cluster, leases, since):
        return f"{', '.join(silent)} was not heard of yet"
    waiting = [
        field(one, "metadata.name") for one in api.list("/api/v1/nodes")
        if condition(one, "Ready").get("status") != "True"
    ]  # fmt: skip
    return f"{', '.join(waiting)} is not ready yet" if waiting else None


def _of_pods(api: Api, started: datetime) -> str | None:
    is_back = datetime.now(UTC) - started > timedelta(seconds=BACK)
    if gone := [one for one in ([] if is_back else api.list("/api/v1/pods")) if _is_from_before(one, started)]:
        return f"{len(gone)} of its pods did not start again yet"
    names = [one for one in api.list(f"{SYSTEM}/pods", labelSelector="k8s-app=kube-dns") if _serves(one, started)]
    if not names:
        return "CoreDNS has no ready pod"
    return None if is_back else _of_services(api, names, started)


def _of_services(api: Api, pods: Iterable[Object], started: datetime) -> str | None:
    """Return what CoreDNS lacks; what the API says is not enough in the first seconds after a restart.

    The controller manager works again only when its lease from before has run out: until then services lead to
    addresses that pods had.  And the kubelet calls a container as ready as the one before it was.
    """
    leases = api.list("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases")
    if late := [one for one in LEADERS if not _leads(leases, one, started)]:
        return f"{', '.join(late)} does not lead yet"
    slices = api.list(SLICES, labelSelector="kubernetes.io/service-name=kube-dns")
    led_to = {one for part in slices for end in field(part, "endpoints", []) for one in field(end, "addresses", [])}
    if any(_answers(api, one) and field(one, "status.podIP") in led_to for one in pods):
        return None
    return "CoreDNS does not know the cluster's services yet"


def _leads(leases: Iterable[Object], name: str, started: datetime) -> bool:
    said = [field(one, "spec.renewTime") for one in leases if field(one, "metadata.name") == name]
    return any(one and moment(one) >= started for one in said)


def _answers(api: Api, pod: Object) -> bool:
    with suppress(CannotGrade):
        api.request("GET", f"{SYSTEM}/pods/{field(pod, 'metadata.name')}:8181/proxy/ready", kind="")
        return True
    return False


def _is_from_before(pod: Object, started: datetime) -> bool:
    """Return True if a container of the pod ended with its node, and the kubelet has not started it again."""
    if field(pod, "metadata.deletionTimestamp") or field(pod, "status.phase") in {"Succeeded", "Failed"}:
        return False
    # First the kubelet tells what it heard before, then that nobody knows how it ended, then that it runs.
    for one in field(pod, "status.containerStatuses", []):
        since = field(one, "state.running.startedAt")
        if field(one, "state.terminated.reason") == "Unknown" or (since and moment(since) < started):
            return True
    return False


def _silent(cluster: Cluster, leases: Iterable[Object], since: datetime) -> list[str]:
    """Return the nodes whose kubelet has not spoken since a moment: what the API says of them is from before."""
    heard = {field(one, "metadata.name"): moment(field(one, "spec.renewTime", "1970-01-01T00:00:00")) for one in leases}
    return [one for one in cluster.nodes if one not in heard or heard[one] < since.replace(microsecond=0)]


def _started(cluster: Cluster) -> datetime:
    with not_ready("looking at the cluster's node"):
        found = [connect().inspect_container(one)["State"]["StartedAt"] for one in cluster.nodes]
    return min(moment(one) for one in found)


def _serves(pod: Object, since: datetime) -> bool:
    """Return True if a pod is ready, and not by what was written of it before the node was started."""
    containers = field(pod, "status.containerStatuses", [])
    return any(one.get("ready") and moment(field(one, "state.running.startedAt")) >= since for one in containers)


def moment(text: str) -> datetime:
    """Return a moment of the engine's or the API's.  The engine gives nanoseconds."""
    return datetime.fromisoformat(text[: len("2026-01-01T00:00:00")]).replace(tzinfo=UTC)


# -- who may do everything -----------------------------------------------------------------------------------------


@cache
def administrator(name: str) -> Api:
    """Return a cluster's API with all rights.  Raises NotReady where there is no such cluster."""
    return Api(_kubeconfig(name), name)


def certificate_authority(name: str) -> str:
    """Return what the API server's certificate is signed with, in base64 as a kubeconfig has it.  Raises NotReady."""
    return str(_kubeconfig(name)["clusters"][0]["cluster"]["certificate-authority-data"])


def _kubeconfig(name: str) -> dict[str, Any]:
    try:
        text = (Cluster(name).folder / "kubeconfig.json").read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotReady(f"there is no cluster {name}", next_step="breakfix cluster warm") from error
    found: dict[str, Any] = json.loads(text)
    return found
