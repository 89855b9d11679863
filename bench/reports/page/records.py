"""The data of the page's charts: one record for each case, and one for each round."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, TypeVar

from bench.analysis.rows import sibling
from bench.backends import DEFAULT
from bench.reports import roofline_data
from bench.reports.page.source import Source
from bench.reports.page.works import works
from bench.reports.scaling_data import line_names, sweep_key
from bench.reports.selection import Point, base_setting
from bench.schema.case import SKLEARN_LOOP
from bench.schema.cells import finite
from bench.schema.columns import Row
from bench.schema.launch import Better
from bench.verdicts.compatibility import same_threads_axis

# With more rounds, every n-th is kept. So a page is below 5 MB up to about 2,500 cases.
MOST_ROUNDS = 10_000
ROUND_FIELDS = (
    "key",
    "place",
    "launch",
    "round",
    "seconds",
    "over_median",
    "trained_s",
    "val_score",
)

Record = dict[str, Any]
Name = TypeVar("Name", bound=Hashable)


def case_records(sources: Sequence[Source]) -> list[Record]:
    """A record for each measured case of each run.

    `key` is its index in the page's table, which also has the cases without a figure. `roof` is
    its index in `roofs(sources)`. `base` says whether it ran at the base setting of its run. `work`
    is the number of its kind of work in its run.
    """
    records: list[Record] = []
    key = 0
    under = {
        (source.name, row["case"]): number
        for number, (source, panel) in enumerate(roofs(sources))
        for row in panel.rows
    }
    several = len(sources) > 1
    # Where each run used one device, the run's name is enough.
    told = several and all(
        len({point.placement for point in source.points.values()}) < 2 for source in sources
    )
    machines = same_threads_axis([source.run.environment for source in sources])
    for source, machine in zip(sources, machines, strict=True):
        kinds = {row["case"]: kind for kind, work in enumerate(works(source)) for row in work.rows}
        base = base_setting(list(source.points.values()))
        of_run = [source.name] * several
        for row in source.rows:
            point = source.points.get(row["case"])
            if point is not None:
                record = _case(key, source, row, point)
                record["name"] = " · ".join(_name(row, point, base, told) + of_run)
                setting = (point.asked_batch, row["precision"])
                record["machine"] = machine
                record["work"] = kinds[row["case"]]
                record["base"] = setting == base or row["loop"] == SKLEARN_LOOP
                record["roof"] = under.get((source.name, row["case"]))
                records.append(record)
            key += 1
    _mark_series(records, "batch", ("placement", "precision"))
    of_threads = ("machine", "device", "batch", "precision", "replicas", "processes")
    _mark_series(records, "threads", of_threads)
    _name_curves(records)
    names = line_names(row for source in sources for row in source.rows)
    for record in records:
        record["line"] = names.get(record["sweep"], "")
    _mark_sweeps(records)
    for record in records:
        del record["machine"]
    return records


def roofs(sources: Sequence[Source]) -> list[tuple[Source, roofline_data.RoofPanel]]:
    """(run, roofline) for each roofline of all runs."""
    return [
        (source, panel)
        for source in sources
        for panel in roofline_data.roof_panels(source.rows, source.ceilings)
    ]


def pareto(points: Iterable[Point]) -> list[Point]:
    """The Pareto front, the quickest first: no other point is better in the same time.

    All points are of the same work.
    """

    def bad(point: Point) -> float:
        """Smaller where the score is better."""
        return point.val_score if point.better == Better.MIN else -point.val_score

    timed = [p for p in points if p.training_s > 0 and math.isfinite(p.val_score)]
    front: list[Point] = []
    for point in sorted(timed, key=lambda p: (p.training_s, bad(p))):
        if not front or bad(point) < bad(front[-1]):
            front.append(point)
    return front


def round_records(sources: Sequence[Source]) -> tuple[list[list[Any]], int]:
    """The rounds that count, in the order of measurement, and the n of "every n-th is kept".

    A round is a list with the fields `ROUND_FIELDS`. Rounds with a score are kept in the first
    launch of each case.
    """
    total = sum(len(source.rounds) for source in sources)
    one_in = max(1, -(-total // MOST_ROUNDS))
    found = []
    first = 0
    for source in sources:
        keys = {case: first + number for number, case in enumerate(source.run.rows)}
        first += len(keys)
        found += _rounds(source, keys, one_in)
    return found, one_in


def _case(key: int, source: Source, row: Row, point: Point) -> Record:
    narrow = row["precision"] not in ("float32", "float64")
    plain = sibling(row, source.rows, precision="float32") if narrow else None
    roof = row["roofline_fraction"] is not None
    return {
        "key": key,
        "run": source.name,
        "case": row["case"],
        "pair": " · ".join(filter(None, (row["model"], row["optimizer"], other_backend(row)))),
        "model": row["model"],
        "optimizer": row["optimizer"] or "(scikit-learn)",
        "loop": row["loop"],
        "device": row["device"],
        "placement": point.placement,
        "batch": row["batch_size"],
        "precision": row["precision"],
        "threads": row["threads"],
        "replicas": row["replicas"],
        "processes": row["processes"],
        "scaling": row["scaling"] or "",
        "efficiency": _short_or_none(row["efficiency"]),
        "efficiency_low": _short_or_none(row["efficiency_low"]),
        "efficiency_high": _short_or_none(row["efficiency_high"]),
        "share": _short_or_none(row["all_reduce_share"]),
        "sweep": None if row["efficiency"] is None else sweep_key(row),
        "speed": _short(point.samples_per_s),
        "low": point.low and _short(point.low),
        "high": point.high and _short(point.high),
        # A score of which the case has no value is not drawn.
        "judge": point.score if row["val_score"] is not None else "",
        "better": point.better,
        "score": finite(point.val_score),
        "training_s": finite(_short(point.training_s)),
        "target": finite(point.score_target),
        "over_float32": _short(row["samples_per_s"] / plain["samples_per_s"]) if plain else None,
        "intensity": _short(roofline_data.intensity(row)) if roof else None,
        "gflops": _short(row["gflops"]) if roof else None,
        "fraction": _short(row["roofline_fraction"]) if roof else None,
        "bound": row["bound"],
    }


def other_backend(row: Row) -> str:
    """The backend of a network's row where it is not the default; else empty."""
    return "" if row["backend"] in (DEFAULT, SKLEARN_LOOP) else str(row["backend"])


def _name(row: Row, point: Point, base: tuple[int, str] | None, told: bool) -> list[str]:
    """The parts of a case's name on an axis.

    Batch size and precision are in it where they are not the base setting of the run; the device
    where it is not the CPU, unless `told`.
    """
    parts = [row["model"], row["optimizer"]]
    if point.placement != "cpu" and not told:
        parts.append(point.placement.removeprefix("cpu, "))
    if base and row["loop"] != SKLEARN_LOOP:
        parts += [f"batch {row['batch_size']}"] * (point.asked_batch != base[0])
        parts += [row["precision"]] * (row["precision"] != base[1])
    return [part for part in parts if part]


def _mark_series(records: Sequence[Record], axis: str, same: Sequence[str]) -> None:
    """Set `<axis>_series` of each record to the number of its line.

    None where the cases that differ only in `axis` have fewer than two values.
    """
    fixed = ("pair", "loop", *same)
    if axis != "threads":
        fixed = ("run", *fixed)
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        record[f"{axis}_series"] = None
        if record[axis] is not None and record["loop"] != SKLEARN_LOOP:
            groups.setdefault(tuple(record[field] for field in fixed), []).append(record)
    for number, members in enumerate(groups.values()):
        if len({member[axis] for member in members}) > 1:
            for member in members:
                member[f"{axis}_series"] = number


def _name_curves(records: Sequence[Record]) -> None:
    """Set `curve`, the name of the line of a record over batch sizes or threads.

    It has the device, the precision and the number of replicas where lines differ in them.
    """
    series = ("batch_series", "threads_series")
    swept = [r for r in records if any(r[number] is not None for number in series)]
    told = [name for name in ("device", "precision") if len({r[name] for r in swept}) > 1]
    for record in records:
        parts = [record["pair"], *(record[name] for name in told)]
        parts += [f"{record['replicas']} replicas"] * (record["replicas"] > 1)
        record["curve"] = " · ".join(parts)


def _mark_sweeps(records: Sequence[Record]) -> None:
    """Put the number of its line in the place of each record's key of it."""
    lines = dict.fromkeys((r["run"], r["sweep"]) for r in records if r["sweep"] is not None)
    numbers = {line: number for number, line in enumerate(lines)}
    for record in records:
        record["sweep"] = numbers.get((record["run"], record["sweep"]))


def _rounds(source: Source, keys: Mapping[str, int], one_in: int) -> list[list[Any]]:
    middle = {
        case: median(seconds)
        for case, seconds in _collect(
            (stored.case, stored.round.seconds / stored.round.samples)
            for _, stored in source.rounds
        ).items()
    }
    trained: dict[tuple[str, int], float] = {}
    found = []
    for number, (place, stored) in enumerate(source.rounds):
        own, launch = stored.round, (stored.case, stored.launch)
        trained[launch] = trained.get(launch, 0.0) + own.seconds
        # Rounds with a score are points of a learning curve, which is kept whole for the first
        # launch of each case.
        if number % one_in and (own.val_score is None or stored.launch > 0):
            continue
        ratio = own.seconds / own.samples / middle[stored.case]
        found.append(
            [
                keys[stored.case],
                place,
                stored.launch,
                own.round,
                _short(own.seconds),
                _short(ratio),
                _short(trained[launch]),
                None if own.val_score is None else finite(_short(own.val_score)),
            ]
        )
    return found


def _collect(pairs: Iterable[tuple[Name, float]]) -> dict[Name, list[float]]:
    collected: dict[Name, list[float]] = {}
    for key, value in pairs:
        collected.setdefault(key, []).append(value)
    return collected


def _short_or_none(value: float | None) -> float | None:
    return None if value is None else _short(value)


def _short(value: float) -> float:
    """The value with six digits, which is exact enough for a chart."""
    return float(f"{value:.6g}")
