"""Connects this terminal to a shell in a container, without the engine's own command line program."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import tty
from typing import TYPE_CHECKING, Any

from breakfix.engine.shell import connection_of

if TYPE_CHECKING:
    from docker import APIClient


def attach(api: APIClient, container: str, argv: list[str]) -> int:
    """Run ``argv`` in the container on this terminal until it ends; return its exit status."""
    new = api.exec_create(
        container, argv, stdin=True, tty=True, environment={"TERM": os.environ.get("TERM", "xterm"), "HOME": "/root"}
    )["Id"]
    stream = api.exec_start(new, tty=True, socket=True)
    _talk(api, new, connection_of(stream))
    return int(api.exec_inspect(new)["ExitCode"] or 0)


def _talk(api: APIClient, exec_id: str, connection: Any) -> None:  # noqa: ANN401  # a socket, or a TLS one
    def resize(*_: object) -> None:
        size = shutil.get_terminal_size()
        api.exec_resize(exec_id, height=size.lines, width=size.columns)

    before = termios.tcgetattr(sys.stdin)
    previous = signal.signal(signal.SIGWINCH, resize)
    try:
        tty.setraw(sys.stdin)
        resize()
        _copy(connection)
    finally:
        signal.signal(signal.SIGWINCH, previous)
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _copy(connection: Any) -> None:  # noqa: ANN401  # a socket, or a TLS one
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    sources = [connection, keyboard]
    while connection in sources:
        ready, _, _ = select.select(sources, [], [])
        if connection in ready:
            data = connection.recv(1 << 16)
            if not data:
                return
            os.write(screen, data)
        if keyboard in ready:
            typed = os.read(keyboard, 1 << 12)
            if typed:
                connection.sendall(typed)
            else:
                sources.remove(keyboard)
