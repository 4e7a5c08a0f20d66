"""The answer key of kubernetes/oom-limit-range."""

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

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


@check(points=25, skill="k8s.debugging", stable_for=4)
def test_the_service_answers(client, lab):
    """The service answers inside the cluster"""
    said = client.run(f"curl -s -m 3 http://{lab.service}.{lab.namespaces['shop']}:8080/").stdout.strip()
    assert said == (lab.service if lab.second == "index" else f"{lab.service} > history")


@check(points=15, skill="k8s.debugging", needs="test_the_service_answers")
def test_its_two_pods_answer(cluster, lab):
    """Two pods of the deployment are ready, and they are the ones that answer"""
    ready = sorted(field(one, "metadata.name") for one in cluster.newest("deployments", lab.service) if is_ready(one))
    assert len(ready) == 2, "ready pods of the deployment"
    assert behind(cluster, lab.service) == ready, "who answers under the service's name"


@check(points=10, skill="k8s.debugging", needs="test_the_service_answers", stable_for=4)
def test_no_pod_restarts(cluster, lab):
    """No container of its pods has been started again"""
    assert cluster.restarts("deployments", lab.service) == 0


@check(points=15, skill="k8s.resources", needs="test_the_service_answers")
def test_requests_cover_what_is_held(cluster, lab):
    """Each container of its pods requests the memory that it holds, or more"""
    held = {lab.service: lab.cache, lab.second: lab.held}
    short = [
        f"{name} requests {field(container, 'resources.requests.memory', 'nothing')}, and holds {held[name]}Mi"
        for pod in cluster.newest("deployments", lab.service)
        for container in [*field(pod, "spec.initContainers", []), *field(pod, "spec.containers", [])]
        if mebibytes(field(container, "resources.requests.memory")) < held.get(name := container["name"], 0)
    ]
    assert sorted(set(short)) == []


@check(points=15, skill="k8s.resources", needs="test_the_service_answers")
def test_the_import_finds_room(cluster, lab):
    """The namespace's rules still admit the pod of tonight's import"""
    wanted = {"memory": "128Mi"}
    container = {
        "name": "import", "image": "registry.lab/shop/web:3.8.1", "resources": {"requests": wanted, "limits": wanted},
    }  # fmt: skip
    manifest = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "import"},
        "spec": {"containers": [container], "automountServiceAccountToken": False},
    }  # fmt: skip
    assert cluster.would_admit("pods", manifest) == "", "why the pod would be refused"


@check(points=20, skill="k8s.resources", needs="test_the_service_answers")
def test_the_rest_is_as_it_was(cluster, lab, baseline):
    """The deployment holds, runs and probes what it did; mail, services and all else are as they were"""
    mended = (f"shop/deployments/{lab.service}/*/resources/*", "shop/deployments/*kubectl.kubernetes.io*")
    assert cluster.differences(baseline, mended, new=("shop/deployments/*", "shop/services/*", "shop/*jobs/*")) == []
