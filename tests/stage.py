"""What contract/, integration/ and attacks/ stand on: sessions of our own, and an engine's own hand."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from breakfix import environments, proving, sessions, variants
from breakfix.grading.runner import grade
from breakfix.model import Completed, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from breakfix.catalog import Catalog
    from breakfix.environments import Environment
    from breakfix.model import Grade, Lab, Session, Variant
    from docker import APIClient

LABS = Path(__file__).parent / "data" / "labs-root"


def quiet(_: str) -> None:
    """Hear a step, and say nothing."""


def until(holds: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait until ``holds`` is true; fail where that takes too long."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not so within {seconds:g} s"
        time.sleep(0.05)


class Engine(Protocol):
    """What whoever owns an engine can do by hand, past breakfix."""

    def stop(self, session: Session, host: str) -> None:
        """Stop a host at once."""
        ...

    def remove(self, session: Session, host: str) -> None:
        """Remove a host and nothing else."""
        ...

    def run(self, session: Session, host: str, argv: list[str]) -> Completed:
        """Run a program as the candidate could: no shell of ours around it."""
        ...

    def limits(self, session: Session, host: str) -> dict[str, float]:
        """Return what the engine holds the host to: ``cpus``."""
        ...

    def outside_paths(self, session: Session, host: str) -> list[str]:
        """Return the paths of the engine's machine that the host can see, but for those that its profile needs."""
        ...

    def addresses(self) -> list[str]:
        """Return addresses of the engine's machine."""
        ...

    def remains(self, session_id: str) -> list[str]:
        """Name whatever the engine and its machine still have of a session."""
        ...


class DockerEngine:
    """See ``Engine``."""

    def __init__(self, api: APIClient) -> None:
        self.api = api

    @staticmethod
    def name(session: Session, host: str) -> str:
        return f"breakfix-{session.id}-{host}"

    def stop(self, session: Session, host: str) -> None:
        self.api.kill(self.name(session, host))
        self.api.wait(self.name(session, host))

    def remove(self, session: Session, host: str) -> None:
        self.api.remove_container(self.name(session, host), force=True)

    def run(self, session: Session, host: str, argv: list[str]) -> Completed:
        begun = time.monotonic()
        new = self.api.exec_create(
            self.name(session, host), argv, environment={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        )
        out, err = self.api.exec_start(new["Id"], demux=True)
        status = int(self.api.exec_inspect(new["Id"])["ExitCode"] or 0)
        return Completed(" ".join(argv), status, out or b"", err or b"", time.monotonic() - begun)

    def config(self, session: Session, host: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api.inspect_container(self.name(session, host))
        return found

    def limits(self, session: Session, host: str) -> dict[str, float]:
        return {"cpus": self.config(session, host)["HostConfig"]["NanoCpus"] / 1e9}

    def outside_paths(self, session: Session, host: str) -> list[str]:
        own = {"/sys/fs/cgroup": False}
        own |= {f"/sys/fs/cgroup/{tree}/breakfix-{session.id}": True for tree in ("systemd", "unified")}
        mounts = self.config(session, host)["Mounts"]
        binds = {one["Source"]: bool(one["RW"]) for one in mounts if one["Type"] == "bind"}
        return sorted(path for path, writable in binds.items() if own.get(path, None) is not writable)

    def addresses(self) -> list[str]:
        bridge = self.api.inspect_network("bridge")["IPAM"]["Config"][0]["Gateway"]
        lines = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False).stdout.split()
        return sorted({bridge, *(one for one in lines if ":" not in one)})

    def remains(self, session_id: str) -> list[str]:
        label = {"label": f"breakfix.session={session_id}"}
        found = [str(one["Names"]) for one in self.api.containers(all=True, filters=label)]
        found += [str(one["Name"]) for one in self.api.networks(filters=label)]
        found += [str(one["Name"]) for one in self.api.volumes(filters=label)["Volumes"] or []]
        # Names too: a label may be forgotten.
        found += [str(one["Names"]) for one in self.api.containers(all=True) if session_id in str(one["Names"])]
        found += [str(one["Name"]) for one in self.api.networks() if session_id in str(one["Name"])]
        found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*breakfix-{session_id}*")]
        found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/breakfix-{session_id}*")]
        return sorted(set(found))


def engine() -> Engine:
    """Return the hand on the engine that answers.  Raises EngineUnavailable."""
    from breakfix.engine.client import connect

    return DockerEngine(connect())


@dataclass
class Stage:
    """Labs of the tests, an environment, and every session that a test began: they are removed at its end."""

    name: str
    environment: Environment
    engine: Engine
    catalog: Catalog
    owner: str
    data: Path
    begun: list[str] = field(default_factory=list)

    def lab(self, name: str) -> Lab:
        return self.catalog.find(name)

    def new_id(self, name: str) -> str:
        """Return an id that is removed at the end, whatever becomes of it."""
        self.begun.append(sessions.new_id(self.lab(name)))
        return self.begun[-1]

    def start(self, name: str, seed: int = 1) -> Session:
        return sessions.start(self.environment, self.lab(name), seed, quiet, self.new_id(name)).session

    def start_and_fail(self, name: str) -> str:
        """Begin a start that fails half-way; return the id that it had."""
        session_id = self.new_id(name)

        def tell(step: str) -> None:
            if step == "breaking it":
                raise InterruptedError

        with suppress(InterruptedError):
            sessions.start(self.environment, self.lab(name), 1, tell, session_id)
            raise AssertionError("it did not fail")
        return session_id

    def create(self, name: str) -> Session:
        """Make a session that does not run yet."""
        lab = self.lab(name)
        self.environment.prepare(lab, quiet)
        return self.environment.create(lab, 1, self.new_id(name), self.owner)

    def read(self, session: Session) -> Session:
        """Return the session as the engine tells it now."""
        return next(one for one in self.environment.sessions(self.owner) if one.id == session.id)

    def variant(self, session: Session) -> Variant:
        return variants.draw(self.lab(session.lab), session.seed, session.hosts, session.network)

    def service(self, session: Session) -> str:
        return str(self.variant(session).service)

    def candidate(self, session: Session, script: str, host: str = "web", timeout: float = 60.0) -> Completed:
        """Do something in a host as its root."""
        shell = self.environment.plain(session, host)
        try:
            return shell.run(script, timeout)
        finally:
            shell.close()

    def do(self, session: Session, script: str, host: str = "web") -> str:
        """Do something in a host as its root, and make sure that it was done."""
        done = self.candidate(session, f"set -e\n{script}", host)
        assert done.exit_status == 0, done.text + done.error_text
        return done.text

    def trusted(self, session: Session, command: str, host: str = "web", timeout: float = 20.0) -> Completed:
        """Ask a host through its trusted shell."""
        shell = self.environment.trusted(session, host)
        try:
            return shell.run(command, timeout)
        finally:
            shell.close()

    def solve(self, session: Session) -> None:
        """Do the work that the lab asks for."""
        lab = self.lab(session.lab)
        for attempt in proving.attempts(lab, "solutions"):
            for host, script in attempt.scripts:
                shell = self.environment.plain(session, host)
                sessions.run_script(shell, host, script, self.variant(session))
                shell.close()

    def grade(self, session: Session, *, restart: bool = False) -> Grade:
        return grade(self.environment, session, self.lab(session.lab), quiet, restart=restart)

    def stop(self) -> None:
        """Remove everything that was begun."""
        if self.begun:
            self.environment.stop(tuple(self.begun))

    def command(self, *arguments: str) -> list[str]:
        """Return what a candidate would type, as an argument vector."""
        # A shell that puts us into the background has SIGINT ignored, and so would everything below.
        start = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
            "from breakfix.cli import main; main()"
        )
        return [sys.executable, "-c", start, "--labs", str(LABS), *arguments]

    def variables(self, owner: str | None = None) -> dict[str, str]:
        """Return the environment in which to type it."""
        return {**os.environ, "BREAKFIX_OWNER": owner or self.owner, "BREAKFIX_DATA": str(self.data), "TERM": "xterm"}

    def cli(self, *arguments: str, owner: str | None = None) -> subprocess.CompletedProcess[str]:
        """Type a command, and wait for its end."""
        return subprocess.run(
            self.command(*arguments),
            env=self.variables(owner),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def what_a_pod_reaches(stage: Stage, session: Session) -> list[str]:
    """Return what a pod of the session's service gets from this machine and its own workstation, address by address."""
    said = []
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        server.settimeout(0.2)
        ended = threading.Event()

        def answer() -> None:
            while not ended.is_set():
                with suppress(TimeoutError), server.accept()[0] as connection:
                    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nREACHED\n")

        thread = threading.Thread(target=answer)
        thread.start()
        for address in [*stage.engine.addresses(), session.hosts["workstation"].address]:
            asked = f"kubectl exec deployment/{stage.service(session)} -- curl -s -m 2 http://{address}:{port}/"
            said.append(stage.candidate(session, asked, "workstation").text)
        ended.set()
        thread.join()
    return said


def outcomes(made: Grade) -> dict[str, Outcome]:
    """Return what became of each check, by name."""
    return {result.check.name: result.outcome for result in made.results}


def told(made: Grade) -> str:
    """Return a grade for a failing test's message."""
    lines = [f"{one.outcome} {one.check.name}: expected {one.expected}; saw {one.seen}" for one in made.results]
    return "\n".join([*lines, *made.integrity])


def load(name: str, data: Path, owner: str) -> Stage:
    """Return a stage for an environment of this name.  Raises NotReady where its engine does not answer."""
    from breakfix import catalog

    found = catalog.load((catalog.Root(LABS / "labs", LABS / "graders"),))
    assert not found.problems, found.problems
    return Stage(name, environments.load(name), engine(), found, owner, data)
