"""The answer key of kubernetes/hungry-neighbour-evicts."""

import json
import time

from breakfix.errors import GraderFailed
from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

USES = 104
"""Mebibytes that a pod of the service needs at the least: what it holds, and its interpreter."""
REFUSED = 7
"""What curl ends with where a service has no pod."""
LONGEST = 90
"""Seconds that one report may take: a quiet machine needs 21."""

# From the probe: a new report is begun, and the service is asked until that is made, or the report's pod is no more.
WATCH = r"""
import json, sys, time, urllib.request

service, name, report, longest = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])


def ask(url, attempts=1):
    for attempt in range(attempts):
        try:
            return urllib.request.urlopen(url, timeout=5).read().decode(errors="replace").strip()
        except OSError as error:
            said = str(error)
            time.sleep(0.7)
    return said


found = {"asked": 0, "wrong": [], "done": False}
said = ask(report + "run", 3)
number = json.loads(said)["begun"] if said.startswith("{") else None
silent, begun = 0, time.monotonic()
# The kubelet looks every ten seconds: a little longer than that where there is no report to wait for.
while time.monotonic() - begun < (14 if number is None else longest) and silent < 3 and len(found["wrong"]) < 5:
    found["asked"] += 1
    # A connection to a pod that has just gone is tried once more; an answer counts, whatever it is.
    answer = ask(service, 2)
    if answer != name:
        found["wrong"].append(answer[:60])
    if number is not None:
        said = ask(report)
        silent = 0 if said.startswith("{") else silent + 1
        if not silent and json.loads(said)["done"] >= number:
            found["done"] = True
            break
    time.sleep(0.3)
print(json.dumps(found))
"""
FOUND = {}


@baseline
def before(cluster):
    return cluster.inventory()


def runs(pod):
    """Return whether a pod is neither over, as those that were evicted and stay as a memory, nor on its way out."""
    return field(pod, "status.phase") in {"Pending", "Running"} and not field(pod, "metadata.deletionTimestamp")


def alive(cluster, name):
    return [one for one in cluster.newest("deployments", name) if runs(one)]


def restarts(pods):
    """Return how often the containers of each pod ended: what is evicted, killed or replaced changes that."""
    return {
        field(one, "metadata.name"): sum(
            each.get("restartCount", 0) for each in field(one, "status.containerStatuses", [])
        )
        for one in pods
    }


def lost(cluster, name, before):
    now = restarts(alive(cluster, name))
    return sorted(one for one, count in restarts(before).items() if now.get(one) != count)


def until(holds, seconds):
    deadline = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def ready(cluster, name):
    return [one for one in alive(cluster, name) if is_ready(one)]


def watched(client, cluster, lab):
    """Return what was seen while one report was made; it is made once for all checks of a look."""
    if "report" not in FOUND:
        wanted = field(cluster.get("deployments", lab.report), "spec.replicas")
        # Whatever was evicted a moment ago may come back first.
        until(lambda: len(ready(cluster, lab.service)) >= 2 and (ready(cluster, lab.report) or wanted != 1), 20)
        service, report = ready(cluster, lab.service), ready(cluster, lab.report)
        seen = {"asked": 0, "wrong": [], "done": False}
        if len(service) >= 2 and wanted == 1:
            place = lab.namespaces["shop"]
            address = next((field(one, "status.podIP") for one in report), f"{lab.report}.{place}")
            said = client.run(
                "python3 -c %s %s %s %s %s", WATCH, f"http://{lab.service}.{place}:8080/", lab.service,
                f"http://{address}:8080/", str(LONGEST), timeout=LONGEST + 60,
            )  # fmt: skip
            if said.rc != 0:
                raise GraderFailed("the service could not be watched", why=said.stderr[-300:])
            seen = json.loads(said.stdout)
        FOUND["report"] = {
            **seen,
            "wanted": wanted,
            "pods": service,
            "all": [*service, *(report or alive(cluster, lab.report))],
            "service": lost(cluster, lab.service, service),
            "report": lost(cluster, lab.report, report) if report else ["no pod is ready"],
        }
    return FOUND["report"]


def pressed(client, cluster, lab):
    """Have the notebook fill the node; return which pods of the service that cost."""
    if "notebook" not in FOUND:
        notebook = "http://notebook.analytics:8080/"
        tell = "curl -s -m 4 %s"
        first = until(lambda: client.run(tell, notebook).stdout, 60)
        if not first:
            raise GraderFailed("the notebook does not answer")
        service = watched(client, cluster, lab)["pods"]
        client.run(tell, f"{notebook}hold/450")

        def gone():
            """Return whether the notebook is no more: nobody stands behind its name, or another one does."""
            said = client.run(tell, notebook)
            return said.rc == REFUSED or (said.rc == 0 and said.stdout != first)

        # It is over when the notebook is gone, or a pod that should have stayed.
        if not until(lambda: lost(cluster, lab.service, service) or gone(), 60):
            raise GraderFailed("the notebook filled the node, and nobody was evicted")
        # Where one more had to go, it went right after.
        time.sleep(2)
        FOUND["notebook"] = lost(cluster, lab.service, service)
    return FOUND["notebook"]


UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "m": 1e-3}


def mebibytes(quantity):
    """Return a quantity of memory in MiB; 0 where none is given."""
    text = str(quantity or "0")
    unit = next((one for one in UNITS if text.endswith(one)), "")
    return float(text.removesuffix(unit)) * UNITS.get(unit, 1) / (1 << 20)


def memory(pod, which):
    """Return the least request or limit of a pod's containers."""
    return min(mebibytes(field(one, f"resources.{which}.memory")) for one in field(pod, "spec.containers"))


def strangers(cluster, *names):
    """Return pods that run and that none of these deployments has made."""
    owners = {field(cluster.get("deployments", name), "metadata.uid") for name in names}
    sets = {
        field(one, "metadata.uid")
        for one in cluster.all("replicasets")
        if field(one, "metadata.ownerReferences.0.uid") in owners
    }
    return sorted(
        field(one, "metadata.name")
        for one in cluster.all("pods")
        if runs(one) and field(one, "metadata.ownerReferences.0.uid") not in sets
    )


@check(points=30, skill="k8s.operations")
def test_the_service_stays(client, cluster, lab):
    """While a report is made, both pods of the service stay, and every request is answered"""
    seen = watched(client, cluster, lab)
    assert seen["wanted"] == 1, "replicas of the report: nothing is proven while it rests"
    assert len(seen["pods"]) >= 2, "ready pods of the service"
    assert seen["service"] == [], "pods of the service that were evicted, killed or replaced"
    assert seen["wrong"] == [], "answers that are none of the service"


@check(points=20, skill="k8s.operations", needs="test_the_service_stays")
def test_the_report_is_made(client, cluster, lab):
    """The report is made from beginning to end, and its pod neither evicted nor killed"""
    seen = watched(client, cluster, lab)
    assert seen["report"] == [], "pods of the report that were evicted, killed or replaced"
    assert seen["done"], f"no report was made in {LONGEST} s"


@check(points=10, skill="design.failure-modes", needs="test_the_service_stays")
def test_a_full_node_costs_others(client, cluster, lab):
    """When the notebook fills the node, the service keeps its pods"""
    assert pressed(client, cluster, lab) == [], "pods of the service that were evicted"


@check(points=15, skill="k8s.operations", needs="test_a_full_node_costs_others")
def test_the_service_asks_for_what_it_uses(client, cluster, lab):
    """The service's pods ask for the memory that they use"""
    asked = {memory(one, "requests") for one in watched(client, cluster, lab)["pods"]}
    little = sorted(one for one in asked if one < USES)
    assert little == [], f"MiB asked for; a pod uses more than {USES}"


@check(points=10, skill="design.failure-modes", needs="test_a_full_node_costs_others")
def test_priorities_are_the_right_way_round(client, cluster, lab):
    """The service has the priority of what customers wait for, the report none above that of what can be made again"""
    classes = {name: cluster.get("priorityclasses", name).get("value") for name in ("serving", "batch")}
    pods = watched(client, cluster, lab)["all"]
    found = {
        name: {field(one, "spec.priority", 0) for one in pods if field(one, "metadata.labels.app") == name}
        for name in (lab.service, lab.report)
    }
    assert found[lab.service] == {classes["serving"]}, "priority of the service's pods"
    assert max(found[lab.report], default=0) <= classes["batch"], "priority of the report's pods"


@check(points=5, skill="k8s.operations", needs="test_the_service_stays")
def test_both_are_limited(client, cluster, lab):
    """The pods of the service and of the report have memory limits"""
    free = {
        field(one, "metadata.labels.app") for one in watched(client, cluster, lab)["all"] if not memory(one, "limits")
    }
    assert sorted(free) == [], "who has no memory limit"


@check(points=10, skill="k8s.operations", needs="test_the_service_stays")
def test_the_rest_is_as_it_was(cluster, lab, baseline):
    """Nothing else is changed or gone, nothing but a limit range is new, and all that should run does"""
    assert cluster.ready("deployments", lab.other) == 1, f"ready pods of {lab.other}"
    two = [f"shop/deployments/{name}" for name in (lab.service, lab.report)]
    mended = (
        *(f"{one}/{part}" for one in two for part in ("containers/*/resources/*", "priorityClassName", "paused")),
        "shop/limitranges/*",
        "shop/deployments/*kubectl.kubernetes.io*",
    )
    assert cluster.differences(baseline, allow=mended, new=("shop/*",)) == []
    assert strangers(cluster, lab.service, lab.report, lab.other) == [], "pods that no deployment has made"
