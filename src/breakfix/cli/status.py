"""The page that says which labs are proven, on which seeds, and for which files that was so.

A row keeps what an earlier run proved for as long as the lab's files are the same: their digest stands in it.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING

from breakfix.proving import attempts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from breakfix.model import Lab
    from breakfix.proving import Verdict

HEAD = """\
# Status of the labs

Written by `breakfix selftest --status docs/lab-status.md`. A seed stands in *proven* once all five proofs were made
on it with the files that *files* is the digest of; a test fails where the page speaks of other files.

| lab | level | minutes | solutions | cheats | seeds | proven | files |
|---|---|---|---|---|---|---|---|
"""
ROW = re.compile(r"^\| (?P<lab>\S+) \|.*\| (?P<proven>[\d, ]*) \| (?P<digest>[0-9a-f]{12}) \|$", re.MULTILINE)


def page(labs: Sequence[Lab], verdicts: Sequence[Verdict], before: str) -> str:
    """Return the page after a run; ``before`` is the page as it was, or empty."""
    return HEAD + "".join(_row(lab, verdicts, before) for lab in sorted(labs, key=lambda one: one.id))


def proven(text: str) -> dict[str, tuple[str, set[int]]]:
    """Return what a page says: the digest and the proven seeds of each lab."""
    return {
        row["lab"]: (row["digest"], {int(seed) for seed in row["proven"].split(",") if seed.strip()})
        for row in ROW.finditer(text)
    }


def digest(lab: Lab) -> str:
    """Return what stands for all files of a lab and its grader, names and content."""
    whole = sha256()
    for folder in (lab.folder, lab.grader):
        for path in sorted(folder.rglob("*")) if folder else ():
            if path.is_file() and "__pycache__" not in path.parts:
                whole.update(f"{_relative(path, folder)}\0".encode() + path.read_bytes())
    return whole.hexdigest()[:12]


def _relative(path: Path, folder: Path | None) -> str:
    return path.relative_to(folder).as_posix() if folder else path.name


def _row(lab: Lab, verdicts: Sequence[Verdict], before: str) -> str:
    now = digest(lab)
    earlier, seeds = proven(before).get(lab.id, ("", set()))
    mine = {one.seed: one.proven for one in verdicts if one.lab == lab.id}
    held = {seed for seed in seeds if earlier == now and mine.get(seed, True)} | {s for s, ok in mine.items() if ok}
    counts = " | ".join(str(len(attempts(lab, kind))) for kind in ("solutions", "cheats"))
    return f"| {lab.id} | {lab.level} | {lab.minutes} | {counts} | {_list(lab.seeds)} | {_list(held)} | {now} |\n"


def _list(seeds: Sequence[int] | set[int]) -> str:
    return ", ".join(str(seed) for seed in sorted(seeds))
