"""The answer key of kubernetes/webhook-expired."""

import time

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field

ASK = """
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
printf %s "$2" | base64 -d >"$folder/ca"
timeout 5 openssl s_client -connect "$1:443" -servername "$1" -verify_hostname "$1" -CAfile "$folder/ca" \
    -verify_return_error </dev/null >"$folder/said" 2>&1 || { tail -n 3 "$folder/said"; exit 1; }
openssl x509 -in "$folder/said" -noout -checkend 2592000
"""


def pod(image):
    container = {
        "name": "x", "image": image,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    safe = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "x-"},
        "spec": {"containers": [container], "securityContext": safe},
    }  # fmt: skip


def webhooks(cluster, lab):
    return field(cluster.get("validatingwebhookconfigurations", lab.gate), "webhooks", [])


@baseline
def before(cluster, lab):
    authority = cluster.get("secrets", f"{lab.gate}-ca", "policy")
    return {
        "held": cluster.inventory(),
        "ca": field(authority, "data", {}).get("ca.crt"),
        "rules": field(webhooks(cluster, lab), "0.rules"),
    }


def until(holds, seconds):
    """Return what holds() returns, as soon as it is true or the time is over."""
    deadline = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < deadline:
        time.sleep(0.3)
    return found


@check(points=20, skill="k8s.operations", stable_for=2)
def test_the_service_has_its_pods(cluster, lab):
    """The service has its three pods"""
    assert cluster.ready("deployments", lab.service) == 3


@check(points=15, skill="k8s.operations", needs="test_the_service_has_its_pods")
def test_good_pods_are_let_in(cluster):
    """A pod of registry.lab is let in"""
    assert cluster.would_admit("pods", pod("registry.lab/shop/web:3.4.0")) == ""


@check(points=20, skill="k8s.operations", needs="test_good_pods_are_let_in")
def test_foreign_pods_are_refused(cluster):
    """A pod with an image from elsewhere is refused, and by the gate"""
    for namespace in ("shop", "depot"):
        assert "not from registry.lab" in cluster.would_admit("pods", pod("docker.io/miner/xmr:1"), namespace), (
            namespace
        )


@check(points=10, skill="k8s.operations", needs="test_good_pods_are_let_in")
def test_silence_is_no_consent(cluster, lab, baseline):
    """Where the gate does not answer, pods are refused"""
    found = webhooks(cluster, lab)
    assert [one.get("failurePolicy") for one in found] == ["Fail"], "what happens where nobody answers"
    assert field(found, "0.rules") == baseline["rules"], "what the gate is asked about"
    assert not field(found, "0.matchConditions"), "conditions on when it is asked"


@check(points=15, skill="k8s.operations", needs="test_the_service_has_its_pods")
def test_the_certificate_is_good(client, cluster, lab, baseline):
    """The gate shows a certificate of the CA, made out to its name, good for 30 days"""
    name = f"{lab.gate}.{lab.namespaces['policy']}.svc"
    said = client.run("sh -c %s - %s %s", ASK, name, baseline["ca"])
    assert said.exit_status == 0, said.stdout.strip()[-300:]


@check(points=10, skill="k8s.operations", needs="test_good_pods_are_let_in")
def test_nothing_else_changed(cluster, lab, baseline):
    """The CA, the gate's program, the service and their limits are as they were"""
    allowed = (f"policy/secrets/{lab.gate}-tls/*", "*kubectl.kubernetes.io*")
    new = ("policy/deployments/*", "shop/deployments/*")
    assert cluster.differences(baseline["held"], allow=allowed, new=new) == []


@check(points=10, skill="k8s.operations", needs=("test_good_pods_are_let_in", "test_foreign_pods_are_refused"))
def test_the_gate_comes_back_by_itself(cluster, lab):
    """The gate, restarted, comes back by itself"""
    old = {field(one, "metadata.uid") for one in cluster.pods("deployments", lab.gate, "policy")}
    cluster.restart("deployments", lab.gate, "policy")

    def replaced():
        ready = cluster.ready("deployments", lab.gate, "policy")
        return ready == 1 and not old & {
            field(one, "metadata.uid") for one in cluster.newest("deployments", lab.gate, "policy")
        }

    assert until(replaced, 25), "whether a new pod of the gate is ready"
    assert until(lambda: cluster.would_admit("pods", pod("registry.lab/shop/web:3.4.0")) == "", 10), "a good pod, then"
