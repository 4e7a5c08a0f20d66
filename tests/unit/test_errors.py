"""The tree in the docstring is the tree, and every error says what, why and what next."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from breakfix import errors
from breakfix.errors import BreakfixError, InvalidLab, Problem

CODES = {"UsageError": 2, "NotReady": 3, "CannotGrade": 4}


def drawn() -> dict[str, str]:
    """Return each class of the docstring's drawing with the class above it."""
    above: list[str] = []
    tree: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ((?:│   |    )*)(?:[├└]── )?([A-Z]\w+)(?:\s|$)", line)
        if not found:
            continue
        depth = len(found[1]) // 4 + ("── " in line)
        del above[depth:]
        tree[found[2]] = above[-1] if above else "Exception"
        above.append(found[2])
    return tree


def real() -> dict[str, str]:
    classes = (one for _, one in inspect.getmembers(errors, inspect.isclass))
    return {one.__name__: one.__bases__[0].__name__ for one in classes if issubclass(one, BreakfixError)}


def test_the_drawn_tree_is_the_real_one() -> None:
    assert drawn() == real()
    assert len(drawn()) > 10


def test_the_drawn_exit_codes_are_the_real_ones() -> None:
    said = dict(re.findall(r"(\w+) +exit (\d)", errors.__doc__ or ""))
    assert {name: int(code) for name, code in said.items()} == CODES
    for name, code in CODES.items():
        top = getattr(errors, name)
        below = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, top)]
        assert {one.exit_code for one in below} == {code}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(real()))
def test_every_error_says_in_one_line_what_it_is(name: str) -> None:
    assert (getattr(errors, name).__doc__ or "").strip()


def test_an_error_reads_as_the_lines_it_has() -> None:
    assert str(BreakfixError("what", why="why", next_step="next")) == "what\nwhy\nnext"
    assert str(BreakfixError("what", next_step="next")) == "what\nnext"
    assert str(BreakfixError("what")) == "what"


def test_an_invalid_lab_carries_every_problem_in_order() -> None:
    second, first = Problem(Path("b/lab.toml"), 2, "two"), Problem(Path("a/lab.toml"), 10, "one")
    error = InvalidLab((second, first))
    assert error.problems == (second, first)
    assert error.what == "2 problems in the labs"
    assert error.why == "a/lab.toml:10: one\nb/lab.toml:2: two"
    assert InvalidLab((first,)).what == "1 problem in the labs"


def test_problems_sort_by_line_as_a_number() -> None:
    path = Path("lab.toml")
    assert min(Problem(path, 10, "a"), Problem(path, 9, "b")).line == 9
