"""Reads the recipes of ``docker/``: what an image is made from, and so what it is called.

An image is a folder of ``docker/``; a part, which is compiled for an image, a folder of ``docker/IMAGE/parts``.  They
are found, not listed.  What an image stands on and copies from is named by the arguments before its Dockerfile's first
``FROM``: ``ARG NODE_OS`` is the image ``node-os``.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING

from breakfix.catalog import bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPOSITORY = "breakfix"
PARTS = "parts"
"""The folder of an image that holds recipes of their own, and so does not count among its files."""
COMPILER = "go"
"""The image in which parts are compiled."""
DEFINITIONS = "breakfix.definitions"
"""The label of an image whose pods need kinds of their own: the file in it that defines them."""
ARGUMENT = re.compile(r"ARG ([A-Z0-9_]+)\s*$")


def folder(name: str) -> Path:
    """Return the folder of the recipe called ``name``."""
    docker = bundle() / "docker"
    places = (docker / name, *docker.glob(f"*/{PARTS}/{name}"))
    return next((one for one in places if one.is_dir()), docker / name)


def found() -> tuple[str, ...]:
    """Return the names of all recipes."""
    docker = bundle() / "docker"
    return tuple(sorted(one.name for place in (docker, *docker.glob(f"*/{PARTS}")) for one in _folders(place)))


def _folders(place: Path) -> Iterator[Path]:
    return (one for one in place.iterdir() if one.is_dir()) if place.is_dir() else iter(())


def is_part(name: str) -> bool:
    """Return True if ``name`` is compiled and not built from a Dockerfile."""
    return (folder(name) / "build.sh").is_file()


def needs(name: str) -> tuple[str, ...]:
    """Return the names of the images that ``name`` is built from."""
    if is_part(name):
        return (COMPILER,)
    return tuple(argument.lower().replace("_", "-") for argument in arguments(name))


def arguments(name: str) -> tuple[str, ...]:
    """Return the build arguments of ``name`` that stand for other images."""
    dockerfile = folder(name) / "Dockerfile"
    found: list[str] = []
    if dockerfile.is_file():
        for line in dockerfile.read_text(encoding="utf-8").splitlines():
            if line.startswith("FROM "):
                break
            if argument := ARGUMENT.match(line):
                found.append(argument[1])
    return tuple(found)


def with_needs(name: str) -> tuple[str, ...]:
    """Return ``name`` and all that it is built from, each after what it is built from itself."""
    ordered: dict[str, None] = {}
    for need in needs(name):
        ordered.update(dict.fromkeys(with_needs(need)))
    return (*ordered, name)


def files(name: str) -> Iterator[tuple[str, Path]]:
    """Yield the files of a recipe with their paths in its folder, in order."""
    own = folder(name)
    for path in sorted(own.rglob("*")):
        relative = path.relative_to(own)
        if path.is_file() and relative.parts[0] != PARTS:
            yield relative.as_posix(), path


def has_definitions(name: str) -> bool:
    """Return True if pods of the image need kinds that a cluster has to be told of first."""
    dockerfile = folder(name) / "Dockerfile"
    return dockerfile.is_file() and f"LABEL {DEFINITIONS}=" in dockerfile.read_text(encoding="utf-8")


def tag(name: str) -> str:
    """Return the tag that ``name`` has with today's recipe, and with those of all that it is built from."""
    digest = sha256()
    for recipe in with_needs(name):
        for relative, path in files(recipe):
            digest.update(f"{recipe}/{relative}\0".encode() + path.read_bytes())
    return f"{REPOSITORY}/{name}:{digest.hexdigest()[:12]}"
