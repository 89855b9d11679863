"""The output of a duel: one line per block while it runs, and a table at its end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from bench.analysis.stats import student_interval
from bench.machine import variables
from bench.reports.scores import Judged, judged
from bench.reports.terminal.run import duration
from bench.schema.case import Case
from bench.schema.cells import counted
from bench.schema.draws import SIDES
from bench.schema.duel import HERE, DuelPlan, Spec
from bench.schema.errors import ExitCode
from bench.session.estimate import IMPORT_S, is_known, launch_seconds
from bench.session.under_way import LEAST
from bench.store.run_folder import RunFolder
from bench.verdicts.check import Verdict, percent
from bench.verdicts.duel import DuelReport, Standing
from bench.verdicts.sequential import LAST_LOOK, PASSING, SPENDING, Decision
from fmnist_models.dataset import VALIDATION_SHARE

LEGEND = (
    "B over A: time; 95% interval over blocks; least: the smallest slow-down that would have "
    "been confirmed; p: of the t-test and of sign flips"
)
_MEANING = {
    ExitCode.PASSED: "B is not worse by the gate",
    ExitCode.REGRESSION: "B is worse",
    ExitCode.WRONG_USE_OR_FAILED_CASE: "a case failed",
    ExitCode.INCONCLUSIVE: "inconclusive",
    ExitCode.INTERRUPTED: "interrupted",
}


class DuelLines:
    """Prints a line for each block and for each look."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._several = False

    def waits(self, reason: str) -> None:
        """Print why the duel waits."""
        self._print(f"waiting: {reason}")

    def duel_begins(self, plan: DuelPlan, folder: Path) -> None:
        """Print the sides, the longest duration, and the number of images."""
        self._several = len(plan.cases) > 1
        sources = {side: _sources(folder / side) for side in SIDES}
        for side, spec in zip(SIDES, (plan.a, plan.b), strict=True):
            self._print(f"{side.upper()}: {spec_words(spec)}{_short_digests(sources[side])}")
            for note in sources[side].get("notes", ()):
                self._print(f"  {note}")
        if _runs_the_same(plan, sources):
            self._print("A and B run the same code: no Python file differs between them")
        told = [RunFolder(folder / side).environment() or {} for side in SIDES]
        for line in dict.fromkeys(filter(None, map(variables.warning, told))):
            self._print(line)
        if plan.rows is not None:
            self._print(f"cut short: the first {plan.rows:,} training images only")
        each = sorted({plan.settings.epochs_of(case) for case in plan.cases})
        epochs = " or ".join([*map(str, each[:-1]), counted(each[-1], "epoch")])
        of_steps = "" if plan.settings.steps is None else f" of {plan.settings.steps:,} steps"
        bound = "at most about" if all(map(is_known, plan.cases)) else "at least"
        samples = None
        if plan.rows is not None:
            samples = round((1 - VALIDATION_SHARE) * plan.rows)
        imports = 2 * (plan.templates if plan.settings.fork else 1)
        most = IMPORT_S * imports + 2 * LAST_LOOK * sum(
            launch_seconds(case, plan.settings, samples, LEAST) for case in plan.cases
        )
        cases = counted(len(plan.cases), "case")
        budget = "" if plan.budget_s is None else f", no block after {duration(plan.budget_s)}"
        looks = ", ".join(map(str, PASSING))
        self._print(
            f"{cases}, {epochs}{of_steps}; looks after {looks} blocks; {bound} "
            f"{duration(most)} where nothing disturbs it{budget}; in {folder}"
        )

    def block_voided(self, case: Case, reason: str) -> None:
        """Print why a block is measured again."""
        self._print(f"{f'{case.id}: ' if self._several else ''}{reason} (measured again)")

    def block_ends(self, standing: Standing, control: float) -> None:
        """Print the interval so far."""
        name = f"{standing.case.id}\n  " if self._several else ""
        shown = f"{name}block {len(standing.speed)}/{LAST_LOOK}: B over A {ratio_words(standing)}"
        self._print(f"{shown}, control {math.exp(control):.3f}")

    def looked(self, standing: Standing) -> None:
        """Print what the look decided."""
        seen = standing.speed_look
        if seen is not None:
            said = {
                Verdict.REGRESSION: "B is worse",
                Verdict.PASSED: "B is not worse",
            }.get(standing.verdict, "not decided")
            name = f"{standing.case.id}: " if self._several else ""
            needs = _p(seen.level) if seen.level else f"{min(SPENDING)} blocks"
            told = f"{said} (p {_p(seen.p)}, needs {needs} to be slower)"
            self._print(f"  look at {seen.blocks}: {name}{told}")

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def spec_words(spec: Spec) -> str:
    """A side in the form in which the user writes it."""
    words = [f"python={spec.python}"] if spec.python else []
    if spec.checkout:
        revision = f"@{spec.revision[:12]}" if spec.revision else ""
        words.append(f"checkout={spec.checkout}{revision}")
    words += [f"backend={spec.backend}"] if spec.backend else []
    words += [f"{name}={value}" for name, value in spec.variables]
    return " ".join(words) or HERE


def _sources(side: Path) -> Mapping[str, Any]:
    """The digests of a side's files; empty where none were stored."""
    found = (RunFolder(side).environment() or {}).get("sources")
    return found if isinstance(found, Mapping) else {}


def _short_digests(sources: Mapping[str, Any]) -> str:
    """The first digits of the digests of a side's files, in parentheses."""
    digests = [f"{what} {sources[what][:8]}" for what in ("suite", "models") if sources.get(what)]
    return f" ({', '.join(digests)})" if digests else ""


def _runs_the_same(plan: DuelPlan, sources: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether two sides with different checkouts have the same Python files."""
    named = {(spec.checkout, spec.revision) for spec in (plan.a, plan.b)}
    found = [(own.get("suite"), own.get("models")) for own in sources.values()]
    return len(named) > 1 and found[0] == found[1] and found[0][0] is not None


def print_duel(report: DuelReport, console: Console) -> None:
    """Print the table, the failures, and the verdict."""
    scores = judged(standing.scale for standing in report.cases if standing.score)
    for line in _table(report.cases, scores):
        console.print(Text(line), soft_wrap=True)
    legend = LEGEND + f"; {scores.legend}, B less A" * bool(scores.scales)
    for line in (legend, *verdict_lines(report)):
        console.print(Text(line), soft_wrap=True)


def _table(standings: Sequence[Standing], scores: Judged) -> Iterator[str]:
    """The lines of the table; a case's id has its own line, because it may be long."""
    heading = ("blocks", "B over A", "least", "p", "flips", *scores.heading("points"), "verdict")
    rows = [(*_cells(standing, scores), str(standing.verdict)) for standing in standings]
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        """The cells as a line; all but the verdict are aligned right."""
        padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        return "  ".join([*padded[:-1], cells[-1]])

    yield line(heading)
    for standing, row in zip(standings, rows, strict=True):
        yield standing.case.id
        yield line(row)


def verdict_lines(report: DuelReport) -> list[str]:
    """Sentences about failures, scores that fell and the control, and the verdict."""
    lines = []
    for standing in report.cases:
        case = standing.case.id
        if standing.failure:
            lines.append(f"{case}: {standing.failure}")
        if fell := _fell(standing):
            lines.append(f"{case}: {fell}")
    if report.control_differs:
        ratio = math.exp(sum(report.control) / len(report.control))
        lines.append(
            f"the control, which neither side can change, took {ratio:.3f} times as long before B "
            "as before A: the machine was not the same for both, so no verdict holds"
        )
    if report.stopped:
        lines.append(f"stopped: {report.stopped}")
    code = report.exit_code
    return [
        *lines,
        f"{_MEANING[code]} (exit {int(code)}); the gate is {report.plan.gate:.1%}, the "
        f"margin {report.plan.margin:.1%}",
    ]


def _fell(standing: Standing) -> str:
    """By how much the score is worse, where that is beyond doubt; else empty."""
    seen = standing.score_look
    worse = seen is not None and seen.decision is Decision.WORSE
    return standing.scale.fell(seen.mean) if seen and worse else ""


def _cells(standing: Standing, scores: Judged) -> list[str]:
    seen = standing.speed_look
    cells = [str(len(standing.speed)), ratio_words(standing), "", "", ""]
    if seen is not None:
        alarms = math.isfinite(seen.smallest)
        least = percent(math.expm1(min(seen.smallest, 700))) if alarms else "-"
        cells[2:5] = least, _p(seen.p), _p(seen.sign_flip_p)
    if standing.score:
        change = standing.scale.change(sum(standing.score) / len(standing.score))
        return [*cells, scores.cell(standing.scale, change)]
    return cells + [""] * bool(scores.scales)


def ratio_words(standing: Standing) -> str:
    """B's time over A's with its interval over blocks; empty before the first block."""
    logs = standing.speed
    if not logs:
        return ""
    interval = student_interval(logs)
    mean = f"{math.exp(sum(logs) / len(logs)):.3f}"
    if interval is None:
        return mean
    low, high = map(math.exp, interval)
    return f"{mean} ({low:.3f} to {high:.3f})"


def measured_words(standing: Standing) -> str:
    """What a duel measured of a case, as text; empty before the first block."""
    times = ratio_words(standing)
    return ", ".join(filter(None, (f"{times} times the time" * bool(times), _fell(standing))))


def _p(p: float) -> str:
    return f"{p:.2g}" if p >= 1e-4 else f"{p:.0e}" if p > 1e-99 else "0"
