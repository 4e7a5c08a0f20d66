"""testinfra over a shell of ours: nothing of the host decides, and nothing that we can't see is an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from breakfix.errors import CommandTimedOut, HostUnreachable, ProbeFailed
from breakfix.probes.host import DEADLINE, connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from testinfra.host import Host

    from breakfix.model import Session
    from tests.unit.conftest import FakeEnvironment

    Connect = Callable[..., Host]


@pytest.fixture
def host(environment: FakeEnvironment, session: Session) -> Connect:
    def make(status: int = 0, out: str | bytes = "", err: str = "", *, trusted: bool = True) -> Host:
        environment.answer = lambda _where, _command: (status, out, err)
        return connect("web", environment.trusted(session, "web"), trusted=trusted)

    return make


@pytest.mark.parametrize(
    "command",
    [
        "/usr/sbin/nginx -t",
        "  /usr/sbin/nginx",
        "'/usr/sbin/nginx' -t",
        '"/usr/sbin/nginx" -t',
        "/usr/sbin/nginx\t-t",
        "./run",
        "~/run",
        "/toolboxes/bin/sh",
        "cat /etc/passwd | /usr/bin/wc -l",
        "true && /srv/app/check",
        "( /srv/app/check )",
        "if /srv/app/check; then echo yes; fi",
        "LANG=C env A=b /srv/app/check",
        "true\n/srv/app/check",
        "find /srv | xargs ./check",
    ],
)
def test_no_file_of_the_host_is_run_in_the_trusted_shell(
    host: Connect, environment: FakeEnvironment, command: str
) -> None:
    with pytest.raises(ProbeFailed, match="a file of the host") as caught:
        host().run(command)
    assert "`plain`" in caught.value.next_step
    assert environment.asked == []
    assert host(trusted=False).run(command).rc == 0


@pytest.mark.parametrize(
    "command",
    [
        "/toolbox/bin/ps",
        "ps",
        "cat /etc/passwd",
        "test -e /srv",
        "grep -E '^(/etc|/usr)' /x; sed -e '/a/d; /b/d' <~/y",
        "for f in /a /b; do cat $f; done",
        "it's not whole",
        "[ -e /srv ] || echo /srv",
    ],
)
def test_the_toolbox_is_run(host: Connect, environment: FakeEnvironment, command: str) -> None:
    assert host(out="x").run(command).stdout == "x"
    assert [asked for _, asked, _ in environment.asked] == [command]


def test_a_tool_that_is_missing_is_trouble_of_ours(host: Connect) -> None:
    with pytest.raises(ProbeFailed, match="the toolbox has no such tool: sh: jq: not found") as caught:
        host(127, err="sh: jq: not found\n").run("jq .")
    assert caught.value.why == "The command was: jq ."


def test_a_tool_that_the_candidate_removed_is_an_answer(host: Connect) -> None:
    assert host(127, trusted=False).run("nginx -t").rc == 127


@pytest.mark.parametrize("status", [0, 1, 2, 126, 128, 255])
def test_every_other_status_is_an_answer(host: Connect, status: int) -> None:
    assert host(status, "out", "err").run("x").rc == status


def test_bytes_that_are_no_text_end_no_grade(host: Connect) -> None:
    done = host(out=b"caf\xe9 \xff\xfe").run("cat x")
    assert done.stdout == "caf\ufffd \ufffd\ufffd"
    assert done.stdout_bytes == b"caf\xe9 \xff\xfe"


def test_each_argument_is_quoted(host: Connect, environment: FakeEnvironment) -> None:
    connected = host()
    connected.run("test -e %s && echo 100%%", "a b; rm -rf '/'")
    connected.run("date +%s")
    asked = [command for _, command, _ in environment.asked]
    assert asked == ["""test -e 'a b; rm -rf '"'"'/'"'"'' && echo 100%""", "date +%s"]


def test_every_command_has_a_deadline(host: Connect, environment: FakeEnvironment) -> None:
    connected = host()
    connected.run("x")
    connected.run("x", timeout=30)
    assert [timeout for _, _, timeout in environment.asked] == [DEADLINE, 30]


@pytest.mark.parametrize("error", [HostUnreachable("dead"), CommandTimedOut("slow")])
def test_what_could_not_be_asked_is_never_a_no(host: Connect, environment: FakeEnvironment, error: Exception) -> None:
    connected = host()

    def raises(_where: str, _command: str) -> tuple[int, str, str]:
        raise error

    environment.answer = raises
    with pytest.raises(type(error)):
        connected.check_output("cat /srv")
    with pytest.raises(type(error)):
        connected.run("systemctl is-active nginx")


def test_two_sessions_with_a_host_of_one_name_are_two(environment: FakeEnvironment, session: Session) -> None:
    shells = [environment.trusted(session, "web") for _ in range(2)]
    first, second = (connect("web", shell, trusted=True) for shell in shells)
    assert first is not second
    assert first.backend is not second.backend
