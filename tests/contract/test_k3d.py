"""Labs in the cluster that k3d makes, where k3d is installed and a registry has the image of its nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from breakfix import environments
from breakfix.cluster import k3d, namespaces
from breakfix.cluster.api import Api
from breakfix.cluster.contexts import names
from breakfix.model import Outcome
from tests.stage import Stage, outcomes, quiet, told

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def k3ds(whole: Stage) -> Iterator[Stage]:
    """Return the stage of labs in k3d's cluster, which is made for the tests unless there is one."""
    if not k3d.installed():
        pytest.skip("k3d is not installed: that a lab starts, is graded and stops in its cluster stays unproven")
    was_there = k3d.exists()
    made = Stage("k3d", environments.load("k3d"), whole.engine, whole.catalog, whole.owner, whole.data)
    yield made
    made.stop()
    if not was_there:
        k3d.delete(quiet)


def test_red_mended_green_and_nothing_left(k3ds: Stage) -> None:
    before = names()
    session = k3ds.start("beacon", 3)
    assert session.environment == "k3d"
    made = k3ds.grade(session)
    assert outcomes(made)["test_it_is_seen"] is Outcome.FAILED, told(made)
    k3ds.solve(session)
    made = k3ds.grade(session, restart=True)
    assert made.passed, told(made)
    k3ds.environment.stop((session.id,))
    assert k3ds.environment.leftovers(session.id) == ()
    assert k3ds.engine.remains(session.id) == []
    assert namespaces.pieces(Api(k3d.kubeconfig()), session.id) == []
    assert names() == before
