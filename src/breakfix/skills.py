"""The skills of the role: what a lab lets a person show, and what a grade is proof of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from breakfix.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from breakfix.model import Grade, Result

SKILLS: Mapping[str, str] = MappingProxyType(
    {
        "linux.processes": "Finds, judges and ends the right process: limits, signals, zombies, open files.",
        "linux.services": "Makes systemd units start, restart, order, log and survive a reboot.",
        "linux.networking": "Says where a connection stops and mends it: sockets, routes, DNS, firewall, TLS, packets.",
        "linux.filesystems": "Gets storage back: space, inodes, mounts, deleted-but-open files, damage, growth.",
        "linux.permissions": "Gives enough rights and no more: owners, modes, ACLs, sudo, capabilities.",
        "code.shell": "Automates in shell: parses, loops, retries, can run twice, fails loudly.",
        "code.python": "Automates in Python: parses, loops, retries, can run twice, fails loudly.",
        "code.go": "Automates in Go: parses, loops, retries, can run twice, fails loudly.",
        "k8s.debugging": "Explains a failing pod: image, command, probe, config, init, volume, admission.",
        "k8s.resources": "Sizes workloads: requests, limits, OOM, quota, eviction, autoscaling, disruption budgets.",
        "k8s.networking": "Connects workloads: services, DNS, ingress, network policy, mesh.",
        "k8s.operations": "Runs clusters: nodes, drains, upgrades, certificates, etcd restores, lost control planes.",
        "iac.modules": "Writes a Terraform module from scratch: inputs, validation, outputs, composition, tests.",
        "iac.state": "Changes state and destroys nothing: remote state, locks, import, moved, drift, state surgery.",
        "iac.workspaces": "Runs many environments from one code base, none leaking into another.",
        "slo.design": "Chooses SLIs that mean something, and targets that connect to decisions.",
        "slo.error-budget": "Spends an error budget: burn rate, policy, what to stop when it is gone.",
        "alerts.signal-noise": "Makes alerts fire when they should and stay silent when they shouldn't.",
        "obs.logs": "Makes logs say what is wrong with a system.",
        "obs.metrics": "Makes metrics say what is wrong with a system.",
        "obs.tracing": "Makes traces say what is wrong with a system.",
        "obs.dashboards": "Makes dashboards say what is wrong with a system.",
        "incident.triage": "Diagnoses in good order under time pressure: stabilises first, then finds out.",
        "incident.communication": "Tells the right people impact, status and when they will hear again.",
        "incident.postmortem": "Writes without blame: a true timeline, causes and not culprits, actions with owners.",
        "sec.iam": "Grants least privilege that still works: policies, roles, RBAC.",
        "sec.secrets": "Rotates, stores and scopes secrets, and proves that the old one is dead.",
        "sec.segmentation": "Decides who may talk to whom, and nobody else.",
        "sec.audit": "Finds who did what in the logs, and switches on what was missing.",
        "cicd.pipelines": "Makes a pipeline build what it tests, deploy what it built, and roll back.",
        "cicd.environments": "Configures each environment, promotes between them, and lets nothing drift.",
        "capacity.planning": "Reads a trend, finds the first limit, and plans before it.",
        "design.failure-modes": "Limits what a lost dependency breaks: blast radius, timeouts, backpressure, fallback.",
    }
)
"""Every skill by its id, and what a person who has it shows."""


class Proof(StrEnum):
    """What the grades say about one skill of one person."""

    SHOWN = "shown"
    PARTLY = "shown in part"
    MISSED = "tried and missed"
    NONE = "no proof yet"


@dataclass(frozen=True, slots=True)
class SkillRecord:
    """How many checks that speak for a skill passed and failed, and in which labs."""

    passed: int = 0
    failed: int = 0
    labs: tuple[str, ...] = ()

    @property
    def asked(self) -> int:
        """Checks that gave an answer."""
        return self.passed + self.failed

    @property
    def proof(self) -> Proof:
        """What the numbers come to."""
        if not self.asked:
            return Proof.NONE
        if not self.failed:
            return Proof.SHOWN
        return Proof.PARTLY if self.passed else Proof.MISSED

    def tried_in(self, lab: str) -> SkillRecord:
        """Return the record with one more lab in which this skill was asked for, answered or not."""
        return self if lab in self.labs else replace(self, labs=(*self.labs, lab))


def group(skill: str) -> str:
    """Return the field that a skill belongs to.

    >>> group("linux.filesystems")
    'linux'
    """
    return skill.partition(".")[0]


def shown_in(grades: Iterable[Grade]) -> dict[str, SkillRecord]:
    """Count what these grades prove, skill by skill.

    A skipped check was not asked and an error is ours, so neither says anything about a person.
    """
    records: dict[str, SkillRecord] = {}
    for grade in grades:
        for result in grade.results:
            if result.outcome in (Outcome.PASSED, Outcome.FAILED):
                known = records.get(result.check.skill, SkillRecord())
                records[result.check.skill] = _with(known, result, grade.lab)
    return records


def _with(record: SkillRecord, result: Result, lab: str) -> SkillRecord:
    passed = result.outcome is Outcome.PASSED
    counted = replace(record, passed=record.passed + passed, failed=record.failed + (not passed))
    return counted.tried_in(lab)
