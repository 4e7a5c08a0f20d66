"""Labs in namespaces of a cluster that the user has, and names; nothing else in it is touched.

What kind's nodes are for the other labs stands here in a container of ours, the gate: the workstation reaches the API
server through it alone, and the lab's author runs in it, with all rights in the session's namespaces and with none
beside.  Into the network of a pod leads a container that is added to the pod for as long as it lives.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, replace
from functools import partial
from shutil import rmtree
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import urlsplit

from breakfix import images, recipes
from breakfix.cluster import clusters, contexts, namespaces, settling
from breakfix.cluster.api import Api
from breakfix.cluster.objects import field
from breakfix.engine import labels
from breakfix.engine.client import connect as connect_engine
from breakfix.engine.client import not_ready
from breakfix.engine.shell import ExecShell, Seat
from breakfix.environments import Capability
from breakfix.environments.docker import DockerEnvironment, container_name
from breakfix.environments.kind import NODE_PATH, PROBE_ENVIRONMENT, PROBE_UP, KindEnvironment, folder_of
from breakfix.errors import HostUnreachable, NotReady, StartFailed, UsageError
from breakfix.model import CLUSTER, Isolation
from breakfix.together import together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from breakfix.cluster.api import Object
    from breakfix.model import Event, JsonValue, Lab, Session
    from docker import APIClient

GATE: Final = "gate"
GATE_PORT: Final = 6443
ADMINISTRATOR: Final = "administrator.json"
LISTED: Final = 50
"""Images that a kubelet tells of its node, the largest first; whoever tells as many may have more."""
CALLED: Final = 5
"""Names of one image that a kubelet tells."""
LOOKING: Final = "breakfix-probe"
"""The container that is added to a pod to look from its network."""
KUBECTL: Final = ("/usr/local/bin/kubectl", "--kubeconfig", "/root/.kube/config")
OUTER: Final = "bridge"
RELAY: Final = """
import asyncio, sys
address, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()
async def serve(reader, writer):
    try:
        there = await asyncio.open_connection(host, port)
    except OSError:
        writer.close()
        return
    await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))
async def main():
    async with await asyncio.start_server(serve, address, int(sys.argv[4])) as server:
        await server.serve_forever()
asyncio.run(main())
"""


def connect(context: str = "") -> ExistingEnvironment:
    """Return the environment, for the ``context`` that a start names.  Raises EngineUnavailable."""
    return ExistingEnvironment(connect_engine(), context)


class ExistingEnvironment(KindEnvironment):
    """See ``environments.Environment``; what a method raises stands there."""

    name = "existing"

    def __init__(self, api: APIClient, context: str = "") -> None:
        super().__init__(api)
        self._context = context
        self._apis: dict[str, Api] = {}

    def examine(self) -> tuple[Capability, ...]:
        """Say which contexts may be named."""
        try:
            known = contexts.names()
        except UsageError as error:
            return (Capability("contexts", ok=True, found=error.what, advice="only breakfix start --context needs it"),)
        advice = "breakfix start LAB --context NAME runs a lab in namespaces of that cluster" if known else ""
        return (Capability("contexts", ok=True, found=", ".join(known) or "none in a kubeconfig", advice=advice),)

    def prepare(self, lab: Lab, tell: Callable[[str], None]) -> None:
        """Build missing images of ours, and see that the cluster's nodes have what the lab's pods are made of."""
        wanted = self._wanted(lab)
        images.ensure(("toolbox", *sorted({host.image for host in lab.hosts})), tell)
        tell(f"looking at the cluster of {self._context}")
        nodes = Api(self._named(), self._context).list("/api/v1/nodes")
        if missing := sorted(name for name in wanted if not all(_may_have(one, name) for one in nodes)):
            raise NotReady(
                f"nodes of {self._context} lack {', '.join(missing)}",
                why="Their pods would ask a registry that there is not.",
                next_step="; ".join(f"docker tag {recipes.tag(wanted[name])} {name}" for name in missing)
                + "; then kind load docker-image, k3d image import, or your nodes' own way",
            )

    @staticmethod
    def _wanted(lab: Lab) -> dict[str, str]:
        """Return the names that pods may give images, and the image of ours behind each.  Raises UsageError."""
        assert lab.cluster is not None  # noqa: S101  # the format says so
        if lab.cluster.isolation is Isolation.CLUSTER:
            raise UsageError(f"{lab.id} needs a cluster to itself", next_step=f"breakfix start {lab.name}")
        if needing := sorted(one for one in set(lab.cluster.images.values()) if recipes.has_definitions(one)):
            raise UsageError(
                f"{lab.id} needs kinds of its own in the cluster, for {', '.join(needing)}",
                why="Outside a session's namespaces nothing is made in a cluster that somebody has.",
                next_step=f"breakfix start {lab.name}",
            )
        return {clusters.APP: "app", **lab.cluster.images}

    def _named(self) -> Object:
        """Return the kubeconfig of the cluster that was named.  Raises UsageError."""
        if not self._context:
            raise UsageError(
                "no cluster was named", why="breakfix never takes a context that nobody named.",
                next_step=f"breakfix start LAB --context NAME; known here: {', '.join(contexts.names()) or 'none'}",
            )  # fmt: skip
        return contexts.read(self._context)

    # -- making a session ------------------------------------------------------------------------------------------

    def _create(self, draft: Session, lab: Lab) -> Session:
        assert lab.cluster is not None  # noqa: S101  # the format says so
        called = namespaces.names(lab.cluster.namespaces)
        session = self._network(replace(draft, namespaces=called, cluster=self._context), lab)
        file = folder_of(session.id) / ADMINISTRATOR
        file.parent.mkdir(parents=True, exist_ok=True)
        clusters.write_private(file, json.dumps(self._named()))
        api = self.api(session)
        with not_ready("creating the session's containers"):
            together(
                [
                    *(partial(self._create_seat, session, spec) for spec in lab.hosts),
                    partial(self._create_gate, session, _way_to(self._api, api.server)),
                    partial(namespaces.make, api, session, clusters.APP, ("",), beyond=False),
                ]
            )
        author = self._config(session, namespaces.author(api, session))
        self.put(session, GATE, {"/root/.kube/config": (author.encode(), 0o600)})
        together(partial(self._give_access, session, host) for host in session.hosts)
        return session

    def _create_gate(self, session: Session, way: _Way) -> None:
        """Make the container through which the API server is reached, and where the lab's author runs."""
        address = str(list(ipaddress.ip_network(session.network).hosts())[-1])
        config = self._api.create_host_config(
            network_mode=container_name(session.id), init=True, mem_limit="256m", memswap_limit="256m", pids_limit=256,
            # It is on two networks, and no way from the one to the other but for its relay.
            cap_drop=["ALL"], security_opt=["no-new-privileges"], sysctls={"net.ipv4.ip_forward": "0"},
        )  # fmt: skip
        endpoint = self._api.create_endpoint_config(ipv4_address=address, aliases=[CLUSTER])
        name = container_name(session.id, GATE)
        self._api.create_container(
            recipes.tag("workstation"), ["python3", "-c", RELAY, address, way.host, str(way.port), str(GATE_PORT)],
            name=name, hostname=GATE, stop_signal="SIGKILL", labels=labels.of(session, labels.ROLE_CLIENT),
            host_config=config, networking_config={"EndpointsConfig": {container_name(session.id): endpoint}},
        )  # fmt: skip
        self._api.connect_container_to_network(name, way.network)

    def _give_access(self, session: Session, host: str) -> None:
        config = self._config(session, namespaces.credentials(self.api(session), session))
        self.put(session, host, {"/root/.kube/config": (config.encode(), 0o600)})

    def _config(self, session: Session, token: str) -> str:
        """Return a kubeconfig for a container of the session: by way of the gate, with what the server is known by."""
        theirs = self._server(session)
        name = theirs.get("tls-server-name", urlsplit(str(theirs["server"])).hostname)
        there = {**theirs, "server": f"https://{CLUSTER}:{GATE_PORT}", "tls-server-name": name}
        return namespaces.kubeconfig(there, token, next(iter(session.namespaces.values())))

    def _access(self, session: Session, server: str) -> str:  # noqa: ARG002  # theirs says how it is known, too
        """Return a kubeconfig for a terminal of the candidate's own: to the server that the user's names."""
        token = namespaces.credentials(self.api(session), session)
        return namespaces.kubeconfig(self._server(session), token, next(iter(session.namespaces.values())))

    def _server(self, session: Session) -> Object:
        """Return where the user's own kubeconfig says that the server is, and how it is known."""
        named: Object = (self._theirs(session.id) or _lost(session.id))["clusters"][0]["cluster"]
        known = ("server", "certificate-authority-data", "insecure-skip-tls-verify", "tls-server-name")
        return {key: named[key] for key in known if key in named}

    @staticmethod
    def _theirs(session_id: str) -> Object | None:
        """Return the kubeconfig that a session was begun with; None where it is gone."""
        file = folder_of(session_id) / ADMINISTRATOR
        try:
            found: Object = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return found

    def boot(self, session: Session) -> None:
        """Start gate and workstation, and wait for the probe."""
        with not_ready("starting the session's containers"):
            everything = (GATE, *session.hosts)
            together(partial(self._api.start, container_name(session.id, one)) for one in everything)
        mine = namespaces.own(session)
        if not settling.until(lambda: self._place(session, mine, namespaces.PROBE) is not None, PROBE_UP):
            raise StartFailed("the probe's pod did not start", next_step=f"kubectl describe pod -n {mine}")

    def mark_ready(self, session: Session, baseline: dict[str, JsonValue]) -> Session:
        """Make the volume that says so."""
        return self._note_ready(session, baseline, {})

    # -- looking and working ---------------------------------------------------------------------------------------

    def resume(self, session: Session) -> None:
        """Start gate and workstation again."""
        self.boot(session)

    def api(self, session: Session) -> Api:
        """Return the cluster with the rights that the user's context has.  Raises HostUnreachable."""
        return self._api_of(session.id) or _lost(session.id)

    def _api_of(self, session_id: str) -> Api | None:
        if session_id not in self._apis and (theirs := self._theirs(session_id)):
            self._apis[session_id] = Api(theirs, str(theirs["current-context"]))
        return self._apis.get(session_id)

    def changes(self, session: Session, after: datetime | None = None) -> tuple[Event, ...]:  # noqa: ARG002
        """Nothing: the API server's log is not ours to read."""
        return ()

    def trusted(self, session: Session, host: str) -> ExecShell:
        """Open a shell in the gate with all rights in the namespaces, or the toolbox's in a workstation."""
        if host != CLUSTER:
            return super().trusted(session, host)
        variables = {"PATH": NODE_PATH, "HOME": "/root", "LANG": "C.UTF-8"}
        return ExecShell(self._api, _in_gate(session, CLUSTER, ("/bin/bash", "--norc"), variables))

    def inside(self, session: Session, namespace: str, pod: str) -> ExecShell:
        """Open a shell with the probe's own tools in the network of a pod.  Raises HostUnreachable."""
        if self._place(session, namespace, pod) is None:
            raise HostUnreachable(f"the pod {pod} does not run")
        container = namespaces.PROBE if namespace == namespaces.own(session) else LOOKING
        if container == LOOKING:
            _look_in(self.api(session), f"/api/v1/namespaces/{namespace}/pods/{pod}")
        way = (*KUBECTL, "exec", "-i", "-n", namespace, pod, "-c", container, "--", *PROBE_ENVIRONMENT.split())
        # Whoever ends kubectl ends nothing over there, so what has to be ended is ended by the same way.
        return ExecShell(self._api, replace(_in_gate(session, pod, way, {"PATH": NODE_PATH}), there=way))

    # -- the end, and what is there --------------------------------------------------------------------------------

    def stop(self, session_ids: tuple[str, ...], *, again: bool = False) -> None:
        """Remove what the engine has and what the cluster has."""
        apis = {one: api for one in session_ids if (api := self._api_of(one)) is not None}
        DockerEnvironment.stop(self, session_ids, again=again)
        end = namespaces.begin_removing if again else namespaces.remove
        together(partial(end, api, one) for one, api in apis.items())
        for one in session_ids:
            if one in apis:
                # Who begins it again names no cluster: it is the one that it had.
                self._context = self._context or apis[one].name
            self._apis.pop(one, None)
            rmtree(folder_of(one), ignore_errors=True)

    def _let_go(self, session_id: str) -> None:
        DockerEnvironment._let_go(self, session_id)  # noqa: SLF001  # kind's would look for nodes

    def leftovers(self, session_id: str) -> tuple[str, ...]:
        """Name each piece that the engine or the cluster still has."""
        api = self._api_of(session_id)
        found = namespaces.pieces(api, session_id) if api else []
        return (*DockerEnvironment.leftovers(self, session_id), *found)


def _lost(session_id: str) -> NoReturn:
    raise HostUnreachable(
        f"{session_id} has lost its way to the cluster", why=f"Its file {ADMINISTRATOR} is gone.",
        next_step=f"breakfix stop {session_id}",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Way:
    """How a container of the engine reaches an API server."""

    network: str
    host: str
    port: int


def _way_to(engine: APIClient, server: str) -> _Way:
    """Return how: what listens on this machine's own address alone is a container that the engine publishes."""
    url = urlsplit(server)
    host, port = url.hostname or "", url.port or 443
    if host not in {"127.0.0.1", "localhost", "::1", "0.0.0.0"}:  # noqa: S104
        return _Way(OUTER, host, port)
    with not_ready("looking for the cluster's API server"):
        for one in engine.containers():
            inner = [port_of["PrivatePort"] for port_of in one["Ports"] if port_of.get("PublicPort") == port]
            if inner:
                network, details = next(iter(one["NetworkSettings"]["Networks"].items()))
                return _Way(network, str(details["IPAddress"]), int(inner[0]))
    raise NotReady(
        f"no container reaches {server}",
        why="It is an address of this machine alone, and no container of this engine publishes that port.",
        next_step="Name a context whose server other machines reach too, or a cluster of kind or k3d on this engine.",
    )


def _may_have(node: Object, image: str) -> bool:
    """Return False where a node tells all its images by all their names, and this is none of them."""
    told = [one.get("names") or [] for one in field(node, "status.images", [])]
    untold = len(told) >= LISTED or any(len(names) >= CALLED for names in told)
    return untold or any(image in names for names in told)


def _look_in(api: Api, path: str) -> None:
    """Have a container of ours run in the pod, in its network."""
    if not _looks(api, path):
        safe = {
            "allowPrivilegeEscalation": False, "runAsNonRoot": True, "runAsUser": 10001,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        }  # fmt: skip
        added = {"name": LOOKING, "image": clusters.APP, "command": ["sleep", "infinity"], "securityContext": safe}
        patch = {"spec": {"ephemeralContainers": [added]}}
        if not any(one["name"] == LOOKING for one in field(api.get(path), "spec.ephemeralContainers", [])):
            kind = "application/strategic-merge-patch+json"
            api.request("PATCH", f"{path}/ephemeralcontainers", patch, kind=kind)
    if not settling.until(lambda: _looks(api, path), PROBE_UP):
        raise HostUnreachable(f"nothing of ours comes up in {path.rpartition('/')[2]}")


def _looks(api: Api, path: str) -> bool:
    statuses: Iterable[Object] = field(api.get(path), "status.ephemeralContainerStatuses", [])
    return any(one["name"] == LOOKING and field(one, "state.running") is not None for one in statuses)


def _in_gate(session: Session, host: str, argv: tuple[str, ...], variables: dict[str, str]) -> Seat:
    return Seat(container_name(session.id, GATE), host, argv, variables=variables, tools="/usr/bin")
