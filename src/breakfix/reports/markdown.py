"""Turns the Markdown of a debrief into HTML that cannot hurt.

A small subset and no more: headings, paragraphs, fenced code, lists, inline code, bold, emphasis, and links to
http(s).  Every character is escaped before a tag of ours goes around it, so nothing that is written can become a tag
of its own.
"""

from __future__ import annotations

import re
from html import escape
from textwrap import dedent

_FENCE = re.compile(r"^\s*(```|~~~)")
_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*$")
_BULLET = re.compile(r"^\s*([-*+])\s+(.*)$")
_NUMBER = re.compile(r"^\s*(\d{1,9})[.)]\s+(.*)$")
_INLINE = re.compile(
    r"(?P<ticks>`+)(?P<code>.+?)(?P=ticks)"
    r"|\[(?P<label>[^\]]+)\]\((?P<address>https?://[^\s()\"'<>]+)\)"
    r"|\*\*(?P<bold>\S(?:.*?\S)?)\*\*"
    r"|\*(?P<stress>[^*\s](?:[^*]*[^*\s])?)\*"
)

TOP = 3
"""The level of the first heading: a debrief stands below a heading of the page."""


def to_html(text: str) -> str:
    """Convert text to HTML; what is not in the subset stays as it was written."""
    lines = text.splitlines()
    blocks: list[str] = []
    while lines:
        blocks.append(_block(lines))
    return "\n".join(block for block in blocks if block)


def _block(lines: list[str]) -> str:
    """Take one block off the front of the lines."""
    if not lines[0].strip():
        lines.pop(0)
        return ""
    if fence := _FENCE.match(lines[0]):
        return _code_block(lines, fence[1])
    if heading := _HEADING.match(lines[0]):
        lines.pop(0)
        return _heading(heading)
    for tag, pattern in (("ul", _BULLET), ("ol", _NUMBER)):
        if pattern.match(lines[0]):
            return _list(lines, tag, pattern)
    return f"<p>{_inline(' '.join(_run(lines)))}</p>"


def _heading(found: re.Match[str]) -> str:
    level = min(6, TOP - 1 + len(found[1]))
    return f"<h{level}>{_inline(found[2])}</h{level}>"


def _code_block(lines: list[str], fence: str) -> str:
    """Take lines up to the closing fence, or all of them where it is missing."""
    lines.pop(0)
    code: list[str] = []
    while lines:
        line = lines.pop(0)
        if line.strip() == fence:
            break
        code.append(line)
    return f"<pre><code>{escape(dedent(chr(10).join(code)))}</code></pre>"


def _list(lines: list[str], tag: str, pattern: re.Pattern[str]) -> str:
    opening = _opening(tag, pattern.match(lines[0]))
    items: list[str] = []
    while lines and (found := pattern.match(lines[0])):
        lines[0] = found[2]
        items.append(f"<li>{_inline(' '.join(_run(lines)))}</li>")
        if len(lines) > 1 and not lines[0].strip() and pattern.match(lines[1]):
            lines.pop(0)  # a blank line between two items does not end the list
    return f"{opening}{''.join(items)}</{tag}>"


def _opening(tag: str, first: re.Match[str] | None) -> str:
    # code between two items ends a list here, so the next one goes on counting where its author did
    start = int(first[1]) if first and tag == "ol" else 1
    return f"<{tag}>" if start == 1 else f'<{tag} start="{start}">'


def _run(lines: list[str]) -> list[str]:
    """Take lines up to the next block."""
    taken = [lines.pop(0).strip()]
    while lines and lines[0].strip() and not _begins_block(lines[0]):
        taken.append(lines.pop(0).strip())
    return taken


def _begins_block(line: str) -> bool:
    return any(pattern.match(line) for pattern in (_FENCE, _HEADING, _BULLET, _NUMBER))


def _inline(text: str) -> str:
    """Convert what stands within a line; whatever begins first wins, so nothing is read inside inline code."""
    parts: list[str] = []
    end = 0
    for found in _INLINE.finditer(text):
        parts += [escape(text[end : found.start()]), _marked(found)]
        end = found.end()
    return "".join([*parts, escape(text[end:])])


def _marked(found: re.Match[str]) -> str:
    if found["code"]:
        return f"<code>{escape(found['code'].strip())}</code>"
    if found["bold"]:
        return f"<strong>{_inline(found['bold'])}</strong>"
    if found["stress"]:
        return f"<em>{_inline(found['stress'])}</em>"
    return f'<a href="{escape(found["address"])}" rel="noopener noreferrer">{_inline(found["label"])}</a>'
