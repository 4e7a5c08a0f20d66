"""The answer key of kubernetes/service-leads-nowhere."""

import time

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

WAITED = []


@baseline
def before(cluster):
    return cluster.inventory()


def answers(client, cluster, lab, name, times):
    """Return what each of so many requests was answered with; every one is a connection of its own.

    A name server may remember for half a minute which address a service had before it was made anew: ours comes from
    the API.
    """
    host = f"{name}.{lab.namespaces['trade']}"
    address = field(cluster.get("services", name), "spec.clusterIP", "None")
    known = [] if address == "None" else ["--resolve", f"{host}:{lab.port}:{address}"]
    words = ["curl", "-sf", "-m", "2", *known, f"http://{host}:{lab.port}/?[1-{times}]"]
    return client.run(f"timeout 8 {' '.join(['%s'] * len(words))}", *words).stdout.split()


@check(points=25, skill="k8s.networking", stable_for=4)
def test_the_service_answers(client, cluster, lab):
    """Whoever calls the service by its name and port gets an answer, also once all pods were replaced"""
    if not WAITED:
        # The node's own rules may be a moment late on a machine that is busy.
        WAITED.append(True)
        deadline = time.monotonic() + 5
        while len(answers(client, cluster, lab, lab.service, 3)) < 3 and time.monotonic() < deadline:
            time.sleep(0.5)
    assert len(answers(client, cluster, lab, lab.service, 3)) == 3, "answers to three requests"


@check(points=15, skill="k8s.networking", needs="test_the_service_answers")
def test_every_answer_is_the_live_one(client, cluster, lab):
    """Twenty requests are all answered by the live release"""
    assert answers(client, cluster, lab, lab.service, 20) == [lab.service] * 20


@check(points=20, skill="k8s.networking", needs="test_the_service_answers")
def test_the_right_pods_stand_behind(cluster, lab):
    """Behind the service stand the two pods of its deployment, and nobody else"""
    slices = cluster.all("endpointslices", **{"kubernetes.io/service-name": lab.service})
    behind = {address for one in slices for end in field(one, "endpoints", []) for address in end["addresses"]}
    pods = [one for one in cluster.newest("deployments", lab.service) if is_ready(one)]
    assert sorted(behind) == sorted(field(one, "status.podIP") for one in pods), "addresses behind the service"
    assert len(behind) == 2, "how many there are"


@check(points=10, skill="k8s.networking", needs="test_the_service_answers")
def test_the_port_has_its_name(cluster, lab):
    """The service's port has the number and the name that its clients know"""
    ports = field(cluster.get("services", lab.service), "spec.ports", [])
    assert ("http", lab.port) in [(one.get("name"), one.get("port")) for one in ports]


@check(points=15, skill="k8s.networking", needs="test_the_service_answers")
def test_the_testers_reach_the_preview(client, cluster, lab):
    """The testers still reach the preview, and only the preview"""
    assert answers(client, cluster, lab, f"{lab.service}-preview", 10) == [f"{lab.service}-preview"] * 10


@check(points=15, skill="k8s.networking", needs="test_the_service_answers")
def test_nothing_else_has_changed(cluster, lab, baseline):
    """Both deployments, the preview's service and what the service is else are as they were"""
    service = f"trade/services/{lab.service}"
    mended = (f"{service}/selector/*", f"{service}/ports/*", f"{service}/clusterIP*")
    # Made anew, the service has another address; without a name, a port is called by its number.
    assert cluster.differences(baseline, allow=mended, new=(f"{service}/*", f"{service}-preview/*")) == []
