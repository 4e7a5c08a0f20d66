"""The life of a session in every environment: made, restarted, read back, removed whatever state it is in."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from breakfix.errors import CannotGrade, HostUnreachable
from breakfix.model import Outcome, SessionState
from tests.stage import quiet

if TYPE_CHECKING:
    from breakfix.model import Session
    from tests.stage import Stage

pytestmark = pytest.mark.engine


def test_this_machine_is_examined_without_raising(whole: Stage, lamp: Session) -> None:
    found = whole.environment.examine()
    assert found
    assert all(one.ok for one in found), found


def test_a_ready_session_is_read_back_whole(whole: Stage, lamp: Session) -> None:
    assert whole.read(lamp) == lamp
    assert lamp.state is SessionState.READY
    assert lamp.baseline["wick"] == whole.variant(lamp).token("wick", 24)


def test_a_second_process_reads_the_same(whole: Stage, lamp: Session, pair: Session) -> None:
    program = (
        "import json, sys; from breakfix import environments;"
        "found = environments.load(sys.argv[1]).sessions(sys.argv[2]);"
        "print(json.dumps({s.id: [s.lab, s.seed, s.state, s.network, list(s.hosts), s.baseline] for s in found}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, whole.name, whole.owner], capture_output=True, text=True, check=True
    )
    seen = json.loads(done.stdout)
    for one in (lamp, pair):
        assert seen[one.id] == [one.lab, one.seed, "ready", one.network, list(one.hosts), one.baseline]


def test_sessions_of_another_owner_are_not_mine(whole: Stage, lamp: Session) -> None:
    assert lamp.id not in {one.id for one in whole.environment.sessions(f"{whole.owner}-other")}
    assert lamp.id in {one.id for one in whole.environment.sessions()}


def test_files_come_with_mode_and_owner(stage: Stage) -> None:
    session = stage.create("lamp")
    assert stage.read(session).state is SessionState.INCOMPLETE
    files = {
        "/opt/deep/er/run": (b"#!/bin/sh\necho ran\n", 0o755),
        "/opt/secret": (bytes(range(256)), 0o600),
        "/opt/with space": ("Grüße\n".encode(), 0o644),
        "/opt/empty": (b"", 0o640),
    }
    stage.environment.put(session, "web", files)
    stage.environment.put(session, "web", {})
    stage.environment.boot(session)
    stage.environment.put(session, "web", {"/opt/late": (b"late", 0o444)})
    shell = stage.environment.trusted(session, "web")
    for path, (content, mode) in {**files, "/opt/late": (b"late", 0o444)}.items():
        assert shell.run(f"stat -c '%a %u %g' '{path}'").text == f"{mode:o} 0 0\n", path
        assert shell.run(f"cat '{path}'").stdout == content, path
    shell.close()
    assert stage.candidate(session, "/opt/deep/er/run").text == "ran\n"
    ready = stage.environment.mark_ready(session, {"list": [1, "two", None], "text": "Grüße 'x' \"y\"\n"})
    assert ready.state is SessionState.READY
    assert stage.read(session) == ready


@pytest.fixture(scope="module")
def twice(whole: Stage) -> Session:
    """Return a session of two hosts in which much was written, after a restart."""
    session = whole.start("pair")
    whole.do(
        session,
        "echo kept >/root/kept; echo gone >/run/gone; echo gone >/tmp/gone\n"
        "echo 192.0.2.9 mine >/etc/hosts.new; mv /etc/hosts.new /etc/hosts; echo other >/etc/hostname\n"
        "rm /etc/resolv.conf; echo 'nameserver 192.0.2.9' >/etc/resolv.conf",
    )
    whole.do(session, "echo kept >/root/kept; echo kept >/srv/kept; chmod 600 /srv/kept; echo x >/run/gone", "db")
    whole.environment.restart(session)
    return session


@pytest.mark.parametrize(
    ("host", "command", "answer"),
    [
        ("web", "cat /root/kept", "kept"),
        ("db", "cat /root/kept", "kept"),
        ("db", "stat -c '%a %s' /srv/kept", "600 5"),
        ("web", "ls /run/gone /tmp/gone 2>/dev/null | wc -l", "0"),
        ("db", "ls /run/gone 2>/dev/null | wc -l", "0"),
        ("web", "cat /etc/hosts", "192.0.2.9 mine"),
        ("web", "cat /etc/hostname", "other"),
        ("web", "cat /etc/resolv.conf", "nameserver 192.0.2.9"),
    ],
)
def test_what_a_restart_keeps_and_what_not(whole: Stage, twice: Session, host: str, command: str, answer: str) -> None:
    assert whole.trusted(twice, command, host).text.strip() == answer


def test_a_restarted_session_is_the_same(whole: Stage, twice: Session) -> None:
    assert whole.read(twice) == twice
    assert whole.trusted(twice, "cat /proc/1/comm").text.strip() == "systemd"


def test_a_session_that_was_stopped_by_hand_goes_on(stage: Stage) -> None:
    session = stage.start("pair")
    stage.do(session, "echo kept >/root/kept; echo '192.0.2.7 mine' >/etc/hosts")
    stage.engine.stop(session, "web")
    assert stage.read(session).state is SessionState.STOPPED
    stage.engine.stop(session, "db")
    stage.environment.resume(stage.read(session))
    assert stage.read(session) == session
    assert stage.trusted(session, "cat /root/kept /etc/hosts").text == "kept\n192.0.2.7 mine\n"
    assert stage.candidate(session, f"ping -c 1 -W 2 {session.hosts['web'].address}", "db").exit_status == 0


def test_a_dead_host_is_unreachable_and_no_answer(stage: Stage) -> None:
    session = stage.start("lamp")
    stage.solve(session)
    open_before = stage.environment.trusted(session, "web")
    assert open_before.run("echo alive").text == "alive\n"
    stage.engine.stop(session, "web")
    for shell in (open_before, stage.environment.plain(session, "web")):
        with pytest.raises(HostUnreachable):
            shell.run("test -e /nowhere")
        shell.close()
    with pytest.raises(HostUnreachable):
        stage.environment.trusted(session, "web").run("true")
    made = stage.grade(session)
    of_host = [one for one in made.results if one.check.name not in {"test_it_burns", "test_runs_as_itself"}]
    assert {one.outcome for one in of_host} == {Outcome.ERROR}
    assert not made.gradable
    assert not made.passed


def test_a_removed_host_is_unreachable_too(stage: Stage) -> None:
    session = stage.start("lamp")
    stage.engine.remove(session, "web")
    with pytest.raises(HostUnreachable):
        stage.environment.trusted(session, "web").run("true")
    with pytest.raises(HostUnreachable):
        stage.environment.plain(session, "web").run("true")
    with pytest.raises(HostUnreachable):
        stage.environment.restart(session)
    try:
        made = stage.grade(session)
    except CannotGrade:
        return
    assert not made.gradable


def test_a_dead_client_gives_no_verdict_on_the_network(stage: Stage) -> None:
    session = stage.start("lamp")
    stage.solve(session)
    stage.engine.stop(session, "client")
    made = stage.grade(session)
    assert next(one for one in made.results if one.check.name == "test_it_burns").outcome is Outcome.ERROR
    assert not made.gradable


def assert_gone(stage: Stage, session_id: str) -> None:
    assert stage.environment.leftovers(session_id) == ()
    assert stage.engine.remains(session_id) == []
    assert session_id not in {one.id for one in stage.environment.sessions()}


def test_stop_removes_a_running_session(stage: Stage) -> None:
    session = stage.start("pair")
    assert stage.environment.leftovers(session.id)
    assert stage.engine.remains(session.id)
    stage.environment.stop((session.id,))
    assert_gone(stage, session.id)


def test_stop_removes_what_was_only_created(stage: Stage) -> None:
    session = stage.create("pair")
    assert stage.environment.leftovers(session.id)
    stage.environment.stop((session.id,))
    assert_gone(stage, session.id)


def test_stop_removes_a_half_created_session(stage: Stage) -> None:
    session = stage.create("pair")
    stage.engine.remove(session, "web")
    stage.engine.remove(session, "client")
    assert stage.read(session).state is SessionState.INCOMPLETE
    stage.environment.stop((session.id,))
    assert_gone(stage, session.id)


def test_stop_removes_a_session_whose_hosts_are_dead(stage: Stage) -> None:
    session = stage.start("pair")
    stage.engine.stop(session, "web")
    stage.engine.remove(session, "db")
    stage.environment.stop((session.id,))
    assert_gone(stage, session.id)


def test_stop_removes_several_at_once_and_no_others(stage: Stage, whole: Stage, lamp: Session) -> None:
    first, second = stage.create("lamp"), stage.create("lamp")
    stage.environment.stop((first.id, second.id))
    assert_gone(stage, first.id)
    assert_gone(stage, second.id)
    assert whole.read(lamp) == lamp


def test_stop_of_what_is_not_there_is_fine(whole: Stage) -> None:
    whole.environment.stop(("no-such-session-000000",))
    whole.environment.stop(())
    assert whole.environment.leftovers("no-such-session-000000") == ()


def test_stop_removes_control_groups_that_the_candidate_made(stage: Stage) -> None:
    session = stage.start("lamp")
    made = stage.candidate(
        session, f"for t in systemd unified; do mkdir -p /sys/fs/cgroup/$t/breakfix-{session.id}/a/b/c; done"
    )
    assert made.exit_status in {0, 1}
    stage.environment.stop((session.id,))
    assert_gone(stage, session.id)


def test_a_start_that_fails_leaves_nothing(stage: Stage) -> None:
    assert_gone(stage, stage.start_and_fail("pair"))


def test_a_reset_brings_the_start_back(stage: Stage) -> None:
    from breakfix import sessions

    session = stage.start("lamp")
    stage.solve(session)
    stage.do(session, "echo dirt >/root/dirt; echo dirt >/srv/dirt")
    again = sessions.reset(stage.environment, session, stage.lab("lamp"), quiet).session
    assert (again.id, again.seed, again.baseline) == (session.id, session.seed, session.baseline)
    assert stage.trusted(again, "ls /root/dirt /srv/dirt 2>/dev/null | wc -l").text.strip() == "0"
    made = stage.grade(again)
    assert made.earned == 0
    assert made.gradable
