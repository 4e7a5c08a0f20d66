"""The practice cluster: long-lived, and shared by all sessions that own namespaces and no cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from breakfix import images
from breakfix.cluster import clusters, loading, making
from breakfix.cluster.clusters import Cluster

if TYPE_CHECKING:
    from collections.abc import Callable

    from breakfix.cluster.api import Api
    from breakfix.cluster.clusters import State
    from breakfix.model import Session

    Tell = Callable[[str], None]

PRACTICE: Final = Cluster("breakfix-practice")


def name_for(session: Session) -> str:
    """Return the name of a session's cluster: this one, where it says none, as before there were others."""
    return session.cluster or PRACTICE.name


def holds(session: Session) -> bool:
    """Return True for a session that has namespaces in it."""
    return name_for(session) == PRACTICE.name


def state(*, memory: bool = False) -> State:
    """Read from the engine what there is of it.  Raises NotReady."""
    return clusters.state(PRACTICE, memory=memory)


def administrator() -> Api:
    """Return its API with all rights.  Raises NotReady where there is none."""
    return clusters.administrator(PRACTICE.name)


def ensure(tell: Tell, busy: Callable[[], bool]) -> None:
    """Have the cluster up, with our images in it.

    One that an older recipe made is made anew unless it is ``busy`` with sessions.  Raises NotReady.
    """
    found = state()
    if not (found.running and found.current and PRACTICE.is_complete):
        with images.one_at_a_time("cluster"):
            _bring_up(tell, busy)
    # It may run since a moment ago: the engine starts its node by itself when it comes up.
    clusters.wait(PRACTICE, tell)
    clusters.fence(PRACTICE)
    loading.load(PRACTICE, "app", (clusters.APP,), tell)


def _bring_up(tell: Tell, busy: Callable[[], bool]) -> None:
    found = state()
    if found.exists and (not PRACTICE.is_complete or not (found.current or busy())):
        drop(tell)
        found = state()
    if not found.exists:
        making.make(PRACTICE, tell)
    elif not found.running:
        tell("starting the practice cluster again")
        clusters.rouse(PRACTICE, tell)


def drop(tell: Tell) -> None:
    """Delete the cluster."""
    clusters.drop(PRACTICE, tell)
