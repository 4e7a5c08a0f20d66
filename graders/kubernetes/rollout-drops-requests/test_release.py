"""The answer key of kubernetes/rollout-drops-requests.

Three checks speak of one release, which the first of them does: a restart of the deployment under load.
"""

import json
import time
from collections import Counter
from datetime import datetime

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

RELEASE = "registry.lab/desk/api:7.3.0"
LONGEST = 75.0
"""Seconds that a release may take here; the brief says a minute."""
LOAD = """
import http.client, json, os, sys, threading, time
service, *pods = sys.argv[1:]
begun, asked, lock, over = time.time(), [], threading.Lock(), threading.Event()
def ask(where):
    since, seen = time.time(), "answered"
    try:
        connection = http.client.HTTPConnection(where, 8080, timeout=10)
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            seen = str(answer.status)
        connection.close()
    except Exception as error:
        seen = str(error) or type(error).__name__
    with lock:
        asked.append([where, since, seen])
    return seen
def customer():
    while not over.is_set():
        if ask(service) != "answered":
            time.sleep(0.2)
def late(pod):
    while not over.is_set():
        threading.Thread(target=ask, args=(pod,), daemon=True).start()
        time.sleep(0.25)
customers = []
for number in range(8):
    customers.append(threading.Thread(target=customer))
    customers[-1].start()
    time.sleep(0.25)
for pod in pods:
    threading.Thread(target=late, args=(pod,), daemon=True).start()
while not os.path.exists("/tmp/load.over") and time.time() < begun + 150:
    time.sleep(0.1)
over.set()
for one in customers:
    one.join()
with lock:
    print(json.dumps(asked))
"""
SEEN = {}


@baseline
def before(cluster):
    return cluster.inventory()


def told(pod):
    """Return the latest moment at which this pod may have been told to end; what the API says has no fractions."""
    ends = datetime.fromisoformat(field(pod, "metadata.deletionTimestamp")).timestamp()
    return min(time.time(), ends - field(pod, "metadata.deletionGracePeriodSeconds", 0) + 1)


def release(client, cluster, lab):
    """Restart the deployment under load, once in a look; return what was seen."""
    if not SEEN:
        pods = cluster.all("pods", app=lab.service)
        old = [field(one, "status.podIP") for one in pods if is_ready(one)]
        # By its address: what a name server is slow at is nobody's fault here.
        words = [field(cluster.get("services", lab.service), "spec.clusterIP"), *old]
        client.run("rm -f /tmp/load.*")
        client.run(f"python3 -c %s {' %s' * len(words)} >/tmp/load.json 2>/dev/null </dev/null &", LOAD, *words)
        try:
            time.sleep(4)
            cluster.restart("deployments", lab.service)
            SEEN.update(watch(cluster, lab, {field(one, "metadata.uid") for one in pods}))
        finally:
            client.run("touch /tmp/load.over")
        said = client.run(
            "for n in $(seq 130); do test -s /tmp/load.json && break; sleep 0.1; done; cat /tmp/load.json", timeout=20
        )
        SEEN["asked"] = json.loads(said.stdout)
        SEEN["old"] = old
    return SEEN


def watch(cluster, lab, before):
    """Watch a release until it is over or has taken too long; ``before`` are the old pods' ids."""
    begun, fewest, ended, over = time.monotonic(), 99, {}, False
    while not over and time.monotonic() < begun + LONGEST:
        pods = cluster.all("pods", app=lab.service)
        fewest = min(fewest, sum(is_ready(one) for one in pods))
        for one in pods:
            if field(one, "metadata.deletionTimestamp"):
                ended.setdefault(field(one, "status.podIP"), told(one))
        found = cluster.get("deployments", lab.service)
        if field(found, "spec.paused"):
            break
        fresh = [one for one in pods if field(one, "metadata.uid") not in before]
        over = len(fresh) == len(pods) >= 2 and all(is_ready(one) for one in pods)
        time.sleep(0.2)
    return {"over": over, "fewest": fewest, "ended": ended, "seconds": time.monotonic() - begun}


def ask(client, lab):
    return client.run("curl -sf -m 6 %s", f"http://{lab.service}.{lab.namespaces['desk']}:8080/").stdout.strip()


@check(points=5, skill="k8s.operations", stable_for=3)
def test_the_new_release_answers(client, cluster, lab):
    """7.3.0 answers, from two ready pods"""
    pods = [one for one in cluster.newest("deployments", lab.service) if is_ready(one)]
    assert [field(one, "spec.containers.0.image") for one in pods] == [RELEASE] * 2, "images of the ready pods"
    if not SEEN:
        # A pod that counts as ready before it listens is another check's concern.
        deadline = time.monotonic() + 10
        while ask(client, lab) != lab.service and time.monotonic() < deadline:
            time.sleep(0.5)
    assert ask(client, lab) == lab.service, "what it answers"


@check(points=5, skill="k8s.operations", needs="test_the_new_release_answers")
def test_its_own_pods_answer(cluster, lab):
    """Behind the service stand the pods of its deployment, and nobody else"""
    ends = [
        end
        for one in cluster.all("endpointslices", **{"kubernetes.io/service-name": lab.service})
        for end in field(one, "endpoints", [])
    ]
    behind = sorted(address for end in ends if field(end, "conditions.ready") for address in end["addresses"])
    assert behind == sorted(field(one, "status.podIP") for one in cluster.newest("deployments", lab.service))


@check(points=5, skill="k8s.operations", needs="test_its_own_pods_answer")
def test_a_release_is_over_in_time(client, cluster, lab):
    """A restart of the deployment is over within a minute, old pods gone"""
    assert release(client, cluster, lab)["over"], "the restart was not over"


@check(points=35, skill="k8s.operations", needs="test_a_release_is_over_in_time")
def test_a_release_fails_no_request(client, cluster, lab):
    """While the deployment is restarted under load, no request fails"""
    seen = release(client, cluster, lab)
    results = [result for where, _, result in seen["asked"] if where not in seen["old"]]
    failed = dict(Counter(one for one in results if one != "answered"))
    assert failed == {}, f"requests that failed, of {len(results)}"
    assert len(results) >= 20, "requests in all"


@check(points=20, skill="design.failure-modes", needs="test_a_release_is_over_in_time")
def test_two_are_ready_throughout(client, cluster, lab):
    """At every moment of the restart two pods or more are ready"""
    assert release(client, cluster, lab)["fewest"] >= 2, "fewest pods that were ready"


@check(points=20, skill="design.failure-modes", needs="test_a_release_is_over_in_time")
def test_a_pod_that_ends_takes_late_requests(client, cluster, lab):
    """A pod that was told to end takes and finishes the requests of the next seconds"""
    seen = release(client, cluster, lab)
    assert set(seen["ended"]) >= set(seen["old"]), "pods that were seen to end"
    # The moment is known to a second, so that of the three seconds the last is not asked for.
    late = [
        [round(since - seen["ended"][where], 1), result]
        for where, since, result in seen["asked"]
        if where in seen["old"] and -1 < since - seen["ended"][where] < 1.7
    ]
    assert [one for one in late if one[1] != "answered"] == [], "requests that failed, by seconds after the order"
    assert len(late) >= 8, "requests in these seconds"


@check(points=10, skill="k8s.operations", needs="test_the_new_release_answers")
def test_nothing_else_has_changed(cluster, lab, baseline):
    """Replicas, settings, limits, liveness and the service are as they were"""
    deployment = f"desk/deployments/{lab.service}"
    mended = (
        f"{deployment}/strategy/*", f"{deployment}/minReadySeconds", f"{deployment}/progressDeadlineSeconds",
        f"{deployment}/terminationGracePeriodSeconds", f"{deployment}/*kubectl.kubernetes.io*",
        *(f"{deployment}/containers/api/{part}" for part in ("image", "readinessProbe/*", "startupProbe/*", "lifecycle/*")),
    )  # fmt: skip
    fresh = (f"{deployment}/containers/*", f"{deployment}/initContainers/*", "desk/cronjobs/*", "desk/services/*")
    assert cluster.differences(baseline, allow=mended, new=fresh) == []
