"""The answer key of kubernetes/mutual-tls-one-side."""

import json

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

# The pair may be nothing: then curl shows no certificate.  It prints the status, and then what was answered.
ASK = """
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
if [ -n "$2" ]; then
    printf %s "$2" | base64 -d >"$folder/crt"; printf %s "$3" | base64 -d >"$folder/key"
    set -- "$1" --cert "$folder/crt" --key "$folder/key"
else
    set -- "$1"
fi
url=$1; shift
curl -sk -m 3 "$@" "$url"; true
"""
OWN_CA = """
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=stranger \
    -addext "subjectAltName=URI:$1" -keyout "$folder/key" -out "$folder/crt" 2>/dev/null
base64 -w0 "$folder/crt"; echo; base64 -w0 "$folder/key"
"""


def pair(cluster, name, namespace):
    found = cluster.get("secrets", name, namespace)
    return [field(found, "data", {}).get(one, "") for one in ("tls.crt", "tls.key")]


@baseline
def before(cluster, lab):
    strangers = {
        "last year's certificate": pair(cluster, f"{lab.front}-identity-2025", "shop"),
        "another service's certificate": pair(cluster, "drill-neighbour", "pay"),
        "a certificate of the drill's CA": pair(cluster, "drill-stranger", "pay"),
    }
    return {"inventory": cluster.inventory(), "strangers": strangers}


def answers(client, lab, times):
    """Return what each of so many requests was answered with; what was no 200 begins with its status."""
    url = f"http://{lab.front}.{lab.namespaces['shop']}:8080/?[1-{times}]"
    said = client.run("timeout 9 curl -s -m 4 -w '%%{http_code}\n' %s", url).stdout.splitlines()
    return [line if code == "200" else f"{code} {line}" for line, code in zip(said[::2], said[1::2], strict=False)]


def real_ones(cluster, lab):
    pods = [one for one in cluster.pods("deployments", lab.back, "pay") if is_ready(one)]
    return [field(one, "status.podIP") for one in pods]


def got_in(client, cluster, lab, ways):
    """Return which of the ways led to an answer of the other service's application."""
    found = []
    for address in real_ones(cluster, lab):
        for called, (scheme, certificate, key) in ways.items():
            url = f"{scheme}://{address}:{lab.port}/"
            said = client.run("sh -c %s - %s %s %s", ASK, url, certificate, key).stdout
            if lab.back in said.splitlines():
                found.append(called)
    return found


@check(points=25, skill="k8s.networking", stable_for=3)
def test_customers_get_through(client, lab):
    """Every request to the front is answered with 200, and tells who answered behind it"""
    said = answers(client, lab, 6)
    assert len(said) == 6, "answers to six requests"
    assert [one for one in said if not one.startswith(f"{lab.front} > ")] == [], "answers that were not as they should"


@check(points=20, skill="sec.segmentation", needs="test_customers_get_through")
def test_every_answer_is_the_real_one(client, lab):
    """None of 24 answers comes from the drill"""
    assert set(answers(client, lab, 24)) == {f"{lab.front} > {lab.back}"}, "what was answered"


def contexts(found):
    """Return every upstream TLS context in a piece of Envoy's configuration."""
    if isinstance(found, dict):
        mine = [found] if str(found.get("@type", "")).endswith("UpstreamTlsContext") else []
        return mine + [one for inner in found.values() for one in contexts(inner)]
    return [one for inner in found for one in contexts(inner)] if isinstance(found, list) else []


def validation(tls, secrets):
    """Return what a context checks of the other's certificate, wherever it is said."""
    common = tls.get("common_tls_context", {})
    both = common.get("combined_validation_context", {})
    merged = {**common.get("validation_context", {}), **both.get("default_validation_context", {})}
    for way in (common, both):
        merged |= secrets.get(field(way, "validation_context_sds_secret_config.name"), {})
    return merged


def what_is_not_checked(tls, secrets):
    said = validation(tls, secrets)
    missing = []
    if not (said.get("trusted_ca") or said.get("system_root_certs") is not None):
        missing.append("the CA")
    if said.get("trust_chain_verification") == "ACCEPT_UNTRUSTED":
        missing.append("the chain")
    names = said.get("match_typed_subject_alt_names") or said.get("match_subject_alt_names")
    if not (names or tls.get("auto_sni_san_validation")):
        missing.append("the name")
    return missing


@check(points=10, skill="sec.segmentation", needs="test_customers_get_through")
def test_the_front_checks_who_answers(cluster, lab):
    """The front's sidecar, as it runs, checks CA and name of whom it calls"""
    pods = [one for one in cluster.newest("deployments", lab.front) if is_ready(one)]
    assert pods, "ready pods of the front"
    for pod in pods:
        inside = cluster.inside(field(pod, "metadata.name"))
        text = inside.run("curl -s -m 3 http://127.0.0.1:9901/config_dump").stdout
        assert text.startswith("{"), "whether the admin interface answers at 127.0.0.1:9901"
        parts = json.loads(text).get("configs", [])
        kinds = ("static_secrets", "dynamic_active_secrets")
        known = [one for part in parts for kind in kinds for one in part.get(kind, [])]
        secrets = {one.get("name"): field(one, "secret.validation_context", {}) for one in known}
        clusters = [
            one
            for part in parts
            for kind in ("static_clusters", "dynamic_active_clusters")
            for one in part.get(kind, [])
        ]
        found = contexts(clusters)
        assert found, "whether any connection is made with TLS"
        assert [one for tls in found for one in what_is_not_checked(tls, secrets)] == [], "what is not checked"


@check(points=15, skill="sec.segmentation", needs="test_customers_get_through")
def test_nobody_gets_in_without_a_certificate(client, cluster, lab):
    """Plain HTTP is refused, and so is TLS without a certificate"""
    ways = {"plain HTTP": ("http", "", ""), "TLS without a certificate": ("https", "", "")}
    assert real_ones(cluster, lab), "ready pods behind the front"
    assert got_in(client, cluster, lab, ways) == [], "who got in"


@check(points=10, skill="sec.segmentation", needs="test_customers_get_through")
def test_strangers_are_refused(client, cluster, lab, baseline):
    """Certificates of other CAs, of last year, and of other services are refused"""
    made = client.run("sh -c %s - %s", OWN_CA, f"spiffe://mesh.lab/{lab.front}").stdout.split()
    strangers = {**baseline["strangers"], "a certificate that nobody vouches for": made}
    ways = {called: ("https", *one) for called, one in strangers.items()}
    assert real_ones(cluster, lab), "ready pods behind the front"
    assert got_in(client, cluster, lab, ways) == [], "who got in"


@check(points=10, skill="k8s.networking", needs="test_customers_get_through")
def test_nobody_gets_past_a_sidecar(cluster, lab):
    """Beyond 127.0.0.1 nothing listens but the sidecars' own ports"""
    open_ports = {}
    for name, namespace, meant in ((lab.front, "shop", {8080, 15021}), (lab.back, "pay", {lab.port, 15021})):
        for pod in cluster.newest("deployments", name, namespace):
            if not is_ready(pod):
                continue
            called = field(pod, "metadata.name")
            lines = cluster.inside(called, namespace).check_output("ss -Hltn").splitlines()
            listens = [line.split()[3].rpartition(":") for line in lines]
            more = sorted({int(one) for address, _, one in listens if not address.startswith(("127.", "[::1"))} - meant)
            if more:
                open_ports[name] = more
    assert open_ports == {}, "ports that are open"


@check(points=10, skill="k8s.networking", needs="test_customers_get_through")
def test_the_rest_is_as_it_was(cluster, lab, baseline):
    """But for the front's sidecar all is as it was, and no service or deployment is added"""
    front = f"shop/deployments/{lab.front}"
    mended = (
        f"shop/configmaps/{lab.front}-envoy/*",
        f"{front}/*kubectl.kubernetes.io*",
        f"{front}/volumes/*",
        f"{front}/containers/envoy/volumeMounts/*",
    )
    kinds = ("services", "deployments")
    new = [f"{space}/{kind}/*" for space in ("shop", "pay") for kind in kinds]
    assert cluster.differences(baseline["inventory"], allow=mended, new=new) == []
