"""The best rates that a machine reaches, as a run measures them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from msgspec import Meta

from bench.backends import DEFAULT
from bench.schema.bounds import Count, Plain, Positive, Text

_Bytes = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,17}$")]


class Traffic(NamedTuple):
    """One array of a step, and how often it moves between memory and processor.

    Attributes:
        array: what it holds.
        size_bytes: its size in bytes.
        moves: reads and writes of it in one step.
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
        bandwidth_bytes_per_s: the best rate of a triad b = b + s c on the best path, by the
            bytes of its two arrays together.
        products_s: seconds of one epoch of matrix products only, on the best path, by
            `products_key`.
        backend: the framework through which it was measured.
    """

    device: Text
    precision: Text
    threads: Count | None
    moment: Text
    matmul_flops_per_s: Annotated[Mapping[Text, Positive], Meta(min_length=1)]
    bandwidth_bytes_per_s: Annotated[Mapping[_Bytes, Positive], Meta(min_length=1)]
    products_s: Mapping[Text, Positive]
    backend: Text = DEFAULT


def products_key(layers: Sequence[Sequence[int]], batch_size: int) -> str:
    """The name of an epoch of matrix products only: `784x100-100x10-b32`.

    Args:
        layers: (inputs, units) of each layer.
        batch_size: samples a step.
    """
    return "-".join([*(f"{inputs}x{units}" for inputs, units in layers), f"b{batch_size}"])
