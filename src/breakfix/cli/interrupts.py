"""Makes an exception of the signals that end a command, whatever its process was born to ignore."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn

heard: list[int] = []
"""The signals that this process has been sent."""


def listen() -> None:
    """Raise KeyboardInterrupt in the main thread at SIGINT and SIGTERM from now on."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    heard.append(number)
    raise KeyboardInterrupt
