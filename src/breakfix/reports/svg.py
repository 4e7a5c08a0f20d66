"""The few shapes that our drawings are made of.

They are built as a tree, so that no text can break out of its place.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

COLOURS = """
.bf{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
.bf text{fill:var(--ink,#1c2330)} .bf .soft{fill:var(--soft,#5b6675)}
.bf .line{stroke:var(--line,#d5dae1)} .bf .budget{stroke:var(--warn,#9a6700);stroke-dasharray:4 3}
.bf .good{fill:var(--good-fill,#d9f2e1);stroke:var(--good,#1a7f4b)} .bf .goodtext{fill:var(--good,#1a7f4b)}
.bf .bad{fill:var(--bad-fill,#fbe1e1);stroke:var(--bad,#b42332)} .bf .badtext{fill:var(--bad,#b42332)}
.bf .none{fill:none;stroke:var(--faint,#aeb7c3);stroke-dasharray:3 3} .bf .nonetext{fill:var(--soft,#5b6675)}
.bf .grade{fill:var(--accent,#2457c5)} .bf .hint{fill:var(--warn,#9a6700)} .bf .other{fill:var(--ink,#1c2330)}
"""
"""The page's colours where it has them, and our own where a drawing stands alone."""


def canvas(width: int, height: int, label: str) -> ET.Element:
    """Return an empty drawing that scales with its page and says what it shows."""
    size = {"viewBox": f"0 0 {width} {height}", "width": "100%"}
    drawing = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": "bf", "role": "img", **size})
    drawing.set("aria-label", label)
    ET.SubElement(drawing, "style").text = COLOURS
    return drawing


def add(parent: ET.Element, tag: str, css: str = "", text: str = "", /, **numbers: float | str) -> ET.Element:
    """Add one shape; underscores in a name become hyphens, as in ``text_anchor``."""
    attributes = {name.replace("_", "-"): _short(value) for name, value in numbers.items()}
    shape = ET.SubElement(parent, tag, {"class": css, **attributes} if css else attributes)
    shape.text = text or None
    return shape


def source(drawing: ET.Element) -> str:
    """Return the drawing as text."""
    return ET.tostring(drawing, encoding="unicode")


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
