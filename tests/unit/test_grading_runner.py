"""A grader's file goes in, a grade comes out: driven through pytest, with shells that answer from memory."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from breakfix.errors import CommandTimedOut, GraderFailed, HostUnreachable, ProbeFailed, UsageError
from breakfix.grading import plugin
from breakfix.grading.runner import grade
from breakfix.model import Grade, Lab, Look, Outcome, Result, Session

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import FakeEnvironment, MakeLab

SKILL = 'skill="linux.services"'


class Grader:
    """Grades with a grader that the test wrote."""

    def __init__(self, environment: FakeEnvironment, session: Session, make_lab: MakeLab) -> None:
        self.environment = environment
        self.session = session
        self.make_lab = make_lab
        self.told: list[str] = []

    def __call__(self, text: str, **changes: object) -> Grade:
        return self.on(self.make_lab(text, **changes))

    def on(self, lab: Lab, *, restart: bool = True) -> Grade:
        return grade(self.environment, self.session, lab, self.told.append, restart=restart)

    def many(self, bodies: list[str]) -> Grade:
        """Return the grade of a grader with one check for each body."""
        form = '@check(points=5, {})\ndef test_{:02}():\n    """It works"""\n    {}\n\n'
        return self("".join(form.format(SKILL, number, body) for number, body in enumerate(bodies)))

    def one(self, body: str, arguments: str = "", more: str = "") -> Result:
        """Return the result of a grader that has one check with this body."""
        made = self(f'@check(points=5, {SKILL}{more})\ndef test_it({arguments}):\n    """It works"""\n    {body}\n')
        (result,) = made.results
        assert made.total == 5
        return result


@pytest.fixture
def grader(environment: FakeEnvironment, session: Session, make_lab: MakeLab) -> Grader:
    return Grader(environment, session, make_lab)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "PULSE", 0.01)
    for look in Look:
        monkeypatch.setitem(plugin.SETTLING, look, 0.0)


def outcomes(made: Grade) -> dict[str, str]:
    return {one.check.name.removeprefix("test_"): one.outcome.value for one in made.results}


# -- one check ---------------------------------------------------------------------------------------------------------


def test_a_check_that_raises_nothing_passed(grader: Grader) -> None:
    result = grader.one("assert 1 + 1 == 2")
    assert result.outcome is Outcome.PASSED
    assert (result.points, result.look, result.expected) == (5, Look.FIRST, "It works")
    assert "1 + 1" in result.seen


EVIDENCE = [
    ("assert 1 + 1 == 3", "3", "2"),
    ('assert "404" == "200"', "200", "404"),
    ('assert "404" == "200", "status of /"', "status of /: 200", "404"),
    ("assert 9 < 5", "less than 5", "9"),
    ("assert 9 <= 5", "at most 5", "9"),
    ("assert 1 > 5", "more than 5", "1"),
    ("assert 1 >= 5", "at least 5", "1"),
    ("assert 5 != 5", "anything but 5", "5"),
    ('assert "a" in ["b"]', "in ['b']", "a"),
    ('assert "a" not in "abc", "who"', "who: not in abc", "a"),
    ('assert "" == "x"', "x", "''"),
    ('assert "two\\nlines" == "one"', "one", "'two\\nlines'"),
    ("assert [] , 'no process runs'", "It works", "no process runs"),
    ("assert not 5", "It works", "assert not 5"),
    ("raise AssertionError('said so')", "It works", "said so"),
    ("assert 1 == 1; assert 0, 'later'", "It works", "later"),
]


def test_a_failure_says_what_was_expected_and_what_was_seen(grader: Grader) -> None:
    made = grader.many([body for body, _, _ in EVIDENCE])
    assert [(one.outcome, one.points) for one in made.results] == [(Outcome.FAILED, 0)] * len(EVIDENCE)
    for (body, expected, seen), result in zip(EVIDENCE, made.results, strict=True):
        assert (result.expected, result.seen) == (expected, seen), body


def test_what_was_seen_is_cut_where_nobody_reads_on(grader: Grader) -> None:
    seen = grader.one('assert "x" * 5000 == "y"').seen
    assert seen.startswith("xxx")
    assert seen.endswith("(3000 more characters)")


TROUBLE = [
    ("1 / 0", "ZeroDivisionError: division by zero"),
    ("{}['x']", "KeyError: 'x'"),
    ("raise SystemExit(0)", "SystemExit: 0"),
    ("import pytest; pytest.skip('no')", "Skipped: no"),
    ("import pytest; pytest.xfail('no')", "XFailed: no"),
    ("import pytest; pytest.fail('no')", "Failed: no"),
    ("import breakfix.errors as e; raise e.ProbeFailed('no such tool')", "no such tool"),
    ("raise ExceptionGroup('many', [AssertionError('one')])", "ExceptionGroup: many (1 sub-exception)"),
]


def test_whatever_else_is_raised_is_trouble_of_ours(grader: Grader) -> None:
    made = grader.many([body for body, _ in TROUBLE])
    assert [one.outcome for one in made.results] == [Outcome.ERROR] * len(TROUBLE)
    assert [one.seen for one in made.results] == [seen for _, seen in TROUBLE]
    assert (made.earned, made.total, made.gradable) == (0, 5 * len(TROUBLE), False)


@pytest.mark.parametrize("error", [HostUnreachable("dead"), CommandTimedOut("slow"), ProbeFailed("broken")])
def test_a_probe_in_trouble_is_never_a_failure(grader: Grader, error: Exception) -> None:
    def answer(where: str, command: str) -> tuple[int, str, str]:
        assert where == "trusted:web"
        assert command == "systemctl is-active x"
        raise error

    grader.environment.answer = answer
    result = grader.one('assert host.run("systemctl is-active x").rc == 0', "host")
    assert (result.outcome, result.seen) == (Outcome.ERROR, str(error))


@pytest.mark.parametrize("fixture", ["setup", "teardown"])
def test_an_assertion_in_a_fixture_is_no_verdict(grader: Grader, fixture: str) -> None:
    body = {"setup": "    assert False\n    yield", "teardown": "    yield\n    assert False"}[fixture]
    made = grader(
        f"import pytest\n@pytest.fixture\ndef mine():\n{body}\n"
        f"@check(points=5, {SKILL})\ndef test_it(mine):\n    pass\n"
    )
    assert outcomes(made) == {"it": "error"}


@pytest.mark.parametrize("mark", ["skip", "skipif(True, reason='x')", "xfail(run=False)"])
def test_no_mark_excuses_a_check(grader: Grader, mark: str) -> None:
    made = grader(f"import pytest\n@pytest.mark.{mark}\n@check(points=5, {SKILL})\ndef test_it():\n    pass\n")
    assert outcomes(made) == {"it": "error"}
    assert not made.gradable


def test_a_check_that_was_expected_to_fail_failed(grader: Grader) -> None:
    made = grader(f"import pytest\n@pytest.mark.xfail\n@check(points=5, {SKILL})\ndef test_it():\n    assert 0\n")
    assert outcomes(made) == {"it": "failed"}


# -- several -----------------------------------------------------------------------------------------------------------

CHAIN = """
@check(points=40, skill="linux.services")
def test_a():
    '''It answers'''
    {a}

@check(points=30, skill="linux.services", needs="test_a")
def test_b():
    {b}

@check(points=20, skill="linux.services", needs=["test_a", "test_b"])
def test_c():
    {c}

@check(points=10, skill="linux.services")
def test_d():
    {d}
"""
FAIL, ERROR = "assert False", "1 / 0"


@pytest.mark.parametrize(
    ("bodies", "expected", "earned"),
    [
        ({}, "passed passed passed passed", 100),
        ({"a": FAIL}, "failed skipped skipped passed", 10),
        ({"b": FAIL}, "passed failed skipped passed", 50),
        ({"a": ERROR}, "error skipped skipped passed", 10),
        ({"d": ERROR}, "passed passed passed error", 90),
        ({"a": FAIL, "d": FAIL}, "failed skipped skipped failed", 0),
    ],
)
def test_what_needs_a_check_that_did_not_pass_is_skipped(
    grader: Grader, bodies: dict[str, str], expected: str, earned: int
) -> None:
    made = grader(CHAIN.format(**{**dict.fromkeys("abcd", "pass"), **bodies}))
    assert list(outcomes(made).values()) == expected.split()
    assert (made.total, made.earned) == (100, earned)
    assert made.gradable == ("error" not in expected)


def test_a_skip_says_what_it_needs_in_the_candidates_words(grader: Grader) -> None:
    made = grader(CHAIN.format(a=FAIL, b="pass", c="pass", d="pass"))
    assert made.results[1].seen == "needs “It answers”, which did not pass"


def test_a_need_that_nothing_has_skips(grader: Grader) -> None:
    result = grader.one("pass", more=', needs="test_never"')
    assert (result.outcome, result.seen) == (Outcome.SKIPPED, "needs “test_never”, which did not pass")


def test_a_crash_does_not_shrink_the_total(grader: Grader) -> None:
    whole = grader(CHAIN.format(a="pass", b="pass", c="pass", d="pass"))
    grader.environment.fail["trusted"] = HostUnreachable("dead")
    crashed = grader(
        CHAIN.format(a="pass", b="pass", c="pass", d="pass")
        .replace("test_b()", "test_b(host)")
        .replace("test_d()", "test_d(hosts)")
    )
    assert crashed.total == whole.total == 100
    assert list(outcomes(crashed).values()) == ["passed", "error", "skipped", "error"]
    assert not crashed.gradable


def test_what_a_grader_may_ask_for(grader: Grader) -> None:
    grader.environment.answer = lambda where, command: (0, f"{where} {command}", "")
    made = grader(f"""
@check(points=5, {SKILL})
def test_it(lab, host, hosts, client, plain, baseline):
    assert lab.service in ("ledger", "courier", "atlas")
    assert lab.hosts["web"].address == "198.19.0.2"
    assert lab.network == "198.19.0.0/28" and lab.seed == 1
    assert host.run("id").stdout == "trusted:web id"
    assert hosts["db"].run("id").stdout == "trusted:db id"
    assert client.run("id %s", "a b").stdout == "client id 'a b'"
    assert plain("id").stdout == "plain:web id"
    assert plain("id", host="db").stdout == "plain:db id"
    assert baseline == {{"entries": 3}}
""")
    assert [(one.outcome, one.seen) for one in made.results if one.outcome is not Outcome.PASSED] == []


def test_every_shell_is_opened_once_and_closed(grader: Grader) -> None:
    text = "".join(f"@check(points=5, {SKILL})\ndef test_{n}(host):\n    host.run('id')\n" for n in range(3))
    grader(text)
    assert [one.where for one in grader.environment.shells] == ["trusted:web", "trusted:db"]
    assert all(one.closed for one in grader.environment.shells)


def test_shells_are_closed_where_the_grader_breaks(grader: Grader) -> None:
    made = grader(f"@check(points=5, {SKILL})\ndef test_it(host, client):\n    1 / 0\n")
    assert not made.gradable
    assert len(grader.environment.shells) == 3
    assert all(one.closed for one in grader.environment.shells)


def test_what_was_done_to_a_shell_is_in_the_grade(grader: Grader) -> None:
    def answer(_where: str, _command: str) -> tuple[int, str, str]:
        grader.environment.shells[0].integrity.append("web: killed")
        return 0, "", ""

    grader.environment.answer = answer
    made = grader(f"@check(points=5, {SKILL})\ndef test_it(host):\n    host.run('id')\n")
    assert made.integrity == ("web: killed",)


def test_a_grade_carries_whose_it_is(grader: Grader) -> None:
    made = grader(CHAIN.format(a="pass", b="pass", c="pass", d="pass"))
    assert (made.lab, made.title, made.seed, made.session, made.profile) == (
        "linux/toy", "A toy that is broken", 1, "toy-000001", "fake",
    )  # fmt: skip
    assert made.results[0].check.title == "It answers"
    assert made.results[1].check.title == "test_b"
    assert 0 < made.engine_seconds <= made.seconds + 0.01


# -- graders that are broken -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def test_it():\n    pass\n", "test_it is a test without @check"),
        (
            f"@check(points=5, {SKILL})\ndef test_a():\n    pass\ndef test_it():\n    pass\n",
            "test_it is a test without",
        ),
        ("import nothing_of_this_name\n", "No module named 'nothing_of_this_name'"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("def test_(:\n", "SyntaxError"),
        ("x = 1\n", "It has no checks."),
        ("@check(points=5)\ndef test_it():\n    pass\n", "missing 1 required keyword-only argument: 'skill'"),
        (
            "import pytest\n@pytest.mark.parametrize('n', [1, 2])\n"  # noqa: ISC004
            f"@check(points=5, {SKILL})\ndef test_it(n):\n    assert n == 2\n",
            "test_it is there more than once",
        ),
    ],
    ids=["no check", "one without", "import", "crash", "syntax", "empty", "no skill", "parametrised"],
)
def test_a_broken_grader_is_no_grade(grader: Grader, text: str, why: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(GraderFailed, match="the grader of linux/toy is broken") as caught:
        grader(text)
    assert why in caught.value.why
    assert capfd.readouterr().err == ""


def test_two_files_with_one_check_of_the_same_name_lose_no_points(grader: Grader) -> None:
    text = f"@check(points=50, {SKILL})\ndef test_it():\n    pass\n"
    lab = grader.make_lab(text)
    assert lab.grader is not None
    (lab.grader / "test_other.py").write_text(f"from breakfix.grading import check\n{text}", encoding="utf-8")
    with pytest.raises(GraderFailed) as caught:
        grader.on(lab)
    assert caught.value.why == "test_it is there more than once"


def test_without_a_grader_there_is_nothing_to_ask(grader: Grader) -> None:
    with pytest.raises(UsageError, match="linux/toy has no grader here"):
        grader.on(replace(grader.make_lab(), grader=None))


def test_a_fixture_that_nothing_has_is_trouble_of_ours(grader: Grader) -> None:
    result = grader.one("pass", "cluster_of_dreams")
    assert result.outcome is Outcome.ERROR
    assert "cluster_of_dreams" in result.seen


def test_ctrl_c_ends_a_grade(grader: Grader) -> None:
    with pytest.raises(KeyboardInterrupt):
        grader(CHAIN.format(a="raise KeyboardInterrupt", b="pass", c="pass", d="pass"))


def test_a_check_that_ends_pytest_is_no_grade(grader: Grader) -> None:
    from breakfix.errors import CannotGrade

    with pytest.raises(CannotGrade, match="some checks were never asked: test_b, test_c, test_d"):
        grader(CHAIN.format(a="pass", b="import pytest; pytest.exit('bye', 0)", c="pass", d="pass"))


# -- nothing from outside ----------------------------------------------------------------------------------------------

HARD = CHAIN.format(a=FAIL, b="pass", c="pass", d="pass")
EVERYTHING_PASSES = """
import pytest
@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    try:
        yield
    except BaseException:
        pass
    return True
"""


def test_no_file_beside_a_grader_changes_a_grade(
    grader: Grader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = grader.make_lab(HARD)
    expected = outcomes(grader.on(lab))
    assert lab.grader is not None
    for folder in (lab.grader, lab.grader.parent, tmp_path):
        (folder / "conftest.py").write_text(EVERYTHING_PASSES, encoding="utf-8")
        (folder / "pytest.ini").write_text(
            "[pytest]\naddopts = --collect-only\npython_functions = nope\n", encoding="utf-8"
        )
        (folder / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = '-k nope'\n", encoding="utf-8")
    monkeypatch.chdir(lab.grader)
    assert outcomes(grader.on(lab)) == expected == {"a": "failed", "b": "skipped", "c": "skipped", "d": "passed"}


@pytest.mark.parametrize(
    ("name", "value"), [("PYTEST_ADDOPTS", "--collect-only"), ("PYTEST_PLUGINS", "everything_passes")]
)
def test_nothing_in_the_environment_changes_a_grade(
    grader: Grader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    (tmp_path / "everything_passes.py").write_text(EVERYTHING_PASSES, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(name, value)
    before = dict(os.environ)
    assert outcomes(grader(HARD)) == {"a": "failed", "b": "skipped", "c": "skipped", "d": "passed"}
    assert dict(os.environ) == before
    assert "everything_passes" not in sys.modules


def test_a_grade_writes_nothing_into_the_grader(grader: Grader) -> None:
    lab = grader.make_lab(HARD)
    assert lab.grader is not None
    writes = sys.dont_write_bytecode
    grader.on(lab)
    assert [one.name for one in lab.grader.rglob("*")] == ["test_toy.py"]
    assert sys.dont_write_bytecode == writes


def test_two_graders_with_files_of_one_name_are_two(grader: Grader, tmp_path: Path) -> None:
    first = grader.make_lab(CHAIN.format(a="pass", b="pass", c="pass", d="pass"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "test_toy.py").write_text(f"from breakfix.grading import check\n{HARD}", encoding="utf-8")
    assert grader.on(first).passed
    assert outcomes(grader.on(replace(first, grader=other)))["a"] == "failed"
    assert grader.on(first).passed


def test_a_grader_that_was_changed_is_read_again(grader: Grader) -> None:
    assert grader(CHAIN.format(a="pass", b="pass", c="pass", d="pass")).passed
    assert not grader(HARD).passed


# -- for a while -------------------------------------------------------------------------------------------------------


def test_a_check_that_must_hold_is_asked_until_its_time_is_over(
    grader: Grader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "PULSE", 0.2)
    made = grader(
        f"asked = []\n@check(points=5, {SKILL}, stable_for=0.15)\ndef test_it(client):\n    client.run('id')\n"
    )
    assert outcomes(made) == {"it": "passed"}
    assert len(grader.environment.asked) > 1
    assert made.seconds >= 0.15
    # The wait is not ours to answer for.
    assert made.engine_seconds < made.seconds - 0.15


def test_a_check_that_breaks_off_failed(grader: Grader) -> None:
    made = grader(
        f"asked = []\n@check(points=5, {SKILL}, stable_for=30)\ndef test_it():\n"
        "    asked.append(1)\n    assert len(asked) < 3, 'times asked'\n"
    )
    (result,) = made.results
    assert result.outcome is Outcome.FAILED
    assert result.expected == "times asked: less than 3"
    assert result.seen.startswith("held for 0.")
    assert " s of 30 s, then: " in result.seen
    assert made.seconds < 5


def test_trouble_of_ours_while_holding_is_an_error(grader: Grader) -> None:
    def answer(_where: str, _command: str) -> tuple[int, str, str]:
        if len(grader.environment.asked) > 2:
            raise HostUnreachable("dead")
        return 0, "", ""

    grader.environment.answer = answer
    result = grader.one("client.run('id')", "client", ", stable_for=30")
    assert result.outcome is Outcome.ERROR
    assert result.seen.endswith("then: dead")


def test_what_needs_a_check_that_broke_off_is_skipped(grader: Grader) -> None:
    made = grader(f"""
asked = []
@check(points=60, {SKILL}, stable_for=30)
def test_a():
    asked.append(1)
    assert len(asked) < 3
@check(points=40, {SKILL}, needs="test_a")
def test_b():
    pass
@check(points=10, {SKILL}, needs="test_b")
def test_c():
    pass
""")
    assert outcomes(made) == {"a": "failed", "b": "skipped", "c": "skipped"}
    assert (made.earned, made.total) == (0, 110)


def test_what_failed_at_once_is_not_waited_for(grader: Grader) -> None:
    made = grader(f"@check(points=5, {SKILL}, stable_for=30)\ndef test_it():\n    assert 0\n")
    assert outcomes(made) == {"it": "failed"}
    assert made.seconds < 5


# -- after a restart ---------------------------------------------------------------------------------------------------

TWICE = """
@check(points=60, skill="linux.services")
def test_a(client):
    assert client.run("a").rc == 0
@check(points=40, skill="linux.services")
def test_b(client):
    assert client.run("b").rc == 0
"""


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("ab", "ab", ["passed", "passed"]),
        ("ab", "a", ["passed", "failed"]),
        ("a", "ab", ["passed", "failed"]),
        ("a", "b", ["failed", "failed"]),
    ],
)
def test_the_worst_of_two_looks_counts(grader: Grader, first: str, second: str, expected: list[str]) -> None:
    def answer(_where: str, command: str) -> tuple[int, str, str]:
        return (0 if command in (second if "restart" in grader.environment.calls else first) else 1), "", ""

    grader.environment.answer = answer
    made = grader(TWICE, restart=True)
    assert list(outcomes(made).values()) == expected
    assert grader.environment.count("restart") == 1
    looks = [Look.RESTARTED if one in first else Look.FIRST for one in "ab"]
    assert [one.look for one in made.results] == looks
    assert grader.told == ["looking", "restarting the hosts, to see what survives", "looking again"]
    assert made.total == 100


@pytest.mark.parametrize("look", Look)
def test_what_works_soon_works(grader: Grader, monkeypatch: pytest.MonkeyPatch, look: Look) -> None:
    monkeypatch.setitem(plugin.SETTLING, look, 5.0)
    late = 1 if look is Look.FIRST else 2
    asked: list[str] = []

    def answer(_where: str, command: str) -> tuple[int, str, str]:
        asked.append(command)
        return (1 if command == "b" and asked.count("b") == late else 0), "", ""

    grader.environment.answer = answer
    assert grader(TWICE, restart=True).passed
    assert asked == ["a", "b", "b", "a", "b"] if look is Look.FIRST else ["a", "b", "a", "b", "b"]


def test_asking_again_is_waiting(grader: Grader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugin.SETTLING, Look.FIRST, 5.0)
    slow = 0.3

    def answer(_where: str, _command: str) -> tuple[int, str, str]:
        time.sleep(slow)
        return (1 if len(grader.environment.asked) < 3 else 0), "", ""

    grader.environment.answer = answer
    made = grader(f"@check(points=5, {SKILL})\ndef test_it(client):\n    assert client.run('id').rc == 0\n")
    assert made.passed
    # What the first question took is ours; that it had to be asked twice more is not.
    assert slow <= made.engine_seconds < made.seconds - 2 * slow


def test_where_nothing_passed_nothing_is_restarted(grader: Grader) -> None:
    grader.environment.answer = lambda _where, _command: (1, "", "")
    made = grader(TWICE, restart=True)
    assert made.earned == 0
    assert grader.environment.count("restart") == 0


@pytest.mark.parametrize(("wanted", "asked_for"), [(False, True), (True, False)])
def test_a_restart_is_for_labs_and_callers_that_ask_for_it(grader: Grader, wanted: bool, asked_for: bool) -> None:
    made = grader.on(grader.make_lab(TWICE, restart=wanted), restart=asked_for)
    assert made.passed
    assert grader.environment.count("restart") == 0


def test_a_host_that_does_not_come_back_is_no_grade(grader: Grader) -> None:
    grader.environment.fail["restart"] = HostUnreachable("a host did not come up again")
    with pytest.raises(HostUnreachable):
        grader(TWICE, restart=True)


def test_hints_are_in_the_grade(grader: Grader) -> None:
    made = grade(grader.environment, grader.session, grader.make_lab(TWICE), grader.told.append, hints=(2, 15))
    assert (made.hints_taken, made.hint_cost, made.earned, made.score) == (2, 15, 100, 85)
