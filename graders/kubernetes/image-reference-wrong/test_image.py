"""The answer key of kubernetes/image-reference-wrong."""

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

TOOL = "registry.lab/tools/pricebook:1.8.2"


@baseline
def before(cluster):
    return cluster.inventory()


def own(lab):
    return f"market/deployments/{lab.unit['name']}"


def changed(cluster, lab, baseline):
    """What differs from the day before, but for what the release itself changes."""
    meant = (
        f"{own(lab)}/initContainers/pricebook/image",
        f"{own(lab)}/initContainers/pricebook/env/PRICE_LIST/value",
        f"{own(lab)}/containers/{lab.unit['name']}/image",
        f"{own(lab)}/*kubectl.kubernetes.io*",
    )
    return cluster.differences(baseline, allow=meant, new=("market/*",))


def ready_pods(cluster, lab):
    return [one for one in cluster.newest("deployments", lab.unit["name"]) if is_ready(one)]


@check(points=30, skill="k8s.debugging", stable_for=4)
def test_the_new_prices_hold(client, lab):
    """The service answers with the new price list, each time it is asked"""
    url = f"http://{lab.unit['name']}.{lab.namespaces['market']}:8080/config"
    # A connection to a pod that has just gone is tried once more; an answer counts, whatever it is.
    once = f"curl -s -m 2 {url}"
    said = client.run(
        f"for n in 1 2 3 4 5 6; do {once} || {{ sleep 1; {once}; }} || {{ echo nothing; break; }}; done", timeout=40
    ).stdout
    assert set(said.split()) == {f"PRICE_LIST={lab.prices}"}


@check(points=15, skill="k8s.debugging", needs="test_the_new_prices_hold")
def test_two_pods_of_the_deployment_serve(cluster, lab):
    """Two ready pods of the deployment stand behind the service's name, and nobody else"""
    name = lab.unit["name"]
    pods = ready_pods(cluster, lab)
    assert len(pods) == 2, "ready pods of the newest version"
    slices = cluster.all("endpointslices", **{"kubernetes.io/service-name": name})
    behind = {ip for one in slices for end in field(one, "endpoints", []) for ip in end["addresses"]}
    assert behind == {field(one, "status.podIP") for one in pods}


@check(points=20, skill="k8s.debugging", needs="test_the_new_prices_hold")
def test_the_service_is_the_final_build(cluster, lab):
    """What runs is the build that the final release names"""
    images = {c["image"] for pod in ready_pods(cluster, lab) for c in field(pod, "spec.containers", [])}
    assert images == {f"registry.lab/market/{lab.unit['name']}:{lab.unit['build']}"}


@check(points=15, skill="k8s.debugging", needs="test_the_new_prices_hold")
def test_the_tool_wrote_the_list(cluster, lab):
    """In each pod the step before the service ran, and was the tool that the others use"""
    steps = [
        (one.get("name"), one.get("image"))
        for pod in ready_pods(cluster, lab)
        for one in field(pod, "spec.initContainers", [])
    ]
    assert steps == [("pricebook", TOOL)] * 2
    ends = [
        field(one, "state.terminated.exitCode")
        for pod in ready_pods(cluster, lab)
        for one in field(pod, "status.initContainerStatuses", [])
    ]
    assert ends == [0, 0], "how that step ended"


@check(points=10, skill="k8s.debugging", needs="test_the_new_prices_hold")
def test_the_deployment_is_as_it_was(cluster, lab, baseline):
    """But for images and price list, the deployment is as it was: pods, probes, limits, order, how it rolls out"""
    assert [one for one in changed(cluster, lab, baseline) if one.startswith(f"{own(lab)}/")] == []


@check(points=10, skill="k8s.debugging", needs="test_the_new_prices_hold")
def test_nothing_else_was_touched(cluster, lab, baseline):
    """Nothing else in the namespace has changed, is gone or is new"""
    assert [one for one in changed(cluster, lab, baseline) if not one.startswith(f"{own(lab)}/")] == []
