"""The output of a comparison: a table for one candidate, a column per run for several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.reports.formatting import disturbed_line, give_or_take
from bench.reports.scaling_compared import efficiency_lines
from bench.reports.scores import Judged, alike, judged, short
from bench.reports.terminal.cost import print_costs
from bench.schema.cells import counted, few_of
from bench.schema.warnings import Kind as Warned
from bench.store.files import Kind
from bench.store.tables import write_csv
from bench.verdicts.compare import COLUMNS, Comparison, Pair, comparison_rows
from fmnist_models.errors import UserError

LEGEND = "samples/s over those of A; ±: half the 95% interval, where there is one"
TOTALS = ("geometric mean of cases", "all cases together")


def print_comparison(found: Comparison, console: Console) -> None:
    """Print the differences of the runs, the ratio of each case, and the means.

    One candidate has a table with intervals and scores. Several candidates have one column
    each, with the letters of the picture, in as many tables as the width of the terminal needs.
    """
    if len(found.pairs) == 1:
        _print_one(found, console)
    else:
        _print_several(found, console)
    _print_efficiencies(found, console)
    print_costs(found, letters_of(found), console)
    disturbed = {name: run.disturbed for name, run in found.runs.items() if run.disturbed}
    if disturbed:
        _line(console, disturbed_line(disturbed))
    for case, why in found.apart.items():
        _line(console, f"{case}: not compared: {why}")


def _print_one(found: Comparison, console: Console) -> None:
    names = [found.baseline, *found.pairs]
    for fact, said in found.differences.items():
        told = "; ".join(f"{name}: {value}" for name, value in zip(names, said, strict=True))
        _line(console, f"different {fact}: {told}")
    for name in found.pairs:
        console.print(_table_of_one(name, found))
        _line(console, verdict_on(name, found))
        _print_missing(name, found.summaries[name].missing, console)
    _print_missing(found.baseline, found.baseline_missing, console)


def verdict_on(name: str, found: Comparison) -> str:
    """One line: how much faster the candidate `name` is than the baseline, over all cases."""
    total = found.summaries[name]
    return (
        f"{name}: {total.geometric_mean:.3f} times the samples/s of {found.baseline} "
        f"(geometric mean of {counted(total.cases, 'case')} that all runs hold; "
        f"lowest {total.lowest:.3f}, highest {total.highest:.3f}); all of them together "
        f"{total.total_time_ratio:.3f} times as fast"
    )


def _table_of_one(name: str, found: Comparison) -> Table:
    scores = _scores(found)
    headings = ("ratio", "interval", *scores.heading("accuracy"))
    table = _table(f"{name} over {found.baseline}", headings)
    for pair in found.pairs[name]:
        if pair.ratio is None:
            continue
        interval = "" if pair.low is None else f"{pair.low:.3f} to {pair.high:.3f}"
        cells = [pair.case, f"{pair.ratio:.3f}", interval]
        if scores.scales:
            change = _difference(pair)
            cells.append("" if change is None else scores.cell(pair.scale, change))
        table.add_row(*map(Text, cells))
    return table


def _print_several(found: Comparison, console: Console) -> None:
    letters = letters_of(found)
    for name, letter in letters.items():
        _line(console, f"{letter}  {name}" + " (baseline)" * (name == found.baseline))
    for fact, said in found.differences.items():
        holders: dict[str, list[str]] = {}
        for letter, value in zip(letters.values(), said, strict=True):
            holders.setdefault(value, []).append(letter)
        told = "; ".join(f"{value} ({', '.join(who)})" for value, who in holders.items())
        _line(console, f"different {fact}: {told}")
    _line(console, LEGEND)
    scores = _scores(found)
    totals = _total_names(scores)
    below = {name: _totals(name, found, scores) for name in found.pairs}
    for shown in _groups(found, totals, below, console.width):
        table = _table("", [letters[name] for name in shown])
        for row in zip(*(found.pairs[name] for name in shown), strict=True):
            if any(pair.ratio is not None for pair in row):
                table.add_row(*map(Text, (row[0].case, *map(_cell, row))))
        for line, cells in zip(
            totals, zip(*(below[name] for name in shown), strict=True), strict=True
        ):
            table.add_row(*map(Text, (line, *cells)))
        console.print(table)
    count = next(iter(found.summaries.values())).cases
    _line(console, f"{TOTALS[0]} and {TOTALS[1]}: over the {count} that all runs hold")
    for name in found.pairs:
        _print_missing(letters[name], found.summaries[name].missing, console)
    _print_missing(letters[found.baseline], found.baseline_missing, console)


def _print_efficiencies(found: Comparison, console: Console) -> None:
    """Print which run scales better than the baseline, case by case."""
    letters = letters_of(found)
    on_one_cpu = False
    for name, cases in found.scaled.items():
        if len(found.pairs) == 1:
            told = efficiency_lines(cases, name, found.baseline)
        else:
            who, other = letters[name], letters[found.baseline]
            told = [f"{who}: {line}" for line in efficiency_lines(cases, who, other)]
        for line in told:
            _line(console, line)
        on_one_cpu |= any(case.on_one_cpu for case in cases)
    if on_one_cpu:
        _line(console, f"warning: {Warned.ONE_CPU.value}")


def _groups(
    found: Comparison, totals: Sequence[str], below: Mapping[str, Sequence[str]], width: int
) -> list[list[str]]:
    """The candidates of each table: as many as fit beside the longest case."""
    left = width - max(map(len, (*found.cases, *totals))) - 1
    groups: list[list[str]] = []
    room = 0
    for name, pairs in found.pairs.items():
        own = 1 + max(len(cell) for cell in (*map(_cell, pairs), *below[name]))
        if not groups or own > room:
            groups.append([])
            room = left
        groups[-1].append(name)
        room -= own
    return groups


def _totals(name: str, found: Comparison, scores: Judged) -> tuple[str, ...]:
    """The cells below a candidate's ratios, one for each of `_total_names`."""
    total = found.summaries[name]
    cells = [f"{total.geometric_mean:.2f}", f"{total.total_time_ratio:.2f}"]
    for scale in scores.scales:
        own = [pair for pair in found.pairs[name] if alike(pair.scale) == scale]
        known = [change for change in map(_difference, own) if change is not None]
        cells += [f"{f(known):+.2f}{scale.sign}" if known else "" for f in (min, max)]
    return tuple(cells)


def _total_names(scores: Judged) -> tuple[str, ...]:
    names = list(TOTALS)
    for scale in scores.scales:
        what = f"{short(scale.name)}{'' if scale.sign else ' points'}"
        names += [f"{what}, lowest", "... highest"]
    return tuple(names)


def _scores(found: Comparison) -> Judged:
    """The scores of which a pair holds a difference."""
    pairs = (pair for pairs in found.pairs.values() for pair in pairs)
    return judged(pair.scale for pair in pairs if pair.score_difference is not None)


def _difference(pair: Pair) -> float | None:
    """Candidate less baseline in points or percent; None where unknown."""
    if pair.score_difference is None:
        return None
    return pair.scale.difference(pair.score_difference)


def _cell(pair: Pair) -> str:
    return "" if pair.ratio is None else give_or_take(pair.ratio, pair.low, pair.high)


def letters_of(found: Comparison) -> dict[str, str]:
    """The letter of each run, the baseline's first."""
    return {name: _letter(place) for place, name in enumerate((found.baseline, *found.pairs))}


def _letter(number: int) -> str:
    return ascii_uppercase[number] if number < len(ascii_uppercase) else str(number + 1)


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(
        title=Text(title) if title else None, title_justify="left", box=None, padding=(0, 1, 0, 0)
    )
    table.add_column("case", overflow="fold")
    for heading in headings:
        table.add_column(Text(heading), justify="right", no_wrap=True)
    return table


def _print_missing(name: str, missing: Sequence[str], console: Console) -> None:
    if missing:
        _line(console, f"{name} has no result for {few_of(missing)}")


def _line(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)


def write_comparison(found: Comparison, path: Path) -> None:
    """Write one row per case and candidate to `path` as CSV, in one move.

    Raises:
        UserError: the folder holds a run, or the file cannot be written.
    """
    if (path.parent / "plan.json").exists():
        raise UserError(
            f"{path.parent} holds a run, whose comparison.png would be replaced: "
            "name another --output"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(path, COLUMNS, comparison_rows(found), Kind.table(COLUMNS))
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; name another --output"
        ) from error
