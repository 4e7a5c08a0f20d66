"""Runs a grader with pytest against a session, and makes a grade of what it reports."""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from breakfix import variants
from breakfix.errors import CannotGrade, GraderFailed, UsageError
from breakfix.grading.probes import CLIENT, Probes
from breakfix.model import Grade, Look, Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from breakfix.environments import Environment
    from breakfix.model import JsonValue, Lab, Session, Variant


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one look gave."""

    results: tuple[Result, ...]
    integrity: tuple[str, ...]
    seconds: float
    """Without the waiting."""


def grade(
    environment: Environment,
    session: Session,
    lab: Lab,
    tell: Callable[[str], None],
    *,
    restart: bool = True,
    hints: tuple[int, int] = (0, 0),
) -> Grade:
    """Look into a session and judge it; ``restart=False`` leaves out the second look that a lab may ask for.

    ``hints`` is how many were taken and what they cost.

    Raises CannotGrade where nothing could be asked at all; a single check that could not is an ERROR in the grade.
    """
    started, begun = datetime.now(UTC), time.monotonic()
    variant = variants.of(lab, session)
    tell("looking")
    looks = [_look(environment, session, variant, Look.FIRST)]
    # Where nothing passed there is nothing to survive, and no reason to take the candidate's machine down.
    if restart and lab.restart and any(r.outcome is Outcome.PASSED for r in looks[0].results):
        tell("restarting the hosts, to see what survives")
        environment.restart(session)
        tell("looking again")
        looks.append(_look(environment, session, variant, Look.RESTARTED))
    return Grade(
        lab=lab.id,
        title=lab.title,
        seed=session.seed,
        session=session.id,
        results=_worst(looks),
        started=started,
        seconds=round(time.monotonic() - begun, 3),
        engine_seconds=round(sum(look.seconds for look in looks), 3),
        hints_taken=hints[0],
        hint_cost=hints[1],
        integrity=tuple(event for look in looks for event in look.integrity),
        profile=session.profile,
    )


def record_baseline(variant: Variant, probes: Probes) -> dict[str, JsonValue]:
    """Run the grader's ``@baseline`` function, where it has one, and return what it saw."""
    from breakfix.grading import baselines  # noqa: PLC0415

    if variant.lab.grader is None or not baselines.wanted(variant.lab.grader):
        return {}
    return baselines.record(variant.lab.grader, variant, probes)


def _worst(looks: list[_Seen]) -> tuple[Result, ...]:
    """Return each check's first result that did not pass, else its last."""
    by_check: dict[str, Result] = {}
    for look in looks:
        for result in look.results:
            before = by_check.get(result.check.name)
            if before is None or before.outcome is Outcome.PASSED:
                by_check[result.check.name] = result
    return tuple(by_check.values())


def _look(environment: Environment, session: Session, variant: Variant, look: Look) -> _Seen:
    grader = variant.lab.grader
    if grader is None:
        raise UsageError(f"{variant.lab.id} has no grader here", why="Only labs/ was handed out, not graders/.")
    begun = time.monotonic()
    with Probes(environment, session) as probes:
        probes.open_ahead(*_mentioned(grader, (next(iter(session.hosts)), CLIENT)))
        settled = probes.cluster.settle() if variant.lab.cluster else 0.0
        results, waited = _ask(grader, variant, probes, session.baseline, look)
        return _Seen(results, probes.integrity, time.monotonic() - begun - waited - settled)


def _mentioned(grader: Path, places: tuple[str, str]) -> list[str]:
    """Return which of the first host and the client a grader asks, as far as its words tell."""
    text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in grader.glob("test_*.py"))
    return [place for place, word in zip(places, (r"\bhosts?\b", r"\bclient\b"), strict=True) if re.search(word, text)]


def _ask(
    grader: Path, variant: Variant, probes: Probes, baseline: dict[str, JsonValue], look: Look
) -> tuple[tuple[Result, ...], float]:
    import pytest  # noqa: PLC0415  # heavy

    from breakfix.grading.plugin import GradingPlugin, options  # noqa: PLC0415

    plugin = GradingPlugin(variant, probes, baseline, look)
    plugins: list[Any] = [plugin]
    with _alone(grader):
        pytest.main(options(str(grader)), plugins=plugins)
    if plugin.interrupted:
        raise KeyboardInterrupt
    if plugin.broken or not plugin.collected:
        raise GraderFailed(
            f"the grader of {variant.lab.id} is broken",
            why="\n".join(plugin.broken) or "It has no checks.",
            next_step="breakfix lint",
        )
    if missing := [one.name for one in plugin.collected if one.name not in plugin.results]:
        raise CannotGrade(f"some checks were never asked: {', '.join(missing)}", next_step="breakfix grade --debug")
    plugin.hold()
    return tuple(plugin.results[one.name] for one in plugin.collected), plugin.waited


@contextmanager
def _alone(grader: Path) -> Iterator[None]:
    """Keep other plugins, options in the environment, byte code and the graders of other labs out of a grade."""
    before, writes = dict(os.environ), sys.dont_write_bytecode
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ.pop("PYTEST_ADDOPTS", None)
    os.environ.pop("PYTEST_PLUGINS", None)
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes
        # pytest would take a file of the same name in another grader for this one.
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(f"{grader}{os.sep}"):
                del sys.modules[name]
        os.environ.clear()
        os.environ.update(before)
