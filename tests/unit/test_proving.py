"""The self-test itself is tested: each of the five proofs, failing alone, makes a lab not proven."""

from __future__ import annotations

import re
import signal
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from breakfix import proving, sessions
from breakfix.errors import HostUnreachable, NotReady, UsageError
from breakfix.grading.probes import Probes
from breakfix.grading.runner import grade
from breakfix.model import Check, Grade, Look, Outcome, Result
from breakfix.proving import Finding, Proof, Verdict, attempts, prove

if TYPE_CHECKING:
    from breakfix.environments import Environment
    from breakfix.model import Lab, Session
    from tests.unit.conftest import FakeEnvironment, MakeLab

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
GRADER = """
@check(points=60, skill="linux.services")
def test_a(client):
    assert client.run("check a").rc == 0
@check(points=40, skill="linux.services", needs="test_a")
def test_b(client):
    assert client.run("check b").rc == 0
"""


class World:
    """What the fake hosts do: attempts mend ``a`` and ``b``; checks ask whether they are mended."""

    def __init__(self, environment: FakeEnvironment) -> None:
        self.environment = environment
        self.mended: set[str] = set()
        self.untouched: set[str] = set()
        environment.answer = self.answer
        environment.on["create"] = self.begin
        self.starts = 0

    def begin(self) -> None:
        self.starts += 1
        self.mended = set(self.untouched)

    def answer(self, _where: str, command: str) -> tuple[int, str, str]:
        if command.startswith("check "):
            return int(command[-1] not in self.mended), "", ""
        self.mended |= set(re.findall(r"^mend (\w)$", command, re.MULTILINE))
        return int("fail now" in command), "", ""


CHECKS = (Check("test_a", "A", 60, "linux.services"), Check("test_b", "B", 40, "linux.services", ("test_a",)))


def quick(environment: Environment, session: Session, lab: Lab, _tell: object, *, restart: bool = True) -> Grade:
    """Grade as GRADER does, without pytest: these tests grade a hundred times."""
    results: list[Result] = []
    with Probes(environment, session) as probes:
        for check in CHECKS:
            outcome, seen = ask(probes, f"check {check.name[-1]}")
            if check.needs and results[0].outcome is not Outcome.PASSED:
                outcome = Outcome.SKIPPED
            results.append(Result(check, outcome, Look.FIRST, "0", seen, AT, 0.0))
        integrity = probes.integrity
    assert restart is not None
    return Grade(lab.id, lab.title, session.seed, session.id, tuple(results), AT, 0.0, 0.0, integrity=integrity)


def ask(probes: Probes, command: str) -> tuple[Outcome, str]:
    try:
        status = probes.client_shell().run(command).exit_status
    except HostUnreachable as error:
        return Outcome.ERROR, str(error)
    return (Outcome.FAILED if status else Outcome.PASSED), str(status)


@pytest.fixture
def world(environment: FakeEnvironment, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(proving, "grade", quick)
    return World(environment)


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    made = make_lab(GRADER)
    (made.setup / "symptom.sh").write_text("true\n", encoding="utf-8")
    assert made.grader is not None
    for path, text in {
        "solutions/one.sh": "mend a\nmend b\n",
        "solutions/two.sh": "mend b\nmend a\n",
        "cheats/half.sh": "# fails: test_b\nmend a\n",
        "cheats/none.sh": "# fails: test_a\n",
    }.items():
        write(made, path, text)
    return made


def write(lab: Lab, path: str, text: str) -> None:
    assert lab.grader is not None
    (lab.grader / path).parent.mkdir(parents=True, exist_ok=True)
    (lab.grader / path).write_text(text, encoding="utf-8")


def run(world: World, lab: Lab) -> Verdict:
    return prove(world.environment, lab, 1, lambda _: None)


def test_each_thing_that_is_tried_is_told(world: World, lab: Lab) -> None:
    told: list[str] = []
    verdict = prove(world.environment, lab, 1, told.append)
    assert told[0].startswith("started in ")
    # That nothing is left behind is only known when all is over, and stands in the verdict.
    assert told[1:] == [
        f"{'' if one.proof == one.subject else f'{one.proof} '}{one.subject}: {'ok' if one.ok else one.detail}"
        for one in verdict.findings[:-1]
    ]
    assert len(told) > 4


def bad(verdict: Verdict) -> list[tuple[str, str]]:
    return [(one.proof.value, one.subject) for one in verdict.findings if not one.ok]


def test_a_lab_that_holds_is_proven(world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "grade", grade)
    verdict = run(world, lab)
    assert bad(verdict) == []
    assert verdict.proven
    assert [(one.proof.value, one.subject) for one in verdict.findings] == [
        ("untouched", "untouched"), ("solutions", "one"), ("solutions", "two"), ("reset", "reset"),
        ("cheats", "half"), ("cheats", "none"), ("clean", "stop"),
    ]  # fmt: skip
    assert (verdict.lab, verdict.seed) == ("linux/toy", 1)
    assert verdict.of(Proof.SOLUTIONS)[0].detail == "100 of 100 points"
    assert world.starts == 6
    assert world.environment.running == {}


def test_points_for_nothing_are_not_proven(world: World, lab: Lab) -> None:
    world.untouched = {"a"}
    verdict = run(world, lab)
    assert not verdict.proven
    assert bad(verdict)[0] == ("untouched", "untouched")
    assert verdict.findings[0].detail.startswith("60 of 100 points")


def test_points_for_nothing_the_first_time_alone_are_not_proven(world: World, lab: Lab) -> None:
    world.untouched = {"a"}
    world.environment.on["stop"] = world.untouched.clear
    assert bad(run(world, lab)) == [("untouched", "untouched")]


def test_a_solution_that_leaves_points_is_not_proven(world: World, lab: Lab) -> None:
    write(lab, "solutions/two.sh", "mend a\n")
    verdict = run(world, lab)
    assert not verdict.proven
    assert bad(verdict) == [("solutions", "two")]
    assert "failed test_b" in verdict.of(Proof.SOLUTIONS)[1].detail


def test_a_solution_that_breaks_is_not_proven(world: World, lab: Lab) -> None:
    write(lab, "solutions/two.sh", "mend a\nmend b\nfail now\n")
    verdict = run(world, lab)
    assert bad(verdict) == [("solutions", "two")]
    assert "two.sh failed on web" in verdict.of(Proof.SOLUTIONS)[1].detail


def test_a_solution_that_touches_the_grading_is_not_proven(world: World, lab: Lab) -> None:
    def answer(where: str, command: str) -> tuple[int, str, str]:
        if "mend b\nmend a" in command:
            world.environment.on["client"] = lambda: None
            poisoned.append(1)
        if poisoned and command.startswith("check") and len(poisoned) == 1:
            world.environment.shells[-1].integrity.append("web: killed")
            poisoned.append(2)
        return world.answer(where, command)

    poisoned: list[int] = []
    world.environment.answer = answer
    assert bad(run(world, lab)) == [("solutions", "two")]


def test_a_cheat_that_gets_away_is_not_proven(world: World, lab: Lab) -> None:
    write(lab, "cheats/half.sh", "# fails: test_b\nmend a\nmend b\n")
    verdict = run(world, lab)
    assert not verdict.proven
    assert bad(verdict) == [("cheats", "half")]
    assert verdict.of(Proof.CHEATS)[0].detail.startswith("failed nothing; must fail ['test_b']")


@pytest.mark.parametrize("names", ["test_b", "test_a test_b", "test_of_nothing", ""])
def test_a_cheat_must_fail_on_what_it_names(world: World, lab: Lab, names: str) -> None:
    # It fails test_a, so test_b is skipped: that is no failure of test_b.
    write(lab, "cheats/none.sh", f"# fails: {names}\n")
    assert bad(run(world, lab)) == [("cheats", "none")]


def test_a_cheat_that_names_nothing_is_not_proven(world: World, lab: Lab) -> None:
    write(lab, "cheats/none.sh", "true\n")
    assert bad(run(world, lab)) == [("cheats", "none")]


def test_a_cheat_that_breaks_before_it_cheats_is_not_proven(world: World, lab: Lab) -> None:
    write(lab, "cheats/none.sh", "# fails: test_a\nfail now\n")
    assert bad(run(world, lab)) == [("cheats", "none")]


def test_a_reset_that_keeps_something_is_not_proven(world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin() -> None:
        world.starts += 1
        world.mended = {"a"} if world.starts == 4 else set()

    world.environment.on["create"] = begin
    verdict = run(world, lab)
    assert not verdict.proven
    assert bad(verdict) == [("reset", "reset")]


def test_what_is_left_behind_is_not_proven(world: World, lab: Lab) -> None:
    world.environment.left = ("volume x",)
    verdict = run(world, lab)
    assert not verdict.proven
    assert bad(verdict) == [("clean", "stop")]
    assert verdict.of(Proof.CLEAN)[0].detail == "volume x"


def test_an_engine_that_cannot_say_what_is_left_proves_nothing(world: World, lab: Lab) -> None:
    world.environment.fail["leftovers"] = NotReady("engine gone")
    assert bad(run(world, lab)) == [("clean", "stop")]


@pytest.mark.parametrize("kind", ["solutions", "cheats"])
def test_a_lab_without_solutions_or_cheats_is_not_proven(world: World, lab: Lab, kind: str) -> None:
    for one in attempts(lab, kind):
        one.scripts[0][1].unlink()
    verdict = run(world, lab)
    assert bad(verdict) == []
    assert not verdict.proven


def test_a_lab_that_does_not_start_is_a_finding(world: World, lab: Lab) -> None:
    world.environment.fail["boot"] = NotReady("no engine")
    verdict = run(world, lab)
    assert not verdict.proven
    assert ("untouched", "start", "no engine") in [(one.proof, one.subject, one.detail) for one in verdict.findings]
    assert world.environment.running == {}


def test_what_could_not_be_graded_proves_nothing(world: World, lab: Lab) -> None:
    answer = world.answer

    def dead(where: str, command: str) -> tuple[int, str, str]:
        if command == "check a":
            raise HostUnreachable("dead")
        return answer(where, command)

    world.environment.answer = dead
    assert {proof for proof, _ in bad(run(world, lab))} == {"untouched", "solutions", "reset", "cheats"}


@pytest.mark.parametrize("step", ["create", "boot", "client", "mark_ready"])
def test_ctrl_c_ends_it_and_leaves_nothing(world: World, lab: Lab, step: str) -> None:
    world.environment.fail[step] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run(world, lab)
    assert world.environment.running == {}


def test_what_is_told_to_end_while_it_cleans_up_cleans_up_first(world: World, lab: Lab) -> None:
    # Seen at a pool of which one process was idle: it died, and the pool ended the others a second time.
    def end(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    world.environment.on["stop"] = lambda: signal.raise_signal(signal.SIGTERM)
    try:
        with pytest.raises(KeyboardInterrupt):
            proving._clean(world.environment, sessions.start(world.environment, lab, 1, lambda _: None).session.id)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert world.environment.running == {}


def test_ctrl_c_in_the_midst_of_a_check_ends_it_too(world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "grade", grade)

    def answer(_where: str, command: str) -> tuple[int, str, str]:
        if command == "check b":
            raise KeyboardInterrupt
        return world.answer(_where, command)

    world.environment.answer = answer
    with pytest.raises(KeyboardInterrupt):
        run(world, lab)
    assert world.environment.running == {}


@pytest.mark.parametrize("missing", Proof)
def test_four_proofs_are_not_five(missing: Proof) -> None:
    findings = [Finding(proof, "x", ok=True, detail="") for proof in Proof]
    assert Verdict("linux/toy", 1, tuple(findings), 1.0).proven
    assert not Verdict("linux/toy", 1, tuple(one for one in findings if one.proof is not missing), 1.0).proven
    spoiled = (Finding(missing, "y", ok=False, detail=""), *findings)
    assert not Verdict("linux/toy", 1, spoiled, 1.0).proven


# -- attempts ----------------------------------------------------------------------------------------------------------


def test_attempts_are_scripts_and_folders_of_scripts(lab: Lab) -> None:
    write(lab, "cheats/both/10-web.sh.j2", "# fails: test_a, test_b\n")
    write(lab, "cheats/both/2-db.sh", "# fails: test_c\n")
    write(lab, "cheats/README.md", "not one")
    both = attempts(lab, "cheats")[0]
    assert [one.name for one in attempts(lab, "cheats")] == ["both", "half", "none"]
    assert [(host, path.name) for host, path in both.scripts] == [("db", "2-db.sh"), ("web", "10-web.sh.j2")]
    assert both.must_fail == ("test_c", "test_a", "test_b")


def test_a_script_runs_on_the_first_host(lab: Lab, world: World) -> None:
    started = sessions.start(world.environment, lab, 1, lambda _: None).session
    world.environment.asked.clear()
    proving.perform(world.environment, started, lab, attempts(lab, "solutions")[0])
    assert [where for where, _, _ in world.environment.asked] == ["plain:web"]
    assert world.mended == {"a", "b"}


def test_without_a_grader_there_is_nothing_to_prove(make_lab: MakeLab) -> None:
    with pytest.raises(UsageError, match="has no grader here"):
        attempts(replace(make_lab(), grader=None), "solutions")
