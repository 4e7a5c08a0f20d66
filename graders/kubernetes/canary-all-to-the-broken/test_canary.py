"""The answer key of kubernetes/canary-all-to-the-broken."""

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready


@baseline
def before(cluster):
    return cluster.inventory()


def asked(client, lab, times, header=""):
    """Return status and answer of so many requests, as customers make them."""
    url = f"http://envoy.{lab.namespaces['edge']}/?[1-{times}]"
    host = f"Host: {lab.site}.{lab.domain}"
    more = ("-H", header) if header else ()
    words = ["timeout", "25", "curl", "-s", "-m", "5", "-H", host, *more, "-w", "|%{http_code}\\n\\n", url]
    said = client.run(" ".join(["%s"] * len(words)), *words, timeout=30).stdout
    return [one.strip().rpartition("|")[::2] for one in said.split("\n\n") if one.strip()]


def version(cluster, lab, track):
    """Return the names of a version's pods, as its deployment makes them."""
    return {field(one, "metadata.name") for one in cluster.newest("deployments", f"{lab.site}-{track}")}


def given_by(said, pods):
    """Return how many answers came from one of these pods, with 200."""
    return sum(status == "200" and text.strip().rpartition(" ")[2] in pods for text, status in said)


@check(points=30, skill="k8s.networking")
def test_the_canary_gets_its_tenth(client, cluster, lab):
    """Of 400 requests, 4 to 16 % are answered by 3.1.0"""
    said = asked(client, lab, 400)
    assert len(said) == 400, "answers to 400 requests"
    canary = given_by(said, version(cluster, lab, "canary"))
    tenth = 16 <= canary <= 64
    assert tenth, f"of 400 requests, {canary} were answered by 3.1.0"


@check(points=25, skill="k8s.debugging", needs="test_the_canary_gets_its_tenth")
def test_all_others_get_the_stable_version(client, cluster, lab):
    """Every request is answered with 200, by one of the two versions, and each pod of 3.0.4 has its share"""
    said = asked(client, lab, 200)
    stable, canary = version(cluster, lab, "stable"), version(cluster, lab, "canary")
    assert [one for one in said if not given_by([one], stable | canary)] == [], "answers that were not as they should"
    assert [one for one in sorted(stable) if not given_by(said, {one})] == [], "pods of 3.0.4 that answered nobody"


@check(points=20, skill="k8s.networking")
def test_the_stable_service_leads_to_its_pods(cluster, lab):
    """The stable service leads to the three pods of 3.0.4 and to no others, by labels that each release gives them"""
    name = f"{lab.site}-stable"
    slices = cluster.all("endpointslices", **{"kubernetes.io/service-name": name})
    leads = {field(one, "targetRef.name") for part in slices for one in field(part, "endpoints", [])}
    ready = {field(one, "metadata.name") for one in cluster.newest("deployments", name) if is_ready(one)}
    assert len(ready) == 3, "ready pods of 3.0.4"
    assert leads == ready, "the pods behind the service"
    selector = field(cluster.get("services", name), "spec.selector", {})
    labels = field(cluster.get("deployments", name), "spec.template.metadata.labels", {})
    lasting = [key for key, value in selector.items() if labels.get(key) != value]
    assert lasting == [], "labels that the service asks for and the deployment does not give"


@check(points=10, skill="k8s.networking", needs="test_the_canary_gets_its_tenth")
def test_testers_get_the_canary(client, cluster, lab):
    """Requests with the testers' header are all answered by 3.1.0"""
    said = asked(client, lab, 40, "x-canary: always")
    assert given_by(said, version(cluster, lab, "canary")) == 40, "of 40 requests, those answered by 3.1.0"


@check(points=15, skill="k8s.debugging", needs="test_the_canary_gets_its_tenth")
def test_the_rest_is_as_it_was(cluster, lab, baseline):
    """Probes still ask for /readyz; canary, edge and all else are as they were, and nothing is added"""
    stable = f"{lab.site}-stable"
    probe = field(cluster.get("deployments", stable), "spec.template.spec.containers.0.readinessProbe", {})
    assert field(probe, "httpGet.path") == "/readyz", "what the readiness probe asks for"
    mended = (
        f"shop/httpproxies/{lab.site}/*",
        f"shop/services/{stable}/selector/*",
        f"shop/deployments/{stable}/containers/web/readinessProbe/*",
        "*kubectl.kubernetes.io*",
    )
    fresh = [f"*/{kind}/*" for kind in ("services", "deployments", "statefulsets", "ingresses", "httpproxies")]
    assert cluster.differences(baseline, allow=mended, new=fresh) == []
