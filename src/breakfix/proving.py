"""The self-test: no lab counts that was not proven, on every seed, both ways.

Five proofs for each lab and seed: untouched it scores 0; every reference solution scores 100; every cheat fails on the
checks that it names; a reset brings the start state back; nothing is left behind.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from breakfix import sessions, templates, variants
from breakfix.errors import BreakfixError, UsageError
from breakfix.grading.probes import Probes
from breakfix.grading.runner import grade
from breakfix.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from breakfix.environments import Environment
    from breakfix.model import Grade, Lab, Session

    Tell = Callable[[str], None]


class Proof(StrEnum):
    """The five things that are proven."""

    UNTOUCHED = "untouched"
    SOLUTIONS = "solutions"
    CHEATS = "cheats"
    RESET = "reset"
    CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing tried, and whether it came out as it must."""

    proof: Proof
    subject: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything that was tried for one lab on one seed."""

    lab: str
    seed: int
    findings: tuple[Finding, ...]
    seconds: float
    start_seconds: float = 0.0

    @property
    def proven(self) -> bool:
        """True if all five proofs were made."""
        return {finding.proof for finding in self.findings} == set(Proof) and all(f.ok for f in self.findings)

    def of(self, proof: Proof) -> tuple[Finding, ...]:
        """Return the findings of one proof."""
        return tuple(finding for finding in self.findings if finding.proof is proof)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A scripted way through a lab: a solution, or a cheat with the checks that it must fail."""

    name: str
    scripts: tuple[tuple[str, Path], ...]
    """(host, script) in the order in which they run."""
    must_fail: tuple[str, ...] = ()


def attempts(lab: Lab, kind: str) -> tuple[Attempt, ...]:
    """Return the lab's ``solutions`` or ``cheats``.

    ``NAME.sh[.j2]`` runs on the lab's first host; in a folder ``NAME/``, each ``N-HOST.sh[.j2]`` runs on its host.
    """
    folder = _grader(lab) / kind
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return tuple(_attempt(lab, entry) for entry in entries if entry.is_dir() or ".sh" in entry.suffixes)


def _grader(lab: Lab) -> Path:
    if lab.grader is None:
        raise UsageError(f"{lab.id} has no grader here", why="Only labs/ was handed out, not graders/.")
    return lab.grader


def _attempt(lab: Lab, entry: Path) -> Attempt:
    if entry.is_dir():
        scripts = tuple((_host_of(path), path) for path in sorted(entry.iterdir(), key=_turn))
    else:
        scripts = ((lab.hosts[0].name, entry),)
    named = [name for _, path in scripts for name in _named_checks(path)]
    return Attempt(entry.name.partition(".")[0], scripts, tuple(named))


def _turn(path: Path) -> tuple[int, str]:
    """Return what ``N-HOST.sh`` is sorted by: 2 runs before 10."""
    number = path.name.partition("-")[0]
    return (int(number) if number.isdecimal() else 0, path.name)


def _host_of(path: Path) -> str:
    return templates.target_name(path).removesuffix(".sh").partition("-")[2]


def _named_checks(path: Path) -> list[str]:
    found = re.search(r"^# fails:(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return re.findall(r"[^,\s]+", found[1]) if found else []


def prove(environment: Environment, lab: Lab, seed: int, tell: Tell) -> Verdict:
    """Make the five proofs, and tell of each thing tried.  Trouble on the way is a finding, never an exception."""
    begun = time.monotonic()
    findings: list[Finding] = []
    wanted = sessions.new_id(lab)
    start_seconds = 0.0
    try:
        started = sessions.start(environment, lab, seed, lambda _: None, wanted)
        start_seconds = started.seconds
        tell(f"started in {start_seconds:.1f} s")
        for finding in _proofs(environment, lab, started.session):
            findings.append(finding)
            tell(_line(finding))
    except BreakfixError as error:
        findings.append(Finding(Proof.UNTOUCHED, "start", ok=False, detail=str(error)))
    finally:
        findings.append(_clean(environment, wanted))
    return Verdict(lab.id, seed, tuple(findings), time.monotonic() - begun, start_seconds)


def _line(finding: Finding) -> str:
    what = finding.subject if finding.subject == finding.proof else f"{finding.proof} {finding.subject}"
    return f"{what}: {'ok' if finding.ok else finding.detail}"


def _proofs(environment: Environment, lab: Lab, session: Session) -> Iterator[Finding]:
    yield _expect_nothing(Proof.UNTOUCHED, _grade(environment, lab, session))
    for solution in attempts(lab, "solutions"):
        yield _expect_all(solution, _try(environment, lab, session, solution))
    back = sessions.reset(environment, session, lab, lambda _: None).session
    yield _expect_nothing(Proof.RESET, _grade(environment, lab, back))
    for cheat in attempts(lab, "cheats"):
        yield _expect_caught(cheat, _try(environment, lab, session, cheat))


def _try(environment: Environment, lab: Lab, session: Session, attempt: Attempt) -> Grade | BreakfixError:
    """Start anew, run the attempt, grade.  A cheat that is caught at once needs no second look after a restart."""
    try:
        fresh = sessions.reset(environment, session, lab, lambda _: None).session
        perform(environment, fresh, lab, attempt)
        if attempt.must_fail:
            first = grade(environment, fresh, lab, lambda _: None, restart=False)
            if not _missed(attempt, first):
                return first
        return _grade(environment, lab, fresh)
    except BreakfixError as error:
        return error


def perform(environment: Environment, session: Session, lab: Lab, attempt: Attempt) -> None:
    """Type an attempt into the hosts of a session.  Raises StartFailed where a script of it fails."""
    variant = variants.of(lab, session)
    with Probes(environment, session) as probes:
        for host, script in attempt.scripts:
            sessions.run_script(probes.plain_shell(host), host, script, variant)


def _missed(attempt: Attempt, seen: Grade) -> list[str]:
    failed = {result.check.name for result in seen.of(Outcome.FAILED)}
    return [name for name in attempt.must_fail if name not in failed]


def _grade(environment: Environment, lab: Lab, session: Session) -> Grade:
    return grade(environment, session, lab, lambda _: None)


def _expect_nothing(proof: Proof, seen: Grade) -> Finding:
    ok = seen.earned == 0 and seen.gradable
    return Finding(proof, proof.value, ok, f"{seen.earned} of {seen.total} points" + _said(seen, ok=ok))


def _expect_all(attempt: Attempt, seen: Grade | BreakfixError) -> Finding:
    if isinstance(seen, BreakfixError):
        return Finding(Proof.SOLUTIONS, attempt.name, ok=False, detail=str(seen))
    # A solution that looks like tampering would be held against an honest person.
    ok = seen.passed and not seen.integrity
    detail = f"{seen.earned} of {seen.total} points" + _said(seen, ok=ok) + "".join(f"\n  {e}" for e in seen.integrity)
    return Finding(Proof.SOLUTIONS, attempt.name, ok, detail)


def _expect_caught(attempt: Attempt, seen: Grade | BreakfixError) -> Finding:
    if isinstance(seen, BreakfixError):
        return Finding(Proof.CHEATS, attempt.name, ok=False, detail=str(seen))
    missed = _missed(attempt, seen)
    ok = bool(attempt.must_fail) and not missed and seen.gradable
    detail = f"failed {', '.join(sorted(result.check.name for result in seen.of(Outcome.FAILED))) or 'nothing'}"
    return Finding(
        Proof.CHEATS, attempt.name, ok, detail if ok else f"{detail}; must fail {missed}{_said(seen, ok=ok)}"
    )


def _said(seen: Grade, *, ok: bool) -> str:
    if ok:
        return ""
    wrong = [r for r in seen.results if r.outcome is not Outcome.SKIPPED]
    return "".join(f"\n  {r.outcome} {r.check.name} ({r.look}): expected {r.expected}; saw {r.seen}" for r in wrong)


def _clean(environment: Environment, session_id: str) -> Finding:
    try:
        # Whoever is told to end may be told twice: by its own terminal, and by the pool that it is one of.
        with sessions.interrupts_wait():
            environment.stop((session_id,))
            left = environment.leftovers(session_id)
    except BreakfixError as error:
        left = (str(error),)
    return Finding(Proof.CLEAN, "stop", not left, ", ".join(left) or "nothing left")
