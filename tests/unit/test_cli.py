"""The command line: every command has help, every trouble its exit code, and nobody meets a traceback unasked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer.main

from breakfix import __version__, catalog, environments, scaffold
from breakfix.cli.app import app
from breakfix.cli.app import run as run_app
from breakfix.errors import BreakfixError, CannotGrade, EngineUnavailable, NotReady
from breakfix.model import SCHEMA_VERSION, SessionState

if TYPE_CHECKING:
    from collections.abc import Callable

    import click

    from breakfix.environments import Capability
    from tests.unit.conftest import FakeEnvironment

    Run = Callable[..., int]

SOURCE = Path(__file__).parents[2] / "src"
HEAVY = {"docker", "pytest", "_pytest", "testinfra", "pydantic", "rich", "jinja2", "requests", "asyncio"}


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two labs, in place of our own."""
    for name in ("linux/toy", "linux/other"):
        scaffold.write(tmp_path / "bundle", name)
        # What testinfra does to find out how services are managed is not what these tests are about.
        grader = tmp_path / "bundle/graders" / name / "test_lab.py"
        text = grader.read_text(encoding="utf-8")
        assert "host.service(lab.service).is_enabled" in text
        grader.write_text(
            text.replace("host.service(lab.service).is_enabled", "host.run('true').rc == 0").replace(
                ", stable_for=2", ""
            ),
            "utf-8",
        )
    monkeypatch.setattr(catalog, "bundle", lambda: tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def run(environment: FakeEnvironment, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Type a command; return its exit code."""
    monkeypatch.setenv("BREAKFIX_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BREAKFIX_OWNER", "me")
    monkeypatch.delenv("BREAKFIX_LABS", raising=False)
    monkeypatch.setattr(environments, "load", lambda _name: environment)
    monkeypatch.setattr(environments, "found", lambda: ("docker",))

    def typed(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["breakfix", *words])
        return run_app()

    return typed


def passes(environment: FakeEnvironment) -> None:
    """Make every check of the scaffold's grader pass."""

    def said(command: str) -> str:
        return "200" if "http_code" in command else "Linux" if "uname" in command else ""

    environment.answer = lambda _where, command: (0, said(command), "")


def commands() -> dict[tuple[str, ...], click.Command]:
    found: dict[tuple[str, ...], Any] = {}

    def walk(path: tuple[str, ...], command: Any) -> None:  # noqa: ANN401  # typer has a click of its own
        found[path] = command
        for name, one in getattr(command, "commands", {}).items():
            walk((*path, name), one)

    walk((), typer.main.get_command(app))
    return found


COMMANDS = commands()


# -- help --------------------------------------------------------------------------------------------------------------


def test_there_are_the_commands_that_the_docs_name() -> None:
    docs = "\n".join(path.read_text(encoding="utf-8") for path in (SOURCE.parent / "docs").rglob("*.md"))
    known = {path[0] for path in COMMANDS if path}
    assert known >= {"list", "show", "start", "shell", "grade", "watch", "hint", "debrief", "reset", "stop", "sessions",
                     "report", "doctor", "images", "new", "lint", "selftest"}  # fmt: skip
    named = {line.split()[1] for line in docs.splitlines() if line.startswith("breakfix ") and "[" not in line}
    assert {word for word in named if word.isalpha()} <= known
    assert named


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help(run: Run, path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*path, "--help") == 0
    told = capsys.readouterr()
    assert f"Usage: breakfix{''.join(f' {part}' for part in path)}" in told.out
    assert "-h, --help" in told.out
    assert len((COMMANDS[path].help or "").split()) > 2
    assert run(*path, "-h") == 0
    assert capsys.readouterr().out == told.out


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_has_help(path: tuple[str, ...]) -> None:
    options = [one for one in COMMANDS[path].params if one.param_type_name == "option"]
    assert [one.name for one in options if not getattr(one, "help", "")] == []


def test_the_version_is_told(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"breakfix {__version__}\n"


def imported(*words: str) -> set[str]:
    code = "import sys; sys.argv = ['breakfix', *sys.argv[1:]]; from breakfix.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code, *words],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )  # fmt: skip
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}


@pytest.mark.parametrize("words", [("--help",), ("--version",)])
def test_help_loads_nothing_heavy(words: tuple[str, ...]) -> None:
    found = imported(*words)
    assert "typer" in found
    assert found & HEAVY == set()


# -- exit codes --------------------------------------------------------------------------------------------------------


def test_0_where_everything_passed(run: Run, environment: FakeEnvironment, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("start", "toy", "--no-shell") == 0
    assert "proven broken in" in capsys.readouterr().out
    passes(environment)
    assert run("grade") == 0
    assert "100" in capsys.readouterr().out
    assert run("stop") == 0
    assert environment.running == {}


def test_1_where_checks_failed(run: Run) -> None:
    assert run("start", "toy") == 0
    assert run("grade") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("start", "nonesuch"),
        ("show", "nonesuch"),
        ("grade", "nonesuch"),
        ("stop",),
        ("debrief",),
        ("report", "nonesuch"),
        ("new", "No Name"),
        ("new", "linux/toy"),
        ("selftest", "--seeds", "a"),
        ("selftest", "--shard", "9"),
        ("--labs", "nowhere", "list"),
        ("nonesuch",),
        ("start",),
        ("start", "toy", "--seed", "x"),
        ("list", "-o", "yaml"),
        ("list", "--nonesuch"),
        ("images",),
        (),
    ],
    ids=" ".join,
)
def test_2_where_something_was_asked_for_that_is_not_there(
    run: Run, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    told = capsys.readouterr()
    assert told.err or told.out
    assert "Traceback" not in told.err


def test_2_where_a_lab_is_invalid(run: Run, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = bundle / "labs/linux/toy/lab.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("minutes = 20", "minutes = 1"), encoding="utf-8")
    assert run("start", "toy") == 2
    assert f"{path}:3: minutes" in capsys.readouterr().err
    assert run("lint") == 2
    assert f"{path}:3: minutes" in capsys.readouterr().out
    assert run("list") == 0
    assert "1 problems in labs that are not shown" in capsys.readouterr().err


@pytest.mark.parametrize("step", ["prepare", "create", "boot", "mark_ready"])
def test_3_where_the_environment_is_not_ready(
    run: Run, environment: FakeEnvironment, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.fail[step] = NotReady("no engine", why="it is off\nand gone", next_step="Switch it on.")
    assert run("start", "toy") == 3
    assert "breakfix: no engine\n  it is off\n  and gone\n  → Switch it on.\n" in capsys.readouterr().err


def test_3_where_no_engine_answers(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(_name: str) -> object:
        raise EngineUnavailable("no container engine answers", why="refused", next_step="Start it.")

    monkeypatch.setattr(environments, "load", load)
    assert run("sessions") == 3
    assert run("doctor") == 3
    told = capsys.readouterr()
    assert "engine  no  refused" in told.out
    assert "→ engine: Start it." in told.out


def test_4_where_a_check_could_not_be_made(run: Run, environment: FakeEnvironment) -> None:
    assert run("start", "toy") == 0
    environment.fail["client"] = CannotGrade("dead")
    assert run("grade") == 4


def test_4_where_nothing_could_be_asked(
    run: Run, environment: FakeEnvironment, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("start", "toy") == 0
    (bundle / "graders/linux/toy/test_lab.py").write_text("1 / 0\n", encoding="utf-8")
    assert run("grade") == 4
    assert "the grader of linux/toy is broken" in capsys.readouterr().err


def test_130_where_it_was_interrupted(run: Run, environment: FakeEnvironment) -> None:
    environment.fail["boot"] = KeyboardInterrupt()
    assert run("start", "toy") == 130
    assert environment.running == {}


def test_a_session_that_is_not_complete_is_not_graded(
    run: Run, environment: FakeEnvironment, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("start", "toy") == 0
    ((name, session),) = environment.running.items()
    from dataclasses import replace

    environment.running[name] = replace(session, state=SessionState.INCOMPLETE)
    assert run("grade") == 2
    assert f"breakfix stop {name}" in capsys.readouterr().err
    environment.running[name] = replace(session, state=SessionState.STOPPED)
    assert run("grade") == 1
    assert environment.count("resume") == 1
    assert run("stop", "--all") == 0
    assert environment.running == {}


# -- words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [BreakfixError("ours"), RuntimeError("a bug"), AssertionError("a bug"), OSError("disk")]
)
def test_no_traceback_unless_asked_for(
    run: Run, environment: FakeEnvironment, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.fail["prepare"] = error
    assert run("start", "toy") in {2, 4}
    told = capsys.readouterr().err
    assert str(error) in told
    assert "Traceback" not in told
    assert ("a bug of ours" in told) == (not isinstance(error, BreakfixError))
    with pytest.raises(type(error)):
        run("--debug", "start", "toy")


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(capsys.readouterr().out)
    return made


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("list",), "labs"),
        (("show", "toy"), "lab"),
        (("sessions",), "sessions"),
        (("start", "other"), "session"),
        (("doctor",), "capabilities"),
        (("lint",), "problems"),
        (("selftest", "--shard", "9/9"), "verdicts"),
        (("report", "--me"), "skills"),
    ],
)
def test_every_document_says_what_it_is(
    run: Run, words: tuple[str, ...], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words, "-o", "json") == 0
    made = document(capsys)
    assert (made["schema_version"], made["kind"]) == (SCHEMA_VERSION, kind)
    assert kind in made


def test_a_grade_is_a_document_too(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("start", "toy", "-o", "json") == 0
    started = document(capsys)["session"]
    assert (started["lab"], started["seed"], started["hosts"]) == ("linux/toy", 1, {"web": "198.19.0.2"})
    for words in (("grade",), ("report", started["id"])):
        run(*words, "-o", "json")
        made = document(capsys)
        assert made["schema_version"] == SCHEMA_VERSION
        assert made["kind"] == "report"


def test_lists_are_what_was_asked_for(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for words, found in (((), 2), (("--track", "linux"), 2), (("--track", "k8s"), 0), (("--skill", "linux"), 2),
                         (("--skill", "linux.services"), 2), (("--skill", "lin"), 0),
                         (("--level", "junior"), 0)):  # fmt: skip
        run("list", *words, "-o", "json")
        assert len(document(capsys)["labs"]) == found, words


def test_a_brief_is_that_of_the_seed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    ports = set()
    for seed in range(1, 9):
        assert run("show", "toy", "--seed", str(seed)) == 0
        told = capsys.readouterr().out
        ports |= {port for port in ("8080", "8181", "9090") if f"web:{port}/" in told}
    assert len(ports) == 3


def test_hints_cost_points(run: Run, environment: FakeEnvironment, capsys: pytest.CaptureFixture[str]) -> None:
    run("start", "toy")
    assert run("hint") == 0
    assert "costs 5 of 100 points. Take it? → breakfix hint --yes" in capsys.readouterr().out
    for words in ("1. Where to look.", "2. What to look for there.", "3. What to type.", "There are no more hints."):
        assert run("hint", "--yes") == 0
        assert words in capsys.readouterr().out
    passes(environment)
    assert run("grade", "-o", "json") == 0
    made = document(capsys)
    grade = made.get("grade", made)
    assert (grade["earned"], grade["score"], grade["hints_taken"]) == (100, 65, 3)


def test_a_debrief_is_for_those_who_passed_or_gave_up(
    run: Run, environment: FakeEnvironment, capsys: pytest.CaptureFixture[str]
) -> None:
    run("start", "toy")
    run("grade")
    assert run("debrief") == 2
    assert "the debrief comes after a pass" in capsys.readouterr().err
    passes(environment)
    run("grade")
    capsys.readouterr()
    assert run("debrief") == 0
    assert "# What happened" in capsys.readouterr().out
    run("reset")
    assert run("debrief", "--give-up") == 0


def test_a_report_is_written_to_a_file(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("start", "toy")
    assert run("grade", "--save", str(tmp_path / "r.html"), "-o", "html") == 1
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_new_lab_is_begun_in_the_root_that_was_named(run: Run, tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "mine/labs").mkdir(parents=True)
    assert run("--labs", str(tmp_path / "mine"), "new", "linux/new") == 0
    assert run("--labs", str(tmp_path / "mine"), "lint", "new") == 0
    assert not (bundle / "labs/linux/new").exists()


def test_doctor_says_what_is_missing(
    run: Run, environment: FakeEnvironment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from breakfix.environments import Capability

    def examine() -> tuple[Capability, ...]:
        return Capability("engine", ok=True, found="v28"), Capability(
            "image host", ok=False, found="none", advice="build"
        )

    monkeypatch.setattr(environment, "examine", examine)
    assert run("doctor") == 3
    assert "→ image host: build" in capsys.readouterr().out


# -- as a process ------------------------------------------------------------------------------------------------------


def started(code: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.argv = ['breakfix', *sys.argv[1:]]; {code}", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_word_and_130(number: signal.Signals) -> None:
    code = (
        "import time; from breakfix import catalog; from breakfix.cli import main\n"
        "def roots(_): print('here', flush=True); time.sleep(30)\n"
        "catalog.roots = roots; main()"
    )
    with started(code, "list") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "interrupted; nothing of what was begun is left\n"


def test_a_reader_that_has_gone_is_no_trouble() -> None:
    code = (
        "import time, typer; from breakfix import catalog; from breakfix.cli import main\n"
        "def roots(_):\n    print('here', flush=True); time.sleep(0.3)\n"
        "    [typer.echo('x' * 9999) for _ in range(99)]\n"
        "catalog.roots = roots; main()"
    )
    with started(code, "list") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(20) == 0
