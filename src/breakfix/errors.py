"""Everything that breakfix raises on purpose.

::

    BreakfixError                    has a message, a reason and a next step
    ├── UsageError                   exit 2: the command line asks for something that is not there
    │   ├── UnknownLab
    │   ├── UnknownSession
    │   └── InvalidLab               a lab or grader breaks its format; carries every problem at once
    ├── NotReady                     exit 3: this machine or engine cannot do it now
    │   ├── EngineUnavailable
    │   ├── ImageBuildFailed
    │   └── StartFailed              a session could not be proven broken; nothing is left behind
    └── CannotGrade                  exit 4: trouble of ours, never a candidate's failure
        ├── HostUnreachable          the host is dead, or its trusted shell was cut off
        ├── CommandTimedOut          a command of ours had no answer before its deadline
        ├── ProbeFailed              a tool of ours is missing or broke
        └── GraderFailed             the lab's answer key itself is broken

``AssertionError`` is not in the tree: in a grader it is a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003


class BreakfixError(Exception):
    """What happened, why, and what to type next."""

    exit_code = 2

    def __init__(self, what: str, *, why: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.next_step = next_step

    def __str__(self) -> str:
        """Join what is known into the lines that a person reads."""
        return "\n".join(part for part in (self.what, self.why, self.next_step) if part)


class UsageError(BreakfixError):
    """The command line asks for something that is not there."""


class UnknownLab(UsageError):
    """No lab has this name, or more than one has."""


class UnknownSession(UsageError):
    """No session matches, or more than one does."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong in one file."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        """Format as editors and CI expect it: ``file:line: message``."""
        return f"{self.path}:{self.line}: {self.message}"


class InvalidLab(UsageError):
    """Labs or graders break their format."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        count = len(problems)
        super().__init__(
            f"{count} problem{'s' if count != 1 else ''} in the labs",
            why="\n".join(str(problem) for problem in sorted(problems)),
            next_step="docs/authoring.md describes the format; `breakfix lint` checks it.",
        )
        self.problems = problems


class NotReady(BreakfixError):
    """This machine or engine cannot do it now."""

    exit_code = 3


class EngineUnavailable(NotReady):
    """No container engine answers."""


class ImageBuildFailed(NotReady):
    """An image of ours could not be made."""


class StartFailed(NotReady):
    """A session could not be brought to its proven broken state."""


class CannotGrade(BreakfixError):
    """We could not look.  Never a candidate's failure."""

    exit_code = 4


class HostUnreachable(CannotGrade):
    """The host is dead, or its trusted shell was cut off."""


class CommandTimedOut(CannotGrade):
    """A command of ours had no answer before its deadline."""


class ProbeFailed(CannotGrade):
    """A tool of ours is missing or broke."""


class GraderFailed(CannotGrade):
    """The lab's answer key itself is broken."""
