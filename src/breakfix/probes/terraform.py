"""The fixture ``terraform`` of graders: a candidate's configuration, tried in a sandbox that nothing leaves.

Code runs programs: provisioners, external data sources, whatever a provider does.  So it is copied out of the
workstation, and every command runs in a container without network, without credentials, as nobody, with hard limits.
The code there belongs to root, and so does every folder that a later configuration will use, so that no program can
change what is planned next; programs that a command left behind are ended before the next one.  What the code is, is
asked of plans and states as JSON, never of its text.
"""

from __future__ import annotations

import json
import shlex
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from python_terraform import IsFlagged, Terraform  # type: ignore[import-untyped]

from breakfix.errors import CannotGrade, ProbeFailed
from breakfix.probes import folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from breakfix.environments import Shell

WORK: Final = "/work"
"""Below it each configuration has a folder with its code, which belongs to root, and one in which tofu may write."""
INNER: Final = "candidate"
"""Where the candidate's module lies in a configuration of the grader's."""
NOBODY: Final = "65534"
LONGEST: Final = 60
"""Seconds for one command: an endless program is its author's failure, not ours."""
MOST_OUTPUT: Final = 8 << 20
ENDED: Final = (124, 137)
"""What timeout ends with where it had to end a command, or kill it."""
CHANGED: Final = 2
"""What ``plan -detailed-exitcode`` ends with where there is something to do."""
# The last override file wins, and a candidate has none.
LOCAL_BACKEND: Final = {"zz_breakfix_override.tf": b'terraform {\n  backend "local" {}\n}\n'}
TESTS: Final = "breakfix-tests"
TEST_FILES: Final = (".tftest.hcl", ".tofutest.hcl", ".tftest.json", ".tofutest.json")

# Limits, then nobody without capabilities, then an environment with nothing in it but where tofu finds what is ours.
BEFORE: Final = (
    f"ulimit -f 65536; exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --inh-caps=-all "
    "--bounding-set=-all --no-new-privs env -i PATH=/usr/local/bin:/usr/bin:/bin HOME={own} LANG=C.UTF-8 "
    "TF_CLI_CONFIG_FILE=/etc/tofurc CHECKPOINT_DISABLE=1 TF_IN_AUTOMATION=1 TF_INPUT=0 TF_DATA_DIR={own}/data "
    f"timeout --kill-after=2 {LONGEST} "
)
# Everybody who is nobody, but for the one that sends it; nobody can be making more of them meanwhile.
END_LEFTOVERS: Final = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups kill -9 -1 2>/dev/null"


class Terraform_(Terraform):  # type: ignore[misc]  # noqa: N801  # the library's, in a sandbox
    """python-terraform as the one that knows how options are written; commands run where we say.

    Its own ``plan``, ``apply`` and ``destroy`` use options that are gone (docs/decisions, 37), so ``cmd`` is all.
    """

    def __init__(self, run: Callable[[list[str]], tuple[int, str, str]]) -> None:
        # A folder that is not there: the library would read a state from the grader's own.
        super().__init__(working_dir="/nonexistent", terraform_bin_path="tofu", is_env_vars_included=False)
        self.run = run

    def cmd(self, cmd: str, *args: str, **options: Any) -> tuple[int, str, str]:  # noqa: ANN401
        """Run a command; see the library."""
        return self.run(self.generate_cmd_string(cmd, *args, **options))


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done; ``json`` is what ``show -json`` says of it."""

    json: Mapping[str, Any]

    @property
    def changes(self) -> dict[str, tuple[str, ...]]:
        """Each resource of which something would be done, and what: ``("create",)``, ``("delete", "create")``."""
        found = {one["address"]: tuple(one["change"]["actions"]) for one in self.json.get("resource_changes", ())}
        return {address: actions for address, actions in found.items() if actions not in {("no-op",), ("read",)}}

    @property
    def destroyed(self) -> list[str]:
        """The resources that would be gone, or made anew."""
        return sorted(address for address, actions in self.changes.items() if "delete" in actions)

    @property
    def moved(self) -> dict[str, str]:
        """New addresses of resources that only have another one, each with the one before."""
        found = self.json.get("resource_changes", ())
        return {one["address"]: one["previous_address"] for one in found if "previous_address" in one}

    @property
    def resources(self) -> dict[str, dict[str, Any]]:
        """Every managed resource as it would be: its address and its known values."""
        return dict(_resources(self.json.get("planned_values", {}).get("root_module", {})))

    @property
    def outputs(self) -> dict[str, Any]:
        """Values of outputs that are known before anything is done."""
        found = self.json.get("planned_values", {}).get("outputs", {})
        return {name: one.get("value") for name, one in found.items()}

    @property
    def is_empty(self) -> bool:
        """True where nothing would be done, outputs included."""
        outputs = self.json.get("output_changes", {}).values()
        return not self.changes and all(one["actions"] == ["no-op"] for one in outputs)


@dataclass(frozen=True, slots=True)
class State:
    """What is there, as a state file (version 4) says."""

    raw: Mapping[str, Any]

    @classmethod
    def read(cls, content: bytes) -> State:
        """Read a state file.  Raises AssertionError where it is none: it lay in the candidate's hands."""
        try:
            found = json.loads(content)
        except ValueError as error:
            raise AssertionError(f"the state can't be read: {error}") from None
        assert isinstance(found, dict), "the state is an object"  # noqa: S101
        assert found.get("version") == 4, "the state has version 4"  # noqa: S101, PLR2004
        return cls(found)

    @property
    def resources(self) -> dict[str, dict[str, Any]]:
        """Every managed resource: its address and its values."""
        return {
            f"{_address(one)}{_key(instance)}": instance.get("attributes") or {}
            for one in self.raw.get("resources", ()) if one.get("mode") == "managed"
            for instance in one.get("instances", ())
        }  # fmt: skip

    @property
    def outputs(self) -> dict[str, Any]:
        """The values of all outputs."""
        return {name: one.get("value") for name, one in self.raw.get("outputs", {}).items()}

    @property
    def content(self) -> bytes:
        """The file, to be given to a sandbox."""
        return json.dumps(self.raw).encode()


def _address(resource: Mapping[str, Any]) -> str:
    module = f"{resource['module']}." if resource.get("module") else ""
    return f"{module}{resource['type']}.{resource['name']}"


def _key(instance: Mapping[str, Any]) -> str:
    return f"[{json.dumps(instance['index_key'])}]" if "index_key" in instance else ""


def _resources(module: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    own = [(one["address"], one.get("values", {})) for one in module.get("resources", ()) if one["mode"] == "managed"]
    return own + [found for child in module.get("child_modules", ()) for found in _resources(child)]


class Configuration:
    """Code in a sandbox of its own.  A command that fails where it must not is a verdict, with tofu's own words."""

    def __init__(self, shell: Shell, files: Mapping[str, bytes], number: int) -> None:
        self._shell = shell
        self._files = files
        self._place = f"{WORK}/{number}"
        self._code, self._own = f"{self._place}/code", f"{self._place}/own"
        self._variables, self._state = f"{self._place}/variables.json", f"{self._own}/state"
        self._tofu = Terraform_(self._run)

    def validate(self) -> list[str]:
        """Return what ``validate`` finds wrong: a sentence each."""
        self._ready  # noqa: B018  # made when first asked for
        _, out, _ = self._tofu.cmd("validate", json=IsFlagged)
        said = _json(out, "validate")
        return [_sentence(one) for one in said.get("diagnostics", ()) if one.get("severity") == "error"]

    def plan(
        self, variables: Mapping[str, Any] | None = None, state: State | None = None, *, refresh: bool = True
    ) -> Plan:
        """Plan with these variables, on a state where one is given, else on nothing.

        ``refresh=False`` takes the state's word for what is there: what it speaks of is not in the sandbox.
        """
        status, said = self._plan(variables, state, refresh=refresh)
        if status not in {0, CHANGED}:
            raise AssertionError(f"plan: {said}")
        _, out, _ = self._tofu.cmd("show", f"{self._own}/plan", json=IsFlagged)
        return Plan(_json(out, "show"))

    def refuses(self, variables: Mapping[str, Any]) -> str:
        """Return what a plan with these variables is refused with; nothing where it is not."""
        status, said = self._plan(variables, None, refresh=True)
        return "" if status in {0, CHANGED} else said

    def _plan(self, variables: Mapping[str, Any] | None, state: State | None, *, refresh: bool) -> tuple[int, str]:
        self._set(variables, state)
        status, out, err = self._tofu.cmd(
            "plan", out=f"{self._own}/plan", var_file=self._variables, state=self._state, refresh=refresh,
            lock=False, no_color=IsFlagged, detailed_exitcode=IsFlagged, compact_warnings=IsFlagged,
        )  # fmt: skip
        return status, _tidy(err or out)

    def apply(self, variables: Mapping[str, Any] | None = None, state: State | None = None) -> State:
        """Do it for real, in the sandbox; return what is there then."""
        return self._change("apply", variables, state)

    def destroy(self, variables: Mapping[str, Any] | None = None, state: State | None = None) -> State:
        """Take it all away again; return what is left."""
        return self._change("destroy", variables, state)

    def _change(self, what: str, variables: Mapping[str, Any] | None, state: State | None) -> State:
        self._set(variables, state)
        status, out, err = self._tofu.cmd(
            what, var_file=self._variables, state=self._state, backup="-", auto_approve=IsFlagged,
            lock=False, no_color=IsFlagged, compact_warnings=IsFlagged,
        )  # fmt: skip
        if status:
            raise AssertionError(f"{what}: {_tidy(err or out)}")
        content = self._shell.run(f"head -c {MOST_OUTPUT} {self._state}").stdout
        return State.read(content or b'{"version": 4}')

    def test(self, **files: str) -> dict[str, str]:
        """Run test files: those given, by their names, or where none is given those that lie with the code.

        Returns each run's name and how it ended: ``pass``, or ``fail``, ``error``, ``skip`` with what tofu says of it.
        """
        self._ready  # noqa: B018
        where = {"test_directory": TESTS} if files else {}
        self._write({f"{self._code}/{TESTS}/{name}.tftest.hcl": text.encode() for name, text in files.items()})
        _, out, _ = self._tofu.cmd("test", json=IsFlagged, **where)
        return _runs(out)

    def _set(self, variables: Mapping[str, Any] | None, state: State | None) -> None:
        self._ready  # noqa: B018
        self._write({self._variables: json.dumps(variables or {}).encode()})
        self._shell.run(f"rm -f {self._state} {self._own}/plan")
        if state is not None:
            self._write({self._state: state.content}, owner=NOBODY)

    @cached_property
    def _ready(self) -> bool:
        """Put the code in place, and have tofu find its providers and modules."""
        # What an earlier configuration made is in nobody's way.
        self._shell.run(f"rm -rf /tmp/* /var/tmp/*; mkdir -p {self._code} {self._own}")
        self._write({f"{self._code}/{path}": content for path, content in {**self._files, **LOCAL_BACKEND}.items()})
        # A lock file is written beside the code, by init alone, which runs nothing of the candidate's.
        self._shell.run(f"chown {NOBODY} {self._code} {self._own}")
        status, out, err = self._tofu.cmd("init", no_color=IsFlagged, reconfigure=IsFlagged)
        self._shell.run(f"chown 0 {self._code}")
        if status:
            raise AssertionError(f"init: {_tidy(err or out)}")
        return True

    def _write(self, files: Mapping[str, bytes], owner: str = "0") -> None:
        for path, content in files.items():
            where, there = shlex.quote(path.rpartition("/")[0]), shlex.quote(path)
            written = self._shell.run(
                f"mkdir -p {where} && base64 -d >{there} <<'{_MARK}' && chown {owner} {there}\n"
                f"{b64encode(content).decode()}\n{_MARK}"
            )
            if written.exit_status:
                raise ProbeFailed("the sandbox can't be written to", why=written.error_text)

    def _run(self, argv: list[str]) -> tuple[int, str, str]:
        """Run a command as nobody; both its outputs go through files of root's, and end where they are too long."""
        command = BEFORE.format(own=self._own) + shlex.join(argv)
        done = self._shell.run(
            f"cd {self._code} && ( {command} ) >{self._place}/1 2>{self._place}/2 </dev/null; "
            f"status=$?; {END_LEFTOVERS}; head -c {MOST_OUTPUT} {self._place}/1; head -c 65536 {self._place}/2 >&2; "
            "exit $status",
            LONGEST + 15.0,
        )
        if done.exit_status in ENDED:
            raise AssertionError(f"tofu {argv[1]} was not over after {LONGEST} s, and was ended")
        return done.exit_status, done.text, done.error_text


_MARK: Final = "BREAKFIX-END-OF-FILE"


class TerraformProbe:
    """The fixture: copies a candidate's folder out and gives it to the sandbox, which is made when first asked for."""

    def __init__(self, take: Callable[[str, str], bytes], sandbox: Callable[[], Shell]) -> None:
        self._take = take
        self._sandbox = sandbox
        self._folders: dict[tuple[str, str], folder.Folder] = {}
        self._made: dict[tuple[tuple[str, bytes], ...], Configuration] = {}

    def folder(self, path: str, host: str = "workstation") -> folder.Folder:
        """Return a folder of the candidate's, as this look first saw it.

        Raises folder.Refused, a verdict, where it can't be one.
        """
        if (host, path) not in self._folders:
            self._folders[host, path] = folder.read(self._take(host, path))
        return self._folders[host, path]

    def _configuration(self, files: Mapping[str, bytes]) -> Configuration:
        """Return what these files make; once, for to have tofu find its providers takes as long as a plan."""
        key = tuple(sorted(files.items()))
        if key not in self._made:
            self._made[key] = Configuration(self._sandbox(), files, len(self._made) + 1)
        return self._made[key]

    def configuration(self, path: str, host: str = "workstation") -> Configuration:
        """Return the configuration in a folder, ready to be planned."""
        return self._configuration(_without_tests(self.folder(path, host).files))

    def calling(self, path: str, main: str, host: str = "workstation") -> Configuration:
        """Return a configuration of the grader's, in which the candidate's folder is the module ``./candidate``."""
        module = _without_tests(self.folder(path, host).files)
        inner = {f"{INNER}/{name}": content for name, content in module.items()}
        return self._configuration({**inner, "main.tf": main.encode()})

    def with_own_tests(self, path: str, instead: str = "", host: str = "workstation") -> Configuration:
        """Return a candidate's module with the tests that lie beside it.

        ``instead`` of the module they are run on one of the grader's: tests that pass on a broken one test nothing.
        """
        files = self.folder(path, host).files
        if instead:
            files = {name: content for name, content in files.items() if name not in _without_tests(files)}
            files["main.tf"] = instead.encode()
        return self._configuration(files)


def _without_tests(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if not name.endswith(TEST_FILES)}


def _json(out: str, what: str) -> dict[str, Any]:
    try:
        found = json.loads(out)
    except ValueError as error:
        raise CannotGrade(f"tofu {what} gave no JSON", why=out[:500] or str(error)) from error
    return found if isinstance(found, dict) else {}


def _runs(out: str) -> dict[str, str]:
    """Read what ``test -json`` prints: an event in each line."""
    runs: dict[tuple[str, str], str] = {}
    said: dict[tuple[str, str], list[str]] = {}
    for event in _events(out):
        place = (str(event.get("@testfile", "")), str(event.get("@testrun", "")))
        if event.get("type") == "test_run":
            runs[place] = event["test_run"]["status"]
        elif event.get("type") == "diagnostic" and event["diagnostic"].get("severity") == "error":
            said.setdefault(place, []).append(_sentence(event["diagnostic"]))
    if not runs:
        raise AssertionError(f"no test ran: {'; '.join(word for words in said.values() for word in words)[:1000]}")
    told = {place: status if status == "pass" else f"{status}: {'; '.join(said.get(place, []))}"
            for place, status in runs.items()}  # fmt: skip
    # Two files may call a run alike.
    names = [run for _, run in told]
    return {run if names.count(run) == 1 else f"{file} {run}": how for (file, run), how in told.items()}


def _events(out: str) -> Iterator[dict[str, Any]]:
    for line in out.splitlines():
        with suppress(ValueError):
            yield json.loads(line)


def _sentence(diagnostic: Mapping[str, Any]) -> str:
    where = diagnostic.get("range") or {}
    place = f"{where.get('filename')}:{where.get('start', {}).get('line')}: " if where.get("filename") else ""
    return f"{place}{diagnostic.get('summary', '')}: {' '.join(str(diagnostic.get('detail', '')).split())}"


def _tidy(text: str) -> str:
    """Return what tofu said without its frame."""
    lines = (line.strip("│╷╵ \t") for line in text.splitlines())
    return " ".join(line for line in lines if line)[:2000]
