"""What a session writes on containers, networks and volumes, and how it is read back.  There is no other state."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from breakfix.model import Host, Session, SessionState

if TYPE_CHECKING:
    from collections.abc import Iterable

SESSION: Final = "breakfix.session"
LAB: Final = "breakfix.lab"
SEED: Final = "breakfix.seed"
OWNER: Final = "breakfix.owner"
STARTED: Final = "breakfix.started"
ROLE: Final = "breakfix.role"
HOST: Final = "breakfix.host"
ADDRESS: Final = "breakfix.address"
CLOSED: Final = "breakfix.closed"
"""On a host that the candidate is not let into."""
NETWORK: Final = "breakfix.network"
PROFILE: Final = "breakfix.profile"
BASELINE: Final = "breakfix.baseline"
ENVIRONMENT: Final = "breakfix.environment"
NAMESPACES: Final = "breakfix.namespaces"
"""What the lab calls each namespace and its name, as JSON."""
CLUSTER: Final = "breakfix.cluster"
CODE: Final = "breakfix.code"
"""On ``ready``: what code PID 1 of each host ran then."""

ROLE_HOST: Final = "host"
ROLE_CLIENT: Final = "client"
ROLE_NETWORK: Final = "network"
ROLE_DISK: Final = "disk"
ROLE_CLEANER: Final = "cleaner"
"""A short-lived container that removes what a session left on the engine's machine; no session by itself."""
ROLE_SANDBOX: Final = "sandbox"
"""A short-lived container in which a grader tries what a candidate wrote."""
ROLE_READY: Final = "ready"
"""An empty volume, made last: it says that the session is proven broken, and carries the baseline."""


def of(session: Session, role: str, **more: str) -> dict[str, str]:
    """Return the labels for one piece of a session."""
    return {
        SESSION: session.id,
        LAB: session.lab,
        SEED: str(session.seed),
        OWNER: session.owner,
        STARTED: session.started.isoformat(),
        NETWORK: session.network,
        PROFILE: session.profile,
        ENVIRONMENT: session.environment,
        **({NAMESPACES: json.dumps(session.namespaces)} if session.namespaces else {}),
        **({CLUSTER: session.cluster} if session.cluster else {}),
        ROLE: role,
        **more,
    }


def read(containers: Iterable[dict[str, Any]], others: Iterable[dict[str, Any]]) -> tuple[Session, ...]:
    """Return the sessions that these containers, networks and volumes (as the engine lists them) belong to."""
    pieces: dict[str, list[dict[str, Any]]] = {}
    for piece in (*containers, *others):
        labels = piece.get("Labels") or {}
        if SESSION in labels and labels.get(ROLE) != ROLE_CLEANER:
            pieces.setdefault(labels[SESSION], []).append(piece)
    return tuple(sorted((_session(found) for found in pieces.values()), key=lambda session: session.started))


def _session(pieces: list[dict[str, Any]]) -> Session:
    by_role: dict[str, list[dict[str, Any]]] = {}
    for piece in pieces:
        by_role.setdefault(piece["Labels"].get(ROLE, ""), []).append(piece)
    labels = pieces[0]["Labels"]
    machines = [*by_role.get(ROLE_HOST, []), *by_role.get(ROLE_CLIENT, [])]
    ready = by_role.get(ROLE_READY, [])
    return Session(
        id=labels[SESSION],
        lab=labels.get(LAB, "?"),
        seed=int(labels.get(SEED, 0)),
        state=_state(machines, ready=bool(ready)),
        owner=labels.get(OWNER, ""),
        started=datetime.fromisoformat(labels.get(STARTED, "1970-01-01T00:00:00+00:00")),
        hosts={
            one["Labels"][HOST]: Host(one["Labels"][HOST], one["Labels"].get(ADDRESS, ""), CLOSED in one["Labels"])
            for one in sorted(by_role.get(ROLE_HOST, []), key=_address)
            if HOST in one["Labels"]
        },
        environment=labels.get(ENVIRONMENT, "docker"),
        namespaces=json.loads(labels.get(NAMESPACES, "{}")),
        cluster=labels.get(CLUSTER, ""),
        network=labels.get(NETWORK, ""),
        profile=labels.get(PROFILE, ""),
        baseline=json.loads(ready[0]["Labels"].get(BASELINE, "{}")) if ready else {},
    )


def _address(piece: dict[str, Any]) -> tuple[int, ...]:
    """Return an address as numbers: as text, .100 would stand before .99, and another host would be the first."""
    return tuple(int(part) for part in piece["Labels"].get(ADDRESS, "").split(".") if part.isdigit())


def _state(machines: list[dict[str, Any]], *, ready: bool) -> SessionState:
    if not ready or not machines:
        return SessionState.INCOMPLETE
    running = all(one.get("State") == "running" for one in machines)
    return SessionState.READY if running else SessionState.STOPPED
