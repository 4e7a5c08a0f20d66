"""Labs in namespaces of a cluster that somebody has, and names: nothing else in it is touched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from breakfix import sessions
from breakfix.cluster import namespaces, practice
from breakfix.environments import existing
from breakfix.errors import UsageError
from breakfix.model import Outcome
from tests.stage import outcomes, quiet, told

if TYPE_CHECKING:
    from breakfix.model import Session
    from tests.stage import Stage

pytestmark = pytest.mark.engine

OUTSIDE = (
    "/apis/rbac.authorization.k8s.io/v1/clusterroles", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
    "/apis/scheduling.k8s.io/v1/priorityclasses", "/apis/storage.k8s.io/v1/storageclasses",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
)  # fmt: skip


def outside(session_id: str) -> list[str]:
    """Return what stands outside namespaces and speaks of a session."""
    api = practice.administrator()
    return [f"{path}/{one['metadata']['name']}" for path in OUTSIDE for one in api.list(path) if session_id in str(one)]


def asks(stage: Stage, session: Session, question: str, who: str) -> str:
    """Return what ``kubectl auth can-i`` answers the author or the candidate."""
    shell = stage.trusted if who == "cluster" else stage.candidate
    return shell(session, f"kubectl auth can-i {question}", who).text.strip()


def test_nothing_begins_where_nobody_named_a_cluster(theirs: Stage) -> None:
    with pytest.raises(UsageError, match="no cluster was named") as caught:
        existing.connect().prepare(theirs.lab("beacon"), quiet)
    assert "kind-breakfix-practice" in caught.value.next_step


def test_a_context_that_is_none_is_refused(theirs: Stage) -> None:
    with pytest.raises(UsageError, match="no context is called 'prod'"):
        existing.connect("prod").prepare(theirs.lab("beacon"), quiet)


def test_a_lab_that_needs_all_of_a_cluster_is_refused(theirs: Stage) -> None:
    with pytest.raises(UsageError, match="needs a cluster to itself"):
        theirs.environment.prepare(theirs.lab("isle"), quiet)


def test_a_context_is_for_labs_with_a_cluster(theirs: Stage) -> None:
    done = theirs.cli("start", "lamp", "--context", "kind-breakfix-practice")
    assert done.returncode == 2
    assert "lamp has no cluster" in done.stderr


def test_doctor_names_the_contexts(theirs: Stage) -> None:
    (found,) = theirs.environment.examine()
    assert found.ok
    assert "kind-breakfix-practice" in found.found


def test_it_is_read_back_whole(theirs: Stage, guest: Session) -> None:
    assert theirs.read(guest) == guest
    assert guest.environment == "existing"
    assert guest.cluster == "kind-breakfix-practice"


def test_nothing_outside_its_namespaces_is_made(theirs: Stage, guest: Session) -> None:
    assert outside(guest.id) == []
    found = namespaces.pieces(practice.administrator(), guest.id)
    assert sorted(found) == sorted(
        f"/api/v1/namespaces/{one}" for one in (*guest.namespaces.values(), namespaces.own(guest))
    )


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("create resourcequotas -n {}", "yes"),
        ("patch namespaces/{0} -n {0}", "yes"),
        ("create clusterroles -A", "no"),
        ("get secrets -n kube-system", "no"),
        ("create namespaces -A", "no"),
        ("get nodes -A", "no"),
    ],
)
def test_the_author_has_the_namespaces_and_no_more(theirs: Stage, guest: Session, question: str, answer: str) -> None:
    assert asks(theirs, guest, question.format(guest.namespaces["coast"]), "cluster") == answer


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("create deployments -n {}", "yes"),
        ("create resourcequotas -n {}", "no"),
        ("get secrets -n kube-system", "no"),
        ("get nodes -A", "no"),
    ],
)
def test_the_candidate_has_less(theirs: Stage, guest: Session, question: str, answer: str) -> None:
    assert asks(theirs, guest, question.format(guest.namespaces["coast"]), "workstation") == answer


def test_the_workstation_reaches_the_api_server_and_nothing_else(theirs: Stage, guest: Session) -> None:
    ask = "curl -sk -m 3 -o /dev/null -w '%{http_code}' "
    assert theirs.candidate(guest, f"{ask} https://cluster:6443/version", "workstation").text in {"200", "401", "403"}
    assert "default" not in theirs.candidate(guest, "cat /proc/net/route; ip route", "workstation").text
    (node,) = practice.administrator().list("/api/v1/nodes")
    (address,) = [one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP"]
    for place in (address, *theirs.engine.addresses()):
        assert theirs.candidate(guest, f"{ask} https://{place}:6443/version", "workstation").text == "000", place


def test_a_pods_network_is_seen_from_within(theirs: Stage, guest: Session) -> None:
    api = theirs.environment.api(guest)  # type: ignore[attr-defined]
    (pod,) = api.list(f"/api/v1/namespaces/{guest.namespaces['coast']}/pods")
    for _ in range(2):
        shell = theirs.environment.inside(guest, guest.namespaces["coast"], pod["metadata"]["name"])  # type: ignore[attr-defined]
        assert shell.run("curl -s -m 3 http://127.0.0.1:8080/").text.strip() == theirs.service(guest)
        shell.close()


def test_red_mended_green_and_made_anew(theirs: Stage) -> None:
    config = Path(os.environ["KUBECONFIG"])
    before = config.read_bytes()
    session = theirs.start("beacon", 3)
    made = theirs.grade(session)
    assert outcomes(made)["test_it_is_seen"] is Outcome.FAILED, told(made)
    theirs.solve(session)
    made = theirs.grade(session, restart=True)
    assert made.passed, told(made)
    # In another process, which was told of no context.
    done = theirs.cli("reset", session.id)
    assert done.returncode == 0, done.stderr
    again = theirs.read(session)
    assert (again.id, again.cluster) == (session.id, session.cluster)
    assert again.namespaces != session.namespaces
    theirs.environment.stop((session.id,))
    assert theirs.environment.leftovers(session.id) == ()
    assert theirs.engine.remains(session.id) == []
    assert outside(session.id) == []
    assert namespaces.pieces(practice.administrator(), session.id) == []
    assert config.read_bytes() == before


def test_another_reset_in_the_same_process(theirs: Stage) -> None:
    session = theirs.start("beacon", 1)
    found = existing.connect()
    again = sessions.reset(found, session, theirs.lab("beacon"), quiet).session
    assert again.cluster == session.cluster
    found.stop((again.id,))
    assert found.leftovers(again.id) == ()
