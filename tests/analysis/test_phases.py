"""Steps of known parts, taken apart again: nothing here is timed."""

from __future__ import annotations

import random

import pytest
from support.phases import DISPATCH_S, IDLE_S, PARTS, STEP_S, readings

from bench.analysis.phases import overhead, split
from bench.schema.profile import CHAINS, Phase, Variant


@pytest.mark.parametrize("loop", CHAINS)
def test_known_parts_are_found_again_and_add_up(loop: str) -> None:
    found = split(loop, *readings(loop, rest_s=1e-4))
    assert found.step_s == pytest.approx(STEP_S + 1e-4)
    for name, seconds in PARTS.items():
        assert found.seconds(name) == pytest.approx(seconds)
    assert found.seconds(Phase.IDLE) == pytest.approx(IDLE_S)
    assert found.seconds(Phase.PYTHON) == pytest.approx(DISPATCH_S - IDLE_S)
    assert found.unexplained == pytest.approx(1e-4 / (STEP_S + 1e-4))
    assert [share.phase for share in found.shares] == list(Phase)
    assert sum(share.share for share in found.shares) == pytest.approx(1)
    assert sum(share.seconds for share in found.shares) == pytest.approx(found.step_s)


def test_the_batch_comes_first_only_where_nothing_runs_beside_the_step() -> None:
    assert CHAINS["compiled"].index(Variant.INPUT) == 1
    assert CHAINS["fit"][-1] is CHAINS["multistep"][-1] is Variant.INPUT


def test_slow_rounds_shift_nothing() -> None:
    """A third of the rounds takes five times as long, all variants alike."""
    found = split("fit", *readings("fit", slow=lambda number: 5.0 if number % 3 == 0 else 1.0))
    assert found.step_s == pytest.approx(STEP_S)
    for name, seconds in PARTS.items():
        assert found.seconds(name) == pytest.approx(seconds)


def test_what_is_explained_twice_is_shown_as_less_than_nothing() -> None:
    found = split("compiled", *readings("compiled", rest_s=-2e-4))
    assert found.seconds(Phase.UNEXPLAINED) == pytest.approx(-2e-4)
    assert sum(share.share for share in found.shares) == pytest.approx(1)


def test_a_process_on_more_than_one_core_was_not_idle() -> None:
    wall_s, cpu_s = readings("fit")
    cpu_s[Variant.DISPATCH] = [2 * seconds for seconds in wall_s[Variant.DISPATCH]]
    found = split("fit", wall_s, cpu_s)
    assert found.seconds(Phase.IDLE) == 0
    assert found.seconds(Phase.PYTHON) == pytest.approx(DISPATCH_S)


def test_quartiles_stand_beside_each_phase() -> None:
    draw = random.Random(1)
    found = split("fit", *readings("fit", 40, slow=lambda _: draw.uniform(0.9, 1.1)))
    for share in found.shares:
        if share.phase is not Phase.UNEXPLAINED:
            assert share.low <= share.seconds <= share.high
            assert share.low < share.high


@pytest.mark.parametrize("missing", [Variant.STEP, Variant.FORWARD, Variant.INPUT])
def test_a_variant_that_was_not_read_is_an_error(missing: Variant) -> None:
    wall_s, cpu_s = readings("multistep")
    del wall_s[missing]
    with pytest.raises(ValueError, match=f"{missing} 0"):
        split("multistep", wall_s, cpu_s)


def test_the_overhead_is_that_of_the_same_rounds() -> None:
    assert overhead([1.1, 2.2, 3.3], [1.0, 2.0, 3.0, 50.0]) == pytest.approx(0.1)
    assert overhead([], [1.0]) is None
