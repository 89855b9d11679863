"""Computes the rows of results.csv, one for each case, from the rounds and launches of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from bench.analysis import roofline
from bench.analysis.case_row import Launch, case_row, roofline_columns, warnings_of
from bench.analysis.scaling import scaling_columns
from bench.backends import KNOWN
from bench.schema import ceilings
from bench.schema.case import AXES, PRECISIONS, SKLEARN_LOOP, Case
from bench.schema.cells import result_line
from bench.schema.launch import LaunchRecord, Round, Status, StoredRound
from bench.schema.plan import Plan
from bench.schema.warnings import CaseWarning, Kind, as_text, of_row, on_one_cpu


def result_rows(
    plan: Plan,
    launches: Sequence[LaunchRecord],
    rounds: Sequence[StoredRound],
    ceilings: Sequence[ceilings.Ceilings] = (),
    *,
    warn: bool = True,
) -> list[dict[str, Any]]:
    """One row for each case of the plan, in its order, with the keys of `RESULT_COLUMNS`.

    Only the last attempt of each launch counts. Figures come from the launches that ended ok;
    where one did not, the row gives its status and keeps the figures of the others. With `warn`
    False the warnings of the launches are left out, because they take most of the time.
    """
    return ResultTable(plan, launches, rounds, ceilings, warn=warn).rows()


_axes = itemgetter(*AXES)


class ResultTable:
    """The rows of a run while it grows; a new launch costs the same for any number of cases.

    Args:
        plan: the cases and settings of the run.
        launches, rounds: those measured so far; `add_launch` and `add_round` add more.
        ceilings: of the machine; the caller may append to this list (`ceilings_changed`).
        warn: compute the warnings of the launches, which take most of the time.
    """

    def __init__(
        self,
        plan: Plan,
        launches: Sequence[LaunchRecord],
        rounds: Sequence[StoredRound],
        ceilings: Sequence[ceilings.Ceilings],
        *,
        warn: bool = True,
    ) -> None:
        self._warn = warn
        self._settings = plan.settings
        self._ceilings = ceilings
        self._cases = {case.id: case for case in plan.cases}
        self._of_axes = {_axes(case.to_json()): case.id for case in plan.cases}
        # The case of one replica that a case of several is compared with, and the other way round.
        self._alone: dict[str, str] = {}
        self._spread: dict[str, list[str]] = {}
        for case in plan.cases:
            alone = case.alone(plan.settings.scaling).id
            if case.replicas > 1 and alone in self._cases:
                self._alone[case.id] = alone
                self._spread.setdefault(alone, []).append(case.id)
        self._timed: dict[tuple[str, int, int], list[Round]] = {}
        self._ended: dict[str, dict[int, LaunchRecord]] = {}
        self._attempts: dict[tuple[str, int], int] = {}
        # Rows without and with the comparison with siblings; a missing row is computed again.
        self._own: dict[str, dict[str, Any]] = {}
        self._rows: dict[str, dict[str, Any]] = {}
        self._lines: dict[str, str] = {}
        for stored in rounds:
            self.add_round(stored)
        for record in launches:
            self.add_launch(record)

    def add_round(self, stored: StoredRound) -> None:
        """Add a round; it counts once its launch has ended ok."""
        key = (stored.case, stored.launch, stored.attempt)
        self._timed.setdefault(key, []).append(stored.round)
        self._note_attempt(*key)

    def add_launch(self, record: LaunchRecord) -> None:
        """Add a launch that has ended; it replaces its earlier attempts."""
        self._ended.setdefault(record.case, {})[record.launch] = record
        self._note_attempt(record.case, record.launch, record.attempt)
        self._own.pop(record.case, None)
        # While the launches of a finished run are added there is no row yet.
        if record.case in self._cases and (self._rows or self._lines):
            for name in self._looking_at(self._cases[record.case]):
                self._rows.pop(name, None)
                self._lines.pop(name, None)

    def ceilings_changed(self) -> None:
        """Compute every row again, because all depend on the ceilings."""
        self._own.clear()
        self._rows.clear()
        self._lines.clear()

    def last_attempt(self, case: str, launch: int) -> int:
        """The highest attempt of which a round or the record is known; 0 where there is none."""
        return self._attempts.get((case, launch), 0)

    def launch(self, case: str, launch: int) -> tuple[LaunchRecord | None, list[Round]]:
        """The last ended attempt of a launch with its rounds; (None, []) where there is none."""
        record = self._ended.get(case, {}).get(launch)
        return record, [] if record is None else self._rounds_of(record)

    def rows(self) -> list[dict[str, Any]]:
        """All rows, in the order of the plan; unchanged rows are not computed again."""
        return [self._row(name) for name in self._cases]

    def lines(self) -> list[str]:
        """All rows as lines of results.csv."""
        return [self._lines.get(name) or self._line(name) for name in self._cases]

    def derive(self, case: str) -> None:
        """Bring the rows of a case that has changed, and of its siblings, up to date."""
        for name in self._looking_at(self._cases[case]):
            self._line(name)

    def _row(self, name: str) -> dict[str, Any]:
        if name not in self._rows:
            row = dict(self._own_row(name))
            row |= self._scaled(name, row)
            _compare_with_siblings(row, self._sibling, self._ceilings)
            self._rows[name] = row
        return self._rows[name]

    def _line(self, name: str) -> str:
        if name not in self._lines:
            self._lines[name] = result_line(self._row(name))
        return self._lines[name]

    def _own_row(self, name: str) -> dict[str, Any]:
        """A case's row without the comparison with its siblings."""
        if name not in self._own:
            case = self._cases[name]
            ended = list(self._ended.get(name, {}).values())
            measured = self._measured(name)
            wanted = self._settings.launches_of(case)
            row = case_row(case, self._settings, wanted, ended, measured)
            # The ceilings are those of one device.
            if measured and case.loop != SKLEARN_LOOP and case.replicas == 1:
                limits = roofline.limits(self._ceilings, case.device, case.precision, case.threads)
                row |= roofline_columns(row, measured[0], limits)
            if measured and self._warn:
                of_cpu = [CaseWarning(Kind.ONE_CPU)] if on_one_cpu(row) else []
                row["warnings"] = as_text([*of_cpu, *warnings_of(measured)])
            self._own[name] = row
        return self._own[name]

    def _measured(self, name: str) -> list[Launch]:
        """The launches of a case that ended ok, with their rounds."""
        ended = self._ended.get(name, {}).values()
        return [(r, self._rounds_of(r)) for r in ended if r.status is Status.OK]

    def _scaled(self, name: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of several replicas that need the launches of one replica."""
        alone = self._alone.get(name)
        if alone is None or row["samples_per_s"] is None:
            return {}
        # Some launches of a case that failed are ok, and are no case to compare with.
        if self._own_row(alone)["status"] != Status.OK:
            return {}
        return scaling_columns(row, self._measured(name), self._measured(alone))

    def _rounds_of(self, record: LaunchRecord) -> list[Round]:
        return self._timed.get((record.case, record.launch, record.attempt), [])

    def _sibling(self, row: Mapping[str, Any], **other: Any) -> dict[str, Any] | None:
        name = self._of_axes.get(_axes({**row, **other}))
        found = None if name is None else self._own_row(name)
        return found if found and found["status"] == Status.OK else None

    def _looking_at(self, case: Case) -> Iterator[str]:
        """The ids of a case and of the cases whose rows compare with it."""
        yield case.id
        yield from self._spread.get(case.id, ())
        values = case.to_json()
        others = [{"loop": "fit"}, *({"precision": name} for name in PRECISIONS)]
        for other in others:
            if name := self._of_axes.get(_axes({**values, **other})):
                yield name

    def _note_attempt(self, case: str, launch: int, attempt: int) -> None:
        if attempt > self._attempts.get((case, launch), 0):
            self._attempts[case, launch] = attempt


def last_attempts(launches: Sequence[LaunchRecord]) -> dict[str, list[LaunchRecord]]:
    """The last attempt of each launch, by case."""
    last: dict[tuple[str, int], LaunchRecord] = {}
    for record in launches:
        last[record.case, record.launch] = record
    by_case: dict[str, list[LaunchRecord]] = {}
    for record in last.values():
        by_case.setdefault(record.case, []).append(record)
    return by_case


def measured_launches(
    launches: Sequence[LaunchRecord], rounds: Sequence[StoredRound]
) -> dict[str, list[Launch]]:
    """The launches that ended ok, last attempts only, each with its rounds, by case."""
    timed: dict[tuple[str, int, int], list[Round]] = {}
    for stored in rounds:
        timed.setdefault((stored.case, stored.launch, stored.attempt), []).append(stored.round)
    return {
        case: [
            (r, timed.get((case, r.launch, r.attempt), []))
            for r in records
            if r.status is Status.OK
        ]
        for case, records in last_attempts(launches).items()
    }


def time_split(
    total_s: float,
    known: Mapping[str, float],
    launches: Sequence[LaunchRecord],
    rounds: Sequence[StoredRound],
) -> dict[str, float]:
    """The seconds of a run by kind of work; the parts add up to `total_s`.

    Args:
        total_s: seconds from the first launch to the end of the last one.
        known: seconds of the parts that no launch reports: `import` and `ceilings`.
        launches: those that the run measured, failed ones included.
        rounds: rounds of these launches; others are ignored.

    Returns:
        `training` (the timed windows), `evaluation`, `compilation` (warm-ups), the parts of
        `known`, `idle` (between the epochs of a loop, where `fit` waits) and `other`.
    """
    own = {(r.case, r.launch, r.attempt) for r in launches}
    timed = [s.round for s in rounds if (s.case, s.launch, s.attempt) in own]
    split = {
        "training": math.fsum(r.seconds for r in timed),
        "evaluation": math.fsum(r.evaluation_s or 0.0 for r in timed)
        + math.fsum(r.test_evaluation_s or 0.0 for r in launches),
        "compilation": math.fsum(r.warmup_s or 0.0 for r in launches),
        **known,
        "idle": math.fsum(r.between_epochs_s for r in timed)
        + math.fsum(r.after_training_s or 0.0 for r in launches),
    }
    return {**split, "other": total_s - math.fsum(split.values())}


def sibling(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], **other: Any) -> Any:
    """The row of the case that differs only in the axes `other`; None unless it ended ok."""
    wanted = _axes({**row, **other})
    return next((r for r in rows if _axes(r) == wanted and r["status"] == Status.OK), None)


def _compare_with_siblings(
    row: dict[str, Any],
    sibling: Callable[..., dict[str, Any] | None],
    ceilings: Sequence[ceilings.Ceilings],
) -> None:
    """Add to a row what needs other rows.

    These are the framework's share of the time of `fit`, and a warning where a mixed precision is
    slower than float32.
    """
    if row["samples_per_s"] is None:
        return
    if row["loop"] == "fit" and (compiled := sibling(row, loop="compiled")):
        row["framework_overhead"] = 1 - row["samples_per_s"] / compiled["samples_per_s"]
    if not row["precision"].startswith("mixed_"):
        return
    plain = sibling(row, precision="float32")
    if plain is None or plain["samples_per_s"] <= row["samples_per_s"]:
        return
    # The kernels of another framework reach other rates.
    through_it = [measured for measured in ceilings if measured.backend == row["backend"]]
    own, full = (
        roofline.limits(through_it, row["device"], precision, row["threads"])
        for precision in (row["precision"], "float32")
    )
    slower = f"{row['samples_per_s'] / plain['samples_per_s']:.2f} times as fast as float32"
    xla = row["jit_compile"] and KNOWN[row["backend"]].compiles_by_xla
    path = "xla" if xla else "plain"
    rates = [best.matmul_flops_per_s.get(path) for best in (own, full) if best]
    if len(rates) == 2 and rates[0] and rates[1]:
        rate = rates[0] / rates[1]
        through = "through XLA" if path == "xla" else "in the framework's own kernels"
        slower += f": {through} large products reach {rate:.2f} times the rate of float32 here"
        slower += ", and conversions cost more" if rate >= 1 else ""
    row["warnings"] = as_text([*of_row(row), CaseWarning(Kind.SENTENCE, words=slower)])
