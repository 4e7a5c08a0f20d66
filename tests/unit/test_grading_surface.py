"""What the author of a lab may rely on: the two decorators, and the fixtures that the docs name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from _pytest.fixtures import FixtureFunctionDefinition

import breakfix.grading
from breakfix.grading import baseline, check
from breakfix.grading.checks import BASELINE_MARK, declared
from breakfix.grading.plugin import GradingPlugin
from breakfix.model import Check, JsonValue

DOCS = (Path(__file__).parents[2] / "docs/authoring.md").read_text(encoding="utf-8")


def test_the_surface_is_two_decorators() -> None:
    assert breakfix.grading.__all__ == ["baseline", "check"]
    assert all(getattr(breakfix.grading, name).__doc__ for name in breakfix.grading.__all__)


def test_the_docs_list_the_fixtures_that_there_are() -> None:
    table = DOCS.partition("| fixture |")[2].partition("\n\n")[0]
    listed = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)", row.split("|")[1])}
    fixtures = {name for name, one in vars(GradingPlugin).items() if isinstance(one, FixtureFunctionDefinition)}
    assert listed == fixtures
    assert len(fixtures) == 9


def test_the_docs_show_a_grader_that_works() -> None:
    (shown,) = [block for block in re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL) if "@check" in block]
    names: dict[str, object] = {}
    exec(compile(shown, "docs/authoring.md", "exec"), names)  # noqa: S102  # our own docs
    checks = [found for found in map(declared, names.values()) if found]
    assert [one.points for one in checks] == [60, 40]
    assert checks[1].needs == ("test_it_answers",)
    assert getattr(names["accepted"], BASELINE_MARK)


def test_a_check_is_what_was_declared() -> None:
    @check(points=30, skill="linux.services", needs="test_a", stable_for=2)
    def test_it() -> None:
        """It works,
        and goes on to."""

    expected = Check("test_it", "It works, and goes on to", 30, "linux.services", ("test_a",), 2.0)
    assert declared(test_it) == expected


@pytest.mark.parametrize(
    ("needs", "kept"), [("test_a", ("test_a",)), (["test_a", "test_b"], ("test_a", "test_b")), ((), ())]
)
def test_needs_are_names(needs: str | list[str], kept: tuple[str, ...]) -> None:
    @check(points=1, skill="linux.services", needs=needs)
    def test_it() -> None: ...

    found = declared(test_it)
    assert found is not None
    assert found.needs == kept
    assert found.title == "test_it"


def test_a_function_stays_what_it_is() -> None:
    @check(points=1, skill="linux.services")
    def test_it(number: int) -> None:
        assert number == 1

    @baseline
    def seen() -> dict[str, JsonValue]:
        return {"n": 1}

    test_it(1)
    with pytest.raises(AssertionError):
        test_it(2)
    assert seen() == {"n": 1}
    assert declared(seen) is None
    assert declared(None) is None
