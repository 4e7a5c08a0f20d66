"""The documents speak of what is there: files that they link to, commands and options that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from breakfix.cli.app import app

PROJECT = Path(__file__).parents[2]
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_is_linked_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_is_typed_exists(document: Path) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    text = document.read_text(encoding="utf-8")
    typed = re.findall(r"(?:^\$ |`|^)breakfix ([a-z]+)", text, flags=re.MULTILINE)
    assert [name for name in typed if name not in commands] == []


def test_no_address_is_in_the_lock() -> None:
    lock = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
    assert "==" in lock
    assert "://" not in lock
