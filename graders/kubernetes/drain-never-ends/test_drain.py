"""The answer key of kubernetes/drain-never-ends.  The drain is done once, and several checks speak of it."""

import json
import time

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

PATIENCE = 8.0
"""Seconds in which a next pod must go once all are ready."""
LONGEST = 120.0
"""Seconds for the whole drain: on a machine that is busy each new pod takes its time."""
# One customer after the other; who is not answered tries once more, as a browser does.
LOAD = """
import json, os, sys, time, urllib.request
def answered():
    try:
        return urllib.request.urlopen(sys.argv[1], timeout=3).read().decode().strip() == sys.argv[2]
    except OSError:
        return False
asked = failed = 0
begun = time.time()
while not os.path.exists("/tmp/load.over") and time.time() < begun + 120:
    asked += 1
    failed += not (answered() or answered())
    time.sleep(0.1)
print(json.dumps({"asked": asked, "failed": failed}))
"""
SEEN = {}


@baseline
def before(cluster):
    return cluster.inventory()


def drain(client, cluster, lab):
    """Evict every pod under load, once in a grade; return what was seen."""
    if not SEEN:
        url = f"http://{lab.service}.{lab.namespaces['shop']}:8080/"
        client.run("rm -f /tmp/load.*")
        client.run("python3 -c %s %s %s >/tmp/load.json 2>/dev/null </dev/null &", LOAD, url, lab.service)
        try:
            SEEN.update(evict_all(cluster, lab))
        finally:
            client.run("touch /tmp/load.over")
        said = client.run("for n in $(seq 90); do test -s /tmp/load.json && break; sleep 0.1; done; cat /tmp/load.json")
        SEEN.update(json.loads(said.stdout))
    return SEEN


def evict_all(cluster, lab):
    """Ask every pod that is there now to go, until all have, or none does though every pod is ready."""
    left, refused, fewest = [field(one, "metadata.name") for one in cluster.all("pods")], {}, 99
    begun = moved = time.monotonic()
    while left and time.monotonic() < min(moved + PATIENCE, begun + LONGEST):
        refused = {pod: why for pod in left if (why := cluster.evict(pod)) and "not found" not in why}
        fewest = min(fewest, cluster.ready("deployments", lab.service))
        if len(refused) < len(left) or not all(is_ready(one) for one in cluster.all("pods")):
            moved = time.monotonic()
        left = sorted(refused)
        # Two budgets for one pod are no matter of patience.
        if left and all("more than one" in why for why in refused.values()):
            break
        time.sleep(0.3)
    cluster.settle()
    return {"refused": refused, "fewest": fewest}


def claims(budget, pod):
    """Return whether a budget's selector fits a pod."""
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
    """Evict one of a workload's pods and ask for a second at once; return what the second was refused with."""
    cluster.settle()
    ready = [field(one, "metadata.name") for one in cluster.newest("deployments", workload) if is_ready(one)]
    assert len(ready) >= 2, f"ready pods of {workload}: {len(ready)}"
    assert cluster.evict(ready[0]) == "", f"the eviction of one pod of {workload}, all being ready"
    return cluster.evict(ready[1])


@check(points=35, skill="k8s.operations")
def test_a_drain_gets_through(client, cluster, lab):
    """Every pod that is there when a drain begins is evicted"""
    assert drain(client, cluster, lab)["refused"] == {}, "pods that do not go"
    assert cluster.ready("deployments", lab.service) > 0, f"{lab.service} has no ready pod after it"


@check(points=20, skill="k8s.resources", needs="test_a_drain_gets_through")
def test_the_service_stays_up(client, cluster, lab):
    """During the drain two pods of the service are ready at every moment, and customers are answered"""
    seen = drain(client, cluster, lab)
    assert seen["fewest"] >= 2, "fewest pods that were ready"
    assert seen["failed"] == 0, f"requests that were not answered, of {seen['asked']}"
    assert seen["asked"] > 10, "requests in all"


@check(points=20, skill="k8s.resources", needs="test_a_drain_gets_through")
def test_a_second_pod_is_refused(cluster, lab):
    """When one pod of the service was just evicted, a second may not go"""
    assert "disruption budget" in second_of_two(cluster, lab.service), "the answer to the second eviction"


@check(points=15, skill="k8s.resources", needs="test_a_drain_gets_through")
def test_the_cache_has_a_budget_of_its_own(cluster, lab):
    """The cache's pods have one budget, which claims nobody else's and lets them go one at a time"""
    pods = cluster.newest("deployments", lab.cache)
    own = [one for one in cluster.all("poddisruptionbudgets") if any(claims(one, pod) for pod in pods)]
    assert len(own) == 1, "budgets that claim the cache's pods"
    others = [pod for pod in cluster.newest("deployments", lab.service) if claims(own[0], pod)]
    assert others == [], "pods of the service that it claims as well"
    if len(pods) > 1:
        assert "disruption budget" in second_of_two(cluster, lab.cache), "the answer to the second eviction"


@check(points=10, skill="k8s.operations", needs="test_a_drain_gets_through")
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
