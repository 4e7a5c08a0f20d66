"""How systemd boots as PID 1 on this engine, with the least privilege that works.

Three ways are known, tried in this order, and the first that boots is remembered for this engine:

``writable-cgroups``
    cgroup v2 and Docker 28 or later: a private control group namespace that the container may write to.
``narrow-v1``
    cgroup v1: the host's hierarchies read-only, and read-write just the session's own two folders below
    ``systemd`` and ``unified``.
``privileged``
    Everything else.  The candidate's root could leave the container: for one's own labs on one's own machine only.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from docker import APIClient

CGROUPS = "/sys/fs/cgroup"


@dataclass(frozen=True, slots=True)
class Profile:
    """One way to boot systemd."""

    name: str
    trusted: bool
    """The candidate's root stays inside, and can't touch the grading."""
    why: str

    def host_config(self, session_id: str) -> dict[str, Any]:
        """Return what this profile adds to a container's host configuration."""
        if self.name == "writable-cgroups":
            return {"cgroupns": "private", "security_opt": ["writable-cgroups=true"]}
        if self.name == "privileged":
            return {"cgroupns": "private", "privileged": True}
        parent = cgroup_parent(session_id)
        # The engine makes a missing source folder itself, on its own machine: that is how the groups come to be.
        own = [f"{CGROUPS}/{tree}{parent}:{CGROUPS}/{tree}{parent}:rw" for tree in ("systemd", "unified")]
        return {"cgroupns": "host", "cgroup_parent": parent, "binds": [f"{CGROUPS}:{CGROUPS}:ro", *own]}


WRITABLE = Profile("writable-cgroups", trusted=True, why="cgroup v2 and an engine that can make it writable")
NARROW = Profile("narrow-v1", trusted=True, why="cgroup v1: only the session's own control groups are writable")
PRIVILEGED = Profile("privileged", trusted=False, why="no narrower way boots systemd on this engine")
BY_NAME = {profile.name: profile for profile in (WRITABLE, NARROW, PRIVILEGED)}


def cgroup_parent(session_id: str) -> str:
    """Return the control group of a session, as narrow-v1 names it."""
    return f"/breakfix-{session_id}"


def candidates(info: dict[str, Any], version: dict[str, Any]) -> tuple[Profile, ...]:
    """Return the profiles worth trying on this engine, narrowest first."""
    found = re.match(r"\d+", str(version.get("Version", "")))
    major = int(found[0]) if found else 0
    if str(info.get("CgroupVersion")) == "2":
        return (WRITABLE, PRIVILEGED) if major >= 28 else (PRIVILEGED,)  # noqa: PLR2004  # moby#48828
    return (NARROW, PRIVILEGED)


def choose(api: APIClient, memory: Path, boots: Callable[[Profile], bool]) -> Profile | None:
    """Return the profile for this engine: the remembered one, or the first that ``boots``; None where none does."""
    key = _engine_key(api)
    if remembered := _recall(memory).get(key):
        return BY_NAME[remembered]
    for profile in candidates(api.info(), api.version()):
        if boots(profile):
            # What is weaker than it could be is not remembered: a machine under load may boot the narrow way tomorrow.
            if profile.trusted:
                with suppress(OSError):
                    _remember(memory, key, profile.name)
            return profile
    return None


def _engine_key(api: APIClient) -> str:
    info = api.info()
    facts = ("ID", "ServerVersion", "KernelVersion", "CgroupVersion", "CgroupDriver")
    return "/".join(str(info.get(fact, "")) for fact in facts)


def _recall(memory: Path) -> dict[str, str]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
        return {key: name for key, name in known.items() if name in BY_NAME}
    except (OSError, ValueError, AttributeError, TypeError):
        # Whatever else stands there was not written by us.
        return {}


def _remember(memory: Path, key: str, name: str) -> None:
    memory.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: two processes may find out at the same time.
    draft = memory.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps({**_recall(memory), key: name}, indent=2), encoding="utf-8")
    draft.replace(memory)
