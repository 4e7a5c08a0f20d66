"""The answer key of kubernetes/rollout-drops-requests.

Three checks speak of one release, which the first of them does: a restart of the deployment under load.

The load has two parts, so that a busy machine can be told from a bad release.  Customers ask at the service's address.
Beside them every pod is asked directly for as long as it has to answer: from when it is ready, until shortly before the
3 s are over that it has to go on after the order to end.  What customers meet later than that is the network's delay, and
nobody's fault: it counts no more.
"""

import json
import time
from collections import Counter
from datetime import datetime

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

RELEASE = "registry.lab/desk/api:7.3.0"
LONGEST = 90.0
"""Seconds that a release may take here; the brief says a minute, of a machine with nothing else to do."""
DUTY = 2.2
"""Seconds after the order to end in which a pod is asked: 3, less what a connection may take on a busy machine."""
NEEDED = 5
"""Seconds that a pod must have to end: a request that comes at the end of the 3 s takes two."""
DELAY = 20.0
"""Seconds after these in which the network may still lead somebody to a pod that has ended."""
LOAD = """
import http.client, json, os, sys, threading, time
service, *old = sys.argv[1:]
begun, asked, over, known = time.time(), [], threading.Event(), set()
def ask(where):
    # What has no answer yet when all is over has none.
    entry = [where, time.time(), "no answer"]
    asked.append(entry)
    try:
        connection = http.client.HTTPConnection(where, 8080, timeout=20)
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        connection.close()
        entry[2] = "answered" if answer.status == 200 else str(answer.status)
    except Exception as error:
        entry[2] = str(error) or type(error).__name__
    return entry[2] == "answered"
def customer():
    while not over.is_set():
        if not ask(service):
            time.sleep(0.2)
def visitors(pod, pause):
    failed = []
    def visit():
        if not ask(pod):
            failed.append(pod)
    while not over.is_set() and len(failed) < 25:
        threading.Thread(target=visit, daemon=True).start()
        time.sleep(pause)
def meet(pods, pause):
    for pod in pods:
        if pod not in known:
            known.add(pod)
            threading.Thread(target=visitors, args=(pod, pause), daemon=True).start()
meet(old, 0.2)
customers = [threading.Thread(target=customer, daemon=True) for _ in range(8)]
for one in customers:
    one.start()
    time.sleep(0.25)
open("/tmp/load.up", "w").close()
while not os.path.exists("/tmp/load.over") and time.time() < begun + 180:
    if os.path.exists("/tmp/load.pods"):
        meet(open("/tmp/load.pods").read().split(), 0.5)
    time.sleep(0.1)
over.set()
# Answers take two seconds: those that were asked for at the end are waited for.
ends = time.time() + 20
while time.time() < ends and any(entry[2] == "no answer" for entry in list(asked)):
    time.sleep(0.1)
with open("/tmp/load.new", "w") as file:
    json.dump(list(asked), file)
os.rename("/tmp/load.new", "/tmp/load.json")
os._exit(0)
"""
SEEN = {}


@baseline
def before(cluster):
    return cluster.inventory()


def told(pod, unseen):
    """Return the first moment at which this pod may have been told to end: the API's own moments have no fractions."""
    grace = field(pod, "metadata.deletionGracePeriodSeconds", 0)
    if not grace:
        # It has ended already, and the moment is that of its end.
        return unseen
    return max(unseen, datetime.fromisoformat(field(pod, "metadata.deletionTimestamp")).timestamp() - grace)


def wait_in_probe(client, file, seconds):
    """Wait until the load has written a file."""
    client.run(
        f"over=$(($(date +%s) + {seconds})); until test -e {file} || test $(date +%s) -ge $over; do sleep 0.1; done",
        timeout=seconds + 20,
    )


def release(client, cluster, lab):
    """Restart the deployment under load, once in a look; return what was seen."""
    if not SEEN:
        pods = cluster.all("pods", app=lab.service)
        old = [field(one, "status.podIP") for one in pods if is_ready(one)]
        # By its address: what a name server is slow at is nobody's fault here.
        service = field(cluster.get("services", lab.service), "spec.clusterIP")
        words = [service, *old]
        client.run("rm -f /tmp/load.*")
        client.run(f"python3 -c %s {' %s' * len(words)} >/dev/null 2>&1 </dev/null &", LOAD, *words)
        try:
            wait_in_probe(client, "/tmp/load.up", 15)
            SEEN.update(watch(client, cluster, lab, {field(one, "metadata.uid") for one in pods}))
        finally:
            client.run("touch /tmp/load.over")
        wait_in_probe(client, "/tmp/load.json", 25)
        SEEN["asked"] = json.loads(client.run("cat /tmp/load.json").stdout)
        SEEN.update(service=service, old=old)
    return SEEN


def watch(client, cluster, lab, before):
    """Restart, and watch until that is over or has taken too long; ``before`` are the old pods' ids."""
    begun, fewest, unseen, over = time.monotonic(), 99, time.time(), False
    ended, graces, came = {}, {}, set()
    cluster.restart("deployments", lab.service)
    while not over and time.monotonic() < begun + LONGEST:
        asked = time.time()
        pods = cluster.all("pods", app=lab.service)
        fewest = min(fewest, sum(is_ready(one) for one in pods))
        for one in pods:
            if field(one, "metadata.deletionTimestamp"):
                address = field(one, "status.podIP")
                ended.setdefault(address, told(one, unseen))
                # Of a pod that has ended, and is about to be gone, this is 0.
                graces[address] = max(graces.get(address, 0), field(one, "metadata.deletionGracePeriodSeconds", 0))
        unseen = asked
        fresh = [one for one in pods if field(one, "metadata.uid") not in before]
        if ready := {field(one, "status.podIP") for one in fresh if is_ready(one)} - came:
            client.run("echo %s >>/tmp/load.pods", " ".join(ready))
            came |= ready
        if field(cluster.get("deployments", lab.service), "spec.paused"):
            break
        over = len(fresh) == len(pods) >= 2 and all(is_ready(one) for one in pods)
        time.sleep(0.2)
    return {"over": over, "fewest": fewest, "ended": ended, "graces": graces}


def count(results):
    return dict(Counter(one for one in results if one != "answered"))


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
    """While the deployment is restarted under load, no request fails, and a pod that is ready answers"""
    seen = release(client, cluster, lab)
    new = [result for where, _, result in seen["asked"] if where not in {seen["service"], *seen["old"]}]
    assert count(new) == {}, f"requests that failed at new pods when they were ready, of {len(new)}"
    customers = [
        result
        for where, since, result in seen["asked"]
        if where == seen["service"]
        # Nobody's fault: those whom the network alone led to a pod that had done its duty.
        if result == "answered" or not any(DUTY < since - order < DUTY + DELAY for order in seen["ended"].values())
    ]
    assert count(customers) == {}, f"requests that failed, of {len(customers)}"
    assert len(customers) >= 20, "requests in all"


@check(points=20, skill="design.failure-modes", needs="test_a_release_is_over_in_time")
def test_two_are_ready_throughout(client, cluster, lab):
    """At every moment of the restart two pods or more are ready"""
    assert release(client, cluster, lab)["fewest"] >= 2, "fewest pods that were ready"


@check(points=20, skill="design.failure-modes", needs="test_a_release_is_over_in_time")
def test_a_pod_that_ends_takes_late_requests(client, cluster, lab):
    """A pod that was told to end takes and finishes the requests of the next seconds"""
    seen = release(client, cluster, lab)
    assert set(seen["ended"]) >= set(seen["old"]), "pods that were seen to end"
    late = [
        [round(since - seen["ended"][where], 1), result]
        for where, since, result in seen["asked"]
        if where in seen["old"] and -1 < since - seen["ended"][where] < DUTY
    ]
    assert [one for one in late if one[1] != "answered"] == [], "requests that failed, by seconds after the order"
    assert len(late) >= 8, "requests in these seconds"
    assert min(seen["graces"].values()) >= NEEDED, "seconds that a pod has to end"


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
