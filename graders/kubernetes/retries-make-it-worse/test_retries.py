"""The answer key of kubernetes/retries-make-it-worse."""

import json

from breakfix.grading import baseline, check
from breakfix.probes.cluster import field, is_ready

# One trial from the probe: noon with the ill zone, the way back, one bad answer, and all zones failing.  What is asked of
# it are counts; the times in it are several times what a busy machine may lose.
TRIAL = r"""
import json, sys, threading, time, urllib.error, urllib.request

front, name, ill, fails, zones = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], json.loads(sys.argv[5])
RATE, BEFORE, RUSH, AFTER, PATIENCE = 8, 6, 60, 8, 10


def desk(zone, path="count"):
    for attempt in range(5):
        try:
            return json.load(urllib.request.urlopen(f"http://{zones[zone]}:9000/{path}", timeout=5))
        except OSError:
            time.sleep(0.2)
    sys.exit(f"the desk of zone {zone} does not answer")


def switch(**states):
    for zone, state in states.items():
        desk(zone, "switch?" + state)


def counted(what="arrived"):
    return {zone: desk(zone)[what] for zone in zones}


def since(before, what="arrived"):
    return {zone: count - before[zone] for zone, count in counted(what).items()}


def until_idle():
    deadline = time.monotonic() + 8
    while any(desk(zone)["waiting"] for zone in zones) and time.monotonic() < deadline:
        time.sleep(0.2)


def ask():
    try:
        with urllib.request.urlopen(front, timeout=PATIENCE) as answer:
            said = answer.read().decode(errors="replace").strip()
            return "served" if said in [f"{name}-{zone} has it" for zone in zones] else f"answered with {said[:40]!r}"
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError:
        return f"not within {PATIENCE} s"


def play(moments, mark):
    "Make a request at each moment; return how those from the mark on ended, and what had arrived by then."
    ended, threads, marked = [], [], None
    begun = time.monotonic()

    def one(moment):
        ended.append((moment, ask()))

    for moment in sorted(moments):
        if marked is None and moment >= mark:
            marked = counted()
        time.sleep(max(0, begun + moment - time.monotonic()))
        threads.append(threading.Thread(target=one, args=(moment,), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join(PATIENCE + 2)
    said = [what for moment, what in list(ended) if moment >= mark]
    return {what: said.count(what) for what in sorted(set(said))}, marked


def each_second(seconds, rate=RATE):
    return [number / rate for number in range(rate * seconds)]


found = {}
well = {zone: "state=well" for zone in zones}
made = {zone: "state=made&fail=0" for zone in zones}
try:
    switch(**{**well, ill: f"state={fails}"})
    until_idle()
    answered = counted("answered")
    found["noon"], marked = play(each_second(BEFORE + AFTER) + [BEFORE] * RUSH, BEFORE)
    found["share"] = since(marked)
    found["made up"] = max(0, found["noon"].get("served", 0) - sum(since(answered, "answered").values()))

    switch(**well)
    until_idle()
    begun, before = time.monotonic(), counted()
    while not since(before)[ill] and time.monotonic() - begun < 18:
        ask()
        time.sleep(0.15)
    found["back"] = since(before)[ill] > 0

    found["single"] = {}
    for zone in zones:
        switch(**{zone: "fail=1"})
        said = [ask() for _ in range(6)]
        found["single"][zone] = [what for what in said if what != "served"]
        switch(**{zone: "fail=0"})

    switch(**{zone: "state=hangs" for zone in zones})
    at_first, moments = counted(), each_second(5, 2 * RATE) + [0] * (RUSH // 2)
    _, marked = play(moments, 3)
    found["all fail"] = {"requests": len(moments), "arrived": sum(since(at_first).values()), "late": since(marked)}
finally:
    switch(**made)
print(json.dumps(found))
"""
FOUND = {}


@baseline
def before(cluster):
    return cluster.inventory()


def trial(client, cluster, lab):
    """Return what one trial found; there is one for all checks of a look."""
    if not FOUND:
        zones = {}
        for zone in "abc":
            pods = [one for one in cluster.pods("deployments", f"{lab.back}-{zone}") if is_ready(one)]
            assert pods, f"no pod of {lab.back}-{zone} is ready"
            zones[zone] = field(pods[0], "status.podIP")
        front = f"http://{lab.front}.{lab.namespaces['market']}:8080/"
        said = client.run(
            "python3 -c %s %s %s %s %s %s", TRIAL, front, lab.back, lab.ill, lab.fails, json.dumps(zones), timeout=120
        )
        assert said.rc == 0, f"the zones could not be tried: {said.stderr[-200:]}"
        FOUND.update(json.loads(said.stdout))
    assert FOUND["made up"] == 0, "answers that no zone gave"
    return FOUND


@check(points=30, skill="design.failure-modes")
def test_noon_is_served(client, cluster, lab):
    """With one zone ill, three quarters of noon's requests are answered with 200 by a zone within 10 s"""
    noon = trial(client, cluster, lab)["noon"]
    enough = noon.get("served", 0) >= 0.75 * sum(noon.values())
    assert enough, f"answers from the rush on: {noon}"


@check(points=15, skill="k8s.networking")
def test_the_ill_zone_is_left_out(client, cluster, lab):
    """The ill zone gets at most a quarter of what arrives at the zones from the rush on"""
    share = trial(client, cluster, lab)["share"]
    little = share[lab.ill] <= 0.25 * sum(share.values())
    assert little, f"what arrived at the zones, of which {lab.ill} is ill: {share}"


@check(points=10, skill="design.failure-modes", needs="test_the_ill_zone_is_left_out")
def test_a_zone_that_is_well_is_taken_back(client, cluster, lab):
    """Once it is well, the zone gets requests again within 15 seconds"""
    assert trial(client, cluster, lab)["back"], "no request within 15 s"


@check(points=20, skill="design.failure-modes")
def test_retries_stay_few(client, cluster, lab):
    """When all zones fail, at most 1.6 requests arrive for each that customers make"""
    seen = trial(client, cluster, lab)["all fail"]
    few = seen["arrived"] <= 1.6 * seen["requests"]
    assert few, f"customers made {seen['requests']} requests, and {seen['arrived']} arrived at the zones"


@check(points=5, skill="design.failure-modes", needs="test_retries_stay_few")
def test_two_zones_are_always_asked(client, cluster, lab):
    """When all zones fail, at least two of them are still asked"""
    late = trial(client, cluster, lab)["all fail"]["late"]
    asked = [zone for zone, count in late.items() if count]
    assert len(asked) > 1, f"zones that were asked in the last two seconds: {', '.join(asked) or 'none'}"


@check(points=10, skill="design.failure-modes", needs="test_retries_stay_few")
def test_one_bad_answer_is_hidden(client, cluster, lab):
    """A single 503 of a zone that is well reaches no customer"""
    assert trial(client, cluster, lab)["single"] == {zone: [] for zone in "abc"}


@check(points=10, skill="k8s.networking", needs="test_noon_is_served")
def test_the_rest_is_as_it_was(cluster, lab, baseline):
    """But for the configuration of the front's Envoy all is as it was, and nothing is put in between"""
    front = f"market/deployments/{lab.front}"
    mended = (
        f"market/configmaps/{lab.front}-envoy/*",
        f"{front}/*kubectl.kubernetes.io*",
        f"{front}/volumes/*",
        f"{front}/containers/envoy/volumeMounts/*",
    )
    assert cluster.differences(baseline, allow=mended, new=("market/services/*", "market/deployments/*")) == []
