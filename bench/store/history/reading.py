"""What a history is asked: its runs, and the series of cases."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from bench.schema.bounds import shortened
from bench.schema.cells import few_of
from bench.schema.history import HistoryPoint, HistorySeries, Revision, as_utc
from bench.schema.launch import Better, Status
from bench.store.history.record import Machine
from bench.store.history.tables import CASES, ENVIRONMENTS, MACHINES, REVISIONS, RUNS
from fmnist_models.errors import UserError

# The least number of signs by which a run may be named.
_LEAST = 4
# Of a message.
_FEW = 5


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A run of a history, without its measurements.

    Attributes:
        number: of its row.
        ok, cases: the number of cases that ended ok, and of all.
        environment: digest of the facts of its environment.
        control: as of `HistoryPoint`.
    """

    number: int
    id: str
    machine: Machine
    revision: Revision | None
    environment: str
    time_utc: str
    label: str
    ok: int
    cases: int
    control: float | None


def known_runs(
    connection: Connection,
    machine: str | None,
    since: str | None,
    last: int | None,
    cases: Sequence[str] | None = None,
) -> list[KnownRun]:
    """The runs of `History.runs`; with `cases` only those that have one of them."""
    wanted = _wanted(RUNS.c.number, since)
    if cases is not None:
        has = select(CASES.c.run).where(CASES.c.run == RUNS.c.number, CASES.c.name.in_(cases))
        wanted = wanted.where(has.exists())
    if machine is not None:
        wanted = wanted.where(RUNS.c.machine == _machine(connection, machine))
    if last is not None:
        place = func.row_number().over(
            partition_by=RUNS.c.machine,
            order_by=(RUNS.c.time_utc.desc(), RUNS.c.number.desc()),
        )
        ranked = wanted.add_columns(place.label("place")).subquery()
        wanted = select(ranked.c.number).where(ranked.c.place <= last)
    return _read(connection, wanted)


def chosen(connection: Connection, ids: Sequence[str]) -> list[KnownRun]:
    """The runs of `History.chosen`."""
    numbers = []
    for one in ids:
        begins = RUNS.c.id.startswith(one, autoescape=True)
        found = connection.execute(select(RUNS.c.number, RUNS.c.id).where(begins).limit(_FEW)).all()
        if len(found) != 1 or len(one) < _LEAST:
            names = few_of([row.id for row in found])
            why = f"which of {names}" if found else "no run has that id"
            raise UserError(f"run {shortened(one)}: {why}: choose from those of history list")
        numbers.append(found[0].number)
    return _read(connection, select(RUNS.c.number).where(RUNS.c.number.in_(numbers)))


def series_of(
    connection: Connection, runs: Sequence[KnownRun], cases: Sequence[str] | None
) -> list[HistorySeries]:
    """The series of `History.series`, of these runs."""
    by_number = {run.number: run for run in runs}
    facts = _facts(connection, {run.environment for run in runs})
    building: dict[tuple[str, str], list[_Building]] = {}
    for row in _rows_of_cases(connection, list(by_number), cases):
        run = by_number[row.run]
        known = building.setdefault((run.machine.id, row.name), [])
        _add(known, row, run, _point(row, run, facts[run.environment]))
    if cases is not None:
        _refuse_unknown(connection, cases, {name for _, name in building})
    return [one.series() for key in sorted(building, key=_order(runs)) for one in building[key]]


def _order(runs: Sequence[KnownRun]) -> Any:
    names = {run.machine.id: run.machine.name for run in runs}
    return lambda key: (names[key[0]], key)


@dataclass(slots=True)
class _Building:
    """A series that is being read."""

    machine: Machine
    case: str
    workload: str = ""
    score: str = ""
    better: str = ""
    points: list[HistoryPoint] = field(default_factory=list)

    def series(self) -> HistorySeries:
        """The series."""
        return HistorySeries(
            self.machine.id,
            self.machine.name,
            self.case,
            self.workload,
            tuple(self.points),
            self.score,
            Better(self.better),
        )


def _add(known: list[_Building], row: Row[Any], run: KnownRun, point: HistoryPoint) -> None:
    """Add a point to the series of its work.

    What work a case would have done that did not end ok is not known: it goes to the series of the
    run before, or of the first run that did any.
    """
    fits = [one for one in known if row.workload in (one.workload, "") or not one.workload]
    if not fits:
        fits = [_Building(run.machine, row.name)]
        known.append(fits[0])
    into = max(fits, key=lambda one: one.points[-1].time_utc if one.points else "")
    if not row.workload or not into.workload:
        into.score, into.better = into.score or row.score, into.better or row.better
    if row.workload and not into.workload:
        into.workload, into.score, into.better = row.workload, row.score, row.better
    into.points.append(point)


def _point(row: Row[Any], run: KnownRun, facts: dict[str, str]) -> HistoryPoint:
    return HistoryPoint(
        run=run.id,
        time_utc=run.time_utc,
        revision=run.revision,
        environment=run.environment,
        facts=facts,
        logs=tuple(json.loads(row.logs)),
        scores=tuple(json.loads(row.scores)),
        status=row.status,
        warnings=tuple(json.loads(row.warnings)),
        label=run.label,
        control=run.control,
    )


def _rows_of_cases(
    connection: Connection, numbers: Sequence[int], cases: Sequence[str] | None
) -> Iterable[Row[Any]]:
    """The rows of `CASES` of these runs, in the order of time."""
    found: list[Row[Any]] = []
    for start in range(0, len(numbers), 500):
        wanted = select(CASES).where(CASES.c.run.in_(numbers[start : start + 500]))
        if cases is not None:
            wanted = wanted.where(CASES.c.name.in_(cases))
        found += connection.execute(wanted)
    place = {number: place for place, number in enumerate(numbers)}
    return sorted(found, key=lambda row: (place[row.run], row.name))


def _facts(connection: Connection, digests: set[str]) -> dict[str, dict[str, str]]:
    known = sorted(digests)
    found: dict[str, dict[str, str]] = {}
    for start in range(0, len(known), 500):
        wanted = ENVIRONMENTS.c.digest.in_(known[start : start + 500])
        for row in connection.execute(select(ENVIRONMENTS).where(wanted)):
            found[row.digest] = json.loads(row.facts)
    return found


def _read(connection: Connection, numbers: Select[Any]) -> list[KnownRun]:
    """The runs with these numbers, by machine, the earliest first."""
    wanted = select(numbers.subquery().c.number)
    counts = (
        select(
            CASES.c.run,
            func.count().label("cases"),
            func.count().filter(CASES.c.status == str(Status.OK)).label("ok"),
        )
        .where(CASES.c.run.in_(wanted))
        .group_by(CASES.c.run)
        .subquery()
    )
    columns = [column for column in RUNS.c if column.name not in ("record", "content")]
    query = (
        select(
            *columns,
            MACHINES.c.name.label("machine_name"),
            REVISIONS.c.time_utc.label("committed"),
            REVISIONS.c.parents,
            counts.c.cases,
            counts.c.ok,
        )
        .join(MACHINES)
        .outerjoin(REVISIONS)
        .join(counts, counts.c.run == RUNS.c.number)
        .order_by(MACHINES.c.name, MACHINES.c.id, RUNS.c.time_utc, RUNS.c.number)
    )
    return [_known(row) for row in connection.execute(query)]


def _known(row: Any) -> KnownRun:
    revision = None
    if row.revision is not None:
        parents = tuple(json.loads(row.parents))
        revision = Revision(row.revision, row.committed, parents, row.dirty)
    return KnownRun(
        row.number,
        row.id,
        Machine(row.machine, row.machine_name),
        revision,
        row.environment,
        row.time_utc,
        row.label,
        row.ok,
        row.cases,
        row.control,
    )


def _wanted(column: Any, since: str | None) -> Select[Any]:
    wanted = select(column)
    return wanted if since is None else wanted.where(RUNS.c.time_utc >= day_of(since))


def day_of(told: str, option: str = "--since") -> str:
    """The time, as the columns hold it, that a user named by `option`.

    Raises:
        UserError: it is none.
    """
    try:
        return as_utc(told)
    except ValueError:
        raise UserError(f"{option} {shortened(told)}: write a date such as 2026-03-01") from None


def _machine(connection: Connection, named: str) -> str:
    # A machine whose runs are gone, or have another name by now, is none.
    held = MACHINES.c.id.in_(select(RUNS.c.machine))
    rows = connection.execute(select(MACHINES).where(held).order_by(MACHINES.c.name)).all()
    for fits in (
        [row.id for row in rows if named in (row.id, row.name)],
        [row.id for row in rows if row.id.startswith(named) or row.name.startswith(named)],
    ):
        if len(fits) == 1:
            return str(fits[0])
    names = few_of([f"{row.name} ({row.id})" for row in rows], _FEW)
    raise UserError(f"--machine {shortened(named)}: name one of: {names or 'none'}")


def _refuse_unknown(connection: Connection, cases: Sequence[str], known: set[str]) -> None:
    lost = [case for case in cases if case not in known]
    if lost:
        found = connection.execute(select(CASES.c.name).distinct().order_by(CASES.c.name))
        names = list(found.scalars())
        if lost[0] in names:
            why = "none of these runs has it, but others have: leave out --machine or --since"
        else:
            why = f"no run has it: choose from {few_of(names, _FEW)}"
        raise UserError(f"case {shortened(lost[0])}: {why}")
