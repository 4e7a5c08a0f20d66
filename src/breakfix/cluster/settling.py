"""Tells a cluster that is still moving from one that has come to rest, broken or not."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from breakfix.cluster.objects import condition, field, is_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from breakfix.cluster.api import Api, Object

LONGEST: Final = 30.0
"""Seconds for which a cluster is waited for."""
YOUNG: Final = 8.0
"""Seconds after its start in which a container that is not ready may only be slow."""
OVERDUE: Final = 15.0
"""Seconds after the moment at which a pod should have ended; one that has not by then is stuck, as on a lost node."""
PULSE: Final = 0.25
SPREAD: Final = (
    "/api/v1/namespaces/{}/services", "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
    "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
)  # fmt: skip
"""What the nodes have to hear of before it holds, and nothing says when they have."""
SPREADING: Final = 3.0
"""Seconds that may take."""
AT_WORK: Final = frozenset({"ContainerCreating", "PodInitializing"})
"""Reasons to wait that pass by themselves; all others are faults."""


def settle(api: Api, namespaces: Iterable[str], longest: float = LONGEST) -> float:
    """Wait until nothing in the namespaces is on its way any more; return the seconds that took."""
    begun, wanted = time.monotonic(), tuple(namespaces)
    while True:
        asked = time.monotonic()
        if not any(moving(api, name) for name in wanted) or asked - begun > longest:
            return time.monotonic() - begun
        # A cluster that answers slowly has enough to do.
        time.sleep(max(PULSE, time.monotonic() - asked))


def moving(api: Api, namespace: str) -> bool:
    """Return True while a controller or a pod of the namespace has work under way."""
    now = datetime.now(UTC)
    pods = api.list(f"/api/v1/namespaces/{namespace}/pods")
    if any(on_its_way(pod, now) for pod in pods):
        return True
    apps = f"/apis/apps/v1/namespaces/{namespace}"
    for kind in ("deployments", "statefulsets", "daemonsets"):
        if any(unseen(one) or between_steps(one) for one in api.list(f"{apps}/{kind}")):
            return True
    return any(_since(_changed(one), now) < SPREADING for path in SPREAD for one in api.list(path.format(namespace)))


def unseen(workload: Object) -> bool:
    """Return True while the controller has not looked at the newest version of a workload."""
    return bool(field(workload, "status.observedGeneration", 0) < field(workload, "metadata.generation", 0))


def between_steps(deployment: Object) -> bool:
    """Return True while a rollout goes on though all pods are ready: the next are due, or these not yet trusted."""
    there = field(deployment, "status.replicas", 0)
    if field(deployment, "spec.paused") or field(deployment, "status.readyReplicas", 0) < there:
        return False
    if condition(deployment, "ReplicaFailure") or condition(deployment, "Progressing").get("status") != "True":
        return False
    counts = [field(deployment, f"status.{one}", 0) for one in ("replicas", "updatedReplicas", "availableReplicas")]
    return any(one != field(deployment, "spec.replicas", 1) for one in counts)


def on_its_way(pod: Object, now: datetime) -> bool:
    """Return True while a pod is starting or ending, and not stuck in that."""
    if ends := field(pod, "metadata.deletionTimestamp"):
        return _since(ends, now) < OVERDUE
    if field(pod, "status.phase") in {"Succeeded", "Failed"}:
        return False
    statuses = [*field(pod, "status.initContainerStatuses", []), *field(pod, "status.containerStatuses", [])]
    if not statuses:
        unschedulable = condition(pod, "PodScheduled").get("reason") == "Unschedulable"
        return not unschedulable and _since(field(pod, "metadata.creationTimestamp"), now) < YOUNG
    if any(_is_back_with_its_node(one, now) for one in statuses):
        return True
    if is_ready(pod) or _is_on_a_lost_node(pod, now):
        return False
    return all(_may_become_ready(one, now) for one in statuses)


def _is_on_a_lost_node(pod: Object, now: datetime) -> bool:
    """Return True where the kubelet's last word was that all is ready, and others have long said that it is not."""
    words = field(pod, "status.containerStatuses", [])
    since = field(condition(pod, "Ready"), "lastTransitionTime", "")
    return bool(words) and all(one.get("ready") for one in words) and _since(since, now) >= YOUNG


def _may_become_ready(container: Object, now: datetime) -> bool:
    state = field(container, "state", {})
    if "waiting" in state:
        return str(field(state, "waiting.reason")) in AT_WORK
    if "terminated" in state:
        return bool(field(state, "terminated.exitCode") == 0)
    if container.get("ready"):
        return True
    # One that has ended before will do so again; one that has just begun may need a moment.
    fresh = _since(field(state, "running.startedAt"), now) < YOUNG
    return fresh and not container.get("restartCount", 0)


def _is_back_with_its_node(container: Object, now: datetime) -> bool:
    """Return True just after a container started again because its node did: nobody knows how it ended.

    Until it was asked a few times, the kubelet calls it as ready as it was before.
    """
    went = field(container, "lastState.terminated.reason") == "Unknown"
    return went and _since(field(container, "state.running.startedAt"), now) < YOUNG


def _changed(found: Object) -> object:
    """Return when an object's content was last written, by whomever."""
    return max((str(one.get("time")) for one in field(found, "metadata.managedFields", [])), default="")


def _since(moment: object, now: datetime) -> float:
    try:
        return (now - datetime.fromisoformat(str(moment))).total_seconds()
    except ValueError:
        return YOUNG


def until(holds: Callable[[], bool], longest: float) -> bool:
    """Wait until something holds; return False where it did not in time."""
    deadline = time.monotonic() + longest
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(PULSE / 2)
    return True
