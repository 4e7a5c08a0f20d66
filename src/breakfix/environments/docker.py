"""Labs of one or several Linux hosts: containers with systemd as PID 1, and a client beside them."""

from __future__ import annotations

import io
import ipaddress
import json
import tarfile
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from breakfix import images, recipes
from breakfix.engine import labels, profile, terminal
from breakfix.engine.client import connect as connect_engine
from breakfix.engine.client import not_ready, reason, unreachable
from breakfix.engine.manager import AT_START, BelievedShell
from breakfix.engine.shell import ExecShell, Seat
from breakfix.environments import Capability, host_of
from breakfix.errors import CommandTimedOut, HostUnreachable, NotReady, StartFailed
from breakfix.model import Host, Session, SessionState
from breakfix.together import together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from docker.types import IPAMConfig

    from breakfix.model import Disk, HostSpec, JsonValue, Lab
    from docker import APIClient

CLIENT: Final = "client"
BOOT: Final = 40.0
"""Seconds that a host may take until systemd has nothing left to start."""
SHUTDOWN: Final = 15
NETWORKS: Final = ipaddress.ip_network("198.19.0.0/16")
"""Where sessions' networks are: set aside for tests between networks (RFC 2544), so that no real one is hidden."""
PREFIX: Final = 28
MANY_INOTIFY_INSTANCES: Final = 512
OPEN_TO_ALL: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  # in a sandbox
SANDBOX_LIFE: Final = 900
"""Seconds after which a sandbox that a crash of ours left ends by itself."""
HELPER_PIDS: Final = 128
"""For a short-lived container: the engine's own threads count too while they set it up, and died under 16 once."""

# Docker's defaults, less MKNOD (no lab needs a device) and NET_RAW (frames of one's own making; ping does without).
CAPABILITIES: Final = (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
)  # fmt: skip
RAW: Final = "NET_RAW"
"""Goes with NET_ADMIN: who mends a network also listens to it (tcpdump, arping)."""
ONE_MORE: Final = "SYS_PTRACE"
"""Nobody else in the container has it, so the kernel forbids them to trace the trusted shell; and it alone sees what
processes of every user have open."""

EMPTY: Final = ("/toolbox/bin/busybox", "env", "-i", "PATH=/toolbox/bin")
GRADING_SHELL: Final = (
    "/toolbox/lib/loader", "--inhibit-cache", "--library-path", "/toolbox/lib", "/toolbox/libexec/dash", "-p",
)  # fmt: skip

# systemctl is asked only once there is somebody to answer: asking again and again takes the processor from the boot.
SYSTEM_UP: Final = (
    "until [ -S /run/systemd/private ]; do sleep 0.01; done; "
    'until s=$(systemctl is-system-running --wait 2>/dev/null); [ "$s" = running ] || [ "$s" = degraded ]; '
    "do sleep 0.02; done; echo $s"
)
# PID 1 waits here until the engine's mounts over its name files are gone; see `_own_names`.
WAIT_FOR_NAMES: Final = (
    "n=0; while mountpoint -q /etc/hosts && [ $n -lt 1000 ]; do usleep 10000; n=$((n + 1)); done; exec /sbin/init"
)
NAME_FILES: Final = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
CANDIDATE_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def connect() -> DockerEnvironment:
    """Return the environment on the engine that answers.  Raises EngineUnavailable."""
    return DockerEnvironment(connect_engine())


class DockerEnvironment:
    """See ``environments.Environment``; what a method raises stands there."""

    name = "docker"

    def __init__(self, api: APIClient) -> None:
        self._api = api
        self._profile: profile.Profile | None = None
        self._code: dict[str, Future[str]] = {}
        """What PID 1 of each container that was booted here executes, until the session is marked ready."""
        self._aside = ThreadPoolExecutor(4)
        self._creating: dict[str, Future[Session]] = {}
        """Sessions that were begun here, until they are marked ready or stopped."""
        self._booted: dict[str, BelievedShell] = {}
        """The shell that waited for each container's boot, until somebody asks for a trusted one."""

    # -- what this machine can do ----------------------------------------------------------------------------------

    def examine(self) -> tuple[Capability, ...]:
        """Say which engine answers, which profile boots systemd, and which images are there."""
        info = self._api.info()
        engine = Capability(
            "engine",
            ok=True,
            found=f"Docker {info['ServerVersion']}, {info['NCPU']} CPUs, {info['MemTotal'] >> 20} MiB",
        )
        built = tuple(
            Capability(
                f"image {name}",
                ok=images.is_built(name),
                found=recipes.tag(name) if images.is_built(name) else "not built",
                advice="breakfix images build (the first start does it as well)",
            )
            for name in images.NAMES
        )
        return (engine, *built, self._examine_profile(), *_examine_room())

    def _examine_profile(self) -> Capability:
        if not all(images.is_built(name) for name in ("host", "toolbox")):
            return Capability("systemd", ok=False, found="not tried yet", advice="breakfix images build")
        try:
            chosen = self._choose(lambda _: None)
        except NotReady as error:
            return Capability("systemd", ok=False, found=error.what, advice=error.next_step)
        advice = (
            ""
            if chosen.trusted
            else (
                "The candidate's root could leave the container: play only labs that you trust, and set no assessment. "
                "On cgroup v2, Docker 28 or later makes this unnecessary."
            )
        )
        return Capability("systemd", ok=True, found=f"{chosen.name} ({chosen.why})", advice=advice)

    def prepare(self, lab: Lab, tell: Callable[[str], None]) -> None:
        """Build missing images, and find out once how systemd boots here."""
        images.ensure(("toolbox", *{host.image for host in lab.hosts}), tell)
        self._choose(tell)

    def _profile_name(self) -> str:
        return self._choose(lambda _: None).name

    def _choose(self, tell: Callable[[str], None]) -> profile.Profile:
        if self._profile is None:
            from platformdirs import user_cache_path  # noqa: PLC0415

            memory = user_cache_path("breakfix") / "profiles.json"
            with not_ready("finding out how systemd boots"):
                self._profile = profile.choose(self._api, memory, lambda one: self._boots(one, tell))
        if self._profile is None:
            raise NotReady(
                "systemd does not boot in a container of this engine",
                why="No profile that we know works, not even a privileged one.",
                next_step="breakfix doctor; on cgroup v2, Docker 28 or later is known to work.",
            )
        return self._profile

    def _boots(self, candidate: profile.Profile, tell: Callable[[str], None]) -> bool:
        tell(f"trying how systemd boots here: {candidate.name}")
        trial = f"trial-{sha256(str(time.time_ns()).encode()).hexdigest()[:8]}"
        config = self._host_config(candidate, trial, memory="256m", cpus=1.0, pids=256)
        try:
            box = self._api.create_container(
                recipes.tag("host"), host_config=config, labels={labels.SESSION: trial, labels.ROLE: labels.ROLE_HOST}
            )["Id"]
            self._api.start(box)
            shell = self._shell(box, trial, candidate, ())
            shell.run(SYSTEM_UP, timeout=BOOT)
        except (NotReady, CommandTimedOut, HostUnreachable):
            return False
        except Exception as error:  # noqa: BLE001  # whatever an engine says to a profile that it can't run is a no
            tell(f"{candidate.name}: {reason(error)}")
            return False
        else:
            return True
        finally:
            self.stop((trial,))

    # -- making a session ------------------------------------------------------------------------------------------

    def create(self, lab: Lab, seed: int, session_id: str, owner: str) -> Session:
        """Make network, disks and containers; each carries the labels from its first moment."""
        draft = Session(
            id=session_id,
            lab=lab.id,
            seed=seed,
            state=SessionState.INCOMPLETE,
            owner=owner,
            started=datetime.now(UTC).replace(microsecond=0),
            hosts={},
            environment=self.name,
            profile=self._profile_name(),
        )
        # In a thread, which no Ctrl-C interrupts: what the engine was asked for would come after our cleaning up.
        # And known before it begins, so that whoever cleans up can wait for it or call it off.
        creation = self._creating[session_id] = Future()
        Thread(target=_into, args=(creation, partial(self._create, draft, lab)), daemon=True).start()
        return creation.result()

    def _create(self, draft: Session, lab: Lab) -> Session:
        session = self._network(draft, lab)
        with not_ready("creating the session's containers"):
            self._create_disks(session, lab)
            jobs = [partial(self._create_host, session, spec) for spec in lab.hosts]
            together([*jobs, partial(self._create_client, session, lab)])
        return session

    def _network(self, draft: Session, lab: Lab) -> Session:
        """Make the session's own network, on the first free subnet from one that its id stands for."""
        from docker.errors import APIError  # noqa: PLC0415

        if kept := self._api.networks(filters={"label": f"{labels.SESSION}={draft.id}"}):
            return _addressed(draft, lab, ipaddress.ip_network(kept[0]["Labels"][labels.NETWORK]))
        count = 2 ** (PREFIX - NETWORKS.prefixlen)
        first = int.from_bytes(sha256(draft.id.encode()).digest()[:4], "big")
        for attempt in range(count):
            session = _addressed(draft, lab, _subnet((first + attempt * 7) % count))
            try:
                self._create_network(session, lab)
            except APIError as error:
                if "overlap" not in reason(error).lower():
                    raise NotReady(
                        "no network for the session", why=reason(error), next_step="breakfix doctor"
                    ) from error
            else:
                return session
        raise NotReady("no free subnet is left", next_step="breakfix sessions; breakfix stop --all")

    def _create_network(self, session: Session, lab: Lab) -> None:
        pool = self._pool(session.network)
        # Without an address of its own, the bridge is no door to what listens on the engine's machine.
        options = {} if lab.internet else {"com.docker.network.bridge.inhibit_ipv4": "true"}
        self._api.create_network(
            container_name(session.id),
            driver="bridge",
            internal=not lab.internet,
            options=options,
            ipam=pool,
            labels=labels.of(session, labels.ROLE_NETWORK),
        )

    @staticmethod
    def _pool(network: str) -> IPAMConfig:
        from docker.types import IPAMConfig, IPAMPool  # noqa: PLC0415

        return IPAMConfig(pool_configs=[IPAMPool(subnet=network)])

    def _create_host(self, session: Session, spec: HostSpec) -> None:
        chosen = profile.BY_NAME[session.profile]
        binds = [f"{name}:{disk.path}" for name, disk in _disks(session, spec)]
        host = session.hosts[spec.name]
        self._api.create_container(
            recipes.tag(spec.image),
            ["/toolbox/bin/sh", "-c", WAIT_FOR_NAMES] if spec.own_names else None,
            name=container_name(session.id, spec.name),
            hostname=spec.name,
            stop_signal="SIGRTMIN+3",
            labels=labels.of(session, labels.ROLE_HOST, **_said_of(host)),
            host_config=self._host_config(
                chosen,
                session.id,
                spec.memory,
                spec.cpus,
                spec.pids,
                capabilities=spec.capabilities,
                binds=binds,
                network=container_name(session.id),
            ),
            networking_config=self._endpoint(session, host),
        )
        if spec.own_names:
            self.put(session, spec.name, _default_names(session, spec.name))

    def _create_disks(self, session: Session, lab: Lab) -> None:
        for name, disk in [pair for spec in lab.hosts for pair in _disks(session, spec)]:
            options = {"type": "tmpfs", "device": "tmpfs", "o": _tmpfs_options(disk)}
            self._api.create_volume(name, "local", options, labels=labels.of(session, labels.ROLE_DISK))

    def _create_client(self, session: Session, lab: Lab) -> None:
        host = Host(CLIENT, str(list(ipaddress.ip_network(session.network).hosts())[-1]))
        # A disk lives for as long as somebody has it mounted: the client keeps it while its host restarts.
        disks = [f"{name}:/disks/{name}:ro" for spec in lab.hosts for name, _ in _disks(session, spec)]
        config = self._api.create_host_config(
            network_mode=container_name(session.id), mem_limit="256m", pids_limit=256, cap_drop=["ALL"],
            cap_add=["NET_RAW"], security_opt=["no-new-privileges"], binds=disks,
        )  # fmt: skip
        self._api.create_container(
            recipes.tag("toolbox"),
            name=container_name(session.id, CLIENT),
            hostname=CLIENT,
            labels=labels.of(session, labels.ROLE_CLIENT),
            stop_signal="SIGKILL",
            host_config=config,
            networking_config=self._endpoint(session, host),
        )

    def _endpoint(self, session: Session, host: Host) -> dict[str, Any]:
        endpoint = self._api.create_endpoint_config(ipv4_address=host.address, aliases=[host.name])
        # Not create_networking_config: its type is of one network, and it does no more than this.
        return {"EndpointsConfig": {container_name(session.id): endpoint}}

    def _host_config(  # noqa: PLR0913  # what the engine wants to know of a host
        self,
        chosen: profile.Profile,
        session_id: str,
        memory: str,
        cpus: float,
        pids: int,
        *,
        capabilities: Iterable[str] = (),
        binds: Iterable[str] = (),
        network: str = "none",
    ) -> dict[str, Any]:
        from docker.types import LogConfig  # noqa: PLC0415  # heavy

        extra = chosen.host_config(session_id)
        config = self._api.create_host_config(
            network_mode=network,
            binds=[f"{images.toolbox_volume()}:/toolbox:ro", *binds, *extra.pop("binds", ())],
            tmpfs={"/run": "mode=755", "/run/lock": "mode=1777", "/tmp": "mode=1777"},  # noqa: S108  # in the container
            mem_limit=memory,
            memswap_limit=memory,
            nano_cpus=int(cpus * 1e9),
            pids_limit=pids,
            cap_drop=["ALL"],
            cap_add=[*CAPABILITIES, *capabilities, *((RAW,) if "NET_ADMIN" in capabilities else ())],
            log_config=LogConfig(type="none"),
            cgroup_parent=extra.pop("cgroup_parent", None),
            privileged=extra.pop("privileged", False),
            security_opt=extra.pop("security_opt", None),
        )
        # docker-py has no argument for it.
        return {**config, "CgroupnsMode": extra["cgroupns"]}

    def put(self, session: Session, host: str, files: dict[str, tuple[bytes, int]]) -> None:
        """Send the files as one archive."""
        if not files:
            return
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for path, (content, mode) in sorted(files.items()):
                member = tarfile.TarInfo(path.lstrip("/"))
                member.size, member.mode, member.mtime = len(content), mode, int(session.started.timestamp())
                archive.addfile(member, io.BytesIO(content))
        with not_ready(f"writing files into {host}"):
            self._api.put_archive(container_name(session.id, host), "/", stream.getvalue())

    def boot(self, session: Session) -> None:
        """Start everything at once; the client is up long before the hosts are."""
        try:
            with not_ready("starting the session's containers"):
                hosts = [partial(self._boot_host, session, name) for name in session.hosts]
                client = partial(self._api.start, container_name(session.id, CLIENT))
                together([*hosts, client, partial(self._shut_bridge, session)])
        except (CommandTimedOut, HostUnreachable) as error:
            raise StartFailed("a host did not boot", why=str(error), next_step="breakfix doctor") from error

    def _boot_host(self, session: Session, host: str) -> None:
        container = container_name(session.id, host)
        self._api.start(container)
        shell = self._up(session, host)
        # It takes a while, and nobody needs it before the session is marked ready.
        self._code[container] = self._aside.submit(lambda: shell.run(AT_START).text)

    def _restart_host(self, session: Session, host: str) -> None:
        with unreachable(host):
            self._api.restart(container_name(session.id, host), timeout=SHUTDOWN)
        self._up(session, host)

    def _up(self, session: Session, host: str) -> BelievedShell:
        """Wait until systemd has nothing left to start; return the shell that waited, for whoever asks next."""
        container = container_name(session.id, host)
        found = self._api.inspect_container(container)
        if WAIT_FOR_NAMES in found["Config"]["Cmd"]:
            self._own_names(session, container)
        shell = self._believed(session, host, found["HostConfig"]["CapAdd"] or [])
        try:
            shell.run_at_boot(SYSTEM_UP, BOOT)
        except BaseException:
            shell.close()
            raise
        self._booted[container] = shell
        return shell

    def _shut_bridge(self, session: Session) -> None:
        """Take the link-local IPv6 address off the engine's end of the bridge, where a host may send raw packets.

        The kernel gives every bridge one, and with raw packets a candidate would reach whatever listens on it.  No
        option of the engine prevents that, so a container in the engine's own network does it, once for each boot.
        """
        hosts = [self._api.inspect_container(container_name(session.id, name)) for name in session.hosts]
        if not any({RAW, f"CAP_{RAW}"} & set(one["HostConfig"]["CapAdd"] or ()) for one in hosts):
            return
        bridge = f"br-{self._api.inspect_network(container_name(session.id))['Id'][:12]}"
        # By its path: busybox's shell would take its own ip.
        ip = "/toolbox/bin/ip"
        script = (
            f"[ -e /proc/sys/net/ipv6 ] || exit 0; {ip} link set dev {bridge} addrgenmode none && "
            f'{ip} -6 addr flush dev {bridge} && [ -z "$({ip} -6 addr show dev {bridge})" ]'
        )
        config = self._api.create_host_config(
            network_mode="host", cap_drop=["ALL"], cap_add=["NET_ADMIN"], pids_limit=HELPER_PIDS, mem_limit="64m"
        )
        box = self._api.create_container(
            recipes.tag("toolbox"), ["/toolbox/bin/sh", "-c", script], host_config=config,
            environment={"PATH": "/toolbox/bin"}, labels=labels.of(session, "bridge"),
        )["Id"]  # fmt: skip
        try:
            self._api.start(box)
            if self._api.wait(box)["StatusCode"]:
                raise StartFailed("the session's network could not be shut off", why=self._api.logs(box).decode())
        finally:
            self._api.remove_container(box, force=True)

    def _own_names(self, session: Session, container: str) -> None:
        """Take the engine's mounts off the host's name files, so that they can be replaced and outlive a restart.

        A container beside does it: the host itself may not unmount anything, and its seccomp filter binds whatever
        is executed in it.  Only the toolbox's busybox runs, from the mount that nobody can cover.
        """
        config = self._api.create_host_config(
            network_mode="none", pid_mode=f"container:{container}", cap_drop=["ALL"],
            cap_add=["SYS_ADMIN", "SYS_PTRACE", "SYS_CHROOT"], security_opt=["seccomp=unconfined"],
        )  # fmt: skip
        command = ["/toolbox/bin/nsenter", "-t", "1", "-m", "/toolbox/bin/busybox", "umount", *NAME_FILES[::-1]]
        box = self._api.create_container(
            recipes.tag("toolbox"), command, host_config=config, labels=labels.of(session, "names")
        )["Id"]
        try:
            self._api.start(box)
            if self._api.wait(box)["StatusCode"]:
                raise StartFailed("the host's name files could not be made its own", why=self._api.logs(box).decode())
        finally:
            self._api.remove_container(box, force=True)

    def mark_ready(self, session: Session, baseline: dict[str, JsonValue]) -> Session:
        """Make the volume that says so, and what code each host's PID 1 runs."""
        code = {host: self._code.pop(container_name(session.id, host)).result() for host in session.hosts}
        # From here on the candidate is in there: no shell of ours stays open beside them.
        self._close_shells(session.id)
        return self._note_ready(session, baseline, {labels.CODE: json.dumps(code)})

    def _note_ready(self, session: Session, baseline: dict[str, JsonValue], more: dict[str, str]) -> Session:
        kept = labels.of(session, labels.ROLE_READY, **{labels.BASELINE: json.dumps(baseline)}, **more)
        with not_ready("marking the session ready"):
            self._api.create_volume(container_name(session.id, "ready"), labels=kept)
        self._creating.pop(session.id, None)
        return replace(session, state=SessionState.READY, baseline=baseline)

    # -- looking and working -----------------------------------------------------------------------------------------

    def restart(self, session: Session) -> None:
        """Stop and start each host in place; disks and files stay, /run and /tmp are new."""
        self._close_shells(session.id)
        try:
            together([partial(self._restart_host, session, name) for name in session.hosts])
        except CommandTimedOut as error:
            raise HostUnreachable(
                "a host did not come up again after its restart", why=error.why, next_step="breakfix reset"
            ) from error

    def resume(self, session: Session) -> None:
        """Start what the engine left stopped."""
        self.boot(session)

    def trusted(self, session: Session, host: str) -> ExecShell:
        """Open the trusted shell of a host; the one that waited for its boot, where that was just now."""
        container = container_name(session.id, host)
        if booted := self._booted.pop(container, None):
            return booted
        return self._believed(session, host, self._added(container, host))

    def _believed(self, session: Session, host: str, added: Iterable[str]) -> BelievedShell:
        seat = _trusted_seat(container_name(session.id, host), host, profile.BY_NAME[session.profile], added)
        return BelievedShell(self._api, seat, partial(self._code_at_start, session, host))

    def _close_shells(self, session_id: str) -> None:
        prefix = f"{container_name(session_id)}-"
        for container in [one for one in self._booted if one.startswith(prefix)]:
            self._booted.pop(container).close()
        for container in [one for one in self._code if one.startswith(prefix)]:
            del self._code[container]

    def _added(self, container: str, host: str) -> list[str]:
        with unreachable(host):
            return self._api.inspect_container(container)["HostConfig"]["CapAdd"] or []

    def _code_at_start(self, session: Session, host: str) -> str:
        """Return what ``mark_ready`` noted; nothing of a session that is not ready yet."""
        from docker.errors import NotFound  # noqa: PLC0415

        with unreachable(host):
            try:
                found = self._api.inspect_volume(container_name(session.id, "ready"))["Labels"]
            except NotFound:
                return ""
        return str(json.loads(found.get(labels.CODE, "{}")).get(host, ""))

    def _shell(self, container: str, host: str, chosen: profile.Profile, added: Iterable[str]) -> ExecShell:
        return ExecShell(self._api, _trusted_seat(container, host, chosen, added))

    def plain(self, session: Session, host: str) -> ExecShell:
        """Open a shell with the host's own tools."""
        variables = {"PATH": CANDIDATE_PATH, "HOME": "/root", "LANG": "C.UTF-8"}
        return ExecShell(
            self._api, Seat(container_name(session.id, host), host, ("/bin/bash", "--norc"), variables=variables)
        )

    def client(self, session: Session) -> ExecShell:
        """Open a shell in the client."""
        return ExecShell(
            self._api,
            Seat(
                container_name(session.id, CLIENT),
                CLIENT,
                ("/bin/sh",),
                variables={"PATH": f"{CANDIDATE_PATH}:/toolbox/bin"},
            ),
        )

    def take(self, session: Session, host: str, path: str, most: int) -> bytes:
        """Have the engine pack it."""
        from docker.errors import NotFound  # noqa: PLC0415

        taken, is_there = bytearray(), True
        with unreachable(host):
            try:
                stream, _ = self._api.get_archive(container_name(session.id, host), path)
            except NotFound:
                stream, is_there = iter(()), False
            while len(taken) <= most and (chunk := next(stream, b"")):
                taken += chunk
        if not is_there:
            raise FileNotFoundError(path)
        if len(taken) > most:
            raise OverflowError(path)
        return bytes(taken)

    def sandbox(self, session: Session, image: str) -> SandboxShell:
        """Start a container that has nothing but its image and a small scratch disk."""
        images.ensure((image,), lambda _: None)
        config = self._api.create_host_config(
            network_mode="none", mem_limit="768m", memswap_limit="768m", nano_cpus=int(2e9), pids_limit=256,
            cap_drop=["ALL"], cap_add=["SETUID", "SETGID", "SETPCAP", "KILL", "CHOWN", "DAC_OVERRIDE"],
            security_opt=["no-new-privileges"], init=True,
            tmpfs={**dict.fromkeys(OPEN_TO_ALL, "mode=1777,size=96m"), "/work": "mode=755,size=128m"},
        )  # fmt: skip
        with unreachable("the sandbox"):
            box = self._api.create_container(
                recipes.tag(image), ["/bin/sleep", str(SANDBOX_LIFE)], host_config=config, stop_signal="SIGKILL",
                labels=labels.of(session, labels.ROLE_SANDBOX), working_dir="/",
            )["Id"]  # fmt: skip
            self._api.start(box)
        return SandboxShell(self._api, Seat(box, "the sandbox", ("/bin/bash", "--norc"), tools=CANDIDATE_PATH))

    def attach(self, session: Session, host: str) -> int:
        """Connect this terminal to a login shell on the host."""
        place = container_name(session.id, host_of(session, host))
        with unreachable(host):
            return terminal.attach(self._api, place, ["/bin/bash", "-l"])

    # -- the end, and what the engine says is there ------------------------------------------------------------------

    def stop(self, session_ids: tuple[str, ...], *, again: bool = False) -> None:
        """Remove by label, again where something was in the way."""
        if not session_ids:
            return
        begun = [self._creating.pop(one) for one in session_ids if one in self._creating]
        wait([creation for creation in begun if not creation.cancel()])
        for one in session_ids:
            self._let_go(one)
        for _ in range(3):
            pieces = [piece for one in session_ids for piece in self._pieces(one)]
            if again:
                pieces = [piece for piece in pieces if piece[0] != "network"]
            if not pieces:
                break
            self._remove(pieces)
        if not again:
            self._remove_cgroups(session_ids)

    def _let_go(self, session_id: str) -> None:
        """Let go of a session of which nothing is made any more, so that its pieces can be removed."""
        self._close_shells(session_id)

    def _remove(self, pieces: list[tuple[str, str]]) -> None:
        from docker.errors import APIError, NotFound  # noqa: PLC0415

        def remove(kind: str, name: str) -> None:
            with suppress(NotFound):
                if kind == "container":
                    self._api.remove_container(name, force=True, v=True)
                elif kind == "network":
                    self._api.remove_network(name)
                else:
                    self._api.remove_volume(name, force=True)

        for kind in ("container", "network", "volume"):
            of_kind = [name for what, name in pieces if what == kind]
            # What is still being removed by somebody else answers with a conflict; the next round sees it gone.
            with suppress(APIError):
                together([partial(remove, kind, name) for name in of_kind])

    def _remove_cgroups(self, session_ids: tuple[str, ...]) -> None:
        """Remove the control groups that narrow-v1 made on the engine's machine, from a container there."""
        if self._profile not in (None, profile.NARROW):
            return
        if self._profile is None and str(self._api.info().get("CgroupVersion")) == "2":
            return
        if not images.is_built("toolbox"):
            return
        groups = " ".join(f"/groups/*{profile.cgroup_parent(one)}" for one in session_ids)
        # From the depths up: the candidate may have made groups of their own in the session's.
        script = f"for g in {groups}; do [ ! -d $g ] || find $g -depth -type d -exec rmdir {{}} +; done; true"
        # DAC_OVERRIDE: the top of each hierarchy is closed to writing, for its owner too.
        config = self._api.create_host_config(
            binds=[f"{profile.CGROUPS}:/groups"], network_mode="none", cap_drop=["ALL"], cap_add=["DAC_OVERRIDE"],
            pids_limit=HELPER_PIDS, mem_limit="64m",
        )  # fmt: skip
        with not_ready("removing control groups"):
            box = self._api.create_container(
                recipes.tag("toolbox"), ["/toolbox/bin/sh", "-c", script], host_config=config,
                labels={labels.SESSION: session_ids[0], labels.ROLE: labels.ROLE_CLEANER},
            )["Id"]  # fmt: skip
            try:
                self._api.start(box)
                self._api.wait(box)
            finally:
                self._api.remove_container(box, force=True)

    def sessions(self, owner: str | None = None) -> tuple[Session, ...]:
        """Read containers, networks and volumes by label."""
        filters = {"label": labels.SESSION}
        with not_ready("listing sessions"):
            containers = self._api.containers(all=True, filters=filters)
            networks = self._api.networks(filters=filters)
            volumes = self._api.volumes(filters=filters)["Volumes"] or []
        found = [one for one in labels.read(containers, [*networks, *volumes]) if one.environment == self.name]
        # What belongs to nobody is what a crash left of our own trials and cleaning.
        return tuple(one for one in found if owner is None or one.owner in {owner, ""})

    def _pieces(self, session_id: str) -> list[tuple[str, str]]:
        filters = {"label": f"{labels.SESSION}={session_id}"}
        with not_ready("looking for a session's pieces"):
            containers = [("container", one["Id"]) for one in self._api.containers(all=True, filters=filters)]
            networks = [("network", one["Id"]) for one in self._api.networks(filters=filters)]
            volumes = [("volume", one["Name"]) for one in self._api.volumes(filters=filters)["Volumes"] or []]
        return [*containers, *networks, *volumes]

    def leftovers(self, session_id: str) -> tuple[str, ...]:
        """Name each piece that the engine still has."""
        return tuple(f"{kind} {name[:40]}" for kind, name in self._pieces(session_id))


class SandboxShell(ExecShell):
    """A shell whose container goes with it."""

    def close(self) -> None:
        """End the shell and everything that ran beside it."""
        super().close()
        with suppress(NotReady), not_ready("removing a sandbox"):
            self._api.remove_container(self._seat.container, force=True, v=True)


def _examine_room() -> tuple[Capability, ...]:
    """Say how many sessions fit, where the engine's kernel is this one's: each systemd takes inotify instances."""
    setting = Path("/proc/sys/fs/inotify/max_user_instances")
    if not setting.exists():
        return ()
    limit = int(setting.read_text(encoding="ascii"))
    few = limit < MANY_INOTIFY_INSTANCES
    advice = "For more than about 30 sessions side by side: sysctl -w fs.inotify.max_user_instances=1024" if few else ""
    return (Capability("inotify", ok=True, found=f"{limit} instances", advice=advice),)


def _into(promise: Future[Session], make: Callable[[], Session]) -> None:
    """Keep the promise, unless it was called off before."""
    if promise.set_running_or_notify_cancel():
        try:
            promise.set_result(make())
        except BaseException as error:  # noqa: BLE001  # it is raised where the promise is waited for
            promise.set_exception(error)


def container_name(session_id: str, *parts: str) -> str:
    """Return what a piece of a session is called in the engine; without ``parts``, its network."""
    return "-".join(("breakfix", session_id, *parts))


def _subnet(index: int) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    size = 2 ** (32 - PREFIX)
    return ipaddress.ip_network((int(NETWORKS.network_address) + index * size, PREFIX))


def _addressed(draft: Session, lab: Lab, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Session:
    # The first address would be the gateway's; there is none, but the engine keeps it.
    free = list(network.hosts())[1:]
    hosts = {
        spec.name: Host(spec.name, str(address), spec.closed) for spec, address in zip(lab.hosts, free, strict=False)
    }
    return replace(draft, hosts=hosts, network=str(network))


def _said_of(host: Host) -> dict[str, str]:
    closed = {labels.CLOSED: "yes"} if host.closed else {}
    return {labels.HOST: host.name, labels.ADDRESS: host.address, **closed}


def _default_names(session: Session, host: str) -> dict[str, tuple[bytes, int]]:
    others = "".join(f"{one.address}\t{one.name}\n" for one in session.hosts.values() if one.name != host)
    hosts = f"127.0.0.1\tlocalhost\n127.0.1.1\t{host}\n{others}"
    contents = (hosts, f"{host}\n", "nameserver 127.0.0.11\n")
    return {path: (content.encode(), 0o644) for path, content in zip(NAME_FILES, contents, strict=True)}


def _disks(session: Session, spec: HostSpec) -> list[tuple[str, Disk]]:
    return [(container_name(session.id, spec.name, f"disk{n}"), disk) for n, disk in enumerate(spec.disks)]


def _tmpfs_options(disk: Disk) -> str:
    return f"size={disk.size}" + (f",nr_inodes={disk.inodes}" if disk.inodes else "")


def _trusted_seat(container: str, host: str, chosen: profile.Profile, added: Iterable[str]) -> Seat:
    return Seat(container, host, (*EMPTY, *one_capability_more(chosen, added), *GRADING_SHELL), privileged=True)


def one_capability_more(chosen: profile.Profile, added: Iterable[str]) -> tuple[str, ...]:
    """Return the command that cuts a privileged exec down to what the host has, and one capability more."""
    if not chosen.trusted:
        return ()
    kept = {*CAPABILITIES, ONE_MORE, *(name.removeprefix("CAP_") for name in added)}
    bounding = ",".join(["-all", *(f"+{name.lower()}" for name in sorted(kept))])
    # A real group that is not the effective one: nobody else can have that pair, so nobody without SYS_RESOURCE can set
    # limits on this shell (prlimit), under which a search for what must not be there would find nothing.
    return ("/toolbox/bin/setpriv", "--clear-groups", "--rgid=65534", f"--bounding-set={bounding}")
