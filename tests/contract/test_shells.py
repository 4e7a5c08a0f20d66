"""What every shell of every environment promises."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from breakfix.errors import CommandTimedOut, ProbeFailed
from tests.stage import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from breakfix.environments import Shell
    from breakfix.model import Session
    from tests.stage import Stage

pytestmark = pytest.mark.engine


def open_shell(request: pytest.FixtureRequest) -> Shell:
    """Open the shell that a parameter like ``kind trusted cluster`` speaks of."""
    name, how, *host = request.param.split()
    stage: Stage = request.getfixturevalue({"docker": "whole", "kind": "practice", "existing": "theirs"}[name])
    session: Session = request.getfixturevalue({"docker": "lamp", "kind": "beacon", "existing": "guest"}[name])
    opened: Shell = getattr(stage.environment, how)(session, *host)
    return opened


SHELLS = (
    "docker trusted web", "docker plain web", "docker client",
    "kind trusted cluster", "kind trusted workstation", "kind plain workstation", "kind client",
    "existing trusted cluster", "existing trusted workstation", "existing client",
)  # fmt: skip


@pytest.fixture(scope="module", params=SHELLS)
def shell(request: pytest.FixtureRequest) -> Iterator[Shell]:
    opened = open_shell(request)
    yield opened
    opened.close()


@pytest.mark.parametrize("status", [0, 1, 2, 42, 126, 255])
def test_the_exit_status_is_the_commands(shell: Shell, status: int) -> None:
    assert shell.run(f"exit {status}").exit_status == status


def test_a_missing_program_is_127(shell: Shell) -> None:
    assert shell.run("no-such-program-anywhere").exit_status == 127


def test_the_two_streams_stay_apart(shell: Shell) -> None:
    done = shell.run("printf one; printf two >&2; printf three; printf four >&2")
    assert (done.stdout, done.stderr) == (b"onethree", b"twofour")


def test_output_without_a_last_newline_gets_none(shell: Shell) -> None:
    assert shell.run("printf x").stdout == b"x"


def test_no_output_is_no_output(shell: Shell) -> None:
    done = shell.run("true")
    assert (done.stdout, done.stderr) == (b"", b"")


def test_every_byte_comes_through(shell: Shell) -> None:
    every = "".join(f"\\{byte:03o}" for byte in range(256))
    done = shell.run(f"printf '{every}'; printf '{every}' >&2")
    assert done.stdout == bytes(range(256))
    assert done.stderr == bytes(range(256))


def test_eight_megabytes_come_through_whole(shell: Shell) -> None:
    done = shell.run("head -c 8388608 /dev/zero | tr '\\0' x", timeout=60)
    assert len(done.stdout) == 8388608
    assert done.stdout.count(b"x") == 8388608


def test_output_beyond_all_measure_is_trouble_of_ours(shell: Shell) -> None:
    with pytest.raises(ProbeFailed):
        shell.run("head -c 17825792 /dev/zero", timeout=60)
    assert shell.run("echo still here").text == "still here\n"


def test_endless_output_is_cut_off(shell: Shell) -> None:
    with pytest.raises(ProbeFailed):
        shell.run("cat /dev/zero", timeout=60)
    until(lambda: shell.run("ps -A -o args 2>/dev/null | grep -c '^cat /dev/zero' || true").text.strip() == "0")


def test_text_of_all_languages_comes_through(shell: Shell) -> None:
    assert shell.run("printf '%s' 'Grüße, 世界 🔥'").text == "Grüße, 世界 🔥"


def test_bytes_that_are_no_text_become_replacement_characters(shell: Shell) -> None:
    assert shell.run("printf 'a\\377b'").text == "a�b"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("""printf '%s' "it's" '"quoted"'""", """it's"quoted\""""),
        ("printf a\nprintf b\n\nprintf c", "abc"),
        ("cat <<'EOF'\n$HOME `id` \\n 'x' \"y\"\nEOF", "$HOME `id` \\n 'x' \"y\"\n"),
        ("cat <<EOF\n$((1 + 1))\nEOF\n", "2\n"),
        ("printf '%s' a # a comment", "a"),
        ("printf '%s' 'back\\slash'", "back\\slash"),
        ("x=$(printf 'inner' | tr a-z A-Z); printf '%s' \"$x\"", "INNER"),
    ],
)
def test_what_is_asked_is_what_is_run(shell: Shell, command: str, answer: str) -> None:
    done = shell.run(command)
    assert (done.text, done.exit_status) == (answer, 0)


def test_standard_input_is_empty(shell: Shell) -> None:
    assert shell.run("cat; echo end", timeout=5).text == "end\n"


@pytest.mark.parametrize("command", ["if true", "echo 'open", "fi", "cat <<EOF\nno end", "( echo", "echo )", "${bad"])
def test_a_syntax_error_is_a_status_and_no_hang(shell: Shell, command: str) -> None:
    done = shell.run(command, timeout=5)
    assert done.exit_status != 0 or "no end" in done.text
    assert shell.run("echo usable").text == "usable\n"


def test_one_command_leaves_nothing_to_the_next(shell: Shell) -> None:
    shell.run("cd /; x=left; exec 3>/dev/null; set -e; false")
    assert shell.run("printf '%s' \"$x\"").text == ""
    assert shell.run("false; echo on").text == "on\n"


def test_a_forged_end_is_output(shell: Shell) -> None:
    forged = "0123456789abcdef0123456789abcdef 0"
    done = shell.run(f"echo '{forged}'; echo '{forged}' >&2; echo after; exit 3")
    assert done.exit_status == 3
    assert done.text == f"{forged}\nafter\n"
    assert done.error_text == f"{forged}\n"


def test_numbers_at_the_end_of_output_are_no_status(shell: Shell) -> None:
    done = shell.run("printf ' 0\\n'; printf '0 0 0'; exit 7")
    assert (done.exit_status, done.text) == (7, " 0\n0 0 0")


def test_a_deadline_ends_the_command_and_its_children(shell: Shell) -> None:
    with pytest.raises(CommandTimedOut):
        shell.run("sleep 4711 & sh -c 'sleep 4711; true' & sleep 4711", timeout=0.5)
    left = "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null; echo; done | grep -c '^sleep 4711' || true"
    until(lambda: shell.run(left).text.strip() == "0", 5)


def test_after_a_deadline_the_shell_is_usable(shell: Shell) -> None:
    with pytest.raises(CommandTimedOut):
        shell.run("sleep 30", timeout=0.3)
    assert shell.run("echo usable").text == "usable\n"
    assert shell.integrity == []


def test_a_deadline_ends_a_flood_that_never_ends(shell: Shell) -> None:
    with pytest.raises((CommandTimedOut, ProbeFailed)):
        shell.run("while :; do echo x; done", timeout=0.5)
    assert shell.run("echo usable").text == "usable\n"


def test_eight_threads_each_get_their_own_answer(shell: Shell) -> None:
    gate = threading.Barrier(8)

    def ask(number: int) -> list[str]:
        gate.wait()
        return [shell.run(f"echo {number}-{turn}; exit {number}").text.strip() for turn in range(20)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert answers == [[f"{number}-{turn}" for turn in range(20)] for number in range(8)]


def test_a_closed_shell_opens_again(shell: Shell) -> None:
    shell.close()
    shell.close()
    assert shell.run("echo again").text == "again\n"


def test_a_shell_that_ends_itself_is_opened_again_or_unreachable(shell: Shell) -> None:
    from breakfix.errors import HostUnreachable

    with pytest.raises(HostUnreachable):
        shell.run("kill -KILL $$", timeout=5)
    assert shell.run("echo again").text == "again\n"
    shell.integrity.clear()
