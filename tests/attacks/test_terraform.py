"""What a candidate's configuration tries against the grader that plans and applies it."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from breakfix.grading.probes import Probes
from breakfix.probes import terraform as probe
from breakfix.probes.folder import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from breakfix.model import Session
    from breakfix.probes.terraform import TerraformProbe
    from tests.stage import Stage

pytestmark = pytest.mark.engine

FOLDER = "/root/code"


@pytest.fixture(scope="module")
def seat(whole: Stage) -> Iterator[Session]:
    session = whole.start("desk")
    yield session
    whole.environment.stop((session.id,))


@pytest.fixture
def terraform(whole: Stage, seat: Session) -> Iterator[TerraformProbe]:
    whole.do(seat, f"rm -rf {FOLDER} && mkdir {FOLDER}", "workstation")
    with Probes(whole.environment, seat) as probes:
        yield probes.terraform


def write(stage: Stage, session: Session, **files: str) -> None:
    for name, text in files.items():
        stage.do(session, f"cat >{FOLDER}/{name}.tf <<'END-OF-CODE'\n{text}\nEND-OF-CODE", "workstation")


ONE = 'resource "terraform_data" "one" { input = "a" }\noutput "one" { value = terraform_data.one.output }'


def runs(command: str) -> str:
    """Return a resource that runs a command when it is applied."""
    script = f"command = <<-EOT\n{command}\nEOT"
    return f'resource "terraform_data" "runs" {{\n  provisioner "local-exec" {{\n{script}\n  }}\n}}'


def test_an_honest_configuration_is_planned_applied_and_taken_away(
    whole: Stage, seat: Session, terraform: TerraformProbe
) -> None:
    write(whole, seat, main=ONE)
    code = terraform.configuration(FOLDER)
    assert code.plan().changes == {"terraform_data.one": ("create",)}
    state = code.apply()
    assert (state.outputs, list(state.resources)) == ({"one": "a"}, ["terraform_data.one"])
    assert code.plan(state=state).is_empty
    assert code.destroy(state=state).resources == {}


def test_what_does_not_plan_is_a_verdict_with_tofus_own_words(
    whole: Stage, seat: Session, terraform: TerraformProbe
) -> None:
    write(whole, seat, main='resource "terraform_data" "one" { input = var.nothing }')
    code = terraform.configuration(FOLDER)
    assert "undeclared input variable" in code.validate()[0]
    with pytest.raises(AssertionError, match="undeclared input variable"):
        code.plan()
    with pytest.raises(AssertionError, match="there is no /root/elsewhere"):
        terraform.configuration("/root/elsewhere")


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("ln -s /etc/shadow {0}/x.tf", "is a link"),
        ("ln -s / {0}/root", "is a link"),
        ("ln /etc/hostname {0}/hard.tf 2>/dev/null || ln {0}/main.tf {0}/hard.tf", "is a link"),
        ("mkfifo {0}/x.tf", "special file"),
        ("echo >{0}/a_override.tf", "overrides"),
        ("head -c 3000000 /dev/zero >{0}/big.tf", "MiB together"),
        ("head -c 52428800 /dev/zero >{0}/terraform.tfstate", "a state here"),
        ("head -c 70000000 /dev/zero >{0}/huge", "more than 64 MiB"),
        ("cd {0} && seq -f f%g 600 | xargs touch", "more than 500 files"),
        ("mv {0} {0}.real && ln -s {0}.real {0}", "is a link"),
    ],
)
def test_a_folder_that_is_no_module_is_refused_with_a_clear_word(
    whole: Stage, seat: Session, terraform: TerraformProbe, how: str, why: str
) -> None:
    write(whole, seat, main=ONE)
    whole.do(seat, how.format(FOLDER), "workstation")
    with pytest.raises(AssertionError, match=why):
        terraform.configuration(FOLDER)
    whole.do(seat, f"rm -rf {FOLDER}.real {FOLDER}", "workstation")


TOLD = """{ id -u
ip -o addr show 2>/dev/null | grep -v ' lo ' | wc -l
env | grep -c -i -E 'aws|token|breakfix|docker'
grep CapEff /proc/self/status
ls /toolbox /var/run/docker.sock 2>/dev/null | wc -l
touch /work/x /work/1/code/x /etc/x /usr/local/x 2>/dev/null && echo written
curl -s -m 2 http://cloud && echo reached
} >/tmp/told; true"""
READ = """
data "local_file" "told" {
  depends_on = [terraform_data.runs]
  filename   = "/tmp/told"
}
output "told" { value = data.local_file.told.content }
"""


def test_programs_have_no_network_no_credentials_and_no_rights(
    whole: Stage, seat: Session, terraform: TerraformProbe
) -> None:
    write(whole, seat, main=runs(TOLD), more=READ)
    state = terraform.configuration(FOLDER).apply()
    assert state.outputs["told"].split("\n") == ["65534", "0", "0", "CapEff:\t0000000000000000", "0", ""]


def test_what_runs_at_plan_finds_no_provider_for_it(whole: Stage, seat: Session, terraform: TerraformProbe) -> None:
    write(whole, seat, main='data "external" "x" { program = ["sh", "-c", "echo {}"] }')
    with pytest.raises(AssertionError, match=r"init: .*external"):
        terraform.configuration(FOLDER).plan()


def test_an_endless_program_is_ended_and_is_its_authors_failure(
    whole: Stage, seat: Session, terraform: TerraformProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "BEFORE", probe.BEFORE.replace(f"--kill-after=2 {probe.LONGEST}", "--kill-after=2 6"))
    write(whole, seat, main=runs("trap '' TERM; while :; do sleep 1; done"))
    begun = time.monotonic()
    with pytest.raises(AssertionError, match="was not over"):
        terraform.configuration(FOLDER).apply()
    assert time.monotonic() - begun < probe.LONGEST


def test_what_a_program_leaves_running_is_gone_before_the_next_plan(
    whole: Stage, seat: Session, terraform: TerraformProbe
) -> None:
    forging = "while :; do echo x >/work/1/own/plan; echo x >/work/1/code/main.tf; sleep 0.01; done"
    forger = f"setsid sh -c '{forging}' >/dev/null 2>&1 &"
    write(whole, seat, main=ONE, runs=runs(forger))
    code = terraform.configuration(FOLDER)
    state = code.apply()
    assert sorted(state.resources) == ["terraform_data.one", "terraform_data.runs"]
    # Had the forger lived, code or plan would be another.
    assert sorted(code.plan().changes) == ["terraform_data.one", "terraform_data.runs"]


def test_a_storm_of_processes_stays_within_its_limit(whole: Stage, seat: Session, terraform: TerraformProbe) -> None:
    write(whole, seat, main=runs("f() { f | f & }; f; sleep 2; true"))
    code = terraform.configuration(FOLDER)
    # It may fail; it must not take the grader along.
    with suppress(AssertionError):
        code.apply()
    assert code.plan().changes == {"terraform_data.runs": ("create",)}


LOCAL = "registry.opentofu.org/hashicorp/local"
DOCTORED = {
    "a provider in .terraform": f"mkdir -p {FOLDER}/.terraform/providers; echo x >{FOLDER}/.terraform/providers/x",
    "a provider beside the code": (
        f"cd {FOLDER}; p=terraform.d/plugins/{LOCAL}/9.9.9/linux_amd64; mkdir -p $p; "
        "printf '#!/bin/sh\\nexit 0\\n' >$p/terraform-provider-local; chmod +x $p/*"
    ),
    "a .terraformrc": (
        'echo \'provider_installation { dev_overrides { "hashicorp/local" = "/root/evil" } }\' '
        f"| tee {FOLDER}/.terraformrc >/root/.terraformrc"
    ),
    "a lock file": f'printf \'provider "{LOCAL}" {{\\n version = "9.9.9"\\n}}\\n\' >{FOLDER}/.terraform.lock.hcl',
    "TF_CLI_ARGS": "echo 'export TF_CLI_ARGS=-destroy' >>/root/.bashrc; echo TF_CLI_ARGS=-destroy >>/etc/environment",
    "another tofu": "printf '#!/bin/sh\\nexit 0\\n' >/usr/local/bin/tofu",
}


@pytest.mark.parametrize("prepare", DOCTORED.values(), ids=DOCTORED)
def test_nothing_on_the_workstation_decides_which_providers_or_options_are_used(
    whole: Stage, seat: Session, terraform: TerraformProbe, prepare: str
) -> None:
    write(whole, seat, main='resource "local_file" "x" {\n  filename = "/tmp/x"\n  content  = "hello"\n}')
    whole.do(seat, prepare, "workstation")
    state = terraform.configuration(FOLDER).apply()
    assert state.resources["local_file.x"]["content_md5"] == "5d41402abc4b2a76b9719d911017c592"


ELSEWHERE = """
terraform {
  backend "http" { address = "http://198.51.100.1/state" }
  required_providers {
    cloud = { source = "breakfix/cloud" }
  }
}
provider "cloud" {
  endpoint   = "http://198.51.100.1"
  access_key = "x"
  secret_key = "y"
}
"""


def test_a_backend_and_a_provider_that_point_elsewhere_lead_nowhere(
    whole: Stage, seat: Session, terraform: TerraformProbe
) -> None:
    write(whole, seat, main=ELSEWHERE + ONE)
    assert terraform.configuration(FOLDER).plan().changes == {"terraform_data.one": ("create",)}


def test_the_candidates_tests_are_not_run_with_the_graders(
    whole: Stage, seat: Session, terraform: TerraformProbe
) -> None:
    write(whole, seat, main=ONE)
    whole.do(seat, f"echo 'run \"forged\" {{}}' >{FOLDER}/forged.tftest.hcl", "workstation")
    ours = 'run "ours" {\n  assert {\n    condition     = output.one == "b"\n    error_message = "it is not b"\n  }\n}'
    results = terraform.configuration(FOLDER).test(ours=ours)
    assert list(results) == ["ours"]
    assert results["ours"].startswith("fail: ")
    assert "it is not b" in results["ours"]
    assert terraform.with_own_tests(FOLDER).test() == {"forged": "pass"}


def test_no_sandbox_outlives_its_look(whole: Stage, seat: Session) -> None:
    with Probes(whole.environment, seat) as probes:
        write(whole, seat, main=ONE)
        probes.terraform.configuration(FOLDER)
        assert any("sandbox" in one for one in roles(whole, seat))
    assert not any("sandbox" in one for one in roles(whole, seat))


def roles(stage: Stage, session: Session) -> list[str]:
    from breakfix.engine.client import connect
    from breakfix.engine.labels import ROLE, SESSION

    found = connect().containers(all=True, filters={"label": f"{SESSION}={session.id}"})
    return [str(one["Labels"].get(ROLE)) for one in found]


def test_a_refusal_is_no_trouble_of_ours() -> None:
    assert issubclass(Refused, AssertionError)
