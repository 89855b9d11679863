"""What training costs, as tables: a column for each run, and for one candidate its ratio."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from statistics import geometric_mean

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.reports.cost_quantities import QUANTITIES, Quantity
from bench.reports.formatting import plus_minus
from bench.schema.cells import counted
from bench.verdicts.compare import Comparison
from bench.verdicts.cost import Costs, Estimate


def print_costs(found: Comparison, letters: Mapping[str, str], console: Console) -> None:
    """Print the prices, a table for each quantity that a case has, and which run is cheaper.

    Args:
        found: the comparison; nothing is printed where it has no costs.
        letters: the letter of each run, the baseline's first.
        console: where it is printed.
    """
    costs = found.costs
    if costs is None:
        return
    for name, letter in letters.items():
        price = f"{costs.prices.per_hour[name]:.10g} {costs.prices.currency}/h"
        _line(console, f"{letter}  {name}{' (baseline)' * (name == found.baseline)}: {price}")
    for quantity in QUANTITIES:
        for table in _tables(found, costs, quantity, letters, console.width):
            console.print(table)
    for name in found.pairs:
        _line(console, _verdict(found, costs, name, letters))


def _tables(
    found: Comparison,
    costs: Costs,
    quantity: Quantity,
    letters: Mapping[str, str],
    width: int,
) -> Iterator[Table]:
    """The table of a quantity, in as many pieces as the width needs; none without a value."""
    columns = {
        letter: {
            case: _cell(estimate.times(quantity.factor))
            for case, cost in costs.of_run[name].items()
            if (estimate := quantity.of(cost))
        }
        for name, letter in letters.items()
    }
    if len(found.pairs) == 1:
        (name,) = found.pairs
        columns[f"{letters[name]} over {letters[found.baseline]}"] = {
            case: _cell(estimate)
            for case, ratio in costs.over_baseline[name].items()
            if (estimate := quantity.over(ratio)) and quantity.of(costs.of_run[name][case])
        }
    cases = [case for case in found.cases if any(case in own for own in columns.values())]
    if not cases:
        return
    room = width - max(map(len, cases)) - 1
    title = f"{quantity.name.format(costs.prices.currency)} ({quantity.better})"
    for shown in _groups(columns, room):
        table = Table(
            title=Text(title), title_justify="left", title_style="", box=None, padding=(0, 1, 0, 0)
        )
        table.add_column("case", overflow="fold")
        for heading in shown:
            table.add_column(Text(heading), justify="right", no_wrap=True)
        for case in cases:
            table.add_row(*map(Text, (case, *(columns[name].get(case, "") for name in shown))))
        yield table


def _groups(columns: Mapping[str, Mapping[str, str]], room: int) -> Iterator[Sequence[str]]:
    """The headings of each piece: as many as fit into `room` characters, one at least."""
    ends, left, piece = {}, 0, -1
    for heading, cells in columns.items():
        own = 1 + max(map(len, (heading, *cells.values())))
        if piece < 0 or own > left:
            piece, left = piece + 1, room
        left -= own
        ends[heading] = piece
    for _, headings in groupby(columns, key=ends.__getitem__):
        yield list(headings)


def _verdict(found: Comparison, costs: Costs, name: str, letters: Mapping[str, str]) -> str:
    """One line: how much more the candidate trains for the money, over the cases that all have."""
    common = [c for c in found.runs[name].logs if all(c in run for run in costs.of_run.values())]
    ratios = [costs.over_baseline[name][case].samples_per_money.value for case in common]
    who, other = letters[name], letters[found.baseline]
    return (
        f"{who}: {geometric_mean(ratios):.3f} times the samples per {costs.prices.currency} of "
        f"{other} (geometric mean of {counted(len(ratios), 'case')} that all runs hold; "
        f"lowest {min(ratios):.3f}, highest {max(ratios):.3f})"
    )


def _cell(estimate: Estimate) -> str:
    """A number in three digits, with half its interval in percent where it has one."""
    value = estimate.value
    text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return text + plus_minus(estimate.low, estimate.high)


def _line(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)
