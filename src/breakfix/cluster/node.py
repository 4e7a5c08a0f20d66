"""A node of a cluster: a container, where the engine's owner may do everything and no candidate is."""

from __future__ import annotations

import tarfile
import tempfile
from typing import IO, TYPE_CHECKING, Final

from breakfix.engine.client import not_ready
from breakfix.errors import NotReady

if TYPE_CHECKING:
    from docker import APIClient

ADMINISTRATOR: Final = "/etc/kubernetes/admin.conf"
"""The kubeconfig in a control plane's node that may do everything."""


def run(api: APIClient, node: str, script: str) -> str:
    """Run a script in a node, as the engine's owner can.  Raises NotReady with what it said."""
    with not_ready("running a command in the cluster's node"):
        new = api.exec_create(node, ["/bin/bash", "-c", script])["Id"]
        said = bytes(api.exec_start(new)).decode(errors="replace")
        if api.exec_inspect(new)["ExitCode"]:
            raise NotReady("a command in the cluster's node failed", why=said[-2000:], next_step="breakfix cluster")
    return said


def put(api: APIClient, node: str, path: str, content: IO[bytes]) -> None:
    """Write a file into a node: what ``content`` holds up to where it stands.  The engine takes archives alone."""
    member = tarfile.TarInfo(path.lstrip("/"))
    member.size = content.tell()
    content.seek(0)
    with tempfile.TemporaryFile() as packed, not_ready("writing into the cluster's node"):
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.addfile(member, content)
        packed.seek(0)
        api.put_archive(node, "/", packed)
