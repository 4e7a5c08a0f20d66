"""The answer key of kubernetes/token-nobody-asked-for."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

RBAC = "rbac.authorization.k8s.io"
LATE = timedelta(seconds=20)
POWERS = (
    ("get", "secrets", ""), ("list", "secrets", ""), ("create", "pods", ""), ("delete", "pods", ""),
    ("get", "pods/exec", ""), ("create", "pods/exec", ""), ("get", "configmaps", ""), ("patch", "configmaps", ""),
    ("patch", "secrets", ""), ("patch", "deployments", "apps"), ("create", "jobs", "batch"),
    ("create", "rolebindings", RBAC), ("create", "roles", RBAC), ("patch", "roles", RBAC), ("bind", "roles", RBAC),
    ("escalate", "roles", RBAC), ("impersonate", "serviceaccounts", ""), ("create", "serviceaccounts/token", ""),
)  # fmt: skip


@baseline
def before(cluster):
    return cluster.inventory()


def powers(cluster, account, asked=POWERS):
    """Return what of VERB RESOURCE[.GROUP] an account of the namespace may do, in words."""
    return [f"{verb} {what}" for verb, what, group in asked if cluster.can(f"media:{account}", verb, what, group=group)]


def ask(client, lab, path):
    return client.run(f"curl -s -m 3 http://{lab.page}.{lab.namespaces['media']}:8080{path}").stdout.strip()


def account_of_worker(cluster, lab):
    """Return the account under which the worker's pod runs."""
    pods = [one for one in cluster.newest("deployments", lab.worker) if is_ready(one)]
    return field(pods[0], "spec.serviceAccountName", "default") if len(pods) == 1 else "default"


def carries_a_token(cluster, pod):
    """Return whether a pod has mounted the token of some account, by itself or through a secret."""
    for volume in field(pod, "spec.volumes", []):
        sources = [volume, *field(volume, "projected.sources", [])]
        if any("serviceAccountToken" in one for one in sources):
            return True
        names = [field(one, "secret.secretName") or field(one, "secret.name") for one in sources if one.get("secret")]
        if any(field(cluster.get("secrets", name), "type") == "kubernetes.io/service-account-token" for name in names):
            return True
    return False


@check(points=20, skill="sec.secrets", stable_for=4)
def test_the_page_answers_without_a_token(client, lab):
    """The page answers, and no token of the cluster comes out of /files"""
    assert ask(client, lab, "/") == lab.page
    assert "eyJ" not in ask(client, lab, "/files")


@check(points=15, skill="sec.secrets", needs="test_the_page_answers_without_a_token")
def test_no_pod_of_the_page_has_one(client, cluster, lab):
    """The two pods that answer are the deployment's, and have no token mounted anywhere"""
    pods = [one for one in cluster.newest("deployments", lab.page) if is_ready(one)]
    assert len(pods) == 2
    behind = [one for one in cluster.all("pods", app=lab.page) if is_ready(one)]
    names = {field(one, "metadata.name") for one in pods}
    assert {field(one, "metadata.name") for one in behind} == names
    assert {ask(client, lab, "/files").partition("\n")[0] for _ in range(4)} <= names
    assert [name for one in pods if carries_a_token(cluster, one) for name in [field(one, "metadata.name")]] == []


@check(points=15, skill="design.failure-modes", needs="test_the_page_answers_without_a_token", stable_for=4)
def test_the_worker_goes_on(cluster, lab):
    """The worker has written and signed its board a few seconds ago"""
    board = field(cluster.get("configmaps", f"{lab.worker}-board"), "data", {})
    at, pods = board.get("at") or "1970-01-01T00:00:00Z", board.get("pods")
    assert board.get("signature") == sha256(f"{lab.token('key', 24)} {at} {pods}".encode()).hexdigest()
    late = datetime.now(UTC) - datetime.fromisoformat(at)
    assert -LATE < late < LATE, f"the board is from {at}"


@check(points=15, skill="sec.iam", needs="test_the_page_answers_without_a_token")
def test_what_leaked_is_worth_nothing(cluster, lab):
    """The account whose token leaked, and every other one beside the worker's, may do nothing"""
    accounts = {"default", "any"} | {field(one, "metadata.name") for one in cluster.all("serviceaccounts")}
    found = {one: powers(cluster, one) for one in sorted(accounts - ({account_of_worker(cluster, lab)} - {"default"}))}
    assert {one: may for one, may in found.items() if may} == {}


@check(points=10, skill="sec.iam", needs="test_the_page_answers_without_a_token")
def test_the_worker_has_its_own_account(cluster, lab):
    """The worker has an account to itself, which may do what the worker does"""
    account = account_of_worker(cluster, lab)
    assert account != "default"
    users = {
        field(one, "metadata.labels.app")
        for one in cluster.all("pods")
        if field(one, "spec.serviceAccountName") == account
    }
    assert users == {lab.worker}
    me = f"media:{account}"
    assert cluster.can(me, "list", "pods")
    assert cluster.can(me, "get", "secrets", name=f"{lab.worker}-key")
    assert cluster.can(me, "patch", "configmaps", name=f"{lab.worker}-board")


@check(points=15, skill="sec.iam", needs=["test_the_worker_goes_on", "test_the_worker_has_its_own_account"])
def test_the_worker_may_do_no_more(cluster, lab):
    """The worker's account may read no other secret, change nothing else, and not give itself rights"""
    account = account_of_worker(cluster, lab)
    too_much = powers(cluster, account)
    named = (
        ("get", "secrets", f"{lab.page}-storage"), ("patch", "secrets", f"{lab.worker}-key"),
        ("patch", "configmaps", f"{lab.page}-settings"), ("delete", "configmaps", f"{lab.worker}-board"),
        ("patch", "configmaps", f"{lab.worker}-program"),
    )  # fmt: skip
    too_much += [
        f"{verb} {what} {name}" for verb, what, name in named if cluster.can(f"media:{account}", verb, what, name=name)
    ]
    assert too_much == []


@check(points=10, skill="sec.iam", needs="test_the_page_answers_without_a_token")
def test_nothing_else_has_changed(cluster, lab, baseline):
    """Deployments, secrets and the rights of the people on call are as they were"""
    mended = (
        f"media/configmaps/{lab.worker}-board/*",
        *(f"media/deployments/{one}/*{what}" for one in (lab.page, lab.worker) for what in
          ("automountServiceAccountToken", "serviceAccount", "serviceAccountName", "kubectl.kubernetes.io*")),
        "media/serviceaccounts/default/automount",
    )  # fmt: skip
    new = ("media/deployments/*", "media/cronjobs/*")
    assert cluster.differences(baseline, allow=mended, new=new) == []
