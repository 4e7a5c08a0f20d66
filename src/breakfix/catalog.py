"""Finds the labs below one or more roots, and reports every problem of every lab at once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from breakfix.errors import InvalidLab, Problem, UnknownLab, UsageError
from breakfix.model import Lab  # noqa: TC001  # a field of a frozen dataclass

LABS_SETTING = "BREAKFIX_LABS"
"""Environment variable: further roots of labs, separated as in PATH."""


@dataclass(frozen=True, slots=True)
class Root:
    """A folder of labs, and the folder with their graders beside it."""

    labs: Path
    graders: Path


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every lab that could be read, by id, and what is wrong with the rest."""

    labs: dict[str, Lab]
    problems: tuple[Problem, ...]

    def find(self, name: str) -> Lab:
        """Return the lab with this id or unique last part.  Raises UnknownLab, InvalidLab."""
        if name in self.labs:
            return self.labs[name]
        matches = [lab for lab in self.labs.values() if lab.name == name]
        if len(matches) == 1:
            return matches[0]
        if broken := tuple(p for p in self.problems if p.path.parent.name == name.rpartition("/")[2]):
            raise InvalidLab(broken)
        raise _unknown(name, matches, tuple(self.labs.values()))


def _unknown(name: str, matches: list[Lab], labs: tuple[Lab, ...]) -> UnknownLab:
    from difflib import get_close_matches  # noqa: PLC0415  # only on the way to an error

    if matches:
        return UnknownLab(
            f"{name!r} is the name of {len(matches)} labs",
            next_step="Type one of: " + ", ".join(lab.id for lab in matches),
        )
    close = get_close_matches(name, [lab.name for lab in labs], n=3, cutoff=0.45)
    hint = f"Did you mean {', '.join(close)}?  " if close else ""
    return UnknownLab(f"no lab is called {name!r}", next_step=f"{hint}`breakfix list` shows them all.")


def bundle() -> Path:
    """Return the folder that holds our labs/, graders/ and docker/: in the wheel, or the top of a checkout."""
    packaged = Path(__file__).parent / "_bundle"
    return packaged if packaged.is_dir() else Path(__file__).parents[2]


def roots(extra: tuple[Path, ...] = ()) -> tuple[Root, ...]:
    """Return our own root, those of the setting, and ``extra``: each a folder with labs/ and graders/ in it.

    Raises UsageError where a folder that somebody named has no labs/.
    """
    named = (*extra, *(Path(part) for part in os.environ.get(LABS_SETTING, "").split(os.pathsep) if part))
    for folder in named:
        if not (folder / "labs").is_dir():
            raise UsageError(
                f"{folder} has no labs",
                why="A root of labs is a folder with labs/ (and, to grade, graders/) in it.",
                next_step="Give the folder above labs/, or make a first lab there: breakfix --labs DIR new TRACK/NAME",
            )
    # A folder may be named twice, in the setting and on the command line.
    once = {folder.resolve(): folder for folder in (bundle(), *named)}
    return tuple(Root(folder / "labs", folder / "graders") for folder in once.values())


def load(search: tuple[Root, ...]) -> Catalog:
    """Read every lab below ``search``.  A broken lab is a problem, not an exception: the others still work."""
    from breakfix.lab_format import parse  # noqa: PLC0415  # pydantic is heavy

    labs: dict[str, Lab] = {}
    problems: list[Problem] = []
    for root in search:
        for path in sorted(root.labs.glob("*/*/lab.toml")):
            lab_id = f"{path.parent.parent.name}/{path.parent.name}"
            grader = root.graders / lab_id
            lab, wrong = parse(path, lab_id, grader if grader.is_dir() else None)
            problems += wrong
            if lab and lab_id in labs:
                problems.append(Problem(path, 1, f"{lab_id} is in {labs[lab_id].folder} already"))
            elif lab:
                labs[lab_id] = lab
    return Catalog(labs, tuple(problems))
