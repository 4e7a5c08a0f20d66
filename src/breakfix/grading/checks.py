"""The two decorators of a grader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from breakfix.model import Check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from breakfix.model import JsonValue

Function = TypeVar("Function", bound="Callable[..., None]")
Recorder = TypeVar("Recorder", bound="Callable[..., dict[str, JsonValue]]")

MARK: Final = "__breakfix_check__"
BASELINE_MARK: Final = "__breakfix_baseline__"


def check(
    *, points: int, skill: str, needs: str | Iterable[str] = (), stable_for: float = 0.0
) -> Callable[[Function], Function]:
    """Make a test function a check: one question with points and a skill.

    The docstring is the line that the candidate reads.  ``assert`` gives the verdict; whatever else is raised is an
    error of ours.  Every check of a lab together gives 100 points.

    needs
        Names of checks that stand above this one.  Where one of them did not pass, this one is skipped and earns
        nothing.  A guard ("nothing was lost") needs the outcome that it guards, or doing nothing would earn points.
    stable_for
        Seconds over which the check must hold without a break.  All such checks are watched at the same time.
    """
    names = (needs,) if isinstance(needs, str) else tuple(needs)

    def mark(function: Function) -> Function:
        title = " ".join((function.__doc__ or function.__name__).split()).rstrip(".")
        setattr(function, MARK, Check(function.__name__, title, points, skill, names, float(stable_for)))
        return function

    return mark


def baseline(function: Recorder) -> Recorder:
    """Run this function once, when the world is made and not yet broken; graders read its answer as ``baseline``.

    It takes the fixtures ``lab``, ``host``, ``hosts``, ``client`` by name, and returns what JSON can hold.
    """
    setattr(function, BASELINE_MARK, True)
    return function


def declared(function: Any) -> Check | None:  # noqa: ANN401  # whatever pytest collected
    """Return what ``check`` noted on a function; None where it did not."""
    found: Check | None = getattr(function, MARK, None)
    return found
