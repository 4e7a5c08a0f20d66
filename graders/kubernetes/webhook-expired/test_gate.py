"""The answer key of kubernetes/webhook-expired."""

import time

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

# 29 days: who issued for exactly 30 did so some minutes ago.
SHOWN = """
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
printf %s "$2" | base64 -d >"$folder/ca"
timeout 5 openssl s_client -connect "$1:443" -servername "$1" -verify_hostname "$1" -CAfile "$folder/ca" \
    -verify_return_error </dev/null >"$folder/said" 2>&1 || { grep -m 1 -i error "$folder/said"; exit 1; }
openssl x509 -in "$folder/said" -noout -checkend 2505600
"""
GOOD, FOREIGN = "registry.lab/shop/web:3.4.0", "docker.io/miner/xmr:1"
GUARDED = ("shop", "depot")
SAID = "not from registry.lab"


def pod(*images, first=(), labels=None):
    """Return a pod with these images, and the images ``first`` in containers that run before."""
    free = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    made = [{"name": f"x{n}", "image": one, "securityContext": free} for n, one in enumerate((*first, *images))]
    safe = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"initContainers": made[: len(first)], "containers": made[len(first) :], "securityContext": safe}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "x-", "labels": labels or {}}, "spec": spec,
    }  # fmt: skip


def webhooks(cluster, lab):
    name = f"{lab.gate}-{lab.namespaces['policy']}"
    return field(cluster.get("validatingwebhookconfigurations", name), "webhooks", [])


def trusts(found):
    """Return whom webhooks ask, and by which CA they know it."""
    return [field(one, "clientConfig") for one in found]


def evading(found):
    """Return labels with which a pod gets past the webhooks that look at labels."""
    rules = [rule for one in found for rule in field(one, "objectSelector.matchExpressions", [])]
    hidden = {rule["key"]: rule["values"][0] for rule in rules if rule["operator"] == "NotIn"}
    return hidden | {rule["key"]: "x" for rule in rules if rule["operator"] == "DoesNotExist"}


def until(holds, seconds):
    """Return what holds() returns, as soon as it is true or the time is over."""
    deadline = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < deadline:
        time.sleep(0.3)
    return found


@baseline
def before(cluster, lab):
    authority = field(cluster.get("secrets", f"{lab.gate}-ca", "policy"), "data", {}).get("ca.crt")
    return {"held": cluster.inventory(), "ca": authority, "trusts": trusts(webhooks(cluster, lab))}


@check(points=20, skill="k8s.debugging", stable_for=2)
def test_the_service_has_its_pods(client, cluster, lab):
    """The service has its three pods, and answers"""
    ready = [one for one in cluster.newest("deployments", lab.service) if is_ready(one)]
    assert [field(one, "spec.containers.0.image") for one in ready] == [GOOD] * 3, "images of the pods that are ready"
    said = client.run(f"curl -s -m 3 'http://{lab.service}.{lab.namespaces['shop']}:8080/?[1-6]'").stdout.split()
    assert said == [lab.service] * 6, "what six requests are answered with"


@check(points=15, skill="k8s.debugging")
def test_good_pods_are_let_in(cluster):
    """New pods with images of registry.lab are let in"""
    assert {one: cluster.would_admit("pods", pod(GOOD), one) for one in GUARDED} == dict.fromkeys(GUARDED, "")


@check(points=20, skill="k8s.operations", needs="test_good_pods_are_let_in")
def test_foreign_pods_are_refused(cluster, lab):
    """A pod with an image from elsewhere is refused by the gate, whoever makes it and whatever labels it has"""
    found = webhooks(cluster, lab)
    conditions = [field(one, "expression") for each in found for one in each.get("matchConditions") or []]
    assert [one for one in conditions if "namespace" not in one] == [], "exceptions that hold in every namespace"
    labels = {"app": lab.gate} | evading(found)
    tried = (pod(FOREIGN), pod(GOOD, FOREIGN), pod(GOOD, first=[FOREIGN]), pod(FOREIGN, labels=labels))
    answers = [(where, cluster.would_admit("pods", one, where) or "let in") for where in GUARDED for one in tried]
    wrong = [f"{where}: {answer}" for where, answer in answers if SAID not in answer]
    assert wrong == [], "other answers to pods with a foreign image than the gate's refusal"


@check(points=10, skill="design.failure-modes", needs="test_good_pods_are_let_in")
def test_silence_is_no_consent(cluster, lab):
    """When the gate does not answer, pods are refused"""
    policies = {one.get("failurePolicy") for one in webhooks(cluster, lab)}
    assert policies == {"Fail"}, "what happens when nobody answers"


@check(points=15, skill="k8s.operations")
def test_the_certificate_is_good(client, lab, baseline):
    """The gate shows a certificate of the CA that is there, made out to its name, good for 30 days"""
    name = f"{lab.gate}.{lab.namespaces['policy']}.svc"
    said = client.run("sh -c %s - %s %s", SHOWN, name, baseline["ca"]).stdout.strip()
    assert said == "Certificate will not expire", "what openssl says of it, asked for the next 29 days"


@check(points=10, skill="k8s.operations", needs=("test_the_service_has_its_pods", "test_foreign_pods_are_refused"))
def test_nothing_else_changed(cluster, lab, baseline):
    """The CA and the trust in it, the gate, the service and what they may use are as they were"""
    strange = [one for one in trusts(webhooks(cluster, lab)) if one not in baseline["trusts"]]
    assert strange == [], "whom the API server asks, and by which CA it knows the gate"
    allowed = (f"policy/secrets/{lab.gate}-tls/*", "*kubectl.kubernetes.io*")
    new = [f"*/{kind}/*" for kind in ("deployments", "statefulsets", "daemonsets", "cronjobs", "services")]
    assert cluster.differences(baseline["held"], allow=allowed, new=new) == []


@check(points=10, skill="design.failure-modes", needs=("test_foreign_pods_are_refused", "test_silence_is_no_consent"))
def test_the_gate_comes_back_by_itself(cluster, lab):
    """The gate loses its pod, and comes back by itself"""
    found = cluster.get("deployments", lab.gate, "policy")
    labels = field(found, "spec.selector.matchLabels", {})
    assert labels, "the gate's deployment"
    if not any(one.get("matchConditions") or one.get("objectSelector") for one in webhooks(cluster, lab)):
        # Asked about one pod of its own it is asked about all of them. No need to take it away, it would not come back.
        asked = SAID in cluster.would_admit("pods", pod(FOREIGN, labels=labels), "policy")
        assert asked is False, "whether the gate is asked about its own pod"
    wanted = field(found, "spec.replicas", 1)
    cluster.scale("deployments", lab.gate, 0, "policy")
    try:
        gone = until(lambda: not cluster.all("pods", "policy", **labels), 20)
    finally:
        cluster.scale("deployments", lab.gate, wanted, "policy")
    assert gone, "the gate's pods have ended"
    assert until(lambda: cluster.ready("deployments", lab.gate, "policy") == wanted, 40), "the gate's new pod is ready"
    assert until(lambda: cluster.would_admit("pods", pod(GOOD)) == "", 10), "a good pod is let in after that"
