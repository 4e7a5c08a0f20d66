"""The answer key of kubernetes/readiness-never-turns.

The grade looks twice: as found, and after every pod was made anew at once.  Only then is it seen whether a pod waits with
being ready for what it needs.
"""

import time
from datetime import datetime

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

STARTS_IN = 4
"""Seconds that the upstream needs before it listens."""
NOTICES, PATIENCE = 12, 40
"""Seconds in which a pod notices that its upstream is up; seconds for which a grade waits for that."""
OWN_PAGES = {"", "/healthz", "/config", "/env", "/items", "/files"}
"""What the service answers by itself; the empty one is that of a probe that asks nothing over HTTP."""


@baseline
def before(cluster):
    return cluster.inventory()


def changed(cluster, lab, baseline):
    """What differs from the healthy world, but for what the probe asks, the name of the upstream, and new services."""
    own = f"cinema/deployments/{lab.service}"
    meant = (
        f"{own}/paused",
        f"{own}/containers/{lab.service}/readinessProbe/httpGet/*",
        f"{own}/containers/{lab.service}/env/UPSTREAM/value",
        "cinema/deployments/*kubectl.kubernetes.io*",
    )
    found = cluster.differences(baseline, allow=meant, new=("*",))
    kept = (f"cinema/services/{lab.service}/", f"cinema/services/{lab.upstream}/")
    return [one for one in found if not _is_new_service(one, kept)]


def _is_new_service(sentence, kept):
    path, new, _ = sentence.partition(" is new: ")
    return bool(new) and path.startswith("cinema/services/") and not path.startswith(kept)


def ready_pods(cluster, name):
    return [one for one in cluster.newest("deployments", name) if is_ready(one)]


def addresses(pods):
    return {field(one, "status.podIP") for one in pods}


def behind(slices):
    return {ip for one in slices for end in field(one, "endpoints", []) for ip in end["addresses"]}


def seconds(moment):
    return datetime.fromisoformat(moment).timestamp()


def became_ready(pod):
    """When a pod became ready, or ceased to be."""
    return next(
        (seconds(one["lastTransitionTime"]) for one in field(pod, "status.conditions", []) if one["type"] == "Ready"), 0
    )


def let_them_follow(cluster, lab):
    """Give pods the time to notice that their upstream is up: on a busy machine it may start after them."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and len(ready_pods(cluster, lab.service)) < 2:
        upstreams = ready_pods(cluster, lab.upstream)
        if any(time.time() - became_ready(one) > NOTICES for one in upstreams):
            return
        time.sleep(0.5)


def is_early(pod, upstream):
    """Whether a pod was ready while its upstream was still starting: seen where that was made after it, or with it."""
    if field(upstream, "status.containerStatuses.0.restartCount", 0):
        # Somebody ended the container by hand, to try things out: its first start is not told any more.
        return False
    begun = seconds(field(upstream, "status.containerStatuses.0.state.running.startedAt"))
    return seconds(field(upstream, "metadata.creationTimestamp")) <= became_ready(pod) < begun + STARTS_IN - 1


@check(points=30, skill="k8s.debugging", stable_for=4)
def test_every_request_is_answered(client, cluster, lab):
    """The service answers inside the cluster, each time, and with what its upstream says"""
    let_them_follow(cluster, lab)
    url = f"http://{lab.service}.{lab.namespaces['cinema']}:8080/"
    # A connection to a pod that has just gone is tried once more; an answer counts, whatever it is.
    once = f"curl -s -m 4 {url}"
    said = client.run(
        f"for n in 1 2 3 4; do {once} || {{ sleep 1; {once}; }} || {{ echo nothing; break; }}; done", timeout=50
    ).stdout
    assert set(said.splitlines()) == {f"{lab.service} > {lab.upstream}"}


@check(points=15, skill="k8s.debugging", needs="test_every_request_is_answered")
def test_two_pods_of_the_deployment_serve(cluster, lab):
    """Two ready pods of the deployment stand behind the service's name, and nobody else"""
    pods = ready_pods(cluster, lab.service)
    assert len(pods) == 2, "ready pods of the newest version"
    slices = cluster.all("endpointslices", **{"kubernetes.io/service-name": lab.service})
    assert behind(slices) == addresses(pods)


@check(points=20, skill="design.failure-modes", needs="test_every_request_is_answered")
def test_ready_means_that_the_upstream_is_reached(cluster, lab):
    """No pod was ready before its upstream was, and what the probe asks depends on the upstream"""
    pods = ready_pods(cluster, lab.service)
    asked = [field(one, "spec.containers.0.readinessProbe.httpGet", {}) for one in pods]
    # Whatever is no page of its own is passed on to the upstream, as / is.
    assert asked, "no pod of the newest version is ready"
    idle = {one.get("path", "").partition("?")[0] for one in asked} & OWN_PAGES
    assert idle == set(), "what the readiness probes ask, and the upstream has no part in"
    upstreams = ready_pods(cluster, lab.upstream)
    early = [field(pod, "metadata.name") for pod in pods if any(is_early(pod, one) for one in upstreams)]
    assert early == [], "pods that were ready before their upstream"


@check(points=10, skill="k8s.networking", needs="test_every_request_is_answered")
def test_no_stand_in(cluster, lab):
    """Behind every service are pods of the two deployments, behind the upstream's its own"""
    real = addresses(ready_pods(cluster, lab.upstream))
    slices = cluster.all("endpointslices", **{"kubernetes.io/service-name": lab.upstream})
    assert behind(slices) == real, "who is behind the upstream's name"
    strangers = behind(cluster.all("endpointslices")) - real - addresses(cluster.pods("deployments", lab.service))
    assert strangers == set()


@check(points=15, skill="k8s.debugging", needs="test_every_request_is_answered")
def test_the_deployment_is_as_it_was(cluster, lab, baseline):
    """But for what its probe asks and the upstream's name, the deployment is as it was"""
    own = f"cinema/deployments/{lab.service}/"
    assert [one for one in changed(cluster, lab, baseline) if one.startswith(own)] == []


@check(points=10, skill="k8s.debugging", needs="test_every_request_is_answered")
def test_nothing_else_was_touched(cluster, lab, baseline):
    """Nothing else has changed, is gone or is new; services send customers only to pods that are ready"""
    own = f"cinema/deployments/{lab.service}/"
    assert [one for one in changed(cluster, lab, baseline) if not one.startswith(own)] == []
