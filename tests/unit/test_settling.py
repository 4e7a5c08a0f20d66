"""Which pods are still on their way, and which are stuck: a look waits for the first and not for the others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from breakfix.cluster import settling

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def pod(*containers: dict[str, Any], ready: bool = False, **status: object) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": {"creationTimestamp": ago(60)},
        "status": {"phase": "Pending", "conditions": conditions, "containerStatuses": list(containers), **status},
    }


def waiting(reason: str) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason}}}


def running(seconds: float, **more: object) -> dict[str, Any]:
    return {"state": {"running": {"startedAt": ago(seconds)}}, **more}


def unready(seconds: float) -> dict[str, str]:
    return {"type": "Ready", "status": "False", "lastTransitionTime": ago(seconds)}


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}

ENDED = {"terminated": {"reason": "Error", "exitCode": 1}}
LOST = {"terminated": {"reason": "Unknown", "exitCode": 255}}


@pytest.mark.parametrize(
    ("found", "moving"),
    [
        (pod(running(5), ready=True), False),
        ({**pod(running(5), ready=True), "metadata": {"deletionTimestamp": ago(1)}}, True),
        ({**pod(running(5), ready=True), "metadata": {"deletionTimestamp": ago(16)}}, False),
        (pod(waiting("ContainerCreating")), True),
        (pod(waiting("PodInitializing")), True),
        (pod(waiting("CrashLoopBackOff")), False),
        (pod(waiting("ImagePullBackOff")), False),
        (pod(waiting("ErrImagePull")), False),
        (pod(waiting("CreateContainerConfigError")), False),
        (pod(running(1)), True),
        (pod(running(30)), False),
        (pod(running(1, restartCount=2)), False),
        (pod(running(1, restartCount=2, lastState=ENDED)), False),
        (pod(running(1, restartCount=2, lastState=LOST)), True),
        (pod(running(1, lastState=LOST), ready=True), True),
        (pod(running(9, lastState=LOST), ready=True), False),
        (pod(running(1, lastState=ENDED), ready=True), False),
        (pod(running(1, ready=True), waiting("CrashLoopBackOff")), False),
        (pod(running(99, ready=True), running(1)), True),
        (pod(running(99, ready=True), conditions=[unready(1)]), True),
        (pod(running(99, ready=True), conditions=[unready(9)]), False),
        (pod({"state": {"terminated": {"exitCode": 1}}}), False),
        (pod(running(1), initContainerStatuses=[{"state": {"terminated": {"exitCode": 0}}}]), True),
        (pod(waiting("PodInitializing"), initContainerStatuses=[running(30)]), False),
        ({"metadata": {"creationTimestamp": ago(1)}, "status": {"phase": "Pending"}}, True),
        ({"metadata": {"creationTimestamp": ago(60)}, "status": {"phase": "Pending"}}, False),
        ({"metadata": {"creationTimestamp": ago(1)}, "status": {"conditions": [UNSCHEDULABLE]}}, False),
        ({"metadata": {}, "status": {"phase": "Succeeded"}}, False),
        ({"metadata": {}, "status": {"phase": "Failed"}}, False),
        ({}, False),
        ({"metadata": None, "status": None}, False),
        (pod({"state": None}), False),
        (pod(running(1) | {"state": {"running": {"startedAt": None}}}), False),
    ],
)
def test_a_pod_is_on_its_way_or_not(found: dict[str, Any], moving: bool) -> None:
    assert settling.on_its_way(found, NOW) is moving


@pytest.mark.parametrize(
    ("found", "unseen"),
    [
        ({"metadata": {"generation": 2}, "status": {"observedGeneration": 1}}, True),
        ({"metadata": {"generation": 2}, "status": {"observedGeneration": 2}}, False),
        ({"metadata": {"generation": 1}, "status": {}}, True),
        ({"metadata": None, "status": None}, False),
    ],
)
def test_a_workload_counts_as_moving_until_its_controller_has_looked(found: dict[str, Any], unseen: bool) -> None:
    assert settling.unseen(found) is unseen


def deployment(
    pods: int, ready: int, updated: int, available: int, *conditions: tuple[str, str], **spec: object
) -> dict[str, Any]:
    counts = {"replicas": pods, "readyReplicas": ready, "updatedReplicas": updated, "availableReplicas": available}
    said = [{"type": kind, "status": status} for kind, status in conditions]
    return {"spec": {"replicas": 2, **spec}, "status": {**counts, "conditions": said}}


PROGRESSING = ("Progressing", "True")


@pytest.mark.parametrize(
    ("found", "moving"),
    [
        pytest.param(deployment(2, 2, 2, 2, PROGRESSING), False, id="it is complete"),
        pytest.param(deployment(2, 2, 2, 1, PROGRESSING), True, id="minReadySeconds are not over"),
        pytest.param(deployment(3, 3, 1, 3, PROGRESSING), True, id="old pods are about to go"),
        pytest.param(deployment(1, 1, 1, 1, PROGRESSING), True, id="one is about to be made"),
        pytest.param(deployment(3, 2, 1, 2, PROGRESSING), False, id="a pod is not ready, and says itself why"),
        pytest.param(deployment(1, 1, 1, 1, PROGRESSING, ("ReplicaFailure", "True")), False, id="a quota forbids it"),
        pytest.param(deployment(2, 2, 1, 2, ("Progressing", "False")), False, id="its deadline is over"),
        pytest.param(deployment(2, 2, 1, 2, PROGRESSING, paused=True), False, id="it is paused"),
        pytest.param({"spec": None, "status": None}, False, id="nothing is said of it"),
    ],
)
def test_a_rollout_between_two_steps_is_moving(found: dict[str, Any], moving: bool) -> None:
    assert settling.between_steps(found) is moving


class FakeApi:
    """Answers lists from a table, which a function may change after each round."""

    def __init__(self, **lists: list[dict[str, Any]]) -> None:
        self.lists = lists
        self.asked = 0

    def list(self, path: str) -> list[dict[str, Any]]:
        self.asked += 1
        return self.lists.get(path.rpartition("/")[2], [])


def test_what_rests_is_looked_at_once() -> None:
    api = FakeApi()
    settling.settle(api, ["shop"])  # type: ignore[arg-type]
    assert api.asked == 7


def test_what_never_rests_is_waited_for_so_long_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "PULSE", 0.01)
    ending = {"metadata": {"deletionTimestamp": "x"}}
    assert settling.settle(FakeApi(pods=[ending]), ["shop"], 0.1) >= 0.1  # type: ignore[arg-type]


def test_a_service_that_was_just_written_is_given_time_to_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "SPREADING", 1.5)
    monkeypatch.setattr(settling, "PULSE", 0.01)
    fresh = {"metadata": {"managedFields": [{"time": "2020-01-01T00:00:00Z"}, {"time": datetime.now(UTC).isoformat()}]}}
    assert settling.settle(FakeApi(services=[fresh]), ["shop"], 9) >= 0.2  # type: ignore[arg-type]
