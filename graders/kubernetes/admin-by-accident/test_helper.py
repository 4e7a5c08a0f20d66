"""The answer key of kubernetes/admin-by-accident."""

from datetime import UTC, datetime, timedelta

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

RBAC = "rbac.authorization.k8s.io"
LATE = timedelta(seconds=20)
IDENTITY = (
    ("create", "serviceaccounts/token", ""), ("impersonate", "serviceaccounts", ""), ("impersonate", "users", ""),
    ("impersonate", "groups", ""),
)  # fmt: skip
GRANTING = (
    *((verb, what, RBAC) for what in ("roles", "rolebindings")
      for verb in ("create", "update", "patch", "delete", "bind", "escalate")),
    ("bind", "clusterroles", RBAC), ("escalate", "clusterroles", RBAC),
)  # fmt: skip
RUNNING = (
    ("create", "pods", ""), ("patch", "pods", ""), ("update", "pods", ""), ("create", "pods/exec", ""),
    ("get", "pods/exec", ""), ("create", "pods/attach", ""), ("patch", "pods/ephemeralcontainers", ""),
    *((verb, what, "apps") for what in ("deployments", "statefulsets", "daemonsets", "replicasets")
      for verb in ("create", "update", "patch")),
    ("create", "jobs", "batch"), ("create", "cronjobs", "batch"), ("patch", "cronjobs", "batch"),
)  # fmt: skip
TOUCHING = (
    ("get", "secrets", ""), ("list", "secrets", ""), ("patch", "secrets", ""), ("create", "secrets", ""),
    ("list", "configmaps", ""), ("patch", "configmaps", ""), ("update", "configmaps", ""), ("create", "configmaps", ""),
    ("delete", "pods", ""), ("list", "pods", ""), ("get", "pods/log", ""), ("delete", "deployments", "apps"),
    ("patch", "services", ""), ("patch", "serviceaccounts", ""), ("create", "serviceaccounts", ""),
    ("list", "roles", RBAC),
)  # fmt: skip


@baseline
def before(cluster):
    return cluster.inventory()


def may(cluster, account, *asked):
    """Return what of VERB RESOURCE an account may do, in words; a fourth word is an object's name."""
    found = []
    for verb, what, group, *name in asked:
        if cluster.can(f"billing:{account}", verb, what, group=group, name="".join(name)):
            found.append(" ".join([verb, what, *name]))
    return found


def granted(cluster, lab):
    """Return all that the bindings of the namespace give the helper, as VERB, RESOURCE and an object's name or ``*``."""
    where = cluster.name()
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{where}", "system:authenticated")
    own = {("ServiceAccount", where, lab.helper), ("User", "", f"system:serviceaccount:{where}:{lab.helper}")}
    own |= {("Group", "", name) for name in groups}
    found = set()
    for binding in cluster.all("rolebindings"):
        subjects = {(one["kind"], one.get("namespace", ""), one["name"]) for one in field(binding, "subjects", [])}
        if not subjects & own:
            continue
        kind = "roles" if field(binding, "roleRef.kind") == "Role" else "clusterroles"
        for rule in field(cluster.get(kind, field(binding, "roleRef.name")), "rules", []):
            found |= {
                (verb, what, name)
                for verb in field(rule, "verbs", [])
                for what in field(rule, "resources", [])
                for name in field(rule, "resourceNames", ["*"])
            }
    return found


def age(cluster, agent):
    """Return how old the status of an agent is; what is no time in UTC was never."""
    at = field(cluster.get("configmaps", f"{agent}-status"), "data", {}).get("at", "")
    try:
        return datetime.now(UTC) - datetime.strptime(at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return timedelta.max


def works_as(cluster, agent):
    """Return the accounts of an agent's pods that are ready."""
    return [field(one, "spec.serviceAccountName") for one in cluster.newest("deployments", agent) if is_ready(one)]


@check(points=10, skill="sec.iam", stable_for=3)
def test_the_helper_becomes_nobody(cluster, client, lab):
    """The helper can't take another account's identity, and the application answers"""
    asked = [*IDENTITY, *((*one, lab.operator) for one in IDENTITY)]
    assert may(cluster, lab.helper, *asked) == []
    assert client.run(f"curl -s -m 3 http://{lab.app}.{lab.namespaces['billing']}:8080/").stdout.strip() == lab.app


@check(points=25, skill="sec.iam", needs="test_the_helper_becomes_nobody", stable_for=4)
def test_the_helper_goes_on(cluster, lab):
    """The helper has done its work a few seconds ago, under its own account"""
    assert works_as(cluster, lab.helper) == [lab.helper]
    late = age(cluster, lab.helper)
    assert -LATE < late < LATE, f"age of {lab.helper}-status"
    wanted = [
        ("get", "configmaps", "", f"{lab.app}-settings"), ("get", "deployments", "apps", lab.app),
        ("patch", "deployments", "apps", lab.app), ("patch", "configmaps", "", f"{lab.helper}-status"),
    ]  # fmt: skip
    assert len(may(cluster, lab.helper, *wanted)) == len(wanted)


@check(points=15, skill="sec.iam")
def test_the_helper_grants_nothing(cluster, lab):
    """The helper can't grant rights, neither its own nor others"""
    asked = [*GRANTING, ("patch", "roles", RBAC, lab.helper), ("bind", "clusterroles", RBAC, "admin")]
    assert may(cluster, lab.helper, *asked) == []


@check(points=15, skill="sec.iam")
def test_the_helper_runs_nothing(cluster, lab):
    """The helper can't run anything: no pod, no command in one, no other workload than the one it restarts"""
    others = [("patch", "deployments", "apps", one) for one in (lab.operator, lab.helper)]
    assert may(cluster, lab.helper, *RUNNING, *others) == []


@check(points=10, skill="sec.iam")
def test_the_helper_touches_nothing_else(cluster, lab):
    """The helper reads no secret, and changes no program or setting of others"""
    named = [
        ("patch", "configmaps", "", f"{lab.operator}-program"), ("patch", "configmaps", "", f"{lab.operator}-status"),
        ("patch", "configmaps", "", f"{lab.helper}-program"), ("patch", "configmaps", "", f"{lab.app}-settings"),
        ("get", "secrets", "", f"{lab.app}-bank"), ("delete", "deployments", "apps", lab.app),
    ]  # fmt: skip
    assert may(cluster, lab.helper, *TOUCHING, *named) == []
    reads = ("get", "list", "watch")
    meant = {(verb, "configmaps", f"{lab.app}-settings") for verb in reads}
    for verb in (*reads, "patch", "update"):
        meant |= {(verb, "deployments", lab.app), (verb, "configmaps", f"{lab.helper}-status")}
    assert sorted(granted(cluster, lab) - meant) == [], "what else bindings give it"


@check(points=10, skill="sec.iam")
def test_no_other_account_may(cluster, lab):
    """No other account of the namespace may do anything"""
    accounts = {"default", "any"} | {field(one, "metadata.name") for one in cluster.all("serviceaccounts")}
    accounts -= {lab.helper, lab.operator}
    asked = [*IDENTITY, *GRANTING, *RUNNING, *TOUCHING, ("patch", "deployments", "apps", lab.app)]
    found = {one: may(cluster, one, *asked) for one in sorted(accounts)}
    assert {one: what for one, what in found.items() if what} == {}


@check(points=5, skill="sec.iam", needs="test_the_helper_becomes_nobody", stable_for=3)
def test_the_operator_works(cluster, lab):
    """The strong account still works, with the rights that it had"""
    assert works_as(cluster, lab.operator) == [lab.operator]
    assert age(cluster, lab.operator) < LATE
    had = (
        ("create", "pods", ""),
        ("list", "secrets", ""),
        ("patch", "deployments", "apps"),
        ("create", "services", ""),
    )
    assert len(may(cluster, lab.operator, *had)) == len(had)


@check(points=5, skill="sec.iam", needs="test_the_helper_becomes_nobody")
def test_on_call_has_its_rights(cluster):
    """The user on-call has all the rights it had"""
    had = (
        ("list", "pods"), ("create", "pods"), ("delete", "pods"), ("create", "pods/exec"), ("get", "pods/log"),
        ("get", "configmaps"), ("list", "events"),
    )  # fmt: skip
    assert [f"{verb} {what}" for verb, what in had if not cluster.can("on-call", verb, what)] == []


@check(points=5, skill="sec.iam", needs="test_the_helper_becomes_nobody")
def test_nothing_else_has_changed(cluster, lab, baseline):
    """What runs in the namespace, and its settings, are as they were"""
    allowed = (
        "*kubectl.kubernetes.io*", "billing/configmaps/*-status/*", "billing/roles/*", "billing/rolebindings/support*",
        f"billing/deployments/{lab.app}/annotations/settings/revision",
        f"billing/serviceaccounts/{lab.helper}/automount", "billing/serviceaccounts/default/automount",
    )  # fmt: skip
    new = ("billing/deployments/*", "billing/cronjobs/*")
    assert cluster.differences(baseline, allow=allowed, new=new) == []
