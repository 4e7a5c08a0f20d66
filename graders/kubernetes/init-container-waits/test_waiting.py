"""The answer key of kubernetes/init-container-waits.

The grade looks twice: as found, and after every pod was made anew at once.  Only then is it seen who waits: what was
written by hand is of an old edition, and an address of a pod leads nowhere.
"""

import time
from datetime import UTC, datetime

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

STARTS_IN = 3
"""Seconds that the upstream needs before it listens."""
NOTICES, LONGEST_WAIT = 15, 45
"""Seconds in which a waiting pod notices that it can get up; seconds for which a grade waits for that."""
STARTED = "status.containerStatuses.0.state.running.startedAt"


@baseline
def before(cluster):
    return cluster.inventory()


def changed(cluster, lab, baseline):
    """What differs from the healthy world, but for the address, the ports of its target, and new services."""
    theirs = f"tariffs/services/{lab.upstream}/ports"
    meant = (
        f"freight/configmaps/{lab.service}-settings/EDITION_URL",
        f"freight/deployments/{lab.service}/paused",
        "*/deployments/*kubectl.kubernetes.io*",
        f"{theirs}/http/targetPort",
    )
    found = cluster.differences(baseline, allow=meant, new=("*",))
    kept = (f"freight/services/{lab.service}/", f"tariffs/services/{lab.upstream}/")
    return [one for one in found if not _is_new_service(one, kept, theirs)]


def _is_new_service(sentence, kept, theirs):
    path, new, _ = sentence.partition(" is new: ")
    added = path.startswith(("freight/services/", "tariffs/services/")) and not path.startswith(kept)
    return bool(new) and (added or path.startswith(f"{theirs}/"))


def ready_pods(cluster, lab):
    return [one for one in cluster.newest("deployments", lab.service) if is_ready(one)]


def seconds(moment):
    return datetime.fromisoformat(moment).timestamp()


def let_them_wait(cluster, lab):
    """Give pods that wait, and rightly so, the time to notice, and those that have noticed the time to start."""
    deadline = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < deadline and len(ready_pods(cluster, lab)) < 2:
        if not starting(cluster, lab) and _long_ready(cluster, lab):
            return
        time.sleep(0.5)


def starting(cluster, lab):
    """The pods that have done their waiting, and are not ready yet; one that crashes is no such pod."""
    return [
        one
        for one in cluster.newest("deployments", lab.service)
        if field(one, "status.initContainerStatuses.0.state.terminated.exitCode") == 0
        and not is_ready(one)
        and not field(one, "status.containerStatuses.0.restartCount", 0)
    ]


def _long_ready(cluster, lab):
    now = datetime.now(UTC).timestamp()
    theirs = [one for one in cluster.pods("deployments", lab.upstream, "tariffs") if is_ready(one)]
    return any(now - moment > NOTICES for moment in since_ready(theirs))


def since_ready(pods):
    return [
        seconds(one["lastTransitionTime"])
        for pod in pods
        for one in field(pod, "status.conditions", [])
        if one.get("type") == "Ready"
    ]


@check(points=30, skill="k8s.debugging", stable_for=4)
def test_it_answers_with_the_edition_of_now(client, cluster, lab):
    """The service answers inside the cluster, with the edition that is handed out now"""
    let_them_wait(cluster, lab)
    theirs = cluster.pods("deployments", lab.upstream, "tariffs")
    address = field(theirs[0], "status.podIP", "") if len(theirs) == 1 else ""
    edition = client.run(f"curl -s -m 2 http://{address}:8080/config").stdout.strip() if address else ""
    assert edition.startswith("EDITION="), "what is handed out"
    url = f"http://{lab.service}.{lab.namespaces['freight']}:8080/config"
    # A connection to a pod that has just gone is tried once more; an answer counts, whatever it is.
    once = f"curl -s -m 2 {url}"
    said = client.run(
        f"for n in 1 2 3 4; do {once} || {{ sleep 1; {once}; }} || {{ echo nothing; break; }}; done", timeout=30
    ).stdout
    assert set(said.split()) == {edition}


@check(points=15, skill="k8s.debugging", needs="test_it_answers_with_the_edition_of_now")
def test_two_pods_of_the_deployment_serve(cluster, lab):
    """Two ready pods of the deployment stand behind the service's name, and nobody else"""
    pods = ready_pods(cluster, lab)
    assert len(pods) == 2, "ready pods of the newest version"
    slices = cluster.all("endpointslices", **{"kubernetes.io/service-name": lab.service})
    behind = {ip for one in slices for end in field(one, "endpoints", []) for ip in end["addresses"]}
    assert behind == {field(one, "status.podIP") for one in pods}


@check(points=20, skill="design.failure-modes", needs="test_it_answers_with_the_edition_of_now")
def test_no_pod_got_past_the_wait(cluster, lab):
    """Each pod waited in its init container, until what it waits for was ready"""
    ends = [
        field(one, "state.terminated", {})
        for pod in ready_pods(cluster, lab)
        for one in field(pod, "status.initContainerStatuses", [])
        if one.get("name") == f"wait-for-{lab.upstream}"
    ]
    assert [one.get("exitCode") for one in ends] == [0, 0], "how the waiting of the two pods ended"
    theirs = cluster.pods("deployments", lab.upstream, "tariffs")
    # Of a container that somebody ended by hand, to try things out, the first start is not told any more.
    firsts = [one for one in theirs if not field(one, "status.containerStatuses.0.restartCount", 0)]
    begun = [seconds(moment) for one in firsts if (moment := field(one, STARTED))]
    early = [one["finishedAt"] for one in ends if seconds(one["finishedAt"]) < max(begun, default=0) + STARTS_IN - 1]
    assert early == [], "ends of the waiting, before there was anything to be had"


@check(points=15, skill="k8s.debugging", needs="test_it_answers_with_the_edition_of_now")
def test_the_deployment_is_as_it_was(cluster, lab, baseline):
    """How the pods wait, start, are probed and limited is as it was"""
    own = f"freight/deployments/{lab.service}/"
    assert [one for one in changed(cluster, lab, baseline) if one.startswith(own)] == []


@check(points=10, skill="k8s.networking", needs="test_it_answers_with_the_edition_of_now")
def test_nothing_else_was_touched(cluster, lab, baseline):
    """The other team's service offers what it did; nothing else is changed, gone or new"""
    own = f"freight/deployments/{lab.service}/"
    assert [one for one in changed(cluster, lab, baseline) if not one.startswith(own)] == []


@check(points=10, skill="k8s.debugging", needs="test_it_answers_with_the_edition_of_now", stable_for=4)
def test_no_pod_restarts(cluster, lab):
    """No container of the service ended with an error and was started again"""
    # Who ends a container by hand, to try things out, gets a 0.
    ends = [
        field(one, "lastState.terminated.exitCode")
        for pod in cluster.pods("deployments", lab.service)
        for one in field(pod, "status.containerStatuses", [])
    ]
    assert [one for one in ends if one] == [], "how containers ended before"
