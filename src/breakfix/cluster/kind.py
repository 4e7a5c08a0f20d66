"""Runs the kind command.  Kubeconfigs go into files of ours: the user's own is never changed."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from breakfix import images
from breakfix.cluster import tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Tell = Callable[[str], None]

CLUSTER_LABEL: Final = "io.x-k8s.kind.cluster"
"""kind's own, on every container that is a node."""

AUDIT_FOLDER: Final = "/etc/kubernetes/audit"
AUDIT_LOG: Final = "/var/log/kubernetes/audit.log"
AUDIT_LOGS: Final = "/var/log/kubernetes/audit*.log"
"""With those that were put aside when they had grown."""
AUDIT_POLICY: Final = """\
# Who changed what and when, not what it looked like: a report tells the candidate's own steps from it.
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    verbs: [get, list, watch]
  - level: None
    userGroups: ["system:nodes", "system:serviceaccounts:kube-system"]
  - level: None
    users: ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler"]
  - level: Metadata
"""

# DenyServiceExternalIPs: whoever may make services in one namespace could otherwise take over others' addresses.
API_SERVER: Final = f"""\
kind: ClusterConfiguration
apiServer:
  extraArgs:
    - {{name: enable-admission-plugins, value: "NodeRestriction,DenyServiceExternalIPs"}}
    - {{name: audit-policy-file, value: {AUDIT_FOLDER}/policy.yaml}}
    - {{name: audit-log-path, value: {AUDIT_LOG}}}
    - {{name: audit-log-maxsize, value: "32"}}
    - {{name: audit-log-maxbackup, value: "1"}}
  extraVolumes:
    - {{name: audit-policy, hostPath: {AUDIT_FOLDER}, mountPath: {AUDIT_FOLDER}, readOnly: true, pathType: Directory}}
    - {{name: audit-log, hostPath: /var/log/kubernetes, mountPath: /var/log/kubernetes, pathType: DirectoryOrCreate}}
"""


def configuration(name: str, workers: int, folder: Path) -> str:
    """Return kind's configuration for a cluster of one control plane and its workers; JSON is YAML too."""
    policy = folder / "policy.yaml"
    policy.write_text(AUDIT_POLICY, encoding="utf-8")
    node = {
        "role": "control-plane",
        "extraMounts": [{"hostPath": str(policy), "containerPath": f"{AUDIT_FOLDER}/policy.yaml", "readOnly": True}],
        "kubeadmConfigPatches": [API_SERVER],
    }
    nodes = [node, *({"role": "worker"} for _ in range(workers))]
    return json.dumps(
        {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "name": name, "nodes": nodes}, indent=1
    )


def create(name: str, workers: int, folder: Path, tell: Tell) -> None:
    """Create a cluster and wait until its nodes are ready; ``folder`` holds its files.  Raises NotReady."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kind.yaml").write_text(configuration(name, workers, folder), encoding="utf-8")
    image = images.node(tell)
    tell(f"creating the cluster {name}")
    chosen = ("--image", image) if image else ()
    _kind(
        tell, "create", "cluster", "--config", str(folder / "kind.yaml"), "--wait", "180s", *chosen,
        "--kubeconfig", str(folder / "kubeconfig"),
    )  # fmt: skip


def delete(name: str, folder: Path, tell: Tell) -> None:
    """Delete a cluster and its files.  What is not there is fine."""
    _kind(tell, "delete", "cluster", "--name", name, "--kubeconfig", str(folder / "kubeconfig"))
    if folder.is_dir():
        for file in folder.glob("*"):
            file.unlink()
        # A cluster of one's own has a name of its own, and nobody would come by its folder again.
        with suppress(OSError):
            folder.rmdir()


def kubeconfig(folder: Path) -> dict[str, Any]:
    """Return the administrator's kubeconfig, which ``create`` left among the cluster's files."""
    import yaml  # type: ignore[import-untyped]  # noqa: PLC0415

    found: dict[str, Any] = yaml.safe_load((folder / "kubeconfig").read_text(encoding="utf-8"))
    return found


def _kind(tell: Tell, *arguments: str) -> str:
    return tool.run("kind", images.kind_command(tell), arguments, tell)
