"""The answer key of kubernetes/secret-rotated-pods-keep-the-old."""

import json
import time
from base64 import b64decode, b64encode

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

BOTH = ("test_the_first_answers", "test_the_second_answers")
MOUNTED = 60.0
"""Seconds until a new value is in mounted files for certain."""
PATIENCE = 20.0
"""Seconds that the callers get from then."""
SEEN = {}


@baseline
def before(cluster):
    return cluster.inventory()


def ask(client, lab, name):
    return client.run(f"curl -s -m 3 http://{name}.{lab.namespaces['books']}:8080/").stdout.strip()


def expected(lab):
    return {lab.first: f"{lab.first} > {lab.backend}", lab.second: f"{lab.second} > {lab.backend} batch=50"}


def status(client, lab, password):
    """Return the status with which the backend answers a password; without one where it is empty."""
    words = ["-H", f"Authorization: Bearer {password}"] if password else []
    url = f"http://{lab.backend}.{lab.namespaces['books']}:8080/"
    asked = ["-s", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}", *words, url]
    return client.run(f"curl {' '.join(['%s'] * len(asked))}", *asked).stdout


def answering(cluster, name):
    """Return the addresses behind a service, and those of its deployment's ready pods."""
    ends = [
        end
        for one in cluster.all("endpointslices", **{"kubernetes.io/service-name": name})
        for end in field(one, "endpoints", [])
    ]
    behind = sorted(address for end in ends if field(end, "conditions.ready") for address in end["addresses"])
    return behind, sorted(field(one, "status.podIP") for one in cluster.newest("deployments", name) if is_ready(one))


def tell(plain, cluster, *words):
    """Speak to the cluster as the rotation does; whether it was heard, the backend tells."""
    command = ("timeout", "20", "kubectl", "-n", cluster.name(), *words)
    plain(" ".join(["%s"] * len(command)), *command, timeout=25)


def write(plain, cluster, lab, value):
    """Do what the rotation does; on a machine that is busy it may take a second call."""
    name, patch = f"{lab.backend}-access", json.dumps({"data": {lab.key: value}})
    for _ in range(3):
        tell(plain, cluster, "patch", "secret", name, "-p", patch)
        if field(cluster.get("secrets", name), "data", {}).get(lab.key) == value:
            return


def wait(plain, cluster, client, lab, passwords, callers):
    """Wait until the backend knows one password and refuses the other, then for callers; return who answers in time.

    What is mounted follows within a minute and a half, or at once where a pod's notes change.
    """
    words, answered = expected(lab), set()
    if status(client, lab, "a-guess") != "401":
        return answered  # It knows every password, or none: there is nothing to wait for.
    end, known = time.monotonic() + MOUNTED, False
    while time.monotonic() < end and not (known and answered >= set(callers)):
        tell(plain, cluster, "annotate", "pods", "--all", "--overwrite", f"lab/looked={time.monotonic()}")
        if not known and [status(client, lab, one) for one in passwords] == ["200", "401"]:
            end, known = time.monotonic() + PATIENCE, True
        if known:
            answered = {name for name in callers if ask(client, lab, name) == words[name]}
    tell(plain, cluster, "annotate", "pods", "--all", "lab/looked-")
    return answered


def running(cluster, name):
    """Return which containers of a caller run, and how often each was started again."""
    return sorted(
        (field(pod, "metadata.uid"), one.get("containerID"), one.get("restartCount"))
        for pod in cluster.pods("deployments", name)
        for one in field(pod, "status.containerStatuses", [])
    )


def rotation(plain, cluster, client, lab):
    """Rotate once in a look, and put the value back; return which callers followed, and which only anew."""
    if not SEEN:
        kept = field(cluster.get("secrets", f"{lab.backend}-access"), f"data.{lab.key}", "")
        now, thursday = b64decode(kept).decode(errors="replace"), lab.token(f"thursday {time.time()}", 20)
        both = (lab.first, lab.second)
        before = {name: running(cluster, name) for name in both}
        write(plain, cluster, lab, b64encode(thursday.encode()).decode())
        try:
            SEEN["followed"] = wait(plain, cluster, client, lab, (thursday, now), both)
            SEEN["anew"] = {name for name in both if running(cluster, name) != before[name]}
        finally:
            write(plain, cluster, lab, kept)
            wait(plain, cluster, client, lab, (now, thursday), SEEN.get("followed", ()))
    return SEEN


@check(points=15, skill="k8s.debugging", stable_for=4)
def test_the_first_answers(client, cluster, lab):
    """The caller that takes the password from a variable answers, from its deployment's pods"""
    assert ask(client, lab, lab.first) == expected(lab)[lab.first], f"what {lab.first} answers"
    behind, pods = answering(cluster, lab.first)
    assert behind == pods, f"addresses behind {lab.first}"


@check(points=15, skill="k8s.debugging", stable_for=4)
def test_the_second_answers(client, cluster, lab):
    """The caller that takes the password from a file answers, with its settings, from its deployment's pods"""
    assert ask(client, lab, lab.second) == expected(lab)[lab.second], f"what {lab.second} answers"
    behind, pods = answering(cluster, lab.second)
    assert behind == pods, f"addresses behind {lab.second}"


@check(points=15, skill="sec.secrets", needs=BOTH)
def test_the_old_password_is_dead(plain, client, cluster, lab):
    """The backend refuses the old password"""
    old, new = lab.token("old", 20), lab.token("new", 20)
    held = field(cluster.get("secrets", f"{lab.backend}-access"), "data")
    if held == {lab.key: b64encode(new.encode()).decode()} and status(client, lab, old) != "401":
        # Who has just taken it out of the secret need not wait until the mounted files follow.
        wait(plain, cluster, client, lab, (new, old), ())
    assert status(client, lab, old) == "401"


@check(points=10, skill="sec.secrets", needs=BOTH)
def test_the_backend_still_asks(client, lab):
    """The backend refuses a wrong password and none, and accepts the new one"""
    seen = [status(client, lab, one) for one in ("", "a-guess", lab.token("new", 20))]
    assert seen == ["401", "401", "200"], "statuses without a password, with a wrong one, with the new one"


@check(points=10, skill="sec.secrets", needs=BOTH)
def test_only_the_secret_holds_it(cluster, lab):
    """The secret holds the new password and nothing more, and nothing else holds a copy"""
    new = lab.token("new", 20)
    coded = b64encode(new.encode()).decode()
    name = f"{lab.backend}-access"
    assert field(cluster.get("secrets", name), "data") == {lab.key: coded}, f"what {name} holds"
    kinds = ("deployments", "statefulsets", "daemonsets", "cronjobs", "jobs", "configmaps", "secrets", "pods")
    copies = [
        f"{kind}/{field(one, 'metadata.name')}"
        for kind in kinds
        for one in cluster.all(kind)
        if (kind, field(one, "metadata.name")) != ("secrets", name)
        and any(word in json.dumps(one) for word in (new, coded))
    ]
    assert copies == [], "objects with a copy of the password"


@check(points=12, skill="sec.secrets", needs="test_the_first_answers")
def test_the_first_follows_a_rotation(plain, client, cluster, lab):
    """After the next rotation the first caller goes on answering, and was not started again for it"""
    seen = rotation(plain, cluster, client, lab)
    assert lab.first in seen["followed"], "who followed"
    assert lab.first not in seen["anew"], "who was started again"


@check(points=13, skill="sec.secrets", needs="test_the_second_answers")
def test_the_second_follows_a_rotation(plain, client, cluster, lab):
    """After the next rotation the second caller goes on answering, and was not started again for it"""
    seen = rotation(plain, cluster, client, lab)
    assert lab.second in seen["followed"], "who followed"
    assert lab.second not in seen["anew"], "who was started again"


@check(points=10, skill="sec.secrets", needs=BOTH)
def test_nothing_else_has_changed(cluster, lab, baseline):
    """Programs, settings, services, replicas, limits and the backend are as they were"""
    callers = [f"books/deployments/{name}" for name in (lab.first, lab.second)]
    parts = (
        "containers/app/env/PASSWORD*", "containers/app/env/SETTINGS/value", "containers/app/volumeMounts/*", "volumes/*",
        "*kubectl.kubernetes.io*",
    )  # fmt: skip
    mended = [f"{caller}/{part}" for caller in callers for part in parts]
    rotated = f"books/secrets/{lab.backend}-access/*"
    assert cluster.differences(baseline, allow=(rotated, *mended), new=("books/cronjobs/*",)) == []
