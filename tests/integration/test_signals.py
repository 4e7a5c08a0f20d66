"""A start that is interrupted leaves nothing, whenever that happens; one that is killed leaves what stop removes."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from breakfix.engine.client import connect
from tests.stage import quiet, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.stage import Stage

pytestmark = pytest.mark.engine

# What the start says before the signal is sent, and how long after that.
MOMENTS = (
    ("", 0.0),
    ("", 0.35),
    ("creating hosts", 0.0),
    ("creating hosts", 0.15),
    ("booting", 0.0),
    ("booting", 0.3),
    ("making the world", 0.0),
    ("breaking it", 0.0),
    ("proving that it is broken", 0.0),
)
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Ended:
    """How an interrupted start ended."""

    status: int
    said: str
    left: list[str]


def start(stage: Stage, owner: str, *words: str) -> subprocess.Popen[str]:
    # Where these tests run in a shell's background, SIGINT is ignored from birth until breakfix listens to it.
    return subprocess.Popen(
        stage.command(*(words or ("start", "lamp"))), preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        env=stage.variables(owner), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@contextmanager
def killed_at_last(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Let nothing that a test began outlive it."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def hear(process: subprocess.Popen[str], step: str, heard: list[str]) -> None:
    assert process.stderr is not None
    while step:
        line = process.stderr.readline()
        heard.append(line)
        assert line, f"it ended before {step!r}: {heard}"
        if step in line:
            return


def groups() -> set[str]:
    """Return the sessions of the lab that have control groups on this machine."""
    return {path.name for path in Path("/sys/fs/cgroup").glob("*/breakfix-lamp-*")}


def interrupt(stage: Stage, owner: str, number: int, moment: tuple[str, float], again: str = "") -> Ended:
    step, delay = moment
    heard: list[str] = []
    with killed_at_last(start(stage, owner)) as process:
        hear(process, step, heard)
        time.sleep(delay)
        process.send_signal(number)
        if again:
            hear(process, again, heard)
            process.send_signal(number)
        out, err = process.communicate(timeout=90)
    left = [one.id for one in stage.environment.sessions(owner) if one.owner == owner]
    return Ended(process.returncode, "".join(heard) + out + err, left)


Key = tuple[int, tuple[str, float]]


@pytest.fixture(scope="module")
def before() -> set[str]:
    """Return what was there before the first start: not ours to judge."""
    return groups()


@pytest.fixture(scope="module")
def ended(whole: Stage, before: set[str]) -> Iterator[dict[Key, Future[Ended]]]:
    """Interrupt starts at every moment, a few at a time."""
    whole.environment.prepare(whole.lab("lamp"), lambda _: None)
    with ThreadPoolExecutor(3) as pool:
        yield {
            (number, moment): pool.submit(interrupt, whole, f"{whole.owner}-{number}-{turn}", number, moment)
            for number in SIGNALS
            for turn, moment in enumerate(MOMENTS)
        }


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda one: f"{one[0] or 'at once'}+{one[1]}")
@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupted_start_leaves_nothing(
    whole: Stage, ended: dict[Key, Future[Ended]], number: int, moment: tuple[str, float]
) -> None:
    one = ended[number, moment].result()
    assert one.left == [], one.said
    assert one.status != 0, one.said
    if moment[0]:
        assert one.status == 130, one.said
        assert "interrupted" in one.said
        assert "Traceback" not in one.said


def test_no_interrupted_start_leaves_a_control_group(
    whole: Stage, before: set[str], ended: dict[Key, Future[Ended]]
) -> None:
    for future in ended.values():
        future.result()

    def strays() -> set[str]:
        found = groups()
        return found - before - {f"breakfix-{one.id}" for one in whole.environment.sessions()}

    # Another run of these tests on the same machine may be starting or stopping the same lab right now.
    until(lambda: not strays(), 30)


def test_a_second_interrupt_does_not_stop_the_cleaning(whole: Stage) -> None:
    for number in SIGNALS:
        one = interrupt(whole, f"{whole.owner}-twice-{number}", number, ("booting", 0.1), again="cleaning up")
        assert one.left == [], one.said
        assert one.status == 130, one.said


@pytest.mark.parametrize("number", SIGNALS)
def test_a_self_test_that_is_ended_alone_leaves_nothing(whole: Stage, number: int) -> None:
    # A terminal tells its whole group; whoever ends one process, the proofs in their own as well.
    owner = f"{whole.owner}-selftest-{number}"
    # One at a time: the pool has handed the second proof out already when the first is interrupted.
    with killed_at_last(start(whole, owner, "selftest", "lamp", "--seeds", "1,2,3", "--jobs", "1")) as process:
        until(lambda: [one for one in whole.environment.sessions(owner) if one.owner == owner], 60)
        process.send_signal(number)
        out, err = process.communicate(timeout=90)
    assert [one.id for one in whole.environment.sessions(owner) if one.owner == owner] == [], out + err
    assert process.returncode == 130, out + err


def test_a_killed_start_is_listed_and_can_be_removed(whole: Stage) -> None:
    owner = f"{whole.owner}-killed"
    process = start(whole, owner)
    heard: list[str] = []
    hear(process, "making the world", heard)
    process.kill()
    process.wait()
    listed = json.loads(whole.cli("sessions", "-o", "json", owner=owner).stdout)["sessions"]
    mine = [one for one in listed if one["lab"] == "testbed/lamp"]
    assert [one["state"] for one in mine] == ["incomplete"]
    session_id = mine[0]["id"]
    assert whole.engine.remains(session_id)
    refused = whole.cli("grade", session_id, owner=owner)
    assert refused.returncode == 2
    assert f"breakfix stop {session_id}" in refused.stderr
    done = whole.cli("stop", session_id, owner=owner)
    assert done.returncode == 0, done.stderr
    assert whole.engine.remains(session_id) == []


def test_an_interrupted_stop_can_be_repeated(whole: Stage) -> None:
    session = whole.start("pair")
    process = subprocess.Popen(
        whole.command("stop", session.id), env=whole.variables(), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    timer = threading.Timer(0.6, process.send_signal, [signal.SIGINT])
    timer.start()
    process.wait(60)
    timer.join()
    whole.environment.stop((session.id,))
    assert whole.engine.remains(session.id) == []


def test_what_is_still_being_made_when_the_signal_comes_is_removed_too(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Seen once: one container was made after everything else had been removed.
    api = connect()
    create: Callable[..., object] = api.create_container

    def slowly(*arguments: object, **more: object) -> object:
        time.sleep(1.0)
        return create(*arguments, **more)

    def interrupt_us(*_: object) -> None:
        raise KeyboardInterrupt

    lab, session_id = stage.lab("pair"), stage.new_id("pair")
    stage.environment.prepare(lab, quiet)
    monkeypatch.setattr(api, "create_container", slowly)
    before = signal.signal(signal.SIGALRM, interrupt_us)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.6)
        with pytest.raises(KeyboardInterrupt):
            stage.environment.create(lab, 1, session_id, stage.owner)
        stage.environment.stop((session_id,))
    finally:
        signal.signal(signal.SIGALRM, before)
    time.sleep(1.5)
    assert stage.environment.leftovers(session_id) == ()
