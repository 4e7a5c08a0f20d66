"""What runs a lab.  One file for each kind, found by its name; all pass the one contract suite in tests/contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from breakfix.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from breakfix.cluster.api import Api
    from breakfix.model import Completed, Event, JsonValue, Lab, Session


class Shell(Protocol):
    """A shell that is kept open in a session.  Safe to use from several threads; commands run one at a time."""

    integrity: list[str]
    """What was done to this shell from the other side: stopped, killed."""

    def run(self, command: str, timeout: float = 10.0) -> Completed:
        """Run ``command`` with an empty standard input.

        Raises CommandTimedOut after ``timeout`` seconds, when the command's children are dead too;
        HostUnreachable where the host is; ProbeFailed where the output is beyond all measure.
        """
        ...

    def open(self) -> None:
        """Open it now, so that the first command need not.  Raises HostUnreachable."""
        ...

    def close(self) -> None:
        """End the shell.  Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that this machine can or cannot do, and what to do about it."""

    name: str
    ok: bool
    found: str
    advice: str = ""
    facts: dict[str, JsonValue] = field(default_factory=dict)


class Environment(Protocol):
    """Runs sessions.  Keeps no state of its own: what runs is read back from labels."""

    def examine(self) -> tuple[Capability, ...]:
        """Say what this machine can do.  Never raises."""
        ...

    def prepare(self, lab: Lab, tell: Callable[[str], None]) -> None:
        """Check what ``lab`` needs and build what is missing.  Raises NotReady."""
        ...

    def create(self, lab: Lab, seed: int, session_id: str, owner: str) -> Session:
        """Make the session's hosts and network, not yet running.  Raises NotReady."""
        ...

    def put(self, session: Session, host: str, files: dict[str, tuple[bytes, int]]) -> None:
        """Write files (absolute path to content and mode), owned by root, into a host that may not run yet."""
        ...

    def boot(self, session: Session) -> None:
        """Start the hosts and wait until each is up.  Raises StartFailed."""
        ...

    def mark_ready(self, session: Session, baseline: dict[str, JsonValue]) -> Session:
        """Note, out of the candidate's reach, that the session is proven broken.  Returns it as it is now."""
        ...

    def restart(self, session: Session) -> None:
        """Restart every host as a reboot would, and wait until each is up.  Raises HostUnreachable."""
        ...

    def resume(self, session: Session) -> None:
        """Start the hosts of a session that the engine stopped, as after its own restart."""
        ...

    def trusted(self, session: Session, host: str) -> Shell:
        """Open a shell that the candidate can neither trace nor feed: the toolbox alone decides what runs."""
        ...

    def plain(self, session: Session, host: str) -> Shell:
        """Open a shell with the host's own tools, as the candidate has it.  Low trust."""
        ...

    def client(self, session: Session) -> Shell:
        """Open a shell beside the hosts, on their network, in a container that nobody else enters."""
        ...

    def take(self, session: Session, host: str, path: str, most: int) -> bytes:
        """Return a folder of a host as a tar archive, as the engine sees it: nothing in the host is asked.

        What lies on mounts is not in it.  Raises FileNotFoundError where there is none, OverflowError beyond ``most``
        bytes, HostUnreachable.
        """
        ...

    def sandbox(self, session: Session, image: str) -> Shell:
        """Open a shell in a new container without network or capabilities, of an image of ours, for untrusted code.

        Anybody may write to ``/tmp``; the shell's own user everywhere, with ``/work`` on a small disk of its own.
        Closing the shell removes the container.  Raises HostUnreachable.
        """
        ...

    def attach(self, session: Session, host: str) -> int:
        """Give the candidate a terminal on the host; return its exit status.  Raises UsageError for another's host."""
        ...

    def stop(self, session_ids: tuple[str, ...], *, again: bool = False) -> None:
        """Remove everything of these sessions, whatever state they are in.

        ``again``: the same ids are created anew at once, so what that would only make again may stay.
        """
        ...

    def sessions(self, owner: str | None = None) -> tuple[Session, ...]:
        """Read all sessions back from the engine, or those of one owner."""
        ...

    def leftovers(self, session_id: str) -> tuple[str, ...]:
        """Name whatever is still there of a session; empty after ``stop``."""
        ...


@runtime_checkable
class ClusterEnvironment(Environment, Protocol):
    """Runs sessions that have a Kubernetes cluster, or namespaces in one."""

    def api(self, session: Session) -> Api:
        """Return the session's cluster with all rights.  Raises HostUnreachable."""
        ...

    def changes(self, session: Session, after: datetime | None = None) -> tuple[Event, ...]:
        """Return what the candidate changed in the cluster, oldest first.  Raises NotReady."""
        ...

    def local_access(self, session: Session) -> Path:
        """Write a kubeconfig with the candidate's rights for a terminal of their own; return the file."""
        ...

    def inside(self, session: Session, namespace: str, pod: str) -> Shell:
        """Open a shell with tools of ours in the network of a pod.  Raises HostUnreachable."""
        ...


def host_of(session: Session, wanted: str) -> str:
    """Return the host of this name that the candidate may enter.  Raises UsageError where the session has none."""
    open_to = [host.name for host in session.hosts.values() if not host.closed]
    if wanted in open_to:
        return wanted
    what = f"{wanted} is closed: nobody logs in there" if wanted in session.hosts else f"no host {wanted!r}"
    raise UsageError(f"{session.id}: {what}", next_step=f"It has: {', '.join(open_to)}")


def load(name: str) -> Environment:
    """Return the environment of this name: the module of that name has a function ``connect``.

    Raises UsageError for a name that nothing here has, and NotReady where the engine does not answer.
    """
    from importlib import import_module  # noqa: PLC0415  # only when a session is wanted

    if name not in found():
        raise UsageError(f"no environment is called {name!r}", next_step=f"Known here: {', '.join(found())}.")
    environment: Environment = import_module(f"{__name__}.{name}").connect()
    return environment


def found() -> tuple[str, ...]:
    """Return the names of all environments: the modules beside this one."""
    from pkgutil import iter_modules  # noqa: PLC0415

    return tuple(sorted(one.name for one in iter_modules(__path__)))


def every() -> tuple[Environment, ...]:
    """Return all environments, connected.  Raises NotReady where the engine does not answer."""
    return tuple(load(name) for name in found())
