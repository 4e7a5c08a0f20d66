"""What the node image holds ready, so that no cluster has to be given it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from breakfix import images, recipes
from breakfix.cluster.practice import PRACTICE, ensure
from tests.stage import quiet

if TYPE_CHECKING:
    from tests.stage import Stage

pytestmark = pytest.mark.engine

# What a container is given when it runs is not the image's, and how large a folder is, is the file system's.
LIST = r"""find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run \) -prune \
    -o -type d -printf '%p %m %U:%G\n' -o -printf '%p %m %U:%G %s %l\n' |
    grep -vE '^/(\.dockerenv|etc/(hostname|hosts|mtab|resolv\.conf)) ' | sort"""


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def ctr(*arguments: str) -> str:
    return run("docker", "exec", PRACTICE.control_plane, "ctr", "-n", "k8s.io", *arguments)


def in_the_node(image: str) -> dict[str, Any]:
    """Return how the node would run an image: containerd keeps the manifest, and that names the configuration."""
    manifest = ctr("images", "ls", f"name==docker.io/{image}").splitlines()[1].split()[2]
    config = json.loads(ctr("content", "get", manifest))["config"]["digest"]
    return dict(json.loads(ctr("content", "get", config))["config"])


def test_the_image_app_is_in_the_node_as_the_engine_has_it(practice: Stage) -> None:
    if images.node(quiet) is None:
        pytest.skip("a registry answers, so nodes are kind's own and our image is brought into them")
    images.ensure(("app",), quiet)
    ensure(quiet, lambda: any(practice.environment.sessions()))
    image = recipes.tag("app")
    wanted = json.loads(run("docker", "inspect", image))[0]["Config"]
    found = in_the_node(image)
    assert sorted(found["Env"]) == sorted(wanted["Env"])
    assert found["Cmd"] == wanted["Cmd"]
    assert not found.get("Entrypoint")
    assert not wanted.get("Entrypoint")
    assert found.get("User", "") == wanted.get("User", "")
    theirs = run("docker", "run", "--rm", "--network", "none", image, "/bin/sh", "-c", LIST).splitlines()
    here = ctr("run", "--rm", f"docker.io/{image}", "breakfix-tests", "/bin/sh", "-c", LIST).splitlines()
    assert len(theirs) > 1000
    assert here == theirs
