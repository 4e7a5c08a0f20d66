"""The answer key of kubernetes/liveness-kills-slow-start.

How long a hang may last is computed from the probes of the pods that run, not tried: a grader can't make a container hang
that somebody else owns, and 30 s of waiting would be paid by every grade.  The kubelet does what these numbers say:
a probe that begins to fail has failed `failureThreshold` times after `periodSeconds` times that, and the last of these
failures shows after `timeoutSeconds`.  What is tried is what the probe asks: a healthy container must answer it.
"""

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

SLOW_START, NEVER_UP, HANG, A_MINUTE, SLOW_SEARCH = 45, 120, 30, 60, 20


@baseline
def before(cluster):
    return cluster.inventory()


def ready_pods(cluster, lab):
    """The ready pods of the deployment, as it says now."""
    return [one for one in cluster.newest("deployments", lab.service) if is_ready(one)]


def patience(probe):
    """Seconds from a container's start until this probe has given it up, as the documentation counts them."""
    return probe.get("initialDelaySeconds", 0) + probe["periodSeconds"] * probe["failureThreshold"]


def starting(pod):
    """The probe that a starting container has to do with: one that asks over the network holds the others back."""
    first = field(pod, "spec.containers.0.startupProbe", {})
    return first if {"httpGet", "tcpSocket"} & first.keys() else field(pod, "spec.containers.0.livenessProbe", {})


def grace(pod, probe):
    """Seconds that a container has to end by itself, when this probe has given it up."""
    whole = field(pod, "spec.terminationGracePeriodSeconds", 30)
    return probe.get("terminationGracePeriodSeconds", whole)


@check(points=25, skill="k8s.debugging", stable_for=8)
def test_it_answers(client, lab):
    """The service answers a search, and goes on answering"""
    said = client.run(f"curl -s -m 8 http://{lab.service}.{lab.namespaces['library']}:8080/").stdout.strip()
    assert said == lab.service


@check(points=15, skill="k8s.debugging", needs="test_it_answers", stable_for=8)
def test_two_pods_of_the_deployment_serve(cluster, lab):
    """Two ready pods of the deployment stand behind the service's name, nobody else, and none was restarted"""
    pods = ready_pods(cluster, lab)
    assert len(pods) == 2, "ready pods of the newest version"
    slices = cluster.all("endpointslices", **{"kubernetes.io/service-name": lab.service})
    behind = {ip for one in slices for end in field(one, "endpoints", []) for ip in end["addresses"]}
    assert behind == {field(one, "status.podIP") for one in pods}
    assert cluster.restarts("deployments", lab.service) == 0, "restarts"


@check(points=15, skill="k8s.debugging", needs="test_it_answers")
def test_a_slow_start_is_not_disturbed(cluster, lab):
    """A start that takes 45 s is not disturbed by any probe"""
    pods = ready_pods(cluster, lab)
    allowed = [patience(one) if (one := starting(pod)) else NEVER_UP for pod in pods]
    assert pods, "ready pods"
    assert min(allowed) >= SLOW_START, "seconds that a start may take"


@check(points=15, skill="k8s.debugging", needs="test_it_answers")
def test_a_healthy_container_is_let_live(client, cluster, lab):
    """What the liveness probe asks is answered by a healthy container, however slow its searches are"""
    asked = [(one, field(one, "spec.containers.0.livenessProbe", {})) for one in ready_pods(cluster, lab)]
    assert asked, "ready pods"
    for pod, probe in asked:
        target = probe.get("httpGet", {})
        ports = {one.get("name"): one["containerPort"] for one in field(pod, "spec.containers.0.ports", [])}
        port = ports.get(target.get("port"), target.get("port"))
        url = f"{target.get('scheme', 'HTTP').lower()}://{field(pod, 'status.podIP')}:{port}{target.get('path', '/')}"
        # A probe that waits longer than the slowest search takes may ask for one.
        longest = 8 if probe.get("timeoutSeconds", 1) > SLOW_SEARCH else 3
        status = client.run(f"curl -s -m {longest} -o /dev/null -w '%{{http_code}}' '{url}'").stdout
        assert status == "200", f"what {url} is answered with, within {longest} s"


@check(points=20, skill="design.failure-modes", needs="test_it_answers")
def test_a_hang_is_ended(cluster, lab):
    """A container that hangs is ended within 30 s, one that never gets up within 120 s"""
    asked = [(one, field(one, "spec.containers.0.livenessProbe", {})) for one in ready_pods(cluster, lab)]
    assert asked, "ready pods"
    for pod, probe in asked:
        # A connection is accepted on behalf of a process that hangs, and a command runs beside it.
        assert "httpGet" in probe, "a liveness probe that asks over HTTP"
        assert not field(probe, "httpGet.host"), "another host is asked than the pod"
        noticed = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
        assert noticed + grace(pod, probe) <= HANG, "seconds that a hang lasts"
        assert probe.get("initialDelaySeconds", 0) <= A_MINUTE, "seconds in which nobody asks"
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
