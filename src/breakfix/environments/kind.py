"""Labs in a Kubernetes cluster that kind makes, and a workstation beside it.

The session has namespaces in the practice cluster, or a cluster of its own.  The workstation is a container of the
engine like any host, on a network of the session's own that reaches the cluster's control plane and nothing else.  The
nodes are where the candidate never is: what has all rights runs there.
"""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from shutil import rmtree
from typing import TYPE_CHECKING, Final

from breakfix import images, recipes
from breakfix.cluster import audit, clusters, kind, loading, namespaces, node, own, practice, settling
from breakfix.cluster.clusters import Cluster
from breakfix.cluster.objects import field
from breakfix.engine import labels, profile
from breakfix.engine.client import connect as connect_engine
from breakfix.engine.client import not_ready
from breakfix.engine.shell import ExecShell, Seat
from breakfix.environments import Capability
from breakfix.environments.docker import (
    CAPABILITIES,
    EMPTY,
    GRADING_SHELL,
    DockerEnvironment,
    container_name,
    one_capability_more,
)
from breakfix.errors import HostUnreachable, NotReady, StartFailed
from breakfix.model import CLUSTER, Isolation, Session
from breakfix.together import together

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from breakfix.cluster.api import Api
    from breakfix.model import Event, HostSpec, JsonValue, Lab

PROBE_UP: Final = 60.0
"""Seconds that the probe's pod may take: on a machine where much else starts at once, a pod waits its turn."""
NODE_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
READ: Final = 2000
"""Lines of the audit log that are read for one session: each change has one or two."""
PROBE_ENVIRONMENT: Final = f"env -i PATH={NODE_PATH} HOME=/tmp LANG=C.UTF-8 /bin/sh"
# A container's process, by the id that the API gives for it.
FIND: Final = "pid_of() { ctr -n k8s.io tasks ls 2>/dev/null | awk -v id=\"$1\" '$1 == id { print $2 }'; }; "


def connect() -> KindEnvironment:
    """Return the environment on the engine that answers.  Raises EngineUnavailable."""
    return KindEnvironment(connect_engine())


class KindEnvironment(DockerEnvironment):
    """See ``environments.Environment``; what a method raises stands there."""

    name = "kind"

    # -- what this machine can do ----------------------------------------------------------------------------------

    def examine(self) -> tuple[Capability, ...]:
        """Say which cluster there is, and which node image it has or would have."""
        found = practice.state()
        if not found.exists:
            made_of = "ours: no registry answers" if images.node_is_ours() else "upstream: a registry answers"
            advice = "breakfix cluster warm (the first start does it)"
            return (Capability("cluster", ok=True, found=f"none yet; its nodes would be {made_of}", advice=advice),)
        origin = "ours: no registry answered" if clusters.is_ours(found.image) else "upstream"
        made_of = f"{found.image} ({origin})"
        if not found.running:
            return (Capability("cluster", ok=True, found=f"{made_of}, stopped", advice="the next start brings it up"),)
        return (Capability("cluster", ok=True, found=made_of),)

    def prepare(self, lab: Lab, tell: Callable[[str], None]) -> None:
        """Build missing images, have the cluster up, and load what the lab's pods are made of."""
        assert lab.cluster is not None  # noqa: S101  # the format says so
        wanted = {host.image for host in lab.hosts} | set(lab.cluster.images.values())
        images.ensure(("toolbox", "app", *sorted(wanted)), tell)
        if lab.cluster.isolation is Isolation.CLUSTER:
            own.sweep(self._everybodys)
            own.ensure(lab.cluster.workers, tell)
            return
        practice.ensure(tell, lambda: any(practice.holds(session) for session in self.sessions()))
        self._sweep()
        _load_images(practice.PRACTICE, lab, tell)

    def _sweep(self) -> None:
        """Remove namespaces of sessions that the engine has nothing of: they ended while the cluster stood still.

        Whoever begins a session makes its network first, so one that is just beginning is known by now.
        """
        api = practice.administrator()
        for one in namespaces.sessions(api) - self._everybodys():
            namespaces.begin_removing(api, one)

    def _everybodys(self) -> set[str]:
        """Return the ids of all sessions, of other environments too: one may have named this cluster."""
        with not_ready("listing sessions"):
            return {str(one["Labels"][labels.SESSION]) for one in self._api.networks(filters={"label": labels.SESSION})}

    def _profile_name(self) -> str:
        return self.name

    # -- making a session ------------------------------------------------------------------------------------------

    def _create(self, draft: Session, lab: Lab) -> Session:
        assert lab.cluster is not None  # noqa: S101  # the format says so
        draft = replace(draft, namespaces=namespaces.names(lab.cluster.namespaces))
        if lab.cluster.isolation is Isolation.NAMESPACE:
            cluster = practice.PRACTICE
            session = self._network(replace(draft, cluster=cluster.name), lab)
        else:
            with own.claimed(lab.cluster.workers, draft.id) as cluster:
                session = self._network(replace(draft, cluster=cluster.name), lab)
            own.open_up(cluster)
            _load_images(cluster, lab, lambda _: None)
        with not_ready("creating the session's containers"):
            together(
                [
                    *(partial(self._create_seat, session, spec) for spec in lab.hosts),
                    partial(self._join, session),
                    partial(namespaces.make, self.api(session), session, clusters.APP, cluster.nodes),
                ]
            )
        together(partial(self._give_access, session, host) for host in session.hosts)
        return session

    def _create_seat(self, session: Session, spec: HostSpec) -> None:
        """Make a workstation: a container with a shell and tools, and no systemd."""
        host = session.hosts[spec.name]
        config = self._api.create_host_config(
            network_mode=container_name(session.id), binds=[f"{images.toolbox_volume()}:/toolbox:ro"], init=True,
            mem_limit=spec.memory, memswap_limit=spec.memory, pids_limit=spec.pids, cap_drop=["ALL"],
            cap_add=[*CAPABILITIES, *spec.capabilities],
        )  # fmt: skip
        self._api.create_container(
            recipes.tag(spec.image),
            name=container_name(session.id, spec.name), hostname=spec.name, stop_signal="SIGKILL",
            labels=labels.of(session, labels.ROLE_HOST, **{labels.HOST: host.name, labels.ADDRESS: host.address}),
            host_config={**config, "NanoCpus": int(spec.cpus * 1e9)}, networking_config=self._endpoint(session, host),
        )  # fmt: skip

    def _join(self, session: Session) -> None:
        """Connect the cluster's node to the session's network, under the name that its certificate is made out to."""
        address = str(list(ipaddress.ip_network(session.network).hosts())[-1])
        self._api.connect_container_to_network(
            _control_plane(session), container_name(session.id), ipv4_address=address, aliases=[CLUSTER]
        )

    def _give_access(self, session: Session, host: str) -> None:
        config = self._access(session, f"https://{_control_plane(session)}:6443")
        self.put(session, host, {"/root/.kube/config": (config.encode(), 0o600)})

    def _access(self, session: Session, server: str) -> str:
        """Return a kubeconfig with the candidate's rights."""
        first = next(iter(session.namespaces.values()))
        token = namespaces.credentials(self.api(session), session)
        authority = clusters.certificate_authority(practice.name_for(session))
        there = {"server": server, "certificate-authority-data": authority}
        return namespaces.kubeconfig(there, token, first)

    def local_access(self, session: Session) -> Path:
        """Write a kubeconfig into the session's own folder; the user's is never changed."""
        file = folder_of(session.id) / "kubeconfig"
        file.parent.mkdir(parents=True, exist_ok=True)
        clusters.write_private(file, self._access(session, self.api(session).server))
        return file

    def changes(self, session: Session, after: datetime | None = None) -> tuple[Event, ...]:
        """Read them from the API server's audit log, in the node."""
        who = audit.user(namespaces.own(session), namespaces.CANDIDATE)
        script = f"grep -hF '{who}' {kind.AUDIT_LOGS} | tail -n {READ}; true"
        found = node.run(self._api, _control_plane(session), script)
        return audit.read(found, session.id, who, after)

    def boot(self, session: Session) -> None:
        """Start the workstation.  The probes come up by themselves while the lab is set up: who needs one waits."""
        with not_ready("starting the session's containers"):
            together(partial(self._api.start, container_name(session.id, host)) for host in session.hosts)

    def mark_ready(self, session: Session, baseline: dict[str, JsonValue]) -> Session:
        """Make the volume that says so, and begin to make a cluster for the next session that wants one whole."""
        for one in _cluster(session).nodes:
            if self._probe(session, one) is None:
                raise StartFailed("the probe's pod did not start", next_step="breakfix cluster; breakfix doctor")
        ready = self._note_ready(session, baseline, {})
        if not practice.holds(session):
            own.refill(_cluster(session).workers)
        return ready

    # -- looking and working ---------------------------------------------------------------------------------------

    def restart(self, session: Session) -> None:
        """Let every pod of the session's namespaces be made anew, as after the loss of its node."""
        api = self.api(session)
        for name in session.namespaces.values():
            api.delete(f"/api/v1/namespaces/{name}/pods", at_once=True)
        settling.settle(api, session.namespaces.values())

    def resume(self, session: Session) -> None:
        """Start the workstation and the cluster again."""
        if practice.holds(session):
            practice.ensure(lambda _: None, lambda: True)
        else:
            own.open_up(_cluster(session))
        with not_ready("starting the session's containers"):
            together(partial(self._api.start, container_name(session.id, host)) for host in session.hosts)

    def api(self, session: Session) -> Api:
        """Return the session's cluster with all rights.  Raises HostUnreachable."""
        try:
            return clusters.administrator(practice.name_for(session))
        except NotReady as error:
            raise HostUnreachable(f"{session.id} has no cluster any more", why=error.what) from error

    def trusted(self, session: Session, host: str) -> ExecShell:
        """Open a shell in the control plane's node with all rights, or the toolbox's in a workstation."""
        if host != CLUSTER:
            argv = (*EMPTY, *one_capability_more(profile.NARROW, ()), *GRADING_SHELL)
            return ExecShell(self._api, Seat(container_name(session.id, host), host, argv, privileged=True))
        variables = {
            "PATH": NODE_PATH, "HOME": "/root", "LANG": "C.UTF-8", "KUBECONFIG": node.ADMINISTRATOR,
            "CANDIDATE": f"{namespaces.own(session)}:{namespaces.CANDIDATE}",
        }  # fmt: skip
        return ExecShell(self._api, _in_node(_control_plane(session), ("/bin/bash", "--norc"), variables))

    def client(self, session: Session) -> ExecShell:
        """Open a shell in the probe's pod: in the cluster, and nobody else's."""
        return self.inside(session, namespaces.own(session), namespaces.PROBE)

    def inside(self, session: Session, namespace: str, pod: str) -> ExecShell:
        """Open a shell with the probe's own tools in the network of a pod.  Raises HostUnreachable."""
        mine = namespace == namespaces.own(session)
        place = self._probe(session, _control_plane(session)) if mine else self._place(session, namespace, pod)
        probe = self._probe(session, place.node) if place else None
        if place is None or probe is None:
            raise HostUnreachable(f"the pod {pod if place is None else namespaces.PROBE} does not run")
        script = (
            f"{FIND} exec nsenter --mount=/proc/$(pid_of {probe.container})/ns/mnt "
            f"--uts=/proc/$(pid_of {place.container})/ns/uts --net=/proc/$(pid_of {place.container})/ns/net "
            f"{PROBE_ENVIRONMENT}"
        )
        seat = _in_node(place.node, ("/bin/sh", "-c", script), {"PATH": NODE_PATH})
        return ExecShell(self._api, replace(seat, host=pod))

    def _probe(self, session: Session, node: str) -> _Place | None:
        """Return where the probe of a node runs, made anew where somebody drained the node; None where it does not."""
        mine, name = namespaces.own(session), namespaces.probe_on(node)
        if found := self._place(session, mine, name):
            return found
        if not practice.holds(session) and not self._is_coming(session, mine, name):
            namespaces.make_probe_again(self.api(session), session, clusters.APP, node)
        settling.until(lambda: self._place(session, mine, name) is not None, PROBE_UP)
        return self._place(session, mine, name)

    def _is_coming(self, session: Session, namespace: str, pod: str) -> bool:
        found = self.api(session).get(f"/api/v1/namespaces/{namespace}/pods/{pod}")
        return field(found, "status.phase") == "Pending" and not field(found, "metadata.deletionTimestamp")

    def _place(self, session: Session, namespace: str, pod: str) -> _Place | None:
        """Return where a container of the pod runs; None where none does."""
        found = self.api(session).get(f"/api/v1/namespaces/{namespace}/pods/{pod}")
        running = [
            one for one in field(found, "status.containerStatuses", []) if field(one, "state.running") is not None
        ]
        if not running:
            return None
        return _Place(str(field(found, "spec.nodeName")), str(running[0]["containerID"]).rpartition("/")[2])

    # -- the end, and what is there --------------------------------------------------------------------------------

    def stop(self, session_ids: tuple[str, ...], *, again: bool = False) -> None:
        """Remove what the engine has and what the cluster has."""
        for one in session_ids:
            rmtree(folder_of(one), ignore_errors=True)
        # A session with a cluster of its own comes back in another one, which its network's labels have to name.
        keep_networks = again and not {one.session for one in own.found()} & set(session_ids)
        super().stop(session_ids, again=keep_networks)
        own.release(set(session_ids))
        if practice.state().running:
            # What was made anew has other names, and need not wait for the old.
            end = namespaces.begin_removing if again else namespaces.remove
            together(partial(end, practice.administrator(), one) for one in session_ids)

    def _let_go(self, session_id: str) -> None:
        """Leave the session's network too, which could not be removed otherwise."""
        from docker.errors import APIError  # noqa: PLC0415

        super()._let_go(session_id)
        claimed = [one.cluster for one in own.found() if one.session == session_id]
        for cluster in (practice.PRACTICE, *claimed):
            with suppress(APIError):
                self._api.disconnect_container_from_network(
                    cluster.control_plane, container_name(session_id), force=True
                )

    def _remove_cgroups(self, session_ids: tuple[str, ...]) -> None:
        """Nothing: workstations run in the engine's own groups."""

    def leftovers(self, session_id: str) -> tuple[str, ...]:
        """Name each piece that the engine or a cluster still has."""
        claimed = [f"cluster {one.cluster.name}" for one in own.found() if one.session == session_id]
        engine = (*super().leftovers(session_id), *claimed)
        if not practice.state().running:
            return engine
        return (*engine, *namespaces.pieces(practice.administrator(), session_id))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a container of a pod runs."""

    node: str
    container: str
    """Its id in the node."""


def _cluster(session: Session) -> Cluster:
    """Return the session's cluster with all its nodes, which the engine is asked for."""
    return practice.PRACTICE if practice.holds(session) else own.of(session.cluster)


def _control_plane(session: Session) -> str:
    return Cluster(practice.name_for(session)).control_plane


def _load_images(cluster: Cluster, lab: Lab, tell: Callable[[str], None]) -> None:
    """Have what the lab's pods are made of in the cluster before anybody is."""
    assert lab.cluster is not None  # noqa: S101  # the format says so
    for image in sorted(set(lab.cluster.images.values())):
        names = tuple(name for name, one in lab.cluster.images.items() if one == image)
        loading.load(cluster, image, names, tell)


def folder_of(session_id: str) -> Path:
    """Return where the files of a session are that are not in a container."""
    from platformdirs import user_data_path  # noqa: PLC0415

    return user_data_path("breakfix") / "sessions" / session_id


def _in_node(name: str, argv: tuple[str, ...], variables: dict[str, str]) -> Seat:
    return Seat(name, CLUSTER, argv, variables=variables, tools="/usr/bin")
