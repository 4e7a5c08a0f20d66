"""The answer key of kubernetes/local-traffic-black-hole."""

import time

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

NIGHT = ("test_the_night_reaches_the_api", "test_the_night_has_a_cache_next_door")


@baseline
def before(cluster):
    return cluster.inventory()


def caller(cluster, shift):
    """Return the node of a shift's caller, and the network of its pod.  Whoever runs elsewhere is none."""
    pods = [one for one in cluster.newest("deployments", f"caller-{shift}") if is_ready(one)]
    assert len(pods) == 1, f"ready pods of caller-{shift}"
    node = str(field(pods[0], "spec.nodeName"))
    runs_on = field(cluster.get("nodes", node), "metadata.labels", {}).get("fleet.lab/shift")
    assert runs_on == shift, f"the shift of the node that caller-{shift} runs on"
    return node, cluster.inside(field(pods[0], "metadata.name"))


def ask(inside, lab, service, times=3, wait=2.5):
    """Return what requests to a service are answered with."""
    url = f"http://{service}.{lab.namespaces['fleet']}.svc.cluster.local.:8080/?[1-{times}]"
    return inside.run("timeout 8 curl -s -m %s %s", str(wait), url).stdout.splitlines()


def says(lab, service, node):
    return f"{service} {lab.token('answer', 8)} on {node}"


def asked_for_the_api(cluster, lab, shift):
    _, inside = caller(cluster, shift)
    said = [one.partition(" on ")[0] for one in ask(inside, lab, lab.api)]
    assert said == [f"{lab.api} {lab.token('answer', 8)}"] * 3, f"what caller-{shift} hears from {lab.api}"


def asked_for_the_cache(cluster, lab, shift):
    node, inside = caller(cluster, shift)
    said = ask(inside, lab, lab.cache)
    assert said == [says(lab, lab.cache, node)] * 3, f"what caller-{shift} hears from {lab.cache}"


@check(points=20, skill="k8s.networking", stable_for=2)
def test_the_night_reaches_the_api(cluster, lab):
    """caller-night, on its node, gets an answer to every request to the deployment's service"""
    asked_for_the_api(cluster, lab, "night")


@check(points=25, skill="k8s.networking", stable_for=2)
def test_the_night_has_a_cache_next_door(cluster, lab):
    """caller-night gets every answer of the DaemonSet's service from its own node"""
    asked_for_the_cache(cluster, lab, "night")


@check(points=10, skill="k8s.networking", needs="test_the_night_reaches_the_api", stable_for=2)
def test_the_day_is_served_as_before(cluster, lab):
    """caller-day, on its node, goes on getting both, and the second from its own node"""
    asked_for_the_api(cluster, lab, "day")
    asked_for_the_cache(cluster, lab, "day")


@check(points=20, skill="k8s.networking", needs="test_the_night_has_a_cache_next_door")
def test_nothing_crosses(cluster, lab):
    """While the DaemonSet's pod on a node is away, the caller there is never answered from the other node"""
    node, inside = caller(cluster, "night")
    pods = [one for one in cluster.pods("daemonsets", lab.cache) if field(one, "spec.nodeName") == node]
    assert len(pods) == 1, f"pods of {lab.cache} on {node}"
    assert cluster.evict(field(pods[0], "metadata.name")) == "", "why the pod can not be evicted"
    near, others, was_away, said = says(lab, lab.cache, node), set(), False, []
    deadline = time.monotonic() + 30
    while not (was_away and said == [near]) and time.monotonic() < deadline:
        said = ask(inside, lab, lab.cache, times=1, wait=1)
        others |= set(said) - {near}
        was_away = was_away or said != [near]
        time.sleep(0.1)
    assert sorted(others) == [], "what came from elsewhere"
    assert said == [near], "what is answered 30 s after the pod was evicted"


def behind(cluster, service):
    """Return the names of the pods that a service sends requests to."""
    slices = cluster.all("endpointslices", **{"kubernetes.io/service-name": service})
    ends = [end for one in slices for end in one.get("endpoints") or [] if field(end, "conditions.ready")]
    return sorted(field(end, "targetRef.name", "an address that is no pod") for end in ends)


@check(points=10, skill="k8s.networking", needs=NIGHT)
def test_nobody_else_answers(cluster, lab):
    """Only pods of the deployment and of the DaemonSet stand behind the two services"""
    api = [field(one, "metadata.name") for one in cluster.newest("deployments", lab.api)]
    assert behind(cluster, lab.api) == sorted(api), f"pods behind {lab.api}"
    cache = [
        field(one, "metadata.name")
        for one in cluster.pods("daemonsets", lab.cache)
        if field(one, "metadata.ownerReferences.0.kind") == "DaemonSet"
    ]
    assert behind(cluster, lab.cache) == sorted(cache), f"pods behind {lab.cache}"


@check(points=15, skill="k8s.networking", needs=NIGHT)
def test_nothing_else_changed(cluster, lab, baseline):
    """Callers, workloads and services are as they were, and nothing is new"""
    allowed = (
        # What the cache's ought to be, test_nothing_crosses asks.
        "fleet/services/*/internalTrafficPolicy",
        "fleet/services/*/trafficDistribution",
        "fleet/services/*/clusterIP*",
        f"fleet/daemonsets/{lab.cache}/tolerations/*",
        f"fleet/daemonsets/{lab.cache}/nodeSelector/*",
        f"fleet/daemonsets/{lab.cache}/affinity/*",
        "*kubectl.kubernetes.io*",
    )
    assert cluster.differences(baseline, allow=allowed, new=("*",)) == []
