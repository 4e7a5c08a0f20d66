"""Whom does the runner's token become, and what may those?

Roles and bindings are read, so that every account and every rule is seen, and what follows from them is asked of the API
server besides.
"""

import time
from base64 import b64decode
from hashlib import sha256

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

RBAC = "rbac.authorization.k8s.io"
WHERE = ("build", "prod")
BUILD = "test_a_build_is_nobody_in_prod"
MAKES = {
    ("", "pods"): ["create"],
    **{
        ("apps", one): ["create", "update", "patch"]
        for one in ("deployments", "statefulsets", "daemonsets", "replicasets")
    },
    **{("batch", one): ["create", "update", "patch"] for one in ("jobs", "cronjobs")},
    ("", "replicationcontrollers"): ["create", "update", "patch"],
}
"""Who may do one of these in a namespace may be every account of it."""
ENTERS = {
    ("", "pods"): ["update", "patch"], ("", "pods/exec"): ["get", "create"], ("", "pods/attach"): ["get", "create"],
    ("", "pods/ephemeralcontainers"): ["update", "patch"],
}  # fmt: skip
"""Who may do one of these may be every account that has a pod."""
POWERS = (
    ("create", "pods", ""), ("delete", "pods", ""), ("create", "pods/exec", ""), ("get", "secrets", ""),
    ("list", "secrets", ""), ("create", "secrets", ""), ("patch", "configmaps", ""), ("patch", "deployments", "apps"),
    ("create", "jobs", "batch"), ("create", "rolebindings", RBAC), ("patch", "roles", RBAC), ("escalate", "roles", RBAC),
    ("bind", "clusterroles", RBAC), ("impersonate", "serviceaccounts", ""), ("create", "serviceaccounts/token", ""),
)  # fmt: skip
"""What is asked of the API server for each account that should have nothing."""


class Rights:
    """All Roles and RoleBindings of both namespaces, as they are now."""

    def __init__(self, cluster):
        self.names = {one: cluster.name(one) for one in WHERE}
        self._rules, self.bindings = {}, {}
        for where in WHERE:
            roles = {field(one, "metadata.name"): field(one, "rules", []) for one in cluster.all("roles", where)}
            self.bindings[where] = cluster.all("rolebindings", where)
            for binding in self.bindings[where]:
                name = field(binding, "roleRef.name")
                if field(binding, "roleRef.kind") == "Role":
                    self._rules[where, "Role", name] = roles.get(name, [])
                elif (where, "ClusterRole", name) not in self._rules:
                    self._rules[where, "ClusterRole", name] = field(cluster.get("clusterroles", name), "rules", [])
        self.accounts = {
            where: sorted({"default"} | {field(one, "metadata.name") for one in cluster.all("serviceaccounts", where)})
            for where in WHERE
        }

    def subjects(self, where):
        """Return for each binding of a namespace its subjects, as words, and its role."""
        for binding in self.bindings[where]:
            said = [
                f"{one['kind']} {one.get('namespace', '')} {one['name']}"
                for one in field(binding, "subjects", []) or []
            ]
            yield said, (where, field(binding, "roleRef.kind"), field(binding, "roleRef.name"))

    def rules(self, account, where):
        """Return all rules that an account, NAMESPACE:NAME, has in a namespace."""
        called, _, name = account.partition(":")
        home = self.names[called]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{home}", "system:authenticated")
        own = {f"ServiceAccount {home} {name}", f"User  system:serviceaccount:{home}:{name}"}
        own |= {f"Group  {one}" for one in groups}
        return [rule for said, role in self.subjects(where) if own & set(said) for rule in self._rules[role] or []]

    def names_for(self, account, where, group, resource, verbs):
        """Return the names with which a rule gives one of these verbs; ``*`` is any."""
        found = set()
        _kind, _, part = resource.partition("/")
        for rule in self.rules(account, where):
            resources = {"*", resource, *([f"*/{part}"] if part else [])}
            if (
                {"*", *verbs} & set(field(rule, "verbs", []))
                and {"*", group} & set(field(rule, "apiGroups", []))
                and resources & set(field(rule, "resources", []))
            ):
                found |= set(field(rule, "resourceNames", []) or ["*"])
        return found

    def has(self, account, where, wanted):
        """Return whether an account has one of ``{(group, resource): verbs}`` in a namespace, for whatever object."""
        return any(self.names_for(account, where, group, what, verbs) for (group, what), verbs in wanted.items())

    def grants(self):
        """Return what each subject is given, as words; a Role is told rule by rule, a ClusterRole by its name."""
        found = {}
        for where in WHERE:
            for said, (_, kind, name) in self.subjects(where):
                if kind == "ClusterRole":
                    words = {f"{where}: cluster role {name}"}
                else:
                    words = {
                        f"{where}: {verb} {what}{'.' + group if group else ''} {one}"
                        for rule in self._rules[where, kind, name] or []
                        for verb in field(rule, "verbs", [])
                        for group in field(rule, "apiGroups", [])
                        for what in field(rule, "resources", [])
                        for one in (field(rule, "resourceNames", []) or ["*"])
                    }
                for subject in said:
                    found.setdefault(subject, set()).update(words)
        for where, name in self.names.items():
            found = {subject.replace(f" {name} ", f" {where} "): words for subject, words in found.items()}
        return {subject: sorted(words) for subject, words in found.items()}


def taken(cluster, rights, account):
    """Return the accounts that another one becomes at once, other than by the pods that it makes."""
    found = set()
    for where in WHERE:
        everyone = {f"{where}:{one}" for one in rights.accounts[where]}
        names = rights.names_for(account, where, "", "serviceaccounts/token", ["create"])
        names |= rights.names_for(account, where, "", "serviceaccounts", ["impersonate"])
        found |= everyone if "*" in names else {f"{where}:{one}" for one in names}
        reads = rights.names_for(account, where, "", "secrets", ["get", "list", "watch"])
        writes = rights.names_for(account, where, "", "secrets", ["create", "update", "patch"])
        if reads and writes:
            found |= everyone
        for secret in cluster.all("secrets", where):
            owner = field(secret, "metadata.annotations", {}).get("kubernetes.io/service-account.name")
            if field(secret, "type") == "kubernetes.io/service-account-token" and owner:
                found |= {f"{where}:{owner}"} if {"*", field(secret, "metadata.name")} & reads else set()
        if rights.has(
            account, where, {(RBAC, one): ["*", "create", "update", "patch"] for one in ("roles", "rolebindings")}
        ):
            found.add(f"{where}: whom it grants rights")
        # Settings that are code: whoever writes them is whoever runs them.
        programs = rights.names_for(account, where, "", "configmaps", ["update", "patch", "create"])
        for pod in cluster.all("pods", where):
            owner = f"{where}:{field(pod, 'spec.serviceAccountName', 'default')}"
            mounted = {field(one, "configMap.name") for one in field(pod, "spec.volumes", [])}
            if ("*" in programs and mounted - {None, "kube-root-ca.crt"}) or programs & mounted:
                found.add(owner)
            if rights.has(account, where, ENTERS):
                found.add(owner)
    return found - {account}


def made(rights, account):
    """Return the accounts that another one can put on a pod."""
    return {
        f"{where}:{one}" for where in WHERE if rights.has(account, where, MAKES) for one in rights.accounts[where]
    } - {account}


def reach(cluster, rights, account):
    """Return all accounts that whoever holds one account's token becomes, in however many steps."""
    found, todo = set(), [account]
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += [] if ": " in one else sorted((taken(cluster, rights, one) | made(rights, one)) - found)
    return found


def may(cluster, account, asked, where):
    """Return what of VERB RESOURCE the API server lets an account do; a fourth word is an object's name."""
    return [
        " ".join([verb, what, *name])
        for verb, what, group, *name in asked
        if cluster.can(account, verb, what, where, group=group, name="".join(name))
    ]


def needed(lab):
    """Return what the log of the week has, as {account: {namespace: what}}."""
    become = (
        ("create", "serviceaccounts/token", "") if lab.become == "token" else ("impersonate", "serviceaccounts", "")
    )
    pods = [(verb, "pods", "") for verb in ("create", "get", "list", "delete")]
    secrets = [("get", "secrets", "", one) for one in ("registry-login", "signing-key")]
    return {
        f"build:{lab.runner}": {
            "build": [*pods, ("get", "pods/log", ""), *secrets, ("patch", "configmaps", "", f"{lab.runner}-status")],
            "prod": [(*become, lab.smoke)],
        },
        f"build:{lab.builder}": {
            "build": [("get", "configmaps", "", "build-settings"), ("patch", "configmaps", "", "artifacts")],
            "prod": [],
        },
    }


def subject(account):
    """Return an account as ``Rights.grants`` calls it."""
    where, _, name = account.partition(":")
    return f"ServiceAccount {where} {name}"


def too_much(rights, lab, account):
    """Return what bindings give an account, for itself or for its groups, beside what it needs.

    To look at what one may change, and to watch what one may list, is no more than that.
    """
    allowed = set()
    for where, asked in needed(lab)[account].items():
        for verb, what, group, *name in asked:
            more = {"get": ["get"], "patch": ["patch", "get"], "list": ["list", "watch"]}.get(verb, [verb])
            allowed |= {(where, one, group, what, "".join(name) or "*") for one in more}
    found = set()
    for where in WHERE:
        for rule in rights.rules(account, where):
            for verb in field(rule, "verbs", []):
                for group in field(rule, "apiGroups", []):
                    for what in field(rule, "resources", []):
                        names = field(rule, "resourceNames", []) or ["*"]
                        found |= {(where, verb, group, what, name) for name in names}
    return sorted(" ".join(part for part in one if part) for one in found - allowed)


def promoters(rights):
    """Return the accounts that have the cluster role admin in prod, as NAMESPACE:NAME."""
    return sorted(
        ":".join(who.split()[1:])
        for who, words in rights.grants().items()
        if who.startswith(("ServiceAccount build ", "ServiceAccount prod ")) and "prod: cluster role admin" in words
    )


def status(cluster, lab, name, where):
    return field(cluster.get("configmaps", f"{name}-status", where), "data", {}) or {}


def next_one(cluster, lab, name, where, key, longest):
    """Wait until the status of an agent is another one; return it, or what it still is."""
    was, deadline = status(cluster, lab, name, where), time.monotonic() + longest
    while (now := status(cluster, lab, name, where)).get(key) == was.get(key) and time.monotonic() < deadline:
        time.sleep(0.5)
    return was, now


def program(found):
    """Return a sum of the program that a config map holds."""
    return sha256((field(found, "data", {}) or {}).get("agent.py", "").encode()).hexdigest()


@baseline
def before(cluster, lab):
    """Everything that is there, who has which rights, and the token that will be taken."""
    return {
        "inventory": cluster.inventory(),
        "grants": Rights(cluster).grants(),
        "token": b64decode(cluster.get("secrets", f"{lab.promoter}-token")["data"]["token"]).decode(),
        "program": program(cluster.get("configmaps", f"{lab.promoter}-program")),
    }


@check(points=20, skill="sec.iam")
def test_a_build_is_nobody_in_prod(cluster, lab):
    """The runner may make pods in build, and no account that they can have may do anything in prod"""
    rights, runner = Rights(cluster), f"build:{lab.runner}"
    assert cluster.can(runner, "create", "pods", "build"), "the runner may create pods"
    found = {}
    for account in sorted(made(rights, runner)):
        rules = rights.rules(account, "prod")
        found[account] = may(cluster, account, POWERS, "prod") or (["something"] if rules else [])
    assert {one: what for one, what in found.items() if what} == {}, "what pods of the runner may do in prod"


@check(points=15, skill="sec.iam")
def test_the_runner_takes_no_other_identity(cluster, lab):
    """Without a pod, the runner becomes the smoke test's account and nobody else, nor do those that it becomes"""
    rights, runner, smoke = Rights(cluster), f"build:{lab.runner}", f"prod:{lab.smoke}"
    others = taken(cluster, rights, runner) - made(rights, runner)
    assert others == {smoke}, "accounts that the runner takes the identity of, beside those of its pods"
    assert reach(cluster, rights, smoke) == {smoke}, "accounts that the smoke test becomes"
    assert may(cluster, smoke, POWERS, "prod") == [], "what the smoke test may do"
    asked = [("impersonate", what, "") for what in ("serviceaccounts", "users", "groups")]
    asked += [("impersonate", "serviceaccounts", "", lab.keeper), ("create", "serviceaccounts/token", "", lab.keeper)]
    assert may(cluster, runner, asked, "prod") == [], "identities that the API server lets it have"


@check(points=10, skill="sec.secrets")
def test_what_was_taken_opens_nothing(client, lab, baseline):
    """The API server refuses what is asked with the token that was taken"""
    core, where = "https://kubernetes.default.svc.cluster.local/api/v1/namespaces", lab.namespaces
    paths = [f"{where['prod']}/secrets", f"{where['prod']}/pods", f"{where['build']}/configmaps/artifacts"]
    seen = {}
    for path in paths:
        done = client.run(
            "curl -sk -m 8 -o /dev/null -w '%%{http_code}' -H %s %s",
            f"Authorization: Bearer {baseline['token']}",
            f"{core}/{path}",
        )
        if done.rc != 0:
            raise RuntimeError(done.stderr)
        seen[path] = done.stdout
    assert {path for path, code in seen.items() if code not in ("401", "403")} == set(), "what it still opens"


@check(points=15, skill="k8s.operations", needs=BUILD)
def test_builds_go_on(cluster, lab):
    """A build that began after the last has run, as the builder's account, and its smoke test too"""
    # The build under way may have begun while somebody was still at work; the one behind it has not.
    _, was = next_one(cluster, lab, lab.runner, "build", "at", 75)
    _, now = next_one(cluster, lab, lab.runner, "build", "at", 75)
    assert now.get("build") != was.get("build"), f"the build that the status tells of ({now.get('error', '')[:200]})"
    assert now.get("said", "") == f"built {lab.token('target', 8)}-{now.get('build')}", "what its log said"
    assert now.get("smoke") == "1", "pods of the application that the smoke test saw"
    runs = [one for one in cluster.newest("deployments", lab.runner, "build") if is_ready(one)]
    assert [field(one, "spec.serviceAccountName") for one in runs] == [lab.runner], "accounts that the runner runs as"


@check(points=10, skill="k8s.operations", needs=BUILD)
def test_promotions_go_on(cluster, lab, baseline):
    """The promoter, with its program and its rights, has promoted since we looked, and it alone has those rights"""
    accounts = promoters(Rights(cluster))
    assert len(accounts) == 1, f"accounts that have the cluster role admin in prod: {accounts}"
    where, _, name = accounts[0].partition(":")
    pods = [
        one for one in cluster.all("pods", where) if is_ready(one) and field(one, "spec.serviceAccountName") == name
    ]
    images = {field(one, "spec.containers.0.image") for one in pods}
    assert images == {"registry.lab/build/promoter:2.0.3"}, f"images that run as {accounts[0]}"
    mounted = {field(one, "configMap.name") for pod in pods for one in field(pod, "spec.volumes", [])} - {None}
    programs = {program(cluster.get("configmaps", one, where)) for one in mounted}
    assert baseline["program"] in programs, "the promoter's program"
    was, now = next_one(cluster, lab, lab.promoter, "prod", "at", 30)
    assert now.get("at") != was.get("at"), "when the promoter last promoted"
    assert now.get("digest", "").startswith(lab.token("target", 8)), "what it promoted"


@check(points=10, skill="sec.iam", needs=BUILD)
def test_the_runner_has_what_it_uses_and_no_more(cluster, lab):
    """The runner may do what the log of the week has, and nothing else"""
    runner = f"build:{lab.runner}"
    for where, asked in needed(lab)[runner].items():
        wanted = [" ".join([verb, what, *name]) for verb, what, _, *name in asked]
        assert may(cluster, runner, asked, where) == wanted, f"what it does in {where} every week"
    assert too_much(Rights(cluster), lab, runner) == [], "what it may do beside"
    beside = [
        ("get", "secrets", "", "licence"), ("list", "secrets", ""), ("patch", "configmaps", "", "build-settings"),
        ("create", "pods/exec", ""), ("patch", "pods", ""), ("patch", "configmaps", "", f"{lab.runner}-program"),
    ]  # fmt: skip
    assert may(cluster, runner, beside, "build") == [], "what the API server lets it do beside"


@check(points=5, skill="sec.iam", needs=BUILD)
def test_the_builder_has_what_it_uses_and_no_more(cluster, lab):
    """A build may do what the log of the week has, and nothing else"""
    builder = f"build:{lab.builder}"
    for where, asked in needed(lab)[builder].items():
        wanted = [" ".join([verb, what, *name]) for verb, what, _, *name in asked]
        assert may(cluster, builder, asked, where) == wanted, f"what it does in {where} every week"
    assert too_much(Rights(cluster), lab, builder) == [], "what it may do beside"
    beside = [("patch", "configmaps", "", "build-settings"), ("get", "secrets", "", "registry-login")]
    assert may(cluster, builder, [*POWERS, *beside], "build") == [], "what the API server lets it do beside"


@check(points=10, skill="sec.iam", needs=BUILD)
def test_nobody_elses_rights_have_changed(cluster, lab, baseline):
    """Everybody else, and the promoter wherever it works, has the rights that they had, and nobody is new"""
    rights = Rights(cluster)
    ours = {subject(one) for one in (f"build:{lab.runner}", f"build:{lab.builder}", f"build:{lab.promoter}")}
    ours |= {subject(one) for one in promoters(rights)}
    now = {who: words for who, words in rights.grants().items() if who not in ours and words}
    had = {who: words for who, words in baseline["grants"].items() if who not in ours}
    changed = {who: sorted(set(now.get(who, [])) ^ set(had.get(who, []))) for who in now | had}
    looking = {f"build: {verb} configmaps artifacts" for verb in ("list", "watch")}
    moved = {word for one in promoters(rights) for word in rights.grants()[subject(one)]} - looking
    changed["the promoter"] = sorted(moved ^ set(baseline["grants"][subject(f"build:{lab.promoter}")]))
    assert {who: words for who, words in changed.items() if words} == {}, "what was given or taken"
    keeper = [("bind", "clusterroles", RBAC), ("create", "rolebindings", RBAC), ("patch", "roles", RBAC)]
    assert len(may(cluster, f"prod:{lab.keeper}", keeper, "prod")) == len(keeper), f"what {lab.keeper} may do"
    on_call = [("get", "pods", ""), ("create", "pods/exec", "")]
    assert [len(may(cluster, "on-call", on_call, where)) for where in WHERE] == [2, 2], "what on-call may do"


@check(points=5, skill="k8s.operations", needs=BUILD)
def test_nothing_else_has_changed(cluster, lab, baseline):
    """All else in both namespaces is as it was"""
    moved = [f"build/{kind}/{lab.promoter}*" for kind in ("deployments", "configmaps", "serviceaccounts")]
    changing = (
        "build/configmaps/artifacts/*", f"build/configmaps/{lab.runner}-status/*",
        f"prod/configmaps/{lab.promoter}-status/*", "*/roles/*", "*/rolebindings/*", "*kubectl.kubernetes.io*",
        "*/serviceaccounts/*/automount",
    )  # fmt: skip
    new = ("build/deployments/*", "*/cronjobs/*", "*/statefulsets/*", "*/daemonsets/*")
    assert cluster.differences(baseline["inventory"], allow=(*moved, *changing), new=new) == []
