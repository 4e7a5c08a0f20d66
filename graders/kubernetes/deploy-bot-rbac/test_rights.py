"""The answer key of kubernetes/deploy-bot-rbac."""

from datetime import UTC, datetime, timedelta

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

RBAC = "rbac.authorization.k8s.io"
LATE = timedelta(seconds=20)


@baseline
def before(cluster):
    return cluster.inventory()


def allowed(cluster, subject, asked, namespace):
    """Return what of VERB RESOURCE[.GROUP] a subject may do, in words."""
    found = []
    for verb, resource, group in asked:
        if cluster.can(subject, verb, resource, namespace, group=group):
            found.append(f"{verb} {resource}")
    return found


def age(noted):
    """Return how long ago that was; what is no time in UTC was never."""
    try:
        return datetime.now(UTC) - datetime.strptime(noted, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return timedelta.max


@check(points=20, skill="sec.iam", stable_for=4)
def test_the_new_release_answers(client, lab):
    """The service says that it is release 7.3.0"""
    url = f"http://{lab.service}.{lab.namespaces['tickets']}:8080/env"
    # Rules for pods that have just gone may linger for a moment on a busy node.
    asked = client.run(f"curl -s -m 2 --retry 2 --retry-delay 1 --retry-all-errors {url}")
    assert asked.stdout.strip() == "RELEASE=7.3.0"


@check(points=20, skill="sec.iam", needs="test_the_new_release_answers", stable_for=4)
def test_the_bot_keeps_it_there(cluster, lab):
    """Two pods of 7.3.0 are ready, and the bot has looked after them a few seconds ago"""
    found = cluster.get("deployments", lab.service)
    ready = [
        field(one, "spec.containers.0.image") for one in cluster.newest("deployments", lab.service) if is_ready(one)
    ]
    assert ready == ["registry.lab/tickets/web:7.3.0"] * 2
    noted = field(found, "metadata.annotations", {}).get("release/synced-at", "")
    assert -LATE < age(noted) < LATE, f"age of release/synced-at, {noted}"
    assert cluster.ready("deployments", lab.bot, "ci") == 1


@check(points=10, skill="sec.iam", needs="test_the_new_release_answers")
def test_the_bot_may_do_its_work(cluster, lab):
    """The bot's account may read deployments and pods, and patch the one deployment"""
    bot = f"ci:{lab.bot}"
    assert cluster.can(bot, "get", "deployments", group="apps", name=lab.service)
    assert cluster.can(bot, "patch", "deployments", group="apps", name=lab.service)
    assert cluster.can(bot, "list", "pods")


@check(points=15, skill="sec.iam", needs="test_the_bot_may_do_its_work")
def test_the_bot_may_do_no_more_there(cluster, lab):
    """Beside the service, the bot may neither change, delete nor run anything, nor read a secret"""
    asked = [
        ("get", "secrets", ""), ("list", "secrets", ""), ("get", "configmaps", ""), ("patch", "configmaps", ""),
        ("create", "pods", ""), ("delete", "pods", ""), ("create", "pods/exec", ""), ("get", "pods/exec", ""),
        ("create", "deployments", "apps"), ("deletecollection", "deployments", "apps"),
        ("patch", "statefulsets", "apps"), ("create", "jobs", "batch"), ("patch", "services", ""), ("*", "*", "*"),
    ]  # fmt: skip
    bot = f"ci:{lab.bot}"
    too_much = allowed(cluster, bot, asked, "tickets")
    for verb, name in (("delete", lab.service), ("patch", lab.other), ("update", lab.other), ("delete", lab.other)):
        if cluster.can(bot, verb, "deployments", group="apps", name=name):
            too_much.append(f"{verb} deployment {name}")
    assert too_much == []


@check(points=10, skill="sec.iam", needs="test_the_bot_may_do_its_work")
def test_the_bot_can_not_rise(cluster, lab):
    """The bot can't give itself rights or take another account's"""
    asked = [
        ("create", "rolebindings", RBAC), ("patch", "rolebindings", RBAC), ("create", "roles", RBAC),
        ("patch", "roles", RBAC), ("bind", "roles", RBAC), ("escalate", "roles", RBAC),
        ("impersonate", "serviceaccounts", ""), ("create", "serviceaccounts/token", ""),
    ]  # fmt: skip
    found = {namespace: allowed(cluster, f"ci:{lab.bot}", asked, namespace) for namespace in ("tickets", "ci")}
    assert found == {"tickets": [], "ci": []}


@check(points=5, skill="sec.iam", needs="test_the_bot_may_do_its_work")
def test_the_bot_has_nothing_in_its_own_namespace(cluster, lab):
    """In its own namespace and in the rest of the cluster the bot may do nothing"""
    asked = [
        ("get", "secrets", ""), ("create", "pods", ""), ("create", "pods/exec", ""), ("list", "pods", ""),
        ("get", "deployments", "apps"), ("patch", "deployments", "apps"), ("create", "jobs", "batch"),
    ]  # fmt: skip
    assert {where: allowed(cluster, f"ci:{lab.bot}", asked, where) for where in ("ci", "*")} == {"ci": [], "*": []}


@check(points=10, skill="sec.iam", needs="test_the_bot_may_do_its_work")
def test_nobody_else_may(cluster, lab):
    """No other account has the bot's rights: not the default ones, not the one that moved away"""
    others = {"ci:default", "tickets:default", f"tickets:{lab.bot}", "ci:any", "tickets:any", "anybody"}
    for called in ("tickets", "ci"):
        others |= {f"{called}:{field(one, 'metadata.name')}" for one in cluster.all("serviceaccounts", called)}
    may = [
        one
        for one in sorted(others - {f"ci:{lab.bot}"})
        if cluster.can(one, "patch", "deployments", group="apps", name=lab.service) or cluster.can(one, "list", "pods")
    ]
    assert may == []


@check(points=10, skill="sec.iam", needs="test_the_bot_may_do_its_work")
def test_nothing_else_has_changed(cluster, lab, baseline):
    """The bot, its account, and all else in both namespaces are as they were"""
    released = f"tickets/deployments/{lab.service}/containers/web"
    rolled_out = (f"{released}/image", f"{released}/env/RELEASE/value", "*kubectl.kubernetes.io*")
    more = tuple(
        f"{where}/{kind}/*" for where in ("tickets", "ci") for kind in ("deployments", "cronjobs", "serviceaccounts")
    )
    assert cluster.differences(baseline, allow=rolled_out, new=more) == []
