from breakfix.grading import baseline, check


@baseline
def before(cluster):
    return {"held": cluster.inventory()}


@check(points=60, skill="k8s.networking", stable_for=1)
def test_it_is_seen(client, lab):
    """The beacon answers inside the cluster"""
    assert (
        client.run(f"curl -s -m 3 http://{lab.service}.{lab.namespaces['coast']}:8080/").stdout.strip() == lab.service
    )


@check(points=20, skill="k8s.networking", needs="test_it_is_seen")
def test_it_is_the_beacon_itself(cluster, lab):
    """A ready pod of the deployment stands behind the service"""
    ready = cluster.newest("deployments", lab.service)
    addresses = [one["status"].get("podIP") for one in ready]
    found = [
        address
        for part in cluster.all("endpointslices", **{"kubernetes.io/service-name": lab.service})
        for endpoint in part.get("endpoints") or []
        for address in endpoint["addresses"]
    ]
    assert found == addresses


@check(points=20, skill="k8s.networking", needs="test_it_is_seen")
def test_nothing_is_lost(cluster, lab, baseline):
    """Nothing was lost or weakened on the way"""
    assert cluster.differences(baseline["held"], allow=("*kubectl.kubernetes.io*",), new=("*/rolebindings/*",)) == []
