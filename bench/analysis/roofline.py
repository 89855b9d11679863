"""How far a case is from what this machine could do at best: pure functions over numbers.

Two ceilings, both measured in the run itself (`bench.worker`): the machine's peaks, which make the
roofline of Williams, Waterman and Patterson ("Roofline: an insightful visual
performance model for multicore architectures", CACM 52(4), 2009), and the products-only
loop, which trains nothing but does every matrix product of the epoch.

Counting rule. A step's model FLOPs are 2mkn for each product of an (m, k) with a (k, n)
matrix: for every Dense layer the forward and the weight-gradient product, and for all but
the first the input-gradient product. Biases, activations, loss, metrics and the optimizer's
arithmetic count nothing. A step's bytes are those that no order of the work can avoid:

| array | moves a step |
|---|---|
| weights, at the size of their variables | read once, written once |
| optimizer slots (variables with a dimension at least) | read once, written once |
| images of the batch, as the bytes that they were published as | read once |
| labels of the batch | read once |

Gradients, activations, copies and conversions count nothing: an ideal machine never stores
them. More bytes than these would make the limit longer and the fraction better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from bench.schema.ceilings import Ceilings, Traffic

# Below this fraction neither arithmetic nor memory is what a step waits for.
OVERHEAD_FRACTION = 0.3


class Bound(StrEnum):
    """What a case waits for."""

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
        """2mkn: a multiplication and an addition each."""
        return 2 * self.m * self.k * self.n


def training_products(layers: Sequence[tuple[int, int]], batch_size: int) -> list[Product]:
    """The matrix products of one training step, in the order in which they are done.

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
    """The best of everything that was measured for one setting.

    Attributes:
        matmul_flops_per_s: by path; the best of them is the roof.
        bandwidth_bytes_per_s: ascending pairs of working set in bytes and rate.
        products_s: seconds of an epoch of products only, by `products_key`.
    """

    matmul_flops_per_s: Mapping[str, float]
    bandwidth_bytes_per_s: tuple[tuple[int, float], ...]
    products_s: Mapping[str, float]

    @property
    def peak_flops_per_s(self) -> float:
        """The roof: the best product rate of any path."""
        return max(self.matmul_flops_per_s.values())

    def bandwidth(self, working_set_bytes: int) -> float:
        """The fastest rate that memory showed to a working set no larger than this one.

        The ladder's smallest size stands for anything smaller. The largest size that does
        not exceed the working set is taken: it was at least as well cached, so that the limit
        stays one.
        """
        sizes = [size for size, _ in self.bandwidth_bytes_per_s if size <= working_set_bytes]
        floor = max(sizes, default=self.bandwidth_bytes_per_s[0][0])
        return max(rate for size, rate in self.bandwidth_bytes_per_s if size >= floor)


def limits(
    measured: Iterable[Ceilings], device: str, precision: str, threads: int | None
) -> Limits | None:
    """The best of all measurements of one setting, before and after; None without any."""
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
    """Where a case stands below its ceilings.

    Attributes:
        limit_s: the least time of a step at the machine's peaks: the longer of its FLOPs over
            the peak rate and its bytes over the bandwidth.
        fraction: that limit over the measured step.
        bound: what the longer one is, or `overhead` where the fraction is under 0.3.
    """

    limit_s: float
    fraction: float
    bound: Bound


def standing(flops: int, traffic: Sequence[Traffic], step_s: float, machine: Limits) -> Standing:
    """Where a step of `flops` and `traffic`, measured to take `step_s`, stands.

    Raises:
        ValueError: the step took no time, or a time that is not finite.
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
    """Of each key of the tables, the best value."""
    best: dict[str, float] = {}
    for table in tables:
        for key, value in table.items():
            best[key] = choose(best.get(key, value), value)
    return best
