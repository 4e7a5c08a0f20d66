"""Draws a lab's variant from a seed: the same seed gives the same names, ports and faults, everywhere and for ever."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from breakfix.model import Variant

if TYPE_CHECKING:
    from breakfix.model import Host, JsonValue, Lab, Session


def draw(lab: Lab, seed: int, hosts: dict[str, Host] | None = None, network: str = "") -> Variant:
    """Return the variant of ``lab`` that ``seed`` stands for, on ``hosts`` where it has been started."""
    namespaces = {name: name for name in lab.cluster.namespaces} if lab.cluster else {}
    values = {key: _pick(f"{lab.id}/{seed}/{key}", choices) for key, choices in lab.variants.items()}
    return Variant(lab=lab, seed=seed, values=values, hosts=hosts or {}, network=network, namespaces=namespaces)


def of(lab: Lab, session: Session) -> Variant:
    """Return the variant of ``lab`` that a session has."""
    return replace(draw(lab, session.seed, session.hosts, session.network), namespaces=session.namespaces)


def _pick(key: str, choices: tuple[JsonValue, ...]) -> JsonValue:
    # Not random.Random: its sequence for a given seed is a detail of the Python that runs it.
    digest = sha256(key.encode()).digest()
    return choices[int.from_bytes(digest[:8], "big") % len(choices)]
