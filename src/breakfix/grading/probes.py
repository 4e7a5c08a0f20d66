"""The shells of one look into a session, opened when first asked for and closed together."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from threading import Thread
from typing import TYPE_CHECKING, Any, Self

from breakfix.environments import ClusterEnvironment
from breakfix.errors import BreakfixError, GraderFailed
from breakfix.model import CLUSTER

if TYPE_CHECKING:
    from testinfra.backend.base import CommandResult
    from testinfra.host import Host

    from breakfix.environments import Environment, Shell
    from breakfix.model import Session
    from breakfix.probes.cloud import Cloud
    from breakfix.probes.cluster import Cluster
    from breakfix.probes.terraform import TerraformProbe

CLIENT = "client"
CLOUD = "cloud"
"""What the host of a lab is called that runs docker/cloud."""
WORKBENCH = "workbench"
"""The image of sandboxes: tofu and its providers as the candidate has them."""
MOST_TAKEN = 64 << 20
"""Bytes of a folder with all that tools left in it."""


class Probes:
    """Everything that one looks with.  A context manager: its end closes every shell."""

    def __init__(self, environment: Environment, session: Session) -> None:
        self._environment = environment
        self._session = session
        self._shells: dict[tuple[str, str], Shell] = {}
        self._plain: dict[str, Host] = {}
        self._opening: list[Thread] = []

    def open_ahead(self, *places: str) -> None:
        """Open the client's shell or the trusted ones of hosts, by name, while somebody else does something else.

        Each takes as long as a hundred commands in it.  What goes wrong here goes wrong again where it is told.
        """
        with suppress(BreakfixError):
            for place in places:
                shell = self.client_shell() if place == CLIENT else self.trusted_shell(place)
                thread = Thread(target=_open, args=(shell,), daemon=True)
                thread.start()
                self._opening.append(thread)

    def trusted_shell(self, host: str) -> Shell:
        """Return the shell in a host that the candidate can neither trace nor feed."""
        return self._kept("trusted", host)

    def plain_shell(self, host: str) -> Shell:
        """Return a shell with a host's own tools."""
        return self._kept("plain", host)

    def author_shell(self, place: str) -> Shell:
        """Return the shell in which the lab's author makes and breaks the world of a host or of the cluster."""
        return self.trusted_shell(CLUSTER) if place == CLUSTER else self.plain_shell(place)

    def client_shell(self) -> Shell:
        """Return the shell in the container beside."""
        return self._kept("client", CLIENT)

    def _kept(self, kind: str, host: str) -> Shell:
        if (kind, host) not in self._shells:
            environment, session = self._environment, self._session
            if kind == "client":
                opened = environment.client(session)
            elif kind == "sandbox":
                opened = environment.sandbox(session, host)
            else:
                opened = (environment.trusted if kind == "trusted" else environment.plain)(session, host)
            self._shells[kind, host] = opened
        return self._shells[kind, host]

    @cached_property
    def hosts(self) -> dict[str, Host]:
        """Every host by name, through its trusted shell."""
        return {name: _connect(name, self.trusted_shell(name), trusted=True) for name in self._session.hosts}

    @cached_property
    def client(self) -> Host:
        """The container beside: what a user of the system would see."""
        return _connect(CLIENT, self.client_shell(), trusted=False)

    def plain(self, command: str, *args: str, host: str | None = None, **more: Any) -> CommandResult:  # noqa: ANN401
        """Run a command with a host's own tools.  Low trust: the candidate decides what those do."""
        name = host or next(iter(self._session.hosts))
        if name not in self._plain:
            self._plain[name] = _connect(name, self.plain_shell(name), trusted=False)
        result: CommandResult = self._plain[name].run(command, *args, **more)
        return result

    @cached_property
    def cluster(self) -> Cluster:
        """The session's part of a cluster.  Raises GraderFailed where it has none."""
        from breakfix.cluster import own  # noqa: PLC0415
        from breakfix.probes.cluster import Cluster  # noqa: PLC0415  # the kubernetes client is heavy

        if not isinstance(self._environment, ClusterEnvironment):
            raise GraderFailed(f"{self._session.lab} has no cluster")
        whole = own.is_own(self._session.cluster)
        api = self._environment.api(self._session)
        return Cluster(api, self._session.namespaces, self._inside, whole=whole)

    def _inside(self, namespace: str, pod: str) -> Host:
        assert isinstance(self._environment, ClusterEnvironment)  # noqa: S101  # the cluster asks, so there is one
        key = (f"inside {namespace}", pod)
        if key not in self._shells:
            self._shells[key] = self._environment.inside(self._session, namespace, pod)
        return _connect(pod, self._shells[key], trusted=False)

    @cached_property
    def terraform(self) -> TerraformProbe:
        """Configurations of the candidate's, each tried in a sandbox."""
        from breakfix.probes.terraform import TerraformProbe  # noqa: PLC0415  # only where a grader asks

        return TerraformProbe(self._take, self._sandbox)

    def _take(self, host: str, path: str) -> bytes:
        try:
            return self._environment.take(self._session, host, path, MOST_TAKEN)
        except FileNotFoundError:
            raise AssertionError(f"there is no {path} on {host}") from None
        except OverflowError:
            raise AssertionError(f"{path} on {host} has more than {MOST_TAKEN >> 20} MiB") from None

    def _sandbox(self) -> Shell:
        return self._kept("sandbox", WORKBENCH)

    @cached_property
    def cloud(self) -> Cloud:
        """The lab's cloud, through its administrator's door.  Raises GraderFailed where it has none."""
        from breakfix.probes.cloud import Cloud  # noqa: PLC0415  # only where a grader asks

        if CLOUD not in self._session.hosts:
            raise GraderFailed(f"{self._session.lab} has no host called {CLOUD}")
        return Cloud(self.trusted_shell(CLOUD))

    @property
    def integrity(self) -> tuple[str, ...]:
        """What was done to our shells."""
        return tuple(event for shell in self._shells.values() for event in shell.integrity)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._opening:
            thread.join()
        for shell in self._shells.values():
            shell.close()


def _open(shell: Shell) -> None:
    with suppress(BreakfixError):
        shell.open()


def _connect(name: str, shell: Shell, *, trusted: bool) -> Host:
    from breakfix.probes import host  # noqa: PLC0415  # testinfra is heavy

    return host.connect(name, shell, trusted=trusted)
