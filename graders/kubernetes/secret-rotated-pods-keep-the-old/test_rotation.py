"""The answer key of kubernetes/secret-rotated-pods-keep-the-old."""

import json
import time
from base64 import b64encode

from breakfix.cluster.api import Refused
from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

BOTH = ("test_the_first_answers", "test_the_second_answers")
PATIENCE = 40.0
"""Seconds that the callers get to follow; the brief says 30."""
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
    asked = [
        "-s",
        "-m",
        "3",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        *words,
        f"http://{lab.backend}.{lab.namespaces['books']}:8080/",
    ]
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


def write(cluster, lab, value):
    """Do what the rotation does, and let files in pods follow at once in place of within a minute and a half."""
    namespace = f"/api/v1/namespaces/{cluster.name()}"
    cluster._api.merge(f"{namespace}/secrets/{lab.backend}-access", {"data": {lab.key: value}})  # noqa: SLF001


def refresh(cluster, mark):
    """Have the kubelet look at every pod again: it brings what is mounted up to date where a pod's notes changed."""
    for one in cluster.all("pods"):
        path = f"/api/v1/namespaces/{cluster.name()}/pods/{field(one, 'metadata.name')}"
        try:
            cluster._api.merge(path, {"metadata": {"annotations": {"lab/looked": mark}}})  # noqa: SLF001
        except Refused as error:
            if error.code != 404:
                raise


def until(cluster, client, lab, accepted, refused):
    """Wait until the backend knows one password and not the other; return who then answers, or does so in time."""
    begun, answered = time.monotonic(), set()
    while len(answered) < 2 and time.monotonic() < begun + PATIENCE:
        refresh(cluster, str(time.monotonic()))
        time.sleep(0.5)
        if status(client, lab, accepted) == "200" and status(client, lab, refused) == "401":
            answered = {name for name, words in expected(lab).items() if ask(client, lab, name) == words}
    return answered


def rotation(cluster, client, lab):
    """Rotate once in a look, and put the value back; return which callers followed."""
    if "followed" not in SEEN:
        kept = field(cluster.get("secrets", f"{lab.backend}-access"), f"data.{lab.key}", "")
        thursday = lab.token(f"thursday {time.time()}", 20)
        try:
            write(cluster, lab, b64encode(thursday.encode()).decode())
        except Refused as error:
            SEEN["followed"] = {f"the secret can't be written: {error.said}"}
            return SEEN["followed"]
        try:
            SEEN["followed"] = until(cluster, client, lab, thursday, lab.token("new", 20))
        finally:
            write(cluster, lab, kept)
            until(cluster, client, lab, lab.token("new", 20), thursday)
    return SEEN["followed"]


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
def test_the_old_password_is_dead(client, lab):
    """The backend refuses the old password"""
    assert status(client, lab, lab.token("old", 20)) == "401"


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
def test_the_first_follows_a_rotation(client, cluster, lab):
    """After the next rotation the first caller goes on answering, with nobody's help"""
    assert lab.first in rotation(cluster, client, lab), "who followed"


@check(points=13, skill="sec.secrets", needs="test_the_second_answers")
def test_the_second_follows_a_rotation(client, cluster, lab):
    """After the next rotation the second caller goes on answering, with nobody's help"""
    assert lab.second in rotation(cluster, client, lab), "who followed"


@check(points=10, skill="sec.secrets", needs=BOTH)
def test_nothing_else_has_changed(cluster, lab, baseline):
    """Programs, settings, services, replicas, limits and the backend are as they were"""
    callers = [f"books/deployments/{name}" for name in (lab.first, lab.second)]
    parts = (
        "containers/app/env/PASSWORD*",
        "containers/app/volumeMounts/*",
        "containers/app/livenessProbe/*",
        "volumes/*",
        "*kubectl.kubernetes.io*",
    )
    mended = [f"{caller}/{part}" for caller in callers for part in parts]
    assert (
        cluster.differences(
            baseline, allow=(f"books/secrets/{lab.backend}-access/*", *mended), new=("books/cronjobs/*",)
        )
        == []
    )
