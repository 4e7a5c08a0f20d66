"""Contexts of the user's own kubeconfig: read, and never changed."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from breakfix.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from breakfix.cluster.api import Object

FILES: Final = ("certificate-authority", "client-certificate", "client-key")
"""Fields that name a file; each has a twin with ``-data`` that holds what is in it."""


def names() -> tuple[str, ...]:
    """Return what the user may name."""
    return tuple(dict.fromkeys(str(one["name"]) for _, found in _files() for one in found.get("contexts") or []))


def read(name: str) -> Object:
    """Return a kubeconfig that has this context alone, with everything in it.  Raises UsageError."""
    if name not in names():
        known = ", ".join(names()) or "none"
        raise UsageError(
            f"no context is called {name!r}", next_step=f"kubectl config get-contexts; known here: {known}"
        )
    context = _find("contexts", name)["context"]
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": name, "contexts": [{"name": name, "context": context}],
        "clusters": [_find("clusters", str(context["cluster"]))], "users": [_find("users", str(context["user"]))],
    }  # fmt: skip


def _find(kind: str, name: str) -> dict[str, Any]:
    """Return an entry with what its files hold.  The first file that has one of that name counts, as for kubectl."""
    for folder, found in _files():
        for one in found.get(kind) or []:
            if one["name"] == name:
                (field,) = one.keys() - {"name"}
                return {"name": name, field: _whole(one[field] or {}, folder)}
    raise UsageError(f"the kubeconfig has no {kind[:-1]} {name!r}", next_step="kubectl config view")


def _whole(entry: dict[str, Any], folder: Path) -> dict[str, Any]:
    told = dict(entry)
    for field in FILES:
        if path := told.pop(field, None):
            try:
                content = (folder / path).read_bytes()
            except OSError as error:
                raise UsageError(f"the kubeconfig names a file that can't be read: {path}", why=str(error)) from error
            told[f"{field}-data"] = base64.b64encode(content).decode()
    return told


def _files() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Read each file that kubectl would read, with the folder that its paths start from."""
    import yaml  # type: ignore[import-untyped]  # noqa: PLC0415

    said = os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    for path in (Path(one) for one in said.split(os.pathsep) if one):
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UsageError(f"{path} is no kubeconfig that can be read", why=str(error)) from error
        if isinstance(found, dict):
            yield path.parent, found
