"""Makes clusters that have our images in them and serve."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING

from breakfix.cluster import clusters, kind, loading

if TYPE_CHECKING:
    from collections.abc import Callable

    from breakfix.cluster.clusters import Cluster

    Tell = Callable[[str], None]


def make(cluster: Cluster, tell: Tell) -> None:
    """Make a cluster and wait until it serves.  One that does not come up leaves nothing.  Raises NotReady."""
    try:
        _create(cluster, tell)
        clusters.keep_kubeconfig(cluster)
        loading.load(cluster, "app", (clusters.APP,), tell)
        clusters.wait(cluster, tell)
    except BaseException:
        clusters.drop(cluster, lambda _: None)
        raise


def _create(cluster: Cluster, tell: Tell) -> None:
    """Have kind make it.  Much of that is waiting for the control plane, so the images go into the nodes meanwhile."""
    over = Event()
    with ThreadPoolExecutor(max_workers=1) as beside:
        beside.submit(loading.bring, cluster, "app", over.is_set)
        try:
            kind.create(cluster.name, cluster.workers, cluster.folder, tell)
        finally:
            over.set()
