"""One result record in, many renderers out.

Each renderer is a module with ``render(report) -> str``.  None is imported before it is asked for, so that a plain
``breakfix grade`` pays for no template engine.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from breakfix.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from breakfix.reports.record import Report

__all__ = ["FORMATS", "render"]

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "text": "breakfix.reports.text",
        "json": "breakfix.reports.as_json",
        "junit": "breakfix.reports.junit",
        "tap": "breakfix.reports.tap",
        "github": "breakfix.reports.github",
        "html": "breakfix.reports.html",
    }
)
"""The module that renders each format."""


def render(report: Report, form: str) -> str:
    """Render a report in one of ``FORMATS``.

    Raises:
        UsageError: no renderer makes this format.

    """
    if form not in FORMATS:
        what = f"There is no report format {form!r}."
        raise UsageError(what, next_step=f"Choose one of: {', '.join(FORMATS)}.")
    renderer = cast("Callable[[Report], str]", import_module(FORMATS[form]).render)
    return renderer(report)
