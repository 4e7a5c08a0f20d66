"""Reads objects of the API, which are plain JSON: whoever may write them may have left any field out."""

from __future__ import annotations

from typing import Any


def field(found: Any, path: str, default: Any = None) -> Any:  # noqa: ANN401  # JSON is whatever it is
    """Return what stands at a dotted path of an object; the default where it is missing or null on the way."""
    for key in path.split("."):
        if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        elif isinstance(found, dict):
            found = found.get(key)
        else:
            return default
    return default if found is None else found


def condition(found: Any, kind: str) -> dict[str, Any]:  # noqa: ANN401
    """Return a condition of an object's status; an empty one where it has none of that kind."""
    return next((one for one in field(found, "status.conditions", []) if one.get("type") == kind), {})


def is_ready(pod: Any) -> bool:  # noqa: ANN401
    """Return whether a pod is ready and stays."""
    return condition(pod, "Ready").get("status") == "True" and not field(pod, "metadata.deletionTimestamp")
