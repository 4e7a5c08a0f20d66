"""The life of a session in the practice cluster: made, read back, restarted, reset, removed whatever hangs on it."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from breakfix import sessions
from breakfix.cluster import namespaces, practice
from breakfix.cluster.api import Api, Refused
from breakfix.environments.docker import DockerEnvironment
from breakfix.errors import HostUnreachable, UsageError
from breakfix.model import Outcome, SessionState
from tests.stage import outcomes, quiet, told, until

if TYPE_CHECKING:
    from breakfix.model import Session
    from tests.stage import Stage

pytestmark = pytest.mark.engine


@pytest.fixture
def stage(practice: Stage) -> Stage:
    """Return the stage; what it begins ends with all tests."""
    return practice


def assert_gone(stage: Stage, session_id: str) -> None:
    assert stage.environment.leftovers(session_id) == ()
    assert stage.engine.remains(session_id) == []
    assert namespaces.pieces(practice.administrator(), session_id) == []
    assert session_id not in {one.id for one in stage.environment.sessions()}


def test_this_machine_is_examined(stage: Stage, beacon: Session) -> None:
    found = stage.environment.examine()
    assert [(one.name, one.ok) for one in found] == [("cluster", True)]
    assert "node" in found[0].found


def test_a_ready_session_is_read_back_whole(stage: Stage, beacon: Session) -> None:
    assert stage.read(beacon) == beacon
    assert beacon.state is SessionState.READY
    assert beacon.environment == "kind"
    assert set(beacon.namespaces) == {"coast", "inland"}
    assert beacon.baseline["held"]


def test_a_second_process_reads_the_same(stage: Stage, beacon: Session) -> None:
    program = (
        "import json, sys; from breakfix import environments;"
        "found = environments.load('kind').sessions(sys.argv[1]);"
        "print(json.dumps({s.id: [s.lab, s.seed, s.state, s.namespaces, s.baseline] for s in found}))"
    )
    done = subprocess.run([sys.executable, "-c", program, stage.owner], capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)[beacon.id]
    assert seen == [beacon.lab, beacon.seed, "ready", beacon.namespaces, beacon.baseline]


def test_sessions_of_hosts_and_of_clusters_stay_apart(
    whole: Stage, stage: Stage, beacon: Session, lamp: Session
) -> None:
    assert beacon.id not in {one.id for one in whole.environment.sessions()}
    assert lamp.id not in {one.id for one in stage.environment.sessions()}


def test_the_workstation_has_its_files_and_the_candidates_rights(stage: Stage, beacon: Session) -> None:
    note = stage.candidate(beacon, "cat /opt/note", "workstation").text
    assert note == f"of {stage.service(beacon)} in {beacon.namespaces['coast']}\n"
    assert stage.do(beacon, "kubectl get deployments -o name", "workstation").strip() == (
        f"deployment.apps/{stage.service(beacon)}"
    )
    assert stage.candidate(beacon, "stat -c %a /root/.kube/config", "workstation").text.strip() == "600"


def test_the_probe_speaks_from_within_the_cluster(stage: Stage, beacon: Session) -> None:
    shell = stage.environment.client(beacon)
    name = f"{stage.service(beacon)}.{beacon.namespaces['coast']}.svc.cluster.local"
    assert "has address" in shell.run(f"host {name}").text
    shell.close()


def test_a_pods_network_is_seen_with_our_own_tools(stage: Stage, beacon: Session) -> None:
    pod = stage.do(
        beacon, "kubectl get pods -o jsonpath='{.items[0].metadata.name} {.items[0].status.podIP}'", "workstation"
    )
    name, address = pod.split()
    shell = stage.environment.inside(beacon, beacon.namespaces["coast"], name)  # type: ignore[attr-defined]
    assert address in shell.run("ip -4 addr").text
    assert shell.run("curl -s http://127.0.0.1:8080/").text.strip() == stage.service(beacon)
    shell.close()
    with pytest.raises(HostUnreachable):
        stage.environment.inside(beacon, beacon.namespaces["coast"], "nobody")  # type: ignore[attr-defined]


def test_nobody_gets_a_terminal_in_the_node(stage: Stage, beacon: Session) -> None:
    with pytest.raises(UsageError):
        stage.environment.attach(beacon, "cluster")


@pytest.fixture(scope="module")
def played(practice: Stage) -> Session:
    """Return a session that is changed by the tests that follow, in their order."""
    return practice.start("beacon", seed=3)


def test_untouched_earns_nothing(stage: Stage, played: Session) -> None:
    made = stage.grade(played, restart=True)
    assert (made.earned, made.gradable) == (0, True), told(made)


def test_a_solution_earns_everything_and_survives_a_restart(stage: Stage, played: Session) -> None:
    stage.solve(played)
    made = stage.grade(played, restart=True)
    assert made.passed, told(made)
    assert {str(one.look) for one in made.results} == {"after a restart"}


def test_what_the_candidate_broke_on_purpose_never_breaks_a_grade(stage: Stage, played: Session) -> None:
    stage.do(
        played,
        """
        kubectl delete deployment --all
        kubectl patch $(kubectl get service -o name) --type=merge -p '{"spec": {"selector": null}}'
        kubectl create -f - <<'END'
{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "odd", "finalizers": ["example.com/never"]},
 "spec": {"containers": [{"name": "x", "image": "no.such/image:1"}]}}
END
        kubectl delete pod odd --wait=false
        """,
        "workstation",
    )
    made = stage.grade(played)
    assert made.gradable, told(made)
    assert outcomes(made)["test_it_is_seen"] is Outcome.FAILED


def test_a_reset_brings_the_start_back_under_new_names(stage: Stage, played: Session) -> None:
    again = sessions.reset(stage.environment, played, stage.lab("beacon"), quiet).session
    assert (again.id, again.seed) == (played.id, played.seed)
    assert again.namespaces["coast"] != played.namespaces["coast"]
    made = stage.grade(again)
    assert (made.earned, made.gradable) == (0, True), told(made)


def test_stop_removes_everything_whatever_hangs_on_it(stage: Stage, played: Session) -> None:
    # The namespaces of before the reset, with a pod that a finalizer holds, may still be on their way.
    assert namespaces.pieces(practice.administrator(), played.id)
    stage.environment.stop((played.id,))
    assert_gone(stage, played.id)


def test_a_start_that_fails_leaves_nothing(stage: Stage) -> None:
    assert_gone(stage, stage.start_and_fail("beacon"))


def test_stop_removes_what_was_only_created(stage: Stage) -> None:
    session = stage.create("beacon")
    stage.engine.remove(session, "workstation")
    stage.environment.stop((session.id,))
    assert_gone(stage, session.id)


def test_stop_of_what_is_not_there_is_fine(stage: Stage) -> None:
    stage.environment.stop(("no-such-session-000000",))
    assert stage.environment.leftovers("no-such-session-000000") == ()


def test_sessions_side_by_side_do_not_see_one_another(stage: Stage, beacon: Session) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda seed: stage.start("beacon", seed), (1, 4))
    for one, other in ((first, second), (second, first), (first, beacon)):
        for name in (*other.namespaces.values(), namespaces.own(other), namespaces.own(one), "kube-system", "default"):
            for what in ("get pods", "get secrets", "get events", "create configmap x", "delete pod probe"):
                done = stage.candidate(one, f"kubectl {what} -n {name}", "workstation")
                assert done.exit_status, (what, name)
                assert "forbidden" in done.error_text.lower(), (what, name, done.error_text)
        address = other.hosts["workstation"].address
        assert stage.candidate(one, f"ping -n -c 1 -W 1 {address}", "workstation").exit_status
    stage.solve(first)
    assert stage.grade(first).passed
    assert stage.grade(second).earned == 0


def test_what_the_candidate_changed_is_on_record(stage: Stage, beacon: Session) -> None:
    name = f"noted-{beacon.id[-6:]}"
    stage.do(beacon, f"kubectl create configmap {name}; kubectl delete configmap {name}", "workstation")
    stage.candidate(beacon, "kubectl delete namespace kube-system", "workstation")
    changes = stage.environment.changes(beacon)  # type: ignore[attr-defined]
    told = [one.detail for one in changes]
    assert f"delete configmaps/{name} in {beacon.namespaces['coast']}" in told
    assert "delete namespaces/kube-system in kube-system, refused (403)" in told
    assert stage.environment.changes(beacon, changes[-1].at) == ()  # type: ignore[attr-defined]


def test_a_terminal_of_ones_own_has_the_candidates_rights(stage: Stage, practice: Stage) -> None:
    session = practice.start("beacon", 4)
    file = stage.environment.local_access(session)  # type: ignore[attr-defined]
    assert file.stat().st_mode & 0o777 == 0o600
    said = json.loads(file.read_text(encoding="utf-8"))
    assert said["clusters"][0]["cluster"]["server"].startswith("https://127.0.0.1:")
    mine = Api(said)
    assert mine.list(f"/api/v1/namespaces/{session.namespaces['coast']}/pods")
    with pytest.raises(Refused, match="403"):
        mine.list("/api/v1/pods")
    stage.environment.stop((session.id,))
    assert not file.exists()


def test_what_a_session_left_in_the_cluster_is_swept_by_the_next_start(stage: Stage, practice: Stage) -> None:
    session = stage.create("beacon")
    # Its end came while the cluster could not be reached: the engine has nothing of it any more.
    DockerEnvironment.stop(stage.environment, (session.id,))  # type: ignore[arg-type]
    assert stage.environment.leftovers(session.id)
    stage.environment.prepare(stage.lab("beacon"), quiet)
    until(lambda: stage.environment.leftovers(session.id) == (), 60)
