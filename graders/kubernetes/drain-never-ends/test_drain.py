"""The answer key of kubernetes/drain-never-ends.  The drain is done once, and several checks speak of it."""

import json
import time

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

PATIENCE = 8.0
"""Seconds in which a next pod must go once all are ready."""
RECOVERY = 45.0
"""Seconds until what a drain took is there again."""
LONGEST = 120.0
"""Seconds for the whole drain: on a machine that is busy each new pod takes its time."""
# One customer after the other; who is not answered tries twice more, as a browser does.
LOAD = """
import http.client, json, os, sys, time, urllib.request
def answered():
    try:
        return urllib.request.urlopen(sys.argv[1], timeout=4).read().decode().strip() == sys.argv[2]
    except (OSError, http.client.HTTPException):
        time.sleep(0.3)
        return False
asked = failed = 0
begun = time.time()
while not os.path.exists("/tmp/load.over") and time.time() < begun + 120:
    asked += 1
    failed += not (answered() or answered() or answered())
    time.sleep(0.1)
print(json.dumps({"asked": asked, "failed": failed}))
"""
SEEN = {}


@baseline
def before(cluster):
    return cluster.inventory()


def drain(plain, client, cluster, lab):
    """Evict every pod under load, once in a grade; return what was seen."""
    if not SEEN:
        # Where two budgets claimed a pod, one of them may not have been counted anew since; a touch has it counted.
        for change in ("lab/looked=1", "lab/looked-"):
            plain(f"timeout 20 kubectl -n {cluster.name()} annotate poddisruptionbudgets --all {change}", timeout=25)
        url = f"http://{lab.service}.{lab.namespaces['shop']}:8080/"
        client.run("rm -f /tmp/load.*")
        client.run("python3 -c %s %s %s >/tmp/load.json 2>/dev/null </dev/null &", LOAD, url, lab.service)
        try:
            SEEN.update(evict_all(cluster, lab))
        finally:
            client.run("touch /tmp/load.over")
        said = client.run(
            "for n in $(seq 200); do test -s /tmp/load.json && break; sleep 0.1; done; cat /tmp/load.json", timeout=30
        )
        SEEN.update(json.loads(said.stdout))
    return SEEN


def evict_all(cluster, lab):
    """Ask every pod that is there now to go, until all have, or none does though every pod is ready."""
    left, refused, fewest = [field(one, "metadata.name") for one in cluster.all("pods")], {}, 99
    begun = moved = time.monotonic()
    while left and time.monotonic() < min(moved + PATIENCE, begun + LONGEST):
        refused = {pod: why for pod in left if (why := cluster.evict(pod)) and "not found" not in why}
        fewest = min(fewest, cluster.ready("deployments", lab.service))
        if len(refused) < len(left) or not all(stands(one) for one in cluster.all("pods")):
            moved = time.monotonic()
        left = sorted(refused)
        # Two budgets for one pod are no matter of patience.
        if left and all("more than one" in why for why in refused.values()):
            break
        time.sleep(0.3)
    cluster.settle()
    return {"refused": refused, "fewest": fewest}


def stands(pod):
    return is_ready(pod) and not field(pod, "metadata.deletionTimestamp")


def claims(budget, pod):
    """Return whether a budget's selector fits a pod: an empty one fits all, and where there is none it fits nobody."""
    if field(budget, "spec.selector") is None:
        return False
    labels = field(pod, "metadata.labels", {})
    wanted = field(budget, "spec.selector.matchLabels", {})
    return wanted.items() <= labels.items() and all(
        fits(one, labels) for one in field(budget, "spec.selector.matchExpressions", [])
    )


def fits(expression, labels):
    value, values = labels.get(expression["key"]), expression.get("values", [])
    return {
        "In": value in values, "NotIn": value not in values, "Exists": value is not None, "DoesNotExist": value is None,
    }[expression["operator"]]  # fmt: skip


def second_of_two(cluster, workload):
    """Evict one of a workload's pods, all being ready, and ask for a second at once; return why that is refused."""
    wanted = max(2, field(cluster.get("deployments", workload), "spec.replicas", 1))
    ready, why, end = [], "never asked for", time.monotonic() + RECOVERY
    while why and time.monotonic() < end:
        ready = [field(one, "metadata.name") for one in cluster.newest("deployments", workload) if is_ready(one)]
        why = cluster.evict(ready[0]) if len(ready) >= wanted else f"ready pods: {len(ready)}"
    assert why == "", f"why one pod of {workload} may not go"
    return cluster.evict(ready[1])


@check(points=20, skill="k8s.operations")
def test_the_service_is_drained(plain, client, cluster, lab):
    """Every pod of the service that is there when a drain begins is evicted, and replaced"""
    refused = drain(plain, client, cluster, lab)["refused"]
    cache = {field(one, "metadata.name") for one in cluster.pods("deployments", lab.cache)}
    assert {pod: why for pod, why in refused.items() if pod not in cache} == {}, "pods that do not go"
    assert cluster.ready("deployments", lab.service) > 0, f"{lab.service} has no ready pod after it"


@check(points=15, skill="k8s.operations")
def test_the_cache_is_drained(plain, client, cluster, lab):
    """The cache's pods that are there when a drain begins are evicted, and replaced"""
    refused = drain(plain, client, cluster, lab)["refused"]
    pods = {field(one, "metadata.name") for one in cluster.pods("deployments", lab.cache)}
    assert {pod: why for pod, why in refused.items() if pod in pods} == {}, "pods that do not go"
    assert cluster.ready("deployments", lab.cache) > 0, f"{lab.cache} has no ready pod after it"


@check(points=20, skill="k8s.resources", needs="test_the_service_is_drained")
def test_the_service_stays_up(plain, client, cluster, lab):
    """During the drain two pods of the service are ready at every moment, and customers are answered"""
    seen = drain(plain, client, cluster, lab)
    assert seen["fewest"] >= 2, "fewest pods that were ready"
    assert seen["failed"] == 0, f"requests that were not answered, of {seen['asked']}"
    assert seen["asked"] > 10, "requests in all"


@check(points=20, skill="k8s.resources", needs="test_the_service_is_drained")
def test_a_second_pod_is_refused(cluster, lab):
    """When one pod of the service was just evicted, a second may not go"""
    assert "disruption budget" in second_of_two(cluster, lab.service), "the answer to the second eviction"


@check(points=15, skill="k8s.resources", needs="test_the_cache_is_drained")
def test_the_cache_has_a_budget_of_its_own(cluster, lab):
    """The cache's pods have one budget, which claims nobody else's and lets them go one at a time"""
    pods = cluster.newest("deployments", lab.cache)
    own = [one for one in cluster.all("poddisruptionbudgets") if any(claims(one, pod) for pod in pods)]
    assert len(own) == 1, "budgets that claim the cache's pods"
    service = cluster.newest("deployments", lab.service)
    others = [field(pod, "metadata.name") for pod in service if claims(own[0], pod)]
    assert others == [], "pods of the service that it claims as well"
    if len(pods) > 1:
        assert "disruption budget" in second_of_two(cluster, lab.cache), "the answer to the second eviction"


@check(points=10, skill="k8s.operations", needs="test_the_service_is_drained")
def test_nothing_else_has_changed(cluster, lab, baseline):
    """Pods, their number, limits and services are as they were"""
    mended = (
        "shop/poddisruptionbudgets/*", f"shop/deployments/{lab.cache}/replicas",
        "shop/deployments/*kubectl.kubernetes.io*",
    )  # fmt: skip
    fresh = ("shop/deployments/*", "shop/statefulsets/*", "shop/daemonsets/*", "shop/cronjobs/*")
    assert cluster.differences(baseline, allow=mended, new=fresh) == []
    wanted = field(cluster.get("deployments", lab.cache), "spec.replicas")
    assert wanted in {1, 2}, f"pods that {lab.cache} is to have"
