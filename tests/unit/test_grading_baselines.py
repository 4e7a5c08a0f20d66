"""What is noted before the fault is set: JSON or a clear word about the grader, never a guess."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from breakfix.errors import GraderFailed, HostUnreachable
from breakfix.grading import baselines
from breakfix.grading.probes import Probes
from breakfix.grading.runner import record_baseline
from breakfix.variants import draw

if TYPE_CHECKING:
    from collections.abc import Callable

    from breakfix.model import JsonValue, Session
    from tests.unit.conftest import FakeEnvironment, MakeLab

    Record = Callable[[str], dict[str, JsonValue]]


@pytest.fixture
def record(environment: FakeEnvironment, session: Session, make_lab: MakeLab) -> Record:
    def run(grader: str) -> dict[str, JsonValue]:
        variant = draw(make_lab(grader), session.seed, session.hosts, session.network)
        with Probes(environment, session) as probes:
            return record_baseline(variant, probes)

    return run


def test_what_the_function_saw_is_noted(record: Record, environment: FakeEnvironment) -> None:
    environment.answer = lambda where, command: (0, f"{where} {command}", "")
    seen = record("""
@baseline
def seen(lab, host, hosts, client, plain):
    asked = [host.run("a"), hosts["db"].run("b"), client.run("c"), plain("d")]
    return {"seed": lab.seed, "said": tuple(one.stdout for one in asked)}
""")
    assert seen == {"seed": 1, "said": ["trusted:web a", "trusted:db b", "client c", "plain:web d"]}
    assert all(shell.closed for shell in environment.shells)


@pytest.mark.parametrize(
    "grader", ["", "x = 1\n", "@check(points=1, skill='linux.services')\ndef test_a():\n    pass\n"]
)
def test_without_a_baseline_nothing_is_noted_or_asked(
    record: Record, environment: FakeEnvironment, grader: str
) -> None:
    assert record(grader) == {}
    assert environment.shells == []


def test_a_grader_without_a_baseline_is_not_even_imported(record: Record) -> None:
    assert record("1 / 0\n") == {}


def test_without_a_grader_nothing_is_noted(environment: FakeEnvironment, session: Session, make_lab: MakeLab) -> None:
    lab = replace(make_lab(), grader=None)
    with Probes(environment, session) as probes:
        assert record_baseline(draw(lab, 1), probes) == {}


@pytest.mark.parametrize(
    ("grader", "message"),
    [
        ("@baseline\ndef seen(baseline):\n    return {}\n", "seen asks for baseline, which a baseline does not have"),
        ("@baseline\ndef seen():\n    return {'x': object()}\n", "Object of type object is not JSON serializable"),
        ("@baseline\ndef seen():\n    return {}['x']\n", "KeyError: 'x'"),
        ("@baseline\ndef seen():\n    return None\n", "seen returned no dictionary"),
        ("@baseline\ndef seen():\n    return [1]\n", "seen returned no dictionary"),
        ("1 / 0\n@baseline\ndef seen():\n    return {}\n", "ZeroDivisionError"),
        ("@baseline\ndef seen(:\n", "SyntaxError"),
        ("import nothing_of_this_name\n# @baseline\n", "No module named 'nothing_of_this_name'"),
    ],
)
def test_a_broken_baseline_is_a_broken_grader(record: Record, grader: str, message: str) -> None:
    with pytest.raises(GraderFailed) as caught:
        record(grader)
    assert message in str(caught.value)


def test_a_world_that_is_still_coming_up_is_asked_again(record: Record) -> None:
    grader = """
asked = []
@baseline
def seen():
    asked.append(1)
    assert len(asked) > 3
    return {"n": len(asked)}
"""
    assert record(grader) == {"n": 4}


def test_a_world_that_never_comes_up_is_told(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "WORLD_UP", 0.05)
    with pytest.raises(GraderFailed, match="the baseline could not be taken") as caught:
        record("@baseline\ndef seen():\n    raise AssertionError('not up')\n")
    assert caught.value.why == "not up"


def test_a_host_that_cannot_be_asked_stays_what_it_is(record: Record, environment: FakeEnvironment) -> None:
    environment.fail["client"] = HostUnreachable("dead")
    with pytest.raises(HostUnreachable, match="dead"):
        record("@baseline\ndef seen(client):\n    return {}\n")
