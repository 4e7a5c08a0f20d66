"""Measures breakfix beside what one would use instead, in one run.  Usage: bench.py [FIGURE…]

Absolute seconds depend on the machine and on what else it does; the ratios are taken in the same run, turn by turn.
A figure that misses its target is printed as missed: nothing here asserts.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from breakfix import catalog, environments, images, proving, recipes, sessions
from breakfix.cluster import clusters, own, practice
from breakfix.engine.client import connect
from breakfix.grading.runner import grade
from breakfix.model import Isolation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from breakfix.model import Lab, Session

HERE = Path(__file__).parent
BREAKFIX = [sys.executable, "-c", "from breakfix.cli import main; main()"]
SIDE_BY_SIDE = 40
AT_A_TIME = 4
TIMES = 20
STOOD = 15
"""Seconds for which a standby stands still before it is claimed: its nodes' next words are overdue then, as in life."""
LONG = ("repeats", "selftest")


@dataclass(frozen=True)
class Figure:
    """One thing measured, what it was held against, and what was promised."""

    name: str
    seen: str
    beside: str
    target: str
    reached: bool


def quiet(_: str) -> None:
    """Take no notice of progress."""


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that ``work`` took."""
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def median(work: Callable[[], object], runs: int = 7) -> float:
    """Return the median of several runs, after one that does not count."""
    work()
    return statistics.median(timed(work) for _ in range(runs))


def command(*arguments: str) -> Callable[[], object]:
    """Return what runs a breakfix command as a user does: a whole process."""
    # As installed for a user: Python may keep what it compiled.
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return lambda: subprocess.run([*BREAKFIX, *arguments], capture_output=True, check=False, env=variables)


def bare_run() -> float:
    """Time a plain ``docker run`` of the same image, waited to ``systemctl is-system-running``."""
    name = f"bench-{os.getpid()}-{time.monotonic_ns()}"
    chosen = environments.load("docker")._choose(quiet)  # type: ignore[attr-defined]  # noqa: SLF001
    config = chosen.host_config(name)
    flags = ["--cgroupns", config["cgroupns"], *(f"--volume={bind}" for bind in config.get("binds", ()))]
    flags += ["--cgroup-parent", config["cgroup_parent"]] if "cgroup_parent" in config else []
    flags += [f"--security-opt={option}" for option in config.get("security_opt", ())]
    flags += ["--privileged"] if config.get("privileged") else []
    flags += ["--tmpfs=/run", "--tmpfs=/run/lock", "--tmpfs=/tmp", "--memory=256m", "--pids-limit=256"]

    def up() -> None:
        subprocess.run(
            ["docker", "run", "--detach", "--name", name, *flags, recipes.tag("host")], check=True, capture_output=True
        )
        ask = ["docker", "exec", name, "systemctl", "is-system-running", "--wait"]
        while b"running" not in subprocess.run(ask, capture_output=True, check=False).stdout:
            time.sleep(0.01)

    try:
        return timed(up)
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)
        environments.load("docker").stop((name,))


def labs_of(track: str) -> list[Lab]:
    """Return the labs of a track."""
    return [lab for lab in catalog.load(catalog.roots()).labs.values() if lab.track == track]


def linux_labs() -> list[Lab]:
    """Return the labs that the figures of hosts are taken over."""
    return labs_of("linux")


def start_figures() -> Iterator[Figure]:
    """Start each Linux lab, turn by turn with a bare run."""
    environment = environments.load("docker")
    ours, bare = [], []
    for lab in linux_labs():
        environment.prepare(lab, quiet)
        for seed in lab.seeds[:2]:
            bare.append(bare_run())
            started = sessions.start(environment, lab, seed, quiet)
            ours.append(started.seconds)
            environment.stop((started.session.id,))
            print(f"  {lab.id} seed {seed}: {ours[-1]:.2f} s, bare {bare[-1]:.2f} s", file=sys.stderr)
    p50, beside = statistics.median(ours), statistics.median(bare)
    ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    yield Figure(
        "start to proven broken, p50 over all Linux labs",
        f"{p50:.2f} s",
        f"bare run {beside:.2f} s, ratio {ratio:.2f}",
        "ratio under 1.6",
        ratio < 1.6,
    )
    yield Figure("the same, in seconds", f"{p50:.2f} s", "", "under 1.5 s", p50 < 1.5)


def grade_figures() -> Iterator[Figure]:
    """Ask ten checks through our engine, and the same ten through stock testinfra's docker backend."""
    environment = environments.load("docker")
    lab = catalog.load(catalog.roots((HERE / "root",))).find("bench/ten-checks")
    started = sessions.start(environment, lab, lab.seeds[0], quiet)
    try:
        session = started.session
        seen = [grade(environment, session, lab, quiet) for _ in range(7)]
        assert all(one.passed for one in seen)  # noqa: S101  # a wrong answer has no speed
        ours = statistics.median(one.engine_seconds for one in seen[1:])
        stock = statistics.median(timed(lambda: ask_stock(session)) for _ in range(5))
        ratio = stock / ours
        yield Figure(
            "a ten-check grade, the engine's part",
            f"{ours * 1000:.0f} ms",
            f"stock testinfra {stock * 1000:.0f} ms, ratio {ratio:.1f}",
            "8 times faster",
            ratio >= 8,
        )
        whole = median(command("--labs", str(HERE / "root"), "grade", session.id), 5)
        yield Figure("the whole grade command", f"{whole:.2f} s", "", "under 1.2 s", whole < 1.2)
    finally:
        environment.stop((started.session.id,))


def ask_stock(session: Session) -> None:
    """Run the ten checks as one would without us: testinfra over ``docker exec``, with nothing cached."""
    from importlib.util import module_from_spec, spec_from_file_location  # noqa: PLC0415

    import testinfra.backend  # noqa: PLC0415
    from testinfra.host import Host  # noqa: PLC0415

    spec = spec_from_file_location("ten", HERE / "root/graders/bench/ten-checks/test_ten.py")
    assert spec is not None  # noqa: S101
    assert spec.loader is not None  # noqa: S101
    ten = module_from_spec(spec)
    spec.loader.exec_module(ten)
    backend = testinfra.backend.get_backend(f"docker://breakfix-{session.id}-web")
    host = Host(backend)
    backend.set_host(host)
    for name, ask in vars(ten).items():
        if name.startswith("test_"):
            ask(host)


def command_figures() -> Iterator[Figure]:
    """Time what must answer at once."""
    python = median(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))
    for arguments, limit in ((("--help",), 0.15), (("list",), 0.3)):
        seen = median(command(*arguments), 15)
        yield Figure(
            f"breakfix {arguments[0]}",
            f"{seen:.3f} s",
            f"python -c pass {python:.3f} s, ratio {seen / python:.1f}",
            f"under {limit} s",
            seen < limit,
        )


def start_many(labs: list[Lab], count: int, at_a_time: int) -> dict[int, Session]:
    """Start ``count`` sessions, of one lab after the other; return them by their numbers."""
    environment = environments.load(labs[0].environment)

    def start(number: int) -> Session:
        lab = labs[number % len(labs)]
        return sessions.start(environment, lab, lab.seeds[number % len(lab.seeds)], quiet).session

    with ThreadPoolExecutor(at_a_time) as pool:
        return dict(enumerate(pool.map(start, range(count))))


def graded_rightly(labs: list[Lab], number: int, session: Session) -> bool:
    """Mend every other session; return whether its grade says so."""
    lab, environment = labs[number % len(labs)], environments.load(session.environment)
    if number % 2:
        proving.perform(environment, session, lab, proving.attempts(lab, "solutions")[0])
    made = grade(environment, session, lab, quiet, restart=False)
    good = made.gradable and made.earned == (100 if number % 2 else 0)
    if not good:
        print(f"  {lab.id} seed {session.seed}: {made.earned} of {made.total}", file=sys.stderr)
    return good


def stop_all(environment: str) -> None:
    """Stop what the bench began."""
    found = environments.load(environment)
    found.stop(tuple(one.id for one in found.sessions(os.environ["BREAKFIX_OWNER"])))


def many_figures() -> Iterator[Figure]:
    """Run many sessions of all labs with one host side by side, mend every other one, and grade them all."""
    labs = [lab for lab in linux_labs() if len(lab.hosts) == 1]
    for lab in labs:
        environments.load("docker").prepare(lab, quiet)
    try:
        begun = time.monotonic()
        running = start_many(labs, SIDE_BY_SIDE, AT_A_TIME)
        took = time.monotonic() - begun
        memory = sorted(memory_of(session) for session in running.values())
        # pytest is not made for threads, so these take turns.
        good = sum(graded_rightly(labs, number, session) for number, session in running.items())
    finally:
        stop_all("docker")
    yield Figure(f"{SIDE_BY_SIDE} sessions side by side, started", f"{took:.0f} s", "", "within 60 s", took < 60)
    yield Figure("each graded rightly", f"{good} of {SIDE_BY_SIDE}", "", "all", good == SIDE_BY_SIDE)
    small = sum(one < 40 for one in memory)
    yield Figure(
        "memory of a session (host and client), p50",
        f"{statistics.median(memory):.0f} MB",
        f"{small} of {len(memory)} under 40 MB, largest {memory[-1]:.0f} MB",
        "each under 40 MB",
        memory[-1] < 40,
    )


def memory_of(session: Session) -> float:
    """Return what a session's containers hold in memory: without page cache, with what its disks hold; in MB."""
    api = connect()
    total = 0
    for one in api.containers(filters={"label": f"breakfix.session={session.id}"}):
        memory = api.stats(one["Id"], stream=False, one_shot=True)["memory_stats"]
        details = memory.get("stats", {})
        total += memory["usage"] - details.get("total_inactive_file", details.get("inactive_file", 0))
    return total / 1e6


def bare_cluster() -> float:
    """Time ``kind create cluster`` with the same node image: what one would have without a shared cluster."""
    name, image, kind = f"breakfix-bench-{os.getpid()}", images.node(quiet), str(images.kind_command(quiet))
    with tempfile.TemporaryDirectory() as folder:
        named = ["--name", name, "--kubeconfig", f"{folder}/kubeconfig", "--quiet"]
        chosen = ["--image", image] if image else []
        try:
            return timed(
                lambda: subprocess.run([kind, "create", "cluster", *named, *chosen, "--wait", "180s"], check=True)
            )
        finally:
            clusters.let_go(clusters.Cluster(name))
            subprocess.run([kind, "delete", "cluster", *named], check=True)


def cluster_figures() -> Iterator[Figure]:
    """Start and grade each Kubernetes lab that owns namespaces; run eight sessions at once; fill a namespace."""
    environment = environments.load("kind")
    labs = cluster_labs(Isolation.NAMESPACE)
    environment.prepare(labs[0], quiet)
    memory = practice.state(memory=True).memory / 1e6
    yield Figure("an idle practice cluster", f"{memory:.0f} MB", "", "under 550 MB", memory < 550)
    took, asked = [], []
    for lab in labs:
        environment.prepare(lab, quiet)
        started = sessions.start(environment, lab, lab.seeds[0], quiet)
        took.append(started.seconds)
        asked.append(grade(environment, started.session, lab, quiet).engine_seconds)
        environment.stop((started.session.id,))
        print(f"  {lab.id}: start {took[-1]:.2f} s, grade {asked[-1]:.2f} s", file=sys.stderr)
    p50, beside = statistics.median(took), bare_cluster()
    ratio = f"kind create cluster {beside:.1f} s, ratio {p50 / beside:.2f}"
    yield Figure("a namespace lab, start to proven broken, p50", f"{p50:.2f} s", ratio, "under 4 s", p50 < 4)
    p50 = statistics.median(asked)
    yield Figure("its grade, the engine's part, p50", f"{p50:.2f} s", "", "under 1 s", p50 < 1)
    yield crowded_figure(labs[0])
    yield side_by_side_figure(labs)


def cluster_labs(isolation: Isolation) -> list[Lab]:
    """Return the labs that have this much of a cluster to themselves."""
    return [lab for lab in labs_of("kubernetes") if lab.cluster and lab.cluster.isolation is isolation]


def own_cluster_figures() -> Iterator[Figure]:
    """Make clusters for one session each, cold; then start a lab that needs no workers from the standby."""
    os.environ[own.SETTING] = own.Standby.OFF
    environment = environments.load("kind")
    lab = next(lab for lab in cluster_labs(Isolation.CLUSTER) if lab.cluster and not lab.cluster.workers)
    images.ensure(("toolbox", "app", "workstation"), quiet)
    own.drop_standbys(quiet)
    cold, bare, warm = [], [], []
    for _ in range(3):
        bare.append(bare_cluster())
        cold.append(timed(lambda: own.stand_by(0, quiet)))
        time.sleep(STOOD)
        started = sessions.start(environment, lab, lab.seeds[0], quiet)
        warm.append(started.seconds)
        environment.stop((started.session.id,))
        own.drop_standbys(quiet)
    ratio = statistics.median(cold) / statistics.median(bare)
    beside = f"kind create cluster {statistics.median(bare):.1f} s, ratio {ratio:.2f}"
    took = f"{statistics.median(cold):.1f} s"
    yield Figure("a cluster of one's own, made cold, with images", took, beside, "ratio under 1.20", ratio < 1.2)
    p50 = statistics.median(warm)
    yield Figure("a lab in it, from the standby to proven broken", f"{p50:.1f} s", lab.id, "under 6 s", p50 < 6)


BARE_TOFU = """
set -e
rm -rf /tmp/bare && cp -r /tmp/stack /tmp/bare && cd /tmp/bare
tofu init -no-color && tofu apply -auto-approve -no-color && tofu plan -no-color && tofu destroy -auto-approve -no-color
"""


def iac_figures() -> Iterator[Figure]:
    """Start each lab about code and rights; grade those about code when they are mended, beside tofu by hand."""
    environment = environments.load("docker")
    labs = [lab for track in ("terraform", "iam") for lab in labs_of(track) if lab.environment == "docker"]
    took, bare, asked, by_hand = [], [], [], []
    for lab in labs:
        environment.prepare(lab, quiet)
        bare.append(bare_run())
        started = sessions.start(environment, lab, lab.seeds[0], quiet)
        took.append(started.seconds)
        if lab.track == "terraform":
            proving.perform(environment, started.session, lab, proving.attempts(lab, "solutions")[0])
            by_hand.append(tofu_by_hand(started.session))
            asked.append(grade(environment, started.session, lab, quiet, restart=False).engine_seconds)
            print(f"  {lab.id}: grade {asked[-1]:.2f} s, tofu by hand {by_hand[-1]:.2f} s", file=sys.stderr)
        environment.stop((started.session.id,))
        print(f"  {lab.id}: start {took[-1]:.2f} s", file=sys.stderr)
    p50, beside = statistics.median(took), statistics.median(bare)
    ratio = f"bare run {beside:.2f} s, ratio {p50 / beside:.1f}"
    yield Figure("a lab of code or rights, start to proven broken, p50", f"{p50:.2f} s", ratio, "under 3 s", p50 < 3)
    p50, beside = statistics.median(asked), statistics.median(by_hand)
    ratio = f"tofu by hand {beside:.2f} s, ratio {p50 / beside:.1f}"
    yield Figure("a Terraform grade when mended, the engine's part, p50", f"{p50:.2f} s", ratio, "under 4 s", p50 < 4)


def tofu_by_hand(session: Session) -> float:
    """Time init, apply, plan and destroy of a small stack on the workstation, as one would type them."""
    seat = environments.load("docker").plain(session, "workstation")
    try:
        seat.run(f"mkdir -p /tmp/stack && cat >/tmp/stack/main.tf <<'END'\n{SMALL_STACK}END")
        return timed(lambda: seat.run(BARE_TOFU, 60))
    finally:
        seat.close()


SMALL_STACK = """
resource "local_file" "it" {
  for_each = toset(["a", "b", "c"])
  filename = "/tmp/out/${each.key}"
  content  = each.key
}
resource "terraform_data" "it" { input = "x" }
"""


def crowded_figure(lab: Lab) -> Figure:
    """Grade a session whose namespace holds 200 pods; they need not run to be looked at."""
    environment = environments.load("kind")
    session = sessions.start(environment, lab, lab.seeds[0], quiet).session
    try:
        api, name = practice.administrator(), next(iter(session.namespaces.values()))
        api.merge(f"/api/v1/namespaces/{name}/resourcequotas/breakfix", {"spec": {"hard": {"pods": "300"}}})
        pod = {"containers": [{"name": "x", "image": clusters.APP}], "nodeSelector": {"nowhere": "here"}}
        for number in range(200):
            manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"crowd-{number}"}, "spec": pod}
            api.create(f"/api/v1/namespaces/{name}/pods", manifest)
        seen = statistics.median(grade(environment, session, lab, quiet).engine_seconds for _ in range(3))
    finally:
        environment.stop((session.id,))
    return Figure("the same with 200 pods in the namespace", f"{seen:.2f} s", "", "under 1 s", seen < 1)


def side_by_side_figure(labs: list[Lab]) -> Figure:
    """Run eight sessions at once on one cluster, mend every other one, grade them all."""
    try:
        begun = time.monotonic()
        running = start_many(labs, 8, 8)
        took = time.monotonic() - begun
        good = sum(graded_rightly(labs, number, session) for number, session in running.items())
    finally:
        stop_all("kind")
    name = "eight sessions at once on one cluster, graded rightly"
    return Figure(name, f"{good} of 8", f"started in {took:.0f} s", "all", good == 8)


def repeat_figures() -> Iterator[Figure]:
    """Start, grade, mend and grade again each Linux lab twenty times: one that errs twice is not finished."""
    environments.load("docker").prepare(linux_labs()[0], quiet)
    turns = [(lab.id, lab.seeds[turn % len(lab.seeds)]) for turn in range(TIMES) for lab in linux_labs()]
    # Processes: pytest is not made for threads.
    with ProcessPoolExecutor(3) as pool:
        right = list(pool.map(rightly_both_ways, *zip(*turns, strict=True)))
    wrong = Counter(lab for (lab, _), good in zip(turns, right, strict=True) if not good)
    yield Figure(
        f"each Linux lab {TIMES} times, graded rightly both ways",
        f"{sum(right)} of {len(right)}",
        ", ".join(f"{lab} wrong {count} times" for lab, count in wrong.items()),
        "no lab wrong twice",
        all(count < 2 for count in wrong.values()),
    )


def rightly_both_ways(lab_id: str, seed: int) -> bool:
    """Return whether a session scores 0 untouched and everything after the first solution."""
    lab = next(one for one in linux_labs() if one.id == lab_id)
    environment = environments.load(lab.environment)
    session = sessions.start(environment, lab, seed, quiet).session
    try:
        before = grade(environment, session, lab, quiet)
        proving.perform(environment, session, lab, proving.attempts(lab, "solutions")[0])
        after = grade(environment, session, lab, quiet)
    finally:
        environment.stop((session.id,))
    good = before.gradable and before.earned == 0 and after.passed
    if not good:
        print(f"  {lab.id} seed {seed}: {before.earned}, then {after.earned} of {after.total}", file=sys.stderr)
    return good


def kubernetes_selftest_figures() -> Iterator[Figure]:
    """Prove every Kubernetes lab on every seed."""
    yield selftest_figure("Kubernetes", labs_of("kubernetes"), 35)


def iac_selftest_figures() -> Iterator[Figure]:
    """Prove every lab about code and rights on every seed."""
    yield selftest_figure("Terraform and permissions", [*labs_of("terraform"), *labs_of("iam")], 20)


def selftest_figures() -> Iterator[Figure]:
    """Prove every Linux lab on every seed."""
    yield selftest_figure("Linux", linux_labs(), 15)


def selftest_figure(track: str, labs: list[Lab], minutes: int) -> Figure:
    """Prove labs on all their seeds."""
    begun = time.monotonic()
    code = subprocess.run([*BREAKFIX, "selftest", *(lab.id for lab in labs)], check=False).returncode
    took = (time.monotonic() - begun) / 60
    return Figure(
        f"the {track} self-test, all seeds",
        f"{took:.1f} min",
        "all proven" if code == 0 else "NOT all proven",
        f"under {minutes} min",
        code == 0 and took < minutes,
    )


FIGURES = {
    "commands": command_figures,
    "start": start_figures,
    "grade": grade_figures,
    "many": many_figures,
    "cluster": cluster_figures,
    "own-cluster": own_cluster_figures,
    "iac": iac_figures,
    "repeats": repeat_figures,
    "selftest": selftest_figures,
    "selftest-kubernetes": kubernetes_selftest_figures,
    "selftest-iac": iac_selftest_figures,
}


def main() -> int:
    """Measure what was asked for, or everything but what takes long."""
    wanted = sys.argv[1:] or [name for name in FIGURES if not name.startswith(LONG)]
    if unknown := set(wanted) - FIGURES.keys():
        print(f"no figure is called {', '.join(unknown)}; there are {', '.join(FIGURES)}", file=sys.stderr)
        return 2
    if shutil.which("docker") is None:
        print("the bench needs Docker's own command: it is what we are held against", file=sys.stderr)
        return 3
    os.environ["BREAKFIX_OWNER"] = f"bench-{os.getpid()}"
    os.environ["BREAKFIX_DATA"] = tempfile.mkdtemp(prefix="breakfix-bench-")
    for name in wanted:
        for figure in FIGURES[name]():
            word = "reached" if figure.reached else "MISSED"
            print(f"{figure.name:52} {figure.seen:>10}  {figure.beside:44} {figure.target:16} {word}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
