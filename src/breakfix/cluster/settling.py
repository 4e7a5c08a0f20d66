"""Tells a cluster that is still moving from one that has come to rest, broken or not."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from breakfix.cluster.api import Api, Object

LONGEST: Final = 30.0
"""Seconds for which a cluster is waited for."""
YOUNG: Final = 8.0
"""Seconds after its start in which a container that is not ready may only be slow."""
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
    while any(moving(api, name) for name in wanted) and time.monotonic() - begun < longest:
        time.sleep(PULSE)
    return time.monotonic() - begun


def moving(api: Api, namespace: str) -> bool:
    """Return True while a controller or a pod of the namespace has work under way."""
    apps = f"/apis/apps/v1/namespaces/{namespace}"
    for kind in ("deployments", "statefulsets", "daemonsets"):
        if any(unseen(one) for one in api.list(f"{apps}/{kind}")):
            return True
    now = datetime.now(UTC)
    if any(_since(_changed(one), now) < SPREADING for path in SPREAD for one in api.list(path.format(namespace))):
        return True
    return any(on_its_way(pod, now) for pod in api.list(f"/api/v1/namespaces/{namespace}/pods"))


def unseen(workload: Object) -> bool:
    """Return True while the controller has not looked at the newest version of a workload."""
    seen = _of(workload, "status").get("observedGeneration", 0)
    return bool(seen < _of(workload, "metadata").get("generation", 0))


def on_its_way(pod: Object, now: datetime) -> bool:
    """Return True while a pod is starting or ending, and not stuck in that."""
    if _of(pod, "metadata").get("deletionTimestamp"):
        return True
    status = _of(pod, "status")
    if status.get("phase") in {"Succeeded", "Failed"}:
        return False
    if not status.get("containerStatuses") and not status.get("initContainerStatuses"):
        return not _unschedulable(status) and _since(_of(pod, "metadata").get("creationTimestamp"), now) < YOUNG
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return not _ready(status) and all(_may_become_ready(one, now) for one in statuses)


def _unschedulable(status: Object) -> bool:
    return _condition(status, "PodScheduled").get("reason") == "Unschedulable"


def _ready(status: Object) -> bool:
    return _condition(status, "Ready").get("status") == "True"


def _condition(status: Object, kind: str) -> Object:
    found = [one for one in status.get("conditions") or () if one.get("type") == kind]
    return found[0] if found else {}


def _may_become_ready(container: Object, now: datetime) -> bool:
    state = _of(container, "state")
    if "waiting" in state:
        return _of(state, "waiting").get("reason") in AT_WORK
    if "terminated" in state:
        return _of(state, "terminated").get("exitCode") == 0
    if container.get("ready"):
        return True
    # One that has ended before will do so again; one that has just begun may need a moment.
    fresh = _since(_of(state, "running").get("startedAt"), now) < YOUNG
    return fresh and not container.get("restartCount", 0)


def _changed(found: Object) -> object:
    """Return when an object's content was last written, by whomever."""
    return max((str(one.get("time")) for one in _of(found, "metadata").get("managedFields") or ()), default="")


def _since(moment: object, now: datetime) -> float:
    try:
        return (now - datetime.fromisoformat(str(moment))).total_seconds()
    except ValueError:
        return YOUNG


def _of(found: Object, key: str) -> dict[str, Any]:
    """Return what is below a key: nothing where it is missing, null, or no object at all."""
    inner = found.get(key)
    return inner if isinstance(inner, dict) else {}


def until(holds: Callable[[], bool], longest: float) -> bool:
    """Wait until something holds; return False where it did not in time."""
    deadline = time.monotonic() + longest
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(PULSE / 2)
    return True
