"""The answer key of kubernetes/quota-starves-rollout."""

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

NEW = "registry.lab/shop/web:5.2.0"
UNITS = {
    "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "m": 1e-3,
}  # fmt: skip


@baseline
def before(cluster):
    return cluster.inventory()


def mebibytes(quantity):
    """Return a quantity of memory in MiB; 0 where none is given."""
    text = str(quantity or "0")
    unit = next((one for one in UNITS if text.endswith(one)), "")
    return float(text.removesuffix(unit)) * UNITS.get(unit, 1) / (1 << 20)


def behind(cluster, service):
    """Return the names of the pods that a service sends requests to."""
    slices = cluster.all("endpointslices", **{"kubernetes.io/service-name": service})
    ends = [end for one in slices for end in one.get("endpoints") or [] if field(end, "conditions.ready")]
    return sorted(field(end, "targetRef.name", "an address that is no pod") for end in ends)


@check(points=20, skill="k8s.operations", stable_for=4)
def test_every_answer_is_of_the_release(client, lab):
    """Every answer comes from 5.2.0"""
    place = f"http://{lab.service}.{lab.namespaces['shop']}:8080"
    versions = client.run(f"curl -s -m 5 '{place}/env?[1-12]'").stdout.split()
    assert sorted(set(versions)) == ["VERSION=5.2.0"], "what twelve requests are answered with"
    assert len(versions) == 12, "answers to twelve requests"
    assert client.run(f"curl -s -m 3 {place}/").stdout.strip() == f"{lab.service} > {lab.upstream}"


@check(points=30, skill="k8s.operations", needs="test_every_answer_is_of_the_release")
def test_the_release_is_complete(cluster, lab):
    """The deployment has three ready pods of 5.2.0, and no others"""
    newest = {field(one, "metadata.name") for one in cluster.newest("deployments", lab.service) if is_ready(one)}
    owned = [
        one
        for one in cluster.pods("deployments", lab.service)
        if field(one, "metadata.ownerReferences.0.kind") == "ReplicaSet"
    ]
    assert [field(one, "spec.containers.0.image") for one in owned] == [NEW] * 3, "images of the deployment's pods"
    assert {field(one, "metadata.name") for one in owned} == newest, "its pods, and those of them that are ready"


@check(points=10, skill="k8s.operations", needs="test_every_answer_is_of_the_release")
def test_nobody_else_answers(cluster, lab):
    """Only pods of the deployment answer in its name"""
    ready = sorted(field(one, "metadata.name") for one in cluster.newest("deployments", lab.service) if is_ready(one))
    assert behind(cluster, lab.service) == ready


@check(points=20, skill="k8s.resources", needs="test_every_answer_is_of_the_release")
def test_requests_cover_what_is_used(cluster, lab):
    """Each pod of 5.2.0 holds what it needs in memory, and requests that much"""
    containers = [field(one, "spec.containers.0", {}) for one in cluster.newest("deployments", lab.service)]
    held = {one.get("value") for found in containers for one in found.get("env") or [] if one.get("name") == "MEMORY"}
    assert held == {str(lab.cache)}, "MiB that the pods hold"
    smallest = min((mebibytes(field(one, "resources.requests.memory")) for one in containers), default=0)
    # What it keeps is not all: the process itself uses some ten MiB more.
    assert smallest >= lab.cache + 6, "MiB that a pod requests"


@check(points=10, skill="k8s.resources", needs="test_every_answer_is_of_the_release")
def test_what_is_in_use_runs(cluster, lab):
    """What is in use beside it runs on"""
    ready = {name: cluster.ready("deployments", name) for name in (lab.upstream, lab.worker)}
    assert ready == {lab.upstream: 1, lab.worker: 1}


@check(points=10, skill="k8s.resources", needs="test_every_answer_is_of_the_release")
def test_the_rest_is_as_it_was(cluster, lab, baseline):
    """Nothing in use was changed, and of the deployment only what the release and its requests ask for"""
    released = ("image", "env/VERSION/value", "env/MEMORY/value", "resources/requests/*")
    allowed = (
        *(f"shop/deployments/{lab.service}/containers/{lab.service}/{one}" for one in released),
        f"shop/deployments/{lab.service}/labels/version",
        f"shop/{lab.kind.lower()}s/{lab.leftover}*",
        "shop/deployments/*kubectl.kubernetes.io*",
    )
    new = ("shop/deployments/*", "shop/statefulsets/*", "shop/services/*", "shop/*jobs/*")
    assert cluster.differences(baseline, allowed, new) == []
