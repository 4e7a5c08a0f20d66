"""The wheel alone, in an empty environment, plays a lab: labs, graders and image recipes are inside."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine

PROJECT = Path(__file__).parents[2]
LAB = "disk-full-deleted-log"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, install it into a new environment, and return its `breakfix`."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(PROJECT)], check=True)
    venv.create(folder / "venv", with_pip=True)
    wheel = next(folder.glob("breakfix-*.whl"))
    subprocess.run([str(folder / "venv/bin/pip"), "install", "--quiet", str(wheel)], check=True)
    return folder / "venv/bin/breakfix"


def breakfix(command: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command away from the checkout, with a home of its own."""
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    variables = {
        "HOME": str(home),
        "XDG_CACHE_HOME": cache,
        "PATH": "/usr/bin:/bin",
        "BREAKFIX_OWNER": f"wheel-{os.getpid()}",
        **{name: value for name, value in os.environ.items() if name.startswith("DOCKER_")},
    }
    return subprocess.run(
        [str(command), *arguments], cwd=home, env=variables, capture_output=True, text=True, check=False
    )


def test_it_lists_every_lab(installed: Path, tmp_path: Path) -> None:
    listed = breakfix(installed, tmp_path, "list").stdout
    ids = {path.parent.name for path in PROJECT.glob("labs/*/*/lab.toml")}
    assert ids
    assert {line.split()[0].rpartition("/")[2] for line in listed.splitlines()[1:]} == ids


def test_it_plays_a_lab(installed: Path, tmp_path: Path) -> None:
    started = breakfix(installed, tmp_path, "start", LAB, "--no-shell")
    try:
        assert started.returncode == 0, started.stderr
        graded = breakfix(installed, tmp_path, "grade", LAB)
        assert graded.returncode == 1, graded.stderr
        assert "Score 0 of 100" in graded.stdout
    finally:
        stopped = breakfix(installed, tmp_path, "stop", "--all")
    assert stopped.returncode == 0, stopped.stderr
    assert "No session runs" in breakfix(installed, tmp_path, "sessions").stdout


def test_it_is_typed(installed: Path) -> None:
    package = next((installed.parents[1] / "lib").glob("python*/site-packages/breakfix"))
    assert (package / "py.typed").is_file()
