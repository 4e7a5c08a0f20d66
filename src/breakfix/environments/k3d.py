"""Labs in namespaces of a cluster that k3d makes and that all sessions share.

But for who makes the cluster it is somebody's: a gate before the API server, an author with the session's namespaces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from breakfix import images
from breakfix.cluster import k3d
from breakfix.engine.client import connect as connect_engine
from breakfix.environments import Capability
from breakfix.environments.existing import ExistingEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable

    from breakfix.cluster.api import Object
    from breakfix.model import Lab


def connect() -> K3dEnvironment:
    """Return the environment on the engine that answers.  Raises EngineUnavailable."""
    return K3dEnvironment(connect_engine(), k3d.CONTEXT)


class K3dEnvironment(ExistingEnvironment):
    """See ``environments.Environment``; what a method raises stands there."""

    name = "k3d"

    def examine(self) -> tuple[Capability, ...]:
        """Say whether there is a k3d."""
        found = "installed" if k3d.installed() else "not installed"
        return (
            Capability("k3d", ok=True, found=found, advice=f"only breakfix start --context {k3d.CONTEXT} needs it"),
        )

    def prepare(self, lab: Lab, tell: Callable[[str], None]) -> None:
        """Have the cluster up, and in it what the lab's pods are made of."""
        wanted = self._wanted(lab)
        k3d.ensure(tell)
        images.ensure(("toolbox", *sorted({host.image for host in lab.hosts} | set(wanted.values()))), tell)
        k3d.load(wanted, tell)

    def _named(self) -> Object:
        return k3d.kubeconfig()
