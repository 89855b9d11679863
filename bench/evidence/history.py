"""Times a large history of made runs: adding one more, and reading the series of a machine."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from bench.evidence.made_runs import make_run
from bench.schema.history import Revision
from bench.schema.sizes import Sizes
from bench.store.history.history import History
from bench.store.history.record import KeptRun, Machine, kept
from bench.store.measured import read_run
from bench.verdicts.history import judge
from fmnist_models.errors import UserError

SEED = 2026
MACHINE = Machine("made", "made up")
# Cases of a run of another machine, the number of those, and runs in one transaction.
_FEW, _OTHERS, _BATCH = 3, 50, 500
_BEGAN = datetime(2020, 1, 1, tzinfo=UTC)


def history_rows(
    folder: Path, store: str | None, sizes: tuple[int, int], repetitions: int
) -> list[dict[str, Any]]:
    """One row for each thing that is timed, in this process, which has imported the modules.

    Args:
        folder: an empty folder.
        store: URL of an empty database; None for a SQLite file in `folder`.
        sizes: the number of runs, and how many of them, the newest, are of one machine and are
            read.
        repetitions: how often each is timed.

    Raises:
        UserError: the database is not empty.
    """
    runs, last = sizes
    place = folder / "history.sqlite"
    history = History(store or place)
    history.make_ready()
    if history.count():
        raise UserError(f"{history.shown} is not empty: name an empty database")
    template = kept(read_run(make_run(folder / "run", 0)))
    _fill(history, template, runs, last)
    new = [make_run(folder / f"new{number}", number + 1) for number in range(repetitions + 1)]

    def add() -> None:
        """Read a run's folder, and add it."""
        added = kept(read_run(new.pop()), MACHINE.id)
        history.add(replace(added, time_utc=_time(runs + len(new))))

    timed: dict[str, Callable[[], object]] = {
        f"adding a run of {len(template.cases)} cases": add,
        f"reading {len(template.cases)} cases of the last {last} runs": lambda: history.series(
            MACHINE.id, last=last
        ),
        f"reading them and finding changes among the last {last} runs": lambda: judge(
            history.series(MACHINE.id, last=last), Sizes.of_check()
        ),
    }
    size = place.stat().st_size if store is None else None
    rows = [
        {
            "what": what,
            "engine": "SQLite" if store is None else "PostgreSQL",
            "runs": runs,
            "file_bytes": size,
            "repetitions": repetitions,
            **_seconds(do, repetitions),
        }
        for what, do in timed.items()
    ]
    history.close()
    return rows


def made(template: KeptRun, number: int, machine: Machine, cases: int) -> KeptRun:
    """A made run, an hour after that of the number before, with `cases` of the template's cases.

    Its speeds are drawn; its blobs are the template's.
    """
    chance = random.Random(SEED + number)
    drawn = tuple(
        replace(case, logs=tuple(log + chance.gauss(0, 0.02) for log in case.logs))
        for case in template.cases[:cases]
    )
    each = len(template.launches) // len(template.cases)
    return replace(
        template,
        id=f"{number:024x}",
        machine=machine,
        revision=Revision(f"{number // 10:040x}", _time(number), (f"{number // 10 - 1:040x}",)),
        facts={**template.facts, "kernel": f"6.{number // 1000}"},
        time_utc=_time(number),
        label="made up",
        cases=drawn,
        launches=template.launches[: cases * each],
        ended=cases * each,
    )


def _fill(history: History, template: KeptRun, runs: int, last: int) -> None:
    def every() -> Iterator[KeptRun]:
        """The runs of the other machines, then those of the one."""
        for number in range(runs):
            if number < runs - last:
                name = f"other {number % _OTHERS}"
                yield made(template, number, Machine(name, name), _FEW)
            else:
                yield made(template, number, MACHINE, len(template.cases))

    batch: list[KeptRun] = []
    for run in every():
        batch.append(run)
        if len(batch) == _BATCH:
            history.add_all(batch)
            batch.clear()
    history.add_all(batch)


def _seconds(do: Callable[[], object], repetitions: int) -> dict[str, float]:
    taken = []
    for _ in range(repetitions + 1):
        began = time.perf_counter()
        do()
        taken.append(time.perf_counter() - began)
    # The first one also fills caches.
    own = taken[1:]
    return {"median_s": median(own), "lowest_s": min(own), "highest_s": max(own)}


def _time(number: int) -> str:
    return (_BEGAN + timedelta(hours=number)).isoformat(timespec="seconds")
