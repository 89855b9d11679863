"""Draws what training costs on the machines of a comparison: a letter for each run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import ascii_uppercase

from bench.reports.cost_quantities import QUANTITIES, Quantity
from bench.reports.plots import panels
from bench.reports.plots.canvas import save_picture
from bench.reports.plots.compare_page import (
    Drawn,
    draw_lane,
    drawn_names,
    header_of,
    page_of,
    rows_of,
    texts_of_runs,
)
from bench.reports.plots.style import log_axis, style
from bench.verdicts.compare import Comparison
from bench.verdicts.cost import Costs


def draw_costs(found: Comparison, path: Path) -> None:
    """Write the picture of the costs of a comparison to `path` as PNG, in one move.

    The axes of its figure are labelled `money`, `epoch` and `target`, without those of a quantity
    that no case has.

    Raises:
        ValueError: the comparison has no costs.
        UserError: the picture cannot be written.
    """
    costs = found.costs
    if costs is None:
        raise ValueError("the comparison has no costs")
    currency = costs.prices.currency
    with style([*texts_of_runs(found), currency]):
        rows = rows_of(found)
        shown = {row.case for row in rows.rows}
        drawn = {
            quantity: values
            for quantity in QUANTITIES
            if any((values := _values(costs, quantity, shown)).values())
        }
        priced = [
            f"{letter} {costs.prices.per_hour[name]:.10g} {currency}/h"
            for letter, name in zip(ascii_uppercase, drawn_names(found), strict=False)
        ]
        header = header_of(found, (f"prices: {', '.join(priced)}",))
        page = page_of(found, header, rows, [quantity.label for quantity in drawn])
        for axes, (quantity, of_runs) in zip(page.axes, drawn.items(), strict=True):
            detail = f"{quantity.better}; bar: 95% interval"
            panels.title(axes, quantity.title, detail, beside=0.0)
            every = [end for own in of_runs.values() for ends in own.values() for end in ends]
            log_axis(axes, axes.xaxis, [end for end in every if end is not None])
            axes.set_xlabel(quantity.name.format(currency))
            for lane, name in enumerate(page.names):
                draw_lane(axes, rows, lane, of_runs[name])
        save_picture(page.figure, path)


def _values(costs: Costs, quantity: Quantity, cases: set[str]) -> Mapping[str, dict[str, Drawn]]:
    """By run and case, a quantity with the ends of its interval."""
    return {
        name: {
            case: (scaled.value, scaled.low, scaled.high)
            for case, cost in own.items()
            if case in cases and (estimate := quantity.of(cost))
            for scaled in [estimate.times(quantity.factor)]
        }
        for name, own in costs.of_run.items()
    }
