"""The candidate disturbs the grading while it goes on: noticed, looked again or an error, and never a pass by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from breakfix.errors import CannotGrade, CommandTimedOut, ProbeFailed
from breakfix.model import Outcome
from stage import outcomes, told, until

if TYPE_CHECKING:
    from breakfix.model import Grade, Session
    from stage import Stage

pytestmark = pytest.mark.engine

DAEMON = "cat >/opt/daemon.py <<'EOF'\n{program}\nEOF\nsetsid python3 /opt/daemon.py >/var/daemon.log 2>&1 </dev/null &\nsleep 0.1\n"
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
CHILD = "here in ('find', 'stat', 'cat', 'busybox', 'grep')"


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
    assert made is None or (not made.passed and Outcome.PASSED not in outcomes(made).values()), told(made) if made else ""
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


@pytest.mark.parametrize("signal", ["SIGKILL", "SIGTERM", "SIGSEGV"])
def test_a_search_that_is_killed_is_not_an_empty_answer(stage: Stage, whole: Stage, lamp: Session, signal: str) -> None:
    stage.do(lamp, hunter(6, CHILD, signal, 0))
    shell = whole.environment.trusted(lamp, "web")
    with pytest.raises((CannotGrade, AssertionError)):
        # It takes long enough to be caught: a grader would read "nothing was found" out of its silence.
        done = shell.run("find / /usr /usr /usr /usr /usr -xdev -name wick", timeout=30)
        assert done.stdout.count(b"/srv") == 0
        assert "wick" not in done.text
        assert done.exit_status == 0, "the search was ended, and says so"
    assert shell.integrity
    shell.close()
    until(lambda: "daemon.py" not in stage.candidate(lamp, "ps -A -o args").text, 30)


def test_a_shell_without_room_for_processes_is_an_error(stage: Stage) -> None:
    session = stage.start("lamp")
    solve_but_for_the_wick(stage, session)
    # As many processes as fit, for a while; each ends by itself.
    crowd = (
        "import os, time\n"
        "end = time.monotonic() + 25\n"
        "while time.monotonic() < end:\n"
        "    try:\n"
        "        if not os.fork():\n"
        "            time.sleep(max(0, end - time.monotonic())); os._exit(0)\n"
        "    except OSError:\n"
        "        time.sleep(0.005)\n"
    )
    stage.do(session, DAEMON.format(program=crowd))
    full = "cat /sys/fs/cgroup/pids/breakfix-*/*/pids.current /sys/fs/cgroup/pids.current 2>/dev/null"
    made = grade(stage, session)
    assert made is None or (not made.gradable and not made.passed), told(made) + full
    assert made is None or outcomes(made)["test_wick_is_private"] is not Outcome.PASSED


def test_what_cannot_start_is_no_answer(stage: Stage) -> None:
    session = stage.start("pair")
    shell = stage.environment.trusted(session, "db")
    shell.run("true")
    crowd = "import os, time\nfor _ in range(80):\n    try:\n        if not os.fork(): time.sleep(8); os._exit(0)\n    except OSError: pass\ntime.sleep(8)"
    stage.candidate(session, DAEMON.format(program=crowd), "db")
    with pytest.raises(CannotGrade):
        done = shell.run("find /srv | cat | cat")
        assert "/srv" not in done.text, "there was room after all"
        raise AssertionError(done)
    shell.close()


def test_a_mend_that_is_undone_after_the_look_does_not_hold(stage: Stage) -> None:
    session = stage.start("lamp")
    stage.solve(session)
    service = stage.service(session)
    port = int(stage.variant(session).port)
    # Answers well three times, then takes the port for itself.
    undo = (
        "import http.server, os, subprocess, time\n"
        "wick = open('/srv/wick', 'rb').read()\n"
        "class Turncoat(http.server.BaseHTTPRequestHandler):\n"
        "    count = 0\n"
        "    def do_GET(self):\n"
        "        Turncoat.count += 1\n"
        "        self.send_response(200 if Turncoat.count <= 2 else 503); self.end_headers()\n"
        "        self.wfile.write(wick if Turncoat.count <= 2 else b'gone')\n"
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


@pytest.mark.parametrize("file", ["/etc/passwd", "/etc/group"])
def test_a_pipe_where_the_engine_reads_a_file_is_an_error_soon(stage: Stage, file: str) -> None:
    session = stage.start("lamp")
    solve_but_for_the_wick(stage, session)
    stage.do(session, f"mv {file} {file}.real; mkfifo {file}")
    made = grade(stage, session)
    assert made is None or not made.passed
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
    hog = "import time\nx = []\ntry:\n    while True: x.append(bytearray(1 << 20)); time.sleep(0.01) if len(x) > 100 else None\nexcept MemoryError: time.sleep(20)"
    stage.candidate(session, f"echo 1000 >/proc/$$/oom_score_adj; {DAEMON.format(program=hog)}")
    made = grade(stage, session)
    assert made is None or outcomes(made)["test_wick_is_private"] is not Outcome.PASSED


def test_a_frozen_grading_shell_is_an_error(stage: Stage) -> None:
    session = stage.start("lamp")
    shell = stage.environment.trusted(session, "web")
    shell.run("true")
    freeze = "for f in $(find /sys/fs/cgroup/unified/breakfix-* -maxdepth 1 -name cgroup.freeze); do echo 1 >$f; done"
    done = stage.candidate(session, f"{freeze}; ls $(find /sys/fs/cgroup/unified -name cgroup.freeze | head -n 1)", timeout=10) if (
        stage.candidate(session, "ls -d /sys/fs/cgroup/unified/breakfix-*").exit_status == 0
    ) else None
    try:
        answered = shell.run("echo on", timeout=2).text
    except CannotGrade:
        answered = ""
    assert answered in {"", "on\n"}
    assert done is None or done.exit_status is not None
    stage.environment.stop((session.id,))
    assert stage.engine.remains(session.id) == []


def test_a_doubted_tool_is_probe_trouble(whole: Stage, lamp: Session) -> None:
    shell = whole.environment.trusted(lamp, "web")
    with pytest.raises(ProbeFailed):
        shell.run("kill -KILL $(sh -c 'echo $PPID')")
    shell.close()
