"""The answer key of kubernetes/two-flows-and-no-more."""

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready


@baseline
def before(cluster):
    return cluster.inventory()


def pod_of(cluster, name, namespace="shop"):
    """Return the name and the address of the workload's ready pod."""
    ready = [one for one in cluster.newest("deployments", name, namespace) if is_ready(one)]
    assert ready, f"{name} has no ready pod"
    return field(ready[0], "metadata.name"), field(ready[0], "status.podIP")


def reaches(cluster, source, address, port, namespace="shop"):
    """Return whether something answers there, asked with our own curl in the network of a pod of ``source``."""
    pod, _ = pod_of(cluster, source, namespace)
    asked = cluster.inside(pod, namespace).run(f"curl -s -m 2 -o /dev/null http://{address}:{port}/")
    return asked.rc == 0


def lives(cluster, name, port, namespace="shop"):
    """Return whether a pod itself answers to itself: a dead one would pass for one that is protected."""
    return reaches(cluster, name, "127.0.0.1", port, namespace)


@check(points=35, skill="k8s.networking", stable_for=3)
def test_the_shop_answers_through_all_three(client, lab):
    """The shop answers through all three services"""
    said = client.run(f"curl -s -m 8 http://{lab.front}.{lab.namespaces['shop']}/").stdout.strip()
    assert said == f"{lab.front} > {lab.middle} > {lab.store}"


@check(points=15, skill="sec.segmentation", needs="test_the_shop_answers_through_all_three")
def test_the_neighbour_reaches_neither(cluster, lab):
    """The neighbour in the same namespace reaches neither of the two services behind"""
    open_to = [
        name for name in (lab.middle, lab.store) if reaches(cluster, lab.nosy, pod_of(cluster, name)[1], lab.port)
    ]
    assert open_to == []


@check(points=10, skill="sec.segmentation", needs="test_the_shop_answers_through_all_three")
def test_the_front_does_not_reach_the_store(cluster, lab):
    """The first service does not reach the third past the second"""
    assert not reaches(cluster, lab.front, pod_of(cluster, lab.store)[1], lab.port)


@check(points=10, skill="sec.segmentation", needs="test_the_shop_answers_through_all_three")
def test_only_the_port_that_serves_is_open(cluster, lab):
    """The second service reaches the third on the port that serves it, and on no other"""
    assert lives(cluster, lab.store, 7000)
    assert not reaches(cluster, lab.middle, pod_of(cluster, lab.store)[1], 7000)


@check(points=10, skill="sec.segmentation", needs="test_the_shop_answers_through_all_three")
def test_nobody_gets_in_from_another_namespace(cluster, client, lab):
    """Nobody outside the namespace reaches the two services behind"""
    inside = [pod_of(cluster, name)[1] for name in (lab.middle, lab.store)]
    from_bank = [one for one in inside if reaches(cluster, "settlement", one, lab.port, "bank")]
    from_here = [one for one in inside if client.run(f"curl -s -m 2 -o /dev/null http://{one}:{lab.port}/").rc == 0]
    assert (from_bank, from_here) == ([], [])


@check(points=10, skill="sec.segmentation", needs="test_the_shop_answers_through_all_three")
def test_nobody_gets_out_to_another_namespace(cluster, lab):
    """The shop's pods reach nothing outside but DNS"""
    _, address = pod_of(cluster, "settlement", "bank")
    assert lives(cluster, "settlement", lab.port, "bank")
    out = [name for name in (lab.front, lab.middle, lab.store, lab.nosy) if reaches(cluster, name, address, lab.port)]
    assert out == []


@check(points=10, skill="sec.segmentation", needs="test_the_shop_answers_through_all_three")
def test_nothing_else_was_changed(cluster, lab, baseline):
    """Security's policy, the pods, their labels and the services are as they were"""
    assert cluster.differences(baseline, allow=("*kubectl.kubernetes.io*",)) == []
