"""The answer key of kubernetes/claim-cannot-bind."""

from secrets import token_hex

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

UNITS = {
    "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "m": 1e-3,
}  # fmt: skip


@baseline
def before(cluster):
    return cluster.inventory()


def mebibytes(quantity):
    """Return a quantity of storage in MiB; 0 where none is given."""
    text = str(quantity or "0")
    unit = next((one for one in UNITS if text.endswith(one)), "")
    return float(text.removesuffix(unit)) * UNITS.get(unit, 1) / (1 << 20)


def old_entries(lab):
    return [f"{number} {lab.token(f'entry {number}', 12)}" for number in range(1, lab.entries + 1)]


def place(lab, name):
    return f"http://{name}.{lab.namespaces['shop']}:8080/items"


def items(client, lab, name):
    return client.run(f"curl -s -m 3 {place(lab, name)}").stdout.splitlines()


def claims(pod):
    """Return the claims that a pod mounts."""
    volumes = field(pod, "spec.volumes", [])
    return [name for one in volumes if (name := field(one, "persistentVolumeClaim.claimName"))]


@check(points=25, skill="k8s.debugging", stable_for=4)
def test_the_old_entries_are_there(client, lab):
    """The service shows all old entries, first and in their order"""
    assert items(client, lab, lab.service)[: lab.entries] == old_entries(lab)


@check(points=20, skill="k8s.debugging", needs="test_the_old_entries_are_there")
def test_new_entries_are_kept(client, lab, baseline):
    """What is posted is kept, also when all pods are lost"""
    # What the first look posted is what the second, after the loss of all pods, must still find.
    posted = baseline.setdefault("posted", [])
    assert [one for one in posted if one not in items(client, lab, lab.service)] == [], "posted before, and lost"
    new = f"new {token_hex(6)}"
    status = client.run(f"curl -s -m 3 -o /dev/null -w '%{{http_code}}' -d '{new}' {place(lab, lab.service)}").stdout
    assert status == "201", "what POST /items is answered with"
    assert items(client, lab, lab.service)[-1:] == [new], "the last entry"
    posted.append(new)


@check(points=15, skill="k8s.debugging", needs="test_the_old_entries_are_there")
def test_the_entries_are_on_the_new_claim(cluster, lab):
    """The deployment's ready pod mounts the new claim, which is bound and large enough"""
    claim = cluster.get("persistentvolumeclaims", f"{lab.service}-data")
    assert field(claim, "status.phase") == "Bound"
    assert mebibytes(field(claim, "status.capacity.storage")) >= 512, "MiB that it has"
    ready = [one for one in cluster.newest("deployments", lab.service) if is_ready(one)]
    assert [claims(one) for one in ready] == [[f"{lab.service}-data"]], "claims of the deployment's ready pods"


@check(points=15, skill="k8s.debugging", needs="test_the_old_entries_are_there")
def test_the_old_claim_is_untouched(client, lab, cluster, baseline):
    """The old claim is still there, with the old entries and nothing else"""
    uid = f"shop/persistentvolumeclaims/{lab.service}-old/uid"
    assert cluster.inventory().get(uid) == baseline[uid], "which claim it is"
    assert items(client, lab, lab.reader) == old_entries(lab)


@check(points=10, skill="k8s.resources", needs="test_the_old_entries_are_there")
def test_the_promised_storage_is_free(cluster):
    """The quota stands, and still has the 128Mi that are promised"""
    assert mebibytes(field(cluster.get("resourcequotas", "storage"), "spec.hard").get("requests.storage")) == 1024
    manifest = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "promised"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "128Mi"}}},
    }  # fmt: skip
    assert cluster.would_admit("persistentvolumeclaims", manifest) == "", "why the claim would be refused"


@check(points=10, skill="k8s.debugging", needs="test_the_old_entries_are_there")
def test_the_rest_is_as_it_was(cluster, baseline):
    """Both deployments and their services are as they were"""
    known = {key: value for key, value in baseline.items() if key != "posted"}
    allowed = ("shop/deployments/*kubectl.kubernetes.io*", "shop/persistentvolumeclaims/*")
    new = ("shop/deployments/*", "shop/statefulsets/*", "shop/services/*", "shop/*jobs/*", "shop/configmaps/*")
    assert cluster.differences(known, allowed, new) == []


@check(points=5, skill="k8s.debugging", needs="test_the_old_entries_are_there")
def test_no_other_pod_is_left(cluster, lab):
    """The only pods left are those of the two deployments"""
    owned = {
        field(one, "metadata.name") for name in (lab.service, lab.reader) for one in cluster.newest("deployments", name)
    }
    assert sorted({field(one, "metadata.name") for one in cluster.all("pods")} - owned) == []
