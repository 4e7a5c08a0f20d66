"""The candidate disturbs the grading while it goes on: noticed, looked again or an error, and never a pass by it."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from breakfix.errors import CannotGrade, CommandTimedOut, HostUnreachable, ProbeFailed
from breakfix.model import Outcome
from tests.stage import outcomes, told, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from breakfix.model import Grade, Session
    from tests.stage import Stage

pytestmark = pytest.mark.engine

DAEMON = (
    "cat >/opt/daemon.py <<'EOF'\n{program}\nEOF\n"
    "setsid python3 /opt/daemon.py >/var/daemon.log 2>&1 </dev/null &\nsleep 0.1\n"
)
# Finds processes of the toolbox that do not belong to PID 1, for as long as it is told to.
HUNT = """
import os, signal, time
mine = os.getpid()
end = time.monotonic() + {seconds}
while time.monotonic() < end:
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in (1, mine):
            try:
                words = open("/proc/%s/cmdline" % name, "rb").read().split(b"\\0")
                here = open("/proc/%s/comm" % name).read().strip()
                if {which}:
                    os.kill(int(name), signal.{signal})
            except OSError:
                pass
    time.sleep({pause})
"""
OURS = 'b"/toolbox/lib/loader" in words or words[0].startswith(b"/toolbox") or here == "busybox"'


def hunter(seconds: float, which: str, signal: str, pause: float) -> str:
    return DAEMON.format(program=HUNT.format(seconds=seconds, which=which, signal=signal, pause=pause))


def grade(stage: Stage, session: Session) -> Grade | None:
    """Grade; None where nothing at all could be asked."""
    try:
        return stage.grade(session)
    except CannotGrade:
        return None


def solve_but_for_the_wick(stage: Stage, session: Session) -> None:
    """Do the work, and leave one thing undone."""
    stage.solve(session)
    stage.do(session, "chmod 666 /srv/wick")


def test_a_killed_shell_is_noticed_and_opened_again(stage: Stage, whole: Stage, lamp: Session) -> None:
    shell = whole.environment.trusted(lamp, "web")
    pid = shell.run("echo $$").text.strip()
    assert whole.candidate(lamp, f"kill -KILL {pid}").exit_status == 0
    assert shell.run("echo again").text == "again\n"
    assert len(shell.integrity) == 1
    assert "killed" in shell.integrity[0]
    shell.close()


def test_a_stopped_shell_is_noticed_and_opened_again(stage: Stage, whole: Stage, lamp: Session) -> None:
    shell = whole.environment.trusted(lamp, "web")
    pid = shell.run("echo $$").text.strip()
    assert whole.candidate(lamp, f"kill -STOP {pid}").exit_status == 0
    assert shell.run("echo again", timeout=1).text == "again\n"
    assert len(shell.integrity) == 1
    assert "stopped" in shell.integrity[0]
    shell.close()


def test_killing_everything_of_ours_never_passes(stage: Stage) -> None:
    session = stage.start("lamp")
    stage.do(session, hunter(12, OURS, "SIGKILL", 0.01))
    made = grade(stage, session)
    assert made is None or (not made.passed and Outcome.PASSED not in outcomes(made).values()), (
        told(made) if made else ""
    )
    if made is not None and not made.gradable:
        assert made.integrity or any(one.outcome is Outcome.ERROR for one in made.results)
    until(lambda: "daemon.py" not in stage.candidate(session, "ps -A -o args").text, 30)
    stage.solve(session)
    again = stage.grade(session)
    assert again.passed, told(again)


def test_stopping_everything_of_ours_never_passes(stage: Stage) -> None:
    session = stage.start("lamp")
    solve_but_for_the_wick(stage, session)
    stage.do(session, hunter(15, OURS, "SIGSTOP", 0.01))
    made = grade(stage, session)
    assert made is None or not made.passed
    assert made is None or outcomes(made)["test_wick_is_private"] is not Outcome.PASSED, told(made)


ENDLESS = ("cat /opt/pipe", "cat /opt/pipe | wc -l", 'found=$(cat /opt/pipe 2>/dev/null | sort); echo "<$found>"')


@pytest.fixture(scope="module")
def prey(whole: Stage) -> Iterator[Session]:
    """Return a session with a file that is read for ever."""
    session = whole.start("pair")
    whole.do(session, "mkfifo /opt/pipe")
    yield session
    whole.environment.stop((session.id,))


@pytest.mark.parametrize("signal", ["SIGKILL", "SIGTERM", "SIGSEGV"])
@pytest.mark.parametrize("command", ENDLESS)
def test_a_search_that_is_killed_is_not_an_empty_answer(whole: Stage, prey: Session, signal: str, command: str) -> None:
    # Only the tool is killed, never the shell, which would notice: a grader would read "nothing there" out of silence.
    hunt = "import os; print(os.getpid(), flush=True)\n" + HUNT.format(
        seconds=60, which="here == 'cat' and b'/opt/pipe' in words", signal=signal, pause=0.01
    )
    whole.do(prey, DAEMON.format(program=hunt))
    shell = whole.environment.trusted(prey, "web")
    with pytest.raises(ProbeFailed):
        shell.run(command, timeout=40)
    assert len(shell.integrity) == 1
    shell.close()
    whole.do(prey, "kill -KILL $(cat /var/daemon.log)")


def fill(stage: Stage, session: Session, host: str) -> None:
    """Fill a host with processes that end by themselves after a while, and return when not one more fits."""
    crowd = (
        "import os, time\n"
        "end = time.monotonic() + 30\n"
        "while time.monotonic() < end:\n"
        "    try:\n"
        "        if not os.fork():\n"
        "            time.sleep(max(0, end - time.monotonic())); os._exit(0)\n"
        "    except OSError:\n"
        "        open('/opt/full', 'w'); time.sleep(0.005)\n"
    )
    shell = stage.environment.trusted(session, host)
    shell.run("true")
    # Without a wait for anything: what is executed next may find no room.
    stage.candidate(
        session,
        f"cat >/opt/daemon.py <<'EOF'\n{crowd}\nEOF\nsetsid python3 /opt/daemon.py >/dev/null 2>&1 </dev/null &",
        host,
    )

    def full() -> bool:
        try:
            return shell.run("[ -e /opt/full ]").exit_status == 0
        except CannotGrade:
            return True

    until(full, 25)
    shell.close()


def test_a_host_without_room_for_processes_cannot_be_graded(stage: Stage) -> None:
    session = stage.start("lamp")
    solve_but_for_the_wick(stage, session)
    fill(stage, session, "web")
    made = grade(stage, session)
    assert made is None or (not made.gradable and not made.passed), told(made)
    assert made is None or outcomes(made)["test_wick_is_private"] is not Outcome.PASSED


def test_what_cannot_start_is_no_answer(stage: Stage) -> None:
    session = stage.start("pair")
    shell = stage.environment.trusted(session, "db")
    assert "/srv/word" in shell.run("find /srv | cat | cat").text
    fill(stage, session, "db")
    with pytest.raises(CannotGrade):
        shell.run("find /srv | cat | cat")
    shell.close()


def test_a_mend_that_is_undone_after_the_look_does_not_hold(stage: Stage) -> None:
    session = stage.start("lamp")
    stage.solve(session)
    service = stage.service(session)
    port = int(stage.variant(session).port)
    # Takes the port for itself, answers well once and never again.
    undo = (
        "import http.server, os, subprocess, time\n"
        "wick = open('/srv/wick', 'rb').read()\n"
        "class Turncoat(http.server.BaseHTTPRequestHandler):\n"
        "    count = 0\n"
        "    def do_GET(self):\n"
        "        Turncoat.count += 1\n"
        "        self.send_response(200 if Turncoat.count <= 1 else 503); self.end_headers()\n"
        "        self.wfile.write(wick if Turncoat.count <= 1 else b'gone')\n"
        "    def log_message(self, *_): pass\n"
        f"subprocess.run(['systemctl', 'stop', '{service}'])\n"
        f"http.server.HTTPServer(('', {port}), Turncoat).serve_forever()\n"
    )
    stage.do(session, DAEMON.format(program=undo))
    up = f"ss -H -ltnp | grep -q ':{port} .*python3'"
    until(lambda: stage.candidate(session, f"! systemctl -q is-active {service} && {up}").exit_status == 0)
    made = stage.grade(session)
    result = next(one for one in made.results if one.check.name == "test_it_burns")
    assert result.outcome is Outcome.FAILED, told(made)
    assert "held for" in result.seen


def test_a_mend_for_the_length_of_one_answer_does_not_hold(stage: Stage) -> None:
    session = stage.start("lamp")
    stage.solve(session)
    flicker = (
        "import subprocess, time\n"
        "while True:\n"
        f"    subprocess.run(['systemctl', 'stop', '{stage.service(session)}']); time.sleep(0.4)\n"
        f"    subprocess.run(['systemctl', 'start', '{stage.service(session)}']); time.sleep(0.3)\n"
    )
    stage.do(session, DAEMON.format(program=flicker))
    assert not stage.grade(session).passed


def test_a_grading_that_is_undone_at_the_restart_fails_after_it(stage: Stage) -> None:
    session = stage.start("lamp")
    stage.solve(session)
    stage.do(
        session,
        "printf '[Unit]\\nBefore=multi-user.target\\n[Service]\\nType=oneshot\\nExecStart=/bin/chmod 666 /srv/wick\\n"
        "[Install]\\nWantedBy=multi-user.target\\n' >/etc/systemd/system/undo.service; systemctl enable -q undo",
    )
    made = stage.grade(session, restart=True)
    assert outcomes(made)["test_wick_is_private"] is Outcome.FAILED, told(made)


def test_a_pipe_where_a_file_is_read_is_an_error(stage: Stage, whole: Stage, lamp: Session) -> None:
    stage.do(lamp, "rm -f /opt/pipe; mkfifo /opt/pipe")
    shell = whole.environment.trusted(lamp, "web")
    with pytest.raises(CommandTimedOut):
        shell.run("cat /opt/pipe", timeout=1)
    assert shell.run("echo on").text == "on\n"
    shell.close()


def test_a_pipe_where_the_engine_reads_a_file_is_an_error_soon(stage: Stage) -> None:
    # Before it executes anything in a container, the engine reads these two there.
    session = stage.start("lamp")
    stage.do(session, "for file in /etc/passwd /etc/group; do mv $file $file.real; mkfifo $file; done")
    begun = time.monotonic()
    with pytest.raises(HostUnreachable):
        stage.trusted(session, "true")
    assert time.monotonic() - begun < 60
    stage.environment.stop((session.id,))
    assert stage.engine.remains(session.id) == []


def test_a_host_that_the_candidate_turns_off_is_no_pass(stage: Stage) -> None:
    session = stage.start("lamp")
    stage.solve(session)
    stage.candidate(session, "setsid sh -c 'sleep 0.2; kill -s RTMIN+4 1' >/dev/null 2>&1 </dev/null &")
    until(lambda: stage.read(session).state.value == "stopped", 30)
    made = grade(stage, session)
    assert made is None or (not made.passed and not made.gradable)


def test_memory_that_is_used_up_is_no_pass(stage: Stage) -> None:
    session = stage.start("lamp")
    solve_but_for_the_wick(stage, session)
    hog = (
        "import time\nx = []\ntry:\n"
        "    while True:\n        x.append(bytearray(1 << 20)); time.sleep(0.01 if len(x) > 100 else 0)\n"
        "except MemoryError:\n    time.sleep(20)"
    )
    stage.candidate(session, f"echo 1000 >/proc/$$/oom_score_adj; {DAEMON.format(program=hog)}")
    made = grade(stage, session)
    assert made is None or outcomes(made)["test_wick_is_private"] is not Outcome.PASSED


def test_a_frozen_host_is_an_error_and_can_be_removed(stage: Stage) -> None:
    session = stage.start("lamp")
    solve_but_for_the_wick(stage, session)
    freeze = "for f in $(find /sys/fs/cgroup -path '*breakfix-*' -name cgroup.freeze); do echo 1 >$f; done"
    stage.candidate(
        session, f'setsid sh -c "sleep 0.5; {freeze.replace("$", chr(92) + "$")}" >/dev/null 2>&1 </dev/null &'
    )
    shell = stage.environment.trusted(session, "web")
    deadline = time.monotonic() + 8
    with suppress(CannotGrade):
        while time.monotonic() < deadline:
            # Whatever it answers while it runs is the truth; once it is frozen there is no answer.
            assert shell.run("stat -c %a /srv/wick", timeout=1).text == "666\n"
    shell.close()
    stage.environment.stop((session.id,))
    assert stage.engine.remains(session.id) == []


def test_a_doubted_tool_is_probe_trouble(whole: Stage, lamp: Session) -> None:
    shell = whole.environment.trusted(lamp, "web")
    with pytest.raises(ProbeFailed):
        shell.run("kill -KILL $(sh -c 'echo $PPID')")
    shell.close()
