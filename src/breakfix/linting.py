"""What can be said of a lab and its grader without running either: every problem at once, with file and line."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeGuard

from breakfix import templates
from breakfix.errors import BreakfixError, InvalidLab, Problem
from breakfix.model import Host
from breakfix.proving import attempts
from breakfix.sessions import symptoms
from breakfix.skills import SKILLS
from breakfix.variants import draw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from breakfix.catalog import Catalog
    from breakfix.model import Lab, Variant

POINTS: Final = 100
FEWEST_CHECKS: Final = 5
MOST_CHECKS: Final = 12
FEWEST_CHEATS: Final = 3
HOST_SCRIPTS: Final = frozenset({"prepare.sh", "break.sh", "symptom.sh"})


@dataclass(frozen=True, slots=True)
class WrittenCheck:
    """A check as it stands in the source, read without importing it."""

    name: str
    path: Path
    line: int
    title: str
    points: int
    skill: str
    needs: tuple[str, ...]


def lint(catalog: Catalog, labs: tuple[Lab, ...]) -> tuple[Problem, ...]:
    """Return everything that is wrong with the catalog and with ``labs``."""
    problems = [*catalog.problems, *(problem for lab in labs for problem in lint_lab(lab))]
    return tuple(sorted(set(problems)))


def lint_lab(lab: Lab) -> Iterator[Problem]:
    """Yield everything that is wrong with one lab."""
    yield from _lint_seeds(lab)
    yield from _lint_setup(lab)
    yield from _lint_templates(lab)
    if lab.grader is not None:
        yield from _lint_grader(lab, lab.grader)


def _lint_seeds(lab: Lab) -> Iterator[Problem]:
    drawn = [str(sorted(draw(lab, seed).values.items())) for seed in lab.seeds]
    if len(set(drawn)) < len(drawn):
        yield Problem(lab.folder / "lab.toml", 1, "two seeds draw the same variant: choose others")


def _lint_setup(lab: Lab) -> Iterator[Problem]:
    if templates.find(lab.folder, "brief.md") is None:
        yield Problem(lab.folder / "brief.md.j2", 1, "a lab needs a brief")
    if not symptoms(lab):
        yield Problem(lab.setup / "symptom.sh", 1, "a lab needs a symptom.sh that proves its broken state")
    known = set(lab.places)
    for entry in sorted(lab.setup.iterdir()) if lab.setup.is_dir() else ():
        if entry.is_dir() and entry.name not in known:
            yield Problem(entry, 1, f"no host is called {entry.name}; the lab has {', '.join(sorted(known))}")
        elif entry.is_dir():
            yield from _lint_strays(entry)


def _lint_strays(folder: Path) -> Iterator[Problem]:
    for entry in sorted(folder.iterdir()):
        if entry.name != "files" and templates.target_name(entry) not in HOST_SCRIPTS:
            yield Problem(entry, 1, f"nobody reads this: only files/, {', '.join(sorted(HOST_SCRIPTS))} are used")


def _lint_templates(lab: Lab) -> Iterator[Problem]:
    hosts = {host.name: Host(host.name, f"192.0.2.{n}") for n, host in enumerate(lab.hosts, start=1)}
    variant = draw(lab, lab.seeds[0], hosts, "192.0.2.0/28")
    for folder in (lab.folder, lab.grader):
        for path in sorted(folder.rglob(f"*{templates.SUFFIX}")) if folder else ():
            yield from _lint_template(path, variant)


def _lint_template(path: Path, variant: Variant) -> Iterator[Problem]:
    try:
        templates.read(path, variant)
    except InvalidLab as error:
        yield from error.problems
    except (BreakfixError, UnicodeDecodeError) as error:
        yield Problem(path, 1, str(error))


def _lint_grader(lab: Lab, grader: Path) -> Iterator[Problem]:
    if templates.find(grader, "debrief.md") is None:
        yield Problem(grader / "debrief.md.j2", 1, "a lab needs a debrief")
    checks: list[WrittenCheck] = []
    for path in sorted(grader.glob("test_*.py")):
        found, problems = read_checks(path)
        checks += found
        yield from problems
    yield from _lint_checks(grader, checks)
    yield from _lint_attempts(lab, grader, checks)


def _lint_checks(grader: Path, checks: list[WrittenCheck]) -> Iterator[Problem]:
    where = checks[0].path if checks else grader / "test_lab.py"
    if not FEWEST_CHECKS <= len(checks) <= MOST_CHECKS:
        yield Problem(where, 1, f"{len(checks)} checks; a lab has {FEWEST_CHECKS} to {MOST_CHECKS}")
    if (total := sum(check.points for check in checks)) != POINTS:
        yield Problem(where, 1, f"the checks give {total} points together, not {POINTS}")
    above: set[str] = set()
    for check in checks:
        if check.skill not in SKILLS:
            yield Problem(check.path, check.line, f"{check.name}: unknown skill {check.skill!r}")
        if not check.title:
            yield Problem(check.path, check.line, f"{check.name}: a check needs a docstring, the line people read")
        if check.name in above:
            yield Problem(check.path, check.line, f"{check.name} is there twice: one of them would never be asked")
        if missing := [name for name in check.needs if name not in above]:
            yield Problem(check.path, check.line, f"{check.name} needs {', '.join(missing)}, which is not above it")
        above.add(check.name)


def _lint_attempts(lab: Lab, grader: Path, checks: list[WrittenCheck]) -> Iterator[Problem]:
    cheats, names = attempts(lab, "cheats"), {check.name for check in checks}
    if not attempts(lab, "solutions"):
        yield Problem(grader / "solutions", 1, "a lab needs a reference solution")
    if len(cheats) < FEWEST_CHEATS:
        yield Problem(grader / "cheats", 1, f"{len(cheats)} cheats and half-fixes; a lab has {FEWEST_CHEATS} or more")
    yield from _lint_scripts(lab)
    for cheat in cheats:
        script = cheat.scripts[0][1] if cheat.scripts else grader / "cheats"
        if not cheat.must_fail:
            yield Problem(script, 1, "say which checks it must fail: # fails: test_…")
        if unknown := set(cheat.must_fail) - names:
            yield Problem(script, 1, f"no check is called {', '.join(sorted(unknown))}")
    caught = {name for cheat in cheats for name in cheat.must_fail}
    for check in checks:
        if check.name not in caught:
            yield Problem(
                check.path, check.line, f"no cheat fails {check.name}: a check that can't fail is not a check"
            )


def _lint_scripts(lab: Lab) -> Iterator[Problem]:
    hosts = {host.name: host for host in lab.hosts}
    for attempt in (*attempts(lab, "solutions"), *attempts(lab, "cheats")):
        for host, script in attempt.scripts:
            if host not in hosts:
                yield Problem(script, 1, f"no host is called {host!r}: name the script N-HOST.sh")
            elif hosts[host].closed:
                yield Problem(script, 1, f"{host} is closed: a candidate could not have done that there")


def read_checks(path: Path) -> tuple[list[WrittenCheck], list[Problem]]:
    """Read the checks of one grader file, and what is wrong with the way they are written."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except SyntaxError as error:
        return [], [Problem(path, error.lineno or 1, f"not Python: {error.msg}")]
    except ValueError as error:  # no UTF-8, or a null byte
        return [], [Problem(path, 1, f"not Python: {error}")]
    checks, problems = [], []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            call = next((one for one in node.decorator_list if _is_check(one)), None)
            if isinstance(call, ast.Call):
                checks.append(_written(path, node, call))
            else:
                problems.append(Problem(path, node.lineno, f"{node.name} has no @check(points=…, skill=…)"))
        elif _would_be_asked_unseen(node):
            problems.append(Problem(path, node.lineno, f"{node.name}: a check is a plain function of the file"))
    return checks, problems


def _would_be_asked_unseen(node: ast.stmt) -> TypeGuard[ast.ClassDef | ast.AsyncFunctionDef]:
    """Return whether pytest would collect checks from this that nobody here has counted."""
    in_class = isinstance(node, ast.ClassDef) and node.name.startswith("Test")
    return in_class or (isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_"))


def _is_check(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check"


def _written(path: Path, node: ast.FunctionDef, call: ast.Call) -> WrittenCheck:
    given = {word.arg: _literal(word.value) for word in call.keywords if word.arg}
    points, needs = given.get("points"), given.get("needs", ())
    return WrittenCheck(
        name=node.name,
        path=path,
        line=node.lineno,
        title=" ".join((ast.get_docstring(node) or "").split()),
        points=points if isinstance(points, int) else 0,
        skill=str(given.get("skill", "")),
        needs=(needs,) if isinstance(needs, str) else tuple(needs) if isinstance(needs, list | tuple | set) else (),
    )


def _literal(node: ast.expr) -> object:
    try:
        value: object = ast.literal_eval(node)
    except (ValueError, TypeError):
        return None
    return value
