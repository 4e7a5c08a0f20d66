"""The answer key of kubernetes/liveness-kills-slow-start.

How long a hang may last is computed from the probes of the pods that run, not tried: a grader can't make a container hang
that somebody else owns, and 30 s of waiting would be paid by every grade.  The kubelet does what these numbers say:
a probe that begins to fail has failed `failureThreshold` times after `periodSeconds` times that, and the last of these
failures shows after `timeoutSeconds`.  What is tried is what the probe asks: a healthy container must answer it.
"""

import time
from datetime import UTC, datetime

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

SLOW_START, NEVER_UP, HANG, UP_FOR, SLOW_SEARCH = 45, 120, 30, 60, 20
MORE = 10
"""Seconds more than it takes for which a first start is waited for: the machine may be busy."""


@baseline
def before(cluster):
    return cluster.inventory()


def ready_pods(cluster, lab):
    """The ready pods of the deployment, as it says now."""
    return [one for one in cluster.newest("deployments", lab.service) if is_ready(one)]


def let_them_start(cluster, lab):
    """Give containers that start for the first time the seconds for it: who has just mended it need not wait."""
    while any(_may_still_start(one, lab) for one in cluster.newest("deployments", lab.service)):
        time.sleep(0.5)


def _may_still_start(pod, lab):
    begun = field(pod, "status.containerStatuses.0.state.running.startedAt")
    if is_ready(pod) or not begun or field(pod, "status.containerStatuses.0.restartCount", 0):
        return False
    return (datetime.now(UTC) - datetime.fromisoformat(begun)).total_seconds() < lab.takes + MORE


def patience(probe):
    """Seconds from a container's start until this probe has given it up, as the documentation counts them."""
    return probe.get("initialDelaySeconds", 0) + probe["periodSeconds"] * probe["failureThreshold"]


def starting(pod):
    """The probe that a starting container has to do with: one for the start holds the others back."""
    first = field(pod, "spec.containers.0.startupProbe", {})
    return first or field(pod, "spec.containers.0.livenessProbe", {})


def grace(pod, probe):
    """Seconds that a container has to end by itself, when this probe has given it up."""
    whole = field(pod, "spec.terminationGracePeriodSeconds", 30)
    return probe.get("terminationGracePeriodSeconds", whole)


def url_of(pod, target):
    """What a probe over HTTP asks, as the kubelet puts it together."""
    ports = {one.get("name"): one["containerPort"] for one in field(pod, "spec.containers.0.ports", [])}
    port = ports.get(target.get("port"), target.get("port"))
    path = target.get("path", "/")
    return f"{target.get('scheme', 'HTTP').lower()}://{field(pod, 'status.podIP')}:{port}/{path.removeprefix('/')}"


@check(points=25, skill="k8s.debugging", stable_for=8)
def test_it_answers(client, cluster, lab):
    """The service answers a search, and goes on answering"""
    let_them_start(cluster, lab)
    said = client.run(f"curl -s -m 8 http://{lab.service}.{lab.namespaces['library']}:8080/").stdout.strip()
    assert said == lab.service


@check(points=15, skill="k8s.debugging", needs="test_it_answers", stable_for=8)
def test_two_pods_of_the_deployment_serve(cluster, lab):
    """Two ready pods of the deployment stand behind the service's name, nobody else, and no probe ended either"""
    pods = ready_pods(cluster, lab)
    assert len(pods) == 2, "ready pods of the newest version"
    slices = cluster.all("endpointslices", **{"kubernetes.io/service-name": lab.service})
    behind = {ip for one in slices for end in field(one, "endpoints", []) for ip in end["addresses"]}
    assert behind == {field(one, "status.podIP") for one in pods}
    # Who ends a container by hand, to try things out, gets a 0: it is the kubelet that kills, and says that it did.
    killed = [
        field(one, "lastState.terminated.exitCode")
        for pod in pods
        for one in field(pod, "status.containerStatuses", [])
    ]
    assert not any(killed), "a container was killed"
    own = {field(one, "metadata.uid") for one in pods}
    ended = [
        one["message"]
        for one in cluster.all("events")
        if one.get("reason") == "Killing" and "probe" in one.get("message", "")
        if field(one, "involvedObject.uid") in own
    ]
    assert ended == [], "what the kubelet ended"


@check(points=15, skill="k8s.debugging", needs="test_it_answers")
def test_a_slow_start_is_not_disturbed(cluster, lab):
    """A start that takes 45 s is not disturbed by any probe"""
    pods = ready_pods(cluster, lab)
    assert pods, "no pod of the newest version is ready"
    assert not any("exec" in starting(pod) for pod in pods), "a start is asked for by a command, not over HTTP"
    allowed = [patience(one) if (one := starting(pod)) else NEVER_UP for pod in pods]
    assert min(allowed) >= SLOW_START, "seconds that a start may take"


@check(points=15, skill="k8s.debugging", needs="test_it_answers")
def test_a_healthy_container_is_let_live(client, cluster, lab):
    """What the probes ask is answered by a healthy container, however slow its searches are"""
    pods = ready_pods(cluster, lab)
    assert pods, "no pod of the newest version is ready"
    for pod in pods:
        for kind in ("startupProbe", "livenessProbe"):
            probe = field(pod, f"spec.containers.0.{kind}", {})
            if "httpGet" not in probe:
                continue
            url = url_of(pod, probe["httpGet"])
            # A probe that waits longer than the slowest search takes may ask for one.
            longest = 8 if probe.get("timeoutSeconds", 1) > SLOW_SEARCH else 3
            status = client.run(f"curl -s -m {longest} -o /dev/null -w '%{{http_code}}' '{url}'").stdout
            assert status == "200", f"what {url} is answered with, within {longest} s"


@check(points=20, skill="design.failure-modes", needs="test_it_answers")
def test_a_hang_is_ended(cluster, lab):
    """A container that hangs is ended within 30 s, one that never gets up within 120 s"""
    asked = [(one, field(one, "spec.containers.0.livenessProbe", {})) for one in ready_pods(cluster, lab)]
    assert asked, "no pod of the newest version is ready"
    for pod, probe in asked:
        # A connection is accepted on behalf of a process that hangs, and a command runs beside it.
        assert "httpGet" in probe, "a liveness probe that asks over HTTP"
        assert not field(probe, "httpGet.host"), "another host is asked than the pod"
        noticed = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
        assert noticed + grace(pod, probe) <= HANG, "seconds that a hang lasts"
        assert probe.get("initialDelaySeconds", 0) <= lab.takes + UP_FOR, "seconds in which nobody asks"
        first = starting(pod)
        assert patience(first) + first["timeoutSeconds"] + grace(pod, first) <= NEVER_UP, "seconds without getting up"


@check(points=10, skill="k8s.debugging", needs="test_it_answers")
def test_nothing_else_has_changed(cluster, lab, baseline):
    """But for startup and liveness probe all is as it was, and nothing was added"""
    own = f"library/deployments/{lab.service}"
    meant = (
        f"{own}/paused",
        f"{own}/containers/{lab.service}/livenessProbe/*",
        f"{own}/containers/{lab.service}/startupProbe/*",
        f"{own}/*kubectl.kubernetes.io*",
    )
    assert cluster.differences(baseline, allow=meant, new=("*",)) == []
