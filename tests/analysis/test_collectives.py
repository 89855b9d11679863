"""Collectives are told from other operations by the names that the profilers give them."""

from __future__ import annotations

import pytest

from bench.analysis.collectives import collectives_share
from bench.analysis.trace_events import Operation

KERNEL = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
TENSORFLOW = "cond/CollectiveReduceV2_1 (CollectiveReduceV2)"


def operation(name: str, share: float, kind: str = "XLA") -> Operation:
    return Operation(name, kind, None, 1, 2 * share, 2 * share, share, None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("all-reduce.3", "XLA"),
        ("all-reduce-start", "XLA"),
        ("reduce-scatter", "XLA"),
        (TENSORFLOW, "TensorFlow"),
        ("NcclAllReduce", "TensorFlow"),
    ],
)
def test_a_collective_of_each_framework_counts(name: str, kind: str) -> None:
    assert collectives_share([operation(name, 0.25, kind), operation("dot.1", 0.75)]) == 0.25


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("reduce.3", "XLA"),
        ("fusion", "XLA"),
        ("gather", "XLA"),
        ("BiasAddGrad", "TensorFlow"),
        ("own/collective_filter/MatMul (MatMul)", "TensorFlow"),
        ("own/nccl (Identity)", "TensorFlow"),
        ("jit(step)/jvp(collective_filter)/dot_general", "XLA"),
    ],
)
def test_other_operations_are_no_collectives(name: str, kind: str) -> None:
    assert collectives_share([operation(name, 1.0, kind)]) is None


def test_with_kernels_the_share_is_of_what_ran_on_the_devices() -> None:
    """The host's operation and its kernel are one collective, and count once."""
    traced = [
        operation(TENSORFLOW, 0.5, "TensorFlow"),
        operation("own/dense/MatMul (MatMul)", 0.3, "TensorFlow"),
        operation(KERNEL, 0.05, "kernel"),
        operation("sgemm_128x64", 0.1, "kernel"),
        operation("MemcpyH2D", 0.05, "copy"),
    ]
    assert collectives_share(traced) == pytest.approx(0.25)
    assert collectives_share([one for one in traced if one.name != KERNEL]) is None
