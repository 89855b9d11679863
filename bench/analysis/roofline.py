"""How far a case is from the best that this machine can do: pure functions over numbers.

There are two ceilings, both measured in the run itself (`bench.worker`). One is the machine's
peaks, which give the roofline of Williams, Waterman and Patterson ("Roofline: an insightful visual
performance model for multicore architectures", CACM 52(4), 2009). The other is the products-only
loop, which trains nothing but computes every matrix product of the epoch.

Counting rule. A step's model FLOPs are 2mkn for each product of an (m, k) with a (k, n)
matrix. In a plain chain of Dense layers, every layer has the forward and the weight-gradient
product; all but the first have the input-gradient product. For other models the products and
convolutions of the lowered step are counted (`bench.analysis.lowered`). Biases, activations, loss,
metrics and the optimizer's arithmetic are not counted. A step's bytes are the traffic that no order
of the work can avoid:

| array | moves a step |
|---|---|
| weights, at the size of their variables | read once, written once |
| optimizer slots (variables of at least one dimension) | read once, written once |
| inputs of the batch; of the embedded images one byte a pixel, as published | read once |
| labels of the batch | read once |

Gradients, activations, copies and conversions are not counted: an ideal machine never stores
them. Counting more bytes would make the limit longer and the fraction larger.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from bench.schema.ceilings import Ceilings, Traffic

# Below this fraction, a step waits neither for arithmetic nor for memory.
OVERHEAD_FRACTION = 0.3


class Bound(StrEnum):
    """What limits the speed of a case."""

    COMPUTE = "compute"
    MEMORY = "memory"
    OVERHEAD = "overhead"


class Product(NamedTuple):
    """One matrix product, (m, k) times (k, n)."""

    m: int
    k: int
    n: int

    @property
    def flops(self) -> int:
        """FLOPs of the product, 2mkn: mkn multiplications and mkn additions."""
        return 2 * self.m * self.k * self.n


def training_products(layers: Sequence[tuple[int, int]], batch_size: int) -> list[Product]:
    """The matrix products of one training step, in the order of execution.

    Args:
        layers: (inputs, units) of each Dense layer, the first one first.
        batch_size: samples of the step.
    """
    forward = [Product(batch_size, inputs, units) for inputs, units in layers]
    backward = []
    for number in reversed(range(len(layers))):
        inputs, units = layers[number]
        backward.append(Product(inputs, batch_size, units))
        if number > 0:
            backward.append(Product(batch_size, units, inputs))
    return forward + backward


def step_flops(layers: Sequence[tuple[int, int]], batch_size: int) -> int:
    """Model FLOPs of a step, by the counting rule of this module."""
    return sum(product.flops for product in training_products(layers, batch_size))


def step_bytes(traffic: Iterable[Traffic]) -> int:
    """Bytes of a step, by the counting rule of this module."""
    return sum(item.size_bytes * item.moves for item in traffic)


@dataclass(frozen=True, slots=True)
class Limits:
    """The best rates that were measured for one setting.

    Attributes:
        matmul_flops_per_s: best product rate by path; the largest is the peak.
        bandwidth_bytes_per_s: (working set in bytes, rate), with ascending working sets.
        products_s: seconds of an epoch of products only, by `products_key`.
    """

    matmul_flops_per_s: Mapping[str, float]
    bandwidth_bytes_per_s: tuple[tuple[int, float], ...]
    products_s: Mapping[str, float]

    @property
    def peak_flops_per_s(self) -> float:
        """The peak: the best product rate of any path."""
        return max(self.matmul_flops_per_s.values())

    def bandwidth(self, working_set_bytes: int) -> float:
        """Bytes/s of memory for a working set of this size, as an upper limit.

        The best rate of all measured sizes from the largest that does not exceed the working set
        upwards. A size that does not exceed it is cached at least as well, so the rate stays an
        upper limit. A working set below the smallest measured size takes that size.
        """
        sizes = [size for size, _ in self.bandwidth_bytes_per_s if size <= working_set_bytes]
        floor = max(sizes, default=self.bandwidth_bytes_per_s[0][0])
        return max(rate for size, rate in self.bandwidth_bytes_per_s if size >= floor)


def limits(
    measured: Iterable[Ceilings], device: str, precision: str, threads: int | None
) -> Limits | None:
    """The best of all measurements of one setting; None where there is none.

    Those through every framework of the run count: the peak is the machine's.
    """
    own = [
        c for c in measured if (c.device, c.precision, c.threads) == (device, precision, threads)
    ]
    if not own:
        return None
    bandwidth = _best(max, (c.bandwidth_bytes_per_s for c in own))
    return Limits(
        _best(max, (c.matmul_flops_per_s for c in own)),
        tuple(sorted((int(size), rate) for size, rate in bandwidth.items())),
        _best(min, (c.products_s for c in own)),
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """A measured step compared with the roofline.

    Attributes:
        limit_s: the least seconds of a step at the machine's peaks: the longer of its FLOPs over
            the peak rate and its bytes over the bandwidth.
        fraction: that limit over the measured step.
        bound: `compute` or `memory`, whichever takes longer; `overhead` where the fraction is
            below 0.3.
    """

    limit_s: float
    fraction: float
    bound: Bound


def standing(flops: int, traffic: Sequence[Traffic], step_s: float, machine: Limits) -> Standing:
    """Compare a step of `flops` and `traffic`, measured at `step_s` seconds, with the roofline.

    Raises:
        ValueError: `step_s` is not finite and above 0.
    """
    if not (math.isfinite(step_s) and step_s > 0):
        raise ValueError(f"step_s {step_s}: must be finite and above 0")
    compute_s = flops / machine.peak_flops_per_s
    working_set = sum(item.size_bytes for item in traffic)
    memory_s = step_bytes(traffic) / machine.bandwidth(working_set)
    limit_s = max(compute_s, memory_s)
    bound = Bound.COMPUTE if compute_s >= memory_s else Bound.MEMORY
    fraction = limit_s / step_s
    return Standing(limit_s, fraction, bound if fraction >= OVERHEAD_FRACTION else Bound.OVERHEAD)


def _best(choose: Any, tables: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The best value of each key in any of the tables."""
    best: dict[str, float] = {}
    for table in tables:
        for key, value in table.items():
            best[key] = choose(best.get(key, value), value)
    return best
