"""What unit tests share: a lab written into a folder, and an environment that answers from memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import pytest

from breakfix import catalog, scaffold
from breakfix.model import Completed, Host, HostSpec, Lab, Level, Session, SessionState
from breakfix.variants import draw

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from breakfix.environments import Capability
    from breakfix.model import JsonValue, Variant

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def silent(where: str, command: str) -> tuple[int, str | bytes, str]:
    """Answer every command with status 0 and nothing."""
    del where, command
    return 0, "", ""


class FakeShell:
    """Answers from a function; notes what it was asked."""

    def __init__(self, where: str, environment: FakeEnvironment) -> None:
        self.integrity: list[str] = []
        self.where = where
        self.closed = False
        self._environment = environment

    def run(self, command: str, timeout: float = 10.0) -> Completed:
        assert not self.closed, "a closed shell was asked"
        self._environment.asked.append((self.where, command, timeout))
        status, out, err = self._environment.answer(self.where, command)
        return Completed(command, status, out if isinstance(out, bytes) else out.encode(), err.encode(), 0.001)

    def open(self) -> None:
        assert not self.closed, "a closed shell was opened again"

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeEnvironment:
    """Keeps sessions in memory.  ``fail`` has what a call raises by its name; ``calls`` has every call in order."""

    answer: Callable[[str, str], tuple[int, str | bytes, str]] = silent
    fail: dict[str, BaseException] = field(default_factory=dict)
    running: dict[str, Session] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    asked: list[tuple[str, str, float]] = field(default_factory=list)
    shells: list[FakeShell] = field(default_factory=list)
    files: dict[str, dict[str, tuple[bytes, int]]] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    on: dict[str, Callable[[], object]] = field(default_factory=dict)
    """What happens besides, when a call of this name is made."""

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.on:
            self.on[name]()
        if name in self.fail:
            raise self.fail[name]

    def count(self, name: str) -> int:
        return Counter(self.calls)[name]

    def examine(self) -> tuple[Capability, ...]:
        self._called("examine")
        return ()

    def prepare(self, lab: Lab, tell: Callable[[str], None]) -> None:
        del lab, tell
        self._called("prepare")

    def create(self, lab: Lab, seed: int, session_id: str, owner: str) -> Session:
        hosts = {one.name: Host(one.name, f"198.19.0.{n}") for n, one in enumerate(lab.hosts, start=2)}
        made = Session(
            session_id, lab.id, seed, SessionState.INCOMPLETE, owner, AT, hosts, "docker", "198.19.0.0/28", "fake"
        )
        self.running[session_id] = made
        self._called("create")
        return made

    def put(self, session: Session, host: str, files: dict[str, tuple[bytes, int]]) -> None:
        assert session.id in self.running
        self.files[host] = files
        self._called("put")

    def boot(self, session: Session) -> None:
        assert session.id in self.running
        self._called("boot")

    def mark_ready(self, session: Session, baseline: dict[str, JsonValue]) -> Session:
        self._called("mark_ready")
        self.running[session.id] = replace(session, state=SessionState.READY, baseline=baseline)
        return self.running[session.id]

    def restart(self, session: Session) -> None:
        assert session.id in self.running
        self._called("restart")

    def resume(self, session: Session) -> None:
        assert session.id in self.running
        self._called("resume")

    def _shell(self, kind: str, where: str) -> FakeShell:
        self._called(kind)
        self.shells.append(FakeShell(where, self))
        return self.shells[-1]

    def take(self, session: Session, host: str, path: str, most: int) -> bytes:
        assert host in session.hosts
        self._called(f"take {path}")
        return b"x" * min(most, 1)

    def sandbox(self, session: Session, image: str) -> FakeShell:
        assert session.id in self.running
        return self._shell("sandbox", f"sandbox:{image}")

    def trusted(self, session: Session, host: str) -> FakeShell:
        assert host in session.hosts
        return self._shell("trusted", f"trusted:{host}")

    def plain(self, session: Session, host: str) -> FakeShell:
        assert host in session.hosts
        return self._shell("plain", f"plain:{host}")

    def client(self, session: Session) -> FakeShell:
        assert session.id
        return self._shell("client", "client")

    def attach(self, session: Session, host: str) -> int:
        assert host in session.hosts
        self._called("attach")
        return 0

    def stop(self, session_ids: tuple[str, ...], *, again: bool = False) -> None:
        del again
        for one in session_ids:
            self.running.pop(one, None)
        self._called("stop")

    def sessions(self, owner: str | None = None) -> tuple[Session, ...]:
        self._called("sessions")
        return tuple(one for one in self.running.values() if owner in (None, one.owner))

    def leftovers(self, session_id: str) -> tuple[str, ...]:
        self._called("leftovers")
        return (*self.left, *(["container"] if session_id in self.running else []))


class MakeLab(Protocol):
    """Writes a lab whose only file is its grader."""

    def __call__(self, grader: str = "", **changes: object) -> Lab: ...


@pytest.fixture
def environment() -> FakeEnvironment:
    return FakeEnvironment()


@pytest.fixture
def make_lab(tmp_path: Path) -> MakeLab:
    def make(grader: str = "", **changes: object) -> Lab:
        folder, answers = tmp_path / "labs" / "linux" / "toy", tmp_path / "graders" / "linux" / "toy"
        for one in (folder / "setup", answers):
            one.mkdir(parents=True, exist_ok=True)
        if grader:
            text = f"from breakfix.grading import baseline, check\n\n{grader}"
            (answers / "test_toy.py").write_text(text, encoding="utf-8")
        lab = Lab(
            id="linux/toy",
            title="A toy that is broken",
            level=Level.MID,
            minutes=20,
            skills=("linux.services",),
            environment="docker",
            hosts=(HostSpec("web", "host"), HostSpec("db", "host")),
            variants={"service": ("ledger", "courier", "atlas"), "port": (8080, 8181, 9090)},
            seeds=(1, 2, 3),
            hints=(),
            internet=False,
            restart=False,
            folder=folder,
            grader=answers,
        )
        return replace(lab, **changes)  # type: ignore[arg-type]  # the test names the fields

    return make


@pytest.fixture
def variant(make_lab: MakeLab) -> Variant:
    hosts = {"web": Host("web", "192.0.2.2"), "db": Host("db", "192.0.2.3")}
    return draw(make_lab(), 1, hosts, "192.0.2.0/28")


@pytest.fixture
def session(environment: FakeEnvironment, make_lab: MakeLab) -> Session:
    """A session of the toy lab that is ready."""
    made = environment.create(make_lab(), 1, "toy-000001", "me")
    ready = environment.mark_ready(made, {"entries": 3})
    environment.calls.clear()
    return ready


@dataclass(frozen=True)
class Written:
    """A lab as ``breakfix new`` writes it, to be changed and looked at."""

    root: Path
    folder: Path
    grader: Path

    def load(self) -> catalog.Catalog:
        return catalog.load((catalog.Root(self.root / "labs", self.root / "graders"),))

    def lab(self) -> Lab:
        return self.load().find("linux/written")

    def change(self, path: str, old: str, new: str) -> None:
        """Replace ``old`` in ``labs/…`` or ``graders/…``; it must be there."""
        (file,) = (one for one in (self.folder / path, self.grader / path) if one.exists())
        text = file.read_text(encoding="utf-8")
        assert old in text, f"{path} has no {old!r}"
        file.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.fixture
def written(tmp_path: Path) -> Written:
    scaffold.write(tmp_path, "linux/written")
    return Written(tmp_path, tmp_path / "labs/linux/written", tmp_path / "graders/linux/written")
