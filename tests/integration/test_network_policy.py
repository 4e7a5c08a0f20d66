"""What the node image's network lets through under policies, on a real cluster.

Every connection of the matrix is tried before there is a policy and after all are gone, and has to succeed: a server
that is down can't pass for one that is protected.  The pods spread over the nodes that there are.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import pytest

from breakfix import images
from breakfix.errors import NotReady
from tests.stage import quiet, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

pytestmark = pytest.mark.engine


class Cluster:
    """A cluster of kind's."""

    def __init__(self, name: str) -> None:
        self.node = f"{name}-control-plane"

    def kubectl(self, *args: str, stdin: str = "") -> str:
        """Run kubectl in the node and return what it prints."""
        program = ["docker", "exec", "-i", self.node, "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"]
        done = subprocess.run([*program, *args], input=stdin, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"kubectl {args}: {done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a cluster of one node."""
    try:
        image, kind = images.node(quiet), images.kind_command(quiet)
    except NotReady as error:
        pytest.skip(f"no engine answers, so network policies stay unproven here: {error.what}")
    if image is None:
        pytest.skip("a registry answers, so clusters are made of kind's own nodes")
    name = f"breakfix-tests-{secrets.token_hex(3)}"
    chosen = ["--name", name, "--kubeconfig", str(tmp_path_factory.mktemp("kind") / "kubeconfig")]
    try:
        subprocess.run([kind, "create", "cluster", *chosen, "--image", image, "--wait", "180s", "-q"], check=True)
        yield Cluster(name)
    finally:
        subprocess.run([kind, "delete", "cluster", *chosen, "-q"], check=True)


# Each pod listens on all the ports. The port that web calls "http" is 8080, for old it is 8081.
PODS = (
    ("shop/web", "web"),
    ("shop/old", "web"),
    ("shop/client", "client"),
    ("shop/other", "other"),
    ("front/client", "client"),
    ("front/other", "other"),
    ("back/client", "client"),
)
NAMESPACES = ("shop", "front", "back")
SERVER = """
    mkdir /www; echo here >/www/index.html
    for port in 8081 8085 8090; do httpd -p $port -h /www; done
    exec httpd -f -p 8080 -h /www
"""
PATIENCE = 2
"""Seconds after which a connection counts as refused."""


def pod(name: str, app: str, command: str = SERVER, **spec: object) -> dict[str, object]:
    namespace, own = name.split("/")
    container: dict[str, object] = {
        "name": "main",
        "image": "breakfix.local/busybox:1",
        "command": ["sh", "-c", command],
        "ports": [{"name": "http", "containerPort": 8081 if own == "old" else 8080}],
    }
    if command is SERVER:
        container["readinessProbe"] = {"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1, "timeoutSeconds": 5}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": own, "namespace": namespace, "labels": {"pod": own, "app": app, "matrix": "yes"}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, **spec},
    }


def spread() -> dict[str, object]:
    """Return what keeps pods from landing on one node as long as there are others."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"matrix": "yes"}},
    }


def furniture() -> Iterator[dict[str, object]]:
    for name in NAMESPACES:
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": name}}}
    for name, app in PODS:
        yield pod(name, app, topologySpreadConstraints=[spread()])
    yield pod("shop/host", "client", "exec sleep 100000", hostNetwork=True)
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"selector": {"pod": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }


class Row(NamedTuple):
    """A connection, and whether it is allowed."""

    source: str
    """A pod."""
    target: str
    """What it connects to, of ``Stage.addresses``, and the port; or the same without a port, to ask it for a name."""
    allowed: bool


class Stage:
    """The pods in their cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.kubectl = cluster.kubectl
        self.addresses = self._addresses()

    def _addresses(self) -> dict[str, str]:
        found = {}
        for one in json.loads(self.kubectl("get", "pods,services", "-A", "-o", "json"))["items"]:
            name = f"{one['metadata']['namespace']}/{one['metadata']['name']}"
            if one["kind"] == "Service":
                found[f"service {name}"] = one["spec"]["clusterIP"]
            elif one["metadata"].get("labels", {}).get("k8s-app") == "kube-dns":
                found["dns"] = one["status"]["podIP"]
            else:
                found[name] = one["status"].get("podIP", "")
        return found

    def apply(self, policies: str) -> None:
        """Make policies, in which ``<NAME>`` is an address."""
        self.kubectl("apply", "-f", "-", stdin=re.sub(r"<([^>]+)>", lambda name: self.addresses[name[1]], policies))

    def clear(self) -> None:
        self.kubectl("delete", "networkpolicies", "--all", "--all-namespaces", "--wait=false")

    def attempt(self, target: str) -> str:
        """Return the command that succeeds if ``target`` answers in time."""
        name, _, port = target.partition(":")
        address = self.addresses[name]
        if not port:
            return f"timeout {PATIENCE} nslookup -type=a kubernetes.default.svc.cluster.local {address} >/dev/null 2>&1"
        return f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout {PATIENCE} nc {address} {port} 2>&1 | grep -q HTTP/"

    def answers(self, connections: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Try connections, all at once, and return those that were answered."""
        targets: dict[str, list[str]] = {}
        for source, target in dict.fromkeys(connections):
            targets.setdefault(source, []).append(target)
        with ThreadPoolExecutor(8) as threads:
            return set().union(*threads.map(self._answers, targets, targets.values()))

    def _answers(self, source: str, targets: list[str]) -> set[tuple[str, str]]:
        tried = (f"{{ {self.attempt(target)} && echo {shlex.quote(target)}; }} &" for target in targets)
        namespace, own = source.split("/")
        script = "\n".join((*tried, "wait"))
        printed = self.kubectl("exec", "-n", namespace, own, "-i", "--", "sh", stdin=script)
        return {(source, target) for target in printed.splitlines()}

    def open(self, source: str, target: str) -> bool:
        return bool(self.answers([(source, target)]))

    def settles(self, holds: Callable[[], object]) -> None:
        """Wait for the rules to follow what has been changed."""
        until(holds, 10 * PATIENCE)


@pytest.fixture(scope="module")
def whole(cluster: Cluster) -> Stage:
    items = {"apiVersion": "v1", "kind": "List", "items": list(furniture())}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(items))
    for namespace in NAMESPACES:
        cluster.kubectl("wait", "-n", namespace, "--for=condition=Ready", "pod", "--all", "--timeout=90s")
    cluster.kubectl("rollout", "status", "-n", "kube-system", "deployment/coredns", "--timeout=90s")
    return Stage(cluster)


@pytest.fixture
def stage(whole: Stage) -> Iterator[Stage]:
    yield whole
    whole.clear()


def policy(name: str, spec: str) -> str:
    namespace, own = name.split("/")
    return (
        f"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{namespace: {namespace}, name: {own}}}\n"
        f"spec: {spec}\n---\n"
    )


WEB = "podSelector: {matchLabels: {pod: web}}"
WEBS = "podSelector: {matchLabels: {app: web}}"
CLIENTS = "podSelector: {matchLabels: {app: client}}"
OTHERS = "podSelector: {matchLabels: {app: other}}"
FRONT = "namespaceSelector: {matchLabels: {team: front}}"
DENY_INGRESS = "{podSelector: {}, policyTypes: [Ingress]}"
DENY_EGRESS = "{podSelector: {}, policyTypes: [Egress]}"
TO_DNS = """{podSelector: {}, policyTypes: [Egress], egress: [{
    to: [{
        namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}},
        podSelector: {matchLabels: {k8s-app: kube-dns}}}],
    ports: [{protocol: UDP, port: 53}]}]}"""
SERVICE = "service shop/web:80"
DNS = "service kube-system/kube-dns"

MATRIX: dict[str, tuple[str, tuple[Row, ...]]] = {
    "default deny ingress": (
        policy("shop/p", DENY_INGRESS),
        (
            Row("shop/client", "shop/web:8080", allowed=False),
            Row("front/client", "shop/web:8080", allowed=False),
            Row("shop/client", SERVICE, allowed=False),
            Row("shop/web", SERVICE, allowed=True),  # itself
            Row("shop/client", "front/client:8080", allowed=True),
            Row("back/client", "front/client:8080", allowed=True),
        ),
    ),
    "default deny egress": (
        policy("shop/p", DENY_EGRESS),
        (
            Row("shop/client", "shop/web:8080", allowed=False),
            Row("shop/client", "front/client:8080", allowed=False),
            Row("shop/client", SERVICE, allowed=False),
            Row("shop/client", DNS, allowed=False),
            Row("shop/host", "front/client:8080", allowed=True),  # the node's network
            Row("front/client", "shop/web:8080", allowed=True),
        ),
    ),
    "egress to DNS alone": (
        policy("shop/deny", DENY_EGRESS) + policy("shop/dns", TO_DNS),
        (
            Row("shop/client", DNS, allowed=True),
            Row("shop/client", "dns", allowed=True),
            Row("shop/client", "dns:9153", allowed=False),
            Row("shop/client", "shop/web:8080", allowed=False),
        ),
    ),
    "a policy of another namespace": (
        policy("back/p", DENY_INGRESS),
        (
            Row("shop/client", "shop/web:8080", allowed=True),
            Row("front/client", SERVICE, allowed=True),
            Row("front/client", "back/client:8080", allowed=False),
        ),
    ),
    "pod selector": (
        policy("shop/p", f"{{{WEB}, ingress: [{{from: [{{{CLIENTS}}}]}}]}}"),
        (
            Row("shop/client", "shop/web:8080", allowed=True),
            Row("shop/client", SERVICE, allowed=True),
            Row("shop/other", "shop/web:8080", allowed=False),
            Row("shop/other", SERVICE, allowed=False),
            Row("front/client", "shop/web:8080", allowed=False),
        ),
    ),
    "namespace selector": (
        policy("shop/p", f"{{{WEB}, ingress: [{{from: [{{{FRONT}}}]}}]}}"),
        (
            Row("front/client", "shop/web:8080", allowed=True),
            Row("front/other", SERVICE, allowed=True),
            Row("shop/client", "shop/web:8080", allowed=False),
            Row("back/client", "shop/web:8080", allowed=False),
        ),
    ),
    "both in one peer": (
        policy("shop/p", f"{{{WEB}, ingress: [{{from: [{{{FRONT}, {CLIENTS}}}]}}]}}"),
        (
            Row("front/client", "shop/web:8080", allowed=True),
            Row("front/other", "shop/web:8080", allowed=False),
            Row("shop/client", "shop/web:8080", allowed=False),
            Row("back/client", SERVICE, allowed=False),
        ),
    ),
    "both as two peers": (
        policy("shop/p", f"{{{WEB}, ingress: [{{from: [{{{FRONT}}}, {{{CLIENTS}}}]}}]}}"),
        (
            Row("front/other", "shop/web:8080", allowed=True),
            Row("shop/client", "shop/web:8080", allowed=True),
            Row("shop/other", "shop/web:8080", allowed=False),
            Row("back/client", "shop/web:8080", allowed=False),
        ),
    ),
    "clients of every namespace": (
        policy("shop/p", f"{{{WEB}, ingress: [{{from: [{{namespaceSelector: {{}}, {CLIENTS}}}]}}]}}"),
        (
            Row("back/client", "shop/web:8080", allowed=True),
            Row("shop/client", "shop/web:8080", allowed=True),
            Row("front/other", "shop/web:8080", allowed=False),
        ),
    ),
    "egress to a namespace": (
        policy("shop/p", f"{{{CLIENTS}, policyTypes: [Egress], egress: [{{to: [{{{FRONT}}}]}}]}}"),
        (
            Row("shop/client", "front/other:8080", allowed=True),
            Row("shop/client", "back/client:8080", allowed=False),
            Row("shop/other", "back/client:8080", allowed=True),
        ),
    ),
    "ipBlock with an exception": (
        policy(
            "shop/p",
            f"{{{WEB}, ingress: [{{from: [{{ipBlock: {{cidr: 0.0.0.0/0, except: [<front/client>/32]}}}}]}}]}}",
        ),
        (
            Row("front/client", "shop/web:8080", allowed=False),
            Row("front/client", SERVICE, allowed=False),
            Row("front/other", "shop/web:8080", allowed=True),
            Row("shop/client", SERVICE, allowed=True),
        ),
    ),
    "egress to an ipBlock": (
        policy(
            "front/p", f"{{{CLIENTS}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: <shop/web>/32}}}}]}}]}}"
        ),
        (
            Row("front/client", "shop/web:8080", allowed=True),
            Row("front/client", SERVICE, allowed=True),  # the policy sees the pod behind it
            Row("front/client", "shop/old:8080", allowed=False),
        ),
    ),
    "port": (
        policy("shop/p", f"{{{WEB}, ingress: [{{ports: [{{port: 8080}}]}}]}}"),
        (
            Row("front/client", "shop/web:8080", allowed=True),
            Row("front/client", SERVICE, allowed=True),
            Row("front/client", "shop/web:8081", allowed=False),
        ),
    ),
    "range of ports": (
        policy("shop/p", f"{{{WEB}, ingress: [{{ports: [{{port: 8081, endPort: 8085}}]}}]}}"),
        (
            Row("front/client", "shop/web:8080", allowed=False),
            Row("front/client", "shop/web:8081", allowed=True),
            Row("front/client", "shop/web:8085", allowed=True),
            Row("front/client", "shop/web:8090", allowed=False),
        ),
    ),
    "named port": (
        policy("shop/p", f"{{{WEBS}, ingress: [{{ports: [{{port: http}}]}}]}}"),
        (
            Row("front/client", "shop/web:8080", allowed=True),
            Row("front/client", "shop/web:8081", allowed=False),
            Row("front/client", "shop/old:8081", allowed=True),
            Row("front/client", "shop/old:8080", allowed=False),
        ),
    ),
    "egress to a named port": (
        policy(
            "front/p",
            f"{{{CLIENTS}, policyTypes: [Egress], egress: "
            f"[{{to: [{{namespaceSelector: {{}}, {WEBS}}}], ports: [{{port: http}}]}}]}}",
        ),
        (
            Row("front/client", "shop/web:8080", allowed=True),
            Row("front/client", "shop/web:8081", allowed=False),
            Row("front/client", "shop/old:8081", allowed=True),
            Row("front/client", "shop/old:8080", allowed=False),
        ),
    ),
    "protocols on the way out": (
        policy(
            "front/tcp", f"{{{CLIENTS}, policyTypes: [Egress], egress: [{{ports: [{{port: 53}}, {{port: 9153}}]}}]}}"
        )
        + policy("front/udp", f"{{{OTHERS}, policyTypes: [Egress], egress: [{{ports: [{{protocol: UDP}}]}}]}}"),
        (
            Row("front/client", DNS, allowed=False),  # a port without a protocol is TCP's
            Row("front/client", "dns:9153", allowed=True),
            Row("front/other", DNS, allowed=True),
            Row("front/other", "dns:9153", allowed=False),
        ),
    ),
    "protocols on the way in": (
        policy(
            "kube-system/p",
            "{podSelector: {matchLabels: {k8s-app: kube-dns}}, ingress: "
            f"[{{from: [{{{FRONT}}}], ports: [{{port: dns, protocol: UDP}}]}}]}}",
        ),
        (
            Row("front/client", DNS, allowed=True),
            Row("front/client", "dns:9153", allowed=False),
            Row("shop/client", DNS, allowed=False),
            Row("shop/client", "dns", allowed=False),
        ),
    ),
    "union": (
        policy("shop/deny", DENY_INGRESS)
        + policy("shop/p", f"{{{WEB}, ingress: [{{from: [{{{CLIENTS}}}], ports: [{{port: 8080}}]}}]}}")
        + policy("shop/q", f"{{{WEBS}, ingress: [{{from: [{{{OTHERS}}}], ports: [{{port: 8081}}]}}]}}"),
        (
            Row("shop/client", "shop/web:8080", allowed=True),
            Row("shop/client", "shop/web:8081", allowed=False),
            Row("shop/other", "shop/web:8081", allowed=True),
            Row("shop/other", "shop/web:8080", allowed=False),
            Row("shop/other", "shop/old:8081", allowed=True),
        ),
    ),
    "all is allowed again": (
        policy("shop/deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}")
        + policy("shop/p", f"{{{WEB}, policyTypes: [Ingress, Egress], ingress: [{{}}], egress: [{{}}]}}"),
        (
            Row("front/client", SERVICE, allowed=True),
            Row("shop/web", "front/client:8080", allowed=True),
            Row("front/client", "shop/old:8080", allowed=False),
            Row("shop/web", "shop/old:8080", allowed=False),
        ),
    ),
    "types that are not given": (
        policy("shop/p", f"{{{CLIENTS}, egress: [{{to: [{{{FRONT}}}]}}]}}") + policy("back/p", f"{{{CLIENTS}}}"),
        (
            Row("shop/client", "front/client:8080", allowed=True),
            Row("shop/client", "shop/web:8080", allowed=False),
            Row("front/other", "shop/client:8080", allowed=False),
            Row("front/other", "back/client:8080", allowed=False),
            Row("back/client", "front/other:8080", allowed=True),
        ),
    ),
    "both ends have to agree": (
        policy(
            "front/p",
            f"{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{namespaceSelector: {{}}, {WEB}}}]}}]}}",
        )
        + policy("shop/p", f"{{{WEBS}, ingress: [{{from: [{{namespaceSelector: {{}}, {CLIENTS}}}]}}]}}"),
        (
            Row("front/client", "shop/web:8080", allowed=True),
            Row("front/other", "shop/web:8080", allowed=False),  # may not enter
            Row("front/client", "shop/old:8080", allowed=False),  # may not leave
            Row("back/client", "shop/old:8080", allowed=True),
        ),
    ),
    "broken and empty policies": (
        policy("shop/family", f"{{{WEB}, ingress: [{{from: [{{ipBlock: {{cidr: '2001:db8::/32'}}}}]}}]}}")
        + policy("shop/name", f"{{{WEB}, ingress: [{{ports: [{{port: nothing}}, {{port: http, protocol: UDP}}]}}]}}")
        + policy("shop/nobody", f"{{{WEB}, ingress: [{{from: [{{podSelector: {{matchLabels: {{a: b}}}}}}]}}]}}")
        + policy("shop/empty", "{podSelector: {matchLabels: {a: b}}, ingress: [], egress: []}")
        + policy("shop/lists", "{podSelector: {matchLabels: {pod: old}}, ingress: [{from: [], ports: []}]}")
        + policy("shop/sctp", f"{{{WEB}, ingress: [{{ports: [{{protocol: SCTP, port: 7, endPort: 9}}]}}]}}")
        + policy("shop/sound", f"{{{WEB}, ingress: [{{from: [{{{OTHERS}}}], ports: [{{protocol: TCP}}]}}]}}"),
        (
            Row("shop/client", "shop/web:8080", allowed=False),
            Row("shop/other", "shop/web:8080", allowed=True),
            Row("shop/client", "shop/old:8080", allowed=True),
        ),
    ),
}


Connections = set[tuple[str, str]]
EVERYTHING: Connections = {(row.source, row.target) for _, rows in MATRIX.values() for row in rows}


def assert_settles(stage: Stage, tried: Connections, wanted: Connections) -> None:
    """Wait until, of what is tried, just what is wanted is answered."""
    seen: Connections = set()

    def as_wanted() -> bool:
        nonlocal seen
        seen = stage.answers(tried)
        return seen == wanted

    try:
        stage.settles(as_wanted)
    except AssertionError:
        pytest.fail(f"open but should not be: {seen - wanted}; closed but should not be: {wanted - seen}")


def test_everything_is_open_without_policies(stage: Stage) -> None:
    """Without this, and the same again after the matrix, nothing that is refused would prove anything."""
    assert_settles(stage, EVERYTHING, EVERYTHING)


@pytest.mark.parametrize("name", MATRIX)
def test_connections(stage: Stage, name: str) -> None:
    policies, rows = MATRIX[name]
    stage.apply(policies)
    wanted = {(row.source, row.target) for row in rows if row.allowed}
    assert_settles(stage, {(row.source, row.target) for row in rows}, wanted)


def test_everything_is_open_again(stage: Stage) -> None:
    assert_settles(stage, EVERYTHING, EVERYTHING)


def test_a_removed_policy_opens_again(stage: Stage) -> None:
    assert stage.open("front/client", "shop/web:8080")
    stage.apply(policy("shop/p", DENY_INGRESS))
    stage.settles(lambda: not stage.open("front/client", "shop/web:8080"))
    stage.clear()
    stage.settles(lambda: stage.open("front/client", "shop/web:8080"))


@pytest.mark.parametrize(
    ("what", "label", "back"),
    [
        (("pod", "-n", "shop", "other"), "app=client", "app=other"),
        (("namespace", "shop"), "team=front", "team=shop"),
    ],
    ids=["pod", "namespace"],
)
def test_rules_follow_labels(stage: Stage, what: tuple[str, ...], label: str, back: str) -> None:
    assert stage.open("shop/other", "shop/web:8080")
    stage.apply(policy("shop/p", f"{{{WEB}, ingress: [{{from: [{{{CLIENTS}}}, {{{FRONT}}}]}}]}}"))
    stage.settles(lambda: not stage.open("shop/other", "shop/web:8080"))
    stage.kubectl("label", "--overwrite", *what, label)
    try:
        stage.settles(lambda: stage.open("shop/other", "shop/web:8080"))
    finally:
        stage.kubectl("label", "--overwrite", *what, back)
    stage.settles(lambda: not stage.open("shop/other", "shop/web:8080"))


def test_rules_outlive_the_agent_and_the_next_one_goes_on(stage: Stage) -> None:
    assert stage.open("front/client", "shop/web:8080")
    stage.apply(policy("shop/p", DENY_INGRESS))
    stage.settles(lambda: not stage.open("front/client", "shop/web:8080"))
    with ThreadPoolExecutor(1) as threads:
        agents = ("-n", "kube-system", "-l", "k8s-app=podnet")
        restarted = threads.submit(stage.kubectl, "delete", "pod", *agents, "--grace-period=1")
        while not restarted.done():
            assert not stage.open("front/client", "shop/web:8080")
    stage.kubectl("rollout", "status", "-n", "kube-system", "daemonset/podnet", "--timeout=60s")
    assert not stage.open("front/client", "shop/web:8080")
    stage.apply(policy("shop/p", f"{{podSelector: {{}}, ingress: [{{from: [{{{FRONT}}}]}}]}}"))
    stage.settles(lambda: stage.open("front/client", "shop/web:8080"))
    assert not stage.open("back/client", "shop/web:8080")


def test_a_connection_goes_on_when_a_policy_would_refuse_it(stage: Stage) -> None:
    inside = ("exec", "-n", "front", "client", "--", "sh", "-c")
    told = f"/tmp/{secrets.token_hex(4)}"
    ask = f"(until [ -e {told} ]; do sleep 0.1; done; printf 'GET / HTTP/1.0\\r\\n\\r\\n')"
    connect = f"timeout 50 nc {stage.addresses['shop/web']} 8080"
    established = "grep -c ':1F90 01 ' /proc/net/tcp || true"  # to port 8080
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(stage.kubectl, *inside, f"{ask} | {connect}")
        stage.settles(lambda: int(stage.kubectl(*inside, established)))
        stage.apply(policy("shop/p", DENY_INGRESS))
        stage.settles(lambda: not stage.open("front/client", "shop/web:8080"))
        assert not answer.done()
        stage.kubectl(*inside, f"touch {told}")
        assert "HTTP/" in answer.result()


def test_probes_of_the_node_always_pass(stage: Stage) -> None:
    stage.apply(policy("shop/p", "{podSelector: {}, policyTypes: [Ingress, Egress]}"))
    stage.settles(lambda: not stage.open("front/client", "shop/web:8080"))
    time.sleep(4)  # three probes in a row would have to fail
    ready = "-o=jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    assert stage.kubectl("get", "pod", "-n", "shop", "web", ready) == "True"


@pytest.mark.parametrize("isolated", [False, True], ids=["without a policy", "isolated"])
def test_a_new_pod_is_closed_from_its_start(stage: Stage, *, isolated: bool) -> None:
    if isolated:
        stage.apply(policy("back/p", "{podSelector: {matchLabels: {app: new}}, policyTypes: [Egress]}"))
    address = stage.addresses["shop/web"]
    attempt = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 1 nc {address} 8080 2>&1 | grep HTTP/"
    command = f"for i in $(seq 40); do {attempt} & sleep 0.1; done; wait; echo done; exec sleep 1000"
    name = f"new-{secrets.token_hex(2)}"
    stage.kubectl("apply", "-f", "-", stdin=json.dumps(pod(f"back/{name}", "new", command)))
    try:
        stage.kubectl("wait", "-n", "back", "--for=condition=Ready", "pod", name, "--timeout=60s")
        until(lambda: "done" in stage.kubectl("logs", "-n", "back", name), 40)
        assert ("HTTP/" in stage.kubectl("logs", "-n", "back", name)) is not isolated
    finally:
        stage.kubectl("delete", "pod", "-n", "back", name, "--now", "--wait=false")
