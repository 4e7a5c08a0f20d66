"""Runs the self-test over many labs, and prints what came of it."""

from __future__ import annotations

import subprocess
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Final

from breakfix.cli import interrupts
from breakfix.cli.output import print_table as table
from breakfix.cli.progress import progress
from breakfix.errors import UsageError
from breakfix.proving import Proof

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    from breakfix.model import JsonValue, Lab
    from breakfix.proving import Verdict

    Work = list[tuple[Lab, int]]


def changed(labs: Sequence[Lab], revision: str) -> tuple[Lab, ...]:
    """Return the labs whose files, or whose engine, changed since a revision of the repository around them."""
    from breakfix.catalog import bundle  # noqa: PLC0415

    command = ["git", "-C", str(bundle()), "diff", "--name-only", "--relative", revision, "--"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise UsageError(f"git knows no changes since {revision!r}", why=done.stderr.strip())
    files = done.stdout.splitlines()
    if any(name.startswith(("src/", "docker/")) for name in files):
        return tuple(labs)
    return tuple(lab for lab in labs if any(f"/{lab.id}/" in f"/{name}" for name in files))


def share(work: Work, shard: str | None) -> Work:
    """Return the part of the work that ``K/N`` stands for: every N-th piece from the K-th on."""
    if shard is None:
        return work
    try:
        number, of = (int(part) for part in shard.split("/"))
    except ValueError as error:
        raise UsageError(f"{shard!r} is no shard", next_step="Give K/N, as in --shard 1/4") from error
    if not 1 <= number <= of:
        raise UsageError(f"there is no shard {shard}", next_step=f"K is 1 to {of}.")
    return work[number - 1 :: of]


def run(work: Work, jobs: int, roots: tuple[Path, ...]) -> tuple[Verdict, ...]:
    """Prove everything, ``jobs`` at a time, each in a process of its own: pytest is not made for threads."""
    from multiprocessing import active_children, get_context  # noqa: PLC0415

    if not work:
        return ()
    _prepare(work)
    verdicts: list[Verdict] = []
    context = get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    with (
        progress("selftest") as tell,
        _passed_on(tell, reader, writer),
        ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(writer,)) as pool,
    ):
        tell(f"{len(work)} proofs, {jobs} at a time")
        futures = [pool.submit(_prove, lab.id, seed, roots) for lab, seed in work]
        try:
            for future in as_completed(futures):
                verdicts.append(future.result())
                tell(f"{len(verdicts)} of {len(work)}: {_line(verdicts[-1])}")
        except BaseException:
            # Whoever ends us may have told nobody else; a proof that is cut short cleans up behind itself.
            for child in active_children():
                child.terminate()
            pool.shutdown(cancel_futures=True)
            raise
    order = [(lab.id, seed) for lab, seed in work]
    return tuple(sorted(verdicts, key=lambda one: order.index((one.lab, one.seed))))


@contextmanager
def _passed_on(tell: Callable[[str], None], reader: Connection, writer: Connection) -> Iterator[None]:
    """Tell what the processes write into the pipe, until the last of them has ended."""

    def listen() -> None:
        with suppress(EOFError):
            while True:
                tell(reader.recv_bytes().decode(errors="replace"))

    listener = Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        writer.close()
        listener.join()


def _begin(writer: Connection) -> None:
    """Make ready a process that proves: what ends it, and where it tells what it did."""
    global _writer  # noqa: PLW0603  # one to a process, and only here is it known
    _writer = writer
    interrupts.listen()


def _tell_of(proof: str, step: str) -> None:
    # No more than a pipe takes at once: many write into this one, and none waits for another that has died.
    if _writer:
        _writer.send_bytes(f"{proof}: {step}".encode()[:TOLD])


_writer: Connection | None = None
TOLD: Final = 2000
"""Bytes of one step that are told; the whole of what went wrong stands in the verdict."""


def _prepare(work: Work) -> None:
    """Build images once, before many processes would each want to."""
    from breakfix.cli.settings import environment_of  # noqa: PLC0415

    with progress("selftest") as tell:
        for lab in {lab.id: lab for lab, _ in work}.values():
            environment_of(lab).prepare(lab, tell)


def _prove(lab_id: str, seed: int, roots: tuple[Path, ...]) -> Verdict:
    from breakfix import catalog, environments, proving  # noqa: PLC0415  # in another process

    if interrupts.heard:
        # The pool hands a process its next proof before the last one has ended.
        raise KeyboardInterrupt
    lab = catalog.load(catalog.roots(roots)).find(lab_id)
    tell = partial(_tell_of, f"{lab_id} seed {seed}")
    return proving.prove(environments.load(lab.environment), lab, seed, tell)


def _line(verdict: Verdict) -> str:
    word = "proven" if verdict.proven else "NOT PROVEN"
    # Told at once: the rest may take half an hour.
    wrong = "".join(f"; {one.proof} {one.subject}: {one.detail}" for one in verdict.findings if not one.ok)
    return f"{verdict.lab} seed {verdict.seed} {word} in {verdict.seconds:.0f} s{wrong}"


def print_table(verdicts: Sequence[Verdict]) -> None:
    """Print a row for each lab and seed: how many of each proof came out as they must."""
    rows = [
        (
            one.lab,
            str(one.seed),
            *(_count(one, proof) for proof in Proof),
            f"{one.start_seconds:.2f}",
            f"{one.seconds:.0f}",
        )
        for one in verdicts
    ]
    table(("LAB", "SEED", *(proof.value.upper() for proof in Proof), "START s", "ALL s"), rows)


def _count(verdict: Verdict, proof: Proof) -> str:
    findings = verdict.of(proof)
    good = sum(finding.ok for finding in findings)
    return "ok" if good == len(findings) == 1 else f"{good}/{len(findings)}"


def junit(verdicts: Sequence[Verdict]) -> str:
    """Return a JUnit report: a suite for each lab and seed, a case for each thing tried."""
    from xml.etree import ElementTree as ET  # noqa: PLC0415  # it is only written

    from breakfix.reports.evidence import clean  # noqa: PLC0415

    top = ET.Element("testsuites", name="breakfix selftest")
    for verdict in verdicts:
        suite = ET.SubElement(
            top,
            "testsuite",
            name=f"{verdict.lab} seed {verdict.seed}",
            tests=str(len(verdict.findings)),
            failures=str(sum(not finding.ok for finding in verdict.findings)),
            time=f"{verdict.seconds:.3f}",
        )
        for finding in verdict.findings:
            case = ET.SubElement(suite, "testcase", classname=str(finding.proof), name=finding.subject)
            if not finding.ok:
                # A host may have printed anything, and XML takes no control characters.
                detail = clean(finding.detail)
                ET.SubElement(case, "failure", message=detail.partition("\n")[0]).text = detail
    ET.indent(top)
    return ET.tostring(top, encoding="unicode", xml_declaration=True) + "\n"


def to_json(verdict: Verdict) -> JsonValue:
    """Return a verdict for scripts."""
    findings: list[JsonValue] = [
        {"proof": one.proof.value, "subject": one.subject, "ok": one.ok, "detail": one.detail}
        for one in verdict.findings
    ]
    return {
        "lab": verdict.lab,
        "seed": verdict.seed,
        "proven": verdict.proven,
        "seconds": round(verdict.seconds, 2),
        "start_seconds": round(verdict.start_seconds, 3),
        "findings": findings,
    }
