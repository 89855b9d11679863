"""Collectives are told from other operations by the names that the profilers give them."""

from __future__ import annotations

import pytest

from bench.analysis.collectives import collectives_share
from bench.analysis.trace_events import Operation


def operation(name: str, share: float) -> Operation:
    return Operation(name, "XLA", None, 1, 1.0, share, share, None)


@pytest.mark.parametrize(
    "name",
    [
        "all-reduce.3",
        "all-reduce-start",
        "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
        "gloo:all_reduce",
        "c10d::allreduce_",
        "NcclAllReduce",
        "CollectiveReduceV2",
        "reduce-scatter",
    ],
)
def test_a_collective_of_each_framework_counts(name: str) -> None:
    assert collectives_share([operation(name, 0.25), operation("dot.1", 0.75)]) == 0.25


@pytest.mark.parametrize("name", ["reduce.3", "fusion", "BiasAddGrad", "gather", "MatMul"])
def test_other_operations_are_no_collectives(name: str) -> None:
    assert collectives_share([operation(name, 1.0)]) is None
