"""The fixture ``terraform``: what it reads out of plans, states and test runs that OpenTofu really printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from breakfix.model import Completed
from breakfix.probes.terraform import Configuration, Plan, State, TerraformProbe, _runs

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> str:
    return (RECORDED / name).read_text(encoding="utf-8")


NEW = Plan(json.loads(recorded("plan_of_everything_new.json")))
CHANGED = Plan(json.loads(recorded("plan_with_a_move_a_replacement_and_an_update.json")))
STATE = State.read(recorded("state.json").encode())
PASS_AND_FAIL = recorded("tests_that_pass_and_fail.jsonl")
DEEP = "module.inner[0].terraform_data.deep"


def test_a_plan_says_what_would_be_done_to_each_resource_of_every_module() -> None:
    every = ('terraform_data.each["a"]', 'terraform_data.each["b"]', "terraform_data.one", DEEP)
    assert dict.fromkeys(every, ("create",)) == NEW.changes
    assert NEW.resources["terraform_data.one"]["input"] == "x"
    assert NEW.resources[DEEP]["input"] == 7
    assert (NEW.destroyed, NEW.moved, NEW.is_empty) == ([], {}, False)


def test_a_move_is_no_change_and_a_replacement_destroys() -> None:
    assert CHANGED.moved == {"terraform_data.kept": 'terraform_data.each["a"]'}
    assert CHANGED.destroyed == [DEEP]
    assert CHANGED.changes["terraform_data.one"] == ("update",)
    assert "terraform_data.kept" not in CHANGED.changes


def test_a_plan_in_which_only_an_output_changes_is_not_empty() -> None:
    assert Plan({}).is_empty
    assert not Plan({"output_changes": {"one": {"actions": ["update"]}}}).is_empty
    assert Plan({"output_changes": {"one": {"actions": ["no-op"]}}}).is_empty


def test_a_state_says_what_is_there_by_the_same_addresses() -> None:
    assert set(STATE.resources) == set(NEW.changes)
    assert STATE.resources[DEEP]["input"]["value"] == 7
    assert STATE.outputs == {"one": "x"}
    assert State.read(STATE.content).resources == STATE.resources


@pytest.mark.parametrize("content", [b"", b"no json", b"[]", b'{"version": 3}'])
def test_a_state_that_is_none_is_the_candidates_failure(content: bytes) -> None:
    with pytest.raises(AssertionError):
        State.read(content)


def test_runs_go_by_name_and_a_failed_one_says_why() -> None:
    runs = _runs(PASS_AND_FAIL)
    assert runs == {
        "right": "pass", "wrong": "fail: t.tftest.hcl:6: Test assertion failed: it is not z", "after": "pass"
    }  # fmt: skip


def test_runs_of_one_name_in_two_files_are_two() -> None:
    lines = [
        json.dumps({"type": "test_run", "@testfile": file, "@testrun": "it", "test_run": {"status": status}})
        for file, status in (("a", "fail"), ("b", "pass"))
    ]
    assert _runs("\n".join(lines)) == {"a it": "fail: ", "b it": "pass"}


def test_no_run_is_no_pass() -> None:
    with pytest.raises(AssertionError, match="no test ran"):
        _runs('{"type": "version"}\nnot json')


class Sandbox:
    """Notes what is run; answers tofu with a status and an output."""

    def __init__(self, status: int = 0, out: str = "") -> None:
        self.integrity: list[str] = []
        self.status, self.out = status, out
        self.commands: list[str] = []

    def run(self, command: str, timeout: float = 10.0) -> Completed:
        self.commands.append(command)
        by_tofu = "setpriv" in command and "init" not in command
        status, out = (self.status, self.out) if by_tofu else (0, "")
        return Completed(command, status, out.encode(), b"", timeout)

    def open(self) -> None: ...

    def close(self) -> None: ...


def test_every_tofu_command_is_nobodys_with_a_clean_environment_and_a_deadline() -> None:
    sandbox = Sandbox(out='{"diagnostics": []}')
    assert Configuration(sandbox, {"main.tf": b""}, 1).validate() == []
    tofu = [one for one in sandbox.commands if "tofu " in one]
    assert len(tofu) == 2
    for command in tofu:
        assert "setpriv --reuid=65534" in command
        assert "--bounding-set=-all" in command
        assert "env -i " in command
        assert "timeout --kill-after=2 60 tofu" in command
        assert "kill -9 -1" in command


def test_the_library_writes_options_as_tofu_reads_them() -> None:
    sandbox = Sandbox()
    code = Configuration(sandbox, {}, 1)
    assert code.refuses({"port": 1}) == ""
    (plan,) = [one for one in sandbox.commands if "tofu plan" in one]
    assert (
        "-out=/work/1/own/plan -var-file=/work/1/variables.json -state=/work/1/own/state -refresh=true -lock=false"
        in plan
    )
    assert "-detailed-exitcode" in plan


@pytest.mark.parametrize("status", [124, 137])
def test_what_had_to_be_ended_is_its_authors_failure(status: int) -> None:
    with pytest.raises(AssertionError, match="was not over after 60 s"):
        Configuration(Sandbox(status), {}, 1).apply()


def test_what_tofu_refuses_is_told_without_its_frame() -> None:
    said = "╷\n│ Error: Invalid value for variable\n│ \n│   on main.tf line 1\n╵\n"
    code = Configuration(Sandbox(1, said), {}, 1)
    assert code.refuses({}) == "Error: Invalid value for variable on main.tf line 1"
    with pytest.raises(AssertionError, match=r"^plan: Error: Invalid value for variable"):
        code.plan()


def test_tests_of_the_candidates_lie_in_the_sandbox_only_where_they_are_asked_for() -> None:
    import io
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("main.tf", "a.tftest.hcl", "tests/b.tofutest.hcl"):
            archive.addfile(tarfile.TarInfo(f"code/{name}"))
    probe = TerraformProbe(lambda _host, _path: stream.getvalue(), Sandbox)
    assert set(probe.configuration("/root/code")._files) == {"main.tf"}
    assert set(probe.calling("/root/code", "x")._files) == {"main.tf", "candidate/main.tf"}
    assert set(probe.with_own_tests("/root/code")._files) == {"main.tf", "a.tftest.hcl", "tests/b.tofutest.hcl"}
    mutant = probe.with_own_tests("/root/code", instead="broken")._files
    assert mutant == {"main.tf": b"broken", "a.tftest.hcl": b"", "tests/b.tofutest.hcl": b""}


def test_the_same_code_is_made_ready_once_and_a_look_sees_one_folder() -> None:
    import io
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("code/main.tf"))
    taken: list[str] = []

    def take(_host: str, path: str) -> bytes:
        taken.append(path)
        return stream.getvalue()

    probe = TerraformProbe(take, Sandbox)
    assert probe.calling("/root/code", "a") is probe.calling("/root/code", "a")
    assert probe.calling("/root/code", "b") is not probe.calling("/root/code", "a")
    assert taken == ["/root/code"]
