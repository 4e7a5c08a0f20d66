"""The answer key of kubernetes/autoscaler-without-request."""

import time
from functools import cache

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

PATIENCE = 50
"""Seconds: the numbers of a new pod take two looks of 15 s, and the autoscaler's own look as long again."""


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
    """Return whether the autoscaler has read something, asked for more, and got it."""
    scaler = cluster.get("horizontalpodautoscalers", service)
    asked = field(scaler, "status.desiredReplicas", 0)
    return asked >= 2 and asked == cluster.ready("deployments", service) and utilisation(scaler) is not None


def utilisation(scaler):
    """Return the use of CPU, in percent of what is requested, that an autoscaler has read last."""
    read = field(scaler, "status.currentMetrics.0", {})
    return field(
        read, f"{'containerResource' if 'containerResource' in read else 'resource'}.current.averageUtilization"
    )


@cache
def wait_for_the_autoscaler(cluster, service):
    """Wait, once in a look, while it may only be slow: not where it follows something else."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not has_asked(cluster, service):
        if not follows(cluster.get("horizontalpodautoscalers", service), service):
            return
        time.sleep(1.5)


@check(points=25, skill="k8s.resources", stable_for=3)
def test_more_than_one_pod_answers(client, cluster, lab):
    """Two pods or more of the deployment answer under the load"""
    wait_for_the_autoscaler(cluster, lab.service)
    said = client.run(f"curl -s -m 5 'http://{lab.service}.{lab.namespaces['shop']}:8080/env?[1-20]z'").stdout
    answering = {one.removeprefix("HOSTNAME=") for one in said.split()}
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


@check(points=15, skill="k8s.resources", needs="test_more_than_one_pod_answers")
def test_nothing_holds_it_back(cluster, lab):
    """Within a minute the autoscaler may add a pod, and double the number"""
    up = field(cluster.get("horizontalpodautoscalers", lab.service), "spec.behavior.scaleUp", {})
    assert up.get("selectPolicy", "Max") != "Disabled"
    assert up.get("stabilizationWindowSeconds", 0) <= 60, "seconds that it hesitates"
    policies = up.get("policies") or []
    quick = [
        one["periodSeconds"] <= 60 and one["value"] >= (1 if one["type"] == "Pods" else 100)
        for one in policies
    ]  # fmt: skip
    enough = all(quick) if up.get("selectPolicy") == "Min" else any(quick)
    assert enough or not policies, "policies that let it add a pod within a minute"


@check(points=15, skill="k8s.resources", needs="test_more_than_one_pod_answers")
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


@check(points=15, skill="k8s.resources", needs="test_more_than_one_pod_answers")
def test_the_sidecar_does_not_drown_it(cluster, lab):
    """A pod whose service alone uses 20m counts as above the target"""
    metric = field(cluster.get("horizontalpodautoscalers", lab.service), "spec.metrics.0", {})
    counted = {field(metric, "containerResource.container", "")} - {""}
    requested = [
        sum(
            millicores(field(one, "resources.requests.cpu"))
            for one in field(pod, "spec.containers", [])
            if not counted or one["name"] in counted
        )
        for pod in cluster.newest("deployments", lab.service)
    ]
    assert max(requested) < 40, "millicores of which 20 are more than half"


@check(points=10, skill="k8s.resources", needs="test_more_than_one_pod_answers")
def test_the_rest_is_as_it_was(cluster, lab, baseline):
    """Customers, services and both containers are as they were"""
    allowed = (
        f"shop/deployments/{lab.service}/replicas",
        f"shop/deployments/{lab.service}/containers/{lab.sidecar}/resources/*cpu",
        "shop/horizontalpodautoscalers/*",
        "shop/deployments/*kubectl.kubernetes.io*",
    )
    new = ("shop/deployments/*", "shop/statefulsets/*", "shop/services/*", "shop/*jobs/*")
    assert cluster.differences(baseline, allowed, new) == []
