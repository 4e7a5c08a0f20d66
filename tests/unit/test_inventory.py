"""Nothing lost, nothing weakened: what is told of two looks at the same namespaces."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from breakfix.probes.facts import differences
from breakfix.probes.inventory import facts_of

DEPLOYMENT: dict[str, Any] = {
    "metadata": {"name": "web", "resourceVersion": "17", "annotations": {"x": "y"}},
    "spec": {
        "replicas": 2,
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {
                        "name": "main",
                        "image": "a:1",
                        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
                        "resources": {"limits": {"memory": "64Mi"}},
                        "securityContext": {"capabilities": {"drop": ["ALL"]}},
                    },
                    {"name": "side", "image": "b:1"},
                ]
            },
        },
    },
    "status": {"readyReplicas": 1},
}


def facts(found: dict[str, Any] = DEPLOYMENT, kind: str = "deployments") -> dict[str, Any]:
    return facts_of(f"shop/{kind}", kind, found)


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the deployment with one field changed, or removed where the value is None."""
    found = deepcopy(DEPLOYMENT)
    at: Any = found
    *way, last = path.split(".")
    for key in way:
        at = at[int(key)] if key.isdecimal() else at[key]
    if value is None:
        del at[int(last) if last.isdecimal() else last]
    else:
        at[last] = value
    return found


def test_paths_say_what_stands_where() -> None:
    assert facts() == {
        "shop/deployments/web": "is there",
        "shop/deployments/web/replicas": 2,
        "shop/deployments/web/labels/app": "web",
        "shop/deployments/web/containers/main/name": "main",
        "shop/deployments/web/containers/main/image": "a:1",
        "shop/deployments/web/containers/main/readinessProbe/httpGet/path": "/",
        "shop/deployments/web/containers/main/readinessProbe/httpGet/port": 8080,
        "shop/deployments/web/containers/main/resources/limits/memory": "64Mi",
        "shop/deployments/web/containers/main/securityContext/capabilities/drop/ALL": "ALL",
        "shop/deployments/web/containers/side/name": "side",
        "shop/deployments/web/containers/side/image": "b:1",
    }


def test_nothing_is_told_of_what_is_the_same() -> None:
    assert differences(facts(), facts(changed("status.readyReplicas", 0))) == []
    assert differences(facts(), facts(changed("metadata.resourceVersion", "18"))) == []


CONTAINER = "spec.template.spec.containers"


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("spec.replicas", 1, "shop/deployments/web/replicas was 2, is 1"),
        (f"{CONTAINER}.0.image", "a:2", "shop/deployments/web/containers/main/image was a:1, is a:2"),
        (
            f"{CONTAINER}.0.readinessProbe",
            None,
            "shop/deployments/web/containers/main/readinessProbe/httpGet/path is gone",
        ),
        (
            f"{CONTAINER}.0.resources.limits",
            None,
            "shop/deployments/web/containers/main/resources/limits/memory is gone",
        ),
        (
            f"{CONTAINER}.0.securityContext.capabilities.drop",
            ["NET_RAW"],
            "shop/deployments/web/containers/main/securityContext/capabilities/drop/ALL is gone",
        ),
        (f"{CONTAINER}.1", None, "shop/deployments/web/containers/side/name is gone"),
    ],
)
def test_what_is_lost_or_changed_is_told(path: str, value: object, word: str) -> None:
    assert word in differences(facts(), facts(changed(path, value)))


def test_the_order_of_named_things_does_not_matter() -> None:
    other = deepcopy(DEPLOYMENT)
    other["spec"]["template"]["spec"]["containers"].reverse()
    assert differences(facts(), facts(other)) == []


def test_of_an_object_that_is_gone_one_thing_is_told() -> None:
    assert differences(facts(), {}) == ["shop/deployments/web is gone"]


def test_an_object_with_a_similar_name_is_another() -> None:
    before: dict[str, Any] = {
        "shop/services/web": "is there",
        "shop/services/web-two": "is there",
        "shop/services/web-two/port": 1,
    }
    now: dict[str, Any] = {"shop/services/web-two": "is there", "shop/services/web-two/port": 2}
    assert differences(before, now) == ["shop/services/web is gone", "shop/services/web-two/port was 1, is 2"]


def test_what_is_allowed_is_not_told() -> None:
    now = facts(changed(f"{CONTAINER}.0.image", "a:2"))
    assert differences(facts(), now, allow=("*/containers/main/image",)) == []
    assert differences(facts(), now, allow=("*/containers/side/image",))


def test_what_is_new_is_told_where_it_was_asked_for() -> None:
    binding = {"metadata": {"name": "root"}, "roleRef": {"name": "cluster-admin"}, "subjects": [{"name": "x"}]}
    now = {**facts(), **facts(binding, "rolebindings")}
    assert differences(facts(), now) == []
    told = differences(facts(), now, new=("shop/rolebindings/*",))
    assert "shop/rolebindings/root is new: is there" in told
    assert "shop/rolebindings/root/roleRef/name is new: cluster-admin" in told
    assert differences(facts(), now, new=("shop/rolebindings/*",), allow=("shop/rolebindings/root*",)) == []


def test_secrets_are_sums_that_tell_a_change_and_not_a_value() -> None:
    secret = {"metadata": {"name": "key"}, "type": "Opaque", "data": {"password": "aHVudGVyMg=="}}
    before = facts(secret, "secrets")
    assert "aHVudGVyMg==" not in str(before)
    now = facts({**secret, "data": {"password": "b3RoZXI="}}, "secrets")
    assert [one.partition(" ")[0] for one in differences(before, now)] == ["shop/secrets/key/password"]


def test_what_the_cluster_puts_into_every_namespace_does_not_count() -> None:
    assert facts({"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "x"}}, "configmaps") == {}


@pytest.mark.parametrize("odd", [{}, {"metadata": None}, {"metadata": {"name": "x"}, "spec": None, "data": None}])
def test_what_lacks_everything_is_no_trouble(odd: dict[str, Any]) -> None:
    assert list(facts(odd).values()) == ["is there"]
