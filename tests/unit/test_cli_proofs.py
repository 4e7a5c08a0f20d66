"""What of the self-test is run, and what is printed of it: tables, JUnit, the page of proven labs."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from breakfix import catalog
from breakfix.cli import proofs, status
from breakfix.errors import UsageError
from breakfix.proving import Finding, Proof, Verdict

if TYPE_CHECKING:
    from breakfix.model import Lab
    from tests.unit.conftest import MakeLab

PROJECT = Path(__file__).parents[2]
GOOD = tuple(Finding(proof, proof.value, ok=True, detail="as it must") for proof in Proof)
HOSTILE = "first \x1b[31mred\x00 <b> & ]]>\nsecond \ud800 \ufffe"
BAD = (*GOOD[:-1], Finding(Proof.CLEAN, "stop", ok=False, detail=HOSTILE))


@pytest.fixture
def labs(make_lab: MakeLab) -> tuple[Lab, ...]:
    return tuple(replace(make_lab(), id=name) for name in ("linux/b", "linux/a", "linux/c"))


@pytest.mark.parametrize("of", [1, 2, 3, 4, 9])
def test_the_shards_together_are_the_whole(labs: tuple[Lab, ...], of: int) -> None:
    work = [(lab, seed) for lab in labs for seed in (1, 2)]
    shards = [proofs.share(work, f"{number}/{of}") for number in range(1, of + 1)]
    flat = [one for shard in shards for one in shard]
    assert sorted(flat, key=str) == sorted(work, key=str)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_without_a_shard_everything_is_run(labs: tuple[Lab, ...]) -> None:
    assert proofs.share([(labs[0], 1)], None) == [(labs[0], 1)]


@pytest.mark.parametrize("shard", ["", "1", "0/2", "3/2", "1/0", "a/b", "1/2/3", "-1/2"])
def test_what_is_no_shard_is_refused(shard: str) -> None:
    with pytest.raises(UsageError, match="shard"):
        proofs.share([], shard)


def test_no_work_is_done_at_once() -> None:
    assert proofs.run([], 4, ()) == ()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labs: tuple[Lab, ...]) -> Path:
    monkeypatch.setattr(catalog, "bundle", lambda: tmp_path)
    for name in ("labs/linux/a/lab.toml", "graders/linux/b/test_b.py", "src/x.py", "docs/x.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    return tmp_path


def test_what_proofs_do_is_told_while_they_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    reader, writer = Pipe(duplex=False)
    monkeypatch.setattr(proofs, "_writer", writer)
    with proofs._passed_on(told.append, reader, writer):
        proofs._tell_of("linux/toy seed 1", "reset: ok")
        proofs._tell_of("linux/toy seed 2", "solutions one: " + "x" * 5000)
    assert told[0] == "linux/toy seed 1: reset: ok"
    assert told[1].startswith("linux/toy seed 2: solutions one: xxx")
    assert len(told[1]) == proofs.TOLD


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ([], []),
        (["docs/x.md"], []),
        (["labs/linux/a/lab.toml"], ["linux/a"]),
        (["graders/linux/b/test_b.py"], ["linux/b"]),
        (["src/x.py"], ["linux/b", "linux/a", "linux/c"]),
    ],
)
def test_what_changed_is_proven_again(
    repository: Path, labs: tuple[Lab, ...], changed: list[str], expected: list[str]
) -> None:
    for name in changed:
        (repository / name).write_text("changed", encoding="utf-8")
    assert [lab.id for lab in proofs.changed(labs, "HEAD")] == expected


def test_a_revision_that_git_does_not_know_is_told(repository: Path, labs: tuple[Lab, ...]) -> None:
    with pytest.raises(UsageError, match="git knows no changes since 'nonesuch'") as caught:
        proofs.changed(labs, "nonesuch")
    assert "nonesuch" in caught.value.why


def test_the_junit_report_is_xml_whatever_a_host_printed() -> None:
    text = proofs.junit([Verdict("linux/a", 1, GOOD, 2.5), Verdict("linux/b", 2, BAD, 1.0)])
    top = ET.fromstring(text.encode())  # noqa: S314  # we wrote it
    suites = [(one.get("name"), one.get("tests"), one.get("failures"), one.get("time")) for one in top]
    assert suites == [("linux/a seed 1", "5", "0", "2.500"), ("linux/b seed 2", "5", "1", "1.000")]
    (failure,) = top.iter("failure")
    assert "second" in (failure.text or "")
    assert "second" not in (failure.get("message") or "")


def test_the_page_of_proven_labs_says_which_hold(labs: tuple[Lab, ...]) -> None:
    verdicts = [Verdict("linux/a", seed, GOOD, 1.0) for seed in (1, 2)] + [Verdict("linux/b", 1, BAD, 1.0)]
    page = status.page(labs, verdicts, "")
    assert {lab: seeds for lab, (_, seeds) in status.proven(page).items()} == {
        "linux/a": {1, 2},
        "linux/b": set(),
        "linux/c": set(),
    }
    assert page == status.page(labs[::-1], [replace(one, seconds=99.0) for one in verdicts], "")


def test_the_page_keeps_what_was_proven_until_the_lab_changes(labs: tuple[Lab, ...], tmp_path: Path) -> None:
    first = status.page(labs, [Verdict("linux/a", 1, GOOD, 1.0), Verdict("linux/b", 1, GOOD, 1.0)], "")
    (tmp_path / "new").mkdir()
    (tmp_path / "new/brief.md.j2").write_text("another story\n")
    changed = tuple(replace(lab, folder=tmp_path / "new") if lab.id == "linux/b" else lab for lab in labs)
    second = status.page(changed, [Verdict("linux/a", 2, GOOD, 1.0), Verdict("linux/b", 2, GOOD, 1.0)], first)
    found = {lab: seeds for lab, (_, seeds) in status.proven(second).items()}
    assert found["linux/a"] == {1, 2}
    assert found["linux/b"] == {2}


def test_a_proof_that_no_longer_holds_is_taken_off_the_page(labs: tuple[Lab, ...]) -> None:
    first = status.page(labs, [Verdict("linux/a", 1, GOOD, 1.0)], "")
    assert status.proven(status.page(labs, [Verdict("linux/a", 1, BAD, 1.0)], first))["linux/a"][1] == set()


def test_the_page_speaks_of_every_lab_of_ours_as_it_stands() -> None:
    written = status.proven((PROJECT / "docs/lab-status.md").read_text(encoding="utf-8"))
    ours = catalog.load((catalog.Root(PROJECT / "labs", PROJECT / "graders"),)).labs
    assert ours
    assert {lab: files for lab, (files, _) in written.items()} == {lab.id: status.digest(lab) for lab in ours.values()}
    # Every lab is proven on every seed with the files that are here, or it does not land.
    assert {lab: seeds for lab, (_, seeds) in written.items()} == {lab.id: set(lab.seeds) for lab in ours.values()}


def test_the_table_counts_what_came_out_as_it_must(capsys: pytest.CaptureFixture[str]) -> None:
    two = (*BAD, Finding(Proof.CHEATS, "another", ok=False, detail=""))
    proofs.print_table([Verdict("linux/a", 1, GOOD, 9.6, 0.5), Verdict("linux/b", 2, two, 1.0)])
    heads, first, second = capsys.readouterr().out.splitlines()
    assert heads.split()[:5] == ["LAB", "SEED", "UNTOUCHED", "SOLUTIONS", "CHEATS"]
    assert first.split() == ["linux/a", "1", "ok", "ok", "ok", "ok", "ok", "0.50", "10"]
    assert second.split() == ["linux/b", "2", "ok", "ok", "1/2", "ok", "0/1", "0.00", "1"]


def test_a_verdict_for_scripts_says_everything() -> None:
    document = proofs.to_json(Verdict("linux/b", 2, BAD, 1.234, 0.5678))
    assert isinstance(document, dict)
    assert (document["proven"], document["seconds"], document["start_seconds"]) == (False, 1.23, 0.568)
    assert document["findings"][-1] == {"proof": "clean", "subject": "stop", "ok": False, "detail": HOSTILE}
