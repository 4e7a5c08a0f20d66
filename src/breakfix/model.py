"""The words of breakfix as frozen types.  Imports nothing of ours, so that everything may import it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]
"""What JSON can hold, as it is handed around: nobody changes it in place."""

SCHEMA_VERSION = 1
"""Version of every JSON document that breakfix prints.  It grows when a field changes meaning or goes away."""


class Level(StrEnum):
    """Who a lab is for: what a person of that level is expected to do alone."""

    JUNIOR = "junior"
    MID = "mid"
    SENIOR = "senior"
    STAFF = "staff"


class Outcome(StrEnum):
    """What became of one check."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    """A check that it needs did not pass, so it was not asked.  It earns nothing, and the total stays."""
    ERROR = "error"
    """We could not look.  Never the candidate's fault; the whole grade counts as not made."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A small file system of its own in a host; what is on it outlives a restart of the host."""

    path: str
    size: str
    """As tmpfs takes it: ``32m``."""
    inodes: int = 0
    """0 leaves it to the kernel."""


@dataclass(frozen=True, slots=True)
class HostSpec:
    """One host of a lab: which image it runs, and what it may use."""

    name: str
    image: str
    memory: str = "256m"
    cpus: float = 1.0
    pids: int = 256
    capabilities: tuple[str, ...] = ()
    own_names: bool = False
    """/etc/hosts, /etc/hostname and /etc/resolv.conf are plain files of the host, not mounts of the engine."""
    disks: tuple[Disk, ...] = ()
    closed: bool = False
    """Nobody but the lab's author and the grader is let in: part of the world, as a provider's machines are."""


CLUSTER = "cluster"
"""The place of a session that is no host: where scripts of a lab's author talk to its cluster with all rights."""


class Isolation(StrEnum):
    """What of a cluster a session has to itself."""

    NAMESPACE = "namespace"
    """Namespaces, in the cluster that all such sessions share."""
    CLUSTER = "cluster"
    """All of it."""


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What a lab has in a Kubernetes cluster."""

    namespaces: tuple[str, ...]
    """As the lab calls them; in a shared cluster their names carry a mark of the session besides."""
    isolation: Isolation = Isolation.NAMESPACE
    workers: int = 0
    """Nodes beside the control plane, in a cluster of one's own."""
    images: dict[str, str] = field(default_factory=dict)
    """References in the cluster, each with the image of ours behind it: ``registry.lab/shop/web:1.4.2`` is ``app``."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A nudge, and what taking it costs in points."""

    text: str
    cost: int


@dataclass(frozen=True, slots=True)
class Lab:
    """One scenario, as its author wrote it.  Pure data: nothing here has been drawn or started yet."""

    id: str
    """``<track>/<name>``: the path below the root of labs."""
    title: str
    level: Level
    minutes: int
    skills: tuple[str, ...]
    environment: str
    hosts: tuple[HostSpec, ...]
    variants: dict[str, tuple[JsonValue, ...]]
    seeds: tuple[int, ...]
    hints: tuple[Hint, ...]
    internet: bool
    """The session's network has a way out.  No lab of ours does."""
    restart: bool
    """Grade a second time after the hosts were restarted: only what survives counts."""
    folder: Path
    """Everything that a candidate may see."""
    grader: Path | None
    """Everything that a candidate may not; None where only labs were handed out."""
    cluster: ClusterSpec | None = None
    """None where the lab has hosts alone."""

    @property
    def setup(self) -> Path:
        """What makes the world and breaks it."""
        return self.folder / "setup"

    @property
    def places(self) -> tuple[str, ...]:
        """Where the lab's scripts may run: its hosts, and its cluster where it has one."""
        return (*(host.name for host in self.hosts), *((CLUSTER,) if self.cluster else ()))

    @property
    def track(self) -> str:
        """The field of the craft: the first part of the id."""
        return self.id.partition("/")[0]

    @property
    def name(self) -> str:
        """The last part of the id, enough to type where it is unique."""
        return self.id.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Host:
    """A host of a running session, as templates and graders see it."""

    name: str
    address: str
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Variant:
    """A lab with everything drawn from its seed: what templates and graders are given."""

    lab: Lab
    seed: int
    values: dict[str, JsonValue]
    hosts: dict[str, Host] = field(default_factory=dict)
    network: str = ""
    """The session's private network as CIDR; empty until started."""
    namespaces: dict[str, str] = field(default_factory=dict)
    """What the lab calls each namespace, and its name in the cluster."""

    def token(self, name: str, length: int = 16) -> str:
        """Return ``length`` hex digits (64 at most) that depend on lab, seed and name alone: passwords, markers."""
        return sha256(f"{self.lab.id}/{self.seed}/token/{name}".encode()).hexdigest()[:length]

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # a value is whatever the lab's author wrote
        """Read a drawn value by name, as in ``lab.service``."""
        values: dict[str, JsonValue] = object.__getattribute__(self, "values")
        if name in values:
            return values[name]
        known = ", ".join(sorted(values)) or "none"
        msg = f"the lab has no variant {name!r} (it has: {known})"
        raise AttributeError(msg)


@dataclass(frozen=True, slots=True)
class Check:
    """One question with points and a skill, as a grader declares it."""

    name: str
    title: str
    points: int
    skill: str
    needs: tuple[str, ...] = ()
    stable_for: float = 0.0
    """Seconds over which it must hold without a break."""


class Look(StrEnum):
    """When a check was asked."""

    FIRST = "as found"
    RESTARTED = "after a restart"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one check, with its evidence."""

    check: Check
    outcome: Outcome
    look: Look
    expected: str
    seen: str
    at: datetime
    seconds: float

    @property
    def points(self) -> int:
        """Points earned: all of the check's or none."""
        return self.check.points if self.outcome is Outcome.PASSED else 0


@dataclass(frozen=True, slots=True)
class Grade:
    """All outcomes of one look into a session."""

    lab: str
    title: str
    seed: int
    session: str
    results: tuple[Result, ...]
    started: datetime
    seconds: float
    """How long the whole grade took."""
    engine_seconds: float
    """Of which: looking, without the waits that ``stable_for`` and a restart ask for."""
    hints_taken: int = 0
    hint_cost: int = 0
    integrity: tuple[str, ...] = ()
    """What somebody did to the grading itself, in plain words; for a human to judge."""
    profile: str = ""

    @property
    def total(self) -> int:
        """Points that could be earned; the same whatever happened."""
        return sum(result.check.points for result in self.results)

    @property
    def earned(self) -> int:
        """Points of the checks that passed, before hints are paid."""
        return sum(result.points for result in self.results)

    @property
    def score(self) -> int:
        """Points after hints, never below zero."""
        return max(0, self.earned - self.hint_cost)

    @property
    def gradable(self) -> bool:
        """True if we could look at everything we wanted to see."""
        return bool(self.results) and all(r.outcome is not Outcome.ERROR for r in self.results)

    @property
    def passed(self) -> bool:
        """True if every check passed."""
        return bool(self.results) and all(r.outcome is Outcome.PASSED for r in self.results)

    def of(self, outcome: Outcome) -> tuple[Result, ...]:
        """Return the results with this outcome."""
        return tuple(result for result in self.results if result.outcome is outcome)


@dataclass(frozen=True, slots=True)
class Completed:
    """What a command in a session did."""

    command: str
    exit_status: int
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are no UTF-8 become replacement characters."""
        return self.stdout.decode(errors="replace")

    @property
    def error_text(self) -> str:
        """Standard error as text."""
        return self.stderr.decode(errors="replace")


class SessionState(StrEnum):
    """What the labels of a session say."""

    READY = "ready"
    INCOMPLETE = "incomplete"
    """Being started right now, or left behind by a start that died."""
    STOPPED = "stopped"
    """Its containers are there but do not run, as after a reboot of the engine."""


@dataclass(frozen=True, slots=True)
class Session:
    """One candidate at one lab, as read from the engine."""

    id: str
    lab: str
    seed: int
    state: SessionState
    owner: str
    started: datetime
    hosts: dict[str, Host]
    environment: str
    network: str = ""
    profile: str = ""
    baseline: dict[str, JsonValue] = field(default_factory=dict)
    namespaces: dict[str, str] = field(default_factory=dict)
    """What the lab calls each namespace, and its name in the cluster."""
    cluster: str = ""
    """The name of the cluster that it has, or has namespaces in."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a session, for its timeline."""

    session: str
    at: datetime
    kind: str
    """start, hint, grade, reset, debrief, stop, or change: something that was done to a cluster."""
    detail: str
