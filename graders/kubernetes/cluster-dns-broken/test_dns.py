"""The answer key of kubernetes/cluster-dns-broken."""

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field

SYSTEM = "kube-system"


@baseline
def before(cluster):
    dns = cluster.get("deployments", "coredns", SYSTEM)
    return {"held": cluster.inventory(), "dns": field(dns, "spec.template.spec"), "wanted": field(dns, "spec.replicas")}


def inside(cluster, lab):
    """Return the network of a pod of the shop."""
    return cluster.inside(field(cluster.pods("deployments", lab.front), "0.metadata.name"))


def address(cluster, name, namespace):
    return field(cluster.get("services", name, namespace), "spec.clusterIP", "none")


def found(pod, name):
    """Return the addresses that a full name has; what was said instead where it has none."""
    said = pod.run(f"host -W 2 -R 1 -t A {name}.").stdout
    return [line.rpartition(" ")[2] for line in said.splitlines() if " has address " in line] or said.strip()


@check(points=25, skill="k8s.networking", stable_for=3)
def test_customers_get_an_answer(cluster, lab):
    """The shop answers its customers, with what the ledger says"""
    said = inside(cluster, lab).run("curl -s -m 9 http://127.0.0.1:8080/").stdout.strip()
    whole = " > ".join(f"{name} {lab.token('answer', 12)}" for name in (lab.front, lab.catalog, "ledger"))
    assert said == whole, "what the shop answers"


@check(points=15, skill="k8s.networking")
def test_services_are_found(cluster, lab):
    """Every service is found by its full name"""
    pod = inside(cluster, lab)
    for name, called in ((lab.catalog, "shop"), ("ledger", "company"), ("resolver", "company")):
        full = f"{name}.{lab.namespaces[called]}.svc.cluster.local"
        assert found(pod, full) == [address(cluster, name, called)], full


@check(points=15, skill="k8s.networking")
def test_the_companys_zone_is_found(cluster, lab):
    """Names of the company's zone are found, the newest too"""
    pod = inside(cluster, lab)
    for name in ("ledger", lab.token("later", 8)):
        assert found(pod, f"{name}.{lab.zone}") == [address(cluster, "ledger", "company")], f"{name}.{lab.zone}"


@check(points=10, skill="k8s.networking", needs="test_services_are_found")
def test_addresses_are_found_backwards(cluster, lab):
    """The address of a service leads back to its name"""
    said = inside(cluster, lab).run(f"host -W 2 -R 1 {address(cluster, lab.catalog, 'shop')}").stdout
    assert f"{lab.catalog}.{lab.namespaces['shop']}.svc.cluster.local." in said.split()


@check(points=10, skill="k8s.networking", needs=("test_services_are_found", "test_the_companys_zone_is_found"))
def test_what_is_no_name_is_refused(cluster, lab):
    """A name that is none is answered with "no such name" """
    pod = inside(cluster, lab)
    for name in (f"nobody.{lab.namespaces['shop']}.svc.cluster.local", f"nobody.{lab.zone}"):
        assert "NXDOMAIN" in pod.run(f"host -W 2 -R 1 -t A {name}.").stdout, name


@check(points=10, skill="k8s.operations", needs="test_services_are_found")
def test_the_alarms_still_see_it(cluster, baseline):
    """Each DNS pod has its health, readiness and metrics pages"""
    pods = cluster.pods("deployments", "coredns", SYSTEM)
    assert len(pods) == baseline["wanted"]
    for pod in pods:
        inside = cluster.inside(pod["metadata"]["name"], SYSTEM)
        for page in (":8080/health", ":8181/ready", ":9153/metrics"):
            code = inside.run(f"curl -s -m 2 -o /dev/null -w '%{{http_code}}' http://127.0.0.1{page}").stdout
            assert code == "200", f"{pod['metadata']['name']} {page}"


@check(points=15, skill="k8s.operations", needs="test_services_are_found")
def test_nothing_else_changed(cluster, baseline):
    """The services and the deployment coredns are as they were"""
    new = ("*/deployments/*", "*/services/*")
    assert cluster.differences(baseline["held"], allow=("*kubectl.kubernetes.io*",), new=new) == []
    dns = cluster.get("deployments", "coredns", SYSTEM)
    assert field(dns, "spec.template.spec") == baseline["dns"], "the deployment coredns"
    assert field(dns, "spec.replicas") == baseline["wanted"], "its replicas"
