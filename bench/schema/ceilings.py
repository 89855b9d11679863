"""What a machine reaches at best, as it is measured in a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from msgspec import Meta

from bench.schema.bounds import Count, Plain, Positive, Text

_Bytes = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,17}$")]


class Traffic(NamedTuple):
    """One array of a step, and how often it crosses between memory and processor.

    Attributes:
        array: what it is.
        size_bytes: its size.
        moves: reads and writes a step.
    """

    array: str
    size_bytes: int
    moves: int


@dataclass(frozen=True, slots=True)
class Ceilings(Plain):
    """What one setting of this machine reached, measured before or after the cases.

    Attributes:
        device, precision, threads: the setting, as the matrix spells it.
        moment: `before` or `after` the cases.
        matmul_flops_per_s: the best rate of large square products, by path (`plain`, `xla`).
        bandwidth_bytes_per_s: the best rate of a triad b = b + s c, by the bytes of its two
            arrays together, the best path of each.
        products_s: seconds of one epoch of products only, by `products_key`, the best path.
    """

    device: Text
    precision: Text
    threads: Count | None
    moment: Text
    matmul_flops_per_s: Annotated[Mapping[Text, Positive], Meta(min_length=1)]
    bandwidth_bytes_per_s: Annotated[Mapping[_Bytes, Positive], Meta(min_length=1)]
    products_s: Mapping[Text, Positive]


def products_key(layers: Sequence[Sequence[int]], batch_size: int) -> str:
    """The name of a products-only epoch: `784x100-100x10-b32`."""
    return "-".join([*(f"{inputs}x{units}" for inputs, units in layers), f"b{batch_size}"])
