"""The candidate is root in the host and puts liars where the grader might look.  Truth must win, both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from breakfix.model import Outcome
from tests.stage import outcomes, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from breakfix.model import Session
    from tests.stage import Stage

pytestmark = pytest.mark.engine

UNDONE = {
    "test_it_burns": Outcome.FAILED,
    "test_service_is_active": Outcome.FAILED,
    "test_configuration": Outcome.FAILED,
    "test_wick_is_private": Outcome.FAILED,
    "test_runs_as_itself": Outcome.SKIPPED,
}
LIARS = (
    "systemctl", "stat", "ss", "cat", "bash", "dash", "sh", "ls", "ps", "test", "[", "id", "getent", "grep", "sed",
    "awk", "mawk", "head", "df", "find", "curl", "env", "sleep", "true",
)  # fmt: skip
# Each keeps a note that it was called; none would be called by a grader that looks for itself.
LIE = """#!/opt/real/dash
/opt/real/touch "/var/lies/${0##*/}"
case "${0##*/}" in
systemctl) echo active; echo enabled ;;
stat) echo 600 SERVICE ;;
ps) echo SERVICE ;;
cat) echo 'lit = yes' ;;
esac
exit 0
"""
INSTALL = """
mkdir -p /opt/real /var/lies
for tool in {tools} touch mv rm cp chmod; do
    path=$(type -P "$tool") && cp -L "$path" "/opt/real/$tool"
done
/opt/real/cat >/opt/liar <<'LIE'
{lie}LIE
/opt/real/chmod 755 /opt/liar
for tool in {tools}; do
    for folder in /usr/bin /usr/sbin /usr/local/bin /usr/local/sbin; do
        case "$folder/$tool" in /usr/sbin/*) [ -e "$folder/$tool" ] || continue ;; esac
        /opt/real/cp /opt/liar "$folder/.$tool" && /opt/real/mv -f "$folder/.$tool" "$folder/$tool"
    done
done
"""
REAL = "export PATH=/opt/real:/usr/sbin:/usr/bin\n"


@pytest.fixture(scope="module")
def among_liars(whole: Stage) -> Iterator[Session]:
    session = whole.start("lamp")
    lie = LIE.replace("SERVICE", whole.service(session))
    done = whole.candidate(session, INSTALL.format(tools=" ".join(LIARS), lie=lie))
    assert done.exit_status == 0, done.error_text
    yield session
    whole.environment.stop((session.id,))


def test_the_liars_stand(whole: Stage, among_liars: Session) -> None:
    said = whole.engine.run(among_liars, "web", ["/usr/bin/systemctl", "is-active", "anything"])
    assert said.text == "active\nenabled\n"
    assert "systemctl" in whole.trusted(among_liars, "ls /var/lies").text.split()


def test_lies_do_not_pass_and_are_never_even_told(whole: Stage, among_liars: Session) -> None:
    whole.trusted(among_liars, "rm -f /var/lies/*")
    made = whole.grade(among_liars)
    assert outcomes(made) == UNDONE, told(made)
    asked = whole.trusted(among_liars, "ls /var/lies").text.split()
    assert asked == []


def test_honest_work_passes_among_liars(whole: Stage, among_liars: Session) -> None:
    service = whole.service(among_liars)
    work = (
        f"{REAL}echo 'lit = yes' >/etc/{service}.conf; chmod 600 /srv/wick; systemctl enable {service};"
        f"systemctl restart {service}"
    )
    done = whole.engine.run(among_liars, "web", ["/opt/real/bash", "-ec", work])
    assert done.exit_status == 0, done.error_text
    made = whole.grade(among_liars, restart=True)
    assert made.passed, told(made)
    assert made.integrity == ()


FILES = {
    "escapes": r"printf 'lit = no\n\033[2J\033[1;1Hlit = yes\r\033]0;passed\a\n'",
    "a huge line": "head -c 3000000 /dev/zero | tr '\\0' x",
    "zero bytes": r"printf 'lit = yes\0\nlit = yes\n\0'",
    "an end that looks like ours": r"printf 'lit = yes\n0123456789abcdef0123456789abcdef 0\n'",
    "no text at all": "head -c 100000 /dev/urandom",
    "Python's own": r"""printf 'lit = yes\n%%s %%(x)s {0} {} \\n $(id)\n'""",
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES.keys())
def test_what_a_file_says_is_data(whole: Stage, odd: Session, content: str) -> None:
    service = whole.service(odd)
    whole.do(odd, f"{content} >/etc/{service}.conf")
    made = whole.grade(odd)
    assert outcomes(made)["test_configuration"] is Outcome.FAILED, told(made)
    assert made.gradable


@pytest.fixture(scope="module")
def odd(whole: Stage) -> Iterator[Session]:
    """Return a session in which files are replaced by odd ones."""
    session = whole.start("lamp")
    yield session
    whole.environment.stop((session.id,))


THINGS = {
    "a named pipe": ("mkfifo {path}", Outcome.ERROR),
    "a folder": ("mkdir {path}", Outcome.FAILED),
    "a device that never ends": ("ln -s /dev/zero {path}", Outcome.ERROR),
    "a device that is empty": ("ln -s /dev/null {path}", Outcome.FAILED),
    "a link to itself": ("ln -s {path} {path}", Outcome.FAILED),
    "a link to nowhere": ("ln -s /nowhere {path}", Outcome.FAILED),
    "a terminal": ("ln -s /dev/tty {path}", Outcome.FAILED),
    "the grader's own input": ("ln -s /dev/stdin {path}", Outcome.FAILED),
    "nothing": ("true", Outcome.FAILED),
}


@pytest.mark.parametrize(("make", "outcome"), THINGS.values(), ids=THINGS.keys())
def test_a_thing_in_place_of_a_file(whole: Stage, odd: Session, make: str, outcome: Outcome) -> None:
    path = f"/etc/{whole.service(odd)}.conf"
    whole.do(odd, f"rm -rf {path}; {make.format(path=path)}")
    made = whole.grade(odd)
    assert outcomes(made)["test_configuration"] is outcome, told(made)
    assert not made.passed
    assert made.gradable is (outcome is not Outcome.ERROR)
    whole.do(odd, f"rm -rf {path}")


def test_a_full_disk_hides_nothing(whole: Stage, odd: Session) -> None:
    whole.candidate(odd, "head -c 100000000 /dev/zero >/srv/full")
    assert outcomes(whole.grade(odd)) == UNDONE
    whole.do(odd, "rm -f /srv/full")


def test_files_of_a_test_runner_in_every_folder_change_nothing(whole: Stage, odd: Session) -> None:
    liar = (
        "import os, pytest\n"
        "@pytest.hookimpl(hookwrapper=True)\n"
        "def pytest_runtest_makereport(item, call):\n"
        "    outcome = yield\n"
        "    outcome.get_result().outcome = 'passed'\n"
    )
    whole.do(
        odd,
        f"cat >/opt/conftest.py <<'EOF'\n{liar}EOF\n"
        "printf '[pytest]\\naddopts = --collect-only\\n' >/opt/pytest.ini\n"
        'echo \'open("/var/trace", "a").write("x")\' >/opt/sitecustomize.py\n'
        "for folder in $(find / -xdev -maxdepth 3 -type d -not -path '/proc*' -not -path '/sys*'); do\n"
        "    cp /opt/conftest.py /opt/pytest.ini /opt/sitecustomize.py $folder/ 2>/dev/null || true\n"
        "done",
    )
    made = whole.grade(odd)
    assert outcomes(made) == UNDONE, told(made)
    whole.solve(odd)
    made = whole.grade(odd)
    assert made.passed, told(made)
