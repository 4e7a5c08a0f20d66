"""Runs the ``@baseline`` function of a grader, outside pytest: it gives no verdict, it only notes what is there."""

from __future__ import annotations

import inspect
import json
import time
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING, Any, Final

from breakfix.errors import BreakfixError, GraderFailed
from breakfix.grading.checks import BASELINE_MARK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from breakfix.grading.probes import Probes
    from breakfix.model import JsonValue, Variant


WORLD_UP: Final = 10.0
"""Seconds that a freshly made world may take to answer."""


def wanted(grader: Path) -> bool:
    """Return True if a file of the grader speaks of a baseline; importing it to find out would cost too much."""
    return any("@baseline" in path.read_text(encoding="utf-8") for path in grader.glob("test_*.py"))


def record(grader: Path, variant: Variant, probes: Probes) -> dict[str, JsonValue]:
    """Return what the baseline function saw.  Raises GraderFailed, CannotGrade."""
    for path in sorted(grader.glob("test_*.py")):
        for function in vars(_import(path)).values():
            if getattr(function, BASELINE_MARK, False):
                return _call(function, variant, probes)
    return {}


def _call(function: Callable[..., Any], variant: Variant, probes: Probes) -> dict[str, JsonValue]:
    offered: dict[str, Callable[[], object]] = {
        "lab": lambda: variant,
        "hosts": lambda: probes.hosts,
        "host": lambda: next(iter(probes.hosts.values())),
        "client": lambda: probes.client,
        "plain": lambda: probes.plain,
        "cluster": lambda: probes.cluster,
        "cloud": lambda: probes.cloud,
        "terraform": lambda: probes.terraform,
    }
    parameters = inspect.signature(function).parameters
    if unknown := parameters.keys() - offered.keys():
        raise GraderFailed(f"{function.__name__} asks for {', '.join(sorted(unknown))}, which a baseline does not have")
    arguments = {name: offered[name]() for name in parameters}
    try:
        seen = json.loads(json.dumps(_when_up(lambda: function(**arguments))))
    except BreakfixError:
        raise
    except Exception as error:
        raise GraderFailed(f"{function.__name__} broke", why=f"{type(error).__name__}: {error}") from error
    if not isinstance(seen, dict):
        raise GraderFailed(f"{function.__name__} returned no dictionary")
    return seen


def _when_up(ask: Callable[[], object]) -> object:
    """Ask until the world is up: a service that was just started may take a moment to answer."""
    deadline = time.monotonic() + WORLD_UP
    while True:
        try:
            return ask()
        except AssertionError as error:
            if time.monotonic() > deadline:
                raise GraderFailed("the baseline could not be taken", why=str(error)) from error
            time.sleep(0.02)


def _import(path: Path) -> object:
    spec = spec_from_file_location(f"breakfix_grader_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise GraderFailed(f"{path} is no Python file")
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise GraderFailed(
            f"the grader {path.name} can't be read", why=f"{type(error).__name__}: {error}", next_step="breakfix lint"
        ) from error
    return module
