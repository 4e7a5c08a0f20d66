"""The arithmetic of a grade: whatever happened, the total stands and the score is within it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breakfix import model
from breakfix.model import Check, Completed, Grade, Lab, Look, Outcome, Result

if TYPE_CHECKING:
    from breakfix.model import Variant

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
POINTS = st.lists(st.integers(0, 100), max_size=12)
OUTCOMES = st.sampled_from(Outcome)


def grade(points: list[int], outcomes: list[Outcome], cost: int = 0) -> Grade:
    checks = [Check(f"test_{n}", f"Check {n}", one, "linux.services") for n, one in enumerate(points)]
    results = tuple(
        Result(check, outcome, Look.FIRST, "", "", AT, 0.1) for check, outcome in zip(checks, outcomes, strict=True)
    )
    return Grade("linux/toy", "A toy", 1, "s-1", results, AT, 1.0, 0.5, hint_cost=cost)


@st.composite
def grades(draw: st.DrawFn) -> Grade:
    points = draw(POINTS)
    outcomes = draw(st.lists(OUTCOMES, min_size=len(points), max_size=len(points)))
    return grade(points, outcomes, draw(st.integers(0, 300)))


@given(grades())
def test_the_total_is_every_point_whatever_became_of_it(made: Grade) -> None:
    assert made.total == sum(one.check.points for one in made.results)
    for outcome in Outcome:
        all_alike = replace(made, results=tuple(replace(one, outcome=outcome) for one in made.results))
        assert all_alike.total == made.total


@given(grades())
def test_a_score_is_never_below_zero_nor_above_the_total(made: Grade) -> None:
    assert 0 <= made.score <= made.earned <= made.total
    assert made.earned == sum(one.check.points for one in made.of(Outcome.PASSED))


@given(grades())
def test_a_grade_cannot_be_made_iff_a_check_could_not(made: Grade) -> None:
    errors = [one for one in made.results if one.outcome is Outcome.ERROR]
    assert made.gradable == (not errors and bool(made.results))
    assert made.of(Outcome.ERROR) == tuple(errors)


@given(grades())
def test_everything_passed_means_all_points(made: Grade) -> None:
    if made.passed:
        assert made.gradable
        assert made.earned == made.total
    else:
        assert not made.results or any(one.outcome is not Outcome.PASSED for one in made.results)


@given(grades(), st.data())
def test_a_crash_shrinks_no_denominator(made: Grade, data: st.DataObject) -> None:
    if not made.results:
        return
    index = data.draw(st.integers(0, len(made.results) - 1))
    crashed = replace(made.results[index], outcome=Outcome.ERROR)
    after = replace(made, results=(*made.results[:index], crashed, *made.results[index + 1 :]))
    assert after.total == made.total
    assert after.earned <= made.earned
    assert not after.gradable
    assert not after.passed


def test_an_empty_grade_is_no_pass() -> None:
    empty = grade([], [])
    assert not empty.passed
    assert not empty.gradable
    assert (empty.total, empty.score) == (0, 0)


@pytest.mark.parametrize(
    ("cost", "score"), [(0, 60), (15, 45), (60, 0), (61, 0)], ids=["free", "paid", "all gone", "no debt"]
)
def test_hints_are_paid_out_of_what_was_earned(cost: int, score: int) -> None:
    made = grade([60, 40], [Outcome.PASSED, Outcome.FAILED], cost)
    assert (made.earned, made.score, made.total) == (60, score, 100)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.SKIPPED, Outcome.ERROR])
def test_only_a_pass_earns(outcome: Outcome) -> None:
    assert grade([50], [outcome]).earned == 0
    assert grade([50], [Outcome.PASSED]).earned == 50


def test_every_type_is_frozen(variant: Variant) -> None:
    types = [one for one in vars(model).values() if is_dataclass(one) and one.__module__ == model.__name__]
    assert len(types) > 8
    for one in types:
        assert vars(one)["__dataclass_params__"].frozen, one
    with pytest.raises(FrozenInstanceError):
        variant.seed = 2  # type: ignore[misc]


def test_a_lab_knows_its_parts(variant: Variant) -> None:
    lab = replace(variant.lab, id="linux/disk-full", folder=Path("labs/linux/disk-full"))
    assert (lab.track, lab.name, lab.setup) == ("linux", "disk-full", Path("labs/linux/disk-full/setup"))
    assert "id" in {one.name for one in fields(Lab)}


def test_a_variant_is_read_by_name_and_says_what_it_has(variant: Variant) -> None:
    assert variant.service == variant.values["service"]
    with pytest.raises(AttributeError, match=r"no variant 'colour' \(it has: port, service\)"):
        _ = variant.colour
    with pytest.raises(AttributeError, match=r"it has: none"):
        _ = replace(variant, values={}).colour


def test_output_that_is_no_text_can_still_be_read() -> None:
    done = Completed("cat", 0, b"caf\xe9\n", b"\xff", 0.1)
    assert done.text == "caf\ufffd\n"
    assert done.error_text == "\ufffd"
    assert done.stdout == b"caf\xe9\n"
