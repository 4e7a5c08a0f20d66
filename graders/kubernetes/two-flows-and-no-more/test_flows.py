"""The answer key of kubernetes/two-flows-and-no-more."""

from concurrent.futures import ThreadPoolExecutor

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

OTHER = 7000
OUTSIDE = ("the probe", "settlement")
SHOP = "test_the_shop_answers_through_all_three"
TRY = """
import errno, select, socket, sys, time
asked = {}
for target in sys.argv[1:]:
    kind, address, port = target.split("/")
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    one.setblocking(False)
    one.connect_ex((address, int(port)))
    if kind == "udp":
        one.send(bytes(12))
    asked[one] = target
end = time.monotonic() + 2
while asked and time.monotonic() < end:
    asking = [one for one in asked if one.type == socket.SOCK_DGRAM]
    calling = [one for one in asked if one.type != socket.SOCK_DGRAM]
    for one in sum(select.select(asking, calling, [], 0.2)[:2], []):
        # What is refused got there: a policy drops.
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in (0, errno.ECONNREFUSED):
            print(asked[one])
        del asked[one]
"""
SEEN = {}


@baseline
def before(cluster):
    return cluster.inventory()


def pod_of(cluster, name, namespace):
    """Return the name and the address of the workload's ready pod."""
    ready = [one for one in cluster.newest("deployments", name, namespace) if is_ready(one)]
    assert ready, f"{name} has no ready pod"
    return field(ready[0], "metadata.name"), field(ready[0], "status.podIP")


def look(cluster, client, lab):
    """Return who reaches whom, as FROM, TO, PROTOCOL/PORT; asked with our own tools in the networks of the pods."""
    inside = dict.fromkeys((lab.front, lab.middle, lab.store, lab.nosy), "shop") | {"settlement": "bank"}
    pods = {name: pod_of(cluster, name, namespace) for name, namespace in inside.items()}
    askers = {name: cluster.inside(pod, inside[name]) for name, (pod, _) in pods.items()} | {"the probe": client}
    ports = dict.fromkeys(inside, (f"tcp/{lab.port}", f"tcp/{OTHER}"))
    ports["settlement"] = (f"tcp/{lab.port}", "tcp/53", "udp/53")

    def ask(asker):
        targets = {}
        for name, spoken in ports.items():
            address = "127.0.0.1" if name == asker else pods[name][1]
            for protocol, _, port in (one.partition("/") for one in spoken):
                targets[f"{protocol}/{address}/{port}"] = (asker, name, f"{protocol}/{port}")
        words = ["python3", "-c", TRY, *targets]
        said = askers[asker].run(" ".join(["%s"] * len(words)), *words, timeout=30).stdout.split()
        return {targets[one] for one in said}

    for asker in askers.values():
        # Shells are opened one by one: on a busy machine all at once would take each too long.
        asker.run("true")
    with ThreadPoolExecutor(len(askers)) as pool:
        return set().union(*pool.map(ask, askers))


def meant(lab):
    """Return the two flows, as words."""
    return [f"{one} to {other} tcp/{lab.port}" for one, other in ((lab.front, lab.middle), (lab.middle, lab.store))]


def reached(cluster, client, lab, sources, targets):
    """Say who of some reaches whom of others, as words; looked at once in a look, and once more where that is wrong."""
    if "flows" not in SEEN:
        SEEN["flows"] = look(cluster, client, lab)
        SEEN["looks"] = SEEN.get("looks", 0) + 1
    flows = SEEN["flows"]
    names = (lab.front, lab.middle, lab.store, lab.nosy, "settlement")
    dead = [name for name in names if (name, name, f"tcp/{lab.port}") not in flows]
    found = [
        f"{source} to {target} {port}"
        for source, target, port in sorted(flows)
        if source in sources and target in targets and source != target
    ]
    if SEEN["looks"] < 2 and (dead or set(found) - set(meant(lab))):
        del SEEN["flows"]
    # Whoever can't ask would pass for one that is let nowhere.
    assert dead == [], "who does not even reach itself"
    return found


@check(points=30, skill="k8s.networking", stable_for=3)
def test_the_shop_answers_through_all_three(client, lab):
    """The shop answers through all three services"""
    said = client.run(f"curl -s -m 8 http://{lab.front}.{lab.namespaces['shop']}/").stdout.strip()
    assert said == f"{lab.front} > {lab.middle} > {lab.store}"


@check(points=15, skill="sec.segmentation", needs=SHOP)
def test_the_neighbour_reaches_neither(cluster, client, lab):
    """The neighbour in the same namespace reaches neither of the two services behind"""
    assert reached(cluster, client, lab, [lab.nosy], [lab.middle, lab.store]) == []


@check(points=10, skill="sec.segmentation", needs=SHOP)
def test_the_front_does_not_reach_the_store(cluster, client, lab):
    """The first service does not reach the third past the second"""
    assert reached(cluster, client, lab, [lab.front], [lab.store]) == []


@check(points=10, skill="sec.segmentation", needs=SHOP)
def test_only_the_ports_that_serve_are_open(cluster, client, lab):
    """Each flow is open on the port that serves it, and on no other"""
    found = reached(cluster, client, lab, [lab.front], [lab.middle])
    found += reached(cluster, client, lab, [lab.middle], [lab.store])
    assert found == meant(lab)


@check(points=10, skill="sec.segmentation", needs=SHOP)
def test_nobody_gets_in_from_another_namespace(cluster, client, lab):
    """Nobody outside the namespace reaches the two services behind"""
    assert reached(cluster, client, lab, OUTSIDE, [lab.middle, lab.store]) == []


@check(points=10, skill="sec.segmentation", needs=SHOP)
def test_the_pods_reach_nothing_else(cluster, client, lab):
    """But for the two flows, the namespace's pods reach no service, neither there nor in another namespace"""
    found = reached(cluster, client, lab, [lab.front], [lab.nosy, "settlement"])
    found += reached(cluster, client, lab, [lab.middle], [lab.front, lab.nosy, "settlement"])
    found += reached(cluster, client, lab, [lab.store], [lab.front, lab.middle, lab.nosy, "settlement"])
    found += reached(cluster, client, lab, [lab.nosy], [lab.front, "settlement"])
    assert [one for one in found if not one.endswith("/53")] == []


@check(points=5, skill="sec.segmentation", needs=SHOP)
def test_no_other_name_server_is_reached(cluster, client, lab):
    """The way to DNS leads to the cluster's own, and to no other name server"""
    found = reached(cluster, client, lab, [lab.front, lab.middle, lab.store, lab.nosy], ["settlement"])
    assert [one for one in found if one.endswith("/53")] == []


@check(points=10, skill="sec.segmentation", needs=SHOP)
def test_nothing_else_was_changed(cluster, lab, baseline):
    """Security's policy, the pods, their labels, the services and the other namespace are as they were"""
    new = (
        "shop/networkpolicies/default-deny/*", f"shop/networkpolicies/{lab.front}-public/*",
        "shop/deployments/*", "shop/daemonsets/*", "shop/statefulsets/*", "shop/services/*", "bank/*",
    )  # fmt: skip
    assert cluster.differences(baseline, allow=("*kubectl.kubernetes.io*",), new=new) == []
