"""The tables and lines at the end of a run, for 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import geometric_mean
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.analysis.rows import sibling
from bench.analysis.scaling import asked_batch
from bench.backends import DEFAULT, KNOWN
from bench.reports.formatting import give_or_take, spread
from bench.reports.scaling_words import how_it_scales
from bench.reports.scores import heading_of, in_digits, names_of, short
from bench.schema.case import SKLEARN_LOOP
from bench.schema.cells import counted
from bench.schema.columns import Row
from bench.schema.launch import Status
from bench.schema.score import ACCURACY
from bench.schema.warnings import CaseWarning, Kind, of_row
from bench.verdicts.work import other_work

_MINUTE = 60
_HOUR = 3600


def duration(seconds: float) -> str:
    """Seconds as text: `8 s`, `4 min 10 s`, `1 h 05 min`."""
    # humanize writes the units as words, which are too long for a column of a table.
    if not math.isfinite(seconds):
        return "?"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"


def print_results(rows: Sequence[Row], console: Console) -> None:
    """Print a table for each setting of the machine, then what several replicas gain, warnings and
    reasons."""
    fine = [row for row in rows if row["status"] == Status.OK]
    for setting, group in groupby(sorted(fine, key=_order), key=_setting):
        _print_table(setting, list(group), rows, console)
    for row in fine:
        if line := waits_line(row):
            console.print(Text(f"{row['case']}: {line}"), soft_wrap=True)
    for scales in how_it_scales(rows):
        console.print(Text(scales.line), soft_wrap=True)
    if _nothing_to_scale_from(rows):
        console.print(
            "speed-up not computed: name 1 among --replicas", soft_wrap=True, highlight=False
        )
    for note, cases in notes(rows).items():
        first, *others = cases
        more = f" and {len(others)} more" if others else ""
        console.print(Text(f"{first}{more}: {note}"), soft_wrap=True)


def _nothing_to_scale_from(rows: Sequence[Row]) -> bool:
    """Whether cases of several replicas ended ok, and no network was to train on one."""
    spread = any(row["replicas"] > 1 and row["status"] == Status.OK for row in rows)
    return spread and all(row["replicas"] > 1 for row in rows if row["loop"] != SKLEARN_LOOP)


def time_line(split: Mapping[str, float]) -> str:
    """The parts of a run's time as shares of the whole; parts without time are left out."""
    total = math.fsum(split.values())
    shares = [f"{part} {seconds / total:.1%}" for part, seconds in split.items() if seconds > 0]
    return f"Of {duration(total)}: {', '.join(shares)}"


def compiled_over_fit(row: Row, rows: Sequence[Row]) -> float | None:
    """The throughput of a row over that of the same case in `fit`; None without that case."""
    if row["loop"] == "fit" or row["samples_per_s"] is None:
        return None
    fit = sibling(row, rows, loop="fit")
    return row["samples_per_s"] / fit["samples_per_s"] if fit else None


def reference_lines(
    rows: Sequence[Row], reference: Sequence[Row], same_work: bool, machine: str
) -> list[str]:
    """The throughput compared with the reference run, one line per loop.

    A line has the geometric mean of the ratios of the cases that both runs have. Empty unless
    `same_work`: both runs had the same epochs and data.
    """
    if not same_work:
        return []
    by_case = {row["case"]: row for row in reference}
    lines = []
    for loop in dict.fromkeys(row["loop"] for row in rows):
        ratios = [
            row["samples_per_s"] / other["samples_per_s"]
            for row in rows
            if row["loop"] == loop and _ok(row)
            if (other := by_case.get(row["case"])) and not other_work(row, other)
        ]
        if ratios:
            lines.append(
                f"{loop}: {geometric_mean(ratios):.2f} times the reference{spread(ratios)}, "
                f"{counted(len(ratios), 'case')}"
            )
    if lines:
        lines.insert(0, f"Throughput beside the reference run ({machine}):")
    return lines


def waits_line(row: Row) -> str:
    """How long a case waits for a stream, in words; empty where its data are arrays."""
    if row["waiting_share"] is None:
        return ""
    free = row["input_free_samples_per_s"] or 0.0
    # A reading below the measured rate was disturbed: free input makes nothing slower.
    faster = free > (row["samples_per_s"] or 0.0)
    limit = f"; on one batch that stays on the device {free:,.0f} samples/s" if faster else ""
    return f"waits {row['waiting_share']:.0%} of a step for its input{limit}"


@dataclass(frozen=True, slots=True)
class _Layout:
    """The columns of one device's cases, right-aligned but for the names.

    Attributes:
        named: headings of the columns that name a case.
        numbers: headings of the others.
        cells: for each case its cells, in this order.
    """

    named: tuple[str, ...]
    numbers: tuple[str, ...]
    cells: list[tuple[str, ...]]

    def widths(self) -> list[int]:
        """The characters of each column."""
        lines = [(*self.named, *self.numbers), *self.cells]
        return [max(map(cell_len, column)) for column in zip(*lines, strict=True)]

    def table(
        self, cells: Iterable[tuple[str, ...]], left_out: int = 0, head: bool = True
    ) -> Table:
        """The table of some of the cells, without the first columns that are `left_out`."""
        table = Table(box=None, padding=(0, 1, 0, 0), show_header=head)
        columns = zip((*self.named, *self.numbers), self.widths(), strict=True)
        for name, width in [*columns][left_out:]:
            right = name in self.numbers
            table.add_column(
                Text(name), justify="right" if right else "left", no_wrap=True, min_width=width
            )
        for row in cells:
            table.add_row(*map(Text, row[left_out:]))
        return table


_Setting = tuple[str, str, int | None, str]


def _print_table(
    setting: _Setting,
    group: Sequence[Row],
    rows: Sequence[Row],
    console: Console,
) -> None:
    """Print the cases of a device, precision, thread count and backend.

    Where the names of models and optimizers are too long for the terminal, they stand on lines of
    their own, above their cases.
    """
    device, precision, threads, backend = setting
    title = f"{device}, {precision}" + (f", {threads} threads" if threads else "")
    title += "" if backend in (DEFAULT, SKLEARN_LOOP) else f", {KNOWN[backend].title}"
    console.print(Text(title, style="italic"))
    layout = _layout(group, rows)
    if sum(layout.widths()) + len(layout.widths()) <= console.width:
        console.print(layout.table(layout.cells))
        return
    for number, (names, cells) in enumerate(groupby(layout.cells, key=lambda row: row[:2])):
        console.print(Text(", ".join(filter(None, names))), soft_wrap=True)
        console.print(layout.table(cells, left_out=2, head=number == 0))


def _layout(group: Sequence[Row], rows: Sequence[Row]) -> _Layout:
    scores = names_of(group)
    scored = ["val acc" if scores == [ACCURACY] else f"val {heading_of(scores)}"] * bool(scores)
    waits = ["waits"] * any(row["waiting_share"] is not None for row in group)
    spread = ["replicas", "processes"] if any(row["replicas"] > 1 for row in group) else []
    spread = [name for name in spread if any(row[name] > 1 for row in group)]
    scaled = ["efficiency"] * any(row["efficiency"] is not None for row in group)
    cells = []
    for row in group:
        over = compiled_over_fit(row, rows)
        waiting = row["waiting_share"]
        cells.append(
            (
                row["model"],
                row["optimizer"] or "",
                row["loop"],
                str(row["batch_size"]),
                *[str(row[name]) for name in spread],
                f"{row['samples_per_s']:,.0f}",
                half_width(row),
                f"{row['step_ms']:.3g}",
                *[_score(row, len(scores) > 1) for _ in scored],
                *["" if waiting is None else f"{waiting:.0%}" for _ in waits],
                "" if over is None else f"{over:.1f}",
                *[_efficiency(row) for _ in scaled],
            )
        )
    measured = ("samples/s", "±%", "step ms", *scored, *waits, "x fit", *scaled)
    numbers = ("batch", *spread, *measured)
    return _Layout(("model", "optimizer", "loop"), numbers, cells)


def _score(row: Row, named: bool) -> str:
    """The score on the validation data, with its name where a table has several."""
    if row["val_score"] is None:
        return ""
    digits = in_digits(row["score"], row["val_score"], 3)
    return f"{short(row['score'])} {digits}" if named else digits


def _efficiency(row: Row) -> str:
    """The efficiency, with half its interval in percent of it."""
    value, low, high = (row[f"efficiency{end}"] for end in ("", "_low", "_high"))
    return "" if value is None else give_or_take(value, low, high)


def half_width(row: Row, column: str = "samples_per_s") -> str:
    """Half the interval of a column in percent; empty where there is none."""
    low, high = row[f"{column}_low"], row[f"{column}_high"]
    if low is None or high is None:
        return ""
    return f"{math.sqrt(high / low) * 100 - 100:.1f}"


def notes(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The warnings, then the reasons, each with its cases.

    On a busy machine the share of a disturbance differs between cases. So all cases with the same
    signal have one note, with the largest share; the worst case is first.
    """
    found: dict[str, list[str]] = {}
    disturbed: dict[tuple[Kind, str], list[tuple[CaseWarning, str]]] = {}
    for row in rows:
        for warning in of_row(row):
            if warning.disturbs:
                signal = warning.kind, warning.words
                disturbed.setdefault(signal, []).append((warning, row["case"]))
            else:
                found.setdefault(f"warning: {warning}", []).append(row["case"])
    for alike in disturbed.values():
        alike.sort(key=lambda pair: -(pair[0].severity or 0))
        found[f"warning: {alike[0][0]}"] = [case for _, case in alike]
    for row in rows:
        if not _ok(row):
            found.setdefault(f"{row['status']}: {row['reason']}", []).append(row["case"])
    return found


def _ok(row: Row) -> bool:
    return bool(row["status"] == Status.OK)


def _setting(row: Row) -> _Setting:
    return row["device"], row["precision"], row["threads"], row["backend"]


def _order(row: Row) -> tuple[Any, ...]:
    return (
        row["device"],
        row["precision"] == "float64",
        row["precision"],
        row["threads"] or 0,
        row["backend"] != DEFAULT,
        row["backend"],
        row["model"],
        asked_batch(row),
        row["optimizer"],
        row["loop"] != "fit",
        row["loop"],
        row["processes"] > 1,
        row["replicas"],
    )
