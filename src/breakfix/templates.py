"""Renders what an author wrote as a template: briefs, setups, solutions.  An undefined name is an error."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from breakfix.errors import InvalidLab, Problem

if TYPE_CHECKING:
    from pathlib import Path

    from jinja2 import Environment

    from breakfix.model import Variant

SUFFIX = ".j2"


@cache
def _engine() -> Environment:
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415  # heavy

    # Shell and configuration files, not pages: escaping for HTML would corrupt them.
    return Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701


def read(path: Path, variant: Variant) -> str:
    """Return the text of ``path``, rendered when its name ends in ``.j2``.

    Raises InvalidLab naming file and line where the template is broken.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidLab((Problem(path, 1, f"not UTF-8: {error}"),)) from error
    return render(text, variant, path) if path.suffix == SUFFIX else text


def render(text: str, variant: Variant, path: Path) -> str:
    """Return ``text`` with the variant filled in; ``path`` is for the error message."""
    from jinja2 import TemplateError, TemplateSyntaxError  # noqa: PLC0415  # heavy

    names = {**variant.values, "lab": variant.lab, "seed": variant.seed, "hosts": variant.hosts}
    names |= {"network": variant.network, "namespaces": variant.namespaces}
    try:
        return _engine().from_string(text).render(names, token=variant.token)
    except TemplateSyntaxError as error:
        raise InvalidLab((Problem(path, error.lineno, str(error.message)),)) from error
    except TemplateError as error:
        raise InvalidLab((Problem(path, _line(error), str(error.message)),)) from error
    except Exception as error:  # what an expression in a template may raise: 1 / 0, "a" + 1
        raise InvalidLab((Problem(path, _line(error), f"{type(error).__name__}: {error}"),)) from error


def _line(error: BaseException) -> int:
    trace, line = error.__traceback__, 1
    while trace:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def target_name(path: Path) -> str:
    """Return the file name that a template is rendered to."""
    return path.name.removesuffix(SUFFIX)


def find(folder: Path, name: str) -> Path | None:
    """Return ``name`` or its template in ``folder``; None where there is neither."""
    for candidate in (folder / name, folder / f"{name}{SUFFIX}"):
        if candidate.is_file():
            return candidate
    return None
