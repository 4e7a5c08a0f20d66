"""The node of the practice cluster: a container, where the engine's owner may do everything and no candidate is."""

from __future__ import annotations

import tarfile
import tempfile
from typing import IO, TYPE_CHECKING, Final

from breakfix.engine.client import not_ready
from breakfix.errors import NotReady

if TYPE_CHECKING:
    from docker import APIClient

NAME: Final = "breakfix-practice"
"""What kind calls the cluster."""
NODE: Final = f"{NAME}-control-plane"
"""The one node's name, and its container's: kind calls it so, and the API server's certificate is made out to it."""
ADMINISTRATOR: Final = "/etc/kubernetes/admin.conf"
"""The kubeconfig in the node that may do everything."""


def run(api: APIClient, script: str) -> str:
    """Run a script in the node, as the engine's owner can.  Raises NotReady with what it said."""
    with not_ready("running a command in the cluster's node"):
        new = api.exec_create(NODE, ["/bin/bash", "-c", script])["Id"]
        said = bytes(api.exec_start(new)).decode(errors="replace")
        if api.exec_inspect(new)["ExitCode"]:
            raise NotReady("a command in the cluster's node failed", why=said[-2000:], next_step="breakfix cluster")
    return said


def put(api: APIClient, path: str, content: IO[bytes]) -> None:
    """Write a file into the node: what ``content`` holds up to where it stands.  The engine takes archives alone."""
    member = tarfile.TarInfo(path.lstrip("/"))
    member.size = content.tell()
    content.seek(0)
    with tempfile.TemporaryFile() as packed, not_ready("writing into the cluster's node"):
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.addfile(member, content)
        packed.seek(0)
        api.put_archive(NODE, "/", packed)
