"""The command line: the only place that prints, and that decides exit codes.

0 passed; 1 checks failed; 2 usage or an invalid lab; 3 the environment is not ready; 4 could not be graded.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

from breakfix.cli import interrupts

INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    # What is imported is never garbage; looking for it again and again takes a tenth of the time of a `list`.
    gc.set_threshold(100_000, 50, 50)
    interrupts.listen()
    try:
        code = _run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has gone: `breakfix list | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    # typer makes an exit code of an interrupt; a shell that was left with the same code is none.
    if code == INTERRUPTED and interrupts.heard:
        print("interrupted; nothing of what was begun is left", file=sys.stderr)  # noqa: T201
    sys.exit(code)


def _run() -> int:
    # pydantic would read the metadata of every installed package to find plugins: a tenth of the time of a `list`.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    from breakfix.cli.app import run  # noqa: PLC0415  # after the signal handler stands

    return run()
