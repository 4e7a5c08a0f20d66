"""Fixtures of the suites that need an engine.  Nothing here touches a session that the tests did not begin."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from breakfix import environments
from breakfix.cluster.practice import PRACTICE
from breakfix.environments import existing
from breakfix.errors import NotReady

# pytest's importlib mode finds tests, not what stands beside them.
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "src")]

# A standby that nobody asked for would be made behind the tests' back; the tests of it ask.
os.environ["BREAKFIX_STANDBY"] = "off"

from tests import stage as stages  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from breakfix.model import Session

UNPROVEN = "no engine answers, so isolation, clean-up and grading of real hosts stay unproven here"


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stages.Stage]:
    """Return the stage of labs on hosts, which all tests share."""
    owner = f"tests-{secrets.token_hex(4)}"
    before = os.environ.get("BREAKFIX_OWNER")
    os.environ["BREAKFIX_OWNER"] = owner
    try:
        made = stages.load("docker", tmp_path_factory.mktemp("data"), owner)
    except NotReady as error:
        pytest.skip(f"{UNPROVEN}: {error.what}")
    yield made
    made.environment.stop(tuple(one.id for one in made.environment.sessions(owner) if one.owner == owner))
    if before is None:
        del os.environ["BREAKFIX_OWNER"]
    else:
        os.environ["BREAKFIX_OWNER"] = before


@pytest.fixture(scope="session")
def practice(whole: stages.Stage) -> Iterator[stages.Stage]:
    """Return the stage of labs in the practice cluster, which is brought up where it is not."""
    made = stages.Stage("kind", environments.load("kind"), stages.engine(), whole.catalog, whole.owner, whole.data)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def beacon(practice: stages.Stage) -> Session:
    """Return a session with namespaces of its own that no test changes."""
    return practice.start("beacon")


@pytest.fixture(scope="session")
def theirs(practice: stages.Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stages.Stage]:
    """Return the stage of labs in a cluster that somebody has: the practice cluster plays it, by its kubeconfig."""
    practice.environment.prepare(practice.lab("beacon"), stages.quiet)
    file = tmp_path_factory.mktemp("home") / "config"
    file.write_text((PRACTICE.folder / "kubeconfig.json").read_text(encoding="utf-8"), encoding="utf-8")
    before = os.environ.get("KUBECONFIG")
    os.environ["KUBECONFIG"] = str(file)
    found = existing.connect(f"kind-{PRACTICE.name}")
    made = stages.Stage("existing", found, stages.engine(), practice.catalog, practice.owner, practice.data)
    yield made
    made.stop()
    if before is None:
        del os.environ["KUBECONFIG"]
    else:
        os.environ["KUBECONFIG"] = before


@pytest.fixture(scope="session")
def guest(theirs: stages.Stage) -> Session:
    """Return a session in somebody's cluster that no test changes."""
    return theirs.start("beacon", 4)


@pytest.fixture
def stage(whole: stages.Stage) -> Iterator[stages.Stage]:
    """Return a stage whose sessions end with the test."""
    mine = stages.Stage(whole.name, whole.environment, whole.engine, whole.catalog, whole.owner, whole.data)
    yield mine
    mine.stop()


@pytest.fixture(scope="session")
def lamp(whole: stages.Stage) -> Session:
    """Return a session of one host that no test changes."""
    return whole.start("lamp")


@pytest.fixture(scope="session")
def pair(whole: stages.Stage) -> Session:
    """Return a session of two hosts that no test changes."""
    return whole.start("pair")
