"""One record in, many renderers out: byte for byte what the golden files promise.

Golden files are written anew only when asked for: ``BREAKFIX_UPDATE_GOLDEN=1 pytest tests/unit/test_reports.py``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from breakfix.errors import UsageError
from breakfix.model import Check, Event, Grade, Level, Look, Outcome, Result
from breakfix.reports import FORMATS, as_json, github, html, junit, markdown, me, render, skillmap, tap, text, timeline
from breakfix.reports.evidence import LIMIT, clean, cleaned, one_line
from breakfix.reports.record import Report, grade_from_json, grade_to_json, to_json_value
from breakfix.skills import SKILLS, SkillRecord

GOLDEN = Path(__file__).parent / "golden"
AT = datetime(2026, 3, 2, 9, 14, 7, tzinfo=UTC)
HOSTILE = (
    "<script>alert(1)</script> \x1b[2J\x1b[31mred ]]> %0A::error::owned [bold red]markup[/] :smile:\n"
    "::warning::second line\r\n\"quoted\" & 'more' \u202egnp.exe \udcff \x00 \x9b31m {{ 7*7 }} # SKIP <!-- --> ..."
)
DEBRIEF = """# What happened

A *deleted* log was still **open**, so `df` and `du` disagreed.

1. `lsof +L1` names the process.
2. Restart it, or truncate the file
   below /proc.

```sh
: > /proc/"$pid"/fd/3   # <no restart>
```

3. Then cap the log.

- See [the manual](https://man7.org/linux/man-pages/man8/lsof.8.html).
- Not a link: [here](javascript:alert(1)) <img src=x onerror=alert(2)>
"""


def parsed(xml: str) -> ET.Element:
    return ET.fromstring(xml)  # noqa: S314  # we wrote it


def golden(name: str, made: str) -> None:
    path = GOLDEN / name
    if os.environ.get("BREAKFIX_UPDATE_GOLDEN") == "1":
        path.write_bytes(made.encode())
    assert made.encode() == path.read_bytes(), f"{name} has changed; look at the difference before you update it"


SPACE = Check("test_space_is_back", "The file system has room again", 3, "linux.filesystems")
LOG = Check("test_log", "The ledger still writes its log", 3, "linux.services", stable_for=5.0)
PORT = Check("test_port", "The ledger answers on its port", 2, "linux.services", needs=("test_log",))
KEPT = Check("test_data", "No booking was lost", 4, "linux.filesystems", needs=("test_log", "test_space_is_back"))
EVENTS = tuple(
    Event("s-4f2a", AT - timedelta(minutes=before), kind, detail)
    for before, kind, detail in (
        (17.5, "start", "linux/disk-full-deleted-log, seed 3"),
        (9, "hint", "hint 1, costs 1"),
        (6.25, "grade", "3 of 12"),
        (0, "grade", "8 of 12"),
    )
)


def result(check: Check, outcome: Outcome, expected: str = "", seen: str = "", look: Look = Look.FIRST) -> Result:
    return Result(check, outcome, look, expected, seen, AT + timedelta(seconds=2), 0.125)


def report(*results: Result, debrief: str | None = None, **changes: object) -> Report:
    grade = Grade("linux/disk-full-deleted-log", "The disk is full", 3, "s-4f2a", results, AT, 9.5, 2.25)
    title = "The disk is full, and nothing is on it"
    skills = ("linux.filesystems", "linux.services")
    return Report(replace(grade, **changes), title, Level.MID, 20, skills, EVENTS, debrief, "0.1.0")  # type: ignore[arg-type]


@pytest.fixture
def passed() -> Report:
    used = result(SPACE, Outcome.PASSED, "less than 60 % used", "12 % used")
    restarted = result(KEPT, Outcome.PASSED, "1000 bookings", "1000 bookings", Look.RESTARTED)
    return report(used, result(LOG, Outcome.PASSED), restarted, debrief=DEBRIEF, hints_taken=1, hint_cost=1)


@pytest.fixture
def failed() -> Report:
    used = result(SPACE, Outcome.PASSED, "less than 60 % used", "12 % used")
    log = result(LOG, Outcome.FAILED, "/var/log/ledger.log grows", "no new line in 5 s\nlast: 08:31:02 booking 77")
    return report(
        used, log, result(PORT, Outcome.SKIPPED), result(KEPT, Outcome.SKIPPED), hints_taken=2, hint_cost=3,
        integrity=("the agent of the grading shell was stopped for 40 s",), profile="strict",
    )  # fmt: skip


@pytest.fixture
def broken() -> Report:
    lost = result(SPACE, Outcome.ERROR, "less than 60 % used", "host web had no answer in 10 s")
    log = result(LOG, Outcome.FAILED, "/var/log/ledger.log grows", "no new line in 5 s")
    return report(lost, log, result(PORT, Outcome.PASSED), result(KEPT, Outcome.SKIPPED))


@pytest.fixture
def hostile() -> Report:
    return hostile_report(HOSTILE)


def hostile_report(words: str) -> Report:
    check = Check("test_" + words, words, 1, "linux." + words, needs=(words,))
    results = [result(replace(check, name=f"{words}{o}"), o, words, words + "x" * LIMIT) for o in Outcome]
    made = report(*results, debrief=words, integrity=(words,), lab=words, session=words, profile=words, title=words)
    return replace(made, lab_title=words, skills=(words,), events=(Event("s", AT, words, words),))


# What each format promises


def test_text_when_everything_passed(passed: Report) -> None:
    golden("all_passed_and_what_the_hint_cost.txt", text.render(passed))


def test_text_when_one_failed(failed: Report) -> None:
    golden("a_skipped_check_names_what_it_needs.txt", text.render(failed))


def test_text_when_we_could_not_look(broken: Report) -> None:
    golden("error_is_not_a_failure.txt", text.render(broken))


def test_text_when_hostile(hostile: Report) -> None:
    golden("hostile_text_cannot_drive_a_terminal.txt", text.render(hostile))


def test_json_has_everything(failed: Report) -> None:
    golden("every_field_in_its_order.json", as_json.render(failed))


def test_json_when_hostile(hostile: Report) -> None:
    golden("hostile_text_is_cut_and_visible.json", as_json.render(hostile))


def test_junit_when_everything_passed(passed: Report) -> None:
    golden("points_and_skill_are_properties.junit.xml", junit.render(passed))


def test_junit_tells_three_kinds_apart(broken: Report) -> None:
    golden("failure_error_and_skipped_are_three_things.junit.xml", junit.render(broken))


def test_junit_when_hostile(hostile: Report) -> None:
    golden("hostile_text_stays_in_its_element.junit.xml", junit.render(hostile))


def test_tap_when_everything_passed(passed: Report) -> None:
    golden("all_passed.tap", tap.render(passed))


def test_tap_when_one_failed(failed: Report) -> None:
    golden("skipped_is_not_ok.tap", tap.render(failed))


def test_tap_when_we_could_not_look(broken: Report) -> None:
    golden("error_is_not_a_failure.tap", tap.render(broken))


def test_tap_when_hostile(hostile: Report) -> None:
    golden("hostile_text_makes_no_directive.tap", tap.render(hostile))


def test_github_when_everything_passed(passed: Report) -> None:
    golden("all_passed_is_one_notice.github.txt", github.render(passed))


def test_github_when_one_failed(failed: Report) -> None:
    golden("failed_is_an_error_and_skipped_a_warning.github.txt", github.render(failed))


def test_github_when_we_could_not_look(broken: Report) -> None:
    golden("error_is_only_a_warning.github.txt", github.render(broken))


def test_github_when_hostile(hostile: Report) -> None:
    golden("hostile_text_makes_no_command.github.txt", github.render(hostile))


def test_html_when_everything_passed(passed: Report) -> None:
    golden("passed_with_debrief.html", html.render(passed))


def test_html_when_one_failed(failed: Report) -> None:
    golden("one_failed_and_its_dependents_skipped.html", html.render(failed))


def test_html_when_we_could_not_look(broken: Report) -> None:
    golden("error_gives_no_score.html", html.render(broken))


def test_html_when_hostile(hostile: Report) -> None:
    golden("hostile_text_stays_text.html", html.render(hostile))


RECORDS = {
    "linux.services": SkillRecord(3, 0, ("linux/a", "linux/b")),
    "linux.filesystems": SkillRecord(3, 1, ("linux/a",)),
    "linux.processes": SkillRecord(0, 2, ("linux/b",)),
    "linux.permissions": SkillRecord(0, 0, ("linux/b",)),
    "vendor.<b>own</b>": SkillRecord(1, 0, ("vendor/<i>x</i>",)),
}


def test_skill_map() -> None:
    golden("shown_green_missed_red_unproven_outlined.svg", skillmap.svg(RECORDS))


def test_page_of_one_person() -> None:
    golden("skills_of_one_person.html", me.render(RECORDS, {"linux/a", "linux/b"}))


def test_table_of_one_person() -> None:
    golden("skills_of_one_person.txt", me.render_text(RECORDS, {"linux/a", "linux/b"}))


# Verdicts are honest


def test_every_format_has_a_renderer(passed: Report) -> None:
    assert {render(passed, form) for form in FORMATS} == {
        made.render(passed) for made in (text, as_json, junit, tap, github, html)
    }


def test_an_unknown_format_names_those_that_exist(passed: Report) -> None:
    with pytest.raises(UsageError, match="text, json, junit, tap, github, html"):
        render(passed, "pdf")


def test_junit_counts_agree_with_its_cases(broken: Report) -> None:
    suite = parsed(junit.render(broken))[0]
    for attribute, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert suite.get(attribute) == str(len(list(suite.iter(tag)))) != "0"


@pytest.mark.parametrize(
    ("form", "proof"),
    [
        ("junit", '<error message="Not graded'),
        ("tap", "Bail out! Not graded"),
        ("github", "Not graded"),
        ("text", "Not graded"),
        ("html", "Not graded"),
        ("json", '"gradable": false'),
    ],
)
def test_a_grade_without_a_check_is_never_green(form: str, proof: str) -> None:
    assert proof in render(report(), form)


def test_only_what_passed_is_ok_in_tap(broken: Report, failed: Report) -> None:
    for made in (broken, failed):
        lines = [line for line in tap.render(made).splitlines() if re.match(r"(not )?ok ", line)]
        expected = [r.outcome is Outcome.PASSED for r in made.grade.results]
        assert [line.startswith("ok") for line in lines] == expected
        assert not any(re.search(r"(?<!\\)#", line) for line in lines)


def test_hundred_percent_means_everything() -> None:
    many = Check("test_many", "Nearly all", 999, "linux.services")
    made = report(result(many, Outcome.PASSED), result(replace(many, name="test_one", points=1), Outcome.FAILED))
    assert ">99%<" in html.render(made)


def test_a_need_that_passed_is_not_named() -> None:
    page = text.render(
        report(result(SPACE, Outcome.PASSED), result(LOG, Outcome.FAILED), result(KEPT, Outcome.SKIPPED))
    )
    assert "it needs “The ledger still writes its log”." in page


def test_next_step_follows_from_the_grade(passed: Report, failed: Report, broken: Report) -> None:
    assert "Next: `breakfix hint`" in text.render(failed)
    assert "Next: `breakfix grade`" in text.render(broken)
    assert "Next: `breakfix debrief`" in text.render(replace(passed, debrief=None))
    assert "Next: `breakfix stop`" in text.render(passed)


def test_the_debrief_is_given_only_where_it_is(passed: Report) -> None:
    assert "<h2>Debrief</h2>" in html.render(passed)
    assert "Debrief" not in html.render(replace(passed, debrief=None))


def test_colours_say_what_happened(broken: Report) -> None:
    shown = in_a_terminal(broken)
    for mark, colour in (("✓", 32), ("✗", 31), ("?", 33)):
        assert f"\x1b[{colour}m{mark}" in shown
    assert "\x1b[33mCould not look. That never counts against the candidate." in shown


def test_plain_text_keeps_to_eighty_columns(failed: Report, hostile: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")
    for made in (failed, hostile):
        lines = text.render(made).splitlines()
        assert max(map(len, lines)) <= 80
        assert "\x1b" not in "".join(lines)


def in_a_terminal(made: Report) -> str:
    out = StringIO()
    Console(file=out, width=100, force_terminal=True, color_system="standard", no_color=False).print(
        text.renderable(made)
    )
    return out.getvalue()


# A grade travels unchanged

WORDS = st.text(st.characters(exclude_categories=()), max_size=40)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=9)), None])
TIMES = st.builds(lambda at, zone: at.replace(tzinfo=zone, fold=0), st.datetimes(), ZONES)
TUPLES = st.lists(WORDS, max_size=3).map(tuple)
CHECKS = st.builds(Check, WORDS, WORDS, st.integers(), WORDS, TUPLES, NUMBERS)
RESULTS = st.builds(Result, CHECKS, st.sampled_from(Outcome), st.sampled_from(Look), WORDS, WORDS, TIMES, NUMBERS)
GRADES = st.builds(
    Grade, lab=WORDS, title=WORDS, seed=st.integers(), session=WORDS, results=st.lists(RESULTS, max_size=4).map(tuple),
    started=TIMES, seconds=NUMBERS, engine_seconds=NUMBERS, hints_taken=st.integers(), hint_cost=st.integers(),
    integrity=TUPLES, profile=WORDS,
)  # fmt: skip


@given(GRADES)
@settings(deadline=None)
def test_a_grade_goes_to_json_and_back_unchanged(grade: Grade) -> None:
    back = grade_from_json(json.loads(json.dumps(grade_to_json(grade))))
    assert back == grade
    assert repr(back) == repr(grade)


def test_the_json_report_holds_a_grade_that_can_be_read(failed: Report) -> None:
    document = json.loads(as_json.render(failed))
    assert document == to_json_value(failed)
    assert document["schema_version"] == 1
    assert grade_from_json(document["grade"]) == failed.grade


def test_points_in_a_document_are_never_believed(failed: Report) -> None:
    document = grade_to_json(failed.grade)
    document.update(score=999, passed=True, earned=999)
    assert grade_from_json(document) == failed.grade


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2},
        {"schema_version": None},
        {"seed": "3"},
        {"seed": True},
        {"results": {}},
        {"results": [{"check": "x"}]},
        {"started": "yesterday"},
        {"integrity": "text"},
    ],
)
def test_what_is_no_grade_is_a_usage_error(failed: Report, change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        grade_from_json({**grade_to_json(failed.grade), **change})  # type: ignore[dict-item]


@pytest.mark.parametrize("value", [None, [], "grade", {}])
def test_something_else_is_a_usage_error(value: None) -> None:
    with pytest.raises(UsageError, match="not a grade"):
        grade_from_json(value)


# Nothing from a candidate's machine gets through


def test_control_characters_become_visible() -> None:
    assert clean("a\x1b[31m\x00\x7f\x9b\r\nb\tc\rd") == "a␛[31m␀␡\ufffd\nb\tc␍d"
    assert clean("\u202eevil\u200b\ufeff\ud800\uffff\u2028") == "\ufffdevil\ufffd\ufffd\ufffd\ufffd "


def test_long_text_says_how_much_is_missing() -> None:
    assert clean("x" * LIMIT) == "x" * LIMIT
    assert clean("x" * (LIMIT + 1)) == "x" * LIMIT + "… (1 more character)"
    assert clean("x" * (LIMIT + 345)) == "x" * LIMIT + "… (345 more characters)"


def test_one_line_is_one_line() -> None:
    assert one_line(" a\n\n b\tc ") == "a b c"


def test_every_text_of_a_report_is_cleaned() -> None:
    made = cleaned(hostile_report("a\x1b\nb"))
    assert "\\x1b" not in repr(made)
    assert "\\u001b" not in json.dumps(to_json_value(made))


def test_rich_markup_is_text(hostile: Report) -> None:
    shown = text.render(hostile)
    assert "[bold red]markup[/]" in shown
    assert ":smile:" in shown


def test_a_terminal_gets_no_escape_but_ours(hostile: Report) -> None:
    escapes = set(re.findall(r"\x1b\[[^m]*m?", in_a_terminal(hostile)))
    assert escapes <= {f"\x1b[{code}m" for code in ("0", "1", "2", "31", "32", "33", "1;33", "1;35")}


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]


@pytest.fixture
def pages(passed: Report, failed: Report, hostile: Report) -> list[str]:
    return [html.render(passed), html.render(failed), html.render(hostile), me.render(RECORDS, ["linux/a"])]


def test_pages_load_nothing(pages: list[str]) -> None:
    for page in pages:
        tags = Tags(page)
        assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(tags.names)
        assert not [found for found in tags.attributes if found[1] in ("src", "srcset", "xlink:href", "data", "action")]
        assert {tag for tag, name, _ in tags.attributes if name == "href"} <= {"a"}
        assert not [found for found in tags.attributes if found[1].startswith("on")]
        assert "default-src 'none'" in page
        styles = "".join(re.findall(r"<style>.*?</style>", page, re.DOTALL))
        assert "url(" not in styles
        assert "@import" not in styles


def test_drawings_are_well_formed(passed: Report, hostile: Report) -> None:
    for drawing in (
        skillmap.svg(RECORDS),
        skillmap.svg({}),
        timeline.svg(cleaned(passed)),
        timeline.svg(cleaned(hostile)),
    ):
        assert parsed(drawing).tag.endswith("svg")


def test_every_skill_is_on_the_map() -> None:
    tips = [tip.text or "" for tip in parsed(skillmap.svg({})).iter("{http://www.w3.org/2000/svg}title")]
    assert sorted(tip.partition(":")[0] for tip in tips) == sorted(SKILLS)


@given(st.text(st.characters(exclude_categories=()), max_size=60))
@settings(deadline=None, max_examples=15)
def test_no_text_breaks_out_of_any_format(words: str) -> None:
    made = hostile_report(words)
    for form in FORMATS:
        page = render(made, form)
        page.encode()
        assert all(c in "\n\t" or c.isprintable() for c in page), form
    assert len(github.render(made).splitlines()) == 3 + 1 + 1
    assert all(line.startswith("::") for line in github.render(made).splitlines())
    parsed(junit.render(made))
    assert len(re.findall(r"^(?:not )?ok ", tap.render(made), re.MULTILINE)) == len(Outcome)
    for line in re.findall(r"^  \w+: (.*)$", tap.render(made), re.MULTILINE):
        json.loads(line)
    assert json.loads(as_json.render(made))["grade"]["gradable"] is False


@given(st.text(st.sampled_from("<>&\"'/ab=`*[]()#\n -{}%"), max_size=80))
@settings(deadline=None, max_examples=20)
def test_no_text_becomes_a_tag(words: str) -> None:
    plain, tried = (Tags(html.render(replace(hostile_report(w), debrief=None))) for w in ("a", "a" + words))
    assert set(tried.names) <= set(plain.names) | {"dl", "dt", "dd", "pre"}
    assert tried.names.count("article") == plain.names.count("article")
    assert {(tag, name) for tag, name, _ in tried.attributes} == {(tag, name) for tag, name, _ in plain.attributes}


# Markdown of a debrief


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("# One\n## Two", "<h3>One</h3>\n<h4>Two</h4>"),
        ("a\nb\n\nc", "<p>a b</p>\n<p>c</p>"),
        ("```sh\na <b\n\n  c\n```", "<pre><code>a &lt;b\n\n  c</code></pre>"),
        ("```\nnever closed", "<pre><code>never closed</code></pre>"),
        ("- a\n- b\n  more\n\n- c", "<ul><li>a</li><li>b more</li><li>c</li></ul>"),
        ("1. a\n2) b", "<ol><li>a</li><li>b</li></ol>"),
        ("3. c", '<ol start="3"><li>c</li></ol>'),
        ("`a<b` **c `d`**", "<p><code>a&lt;b</code> <strong>c <code>d</code></strong></p>"),
        ("*a* of *.log and *.txt, 2 * 3 * 4", "<p><em>a</em> of *.log and *.txt, 2 * 3 * 4</p>"),
        ("`[a](http://b)`", "<p><code>[a](http://b)</code></p>"),
        ("[`a`](http://b)", '<p><a href="http://b" rel="noopener noreferrer"><code>a</code></a></p>'),
        ("[a](javascript:b)", "<p>[a](javascript:b)</p>"),
        ('[a](http://b"onclick=c)', "<p>[a](http://b&quot;onclick=c)</p>"),
        ("<b>&amp;", "<p>&lt;b&gt;&amp;amp;</p>"),
        ("", ""),
    ],
)
def test_markdown(written: str, made: str) -> None:
    assert markdown.to_html(written) == made


@given(st.text(st.sampled_from("<>&\"'/ahtp:=`*[]()#\n -1.~"), max_size=120))
@settings(deadline=None)
def test_markdown_makes_no_tag_of_its_own(written: str) -> None:
    made = Tags(markdown.to_html(written))
    allowed = {"h3", "h4", "h5", "h6", "p", "pre", "code", "ul", "ol", "li", "strong", "em", "a"}
    assert set(made.names) <= allowed
    assert {name for _, name, _ in made.attributes} <= {"href", "rel", "start"}
    assert all(value.startswith(("http://", "https://")) for _, name, value in made.attributes if name == "href")


# The timeline


def test_the_grade_is_on_the_timeline_even_if_nobody_recorded_it(passed: Report) -> None:
    happened = timeline.moments(replace(passed, events=EVENTS[:1]))
    assert [(moment.clock, moment.event.kind) for moment in happened] == [("0:00", "start"), ("17:30", "grade")]


def test_the_time_used_ends_with_the_grade(passed: Report) -> None:
    assert timeline.used(passed) == "17:30"
    assert timeline.used(replace(passed, events=())) is None
    long = replace(passed, events=(Event("s", AT - timedelta(hours=2, seconds=5), "start", ""),))
    assert timeline.used(long) == "2:00:05"


@pytest.mark.parametrize("days", [0, 1, 40, 4000])
def test_the_scale_stays_readable(passed: Report, days: int) -> None:
    late = Event("s", AT + timedelta(days=days), "stop", "")
    drawing = parsed(timeline.svg(replace(passed, events=(*EVENTS, late))))
    marks = [t for t in drawing.iter("{http://www.w3.org/2000/svg}text") if re.match(r"\d", t.text or "")]
    assert 2 <= len(marks) <= 9


def test_a_long_timeline_is_cut(passed: Report) -> None:
    events = tuple(Event("s", AT + timedelta(seconds=n), "grade", f"look {n}") for n in range(60))
    page = html.render(replace(passed, events=events))
    assert "and 20 more" in page
    assert page.count("<tr><td") == 41


# The command line starts fast


def test_nothing_heavy_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, importlib, breakfix.reports as r, breakfix.history\n"
        "for module in r.FORMATS.values(): importlib.import_module(module)\n"
        "print(sorted({'rich', 'jinja2', 'markupsafe', 'sqlite3', 'platformdirs'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
