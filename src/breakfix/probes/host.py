"""testinfra over our own shells: the grader's language, with stock testinfra's traps closed.

- A host that cannot be asked raises HostUnreachable or CommandTimedOut, so that "it is not there" is never read out of
  "we could not look".
- Every command has a deadline.
- A tool that is missing from the toolbox is trouble of ours (ProbeFailed), not an answer.
- The trusted shell runs no file of the host: a command that begins with a path outside the toolbox is refused.
"""

from __future__ import annotations

import re
import shlex
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

from breakfix.errors import ProbeFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from breakfix.environments import Shell

NOT_FOUND: Final = 127
TOOLBOX: Final = "/toolbox/"
OPERATORS: Final = "();|&\n"
BEFORE_A_COMMAND: Final = re.compile(
    r"[A-Za-z_]\w*=.*|[!{]|then|do|else|if|elif|while|until|exec|env|xargs|nohup|setsid"
)
DEADLINE: Final = 10.0
"""Seconds that a command may take where the grader names no other deadline."""


class ShellBackend(BaseBackend):
    """Runs testinfra's commands in one open shell."""

    NAME = "breakfix"

    def __init__(self, name: str, shell: Shell, *, trusted: bool) -> None:
        super().__init__(name)
        # Asking a host for its encoding would run a Python of its own.
        self._encoding = "UTF-8"
        self._shell = shell
        self._trusted = trusted

    def run(self, command: str, *args: str, timeout: float = DEADLINE, **_: Any) -> CommandResult:  # noqa: ANN401
        """Run ``command``, each ``%s`` in it replaced by one quoted argument."""
        line = self.get_command(command, *args)
        if self._trusted:
            _refuse_files_of_the_host(line)
        done = self._shell.run(line, timeout)
        if self._trusted and done.exit_status == NOT_FOUND:
            raise ProbeFailed(
                f"the toolbox has no such tool: {done.error_text.strip()}", why=f"The command was: {line}"
            )
        return self.result(done.exit_status, line.encode(), done.stdout, done.stderr)

    def decode(self, data: bytes) -> str:
        """Decode what a host printed; a byte that is no UTF-8 must not end a grade."""
        return data.decode("utf-8", errors="replace")


def connect(name: str, shell: Shell, *, trusted: bool) -> Host:
    """Return a testinfra host that speaks through ``shell``.  Not testinfra's ``get_host``: that caches for ever."""
    backend = ShellBackend(name, shell, trusted=trusted)
    host = Host(backend)
    backend.set_host(host)
    return host


def _refuse_files_of_the_host(line: str) -> None:
    """A guard for authors, not against candidates: the trusted shell's capabilities are cut down besides."""
    for word in _commands(line):
        if word.startswith(("/", "./", "~")) and not word.startswith(TOOLBOX):
            raise ProbeFailed(
                f"the trusted shell was told to run {word}, a file of the host",
                why="Whoever owns the host decides what that file does.",
                next_step="Use the fixture `plain` for the host's own programs, and never let it alone decide points.",
            )


def _commands(line: str) -> Iterator[str]:
    """Yield the word that each command of a shell's line begins with, as far as one sees without being a shell."""
    words = shlex.shlex(line, posix=True, punctuation_chars=OPERATORS)
    words.whitespace, words.commenters, words.whitespace_split = " \t\r", "", True
    begins = True
    with suppress(ValueError):  # a quote without its end: the shell itself will say so
        for word in words:
            if begins and word.strip(OPERATORS):
                yield word
            begins = not word.strip(OPERATORS) or (begins and bool(BEFORE_A_COMMAND.fullmatch(word)))
