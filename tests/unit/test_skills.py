"""The skills of the role, and what grades prove about them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from breakfix.model import Check, Grade, Look, Outcome, Result
from breakfix.skills import SKILLS, Proof, SkillRecord, group, shown_in

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def grade(lab: str, *answers: tuple[str, Outcome]) -> Grade:
    results = tuple(
        Result(Check(f"test_{number}", "A check", 1, skill), outcome, Look.FIRST, "", "", AT, 0.1)
        for number, (skill, outcome) in enumerate(answers)
    )
    return Grade(lab, "A lab", 1, "s1", results, AT, 1.0, 0.5)


def test_every_id_is_a_group_and_a_name() -> None:
    assert all(re.fullmatch(r"[a-z0-9]+\.[a-z-]+", skill) for skill in SKILLS)


def test_every_skill_is_described_in_a_sentence() -> None:
    assert all(re.fullmatch(r"[A-Z].*[a-z.A-Z]\.", sentence) for sentence in SKILLS.values())
    assert len(set(SKILLS.values())) == len(SKILLS)


def test_rows_that_name_several_skills_are_split() -> None:
    assert {"code.shell", "code.python", "code.go"} < set(SKILLS)
    assert {"obs.logs", "obs.metrics", "obs.tracing", "obs.dashboards"} < set(SKILLS)
    assert len(SKILLS) == 33


def test_skills_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        SKILLS["linux.magic"] = "Waves hands."  # type: ignore[index]


@pytest.mark.parametrize(("skill", "expected"), [("slo.error-budget", "slo"), ("linux.processes", "linux"), ("x", "x")])
def test_group_is_the_part_before_the_dot(skill: str, expected: str) -> None:
    assert group(skill) == expected


@pytest.mark.parametrize(
    ("passed", "failed", "proof"),
    [(0, 0, Proof.NONE), (2, 0, Proof.SHOWN), (0, 1, Proof.MISSED), (3, 1, Proof.PARTLY)],
)
def test_proof_follows_from_the_counts(passed: int, failed: int, proof: Proof) -> None:
    assert SkillRecord(passed, failed).proof is proof


def test_counts_are_kept_by_skill_and_lab() -> None:
    first = grade("linux/a", ("linux.services", Outcome.PASSED), ("linux.services", Outcome.FAILED))
    second = grade("linux/b", ("linux.services", Outcome.PASSED), ("linux.processes", Outcome.FAILED))
    assert shown_in([first, second]) == {
        "linux.services": SkillRecord(2, 1, ("linux/a", "linux/b")),
        "linux.processes": SkillRecord(0, 1, ("linux/b",)),
    }


@pytest.mark.parametrize("outcome", [Outcome.SKIPPED, Outcome.ERROR])
def test_what_was_not_asked_or_not_seen_says_nothing(outcome: Outcome) -> None:
    assert shown_in([grade("linux/a", ("linux.services", outcome))]) == {}
