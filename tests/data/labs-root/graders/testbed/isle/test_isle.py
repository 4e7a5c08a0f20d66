from breakfix.grading import baseline, check


@baseline
def before(cluster):
    return {"held": cluster.inventory()}


@check(points=60, skill="k8s.operations")
def test_somebody_lives_there(client, lab):
    """The isle answers from the other node"""
    assert client.run(f"curl -s -m 3 http://{lab.service}.{lab.namespaces['isle']}:8080/").stdout.strip() == lab.service


@check(points=20, skill="k8s.operations", needs="test_somebody_lives_there")
def test_it_sees_the_mainland(cluster, lab):
    """A pod on the isle reaches itself by its service's name"""
    (pod,) = cluster.newest("deployments", lab.service)
    inside = cluster.inside(pod["metadata"]["name"])
    assert inside.run(f"curl -s -m 3 http://{lab.service}.{lab.namespaces['isle']}:8080/").stdout.strip() == lab.service


@check(points=20, skill="k8s.operations")
def test_nothing_is_lost(cluster, lab, baseline):
    """Nothing was lost or weakened on the way"""
    assert cluster.differences(baseline["held"]) == []
