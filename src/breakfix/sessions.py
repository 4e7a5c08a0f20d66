"""The life of a session: preflight, start, break, prove, hand over; reset; stop."""

from __future__ import annotations

import getpass
import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from breakfix import environments, templates, variants
from breakfix.errors import BreakfixError, CannotGrade, InvalidLab, Problem, StartFailed, UnknownSession
from breakfix.grading.probes import CLIENT, Probes
from breakfix.grading.runner import record_baseline
from breakfix.together import together

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from breakfix.environments import Environment, Shell
    from breakfix.model import Lab, Session, Variant

    Tell = Callable[[str], None]

SETUP_DEADLINE: Final = 60.0
SYMPTOM_DEADLINE: Final = 20.0
CLUSTER_PATIENCE: Final = 3
"""How many times as long both may take in a cluster: pods that crash on a busy machine take their time."""
PULSE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Started:
    """A session that is ready, and how long that took."""

    session: Session
    seconds: float


def owner() -> str:
    """Return whose sessions these are, where several people share an engine: BREAKFIX_OWNER, else the user's name."""
    return os.environ.get("BREAKFIX_OWNER") or getpass.getuser()


def new_id(lab: Lab) -> str:
    """Return an id for a new session of ``lab``."""
    return f"{lab.name}-{secrets.token_hex(3)}"


def start(environment: Environment, lab: Lab, seed: int, tell: Tell, session_id: str | None = None) -> Started:
    """Bring a lab to its proven broken state.  Whatever happens on the way, nothing stays behind.

    Raises InvalidLab, NotReady (StartFailed where the broken state could not be proven).
    """
    environment.prepare(lab, tell)
    begun = time.monotonic()
    wanted = session_id or new_id(lab)
    try:
        session = _make(environment, lab, seed, wanted, tell)
    except BaseException as error:
        _undo(environment, wanted, tell)
        if isinstance(error, CannotGrade):
            raise StartFailed(f"{lab.id} could not be started", why=str(error), next_step="breakfix doctor") from error
        raise
    return Started(session, time.monotonic() - begun)


def _make(environment: Environment, lab: Lab, seed: int, session_id: str, tell: Tell) -> Session:
    tell("creating hosts")
    session = environment.create(lab, seed, session_id, owner())
    variant = variants.of(lab, session)
    for host in session.hosts:
        environment.put(session, host, host_files(variant, host))
    tell("booting")
    environment.boot(session)
    with Probes(environment, session) as probes:
        probes.open_ahead(*(where for where, _ in symptoms(lab) if where == CLIENT))
        tell("making the world")
        _run_setup(probes, variant, "prepare.sh")
        baseline = record_baseline(variant, probes)
        tell("breaking it")
        _run_setup(probes, variant, "break.sh")
        tell("proving that it is broken")
        _prove_symptom(probes, variant)
    return environment.mark_ready(session, baseline)


def _undo(environment: Environment, session_id: str, tell: Tell) -> None:
    """Remove what was begun, and do not let a second Ctrl-C leave half of it."""
    with interrupts_wait(), suppress(BreakfixError):
        try:
            tell("cleaning up")
        finally:
            # Also where nobody listens any more, as in `breakfix start LAB 2>&1 | head`.
            environment.stop((session_id,))


class interrupts_wait:  # noqa: N801  # used as a statement
    """Let SIGINT and SIGTERM wait until this is over, where this thread may say so."""

    def __enter__(self) -> None:
        import signal  # noqa: PLC0415

        self._before: dict[int, Any] = {}
        self._came: list[int] = []
        with suppress(ValueError):
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, lambda came, _: self._came.append(came))

    def __exit__(self, *_: object) -> None:
        import signal  # noqa: PLC0415

        for number, handler in self._before.items():
            signal.signal(number, handler)
        for number in self._came[:1]:
            signal.raise_signal(number)


def host_files(variant: Variant, host: str) -> dict[str, tuple[bytes, int]]:
    """Return what ``setup/HOST/files`` puts into a host: absolute path to content and mode."""
    root = variant.lab.setup / host / "files"
    return dict(_file(variant, root, path) for path in sorted(root.rglob("*")) if path.is_file())


def _file(variant: Variant, root: Path, path: Path) -> tuple[str, tuple[bytes, int]]:
    relative = path.relative_to(root).parent / templates.target_name(path)
    target = templates.render(f"/{relative.as_posix()}", variant, path) if "{{" in str(relative) else f"/{relative}"
    content = templates.read(path, variant).encode() if path.suffix == templates.SUFFIX else path.read_bytes()
    return target, (content, 0o755 if os.access(path, os.X_OK) else 0o644)


def _run_setup(probes: Probes, variant: Variant, name: str) -> None:
    """Run each host's script of that name, on all hosts at once."""
    found = {place: templates.find(variant.lab.setup / place, name) for place in variant.lab.places}
    together(partial(run_script, probes.author_shell(at), at, path, variant) for at, path in found.items() if path)


def run_script(shell: Shell, host: str, script: Path, variant: Variant) -> None:
    """Run a script of the lab's author in a host, through a shell with the host's own tools.

    Raises StartFailed where it fails.
    """
    longest = _patience(SETUP_DEADLINE, variant)
    done = shell.run(f"bash -euo pipefail -s <<'{MARK}'\n{templates.read(script, variant)}\n{MARK}", longest)
    if done.exit_status:
        tail = "\n".join((done.text + done.error_text).strip().splitlines()[-8:])
        raise StartFailed(
            f"{script.name} failed on {host} with status {done.exit_status}", why=tail or "It was silent."
        )


def _patience(deadline: float, variant: Variant) -> float:
    return deadline * (CLUSTER_PATIENCE if variant.lab.cluster else 1)


MARK: Final = "BREAKFIX-END-OF-SCRIPT"


def symptoms(lab: Lab) -> tuple[tuple[str, Path], ...]:
    """Return the scripts that prove the broken state: (where, path); ``client`` is the container beside."""
    places = [(CLIENT, lab.setup), *((place, lab.setup / place) for place in lab.places)]
    return tuple((where, path) for where, folder in places if (path := templates.find(folder, "symptom.sh")))


def _prove_symptom(probes: Probes, variant: Variant) -> None:
    found = symptoms(variant.lab)
    if not found:
        path = variant.lab.setup / "symptom.sh"
        raise InvalidLab((Problem(path, 1, "a lab needs a symptom.sh that proves its broken state"),))
    longest = _patience(SYMPTOM_DEADLINE, variant)
    shells = [probes.client_shell() if where == CLIENT else probes.trusted_shell(where) for where, _ in found]
    together(
        partial(_wait_for_symptom, shell, templates.read(path, variant), path, longest)
        for shell, (_, path) in zip(shells, found, strict=True)
    )


def _wait_for_symptom(shell: Shell, script: str, path: Path, longest: float) -> None:
    begun = asked = time.monotonic()
    while (done := shell.run(f"set -eu\n{script}", SYMPTOM_DEADLINE)).exit_status:
        if time.monotonic() > begun + longest:
            said = (done.text + done.error_text).strip()
            raise StartFailed(
                "the broken state could not be proven",
                why=f"{path.name} ended with status {done.exit_status} for {longest:g} s: {said or 'silent'}",
                next_step="This is a fault of the lab or of this machine, not yours: breakfix selftest LAB",
            )
        # What is dear to ask is asked less often: it must not take the processor from what it waits for.
        time.sleep(max(PULSE, time.monotonic() - asked))
        asked = time.monotonic()


def reset(environment: Environment, session: Session, lab: Lab, tell: Tell) -> Started:
    """Bring a session's start state back: the same lab and seed, made anew under the same id."""
    tell("removing the old hosts")
    environment.stop((session.id,), again=True)
    return start(environment, lab, session.seed, tell, session.id)


def mine() -> tuple[Session, ...]:
    """Return my sessions in all environments, oldest first.  Raises NotReady."""
    found = [one for environment in environments.every() for one in environment.sessions(owner())]
    return tuple(sorted(found, key=lambda one: one.started))


def find(mine: tuple[Session, ...], wanted: str | None) -> Session:
    """Return the session of this id, or with this beginning or lab; the only one where nothing is named.

    Raises UnknownSession.
    """
    matches = [one for one in mine if wanted is None or _matches(one, wanted)]
    if len(matches) == 1:
        return matches[0]
    running = ", ".join(one.id for one in mine) or "none"
    if not mine:
        raise UnknownSession("no session runs", next_step="breakfix list, then breakfix start LAB")
    what = f"no session matches {wanted!r}" if not matches else f"{len(matches)} sessions match"
    raise UnknownSession(what, why=f"Running: {running}", next_step="Name one of them.")


def _matches(session: Session, wanted: str) -> bool:
    return session.id.startswith(wanted) or wanted in (session.lab, session.lab.rpartition("/")[2])
