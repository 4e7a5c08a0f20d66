"""The answer key of kubernetes/pod-security-rejects."""

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

USER = 10001
OTHERS_READ = 0o004


@baseline
def before(cluster):
    return cluster.inventory()


def ask(client, lab, path="/", more=""):
    return client.run(f"curl -s -m 3 {more} http://{lab.service}.{lab.namespaces['wiki']}:8080{path}").stdout.strip()


def ready_pods(cluster, lab):
    return [one for one in cluster.newest("deployments", lab.service) if is_ready(one)]


def users_of(pod):
    """Return what user each container is told to run as; a container's word counts more than the pod's."""
    everybody = field(pod, "spec.securityContext.runAsUser", "the image's")
    containers = [*field(pod, "spec.initContainers", []), *field(pod, "spec.containers", [])]
    return {field(one, "securityContext.runAsUser", everybody) for one in containers}


@check(points=25, skill="k8s.debugging", stable_for=4)
def test_the_service_answers(client, lab):
    """The service answers inside the cluster"""
    assert ask(client, lab) == lab.service


@check(points=15, skill="k8s.debugging", needs="test_the_service_answers")
def test_two_pods_of_the_deployment_answer(cluster, lab):
    """Two pods of the deployment are ready, and nobody else stands behind the service"""
    mine = {field(one, "metadata.name") for one in ready_pods(cluster, lab)}
    assert len(mine) == 2
    wanted = field(cluster.get("services", lab.service), "spec.selector", {})
    assert {field(one, "metadata.name") for one in cluster.all("pods", **wanted)} == mine


@check(points=10, skill="k8s.debugging", needs="test_two_pods_of_the_deployment_answer")
def test_they_run_as_the_user_made_for_it(cluster, lab):
    """Every container of the service runs as 10001"""
    assert {user for pod in ready_pods(cluster, lab) for user in users_of(pod)} == {USER}


@check(points=15, skill="k8s.debugging", needs="test_the_service_answers")
def test_it_keeps_what_users_add(client, lab):
    """What users add is kept: POST /items says so"""
    assert [ask(client, lab, "/items", "-d hello") for _ in range(4)] == ["kept"] * 4


@check(points=15, skill="k8s.debugging", needs="test_the_service_answers")
def test_it_has_read_its_settings(client, cluster, lab):
    """The service has read its settings, from the secret, whose file in the pod is not readable for everybody"""
    assert ask(client, lab, "/config").splitlines() == ["LANGUAGE=en", f"STORE={lab.token('store', 24)}"]
    volumes = field(cluster.get("deployments", lab.service), "spec.template.spec.volumes", [])
    mounted = [one["secret"] for one in volumes if field(one, "secret.secretName") == f"{lab.service}-settings"]
    assert len(mounted) == 1, "volumes of the secret"
    modes = [field(mounted[0], "defaultMode", 0o644), *(one.get("mode") or 0 for one in mounted[0].get("items") or [])]
    assert [oct(mode) for mode in modes if mode & OTHERS_READ] == []


@check(points=10, skill="k8s.debugging", needs="test_two_pods_of_the_deployment_answer", stable_for=4)
def test_no_pod_restarts(cluster, lab):
    """The pods that run have not been started again"""
    assert cluster.restarts("deployments", lab.service) == 0


@check(points=10, skill="k8s.debugging", needs="test_the_service_answers")
def test_nothing_is_weaker(cluster, lab, baseline):
    """Image, init container, probes, limits, settings and the namespace's rules are as they were"""
    here = f"wiki/deployments/{lab.service}"
    mended = (
        f"{here}/*securityContext*", f"{here}/*kubectl.kubernetes.io*", f"{here}/volumes/settings/secret/defaultMode",
        f"{here}/containers/web/env/DATA/value", f"{here}/containers/web/command/*",
    )  # fmt: skip
    assert cluster.differences(baseline, allow=mended, new=("wiki/cronjobs/*", f"{here}/hostAliases/*")) == []
