"""Begins a lab: copies ``lab/`` and ``grader/`` beside this file to where a new lab belongs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from breakfix.errors import UsageError

HERE: Final = Path(__file__).parent
NAME: Final = re.compile(r"[a-z][a-z0-9-]*/[a-z][a-z0-9-]*")


def write(root: Path, lab: str) -> tuple[Path, ...]:
    """Write a lab's first files below ``root``; return them.  Raises UsageError, and overwrites nothing."""
    if not NAME.fullmatch(lab):
        raise UsageError(f"{lab!r} is no name for a lab", next_step="Give TRACK/NAME: small letters, digits, dashes.")
    targets = {HERE / "lab": root / "labs" / lab, HERE / "grader": root / "graders" / lab}
    for target in targets.values():
        if target.exists():
            raise UsageError(f"{target} is there already", next_step="Choose another name.")
    return tuple(path for source, target in targets.items() for path in _copy(source, target))


def _copy(source: Path, target: Path) -> list[Path]:
    written = []
    for path in sorted(one for one in source.rglob("*") if one.is_file() and "__pycache__" not in one.parts):
        # The grader's source is kept under another name here, or pytest would take it for a test of ours.
        relative = path.relative_to(source).as_posix().replace("lab_tests.py", "test_lab.py")
        destination = target / relative
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.write_bytes(path.read_bytes())
        written.append(destination)
    return written
