"""Judges the histories of machines: which changes are confirmed, and what could not be seen.

`bench.analysis.changepoints` finds the changes. The error rate is for all cases of a machine and
all looks of a year together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

import numpy as np

from bench.analysis.changepoints import LEAST_CASES, Alike, Watch
from bench.schema.bounds import shortened
from bench.schema.errors import ExitCode
from bench.schema.history import HistorySeries, as_utc
from bench.schema.score import OF_ACCURACY, Scale
from bench.schema.sizes import Sizes
from bench.verdicts.history_change import ALL_CASES, Change, What
from bench.verdicts.history_found import Family, changes_of, without_mirrors
from bench.verdicts.history_tables import (
    Array,
    Table,
    controls,
    luck_of_seeds,
    machines,
    probe_of,
    score_table,
    speed_table,
)
from bench.verdicts.regression import beyond
from fmnist_models.errors import UserError

# Looks after each of a year's daily runs. The nominal error probabilities of all looks at all cases
# of a machine; they are less than the promised 1%, because of heavy tails and of what is not known
# of the noise (results/evidence/changes.csv).
YEAR = 365
SPEED_LEVEL, SHARED_LEVEL, SCORE_LEVEL = 0.0003, 0.0004, 0.0003
# A change as large as the gate must be found within so many runs.
SOON = 30
# Equal scores of runs with the same seeds show no scatter, as a share.
LEAST_SCATTER = 0.001
# Names the control probe, where patterns of control cases are named.
PROBE = "probe"
# Two draws of the seeds' luck, and twice their standard deviation.
LUCK = 2 * math.sqrt(2)


@dataclass(frozen=True, slots=True)
class Reach:
    """The least change for the worse that begins now and is found within `SOON` runs, as a share.

    It is found with a probability of `regression.POWER`; infinite where there are too few runs.
    """

    machine: str
    machine_name: str
    case: str
    what: What
    smallest: float
    runs: int
    scale: Scale = OF_ACCURACY


@dataclass(frozen=True, slots=True)
class HistoryReport:
    """The confirmed changes of one or more machines.

    Attributes:
        changes: the earliest first.
        reaches: of each case's speed and score.
        left_out: number of runs of too few cases to know what all share, by machine.
    """

    sizes: Sizes
    changes: tuple[Change, ...]
    reaches: tuple[Reach, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def blind(self) -> tuple[Reach, ...]:
        """Those in which a change as large as the gate would not be found soon."""
        gates = {What.SPEED: self.sizes.gate, What.SCORE: self.sizes.accuracy_gate}
        return tuple(reach for reach in self.reaches if not reach.smallest <= gates[reach.what])

    @property
    def exit_code(self) -> ExitCode:
        """1 for a confirmed loss that was not acknowledged, else 3 for a blind case, else 0."""
        if any(change.alarms for change in self.changes):
            return ExitCode.REGRESSION
        return ExitCode.INCONCLUSIVE if self.blind or not self.reaches else ExitCode.PASSED


def judge(
    series: Sequence[HistorySeries],
    sizes: Sizes,
    control: Sequence[str] = (),
    notes: Mapping[str, str] | None = None,
) -> HistoryReport:
    """Find the changes of every machine's cases, with one error rate for each machine.

    Args:
        series: of any machines and cases; all cases of a machine, for they show what is its own.
        sizes: what is tolerated, and what must be found.
        control: patterns of the names of cases whose code is frozen, and `PROBE` for the probe.
        notes: of acknowledged changes, by id.
    """
    changes, reaches, left_out = list[Change](), list[Reach](), dict[str, int]()
    for own in machines(series):
        table = speed_table(own)
        frozen = controls(own, control)
        families, dropped = _speeds(table, frozen, probed=PROBE in control)
        if dropped:
            left_out[own[0].machine_name] = dropped
        families += _scores([one for n, one in enumerate(own) if n not in frozen], sizes)
        found = [change for family in families for change in changes_of(family, sizes)]
        changes += without_mirrors(found)
        reaches += [reach for family in families for reach in _reaches(family)]
    known = notes or {}
    noted = [replace(change, note=known.get(change.id)) for change in changes]
    noted.sort(key=lambda change: (change.place.first.time_utc, change.machine, change.case))
    return HistoryReport(sizes, tuple(noted), tuple(reaches), left_out)


def chosen(report: HistoryReport, since: str = "", cases: str = "*") -> HistoryReport:
    """The report of the changes since a time (ISO 8601 in UTC) and of the cases of a pattern."""

    def of(case: str) -> bool:
        """Whether a case is one of them."""
        return fnmatchcase(case, cases)

    changes = tuple(
        change
        for change in report.changes
        if (of(change.case) or change.case == ALL_CASES) and change.place.after.time_utc >= since
    )
    return replace(
        report, changes=changes, reaches=tuple(reach for reach in report.reaches if of(reach.case))
    )


def since_time(series: Iterable[HistorySeries], text: str) -> str:
    """The time, ISO 8601 in UTC, of a date, or of the first run of the revision that begins so.

    Raises:
        UserError: it is no date, and of no measured revision or several.
    """
    measured = {
        (point.revision.id, point.time_utc)
        for one in series
        for point in one.points
        if point.revision is not None and text and point.revision.id.startswith(text)
    }
    if len({revision for revision, _ in measured}) == 1:
        return min(time for _, time in measured)
    try:
        return as_utc(text)
    except ValueError:
        raise UserError(
            f"--since {shortened(text)}: name a day such as 2026-11-28, or the one revision, of "
            "those that runs measured, that begins so"
        ) from None


def _speeds(table: Table, frozen: Sequence[int], *, probed: bool) -> tuple[list[Family], int]:
    """The families of the speeds, and the number of runs that were left out.

    Args:
        table: of all cases.
        frozen: the columns of cases whose code is frozen.
        probed: the control probe is a control too.
    """
    rest = [number for number in range(len(table.series)) if number not in frozen]
    if not rest:
        return [], 0
    alike, dropped = len(rest) >= LEAST_CASES, 0
    if alike:
        enough = (~np.isnan(table.values[:, rest])).sum(1) >= LEAST_CASES
        dropped = int((~enough).sum())
        table = table.of_runs(enough)
    columns = [table.values[:, list(frozen)], *([probe_of(table)[:, None]] if probed else [])]
    control = _level_of(np.concatenate(columns, 1)) if frozen or probed else None
    judged = table.of_columns(rest)
    level = SPEED_LEVEL / (YEAR * len(rest))
    if not alike:
        values = judged.values if control is None else judged.values - control[:, None]
        watch = Watch((len(rest), 1), len(values), level, alike=Alike.NOTHING)
        watch.see_all(values[:, :, None])
        return [Family.of(judged, values, watch, level, control)], dropped
    own = Watch((len(rest), 1), len(table.runs), level, alike=Alike.LEVEL)
    own.see_all(judged.values[:, :, None])
    cases = replace(Family.of(judged, judged.values, own, level, control), relative=True)
    shared = own.shared if control is None else own.shared - control[:, None]
    level = SHARED_LEVEL / YEAR
    watch = Watch((1, 1), len(shared), level, alike=Alike.NOTHING)
    watch.see_all(shared[:, :, None])
    whole = replace(judged.series[0], case=ALL_CASES)
    together = Table((whole,), (judged.runs,), shared, judged.runs)
    return [cases, Family.of(together, shared, watch, level, control)], dropped


def _scores(series: Sequence[HistorySeries], sizes: Sizes) -> list[Family]:
    table, scales = score_table(series)
    held = [number for number, points in enumerate(table.points) if points]
    if not held:
        return []
    table, scales = table.of_columns(held), [scales[number] for number in held]
    margin = np.array(
        [
            sizes.accuracy_margin + LUCK * luck_of_seeds(one, scale)
            for one, scale in zip(table.series, scales, strict=True)
        ]
    )
    level = SCORE_LEVEL / (YEAR * len(held))
    watch = Watch(
        (len(held), 1),
        len(table.runs),
        level,
        alike=Alike.NOISE if len(held) >= LEAST_CASES else Alike.NOTHING,
        margin=margin,
        least=LEAST_SCATTER,
    )
    watch.see_all(table.values[:, :, None])
    family = Family.of(table, table.values, watch, level, None)
    return [replace(family, what=What.SCORE, scales=tuple(scales))]


def _level_of(values: Array) -> Array:
    """What the control series share, each from its own level; shape (runs)."""
    values = values[:, (~np.isnan(values)).any(0)]
    apart = values - np.array([np.median(c[~np.isnan(c)][:10]) for c in values.T])
    known = (~np.isnan(apart)).sum(1)
    return np.where(known > 0, np.nansum(apart, 1) / np.maximum(known, 1), math.nan)


def _reaches(family: Family) -> list[Reach]:
    """Of each case; what all share is told of no case."""
    sure = float(beyond(np.array(math.inf)))
    found = []
    for number, one in enumerate(family.series):
        if one.case == ALL_CASES:
            continue
        least = family.watch.reach(number, 0, SOON, sure)
        share = least if family.what is What.SCORE or least > 700 else math.expm1(least)
        runs = int(family.watch.seen[number])
        named = one.machine, one.machine_name, one.case
        found.append(Reach(*named, family.what, share, runs, family.scales[number]))
    return found
