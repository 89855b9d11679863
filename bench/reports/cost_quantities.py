"""The quantities of what training costs, as tables and the picture show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.verdicts.cost import Cost, CostRatio, Estimate


@dataclass(frozen=True, slots=True)
class Quantity:
    """One quantity of a cost, as people read it.

    Attributes:
        label: the name of its axes in the picture.
        title: as the head of a panel.
        name: with its unit; `{}` stands for the currency.
        factor: how many of its units are one of a `Cost`.
        better: the direction in which it is good.
        of: its value on one machine.
        over: its ratio over the baseline.
    """

    label: str
    title: str
    name: str
    factor: float
    better: str
    of: Callable[[Cost], Estimate | None]
    over: Callable[[CostRatio], Estimate | None]


QUANTITIES = (
    Quantity(
        "money",
        "Samples for the money",
        "million samples per {}",
        1e-6,
        "more is better",
        lambda cost: cost.samples_per_money,
        lambda ratio: ratio.samples_per_money,
    ),
    Quantity(
        "epoch",
        "Cost of an epoch",
        "{} for 1,000 epochs",
        1e3,
        "less is better",
        lambda cost: cost.epoch,
        lambda ratio: ratio.samples_per_money.inverse(),
    ),
    Quantity(
        "target",
        "Cost to reach the target",
        "{} to reach the target 1,000 times",
        1e3,
        "less is better",
        lambda cost: cost.target,
        lambda ratio: ratio.target,
    ),
)
