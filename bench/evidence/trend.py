"""Times the page of a large history: how long it takes to write, and until a browser shows it."""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from bench.evidence.browser import first_screen
from bench.evidence.history import MACHINE, SEED, made
from bench.evidence.made_runs import make_run, many_cases
from bench.reports.page.trend import trend_page
from bench.reports.plots.trend import draw_trends
from bench.reports.trend_data import Trend, trends
from bench.schema.history import Revision
from bench.schema.sizes import Sizes
from bench.schema.warnings import DISTURBED
from bench.store.history.history import History
from bench.store.history.record import KeptRun, kept
from bench.store.measured import read_run
from bench.store.tables import write_text
from bench.verdicts.history import HistoryReport, judge

# Every so many cases one changes, every so many runs a case is disturbed or fails.
_CHANGED_EACH, _DISTURBED_EACH, _FAILED_EACH = 12, 97, 611
_SLOWER, _BATCH = 0.08, 100
# The shares of the runs after which the driver is another one; at the first, a case changes too.
_DRIVERS = (0.3, 0.75)
_SCREENS = {
    "first screen in a browser": "",
    "first screen in a browser, at the charts": "#charts",
}


def trend_rows(folder: Path, sizes: tuple[int, int], repetitions: int) -> list[dict[str, Any]]:
    """One row for each thing that is timed.

    Args:
        folder: an empty folder. There stay trend.html, the picture trend.png, and trend_page.png,
            what a browser shows of the page.
        sizes: the number of cases, and of runs of one machine that have all of them.
        repetitions: how often each is timed.

    Raises:
        UserError: no browser is installed.
    """
    cases, runs = sizes
    store = folder / "history.sqlite"
    with History(store) as history:
        history.make_ready()
        _fill(history, folder, cases, runs)

    def read() -> tuple[list[Trend], HistoryReport]:
        """The series of the history, and the changes in them."""
        with History(store) as history:
            series = history.series(last=None)
        report = judge(series, Sizes.of_check())
        return trends(series, report.changes), report

    drawn, report = read()
    page = folder / "trend.html"
    write_text(page, trend_page(drawn, report))
    timed: dict[str, Callable[[], float]] = {
        "reading the history and finding changes": lambda: _seconds(read),
        "making the page of them": lambda: _seconds(lambda: trend_page(drawn, report)),
        "drawing the picture": lambda: _seconds(
            lambda: draw_trends(drawn, report, folder / "trend.png")
        ),
    }
    taken = {what: [do() for _ in range(repetitions)] for what, do in timed.items()}
    screens, charts = _screens(page, repetitions)
    first_screen(page, "#charts", folder / "trend_page.png")
    return [
        {
            "what": what,
            "cases": cases,
            "runs": runs,
            "changes": len(report.changes),
            "page_bytes": page.stat().st_size,
            "charts_drawn": charts.get(what),
            "repetitions": repetitions,
            "median_s": median(seconds),
            "lowest_s": min(seconds),
            "highest_s": max(seconds),
        }
        for what, seconds in (taken | screens).items()
    ]


def _screens(page: Path, repetitions: int) -> tuple[dict[str, list[float]], dict[str, int]]:
    """The seconds until each screen is shown, and how many charts are drawn then."""
    seconds, charts = {}, {}
    for what, part in _SCREENS.items():
        shown = [first_screen(page, part) for _ in range(repetitions)]
        seconds[what] = [taken for taken, _ in shown]
        charts[what] = shown[0][1]
    return seconds, charts


def _fill(history: History, folder: Path, cases: int, runs: int) -> None:
    template = kept(read_run(make_run(folder / "run", 0, many_cases(cases), rounds=5)))
    for first in range(0, runs, _BATCH):
        numbers = range(first, min(runs, first + _BATCH))
        history.add_all(_made(template, number, runs) for number in numbers)


def _made(template: KeptRun, number: int, runs: int) -> KeptRun:
    """A made run in which some cases are slower from some run on, disturbed, or failed.

    One launch alone has its rounds kept, because the page needs none.
    """
    run = made(template, number, MACHINE, len(template.cases))
    chance = random.Random(SEED - number)
    cases = []
    for place, case in enumerate(run.cases):
        mark = number * len(run.cases) + place
        if mark % _FAILED_EACH == 0:
            cases.append(replace(case, status="failed", logs=(), scores=()))
            continue
        scores = tuple(score + chance.gauss(0, 0.004) for score in case.scores)
        case = replace(case, scores=scores)
        if place % _CHANGED_EACH == 0 and number > runs * (0.3 + 0.6 * place / len(run.cases)):
            # Every third of them gets faster.
            size = math.log1p(_SLOWER) * (-1 if place // _CHANGED_EACH % 3 == 2 else 1)
            case = replace(case, logs=tuple(log + size for log in case.logs))
        if mark % _DISTURBED_EACH == 0:
            told = f"{DISTURBED}other processes took {mark % 50}% of the cores"
            case = replace(case, warnings=(told,))
        cases.append(case)
    new = sum(number > share * runs for share in _DRIVERS)
    return replace(
        run,
        id=_digest(f"run {number}")[:24],
        revision=Revision(_digest(f"revision {number}")[:40], run.time_utc),
        facts={**run.facts, "driver": str(570 + 10 * new)},
        cases=tuple(cases),
        launches=template.launches[:1],
        ended=1,
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _seconds(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began
