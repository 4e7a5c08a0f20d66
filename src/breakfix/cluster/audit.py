"""What a candidate changed in a cluster, from the API server's own log, which they can neither write nor avoid."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from breakfix.cluster.objects import field
from breakfix.model import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

KIND: Final = "change"
"""Of an event that stands for one change."""
MOST: Final = 500
"""Events of one session that are shown: whoever makes more has scripted it."""
QUIET: Final = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"})
"""What kubectl asks by itself."""


def user(namespace: str, account: str) -> str:
    """Return how the log calls a service account."""
    return f"system:serviceaccount:{namespace}:{account}"


def read(log: str, session_id: str, who: str, after: datetime | None = None) -> tuple[Event, ...]:
    """Return the changes that ``who`` asked for, oldest first, refused ones too; ``log`` has a JSON object a line.

    A line that is no JSON is left out: the log may be read in the midst of being written.
    """
    found = (_event(entry, session_id) for entry in _entries(log) if _concerns(entry, who))
    return tuple(one for one in sorted(found, key=lambda one: one.at) if after is None or one.at > after)[:MOST]


def _entries(log: str) -> Iterator[dict[str, Any]]:
    for line in log.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry


def _concerns(entry: dict[str, Any], who: str) -> bool:
    mine = field(entry, "user.username") == who and entry.get("stage") == "ResponseComplete"
    return mine and field(entry, "objectRef.resource") not in QUIET


def _event(entry: dict[str, Any], session_id: str) -> Event:
    what = field(entry, "objectRef", {})
    parts = [what.get("resource", "?"), what.get("name"), what.get("subresource")]
    code = field(entry, "responseStatus.code", 0)
    refused = f", refused ({code})" if code >= 400 else ""  # noqa: PLR2004
    where = f" in {what['namespace']}" if what.get("namespace") else ""
    detail = f"{entry.get('verb')} {'/'.join(part for part in parts if part)}{where}{refused}"
    return Event(session_id, datetime.fromisoformat(str(entry.get("requestReceivedTimestamp"))), KIND, detail)
