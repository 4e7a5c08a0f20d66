"""What one types for a lab in a cluster, on the real one."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from breakfix.cluster.practice import PRACTICE
from breakfix.engine.client import connect
from tests.stage import until

if TYPE_CHECKING:
    from tests.stage import Stage

pytestmark = pytest.mark.engine


def answer(stage: Stage, *words: str) -> Any:  # noqa: ANN401  # JSON
    done = stage.cli(*words, "-o", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def session_id(practice: Stage) -> str:
    """Start the lab as one types it."""
    practice.environment.prepare(practice.lab("beacon"), lambda _: None)
    done = practice.cli("start", "beacon", "--seed", "4")
    assert done.returncode == 0, done.stderr
    assert "must answer" in done.stdout
    found = [one["id"] for one in answer(practice, "sessions")["sessions"] if one["id"].startswith("beacon-")]
    mine = str(next(one for one in found if one in done.stdout))
    practice.begun.append(mine)
    return mine


def test_the_cluster_is_shown_with_who_is_in_it(practice: Stage, session_id: str) -> None:
    shown = answer(practice, "cluster")["cluster"]
    assert (shown["exists"], shown["running"], shown["current"]) == (True, True, True)
    assert session_id in shown["sessions"]
    assert shown["memory"] > 100 << 20
    said = practice.cli("cluster").stdout
    assert "breakfix-practice: running" in said
    assert session_id in said


def test_a_cluster_that_is_in_use_is_not_dropped(practice: Stage, session_id: str) -> None:
    done = practice.cli("cluster", "drop")
    assert done.returncode == 2
    assert session_id in done.stderr
    assert answer(practice, "cluster")["cluster"]["running"]


def test_doctor_says_what_the_cluster_is_made_of(practice: Stage, session_id: str) -> None:
    rows = {one["name"]: one for one in answer(practice, "doctor")["capabilities"]}
    assert rows["cluster"]["ok"]
    assert "node" in rows["cluster"]["found"]


def test_a_terminal_of_ones_own_is_told_by_one_line(practice: Stage, session_id: str) -> None:
    done = practice.cli("shell", "--local", session_id)
    name, _, file = done.stdout.strip().partition("=")
    assert name == "export KUBECONFIG"
    said = subprocess.run(["cat", file], capture_output=True, text=True, check=True).stdout
    assert json.loads(said)["current-context"] == "lab"


def test_a_grade_tells_what_was_changed_and_ends_with_its_verdict(practice: Stage, session_id: str) -> None:
    session = next(one for one in practice.environment.sessions() if one.id == session_id)
    done = practice.cli("grade", session_id, "-o", "json")
    assert done.returncode == 1, done.stderr
    practice.solve(session)
    done = practice.cli("grade", session_id, "-o", "json")
    assert done.returncode == 0, done.stdout
    changes = [one["detail"] for one in json.loads(done.stdout)["events"] if one["kind"] == "change"]
    assert f"patch services/{practice.service(session)} in {session.namespaces['coast']}" in changes


def test_stop_ends_it(practice: Stage, session_id: str) -> None:
    done = practice.cli("stop", session_id)
    assert done.returncode == 0, done.stderr
    assert session_id not in {one["id"] for one in answer(practice, "sessions")["sessions"]}
    assert practice.environment.leftovers(session_id) == ()


def test_a_cluster_whose_engine_just_came_up_is_waited_for_and_its_sessions_live_on(practice: Stage) -> None:
    session = practice.start("beacon", 1)
    # The engine starts the node by itself: it runs, and for a while nothing in it answers.
    connect().restart(PRACTICE.control_plane, timeout=0)
    done = practice.cli("cluster", "warm")
    assert done.returncode == 0, done.stderr
    practice.solve(session)
    done = practice.cli("grade", session.id)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_cluster_whose_node_was_killed_is_started_again(practice: Stage) -> None:
    connect().kill(PRACTICE.control_plane)
    until(lambda: not connect().inspect_container(PRACTICE.control_plane)["State"]["Running"])
    done = practice.cli("cluster", "warm")
    assert done.returncode == 0, done.stderr
    assert answer(practice, "cluster")["cluster"]["running"]
