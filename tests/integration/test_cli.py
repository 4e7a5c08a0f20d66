"""What a candidate types, on a real engine, as processes of their own."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.stage import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from breakfix.model import Session
    from tests.stage import Stage

pytestmark = pytest.mark.engine


class Person:
    """Somebody with a name of their own at the command line."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage = stage
        self.owner = f"{stage.owner}-{name}"

    def types(self, *words: str, exits: int = 0) -> str:
        done = self.stage.cli(*words, owner=self.owner)
        assert done.returncode == exits, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def asks(self, *words: str, exits: int = 0) -> Any:  # noqa: ANN401  # JSON
        done = self.stage.cli(*words, "-o", "json", owner=self.owner)
        assert done.returncode == exits, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def starts(self, lab: str, *more: str) -> Session:
        started = self.asks("start", lab, *more)["session"]["id"]
        return next(one for one in self.sessions() if one.id == started)

    def sessions(self) -> tuple[Session, ...]:
        return tuple(one for one in self.stage.environment.sessions(self.owner) if one.owner == self.owner)


@pytest.fixture
def person(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Person]:
    one = Person(stage, str(abs(hash(request.node.name)))[:6])
    yield one
    if left := one.sessions():
        stage.environment.stop(tuple(session.id for session in left))


def points(report: Any) -> tuple[int, int]:  # noqa: ANN401  # JSON
    """Return earned and total of a report, whatever else it says."""
    text = json.dumps(report)
    assert "test_it_burns" in text or "answers" in text
    grade = report.get("grade", report.get("report", report))
    return int(grade["score"]), int(grade["total"])


def test_a_lab_from_start_to_stop(person: Person, stage: Stage) -> None:
    assert "No session runs" in person.types("sessions")
    assert "does not answer" in person.types("show", "lamp")
    session = person.starts("lamp")
    listed = person.asks("sessions")["sessions"]
    assert [(one["id"], one["lab"], one["state"]) for one in listed] == [(session.id, "testbed/lamp", "ready")]

    red = person.asks("grade", exits=1)
    assert points(red) == (0, 100)
    assert "after a pass" in person.types("debrief", exits=2)
    stage.solve(session)
    assert points(person.asks("grade")) == (100, 100)
    assert "lit = no" in person.types("debrief", "lamp")
    assert "100" in person.types("report")

    assert "--yes" in person.types("hint")
    assert "Ask the service" in person.types("hint", "--yes")
    assert points(person.asks("grade", session.id)) == (95, 100)

    assert session.id in person.types("reset", session.id)
    assert person.asks("grade", exits=1)
    assert session.id in person.types("stop", session.id)
    assert person.sessions() == ()
    assert stage.engine.remains(session.id) == []
    person.types("grade", exits=2)
    person.types("stop", exits=2)
    assert "No session runs" in person.types("stop", "--all")


def test_what_is_not_there_is_a_usage_error(person: Person) -> None:
    assert "lamp" in person.types("start", "lmap", exits=2)
    person.types("start", exits=2)
    person.types("grade", "nothing-of-mine", exits=2)
    person.types("shell", "nothing-of-mine", exits=2)
    person.types("--labs", "/nowhere", "list", exits=2)


def test_a_dead_host_cannot_be_graded(person: Person, stage: Stage) -> None:
    session = person.starts("lamp")
    stage.engine.remove(session, "web")
    said = person.types("grade", exits=4)
    assert "FAILED" not in said.upper() or "could not" in said.lower()
    person.types("stop", session.id)


def test_a_session_that_the_engine_stopped_goes_on(person: Person, stage: Stage) -> None:
    session = person.starts("lamp")
    stage.solve(session)
    stage.engine.stop(session, "web")
    assert person.asks("sessions")["sessions"][0]["state"] == "stopped"
    assert points(person.asks("grade")) == (100, 100)


def test_a_start_that_proves_nothing_is_undone(person: Person, stage: Stage) -> None:
    done = stage.cli("start", "whole", owner=person.owner)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "could not be proven" in done.stderr
    assert "as if nothing had happened" in done.stderr
    assert person.sessions() == ()


def test_two_sessions_of_one_lab_side_by_side(person: Person, stage: Stage) -> None:
    first, second = person.starts("lamp", "--seed", "1"), person.starts("lamp", "--seed", "2")
    assert (first.seed, second.seed) == (1, 2)
    assert "2 sessions match" in person.types("grade", "lamp", exits=2)
    person.types("grade", exits=2)
    stage.solve(second)
    assert points(person.asks("grade", second.id)) == (100, 100)
    assert points(person.asks("grade", first.id, exits=1)) == (0, 100)
    person.types("stop", first.id)
    assert [one.id for one in person.sessions()] == [second.id]
    assert points(person.asks("grade", "lamp")) == (100, 100)


def test_stop_all_stops_only_mine(stage: Stage) -> None:
    mine, other = Person(stage, "mine"), Person(stage, "other")
    try:
        first, second, theirs = mine.starts("pair"), mine.starts("pair"), other.starts("pair")
        said = mine.types("stop", "--all")
        assert first.id in said
        assert second.id in said
        assert mine.sessions() == ()
        assert [one.id for one in other.sessions()] == [theirs.id]
        assert stage.engine.remains(first.id) == stage.engine.remains(second.id) == []
    finally:
        stage.environment.stop(tuple(one.id for one in (*mine.sessions(), *other.sessions())))


class Terminal:
    """A command of ours on a pseudo terminal."""

    def __init__(self, person: Person, *words: str) -> None:
        self.screen = b""
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            person.stage.command(*words),
            env=person.stage.variables(person.owner), stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        )  # fmt: skip
        os.close(slave)

    def read(self, seconds: float) -> bool:
        """Read what there is; return False at the end."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:
            return False
        self.screen += data
        return bool(data)

    def until(self, text: bytes, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.screen:
            assert time.monotonic() < deadline, self.screen
            assert self.read(0.2), self.screen

    def types(self, text: str) -> None:
        os.write(self._master, text.encode())

    def ends(self, seconds: float = 60.0) -> int:
        deadline = time.monotonic() + seconds
        while self.read(0.1) and self.process.poll() is None:
            assert time.monotonic() < deadline, self.screen
        return self.process.wait(10)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for one in opened:
        one.close()


def test_a_shell_and_a_watch_on_a_terminal(person: Person, stage: Stage, terminals: list[Terminal]) -> None:
    session = person.starts("lamp")
    shell = Terminal(person, "shell", session.id)
    terminals.append(shell)
    shell.until(b"# ")
    shell.types("echo answer-$((40 + 2)); hostname; tty\n")
    shell.until(b"answer-42\r\n")
    shell.until(b"/dev/pts/")
    shell.types("exit 7\n")
    assert shell.ends() == 7

    watch = Terminal(person, "watch", session.id)
    terminals.append(watch)
    watch.until(b"The service answers", 60)
    stage.solve(session)
    watch.until(b"Everything holds", 90)
    assert watch.ends() == 0


def test_a_start_on_a_terminal_opens_a_shell(person: Person, terminals: list[Terminal]) -> None:
    terminal = Terminal(person, "start", "lamp")
    terminals.append(terminal)
    terminal.until(b"# ", 90)
    terminal.types("echo inside-$((1 + 1)); exit\n")
    terminal.until(b"inside-2")
    terminal.until(b"The session goes on")
    assert terminal.ends() == 0
    assert len(person.sessions()) == 1


def test_what_is_piped_away_leaves_a_session(person: Person, stage: Stage) -> None:
    line = subprocess.list2cmdline(["list"])
    done = subprocess.run(
        ["sh", "-c", '"$@" | head -n 1', "sh", *stage.command(line)],
        env=stage.variables(person.owner), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    until(lambda: True)
