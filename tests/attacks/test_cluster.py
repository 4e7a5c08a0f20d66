"""What a candidate with the credentials of a cluster lab tries, and what becomes of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from breakfix.cluster import namespaces
from breakfix.model import Outcome
from tests.stage import outcomes, told, what_a_pod_reaches

if TYPE_CHECKING:
    from breakfix.model import Session
    from tests.stage import Stage

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def victim(practice: Stage) -> Session:
    """Return a session in which the candidate does what they like."""
    return practice.start("beacon", seed=3)


def refused(stage: Stage, session: Session, command: str) -> str:
    """Return what the cluster says to a command of the candidate's that must fail."""
    done = stage.candidate(session, command, "workstation")
    assert done.exit_status, f"{command}: {done.text}"
    return done.error_text


@pytest.mark.parametrize(
    "command",
    [
        "kubectl get secrets -A",
        "kubectl get namespaces",
        "kubectl get pods -A",
        "kubectl create namespace mine",
        "kubectl create clusterrolebinding root --clusterrole=cluster-admin --serviceaccount=default:default",
        "kubectl create validatingwebhookconfiguration x",
        "kubectl get validatingwebhookconfigurations",
        "kubectl delete node --all",
        "kubectl taint node breakfix-practice-control-plane away=yes:NoExecute",
        "kubectl get --raw /api/v1/nodes/breakfix-practice-control-plane/proxy/pods",
        "kubectl get --raw /logs/",
        "kubectl certificate approve x",
        "kubectl get pods --as=system:admin --as-group=system:masters",
        "kubectl create token default -n kube-system",
        "kubectl delete resourcequota breakfix",
        "kubectl label namespace {coast} pod-security.kubernetes.io/enforce=privileged --overwrite",
        "kubectl delete namespace {coast}",
        "kubectl patch serviceaccount candidate -n {own} -p '{{}}'",
        "kubectl exec -n {own} probe -- true",
        "kubectl port-forward -n {own} pod/probe 80",
        "kubectl delete pod probe -n {own}",
        "kubectl create role all --verb='*' --resource='*.*'",
        "kubectl get deployment -o name | xargs -I% kubectl patch % --subresource=status -p '{{}}'",
        "kubectl get pod -o name | xargs -I% kubectl patch % --subresource=status -p '{{}}'",
        "kubectl get service -o name | xargs -I% kubectl patch % --subresource=status -p '{{}}'",
    ],
)
def test_nothing_outside_their_namespaces_obeys(practice: Stage, victim: Session, command: str) -> None:
    words = {**victim.namespaces, "own": namespaces.own(victim)}
    said = refused(practice, victim, command.format(**words)).lower()
    assert "forbidden" in said or "cannot" in said or "error" in said


POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "out"}}
CONTAINER = {"name": "x", "image": "registry.lab/coast/beacon:1.0"}


@pytest.mark.parametrize(
    ("how", "spec"),
    [
        ("privileged", {"containers": [{**CONTAINER, "securityContext": {"privileged": True}}]}),
        ("the node's files", {"containers": [CONTAINER], "volumes": [{"name": "x", "hostPath": {"path": "/"}}]}),
        ("the node's network", {"hostNetwork": True, "containers": [CONTAINER]}),
        ("the node's processes", {"hostPID": True, "containers": [CONTAINER]}),
        ("a capability", {"containers": [{**CONTAINER, "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]}),
        ("a port of the node", {"containers": [{**CONTAINER, "ports": [{"containerPort": 1, "hostPort": 6443}]}]}),
    ],
)
def test_no_pod_gets_out_to_the_node(practice: Stage, victim: Session, how: str, spec: dict[str, object]) -> None:
    manifest = json.dumps({**POD, "spec": spec})
    assert "violates PodSecurity" in refused(practice, victim, f"kubectl create -f - <<'END'\n{manifest}\nEND")


def test_an_address_of_somebody_elses_cannot_be_taken(practice: Stage, victim: Session) -> None:
    manifest = json.dumps(
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "taken"},
            "spec": {"ports": [{"port": 443}], "externalIPs": ["10.96.0.1"]},
        }
    )  # fmt: skip
    assert "externalIPs" in refused(practice, victim, f"kubectl create -f - <<'END'\n{manifest}\nEND")


def test_the_cluster_cannot_be_filled(practice: Stage, victim: Session) -> None:
    one = '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "f%d"}}\\n'
    script = f"for i in $(seq 400); do printf '{one}' $i; done"
    said = refused(practice, victim, f"({script}) | kubectl create -f -")
    assert "exceeded quota" in said
    practice.do(victim, "kubectl get configmap -o name | grep /f | xargs kubectl delete --wait=false", "workstation")


def test_the_workstation_reaches_the_cluster_and_nothing_else(practice: Stage, victim: Session) -> None:
    assert (
        "default" not in practice.candidate(victim, "cat /proc/net/route; getent hosts debian.org", "workstation").text
    )
    assert practice.candidate(victim, "timeout 5 getent hosts debian.org", "workstation").exit_status
    for path in ("/var/run/docker.sock", "/run/containerd/containerd.sock", "/etc/kubernetes/admin.conf"):
        assert practice.candidate(victim, f"test -e {path}", "workstation").exit_status
    node = "breakfix-practice-control-plane"
    for port in (10250, 2379, 10257, 10259):
        done = practice.candidate(
            victim, f"curl -sk -m 3 https://{node}:{port}/pods -o /dev/null -w '%{{http_code}}'", "workstation"
        )
        assert done.text in {"000", "401", "403"}, port


def test_a_pod_reaches_the_cluster_and_nothing_beyond(practice: Stage, victim: Session) -> None:
    said = what_a_pod_reaches(practice, victim)
    assert len(said) > 1
    assert "REACHED" not in "".join(said)
    inside = f"kubectl exec deployment/{practice.service(victim)} -- curl -sk -m 3 https://kubernetes.default/healthz"
    assert practice.candidate(victim, inside, "workstation").text


def test_a_doctored_kubectl_and_kubeconfig_change_no_grade(practice: Stage, victim: Session) -> None:
    practice.do(
        victim,
        "printf '#!/bin/sh\\necho all is well\\n' >/usr/local/bin/kubectl; echo '{}' >/root/.kube/config; "
        "cp /usr/local/bin/kubectl /usr/bin/curl",
        "workstation",
    )
    made = practice.grade(victim)
    assert made.gradable, told(made)
    assert outcomes(made)["test_it_is_seen"] is Outcome.FAILED
    assert made.earned == 0


def test_a_grade_is_the_administrators_and_not_the_candidates(practice: Stage) -> None:
    """The candidate takes their own rights away; the grade is the same."""
    session = practice.start("beacon", seed=4)
    practice.solve(session)
    practice.do(session, "kubectl delete rolebinding --all", "workstation")
    made = practice.grade(session)
    assert outcomes(made)["test_it_is_seen"] is Outcome.PASSED, told(made)
    assert outcomes(made)["test_nothing_is_lost"] is Outcome.FAILED
