"""The answer key of kubernetes/config-key-missing."""

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready


@baseline
def before(cluster):
    return cluster.inventory()


def ask(client, lab, path="/"):
    return client.run(f"curl -s -m 3 http://{lab.service}.{lab.namespaces['shop']}:8080{path}").stdout.strip()


@check(points=30, skill="k8s.debugging", stable_for=4)
def test_the_service_answers(client, lab):
    """The service answers inside the cluster"""
    assert ask(client, lab) == lab.service


@check(points=15, skill="k8s.debugging", needs="test_the_service_answers")
def test_two_pods_of_the_new_release_are_ready(cluster, lab):
    """Two pods of 4.2.0 are ready"""
    pods = [one for one in cluster.newest("deployments", lab.service) if is_ready(one)]
    images = [field(one, "spec.containers.0.image") for one in pods]
    assert images == ["registry.lab/shop/web:4.2.0"] * 2


@check(points=20, skill="k8s.debugging", needs="test_the_service_answers")
def test_the_setting_has_its_value(client, lab):
    """The running service has read the new setting, with the value that was meant"""
    assert f"{lab.key}={lab.value}" in ask(client, lab, "/config").splitlines()


@check(points=10, skill="k8s.debugging", needs="test_the_service_answers")
def test_the_other_settings_are_as_they_were(client, lab):
    """The other settings are as they were"""
    read = ask(client, lab, "/config").splitlines()
    assert [one for one in read if one.startswith((lab.kept, "LANGUAGE"))] == [f"{lab.kept}=50", "LANGUAGE=en"]


@check(points=15, skill="k8s.debugging", needs="test_the_service_answers")
def test_nothing_is_weaker(cluster, lab, baseline):
    """The deployment still demands, limits and probes what it did, and reads its config map"""
    mended = (
        f"shop/configmaps/{lab.service}-settings/app.conf",
        f"shop/deployments/{lab.service}/*kubectl.kubernetes.io*",
    )
    assert cluster.differences(baseline, allow=mended) == []


@check(points=10, skill="k8s.debugging", needs="test_the_service_answers", stable_for=4)
def test_no_pod_restarts(cluster, lab):
    """The pods that run have not been started again"""
    assert cluster.restarts("deployments", lab.service) == 0
