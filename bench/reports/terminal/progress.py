"""The progress of a run: a bar on a terminal, one line per launch elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column

from bench.analysis import noise
from bench.reports.scores import in_digits
from bench.reports.terminal.run import duration
from bench.schema.case import Case
from bench.schema.cells import counted
from bench.schema.launch import LaunchRecord, Round, Status
from bench.schema.plan import Plan
from bench.session.attempts import LOST
from bench.session.estimate import is_known, launch_seconds
from bench.session.events import Progress


def progress_for(console: Console) -> Progress:
    """A progress bar where `console` is a terminal, lines where it is not."""
    return _TerminalProgress(console) if console.is_terminal else LineProgress(console)


class TimeLeft:
    """Estimates the seconds left.

    The estimates of the remaining launches are scaled by measured over estimated time so far.
    """

    def __init__(self, plan: Plan, remaining: Sequence[tuple[Case, int]]) -> None:
        self._estimates = [launch_seconds(case, plan.settings) for case, _ in remaining]
        self._started: float | None = None
        self._done = 0

    def launch_begins(self) -> None:
        """Start the clock at the first launch, because the estimates exclude the ceilings."""
        if self._started is None:
            self._started = monotonic()

    def launch_ended(self) -> None:
        """Count a launch as done."""
        self._done += 1

    def seconds(self) -> float:
        """Seconds until the last launch ends."""
        expected = sum(self._estimates[: self._done])
        ratio = 1.0
        if expected and self._started is not None:
            ratio = (monotonic() - self._started) / expected
        return ratio * sum(self._estimates[self._done :])


class LineProgress(Progress):
    """Prints a line for each launch.

    Args:
        console: where.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rounds: list[Round] = []
        self._in_turns = False

    def run_begins(self, plan: Plan, remaining: Sequence[tuple[Case, int]]) -> None:
        """Print the number of launches, and the estimated time."""
        self._plan = plan
        self._total = len(remaining)
        self._number = 0
        self._left = TimeLeft(plan, remaining)
        about = "about" if all(is_known(case) for case, _ in remaining) else "at least"
        time = duration(self._left.seconds())
        launches = counted(self._total, "launch", "launches")
        self._print(f"{launches} of {counted(len(plan.cases), 'case')}, {about} {time}")

    def waits(self, reason: str) -> None:
        """Print why the run waits."""
        self._print(f"waiting: {reason}")

    def ceilings_begin(self, moment: str) -> None:
        """Print that the ceilings are measured now."""
        self._print(f"measuring the best rates of this machine, {moment} the cases")

    def ceilings_fail(self, reason: str) -> None:
        """Print which columns stay empty, and why."""
        self._print(f"not measured, so the roofline columns stay empty: {reason}")

    def launch_begins(self, case: Case, launch: int) -> None:
        """Note the launch of the next rounds."""
        self._case, self._launch = case, launch
        self._left.launch_begins()
        self._number += 1
        self._in_turns = False
        self._rounds = []

    def together_begins(self, cases: Sequence[Case], launch: int) -> None:
        """Start the clock; the lines follow when all have ended."""
        self._left.launch_begins()
        self._in_turns = True

    def round_ends(self, round_: Round) -> None:
        """Keep the round for the launch's line."""
        self._rounds.append(round_)

    def launch_voided(self, record: LaunchRecord) -> None:
        """Print what disturbed the launch, and discard its rounds."""
        self._print_launch(record, " (measured again)")
        self._rounds = []

    def launch_lost(self, case_id: str, launch: int, reason: str) -> None:
        """Print why a launch that had ended ok is measured again."""
        self._print(f"{case_id}, launch {launch + 1}: {LOST}: {reason}; it is measured again")

    def launch_ends(self, record: LaunchRecord) -> None:
        """Print the launch's line."""
        self._left.launch_ended()
        self._print_launch(record, "")

    def run_ends(self) -> None:
        """Do nothing: lines stay on the screen."""

    def _print_launch(self, record: LaunchRecord, more: str) -> None:
        line = _line(self._plan, record, self._rounds)
        # Launches that take turns are counted when all of them count.
        number = "" if self._in_turns else f"[{self._number}/{self._total}] "
        self._print(f"{number}{line}{more}")

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class _TerminalProgress(LineProgress):
    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bar = Bar(
            MofNCompleteColumn(),
            BarColumn(bar_width=8),
            TextColumn("{task.fields[left]}"),
            # On a narrow terminal this column is shortened at its end.
            TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
            ),
            console=console,
            expand=True,
            transient=True,
        )
        self._task: TaskID | None = None

    def run_begins(self, plan: Plan, remaining: Sequence[tuple[Case, int]]) -> None:
        """Show the bar."""
        super().run_begins(plan, remaining)
        self._task = self._bar.add_task("starting", total=self._total, left="")
        self._bar.start()

    def launch_begins(self, case: Case, launch: int) -> None:
        """Show the case of the launch."""
        super().launch_begins(case, launch)
        self._show("warm-up")

    def together_begins(self, cases: Sequence[Case], launch: int) -> None:
        """Show the cases whose rounds alternate, by the first of them."""
        super().together_begins(cases, launch)
        self._case = cases[0]
        self._show(f"{len(cases)} cases in turns")

    def round_ends(self, round_: Round) -> None:
        """Show the epoch."""
        super().round_ends(round_)
        self._show(f"epoch {round_.round}")

    def launch_voided(self, record: LaunchRecord) -> None:
        """Print the line; the bar stays."""
        super().launch_voided(record)
        self._show("warm-up")

    def launch_ends(self, record: LaunchRecord) -> None:
        """Print the line and move the bar on."""
        super().launch_ends(record)
        if self._task is not None:
            self._bar.advance(self._task)

    def run_ends(self) -> None:
        """Remove the bar."""
        self._bar.stop()

    def _show(self, what: str) -> None:
        if self._task is not None:
            left = duration(self._left.seconds())
            self._bar.update(self._task, description=f"{what}: {self._case.id}", left=left)


def _line(plan: Plan, record: LaunchRecord, rounds: Sequence[Round]) -> str:
    case = next(case for case in plan.cases if case.id == record.case)
    launches = plan.settings.launches_of(case)
    which = f" launch {record.launch + 1}/{launches}" if launches > 1 else ""
    if record.status is not Status.OK:
        return f"{record.case}{which}: {record.status}: {record.reason}"
    rate = f"{median(r.samples / r.seconds for r in rounds):,.0f} samples/s"
    score = record.test_score
    shown = "" if score is None else in_digits(record.score, score, 3)
    tested = f", test {record.score} {shown}" * bool(shown)
    disturbed = "".join(f", {phrase}" for phrase in noise.matters(record.noise))
    return f"{record.case}{which}: {rate}{tested}{disturbed}"
