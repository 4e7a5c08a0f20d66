"""The format of ``lab.toml``: what an author may write, checked by pydantic, every problem with its line."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)  # fmt: skip

from breakfix.errors import Problem
from breakfix.model import CLUSTER, ClusterSpec, Disk, Hint, HostSpec, Isolation, Lab, Level
from breakfix.skills import SKILLS

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_core import ErrorDetails

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$", max_length=40)]
Size = Annotated[str, StringConstraints(pattern=r"^[0-9]+[kmg]$")]
Namespace = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$", max_length=30)]
Reference = Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+/[a-z0-9/._-]+:[A-Za-z0-9._-]+$")]
Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*$")]
# It stays inside the host's own network namespace.  SYS_ADMIN, SYS_PTRACE, SYS_MODULE and their like do not.
Capability = Annotated[str, StringConstraints(pattern=r"^(NET_ADMIN)$")]
RESERVED = frozenset({"lab", "seed", "hosts", "network", "token", "namespaces"})
SEAT = HostSpec(name="workstation", image="workstation", memory="512m")
"""The candidate's seat in a lab that has a cluster and names no hosts."""


class _Strict(BaseModel):
    # Only the whole file is ever validated: its parts are built as parts of it, not once more by themselves.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class DiskFormat(_Strict):
    """``[[hosts.NAME.disks]]``: a small file system of the host's own."""

    path: Annotated[str, StringConstraints(pattern=r"^/[a-z0-9/_-]+$")]
    size: Size
    inodes: int = Field(default=0, ge=0)


class HostFormat(_Strict):
    """``[hosts.NAME]``: one machine of the lab."""

    image: Name = "host"
    memory: Size = "256m"
    cpus: float = Field(default=1.0, gt=0, le=4)
    pids: int = Field(default=256, ge=32, le=4096)
    capabilities: tuple[Capability, ...] = ()
    own_names: bool = False
    disks: tuple[DiskFormat, ...] = ()
    closed: bool = False


class ClusterFormat(_Strict):
    """``[cluster]``: what the lab has in a Kubernetes cluster."""

    namespaces: tuple[Namespace, ...] = Field(min_length=1, max_length=4)
    isolation: Isolation = Isolation.NAMESPACE
    workers: int = Field(default=0, ge=0, le=2)
    images: dict[Reference, Name] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _workers_of_its_own(self) -> Self:
        if self.workers and self.isolation is not Isolation.CLUSTER:
            msg = 'workers: only a cluster of one\'s own has them (isolation = "cluster")'
            raise ValueError(msg)
        return self


class HintFormat(_Strict):
    """``[[hints]]``: from where to look to what to type, each with its price in points."""

    text: str = Field(min_length=10)
    cost: int = Field(ge=0, le=50)


class LabFormat(_Strict):
    """The whole file."""

    title: str = Field(min_length=5, max_length=80)
    level: Level
    minutes: int = Field(ge=5, le=180)
    skills: tuple[str, ...] = Field(min_length=1, max_length=3)
    environment: Name = "docker"
    internet: bool = False
    restart: bool = False
    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=3)
    hosts: dict[Name, HostFormat] = Field(default_factory=dict)
    cluster: ClusterFormat | None = None
    variants: dict[Identifier, Annotated[tuple[JsonValue, ...], Field(min_length=2)]] = Field(min_length=1)
    hints: tuple[HintFormat, ...] = Field(min_length=3)

    @field_validator("skills")
    @classmethod
    def _known(cls, skills: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [skill for skill in skills if skill not in SKILLS]:
            msg = f"unknown skill {', '.join(unknown)}"
            raise ValueError(msg)
        return skills

    @field_validator("hosts")
    @classmethod
    def _not_beside(cls, hosts: dict[str, HostFormat]) -> dict[str, HostFormat]:
        if taken := {"client", CLUSTER} & hosts.keys():
            msg = f"{', '.join(sorted(taken))}: the container beside the hosts, and the cluster, are called so"
            raise ValueError(msg)
        if hosts and next(iter(hosts.values())).closed:
            msg = "the first host is where the candidate sits: it can't be closed"
            raise ValueError(msg)
        return hosts

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        on_hosts = self.environment == "docker"
        if on_hosts and (self.cluster or not self.hosts):
            msg = 'environment "docker" runs [hosts], and has no [cluster]'
            raise ValueError(msg)
        if not on_hosts and self.cluster is None:
            msg = f"environment {self.environment!r} runs labs that have a [cluster]"
            raise ValueError(msg)
        return self

    @field_validator("variants")
    @classmethod
    def _not_reserved(cls, variants: dict[str, tuple[JsonValue, ...]]) -> dict[str, tuple[JsonValue, ...]]:
        if taken := RESERVED & variants.keys():
            msg = f"{', '.join(sorted(taken))}: every template has a value of that name already"
            raise ValueError(msg)
        return variants


def parse(path: Path, lab_id: str, grader: Path | None) -> tuple[Lab | None, tuple[Problem, ...]]:
    """Read one ``lab.toml``; return the lab, or None and everything that is wrong with it."""
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        written = LabFormat.model_validate(tomllib.loads(text), strict=False)
    except ValidationError as error:
        return None, tuple(
            Problem(path, line_of(text, item["loc"]), f"{_dotted(item['loc'])}: {item['msg']}")
            for item in error.errors()
            if not _follows(item)
        )
    except (OSError, ValueError, RecursionError) as error:
        # tomllib lets through what int() says of too many digits, and what too many brackets do.
        found = re.search(r"at line (\d+)", str(error))
        at_end = "end of document" in str(error)
        line = int(found[1]) if found else len(text.removesuffix("\n").split("\n")) if at_end else 1
        return None, (Problem(path, max(1, line), f"not TOML: {error}"),)
    return _lab(written, lab_id, path.parent, grader), ()


def _lab(written: LabFormat, lab_id: str, folder: Path, grader: Path | None) -> Lab:
    plain = written.model_dump(exclude={"hosts", "hints", "cluster"})
    return Lab(
        **plain,
        id=lab_id,
        folder=folder,
        grader=grader,
        hosts=tuple(_host(name, host) for name, host in written.hosts.items()) or (SEAT,),
        cluster=ClusterSpec(**written.cluster.model_dump()) if written.cluster else None,
        hints=tuple(Hint(text=hint.text, cost=hint.cost) for hint in written.hints),
    )


def _host(name: str, written: HostFormat) -> HostSpec:
    disks = tuple(Disk(disk.path, disk.size, disk.inodes) for disk in written.disks)
    return HostSpec(name=name, disks=disks, **written.model_dump(exclude={"disks"}))


def _follows(error: ErrorDetails) -> bool:
    """Return True for "too few" where enough were written and some are invalid: those are told by themselves."""
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


def _dotted(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc) or "file"


def line_of(text: str, loc: tuple[int | str, ...]) -> int:
    """Return the line of ``text`` (TOML) where the key path ``loc`` stands; the nearest parent's where it doesn't.

    tomllib keeps no positions, so the text is read line by line, until the path is there for the first time.
    """
    wanted = [part for part in loc if part != "[key]"]
    lines = text.replace("\r\n", "\n").split("\n")
    best, best_depth, begun = 1, 0, 1
    for number in range(1, len(lines) + 1):
        try:
            document = tomllib.loads("\n".join(lines[:number]))
        except tomllib.TOMLDecodeError:
            continue  # in the midst of a value
        depth = _depth(document, wanted)
        if depth > best_depth:
            best, best_depth = begun, depth
        begun = number + 1
    return best


def _depth(document: object, loc: list[int | str]) -> int:
    """Return how many steps of ``loc`` there are in ``document``."""
    for depth, part in enumerate(loc):
        in_table = isinstance(document, dict) and part in document
        in_list = isinstance(document, list) and isinstance(part, int) and part < len(document)
        if not (in_table or in_list):
            return depth
        document = document[part]  # type: ignore[index]  # one of the two
    return len(loc)
