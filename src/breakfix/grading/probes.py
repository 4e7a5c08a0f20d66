"""The shells of one look into a session, opened when first asked for and closed together."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testinfra.backend.base import CommandResult
    from testinfra.host import Host

    from breakfix.environments import Environment, Shell
    from breakfix.model import Session


class Probes:
    """Everything a grader may look with."""

    def __init__(self, environment: Environment, session: Session) -> None:
        self._environment = environment
        self._session = session
        self._shells: list[Shell] = []
        self._plain: dict[str, Host] = {}

    @cached_property
    def hosts(self) -> dict[str, Host]:
        """Every host by name, through its trusted shell."""
        names = self._session.hosts
        return {name: self._connect(name, self._environment.trusted(self._session, name)) for name in names}

    @cached_property
    def client(self) -> Host:
        """The container beside: what a user of the system would see."""
        return self._connect("client", self._environment.client(self._session), trusted=False)

    def plain(self, command: str, *args: str, host: str | None = None, **more: Any) -> CommandResult:  # noqa: ANN401
        """Run a command with a host's own tools.  Low trust: the candidate decides what those do."""
        name = host or next(iter(self._session.hosts))
        if name not in self._plain:
            self._plain[name] = self._connect(name, self._environment.plain(self._session, name), trusted=False)
        result: CommandResult = self._plain[name].run(command, *args, **more)
        return result

    def _connect(self, name: str, shell: Shell, *, trusted: bool = True) -> Host:
        from breakfix.probes import host  # noqa: PLC0415  # testinfra is heavy

        self._shells.append(shell)
        return host.connect(name, shell, trusted=trusted)

    @property
    def integrity(self) -> tuple[str, ...]:
        """What was done to our shells."""
        return tuple(event for shell in self._shells for event in shell.integrity)

    def close(self) -> None:
        """Close every shell."""
        for shell in self._shells:
            shell.close()
