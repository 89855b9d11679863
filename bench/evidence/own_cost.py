"""Measures what the suite itself costs: for a launch, and in its commands on small and large runs.

Every figure stands beside an empty loop of the interpreter, measured in turns with the commands, so
that it says the same on a slow machine and on a fast one.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from bench.evidence.browser import CHARTS, first_screen
from bench.evidence.commands import CLI, compiled_once, memory_of, seconds_of
from bench.evidence.made_runs import ROUNDS, made_record, make_run, many_cases, ordinary_cases
from bench.launch.launcher import Launcher
from bench.launch.placement import LaunchPlace
from bench.launch.stepwise import OnRound, Turns
from bench.reports.page.page import write_report
from bench.reports.terminal.progress import LineProgress
from bench.schema.case import Case, logistic_case
from bench.schema.launch import LaunchRecord, Round
from bench.schema.plan import Plan, RunSettings
from bench.schema.requests import LaunchRequest
from bench.session.attempts import RunUnderWay
from bench.session.places import ThisMachine
from bench.store.measured import read_in_full
from bench.store.proof import keep_proof
from bench.store.run_folder import RunFolder

Row = dict[str, Any]
TURNS = 10_000_000
LOOP = f"an empty loop of {TURNS:,} turns"
_ORDINARY_RUNS = 10
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the runs are.

    Attributes:
        cases: of a large run; by default those of the matrix `full` on a CPU.
        most_cases: of the largest page.
        runs: large ones that are compared.
        launches: of the run whose launches end at once, each of a case of its own.
        part: so many launches of it are the first, and so many the last.
    """

    cases: int = 1_081
    most_cases: int = 5_000
    runs: int = 20
    launches: int = 1_000
    part: int = 100


@dataclass(frozen=True, slots=True)
class _Command:
    """A command with what it must keep: seconds, and bytes of memory."""

    words: tuple[str | Path, ...]
    cases: int | None = None
    runs: int | None = None
    target_s: float | None = None
    target_bytes: int | None = None


def cost_rows(
    folder: Path, scale: Scale, repetitions: int, told: Callable[[str], None]
) -> list[Row]:
    """One row for each thing that is timed; the first is the empty loop.

    Commands run in fresh processes. Each first runs once without being timed, to know its memory,
    and so that Python has compiled the modules.

    Args:
        folder: an empty folder for made runs.
        scale: how large they are.
        repetitions: number of timed processes of each command; the commands alternate.
        told: is told what goes on.

    Raises:
        RuntimeError: a command failed.
        UserError: no browser is installed.
    """
    told("making runs")
    commands = _commands(folder, scale)
    environ = compiled_once(folder / "compiled")
    log = folder / "said"
    memory = {name: memory_of(own.words, environ, log) for name, own in commands.items()}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(repetitions):
        told(f"commands, turn {number + 1} of {repetitions}")
        for name, own in commands.items():
            seconds[name].append(seconds_of(own.words, environ))
    unit = median(seconds[LOOP])
    rows = [
        _row(
            name,
            seconds[name],
            unit,
            cases=own.cases,
            runs=own.runs,
            target_s=own.target_s,
            peak_memory_bytes=memory[name],
            target_bytes=own.target_bytes,
        )
        for name, own in commands.items()
    ]
    told("reading, and launches that end at once")
    rows.append(_reading_row(folder / "large" / "00", scale, repetitions, unit))
    rows += _launch_rows(folder / "launches", scale, repetitions, unit)
    for cases, target_s in ((scale.cases, 2.0), (scale.most_cases, 4.0)):
        told(f"the page of {cases} cases in a browser")
        run = make_run(folder / f"page{cases}", 0, many_cases(cases), rounds=5, launches=1)
        page = write_report([run], folder / f"page{cases}.html")
        shown = [first_screen(page, charts=CHARTS)[0] for _ in range(repetitions)]
        name = f"first screen of the page of {cases} cases in a browser"
        rows.append(_row(name, shown, unit, cases=cases, runs=1, target_s=target_s))
    return rows


def _commands(folder: Path, scale: Scale) -> dict[str, _Command]:
    ordinary = ordinary_cases()
    base = [make_run(folder / "base" / f"{n:02d}", n) for n in range(_ORDINARY_RUNS)]
    now = make_run(folder / "now", _ORDINARY_RUNS)
    cases = [*many_cases(scale.cases - 1), logistic_case()]
    large = [
        make_run(folder / "large" / f"{n:02d}", n, cases, launches=None) for n in range(scale.runs)
    ]
    for run in (*base, now, *large):
        # As the run itself does when it ends.
        keep_proof(read_in_full(run))
    few = {"cases": len(ordinary), "runs": _ORDINARY_RUNS}
    many = {"cases": scale.cases, "runs": scale.runs}
    page, compared = folder / "report.html", folder / "compared"
    check: tuple[str | Path, ...] = (*CLI, "check", "--baseline", base[0].parent, now)
    return {
        LOOP: _Command(("-S", "-E", "-c", f"for _ in range({TURNS}): pass")),
        "help": _Command((*CLI, "--help"), target_s=0.15),
        "list --matrix full": _Command((*CLI, "list", "--matrix", "full"), target_s=0.5),
        "check": _Command(check, **few),
        "compare": _Command((*CLI, "compare", *base, "--output", compared), **few),
        "report": _Command(
            (*CLI, "report", large[0], "--output", page), scale.cases, 1, target_s=5.0
        ),
        "compare of large runs": _Command(
            (*CLI, "compare", *large, "--output", folder / "compared-large"),
            **many,
            target_s=5.0,
            target_bytes=_GIB,
        ),
        # The least time of a command that draws a picture.
        "import of matplotlib": _Command(("-c", "import matplotlib.figure")),
    }


def _row(what: str, seconds: list[float], unit: float, **own: Any) -> Row:
    middle = median(seconds)
    return {
        "what": what,
        "cases": own.get("cases"),
        "runs": own.get("runs"),
        "repetitions": len(seconds),
        "median_s": middle,
        "lowest_s": min(seconds),
        "highest_s": max(seconds),
        "over_loop": middle / unit,
        "target_s": own.get("target_s"),
        "peak_memory_bytes": own.get("peak_memory_bytes"),
        "target_bytes": own.get("target_bytes"),
    }


def _reading_row(run: Path, scale: Scale, repetitions: int, unit: float) -> Row:
    """The row of reading a large run, with every check, in this process."""
    seconds = []
    for _ in range(repetitions + 1):
        began = time.perf_counter()
        read_in_full(run)
        seconds.append(time.perf_counter() - began)
    # The first reading also fills the file system's cache and imports modules.
    return _row("reading a run in full", seconds[1:], unit, cases=scale.cases, runs=1)


class _Instant(Launcher):
    """Ends each launch at once, with rounds that took no time."""

    def turns(
        self,
        request: LaunchRequest,
        place: LaunchPlace,
        on_round: OnRound,
        *,
        pauses: bool,
        template: int = 0,
    ) -> Turns[LaunchRecord]:
        """The record of a made launch, after as many rounds as `compiled` has."""
        for number in range(1, ROUNDS + 1):
            accuracy = 0.85 if number <= request.epochs else None
            on_round(Round(number, 48_000, 1_500, 1.0, 0.0, val_score=accuracy))
        return made_record(request.case, request.launch, ROUNDS)
        yield


class _Everything(ThisMachine):
    """A machine that has every case measured."""

    def skip_reason(self, case: Case, plan: Plan) -> str | None:
        """None."""


class _Clock(LineProgress):
    """Notes when each launch begins, beside the lines that a user sees."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO(), width=80))
        self.begins_s: list[float] = []

    def launch_begins(self, case: Case, launch: int) -> None:
        """Note the time."""
        self.begins_s.append(time.perf_counter())
        super().launch_begins(case, launch)


def _launch_rows(folder: Path, scale: Scale, repetitions: int, unit: float) -> list[Row]:
    """The rows of what the suite adds to a launch, at the beginning and the end of a large run.

    That is all it does between two launches, and while one runs, but for the worker: the control
    probe, the files, the row of the case, and results.csv, which is written after each launch, as
    it is where launches take more than five seconds.
    """
    parts: dict[str, list[float]] = {"first": [], "last": []}
    for number in range(repetitions):
        settings = RunSettings(launches=1)
        plan = Plan(tuple(many_cases(scale.launches)), settings)
        clock = _Clock()
        run = RunFolder.create(folder / str(number), plan)
        with _Instant() as launcher:
            under_way = RunUnderWay(plan, run, clock, launcher, _Everything())
            under_way.results_every_s = 0.0
            under_way.to_the_end(ceilings=False)
        part = scale.part
        for name, ends in (("first", clock.begins_s[: part + 1]), ("last", clock.begins_s[-part:])):
            parts[name].append((ends[-1] - ends[0]) / (len(ends) - 1))
    return [
        _row(
            f"a launch, but for its worker: the {name} {scale.part} of {scale.launches:,}",
            seconds,
            unit,
            cases=scale.launches,
            runs=1,
            target_s=0.02,
        )
        for name, seconds in parts.items()
    ]
