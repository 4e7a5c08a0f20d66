"""The answer key of kubernetes/autoscaler-without-request."""

import time
from functools import cache

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

PATIENCE = 120
"""Seconds: the numbers of a new pod take two looks of 15 s, the autoscaler has its own, and all are late where it is busy."""
LOOKS = 35
"""Seconds in which the autoscaler looks at least twice: what its first look saw may be a pod that was just ending."""
HESITATION = 60
"""Seconds for which it may hesitate before it adds a pod."""
LATE = 8
"""Seconds by which the node's own rules may be late on a machine that is busy."""


@baseline
def before(cluster):
    return cluster.inventory()


def millicores(quantity):
    """Return a quantity of CPU in thousandths; 0 where none is given."""
    text = str(quantity or "0")
    return float(text.removesuffix("m")) * (1 if text.endswith("m") else 1000)


def conditions(scaler):
    return {one["type"]: one.get("status") for one in field(scaler, "status.conditions", [])}


def follows(scaler, service):
    """Return whether an autoscaler refers to the deployment."""
    wanted = {"apiVersion": "apps/v1", "kind": "Deployment", "name": service}
    return field(scaler, "spec.scaleTargetRef") == wanted


def has_asked(cluster, service):
    """Return whether the autoscaler reads, has asked for more, and got it."""
    scaler = cluster.get("horizontalpodautoscalers", service)
    asked = field(scaler, "status.desiredReplicas", 0)
    reads = conditions(scaler).get("ScalingActive") == "True" and utilisation(scaler) is not None
    return reads and asked >= 2 and asked == cluster.ready("deployments", service)


def utilisation(scaler):
    """Return the use of CPU, in percent of what is requested, that an autoscaler has read last."""
    read = field(scaler, "status.currentMetrics.0", {})
    return field(
        read, f"{'containerResource' if 'containerResource' in read else 'resource'}.current.averageUtilization"
    )


def knows_and_rests(scaler):
    """Return whether an autoscaler has read all it needs and asks for no pod, or says what keeps it from reading."""
    if utilisation(scaler) is not None:
        return field(scaler, "status.desiredReplicas", 0) < 2
    return any("missing request" in one.get("message", "") for one in field(scaler, "status.conditions", []))


@cache
def wait_for_the_autoscaler(cluster, service):
    """Wait, once in a look, while it may only be slow: not where it follows something else, or will not move."""
    begun = resting = time.monotonic()
    while not has_asked(cluster, service):
        now, scaler = time.monotonic(), cluster.get("horizontalpodautoscalers", service)
        window = field(scaler, "spec.behavior.scaleUp.stabilizationWindowSeconds", 0)
        hesitates = window if window <= HESITATION else 0
        if not knows_and_rests(scaler):
            resting = now
        if not follows(scaler, service) or now > resting + LOOKS + hesitates or now > begun + PATIENCE + hesitates:
            return
        time.sleep(1)


def who_answers(client, cluster, service):
    """Return the names of the pods that answer twenty requests."""
    said = client.run(f"curl -s -m 5 'http://{service}.{cluster.name('shop')}:8080/env?[1-20]z'").stdout
    return {one.removeprefix("HOSTNAME=") for one in said.split()}


@cache
def wait_for_a_second(client, cluster, service):
    """Wait, once in a look, until a second pod that is ready is also asked."""
    deadline = time.monotonic() + LATE
    while time.monotonic() < deadline and cluster.ready("deployments", service) >= 2:
        if len(who_answers(client, cluster, service)) >= 2:
            return
        time.sleep(0.5)


@check(points=25, skill="k8s.resources", stable_for=3)
def test_more_than_one_pod_answers(client, cluster, lab):
    """Two pods or more of the deployment answer under the load"""
    wait_for_the_autoscaler(cluster, lab.service)
    wait_for_a_second(client, cluster, lab.service)
    answering = who_answers(client, cluster, lab.service)
    assert len(answering) >= 2, "pods that answer"
    ready = {field(one, "metadata.name") for one in cluster.newest("deployments", lab.service) if is_ready(one)}
    assert answering - ready == set(), "who answers and is no pod of the deployment"


@check(points=20, skill="k8s.resources", needs="test_more_than_one_pod_answers")
def test_the_autoscaler_reads_and_asks(cluster, lab):
    """The autoscaler has read the use of CPU, and it is what asks for these pods"""
    wait_for_the_autoscaler(cluster, lab.service)
    scaler = cluster.get("horizontalpodautoscalers", lab.service)
    assert follows(scaler, lab.service), "it refers to the deployment"
    states = conditions(scaler)
    assert (states.get("AbleToScale"), states.get("ScalingActive")) == ("True", "True"), "AbleToScale, ScalingActive"
    assert utilisation(scaler) is not None, "a use in percent that it has read"
    assert field(scaler, "status.desiredReplicas", 0) >= 2, "pods that it asks for"


@check(points=15, skill="k8s.resources", needs="test_the_autoscaler_reads_and_asks")
def test_nothing_holds_it_back(cluster, lab):
    """Within a minute the autoscaler may add a pod"""
    up = field(cluster.get("horizontalpodautoscalers", lab.service), "spec.behavior.scaleUp", {})
    assert up.get("selectPolicy", "Max") != "Disabled"
    assert up.get("stabilizationWindowSeconds", 0) <= HESITATION, "seconds that it hesitates"
    policies = up.get("policies") or []
    # However small a percentage, it is rounded up to a pod.
    quick = [one["periodSeconds"] <= 60 and one["value"] >= 1 for one in policies]
    enough = all(quick) if up.get("selectPolicy") == "Min" else any(quick)
    assert enough or not policies, "policies that let it add a pod within a minute"


@check(points=15, skill="k8s.resources", needs="test_the_autoscaler_reads_and_asks")
def test_its_numbers_are_as_agreed(cluster, lab):
    """There is one autoscaler, for 1 to 3 pods, with a target of 50 % of the CPU requested"""
    assert [field(one, "metadata.name") for one in cluster.all("horizontalpodautoscalers")] == [lab.service]
    scaler = cluster.get("horizontalpodautoscalers", lab.service)
    assert (field(scaler, "spec.minReplicas"), field(scaler, "spec.maxReplicas")) == (1, 3), "at least and at most"
    targets = [
        (inner.get("name"), field(inner, "target.averageUtilization"))
        for one in field(scaler, "spec.metrics", [])
        for inner in [one.get("resource") or one.get("containerResource") or {}]
    ]
    assert targets == [("cpu", 50)], "targets"


@check(points=15, skill="k8s.resources", needs="test_the_autoscaler_reads_and_asks")
def test_the_sidecar_does_not_drown_it(cluster, lab):
    """A pod whose service alone uses 15m counts as above the target"""
    metric = field(cluster.get("horizontalpodautoscalers", lab.service), "spec.metrics.0", {})
    counted = {field(metric, "containerResource.container", "")} - {""}
    assert counted <= {lab.service}, "the one container that is counted"
    requested = []
    for pod in cluster.newest("deployments", lab.service):
        containers = [one for one in field(pod, "spec.containers", []) if not counted or one["name"] in counted]
        whole = 0 if counted else millicores(field(pod, "spec.resources.requests.cpu"))
        requested.append(whole or sum(millicores(field(one, "resources.requests.cpu")) for one in containers))
    assert max(requested, default=0) < 30, "millicores of which 15 are more than half"


@check(points=10, skill="k8s.resources", needs="test_the_autoscaler_reads_and_asks")
def test_the_rest_is_as_it_was(cluster, lab, baseline):
    """Customers, services and both containers are as they were"""
    allowed = (
        f"shop/deployments/{lab.service}/replicas",
        f"shop/deployments/{lab.service}/containers/{lab.sidecar}/resources/*cpu",
        f"shop/deployments/{lab.service}/resources/requests/cpu",
        "shop/horizontalpodautoscalers/*",
        "shop/deployments/*kubectl.kubernetes.io*",
    )
    new = ("shop/deployments/*", "shop/statefulsets/*", "shop/services/*", "shop/*jobs/*")
    assert cluster.differences(baseline, allowed, new) == []
