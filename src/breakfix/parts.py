"""Compiles the parts of images, each in a container of its own.

A part is a folder with a ``build.sh``.  It runs in the image ``go``, with the folder as its working directory, and what
it leaves in ``/out`` is the part's image: one flat layer with the files and nothing else.  What Go has downloaded and
compiled is kept in a volume while parts are built, because most of them share the same libraries.
"""

from __future__ import annotations

import io
import os
import ssl
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from breakfix.engine.client import not_ready
from breakfix.engine.storing import store_flat
from breakfix.errors import ImageBuildFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from docker import APIClient

    Tell = Callable[[str], None]

CACHE = "breakfix-go-cache"
"""The volume with Go's modules and build cache."""
BUILDING = "breakfix.building"
"""The label of a container that compiles; its value is the part's name."""
PASSED_ON = (
    "GOPROXY", "GOSUMDB", "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOINSECURE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
)  # fmt: skip
"""How this machine reaches modules: without them, Go's own defaults."""
TELL_EVERY = 10
"""Seconds between two words about a part that is compiled."""


def compile_part(
    api: APIClient, folder: Path, compiler: str, image: str, labels: Mapping[str, str], tell: Tell
) -> None:
    """Run ``folder``'s build.sh in the image ``compiler``; what it leaves is ``image``.  Raises ImageBuildFailed."""
    name = folder.name
    with not_ready(f"compiling {name}"):
        _remove_leftovers(api, name)
        _keep_cache(api, labels)
        box = _create(api, name, compiler)
        try:
            api.put_archive(box, "/part", _packed(folder))
            _trust_as_here(api, box)
            api.start(box)
            _wait(api, box, name, tell)
            tell(f"{name}: storing")
            _store(api, box, image, labels)
        finally:
            api.remove_container(box, force=True, v=True)


def _remove_leftovers(api: APIClient, name: str) -> None:
    for left in api.containers(all=True, filters={"label": f"{BUILDING}={name}"}):
        api.remove_container(left["Id"], force=True, v=True)


def _keep_cache(api: APIClient, labels: Mapping[str, str]) -> None:
    api.create_volume(CACHE, labels=dict(labels))


def _create(api: APIClient, name: str, compiler: str) -> str:
    created = api.create_container(
        compiler,
        ["sh", "build.sh"],
        working_dir="/part",
        environment=passed_on(os.environ),
        host_config=api.create_host_config(binds=[f"{CACHE}:/cache"]),
        labels={BUILDING: name},
    )
    return str(created["Id"])


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what of ``environment`` tells a container how to reach modules as this machine does."""
    found = {name: environment.get(name) or environment.get(name.lower(), "") for name in PASSED_ON}
    return {name: value for name, value in found.items() if value}


def _packed(folder: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(folder, arcname=".", filter=_as_root)
    return stream.getvalue()


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _trust_as_here(api: APIClient, box: str) -> None:
    """Let the container trust whom this machine trusts: a company's proxy signs with the company's certificate."""
    authorities = next((path for path in _authorities() if path.is_file()), None)
    if authorities is None:
        return
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("ca-certificates.crt")
        content = authorities.read_bytes()
        member.size = len(content)
        member.mode = 0o644
        archive.addfile(member, io.BytesIO(content))
    api.put_archive(box, "/etc/ssl/certs", stream.getvalue())


def _authorities() -> Iterator[Path]:
    paths = ssl.get_default_verify_paths()
    for path in (os.environ.get("SSL_CERT_FILE"), paths.cafile, "/etc/ssl/certs/ca-certificates.crt"):
        if path:
            yield Path(path)


def _wait(api: APIClient, box: str, name: str, tell: Tell) -> None:
    from requests.exceptions import ConnectionError as Broken  # noqa: PLC0415
    from requests.exceptions import ReadTimeout  # noqa: PLC0415

    tell(f"{name}: compiling")
    while True:
        try:
            code = api.wait(box, timeout=TELL_EVERY)["StatusCode"]
        except (ReadTimeout, Broken):
            tell(f"{name}: {_log(api, box, 1)}")
            continue
        if code:
            raise ImageBuildFailed(
                f"{name} could not be compiled",
                why=_log(api, box, 12),
                next_step="breakfix images build --debug shows everything.",
            )
        return


def _log(api: APIClient, box: str, lines: int) -> str:
    return bytes(api.logs(box, tail=lines)).decode(errors="replace").strip()


def _store(api: APIClient, box: str, image: str, labels: Mapping[str, str]) -> None:
    """Make an image of the container's ``/out``.  It never goes through a layer, so nothing is stored twice."""
    stream, _ = api.get_archive(box, "/out/.")
    store_flat(api, stream, image, labels)


def take_file(api: APIClient, image: str, path: str) -> bytes:
    """Return the content of one file of ``image``, which need not have a program that could be run."""
    with not_ready(f"reading {image}"):
        box = str(api.create_container(image, ["none"])["Id"])
        try:
            stream, _ = api.get_archive(box, path)
            with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
                content = archive.extractfile(archive.next() or "")
                return content.read() if content else b""
        finally:
            api.remove_container(box, force=True)
