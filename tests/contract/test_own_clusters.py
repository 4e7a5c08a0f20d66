"""A session with a cluster of its own: claimed from the standby, two nodes wide, gone with the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from breakfix import sessions
from breakfix.cluster import clusters, node, own
from breakfix.engine.client import connect
from breakfix.errors import HostUnreachable
from breakfix.model import Outcome
from tests.stage import outcomes, quiet, told, until, what_a_pod_reaches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from breakfix.cluster.clusters import Cluster
    from breakfix.model import Session
    from tests.stage import Stage

pytestmark = pytest.mark.engine

SEED = 2
# As runc leaves a container, on cgroup v1, when its node is killed in a bad moment: the node could then not be removed.
FREEZE = """
for one in $(find /sys/fs/cgroup/freezer/kubelet* -name freezer.state 2>/dev/null | grep cri-containerd); do
    echo FROZEN >"$one"
done
"""


@pytest.fixture(scope="module")
def standby(practice: Stage) -> Iterator[Cluster]:
    """Return a cluster that was made before anybody asked."""
    practice.environment.prepare(practice.lab("beacon"), quiet)
    before = {one.name for one in own.standbys()}
    own.drop_standbys(quiet)
    own.stand_by(1, quiet)
    (made,) = own.standbys()
    assert made.name not in before
    yield made
    own.drop_standbys(quiet)


@pytest.fixture(scope="module")
def isle(practice: Stage, standby: Cluster) -> Session:
    assert clusters.state(standby).exists
    return practice.start("isle", SEED)


def test_a_start_claims_the_standby(isle: Session, standby: Cluster) -> None:
    assert isle.cluster == standby.name
    assert clusters.state(standby).running
    assert own.standbys() == ()
    assert own.of(isle.cluster).nodes == standby.nodes


def test_it_is_read_back_whole(practice: Stage, isle: Session) -> None:
    assert practice.read(isle) == isle


def test_its_nodes_have_a_limit(isle: Session, standby: Cluster) -> None:
    assert isle.cluster == standby.name
    assert {connect().inspect_container(one)["HostConfig"]["Memory"] for one in standby.nodes} == {own.NODE_MEMORY}


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("get secrets -n kube-system", "no"),
        ("create pods -n kube-system", "no"),
        ("create pods/exec -n kube-system", "no"),
        ("create clusterrolebindings", "no"),
        ("get nodes --subresource=proxy", "no"),
        ("impersonate users", "no"),
        ("create pods", "yes"),
        ("get nodes", "yes"),
    ],
)
def test_the_candidate_has_namespaces_and_no_more(practice: Stage, isle: Session, asked: str, answer: str) -> None:
    assert practice.candidate(isle, f"kubectl auth can-i {asked}", "workstation").text.strip() == answer


def test_a_pod_that_would_own_its_node_is_refused(practice: Stage, isle: Session) -> None:
    done = practice.candidate(isle, "kubectl run x --image=registry.lab/isle/hut:1.0 --privileged", "workstation")
    assert done.exit_status
    assert "violates PodSecurity" in done.error_text


def test_red_mended_green_over_two_nodes(practice: Stage, isle: Session) -> None:
    made = practice.grade(isle)
    assert outcomes(made)["test_somebody_lives_there"] is Outcome.FAILED
    practice.solve(isle)
    made = practice.grade(isle)
    assert made.passed, told(made)


def test_a_pod_on_a_worker_reaches_the_cluster_and_nothing_else(
    practice: Stage, isle: Session, standby: Cluster
) -> None:
    api = practice.environment.api(isle)  # type: ignore[attr-defined]
    (pod,) = api.list(f"/api/v1/namespaces/{isle.namespaces['isle']}/pods")
    assert pod["spec"]["nodeName"] == standby.nodes[1]
    said = what_a_pod_reaches(practice, isle)
    assert len(said) > 1
    assert "REACHED" not in "".join(said)
    inside = f"kubectl exec deployment/{practice.service(isle)} -- curl -sk -m 3 https://kubernetes.default/healthz"
    assert practice.candidate(isle, inside, "workstation").text


def admin(practice: Stage, session: Session, script: str) -> str:
    """Run a command as the cluster's administrator."""
    done = practice.trusted(session, script, "cluster", timeout=90)
    assert done.exit_status == 0, done.error_text
    return done.text.strip()


def test_a_worker_is_drained_lost_and_brought_back(practice: Stage, isle: Session, standby: Cluster) -> None:
    worker = standby.nodes[1]
    ready = f"kubectl get node {worker} -o jsonpath='{{.status.conditions[?(@.type==\"Ready\")].status}}'"
    admin(practice, isle, f"kubectl drain {worker} --ignore-daemonsets --force --delete-emptydir-data --timeout=60s")
    assert not practice.grade(isle).passed
    admin(practice, isle, f"kubectl uncordon {worker}")
    assert practice.grade(isle).passed
    connect().kill(worker)
    until(lambda: admin(practice, isle, ready) != "True", 90)
    clusters.rouse(standby, quiet)
    assert admin(practice, isle, ready) == "True"
    clusters.fence(standby)
    made = practice.grade(isle)
    assert made.passed, told(made)


def test_a_reset_gives_another_cluster_and_a_stop_leaves_none(practice: Stage, isle: Session) -> None:
    again = sessions.reset(practice.environment, isle, practice.lab("isle"), quiet).session
    assert (again.id, again.cluster != isle.cluster) == (isle.id, True)
    assert practice.read(again).cluster == again.cluster
    assert not clusters.state(clusters.Cluster(isle.cluster)).exists
    node.run(connect(), clusters.Cluster(again.cluster).control_plane, FREEZE)
    practice.environment.stop((again.id,))
    assert practice.environment.leftovers(again.id) == ()
    assert practice.engine.remains(again.id) == []
    assert not clusters.state(clusters.Cluster(again.cluster)).exists
    with pytest.raises(HostUnreachable, match="has no cluster any more"):
        practice.environment.api(again)  # type: ignore[attr-defined]
