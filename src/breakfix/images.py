"""Builds and caches the images of ``docker/``, with or without a registry.

An image's tag is the digest of what it is made from, so that a changed recipe is built and an unchanged one never is.
What an image is built from is only looked for when the image itself is missing.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from breakfix import finishing, parts, recipes
from breakfix.catalog import bundle
from breakfix.engine.client import connect, not_ready, reason
from breakfix.engine.storing import follow_build, store_flat
from breakfix.errors import ImageBuildFailed, UsageError
from breakfix.recipes import tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docker import APIClient

    Tell = Callable[[str], None]

UPSTREAM = "debian:bookworm-slim"
"""What ``base`` is where a registry answers."""
NAMES = ("base", "toolbox", "host")
"""What every lab needs.  The others are built when a lab asks for them."""
LABEL = "breakfix.image"


@dataclass(frozen=True, slots=True)
class Image:
    """One image of ours."""

    name: str
    tag: str
    """``breakfix/NAME:DIGEST``."""


def toolbox_volume() -> str:
    """Return the name of the volume that holds the toolbox's tree."""
    return f"breakfix-toolbox-{tag('toolbox').rpartition(':')[2]}"


def is_built(name: str) -> bool:
    """Return True if the engine has ``name`` as the recipe says today."""
    return _exists(connect(), tag(name))


def ensure(names: tuple[str, ...], tell: Tell, *, rebuild: bool = False) -> tuple[Image, ...]:
    """Build what is missing of ``names`` and of what they stand on.  Raises ImageBuildFailed, NotReady."""
    api = connect()
    if unknown := set(names) - set(recipes.found()):
        raise UsageError(
            f"no image is called {', '.join(sorted(unknown))}", next_step=f"There are: {', '.join(recipes.found())}"
        )
    if _missing(api, names, rebuild=rebuild):
        with one_at_a_time("build"):
            for name in _missing(api, names, rebuild=rebuild):
                _make(api, name, tell)
    if "toolbox" in names:
        _fill_toolbox(api)
    return tuple(Image(name, tag(name)) for name in names)


def _missing(api: APIClient, names: tuple[str, ...], *, rebuild: bool) -> tuple[str, ...]:
    """Return what has to be built of ``names`` and of what they are built from, each after what it is built from."""
    missing: dict[str, None] = {}
    for name in names:
        if rebuild or not _exists(api, tag(name)):
            missing.update(dict.fromkeys(_missing(api, recipes.needs(name), rebuild=rebuild)))
            missing[name] = None
    return tuple(missing)


def _exists(api: APIClient, wanted: str) -> bool:
    with not_ready("looking for an image"):
        return bool(api.images(name=wanted, quiet=True))


def _make(api: APIClient, name: str, tell: Tell) -> None:
    if name == "base":
        _make_base(api, tell)
    elif recipes.is_part(name):
        parts.compile_part(api, recipes.folder(name), tag(recipes.COMPILER), tag(name), {LABEL: name}, tell)
    elif (recipes.folder(name) / finishing.SCRIPT).is_file():
        unfinished = f"{tag(name)}-unfinished"
        _build(api, name, unfinished, tell)
        finishing.finish(api, unfinished, tag(name), {LABEL: name}, tell)
    else:
        _build(api, name, tag(name), tell)


def _make_base(api: APIClient, tell: Tell) -> None:
    from docker.errors import DockerException  # noqa: PLC0415

    tell(f"base: pulling {UPSTREAM}")
    repository, _, version = tag("base").rpartition(":")
    try:
        api.pull(UPSTREAM)
        api.tag(UPSTREAM, repository, version)
    except DockerException as error:
        tell("base: no registry answers, making it from Debian packages")
        _debootstrap(api, repository, version, reason(error))


def _debootstrap(api: APIClient, repository: str, version: str, why_not_pulled: str) -> None:
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise ImageBuildFailed(
            f"{UPSTREAM} can't be pulled, and can't be made here either",
            why=f"Pulling: {why_not_pulled}\nMaking it needs root and debootstrap.",
            next_step="Give the engine a registry or its mirror, or, as root on Debian: apt-get install debootstrap",
        )
    with tempfile.TemporaryDirectory(prefix="breakfix-base-") as folder:
        root = Path(folder) / "root"
        script = bundle() / "docker" / "base" / "debootstrap.sh"
        done = subprocess.run(["/bin/sh", str(script), str(root)], capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-8:])
            raise ImageBuildFailed("base: debootstrap failed", why=tail, next_step="breakfix images build")
        archive = Path(folder) / "root.tar"
        subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)  # noqa: S603, S607
        with not_ready("importing base"), archive.open("rb") as stream:
            store_flat(api, stream, f"{repository}:{version}")


def _build(api: APIClient, name: str, image: str, tell: Tell) -> None:
    tell(f"building {name}")
    with not_ready(f"building {name}"):
        steps = api.build(
            fileobj=_context(name),
            custom_context=True,
            tag=image,
            buildargs=dict(zip(recipes.arguments(name), map(tag, recipes.needs(name)), strict=True)),
            labels={LABEL: name},
            rm=True,
            forcerm=True,
            decode=True,
            timeout=1800,
        )
        follow_build(steps, name, lambda line: tell(f"{name}: {line}"))


def _context(name: str) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for relative, path in recipes.files(name):
            archive.add(path, arcname=relative)
    stream.seek(0)
    return stream


def node(tell: Tell) -> str | None:
    """Return the image that kind's nodes are made of, built if need be; None for kind's own default.

    Ours is for where no registry answers: upstream's is what users of kind know, and takes no ten minutes to compile.
    Raises ImageBuildFailed, NotReady.
    """
    if not node_is_ours():
        return None
    ensure(("node",), tell)
    return tag("node")


def node_is_ours() -> bool:
    """Return True where kind's nodes have to be made here, because the engine reaches no registry."""
    return not _a_registry_answers(connect())


def _a_registry_answers(api: APIClient) -> bool:
    """Return True if the engine can ask a registry about the image that it would pull first."""
    from docker.errors import DockerException  # noqa: PLC0415

    try:
        api.inspect_distribution(UPSTREAM)  # type: ignore[no-untyped-call]
    except DockerException:
        return False
    return True


def kind_command(tell: Tell) -> Path:
    """Return the kind that the node image is made for, compiled if need be.  Raises ImageBuildFailed, NotReady.

    It is of the engine's system and processor: on a Mac, kind comes from where its other tools come from.
    """
    from platformdirs import user_cache_path  # noqa: PLC0415

    folder = user_cache_path("breakfix", ensure_exists=True) / "bin"
    command = folder / f"kind-{tag('kind').rpartition(':')[2]}"
    if not command.exists():
        ensure(("kind",), tell)
        folder.mkdir(exist_ok=True)
        new = command.with_suffix(f".{os.getpid()}")
        new.write_bytes(parts.take_file(connect(), tag("kind"), "/usr/local/bin/kind"))
        new.chmod(0o755)
        new.rename(command)
    return command


def _fill_toolbox(api: APIClient) -> None:
    """Make the toolbox's volume.  The engine copies the image's tree into it when it is first mounted, empty."""
    from docker.errors import NotFound  # noqa: PLC0415

    volume = toolbox_volume()
    with not_ready("filling the toolbox"):
        try:
            api.inspect_volume(volume)
        except NotFound:
            with one_at_a_time("build"):
                _fill(api, volume)


def _fill(api: APIClient, volume: str) -> None:
    config = api.create_host_config(binds=[f"{volume}:/toolbox"], network_mode="none")
    box = api.create_container(
        tag("toolbox"), ["/toolbox/bin/true"], host_config=config, labels={LABEL: "toolbox"}, volumes=["/toolbox"]
    )["Id"]
    try:
        api.start(box)
        api.wait(box)
    except BaseException:
        # A volume that exists counts as filled, so a half-filled one must not stay.
        api.remove_container(box, force=True)
        api.remove_volume(volume, force=True)
        raise
    api.remove_container(box, force=True)


_threads: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


@contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """Let one process at a time do this: two that make the same image would each do all the work.

    Whoever does one thing may do another on the way: making a cluster builds the image of its nodes.
    """
    import fcntl  # noqa: PLC0415

    from platformdirs import user_cache_path  # noqa: PLC0415

    folder = user_cache_path("breakfix", ensure_exists=True)
    with _threads[what], (folder / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove_old(tell: Tell) -> None:
    """Remove images and toolboxes of ours that no recipe of today makes, but for what a session still uses."""
    api = connect()
    current = {toolbox_volume(), *(tag(name) for name in recipes.found())}
    with not_ready("looking for old images"):
        images = [one for image in api.images(filters={"label": LABEL}) for one in image.get("RepoTags") or ()]
        volumes = [one["Name"] for one in api.volumes(filters={"label": LABEL})["Volumes"] or []]
    for old in {one for one in images if one.startswith(f"{recipes.REPOSITORY}/")} - current:
        _remove_unused(old, api.remove_image, tell)
    for old in set(volumes) - current:
        _remove_unused(old, api.remove_volume, tell)


def _remove_unused(name: str, remove: Callable[[str], object], tell: Tell) -> None:
    from docker.errors import APIError  # noqa: PLC0415

    tell(f"removing {name}")
    try:
        remove(name)
    except APIError as error:
        tell(f"{name} stays: {reason(error)}")
