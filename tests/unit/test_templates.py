"""What an author wrote is filled in, or the file and the line are named; nothing is guessed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from breakfix import templates
from breakfix.errors import InvalidLab

if TYPE_CHECKING:
    from pathlib import Path

    from breakfix.model import Variant


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{{ service }}:{{ port }}", "courier:9090"),
        ("{{ hosts.web.address }} {{ hosts['db'].name }}", "192.0.2.2 db"),
        ("{{ network }} {{ seed }} {{ lab.title }}", "192.0.2.0/28 1 A toy that is broken"),
        ("{% for n in range(3) %}{{ n }}{% endfor %}", "012"),
        ("a <b> & \"c\" '{{ '<&>' }}'", "a <b> & \"c\" '<&>'"),
        ("last line\n", "last line\n"),
        ("no last line", "no last line"),
        ("", ""),
    ],
)
def test_a_template_is_filled_in(variant: Variant, tmp_path: Path, text: str, rendered: str) -> None:
    values = {**variant.values, "service": "courier", "port": 9090}
    variant.values.update(values)
    assert templates.render(text, variant, tmp_path / "x.j2") == rendered


def test_tokens_are_those_of_the_variant(variant: Variant, tmp_path: Path) -> None:
    assert templates.render("{{ token('a', 24) }}", variant, tmp_path) == variant.token("a", 24)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("one\ntwo {{ colour }}\n", 2, "'colour' is undefined"),
        ("one\n\n{{ hosts.mail.address }}", 3, "no attribute 'mail'"),
        ("{{ lab.colour }}", 1, "no attribute 'colour'"),
        ("{{ service.colour }}", 1, "no attribute 'colour'"),
        ("one\n{% if colour %}x{% endif %}", 2, "'colour' is undefined"),
        ("one\n{% for x in y %}\n", 2, "Unexpected end of template"),
        ("one\ntwo\n{{ service ", 3, "unexpected end of template"),
        ("{{ service | nonesuch }}", 1, "No filter named 'nonesuch'"),
        ("one\n{{ port / 0 }}", 2, "ZeroDivisionError"),
        ("one\ntwo\n{{ service + 1 }}", 3, "TypeError"),
        ("{{ token() }}", 1, "TypeError"),
        ("one\n{% include 'secret' %}", 2, "TypeError"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(
    variant: Variant, tmp_path: Path, text: str, line: int, message: str
) -> None:
    path = tmp_path / "break.sh.j2"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidLab) as caught:
        templates.read(path, variant)
    (problem,) = caught.value.problems
    assert (problem.path, problem.line) == (path, line)
    assert message in problem.message


def test_only_what_is_called_a_template_is_one(variant: Variant, tmp_path: Path) -> None:
    path = tmp_path / "break.sh"
    path.write_text("echo {{ colour }}", encoding="utf-8")
    assert templates.read(path, variant) == "echo {{ colour }}"


def test_what_is_no_text_is_named(variant: Variant, tmp_path: Path) -> None:
    path = tmp_path / "break.sh.j2"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(InvalidLab) as caught:
        templates.read(path, variant)
    assert caught.value.problems[0].path == path
    assert caught.value.problems[0].message.startswith("not UTF-8")


def test_a_script_is_found_as_it_is_or_as_a_template(tmp_path: Path) -> None:
    assert templates.find(tmp_path, "break.sh") is None
    (tmp_path / "break.sh.j2").touch()
    assert templates.find(tmp_path, "break.sh") == tmp_path / "break.sh.j2"
    (tmp_path / "break.sh").touch()
    assert templates.find(tmp_path, "break.sh") == tmp_path / "break.sh"
    (tmp_path / "files").mkdir()
    assert templates.find(tmp_path, "files") is None


@pytest.mark.parametrize(("name", "target"), [("a.conf.j2", "a.conf"), ("a.conf", "a.conf"), ("a.j2.bak", "a.j2.bak")])
def test_a_template_is_rendered_to_its_name_without_the_suffix(tmp_path: Path, name: str, target: str) -> None:
    assert templates.target_name(tmp_path / name) == target
