"""The answer key of kubernetes/ingress-answers-404."""

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field


@baseline
def before(cluster):
    return cluster.inventory() | {"authority": field(cluster.get("configmaps", "authority"), "data", {})["ca.crt"]}


class Edge:
    """Asks the edge as a customer does, who trusts the company's authority alone."""

    def __init__(self, client, cluster, lab, authority):
        self.client, self.domain = client, lab.domain
        self.address = field(cluster.get("services", "envoy", "edge"), "spec.clusterIP", "none")
        client.run("printf %%s %s >/tmp/authority.crt", authority)

    def get(self, name, path="/"):
        """Return what an address answers; curl's complaint where it does not."""
        host = f"{name}.{self.domain}"
        words = ["curl", "-sSf", "-m", "4", "--cacert", "/tmp/authority.crt", "--resolve", f"{host}:443:{self.address}"]
        done = self.client.run(" ".join(["%s"] * 9), *words, f"https://{host}{path}")
        return (done.stdout or done.stderr).strip()

    def plain(self, name):
        """Return status and target of a redirect that plain HTTP is answered with."""
        host = f"{name}.{self.domain}"
        words = ["-s", "-m", "4", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}"]
        words += ["--resolve", f"{host}:80:{self.address}", f"http://{host}/"]
        return self.client.run(" ".join(["curl", *["%s"] * len(words)]), *words).stdout.strip()


def edge(client, cluster, lab, baseline):
    return Edge(client, cluster, lab, baseline["authority"])


@check(points=30, skill="k8s.networking", stable_for=3)
def test_the_site_answers(client, cluster, lab, baseline):
    """Customers who trust the company's authority get the site over HTTPS"""
    assert edge(client, cluster, lab, baseline).get(lab.site) == lab.site


@check(points=25, skill="k8s.networking", needs="test_the_site_answers")
def test_what_is_below_the_second_path(client, cluster, lab, baseline):
    """The second path and everything below it goes to its own service, what only begins alike to the site"""
    asked = edge(client, cluster, lab, baseline)
    said = {path: asked.get(lab.site, path) for path in (f"/{lab.api}", f"/{lab.api}/v1/items", f"/{lab.api}s")}
    assert said == {f"/{lab.api}": lab.api, f"/{lab.api}/v1/items": lab.api, f"/{lab.api}s": lab.site}


@check(points=15, skill="k8s.networking", needs="test_the_site_answers")
def test_plain_http_is_sent_on(client, cluster, lab, baseline):
    """Plain HTTP is answered with a redirect to HTTPS and nothing else"""
    assert edge(client, cluster, lab, baseline).plain(lab.site) == f"301 https://{lab.site}.{lab.domain}/"


@check(points=10, skill="k8s.networking", needs="test_the_site_answers")
def test_the_status_page_is_up(client, cluster, lab, baseline):
    """The status page answers as before"""
    assert edge(client, cluster, lab, baseline).get("status") == "status"


@check(points=20, skill="k8s.debugging", needs="test_the_site_answers")
def test_nothing_else_has_changed(cluster, lab, baseline):
    """Services, deployments, secrets, the edge and the status page's Ingress are as they were"""
    before = {path: value for path, value in baseline.items() if path != "authority"}
    fresh = (
        "*/deployments/*",
        "*/services/*",
        "*/secrets/*",
        "*/ingresses/*",
        "*/httpproxies/*",
        "*/roles/*",
        "*/rolebindings/*",
    )
    mended = (f"shop/ingresses/{lab.site}", f"shop/ingresses/{lab.site}/*", "*kubectl.kubernetes.io*")
    assert cluster.differences(before, allow=mended, new=fresh) == []
    assert cluster.get("ingresses", lab.site), f"the Ingress {lab.site}"
