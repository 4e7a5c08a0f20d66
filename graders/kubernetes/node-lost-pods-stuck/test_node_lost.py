"""The answer key of kubernetes/node-lost-pods-stuck.

The journal tells everything about writers: it stands where the candidate cannot change it, and each line names its writer.
"""

import time
from itertools import groupby

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

JOURNAL = "http://journal.storage:8080/items"


@baseline
def before(cluster, lab):
    pod = cluster.get("pods", f"{lab.ledger}-0")
    return {"held": cluster.inventory(), "node": field(pod, "spec.nodeName")}


def written(client):
    """Return the journal's lines as (number, uid of the writer).  What one writer said twice, it tried twice."""
    lines = [line.split() for line in client.check_output("curl -sf -m 5 %s", JOURNAL).splitlines()]
    return [one for one, _ in groupby((int(line[0]), line[1]) for line in lines)]


@check(points=20, skill="incident.triage", stable_for=2)
def test_every_request_is_answered(client, lab):
    """Every request is answered, with what the StatefulSet's pod says"""
    url = f"http://{lab.front}.{lab.namespaces['shop']}:8080/?[1-6]"
    said = client.run("timeout 8 curl -s -m 4 %s", url).stdout.splitlines()
    assert said == [f"{lab.front} > {lab.ledger}"] * 6, "what six requests are answered with"


@check(points=15, skill="k8s.operations")
def test_the_numbers_go_on(client, cluster, lab):
    """The StatefulSet's pod is ready, and it is the one that writes the next number"""
    pod = cluster.get("pods", f"{lab.ledger}-0")
    assert not field(pod, "metadata.deletionTimestamp"), "whether the pod is on its way out"
    assert is_ready(pod), "whether the pod is ready"
    seen, deadline = written(client), time.monotonic() + 8
    while (now := written(client))[-1][0] == seen[-1][0] and time.monotonic() < deadline:
        time.sleep(0.5)
    assert now[-1][0] > seen[-1][0], "the last number, some seconds later"
    assert now[-1][1] == field(pod, "metadata.uid"), "who wrote the last number"


@check(points=25, skill="k8s.operations", needs="test_the_numbers_go_on")
def test_never_two_writers(client):
    """No number was given out twice or left out, and no writer wrote after its successor had begun"""
    lines = written(client)
    writers = [uid for uid, _ in groupby(uid for _, uid in lines)]
    assert len(writers) == len(set(writers)), "how often the writer changed, and how many there are"
    numbers = [number for number, _ in lines]
    twice = sorted({one for one, following in zip(numbers, numbers[1:], strict=False) if following != one + 1})
    assert twice == [], "numbers that the next one does not follow"


@check(points=10, skill="k8s.operations", needs="test_the_numbers_go_on")
def test_the_lost_machine_is_off(cluster, baseline):
    """The lost machine has no power, the other one has"""
    power = field(cluster.get("configmaps", "power", "kube-system"), "data", {})
    assert [node for node, state in power.items() if state == "off"] == [baseline["node"]], "nodes without power"


@check(points=15, skill="k8s.operations")
def test_all_four_pods_are_ready(cluster, lab):
    """The deployment has its four ready pods"""
    assert cluster.ready("deployments", lab.front) == 4


@check(points=10, skill="k8s.operations", needs=("test_every_request_is_answered", "test_all_four_pods_are_ready"))
def test_nothing_else_changed(cluster, lab, baseline):
    """The hard spread, replicas, services and all else are as they were, and nothing is new"""
    own = f"shop/deployments/{lab.front}"
    meant = (f"{own}/topologySpreadConstraints/*/nodeTaintsPolicy", "*kubectl.kubernetes.io*")
    assert cluster.differences(baseline["held"], allow=meant, new=("*",)) == []


@check(points=5, skill="k8s.operations", needs="test_the_numbers_go_on")
def test_nothing_is_left_behind(cluster, baseline):
    """No pod is left terminating, waiting, or on the lost node"""
    left = [
        field(one, "metadata.name")
        for one in cluster.all("pods")
        if field(one, "metadata.deletionTimestamp") or field(one, "spec.nodeName") in {None, baseline["node"]}
    ]
    assert left == []
