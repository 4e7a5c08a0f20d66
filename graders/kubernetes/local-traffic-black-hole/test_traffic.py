"""The answer key of kubernetes/local-traffic-black-hole."""

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field

SHIFTS = ("day", "night")


@baseline
def before(cluster):
    return cluster.inventory()


def places(cluster):
    """Return the node and the network of a pod of each shift."""
    found = {}
    for shift in SHIFTS:
        pods = cluster.newest("deployments", f"caller-{shift}")
        assert pods, f"pods of caller-{shift}"
        found[shift] = (field(pods[0], "spec.nodeName"), cluster.inside(field(pods[0], "metadata.name")))
    return found


def asked(cluster, lab, service, times=4):
    """Return what callers of each shift are answered by a service, one line for each answer."""
    url = f"http://{service}.{lab.namespaces['fleet']}.svc.cluster.local:8080/?[1-{times}]"
    return {
        shift: (node, inside.run("timeout 8 curl -s -m 2 -w '\n' %s", url).stdout.splitlines())
        for shift, (node, inside) in places(cluster).items()
    }


def expected(lab, service, node):
    return f"{service} {lab.token('answer', 8)} on {node}"


@check(points=20, skill="k8s.networking", stable_for=2)
def test_everybody_reaches_the_api(cluster, lab):
    """Callers on both nodes get an answer from the deployment's service"""
    for shift, (_, said) in asked(cluster, lab, lab.api).items():
        wrong = [one for one in said if not one.startswith(expected(lab, lab.api, ""))]
        assert (len(said), wrong) == (4, []), f"what caller-{shift} is answered"


@check(points=30, skill="k8s.networking", stable_for=2)
def test_everybody_has_a_cache_next_door(cluster, lab):
    """Callers on both nodes get every answer of the cache from their own node"""
    for shift, (node, said) in asked(cluster, lab, lab.cache).items():
        assert set(said) == {expected(lab, lab.cache, node)}, f"what caller-{shift} on {node} is answered"


@check(points=20, skill="k8s.networking", needs="test_everybody_has_a_cache_next_door")
def test_nothing_goes_from_node_to_node(cluster, lab):
    """The service of the cache reaches the caller's own node and no other"""
    found = cluster.get("services", lab.cache)
    assert field(found, "spec.internalTrafficPolicy", "Cluster") == "Local", "internalTrafficPolicy"
    nodes = {field(one, "spec.nodeName") for one in cluster.pods("daemonsets", lab.cache)}
    assert {node for node, _ in places(cluster).values()} <= nodes, "nodes that have a pod of the cache"


@check(points=10, skill="k8s.networking", needs="test_everybody_reaches_the_api")
def test_callers_are_where_they_were(cluster):
    """The callers of each shift run on the node of their shift"""
    labels = {node: field(cluster.get("nodes", node), "metadata.labels", {}) for node, _ in places(cluster).values()}
    seen = {shift: labels[node].get("fleet.lab/shift") for shift, (node, _) in places(cluster).items()}
    assert seen == {"day": "day", "night": "night"}, "the shift of the node that each runs on"


@check(
    points=20, skill="k8s.networking", needs=("test_everybody_reaches_the_api", "test_everybody_has_a_cache_next_door")
)
def test_nothing_else_changed(cluster, lab, baseline):
    """Callers, workloads and services are as they were, and none is new"""
    allowed = (
        f"fleet/services/{lab.api}/internalTrafficPolicy",
        f"fleet/daemonsets/{lab.cache}/tolerations/*",
        "*kubectl.kubernetes.io*",
    )
    new = ("fleet/services/*", "fleet/deployments/*", "fleet/daemonsets/*", "fleet/statefulsets/*")
    assert cluster.differences(baseline, allow=allowed, new=new) == []
