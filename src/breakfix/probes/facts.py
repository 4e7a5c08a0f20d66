"""What was found as flat facts, a path and a value each, that can be compared: nothing lost, nothing weakened.

``shop/deployments/orders/replicas`` is ``2``; ``users/deploy/policies/ship/0/Effect`` is ``Allow``.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from breakfix.model import JsonValue


def leaves(value: object, short: Collection[str] = (), path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield each value of nested JSON with its path, in which the levels called as in ``short`` are left out.

    Items of lists go by their name, or by themselves, so that their order does not matter.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, short, path if key in short else (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves(inner, short, (*path, _named(inner, number)))
    elif value is not None and path:
        yield "/".join(path), value


def _named(item: object, number: int) -> str:
    if isinstance(item, dict) and isinstance(item.get("name"), str):
        return str(item["name"])
    return str(number) if isinstance(item, dict) else str(item)


def differences(
    before: Mapping[str, JsonValue], now: Mapping[str, JsonValue], allow: Iterable[str] = (), new: Iterable[str] = ()
) -> list[str]:
    """Say what is gone or changed of ``before``, and what is new below the patterns ``new``.

    Patterns are of paths, as a shell has them; ``*`` matches across slashes.  What ``allow`` matches is not told.
    """
    allowed, refused = tuple(allow), tuple(new)
    told = [
        _told(path, value, now) for path, value in before.items() if now.get(path) != value and not _any(path, allowed)
    ]
    whole = {one.removesuffix(" is gone") for one in told if one.endswith(" is gone")}
    # Of an object that is gone, its fields need not be told as well.
    told = [one for one in told if not any(one.startswith(f"{gone}/") for gone in whole)]
    added = [path for path in now if path not in before and _any(path, refused) and not _any(path, allowed)]
    return told + [f"{path} is new: {now[path]}" for path in added]


def _told(path: str, value: JsonValue, now: Mapping[str, JsonValue]) -> str:
    return f"{path} is gone" if path not in now else f"{path} was {value}, is {now[path]}"


def _any(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)
