"""Runs the commands that make clusters, and tells their steps as they take them."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING, Final

from breakfix.errors import NotReady

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

LONGEST: Final = 300
"""Seconds to end in once it has closed its error output."""
# kind marks its steps with signs, k3d with the level and the seconds since it began.
MARKS: Final = re.compile(r"^(?:\w+\[\d+\]|[ \u2713\u2022\u2717])+")


def run(name: str, command: Path, arguments: Iterable[str], tell: Callable[[str], None]) -> str:
    """Run a command to its end and return its output.  Raises NotReady with its last words."""
    wanted = [str(command), *arguments]
    process = subprocess.Popen(  # noqa: S603
        wanted, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "NO_COLOR": "1"}, start_new_session=True,
    )  # fmt: skip
    said: list[str] = []
    try:
        assert process.stderr is not None  # noqa: S101
        for line in process.stderr:
            said.append(line.strip())
            if step := MARKS.sub("", said[-1]).strip():
                tell(f"{name}: {step[:60]}")
        out, _ = process.communicate(timeout=LONGEST)
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode:
        why = "\n".join(said[-8:])
        raise NotReady(f"{name} {' '.join(wanted[1:3])} failed", why=why, next_step="breakfix doctor")
    return out
