"""Made-up traces of operations that hand parts to other threads."""

from __future__ import annotations

from typing import Any

import pytest
from support.traces import ran

from bench.analysis.hlo import HloInstruction
from bench.analysis.trace_ends import beyond, end_of, ends, merged
from bench.analysis.trace_events import operations

REGION = "ThreadpoolListener::Region"


def op(name: str, start: int, length: int, flow: int, tid: int = 1) -> dict[str, Any]:
    """An operation of XLA, whose flow it begins: the low bits say in which direction."""
    return ran(name, start, length, tid, hlo_op=name, flow=str(4 * flow + 2))


def ended(name: str, at: float, flow: int, tid: int = 1) -> dict[str, Any]:
    return ran(f"end: {name}", at, 0.1, tid, flow=str(4 * flow + 1))


def found(operations: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[float]:
    events = [*operations, *others]
    return beyond(operations, events, ends(events))


def test_an_operation_lasts_until_its_end_and_counts_the_threads_that_help() -> None:
    """A product of 10 us on its own thread; others go on until 50 us, with a pause of 2."""
    dot = op("dot.1", 0, 10, 7)
    others = [ended("dot.1", 50, 7, tid=2), ran(REGION, 5, 25, 2), ran(REGION, 32, 18, 1)]
    events = [dot, *others]
    assert end_of(dot, ends(events)) == 50
    assert found([dot], others) == pytest.approx([38])
    (told,) = operations(events, {"dot.1": HloInstruction("", 480)})
    assert told.total_s == pytest.approx(50e-6)
    assert told.self_s == pytest.approx(48e-6)
    assert told.flops_per_s == pytest.approx(480 / 48e-6)


def test_what_ends_with_its_event_has_nothing_beyond() -> None:
    add = op("add.1", 0, 10, 7)
    assert found([add], [ended("add.1", 10.2, 7), ran(REGION, 20, 9, 2)]) == [0]
    assert found([add], [ran(REGION, 0, 99, 2)]) == [0]
    assert end_of(add, {}) == 10


def test_operations_that_are_under_way_together_share_the_time() -> None:
    first, second = op("dot.1", 0, 10, 1), op("dot.2", 10, 10, 2)
    others = [ended("dot.1", 40, 1), ended("dot.2", 60, 2), ran(REGION, 20, 40, 2)]
    assert found([first, second], others) == pytest.approx([10, 10 + 20])


def test_a_region_with_an_operation_in_it_helps_nobody_meanwhile() -> None:
    dot, add = op("dot.1", 0, 10, 1), op("add.2", 25, 10, 2, tid=2)
    others = [ended("dot.1", 50, 1), ran(REGION, 20, 30, 2)]
    assert found([dot, add], others) == pytest.approx([5 + 15, 0])


def test_a_loop_is_open_all_the_time_and_takes_nothing_from_what_it_holds() -> None:
    loop, dot = op("while.1", 0, 5, 1), op("dot.2", 5, 10, 2)
    others = [ended("while.1", 100, 1), ended("dot.2", 45, 2), ran(REGION, 15, 30, 2)]
    hlo = {"while.1": HloInstruction("", 0, holds_others=True)}
    told = {o.name: o for o in operations([loop, dot, *others], hlo)}
    assert told["dot.2"].self_s == pytest.approx(40e-6)
    assert told["while.1"].self_s == pytest.approx(5e-6)
    assert told["while.1"].total_s == pytest.approx(100e-6)


def test_intervals_are_merged() -> None:
    assert merged([(5, 6), (0, 2), (1, 3), (6, 8)]) == [(0, 3), (5, 8)]
