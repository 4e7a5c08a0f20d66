"""What a session owns in a shared cluster: its namespaces, the rights in them, and nothing beside.

Every object that stands outside a namespace, and every namespace, carries the session's label: what is there is read
back from that, and removed by it.
"""

from __future__ import annotations

import json
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from breakfix.cluster.api import Refused
from breakfix.errors import NotReady
from breakfix.together import together

if TYPE_CHECKING:
    from collections.abc import Iterable

    from breakfix.cluster.api import Api, Object
    from breakfix.model import Session

SESSION: Final = "breakfix/session"
"""The label, on namespaces and on what stands outside them."""
NAMESPACES: Final = "/api/v1/namespaces/"
CALLED: Final = "breakfix/called"
"""On a namespace: what the lab calls it."""
CANDIDATE: Final = "candidate"
RULES: Final = "breakfix-candidate"
AUTHOR: Final = "breakfix-author"
VALID_FOR: Final = 48 * 3600
"""Seconds for which a candidate's credentials hold."""
PROBE: Final = "probe"
GONE: Final = 120.0
"""Seconds that namespaces may take to go."""
STUCK: Final = 8.0
"""Seconds after which what is still there is taken for held by somebody's finalizer."""

# What a lab refuses comes first: nothing else might go while that stands.
OWNED: Final = (
    *(
        f"/apis/admissionregistration.k8s.io/v1/{kind}"
        for kind in (
            "validatingwebhookconfigurations", "mutatingwebhookconfigurations", "validatingadmissionpolicybindings",
            "validatingadmissionpolicies",
        )
    ),
    "/api/v1/namespaces", "/api/v1/nodes", "/apis/scheduling.k8s.io/v1/priorityclasses",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
)  # fmt: skip
"""The kinds of what a session may own: namespaces, and what a lab's setup may make outside them."""

# Nobody fills the cluster: neither with what runs nor with what only lies there.
QUOTA: Final = {
    "pods": "60", "services": "30", "persistentvolumeclaims": "10", "secrets": "150", "configmaps": "150",
    "replicationcontrollers": "10", "services.loadbalancers": "5", "services.nodeports": "10",
    "requests.storage": "10Gi",
    **{
        f"count/{kind}": "60"
        for kind in (
            "deployments.apps", "statefulsets.apps", "daemonsets.apps", "jobs.batch", "cronjobs.batch",
            "ingresses.networking.k8s.io", "networkpolicies.networking.k8s.io", "serviceaccounts",
            "roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io",
            "horizontalpodautoscalers.autoscaling", "poddisruptionbudgets.policy", "leases.coordination.k8s.io",
        )
    },
    "count/replicasets.apps": "300",
    "count/events": "3000",
    "count/endpointslices.discovery.k8s.io": "90",
}  # fmt: skip

# What one sees of a cluster that one shares, beside all of one's own namespaces.
READABLE: Final = (
    {"apiGroups": [""], "resources": ["nodes", "persistentvolumes"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["scheduling.k8s.io"], "resources": ["priorityclasses"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["networking.k8s.io"], "resources": ["ingressclasses"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["metrics.k8s.io"], "resources": ["nodes"], "verbs": ["get", "list"]},
)
# Beside the cluster's own role "admin": what one needs to see why a pod does not run.
WRITABLE: Final = (
    {"apiGroups": ["metrics.k8s.io"], "resources": ["pods"], "verbs": ["get", "list"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
)


def names(called: Iterable[str]) -> dict[str, str]:
    """Return new names in the cluster for what a lab calls its namespaces: unique, and short enough to type."""
    mark = secrets.token_hex(2)
    return {one: f"{one}-{mark}" for one in called}


def own(session: Session) -> str:
    """Return the namespace of the session's probe; the candidate has no rights in it."""
    return f"breakfix-{session.id}-{next(iter(session.namespaces.values())).rpartition('-')[2]}"


def probe_on(node: str) -> str:
    """Return the name of the probe's pod on a node: one may enter the network of a pod only from where it runs."""
    return PROBE if not node or node.endswith("-control-plane") else f"{PROBE}-{node.rpartition('-')[2]}"


def make(api: Api, session: Session, image: str, nodes: Iterable[str], *, beyond: bool = True) -> None:
    """Make the session's namespaces, the candidate's rights in them, and a probe on each node.

    A node without a name is any.  ``beyond``: let the candidate read what stands outside namespaces, too, which takes
    an object outside them.  Raises NotReady.
    """
    made = [partial(_make_one, api, session, called, name) for called, name in session.namespaces.items()]
    allowed = [partial(_allow_in, api, session, name) for name in session.namespaces.values()]
    try:
        together([*made, partial(_make_own, api, session, image, nodes)])
        together([*allowed, *([partial(_allow_reading, api, session)] if beyond else [])])
    except Refused as error:
        raise NotReady("the session's namespaces could not be made", why=f"{error.what}: {error.said}") from error


def _make_one(api: Api, session: Session, called: str, name: str) -> None:
    # Baseline: no pod of a candidate mounts the node's files, shares its network or is privileged.
    api.create(
        "/api/v1/namespaces",
        _object(
            "v1",
            "Namespace",
            name,
            {SESSION: session.id, CALLED: called, "pod-security.kubernetes.io/enforce": "baseline"},
        ),
    )
    api.create(
        f"/api/v1/namespaces/{name}/resourcequotas",
        {**_object("v1", "ResourceQuota", "breakfix"), "spec": {"hard": QUOTA}},
    )


def _make_own(api: Api, session: Session, image: str, nodes: Iterable[str]) -> None:
    name = own(session)
    api.create(
        "/api/v1/namespaces",
        _object("v1", "Namespace", name, {SESSION: session.id, "pod-security.kubernetes.io/enforce": "restricted"}),
    )
    api.create(f"/api/v1/namespaces/{name}/serviceaccounts", _object("v1", "ServiceAccount", CANDIDATE))
    together(partial(_make_probe, api, name, image, node) for node in nodes)


def make_probe_again(api: Api, session: Session, image: str, node: str) -> None:
    """Have a probe on a node where it is no more: whoever drains a node takes it along.  It comes up in a moment."""
    api.delete(f"/api/v1/namespaces/{own(session)}/pods/{probe_on(node)}", at_once=True)
    _make_probe(api, own(session), image, node)


def _make_probe(api: Api, namespace: str, image: str, node: str) -> None:
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": PROBE, "image": image, "command": ["sleep", "infinity"], "securityContext": restricted,
        "resources": {"requests": {"cpu": "5m", "memory": "8Mi"}, "limits": {"memory": "64Mi"}},
    }  # fmt: skip
    spec = {
        "containers": [container],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        # Whatever a lab does to a node: we look from there.
        **({"nodeSelector": {"kubernetes.io/hostname": node}, "tolerations": [{"operator": "Exists"}]} if node else {}),
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        # Whoever is evicted from a full node, it is not the one who looks.
        "priorityClassName": "system-cluster-critical",
    }
    manifest = {**_object("v1", "Pod", probe_on(node), {"app": PROBE}), "spec": spec}
    path = f"/api/v1/namespaces/{namespace}/pods"
    # A new namespace has its default service account a moment later, and no pod before that.
    for attempt in range(40):
        try:
            api.create(path, manifest)
        except Refused as error:
            if attempt == 39 or "serviceaccount" not in error.said:  # noqa: PLR2004
                raise
            time.sleep(0.05)
        else:
            return


def _allow_in(api: Api, session: Session, namespace: str) -> None:
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    subject = {"kind": "ServiceAccount", "name": CANDIDATE, "namespace": own(session)}
    group = "rbac.authorization.k8s.io"
    api.create(f"{rbac}/roles", {**_object(f"{group}/v1", "Role", RULES), "rules": list(WRITABLE)})
    for name, kind, role in ((f"{RULES}-admin", "ClusterRole", "admin"), (RULES, "Role", RULES)):
        binding = {"subjects": [subject], "roleRef": {"apiGroup": group, "kind": kind, "name": role}}
        api.create(f"{rbac}/rolebindings", {**_object(f"{group}/v1", "RoleBinding", name), **binding})


def _allow_reading(api: Api, session: Session) -> None:
    group = "rbac.authorization.k8s.io"
    labels, name = {SESSION: session.id}, own(session)
    mine = {
        "apiGroups": [""],
        "resources": ["namespaces"],
        "resourceNames": sorted(session.namespaces.values()),
        "verbs": ["get"],
    }
    api.create(
        f"/apis/{group}/v1/clusterroles",
        {**_object(f"{group}/v1", "ClusterRole", name, labels), "rules": [*READABLE, mine]},
    )
    subject = {"kind": "ServiceAccount", "name": CANDIDATE, "namespace": name}
    role = {"apiGroup": group, "kind": "ClusterRole", "name": name}
    api.create(
        f"/apis/{group}/v1/clusterrolebindings",
        {**_object(f"{group}/v1", "ClusterRoleBinding", name, labels), "subjects": [subject], "roleRef": role},
    )


def author(api: Api, session: Session) -> str:
    """Return a token that may do everything in the session's namespaces, and nothing beside.  Raises NotReady."""
    group = "rbac.authorization.k8s.io"
    everything = {"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}
    subject = {"kind": "ServiceAccount", "name": AUTHOR, "namespace": own(session)}
    bound = {"subjects": [subject], "roleRef": {"apiGroup": group, "kind": "Role", "name": AUTHOR}}
    try:
        api.create(f"/api/v1/namespaces/{own(session)}/serviceaccounts", _object("v1", "ServiceAccount", AUTHOR))
        for name in (own(session), *session.namespaces.values()):
            rbac = f"/apis/{group}/v1/namespaces/{name}"
            api.create(f"{rbac}/roles", {**_object(f"{group}/v1", "Role", AUTHOR), **everything})
            api.create(f"{rbac}/rolebindings", {**_object(f"{group}/v1", "RoleBinding", AUTHOR), **bound})
        return _token(api, session, AUTHOR)
    except Refused as error:
        raise NotReady("the lab's author could not be given rights", why=f"{error.what}: {error.said}") from error


def credentials(api: Api, session: Session) -> str:
    """Return a token for the candidate."""
    return _token(api, session, CANDIDATE)


def _token(api: Api, session: Session, account: str) -> str:
    path = f"/api/v1/namespaces/{own(session)}/serviceaccounts/{account}/token"
    wanted = {
        **_object("authentication.k8s.io/v1", "TokenRequest", account),
        "spec": {"expirationSeconds": VALID_FOR},
    }
    return str(api.create(path, wanted)["status"]["token"])


def kubeconfig(cluster: Object, token: str, namespace: str) -> str:
    """Return a kubeconfig; JSON is YAML too.  ``cluster`` says where the server is, and how it is known."""
    made = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": CANDIDATE, "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": CANDIDATE, "namespace": namespace}}],
        "current-context": "lab",
    }
    return json.dumps(made, indent=1)


def _object(version: str, kind: str, name: str, labels: dict[str, str] | None = None) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels or {}}}


# -- the end -------------------------------------------------------------------------------------------------------


def pieces(api: Api, session_id: str) -> list[str]:
    """Return the paths of everything that carries the session's label."""
    selector = f"{SESSION}={session_id}"
    return [f"{kind}/{one['metadata']['name']}" for kind in OWNED for one in api.list(kind, labelSelector=selector)]


def sessions(api: Api) -> set[str]:
    """Return the ids of all sessions that have a namespace."""
    found = api.list("/api/v1/namespaces", labelSelector=SESSION)
    return {str(one["metadata"]["labels"][SESSION]) for one in found}


def begin_removing(api: Api, session_id: str) -> list[str]:
    """Ask for all of it to go, which it does behind our back; return the paths of what there was."""
    found = pieces(api, session_id)
    for path in found:
        if path.startswith(NAMESPACES):
            # A pod that ends gently would hold its namespace for half a minute.
            api.delete(f"{path}/pods", at_once=True)
        api.delete(path)
    return found


def remove(api: Api, session_id: str) -> None:
    """Remove all of it, whatever a candidate has hung onto it.  Raises NotReady where something does not go."""
    begun = time.monotonic()
    while found := begin_removing(api, session_id):
        _wait_until_gone(api, found, begun)


def _wait_until_gone(api: Api, paths: Iterable[str], begun: float) -> None:
    while left := [path for path in paths if api.get(path) is not None]:
        waited = time.monotonic() - begun
        if waited > GONE:
            raise NotReady(f"{', '.join(left)} does not go away", next_step="breakfix stop, once more")
        if waited > STUCK:
            for path in left:
                if path.startswith(NAMESPACES):
                    _let_go(api, path)
        time.sleep(0.2)


def _let_go(api: Api, path: str) -> None:
    """Take the finalizers off everything in a namespace that is going away: nobody is there to heed them."""
    namespace = path.rpartition("/")[2]
    for kind in _kinds(api):
        place = kind.format(namespace)
        for one in api.list(place):
            name = f"{place}/{one['metadata']['name']}"
            if one["metadata"].get("finalizers"):
                api.merge(name, {"metadata": {"finalizers": None}})
            api.delete(name, at_once=True)


def _kinds(api: Api) -> list[str]:
    """Return the path of every kind that a namespace may hold and that can be changed."""
    found = [
        "/api/v1",
        *(f"/apis/{one['preferredVersion']['groupVersion']}" for one in api.request("GET", "/apis")["groups"]),
    ]
    return [f"{group}/namespaces/{{}}/{kind['name']}" for group in found for kind in _resources(api, group)]


def _resources(api: Api, group: str) -> list[Object]:
    try:
        listed = api.request("GET", group).get("resources", [])
    except Refused:
        # A server beside the API server serves it, metrics say, and is not there just now.
        return []
    wanted = {"list", "patch", "delete"}
    return [one for one in listed if one["namespaced"] and "/" not in one["name"] and wanted <= set(one["verbs"])]
