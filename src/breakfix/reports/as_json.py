"""The report as one JSON document, for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from breakfix.reports.evidence import cleaned
from breakfix.reports.record import to_json_value

if TYPE_CHECKING:
    from breakfix.reports.record import Report


def render(report: Report) -> str:
    """Return the document; keys keep their order, and nothing but ASCII is in it, whatever the locale."""
    return json.dumps(to_json_value(cleaned(report)), indent=2) + "\n"
