"""How systemd boots here: the narrowest way that works, found out once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from breakfix.engine import profile
from breakfix.engine.profile import BY_NAME, NARROW, PRIVILEGED, WRITABLE, Profile, candidates, choose

if TYPE_CHECKING:
    from pathlib import Path

    from docker import APIClient

INFO = {"ID": "abc", "ServerVersion": "28.1", "KernelVersion": "6.1", "CgroupVersion": "2", "CgroupDriver": "systemd"}


class FakeApi:
    def __init__(self, **info: str) -> None:
        self._info = {**INFO, **info}

    def info(self) -> dict[str, str]:
        return self._info

    def version(self) -> dict[str, str]:
        return {"Version": self._info["ServerVersion"]}


def api(**info: str) -> APIClient:
    return cast("APIClient", FakeApi(**info))


class Trial:
    """Boots what it is told to; notes what was tried."""

    def __init__(self, *works: Profile) -> None:
        self.tried: list[str] = []
        self._works = works

    def __call__(self, one: Profile) -> bool:
        self.tried.append(one.name)
        return one in self._works


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "profiles.json"


@pytest.mark.parametrize(
    ("cgroups", "version", "expected"),
    [
        ("2", "28.0.1", (WRITABLE, PRIVILEGED)),
        ("2", "29.0.0-rc.1", (WRITABLE, PRIVILEGED)),
        ("2", "27.5.1", (PRIVILEGED,)),
        ("2", "dev", (PRIVILEGED,)),
        ("2", "", (PRIVILEGED,)),
        ("1", "28.0.1", (NARROW, PRIVILEGED)),
        ("1", "20.10.24+dfsg1", (NARROW, PRIVILEGED)),
    ],
)
def test_the_narrowest_comes_first(cgroups: str, version: str, expected: tuple[Profile, ...]) -> None:
    assert candidates({"CgroupVersion": cgroups}, {"Version": version}) == expected


def test_an_engine_that_says_nothing_gets_what_fits_old_ones() -> None:
    assert candidates({}, {}) == (NARROW, PRIVILEGED)


def test_the_first_that_boots_is_remembered(memory: Path) -> None:
    trial = Trial(WRITABLE, PRIVILEGED)
    assert choose(api(), memory, trial) is WRITABLE
    assert choose(api(), memory, trial) is WRITABLE
    assert trial.tried == ["writable-cgroups"]
    assert [one.name for one in memory.parent.iterdir()] == ["profiles.json"]


def test_a_last_resort_is_not_remembered(memory: Path) -> None:
    # Under load the narrow way may miss its deadline once; that must not weaken every session from then on.
    assert choose(api(), memory, Trial(PRIVILEGED)) is PRIVILEGED
    assert choose(api(), memory, Trial(WRITABLE)) is WRITABLE


def test_what_does_not_boot_is_not_remembered(memory: Path) -> None:
    assert choose(api(), memory, Trial()) is None
    assert not memory.exists()
    assert choose(api(), memory, Trial(PRIVILEGED)) is PRIVILEGED


@pytest.mark.parametrize("fact", INFO)
def test_a_changed_engine_is_tried_anew(memory: Path, fact: str) -> None:
    choose(api(), memory, Trial(WRITABLE))
    again = Trial(WRITABLE, NARROW)
    choose(api(**{fact: "99" if fact == "ServerVersion" else "1"}), memory, again)
    assert again.tried
    assert len(json.loads(memory.read_text(encoding="utf-8"))) == 2


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '"x"', "7", '{"a": 1}', '{"a": ["privileged"]}', '{"a": "no such"}', "\x00"]
)
def test_a_broken_memory_is_no_memory(memory: Path, content: str) -> None:
    memory.parent.mkdir()
    key = profile._engine_key(api())
    memory.write_text(content.replace('"a"', json.dumps(key)), encoding="utf-8")
    assert choose(api(), memory, Trial(WRITABLE)) is WRITABLE
    assert json.loads(memory.read_text(encoding="utf-8")) == {key: "writable-cgroups"}


def test_a_memory_that_is_no_text_is_no_memory(memory: Path) -> None:
    memory.parent.mkdir()
    memory.write_bytes(b"\xff\xfe")
    assert choose(api(), memory, Trial(WRITABLE)) is WRITABLE


def test_where_nothing_can_be_remembered_the_profile_still_counts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert choose(api(), tmp_path / "file" / "profiles.json", Trial(WRITABLE)) is WRITABLE


def test_only_the_last_resort_is_privileged_and_untrusted() -> None:
    for one in BY_NAME.values():
        config: dict[str, Any] = one.host_config("toy-1")
        assert bool(config.get("privileged")) == (one is PRIVILEGED)
        assert one.trusted == (one is not PRIVILEGED)


def test_the_narrow_way_may_write_to_the_sessions_own_groups_alone() -> None:
    config = NARROW.host_config("toy-1")
    writable = [bind for bind in config["binds"] if not bind.endswith(":ro")]
    assert config["cgroup_parent"] == "/breakfix-toy-1"
    assert len(writable) == 2
    assert all("/breakfix-toy-1:" in bind for bind in writable)
