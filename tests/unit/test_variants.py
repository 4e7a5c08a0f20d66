"""What a seed stands for: the same today, on another machine and in ten years."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breakfix.model import Host
from breakfix.variants import _pick, draw

if TYPE_CHECKING:
    from breakfix.model import JsonValue, Variant

CHOICES: dict[str, tuple[JsonValue, ...]] = {
    "service": ("ledger", "courier", "atlas"),
    "port": (8080, 8181, 9090),
    "deep": (True, False),
}
# Never change these: submissions are graded again from their seed.
DRAWN = {
    1: ("courier", 9090, False),
    2: ("ledger", 8181, True),
    3: ("courier", 9090, False),
    999_999: ("atlas", 8080, False),
    -7: ("courier", 8080, False),
}


@pytest.mark.parametrize("seed", DRAWN)
def test_a_seed_draws_what_it_always_drew(variant: Variant, seed: int) -> None:
    lab = replace(variant.lab, id="linux/golden", variants=dict(CHOICES))
    assert tuple(draw(lab, seed).values.values()) == DRAWN[seed]


def test_tokens_are_what_they_always_were(variant: Variant) -> None:
    drawn = draw(replace(variant.lab, id="linux/golden"), 1)
    assert drawn.token("password", 24) == "1ecb14f650c091d613fdbabd"
    assert drawn.token("password") == "1ecb14f650c091d613fdbabd"[:16]
    assert len(drawn.token("password", 64)) == 64


def test_tokens_depend_on_lab_seed_and_name(variant: Variant) -> None:
    lab = variant.lab
    other = replace(lab, id="linux/other")
    tokens = {draw(one, seed).token(name) for one in (lab, other) for seed in (1, 2) for name in ("a", "b")}
    assert len(tokens) == 8


def test_tokens_depend_on_nothing_that_is_drawn(variant: Variant) -> None:
    moved = replace(variant, values={}, hosts={}, network="198.19.7.0/28")
    assert moved.token("a") == variant.token("a")


def test_a_draw_depends_on_the_names_not_on_their_order(variant: Variant) -> None:
    lab = replace(variant.lab, variants=dict(CHOICES))
    backwards = replace(lab, variants={key: CHOICES[key] for key in reversed(CHOICES)})
    assert draw(lab, 5).values == draw(backwards, 5).values


def test_a_draw_does_not_depend_on_the_other_choices(variant: Variant) -> None:
    alone = replace(variant.lab, variants={"service": CHOICES["service"]})
    more = replace(variant.lab, variants=dict(CHOICES))
    assert all(draw(alone, seed).service == draw(more, seed).service for seed in range(20))


def test_a_draw_does_not_depend_on_the_process() -> None:
    code = "from breakfix.variants import _pick; print([_pick(f'linux/x/{n}/s', (0, 1, 2, 3, 4)) for n in range(50)])"
    here = [_pick(f"linux/x/{n}/s", (0, 1, 2, 3, 4)) for n in range(50)]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stdout.strip() == str(here)


@given(st.integers(), st.lists(st.integers(), min_size=1, max_size=9))
def test_what_is_drawn_is_one_of_the_choices(seed: int, choices: list[int]) -> None:
    assert _pick(f"linux/x/{seed}/key", tuple(choices)) in choices


def test_every_choice_is_drawn_about_as_often_as_the_others() -> None:
    drawn = [_pick(f"linux/x/{seed}/key", ("a", "b", "c")) for seed in range(3000)]
    assert all(900 < drawn.count(one) < 1100 for one in "abc")


def test_hosts_and_network_are_handed_on(variant: Variant) -> None:
    hosts = {"web": Host("web", "192.0.2.9")}
    drawn = draw(variant.lab, 1, hosts, "192.0.2.0/28")
    assert (drawn.hosts, drawn.network, drawn.seed) == (hosts, "192.0.2.0/28", 1)
    assert draw(variant.lab, 1).hosts == {}
