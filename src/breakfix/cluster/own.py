"""Clusters of one's own: a session claims one whole, and it goes with the session.

One is made before somebody asks and kept paused, where memory allows: the standby.  Whose a cluster is stands in a file
of its folder.  A claimed one is never anybody's standby again, whatever becomes of its session.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from breakfix import images
from breakfix.cluster import clusters, kind, loading, making
from breakfix.cluster.clusters import Cluster
from breakfix.engine.client import connect, not_ready
from breakfix.errors import NotReady, UsageError
from breakfix.together import together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Tell = Callable[[str], None]

PREFIX: Final = "breakfix-own-"
LOCK: Final = "own-clusters"
NODE_MEMORY: Final = 3 << 30
"""Bytes that one node may use with all its pods: an idle control plane has 0.6 GB."""
SETTING: Final = "BREAKFIX_STANDBY"
ENOUGH: Final = 6 << 30
"""Bytes that must be free for a standby to be kept where nobody said whether to."""


class Standby(StrEnum):
    """What ``BREAKFIX_STANDBY`` may say."""

    AUTO = "auto"
    """Keep one where memory allows."""
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Own:
    """A cluster of this kind, and the session that has it; an empty one for a standby."""

    cluster: Cluster
    session: str = ""


def found() -> tuple[Own, ...]:
    """Return all that the engine has, complete or not."""
    with not_ready("looking for clusters of sessions"):
        nodes = connect().containers(all=True, filters={"label": kind.CLUSTER_LABEL})
    names = [name for one in nodes if is_own(name := str(one["Labels"][kind.CLUSTER_LABEL]))]
    return tuple(Own(cluster := Cluster(name, names.count(name) - 1), _session(cluster)) for name in sorted(set(names)))


def _claim(cluster: Cluster) -> Path:
    return cluster.folder / "session"


def _session(cluster: Cluster) -> str:
    file = _claim(cluster)
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def is_own(name: str) -> bool:
    """Return True if a cluster of this name is one session's alone."""
    return name.startswith(PREFIX)


def of(name: str) -> Cluster:
    """Return the cluster of this name as the engine has it; one without workers where it has none."""
    return next((one.cluster for one in found() if one.cluster.name == name), Cluster(name))


def ensure(workers: int, tell: Tell) -> None:
    """Have one that nobody claimed, as many ``workers`` wide, with our images in it.  Raises NotReady."""
    with images.one_at_a_time(LOCK):
        _ensure(workers, tell)


def _ensure(workers: int, tell: Tell) -> Cluster:
    free = [one.cluster for one in found() if not one.session and one.cluster.workers == workers]
    usable = [one for one in free if one.is_complete and clusters.state(one).current]
    for one in set(free) - set(usable):
        # Whoever was making it has died, for he would hold the lock; or an older recipe made it.
        clusters.drop(one, tell)
    return usable[0] if usable else _make(workers, tell)


def _make(workers: int, tell: Tell) -> Cluster:
    cluster = Cluster(f"{PREFIX}{secrets.token_hex(4)}", workers)
    making.make(cluster, tell)
    return cluster


@contextmanager
def claimed(workers: int, session_id: str) -> Iterator[Cluster]:
    """Give the session a cluster for good, before anybody else can take it.  It may still be paused."""
    with images.one_at_a_time(LOCK):
        cluster = _ensure(workers, lambda _: None)
        clusters.write_private(_claim(cluster), session_id)
        yield cluster


def open_up(cluster: Cluster) -> None:
    """Have a claimed cluster serve, with its limits.  Raises NotReady."""
    clusters.rouse(cluster, lambda _: None)
    with not_ready("limiting the cluster's memory"):
        for one in cluster.nodes:
            connect().update_container(one, mem_limit=NODE_MEMORY, memswap_limit=NODE_MEMORY)
    clusters.fence(cluster)
    loading.load(cluster, "app", (clusters.APP,), lambda _: None)


def release(sessions: set[str]) -> None:
    """Delete what sessions claimed."""
    claimed = [one.cluster for one in found() if one.session in sessions]
    together(partial(clusters.drop, one, lambda _: None) for one in claimed)


def sweep(sessions: Callable[[], set[str]]) -> None:
    """Delete what sessions claimed that are no more; who there is is asked when nobody can be claiming."""
    with images.one_at_a_time(LOCK):
        there = sessions()
        for one in found():
            if one.session and one.session not in there:
                # Whoever stops that session may be removing it just now; if nobody is, the next start comes by again.
                with suppress(NotReady):
                    clusters.drop(one.cluster, lambda _: None)


# -- the standby ---------------------------------------------------------------------------------------------------


def standbys() -> tuple[Cluster, ...]:
    """Return the clusters that wait to be claimed."""
    return tuple(one.cluster for one in found() if not one.session)


def stand_by(workers: int, tell: Tell) -> None:
    """Have a standby, and let it stand still.  Raises NotReady."""
    with images.one_at_a_time(LOCK):
        cluster = _ensure(workers, tell)
        if clusters.state(cluster).running:
            clusters.pause(cluster)


def drop_standbys(tell: Tell) -> None:
    """Delete what nobody claimed."""
    with images.one_at_a_time(LOCK):
        for one in standbys():
            clusters.drop(one, tell)


def refill(workers: int) -> None:
    """Begin to make the next standby, in a process that outlives this one."""
    if not wanted():
        return
    breakfix = (sys.executable, "-c", "from breakfix.cli import main; main()")
    command = [*breakfix, "cluster", "warm", "--standby", "--workers", str(workers)]
    subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def wanted() -> bool:
    """Return whether a standby is to be kept here.  Raises UsageError for a setting that says neither."""
    said = os.environ.get(SETTING, Standby.AUTO).lower()
    if said not in set(Standby):
        raise UsageError(f"{SETTING} is {said!r}", next_step=f"It may be {', '.join(Standby)}.")
    return said == Standby.ON or (said == Standby.AUTO and _free() >= ENOUGH)


def _free() -> int:
    """Return the bytes of memory that are free here; half of what the engine has where its machine is another one."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        with not_ready("asking the engine for its memory"):
            return int(connect().info()["MemTotal"]) // 2
    available = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    return int(available[1]) << 10 if available else 0
