"""Lint: each thing that can be wrong with a lab is told, at its file and line; and nothing that is right."""

# ruff: noqa: E501  # a problem stands on one line, as lint prints it

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from breakfix import linting

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.conftest import Written

    Spoil = Callable[[Written], object]


def problems(written: Written) -> list[str]:
    """Return everything that lint says, as ``path:line: message`` with the path below the lab or its grader."""
    found = written.load()
    told = [str(one) for one in linting.lint(found, tuple(found.labs.values()))]
    return [re.sub(rf"^{re.escape(str(written.root))}/(?:labs|graders)/linux/written/?", "", one) for one in told]


def without(path: str) -> Spoil:
    def spoil(written: Written) -> None:
        (file,) = (one for one in (written.folder / path, written.grader / path) if one.exists())
        file.unlink()

    return spoil


def plus(path: str, text: str | bytes) -> Spoil:
    def spoil(written: Written) -> None:
        base = written.folder if path.startswith("setup/") else written.grader
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_bytes(text if isinstance(text, bytes) else text.encode())

    return spoil


def change(path: str, old: str, new: str) -> Spoil:
    return lambda written: written.change(path, old, new)


def append(path: str, text: str) -> Spoil:
    def spoil(written: Written) -> None:
        with (written.grader / path).open("a", encoding="utf-8") as file:
            file.write(text)

    return spoil


def many_checks(written: Written) -> None:
    names = [f"test_more_{number}" for number in range(8)]
    form = "\n\n@check(points=0, skill='linux.services')\ndef {}():\n    'More'\n"
    with (written.grader / "test_lab.py").open("a", encoding="utf-8") as file:
        file.writelines(form.format(name) for name in names)
    (written.grader / "cheats/more.sh").write_text(f"# fails: {' '.join(names)}\n", encoding="utf-8")


def few_checks(written: Written) -> None:
    path = written.grader / "test_lab.py"
    text = path.read_text(encoding="utf-8").partition(
        '@check(points=15, skill="linux.services", needs="test_it_answers")\ndef test_no_root'
    )[0]
    path.write_text(text.replace("points=40", "points=55"), encoding="utf-8")
    written.change("cheats/for-now.sh.j2", " test_no_root", "")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (without("brief.md.j2"), ["brief.md.j2:1: a lab needs a brief"]),
        (without("setup/symptom.sh.j2"), ["setup/symptom.sh:1: a lab needs a symptom.sh that proves its broken state"]),
        (without("debrief.md.j2"), ["debrief.md.j2:1: a lab needs a debrief"]),
        (without("solutions/reference.sh.j2"), ["solutions:1: a lab needs a reference solution"]),
        (
            without("cheats/half-fix.sh.j2"),
            [
                "cheats:1: 2 cheats and half-fixes; a lab has 3 or more",
                "test_lab.py:7: no cheat fails test_it_answers: a check that can't fail is not a check",
            ],
        ),
        (
            change("lab.toml", "seeds = [1, 2, 3]", "seeds = [1, 2, 1]"),
            ["lab.toml:1: two seeds draw the same variant: choose others"],
        ),
        (plus("setup/db/break.sh", ""), ["setup/db:1: no host is called db; the lab has web"]),
        (
            plus("setup/web/brake.sh", ""),
            ["setup/web/brake.sh:1: nobody reads this: only files/, break.sh, prepare.sh, symptom.sh are used"],
        ),
        (
            plus("setup/web/files/etc/x.j2", "a\n{{ colour }}\n"),
            ["setup/web/files/etc/x.j2:2: 'colour' is undefined"],
        ),
        (plus("solutions/other.sh.j2", "{% if %}"), ["solutions/other.sh.j2:1: Expected an expression, got 'end of statement block'"]),
        (plus("setup/web/files/x.j2", "{{ port + 'a' }}"), ["setup/web/files/x.j2:1: TypeError: unsupported operand type(s) for +: 'int' and 'str'"]),
        (change("lab.toml", "minutes = 20", "minutes = 1"), ["lab.toml:3: minutes: Input should be greater than or equal to 5"]),
        (change("test_lab.py", "points=40", "points=41"), ["test_lab.py:1: the checks give 101 points together, not 100"]),
        (change("test_lab.py", "points=40", "points=10 * 4"), ["test_lab.py:1: the checks give 60 points together, not 100"]),
        (change("test_lab.py", "points=40", "points={[]: 1}"), ["test_lab.py:1: the checks give 60 points together, not 100"]),
        (few_checks, ["test_lab.py:1: 4 checks; a lab has 5 to 12"]),
        (many_checks, ["test_lab.py:1: 13 checks; a lab has 5 to 12"]),
        (
            change("test_lab.py", 'skill="linux.services", stable_for', 'skill="linux.magic", stable_for'),
            ["test_lab.py:7: test_it_answers: unknown skill 'linux.magic'"],
        ),
        (
            change("test_lab.py", '    """The service answers"""\n', ""),
            ["test_lab.py:7: test_it_answers: a check needs a docstring, the line people read"],
        ),
        (
            change("test_lab.py", 'needs="test_it_answers"', 'needs=["test_it_answers", "test_no_root"]'),
            ["test_lab.py:14: test_nothing_is_lost needs test_no_root, which is not above it"],
        ),
        (
            change("test_lab.py", 'needs="test_it_answers"', 'needs="test_nothing_is_lost"'),
            ["test_lab.py:14: test_nothing_is_lost needs test_nothing_is_lost, which is not above it"],
        ),
        (
            append("test_lab.py", "\n\nclass TestMore:\n    def test_it(self) -> None: ...\n\n\nasync def test_later() -> None: ...\n"),
            [
                "test_lab.py:39: TestMore: a check is a plain function of the file",
                "test_lab.py:43: test_later: a check is a plain function of the file",
            ],
        ),
        (
            change("test_lab.py", '@check(points=40, skill="linux.services", stable_for=2)\n', ""),
            [
                "cheats/half-fix.sh.j2:1: no check is called test_it_answers",
                "test_lab.py:1: 4 checks; a lab has 5 to 12",
                "test_lab.py:1: the checks give 60 points together, not 100",
                "test_lab.py:6: test_it_answers has no @check(points=…, skill=…)",
                "test_lab.py:13: test_nothing_is_lost needs test_it_answers, which is not above it",
                "test_lab.py:19: test_nothing_is_weakened needs test_it_answers, which is not above it",
                "test_lab.py:26: test_service_is_on needs test_it_answers, which is not above it",
                "test_lab.py:32: test_no_root needs test_it_answers, which is not above it",
            ],
        ),
        (
            plus("test_more.py", "from x import check\n\n@check(points=0, skill='linux.services')\ndef test_no_root():\n    'Twice'\n"),
            ["test_more.py:4: test_no_root is there twice: one of them would never be asked"],
        ),
        (plus("test_more.py", "x = 1\ndef test_(:\n"), ["test_more.py:2: not Python: invalid syntax"]),
        (plus("test_more.py", b"x = 'caf\xe9'\n"), ["test_more.py:1: not Python: 'utf-8' codec can't decode byte 0xe9 in position 8: invalid continuation byte"]),
        (plus("cheats/quiet.sh", "rm -rf /\n"), ["cheats/quiet.sh:1: say which checks it must fail: # fails: test_…"]),
        (plus("cheats/quiet.sh", "# fails:\n"), ["cheats/quiet.sh:1: say which checks it must fail: # fails: test_…"]),
        (plus("cheats/loud.sh", "# fails: test_b, test_no_root test_a\n"), ["cheats/loud.sh:1: no check is called test_a, test_b"]),
        (plus("solutions/two/1-db.sh", ""), ["solutions/two/1-db.sh:1: no host is called 'db': name the script N-HOST.sh"]),
        (plus("solutions/two/web.sh", ""), ["solutions/two/web.sh:1: no host is called '': name the script N-HOST.sh"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(written: Written, spoil: Spoil, expected: list[str]) -> None:
    assert problems(written) == []
    spoil(written)
    assert sorted(problems(written)) == sorted(expected)


@pytest.mark.parametrize(
    "spoil",
    [
        plus("solutions/two/1-web.sh", "true\n"),
        plus("solutions/another.sh.j2", "echo {{ port }} {{ hosts.web.address }} {{ network }} {{ token('a') }}\n"),
        plus("setup/web/symptom.sh", "true\n"),
        plus("setup/web/files/etc/{{ service }}.conf", "{{ not a template }}"),
        plus("helpers.py", "def test_of_nothing():\n    pass\n"),
        change("test_lab.py", 'needs="test_it_answers"', 'needs=("test_it_answers",)'),
        change("test_lab.py", "import check", "import baseline, check\n\n\n@baseline\ndef seen():\n    return {}\n"),
        change("lab.toml", "[hosts.web]", '[hosts.db]\nmemory = "64m"\n\n[hosts.web]'),
    ],
)
def test_what_is_right_is_not_told(written: Written, spoil: Spoil) -> None:
    spoil(written)
    assert problems(written) == []


def test_what_a_candidate_could_not_do_is_no_solution(written: Written) -> None:
    written.change(
        "lab.toml", "[hosts.web]", '[hosts.web]\nmemory = "64m"\n\n[hosts.cloud]\nclosed = true\n\n[hosts.db]'
    )
    plus("solutions/two/1-cloud.sh", "true\n")(written)
    assert problems(written) == [
        "solutions/two/1-cloud.sh:1: cloud is closed: a candidate could not have done that there"
    ]


def test_every_problem_is_told_at_once(written: Written) -> None:
    for spoil in (without("brief.md.j2"), without("debrief.md.j2"), plus("setup/db/x", ""), plus("cheats/x.sh", "")):
        spoil(written)
    assert len(problems(written)) == 4


def test_without_a_grader_only_the_lab_is_looked_at(written: Written) -> None:
    import shutil

    shutil.rmtree(written.root / "graders")
    assert problems(written) == []
    (written.folder / "brief.md.j2").unlink()
    assert problems(written) == ["brief.md.j2:1: a lab needs a brief"]


def test_checks_are_read_without_running_the_file(written: Written) -> None:
    path = written.grader / "test_lab.py"
    with path.open("a", encoding="utf-8") as file:
        file.write("raise SystemExit\n")
    checks, wrong = linting.read_checks(path)
    assert wrong == []
    assert [(one.name, one.points, one.line) for one in checks][:2] == [
        ("test_it_answers", 40, 7), ("test_nothing_is_lost", 15, 14),
    ]  # fmt: skip
    assert checks[1].needs == ("test_it_answers",)
    assert checks[1].title == "Nothing is lost"
