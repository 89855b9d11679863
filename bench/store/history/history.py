"""The history of runs: what is added, read, and taken out."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Row, Table, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from bench.schema.history import HistorySeries, Revision
from bench.store.history.engine import Store
from bench.store.history.place import place_of
from bench.store.history.reading import KnownRun, chosen, known_runs, series_of
from bench.store.history.record import KeptRun, digest_of_facts, restore
from bench.store.history.tables import (
    CASES,
    ENVIRONMENTS,
    LAUNCHES,
    MACHINES,
    NOTES,
    REVISIONS,
    RUNS,
)
from fmnist_models.errors import UserError


class Outcome(StrEnum):
    """What became of a run that was to be added."""

    ADDED = "added"
    THERE = "is there already"
    UPDATED = "brought up to date"
    EARLIER = "is there already, with more launches"


@dataclass(frozen=True, slots=True)
class Note:
    """What a user noted of a change: its id, when, and the words."""

    id: str
    time_utc: str
    note: str


class History:
    """A history; a context manager that closes it.

    Args:
        store: the path of a SQLite file, or the URL of a PostgreSQL database.

    Raises:
        UserError: the URL cannot be read; and of every method, the history cannot be read or
            written. Then nothing was changed.
    """

    def __init__(self, store: str | Path) -> None:
        self._store = Store(place_of(str(store)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections; it may be used again."""
        self._store.close()

    @property
    def shown(self) -> str:
        """Where it is, without a password."""
        return self._store.place.shown

    def make_ready(self) -> None:
        """Make what is missing, so that a run can be added once it has ended."""
        with self._store.writing():
            pass

    def add(self, new: KeptRun) -> Outcome:
        """Keep a finished run, whole or not at all; one that is there is not kept twice.

        Of a run that was added while it went on, the launches that it has by now are added. What
        was told of machine and revision when it was added stays, unless it is told anew.

        Args:
            new: the run, as `bench.store.history.record.kept` makes it.

        Returns:
            what became of it.
        """
        return self.add_all([new])[0]

    def add_all(self, runs: Iterable[KeptRun]) -> list[Outcome]:
        """Keep runs, all or none, each as `add` does; faster than one by one."""
        with self._store.writing() as connection:
            return [_add(connection, new) for new in runs]

    def runs(
        self, machine: str | None = None, since: str | None = None, last: int | None = None
    ) -> list[KnownRun]:
        """The runs, by machine, the earliest first.

        Args:
            machine: its id or name, or how one of them begins; None for all.
            since: a time or a date in UTC, ISO 8601; earlier runs are left out.
            last: of each machine at most so many, the newest.

        Raises:
            UserError: no machine is called so, or several are.
        """
        with self._store.reading() as connection:
            return known_runs(connection, machine, since, last)

    def series(
        self,
        machine: str | None = None,
        cases: Sequence[str] | None = None,
        since: str | None = None,
        last: int | None = 1000,
    ) -> list[HistorySeries]:
        """The series of each case on each machine, by machine and case.

        Args:
            machine: its id or name, or how one of them begins; None for all.
            cases: ids of cases; None for all.
            since: a time or a date in UTC, ISO 8601; earlier runs are left out.
            last: of each machine the newest so many runs that have one of the cases; None for all.

        Raises:
            UserError: no machine is called so or several are, or no run has one of the cases.
        """
        with self._store.reading() as connection:
            return series_of(connection, known_runs(connection, machine, since, last, cases), cases)

    def restore(self, run: str, folder: Path) -> None:
        """Write the files of a run into a new or empty folder, as they were.

        Args:
            run: its id, or how that begins.
            folder: the folder, which is made.

        Raises:
            UserError: no run is called so, or several are.
        """
        with self._store.reading() as connection:
            (one,) = chosen(connection, [run])
            record = connection.execute(
                select(RUNS.c.record).where(RUNS.c.number == one.number)
            ).scalar_one()
            launches = connection.execute(
                select(LAUNCHES.c.record)
                .where(LAUNCHES.c.run == one.number)
                .order_by(LAUNCHES.c.place)
            ).scalars()
            restore(folder, record, list(launches))

    def chosen(self, ids: Sequence[str]) -> list[KnownRun]:
        """The runs of these ids, or whose ids begin so.

        Raises:
            UserError: no run is called so, or several are.
        """
        with self._store.reading() as connection:
            return chosen(connection, ids)

    def remove(self, runs: Sequence[KnownRun]) -> None:
        """Take runs out, all or none; what they hold is lost."""
        ids = [run.id for run in runs]
        with self._store.writing() as connection:
            for start in range(0, len(ids), 500):
                _remove(connection, ids[start : start + 500])
        # The runs are gone whether or not the file gets smaller.
        with contextlib.suppress(UserError):
            self._store.shrink()

    def notes(self) -> dict[str, Note]:
        """What was noted, by the id of what it is of."""
        with self._store.reading() as connection:
            rows = connection.execute(select(NOTES).order_by(NOTES.c.time_utc, NOTES.c.id))
            return {row.id: Note(row.id, row.time_utc, row.note) for row in rows}

    def note(self, of: str, note: str) -> None:
        """Keep a note of what has the id `of`, in place of an earlier one."""
        told = {"time_utc": datetime.now(UTC).isoformat(timespec="seconds"), "note": note}
        with self._store.writing() as connection:
            row = _insert(connection)(NOTES).values(id=of, **told)
            connection.execute(row.on_conflict_do_update(index_elements=["id"], set_=told))

    def count(self) -> int:
        """The number of runs."""
        with self._store.reading() as connection:
            return int(connection.execute(select(func.count()).select_from(RUNS)).scalar_one())


def _add(connection: Connection, new: KeptRun) -> Outcome:
    _put(connection, MACHINES, id=new.machine.id, name=new.machine.name)
    _put_revision(connection, new.revision)
    digest = digest_of_facts(new.facts)
    _put(connection, ENVIRONMENTS, digest=digest, facts=json.dumps(dict(new.facts)))
    while (number := _put(connection, RUNS, **_columns(new, digest))) is None:
        own = select(RUNS).where(RUNS.c.id == new.id).with_for_update()
        there = connection.execute(own).one_or_none()
        # On a server another writer may just have taken it out.
        if there is not None:
            return _bring_up_to_date(connection, there, new, digest)
    _put_contents(connection, number, new)
    return Outcome.ADDED


def _remove(connection: Connection, ids: Sequence[str]) -> None:
    """Take out the runs of these ids, none of which another writer then changes.

    A number does not do: that of a run which is gone by now may be another run's.
    """
    own = select(RUNS.c.number).where(RUNS.c.id.in_(ids)).order_by(RUNS.c.number)
    numbers = connection.execute(own.with_for_update()).scalars().all()
    for table, column in ((LAUNCHES, "run"), (CASES, "run"), (RUNS, "number")):
        connection.execute(delete(table).where(table.c[column].in_(numbers)))


def _columns(new: KeptRun, environment: str) -> dict[str, Any]:
    return {
        "id": new.id,
        "content": new.content,
        "machine": new.machine.id,
        "revision": new.revision and new.revision.id,
        "dirty": bool(new.revision and new.revision.dirty),
        "environment": environment,
        "time_utc": new.time_utc,
        "label": new.label,
        "launches": new.ended,
        "record": new.record,
        "control": new.control,
    }


def _put(connection: Connection, table: Table, **values: Any) -> int | None:
    """Insert a row unless its key is there; of a new run, its number.

    A server waits here for another writer that inserts the same key.
    """
    row = _insert(connection)(table).values(**values).on_conflict_do_nothing()
    if table is not RUNS:
        connection.execute(row)
        return None
    number: int | None = connection.execute(row.returning(RUNS.c.number)).scalar()
    return number


def _insert(connection: Connection) -> Any:
    """The `insert` of an engine, which knows what to do where the key is there."""
    return sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert


def _put_revision(connection: Connection, revision: Revision | None) -> None:
    """Keep a revision, and what is known of it where that was not."""
    if revision is None:
        return
    known = {"time_utc": revision.time_utc, "parents": json.dumps(revision.parents)}
    _put(connection, REVISIONS, id=revision.id, **known)
    if revision.time_utc:
        connection.execute(
            update(REVISIONS)
            .where(REVISIONS.c.id == revision.id, REVISIONS.c.time_utc == "")
            .values(**known)
        )


def _put_contents(connection: Connection, number: int, new: KeptRun) -> None:
    cases: Iterator[dict[str, Any]] = (
        {
            "run": number,
            "name": case.name,
            "status": case.status,
            "workload": case.workload,
            "score": case.score,
            "better": case.better,
            "logs": json.dumps(case.logs),
            "scores": json.dumps(case.scores),
            "warnings": json.dumps(case.warnings),
        }
        for case in new.cases
    )
    connection.execute(insert(CASES), list(cases))
    blobs = enumerate(new.launches)
    launches = [{"run": number, "place": place, "record": blob} for place, blob in blobs]
    connection.execute(insert(LAUNCHES), launches)


def _bring_up_to_date(
    connection: Connection, there: Row[Any], new: KeptRun, environment: str
) -> Outcome:
    """Replace what a run that is there held, where it has come further or more is told of it."""
    if new.ended < there.launches:
        return Outcome.EARLIER
    values = _columns(new, environment)
    if "machine" not in new.told:
        del values["machine"]
    if "revision" not in new.told and there.revision is not None:
        del values["revision"], values["dirty"]
    if all(getattr(there, name) == value for name, value in values.items() if name != "record"):
        return Outcome.THERE
    connection.execute(update(RUNS).where(RUNS.c.number == there.number).values(**values))
    for table in (CASES, LAUNCHES):
        connection.execute(delete(table).where(table.c.run == there.number))
    _put_contents(connection, there.number, new)
    return Outcome.UPDATED
