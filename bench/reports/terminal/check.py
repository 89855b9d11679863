"""What a check shows: a table, check.json, JUnit XML and Markdown for CI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.reports.formatting import disturbed_line
from bench.reports.scores import Judged, judged
from bench.schema.cells import finite, finite_fields
from bench.schema.errors import ExitCode
from bench.schema.score import OF_ACCURACY, Scale
from bench.store.files import CHECK_JSON, CHECK_JUNIT, CHECK_MARKDOWN
from bench.store.tables import write_json, write_text
from bench.verdicts.check import (
    SCORE_LEVEL,
    SPEED_LEVEL,
    CheckedCase,
    CheckReport,
    Verdict,
    percent,
)
from bench.verdicts.regression import POWER
from fmnist_models.errors import UserError

SCHEMA_VERSION = 2
FILES = ("check.json", "check.xml", "check.md")
# `POWER`, for a person.
OFTEN = "nine times in ten"
_MEANING = {
    ExitCode.PASSED: "passed",
    ExitCode.REGRESSION: "regression",
    ExitCode.WRONG_USE_OR_FAILED_CASE: "a case failed",
    ExitCode.INCONCLUSIVE: "inconclusive",
}


def print_check(report: CheckReport, console: Console) -> None:
    """The table, the reasons of cases that did not pass, and what could have been seen."""
    # Without a blank at the end, the longest case of `quick` fits 80 columns.
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("case", overflow="fold")
    scores = judged(case.scale for case in report.cases if case.score)
    points = scores.heading("points")
    for name in ("slower", "least", *points, *["least"] * len(points)):
        table.add_column(Text(name), justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for case in report.cases:
        table.add_row(*map(Text, (case.case, *_cells(case, scores), str(case.verdict))))
    console.print(table)
    least = f"least: the smallest change that is found {OFTEN}"
    legend = "; ".join(filter(None, ("slower: time added", scores.legend, least)))
    for line in (legend, *_reasons(report), *summary_lines(report)):
        console.print(Text(line), soft_wrap=True)


def summary_lines(report: CheckReport) -> list[str]:
    """Two sentences: what is found and what had to be, and the verdict."""
    runs, sizes = f"{len(report.baseline)} baseline runs", report.sizes
    if report.smallest is None:
        seen = f"{runs}: no case could be tested"
    else:
        worst = max(report.cases, key=lambda c: c.speed.smallest if c.speed else 0.0)
        seen = (
            f"{runs} find a slow-down from {percent(report.smallest)} on in any case, {OFTEN} "
            f"(least sure: {worst.case}); the gate is {sizes.gate:.1%}, the margin "
            f"{sizes.margin:.1%}"
        )
    for scale, smallest in _smallest(report).items():
        seen += (
            f"; a {scale.fall} of {scale.name} from {_size(scale, smallest)} on; its gate is "
            f"{_size(scale, sizes.accuracy_gate)}, its margin {_size(scale, sizes.accuracy_margin)}"
        )
    if report.times < len(report.candidate):
        seen += (
            f"; the {len(report.candidate)} runs of the candidate count as {report.times}, since "
            "those within an hour share its drift"
        )
    counts = Counter(case.verdict for case in report.cases)
    told = ", ".join(f"{counts[v]} {v}" for v in Verdict if counts[v])
    verdict = f"{_MEANING[report.exit_code]} (exit {int(report.exit_code)}): {told}"
    return [*filter(None, (disturbed_line(report.disturbed), seen)), verdict]


def write_check(report: CheckReport, folder: Path) -> tuple[Path, ...]:
    """Write check.json, check.xml (JUnit) and check.md into `folder`.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / FILES[0], as_json(report), CHECK_JSON)
        write_text(folder / FILES[1], junit(report), CHECK_JUNIT)
        write_text(folder / FILES[2], markdown(report), CHECK_MARKDOWN)
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error}; name another --output"
        ) from error
    return tuple(folder / name for name in FILES)


def as_json(report: CheckReport) -> dict[str, Any]:
    """The report as plain JSON values; what is not finite is null."""
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": _MEANING[report.exit_code],
        "exit_code": int(report.exit_code),
        "baseline": list(report.baseline),
        "candidate": list(report.candidate),
        "candidate_times": report.times,
        "disturbed": dict(report.disturbed),
        "gate": report.sizes.gate,
        "margin": report.sizes.margin,
        "level": SPEED_LEVEL / report.sizes.checks,
        "accuracy_gate": report.sizes.accuracy_gate,
        "accuracy_margin": report.sizes.accuracy_margin,
        "accuracy_level": SCORE_LEVEL / report.sizes.checks,
        "power": POWER,
        "smallest": finite(report.smallest),
        "smallest_drop": finite(report.smallest_drop),
        "cases": [
            {
                "case": case.case,
                "verdict": str(case.verdict),
                "reason": case.reason,
                "speed": finite_fields(case.speed),
                "accuracy": finite_fields(case.score) if case.scale == OF_ACCURACY else None,
                **_another_score(case),
            }
            for case in report.cases
        ],
    }


def _another_score(case: CheckedCase) -> dict[str, Any]:
    """The test of a score other than the accuracy, with its name, direction and unit."""
    measured = finite_fields(case.score)
    if measured is None or case.scale == OF_ACCURACY:
        return {}
    return {"score": {**case.scale.to_json(), **measured}}


def junit(report: CheckReport) -> str:
    """JUnit XML: a test a case; regressions are failures, failed cases errors, and what
    could not be decided is skipped."""
    # One suite of plain cases: junitparser would make this no shorter.
    from xml.etree import ElementTree

    kinds = {
        Verdict.REGRESSION: "failure",
        Verdict.FAILED: "error",
        **dict.fromkeys((Verdict.BLIND, Verdict.MISSING, Verdict.NEW), "skipped"),
    }
    counts = Counter(kinds.get(case.verdict, "") for case in report.cases)
    suite = ElementTree.Element(
        "testsuite",
        name="fmnist-bench check",
        tests=str(len(report.cases)),
        failures=str(counts["failure"]),
        errors=str(counts["error"]),
        skipped=str(counts["skipped"]),
    )
    for case in report.cases:
        test = ElementTree.SubElement(suite, "testcase", classname="check", name=case.case)
        if case.verdict in kinds:
            message = f"{case.verdict}: {case.reason}"
            ElementTree.SubElement(test, kinds[case.verdict], message=_printable(message))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, "unicode", xml_declaration=True) + "\n"


def markdown(report: CheckReport) -> str:
    """A short summary for a CI page: the verdict, and the cases that did not pass."""
    *seen, verdict = summary_lines(report)
    lines = [f"### fmnist-bench check: {verdict}", "", *(f"{line}.\n" for line in seen)]
    shown = [case for case in report.cases if case.verdict is not Verdict.PASSED]
    scores = judged(case.scale for case in report.cases if case.score)
    if shown:
        heads = ("case", "slower", *scores.heading("accuracy points"), "verdict")
        lines += [_markdown_row(heads), "|" + "---|" * len(heads)]
    for case in shown:
        slower, _, *judged_by = _cells(case, scores)
        verdict = f"{case.verdict}: {case.reason}"
        lines.append(_markdown_row((f"`{case.case}`", slower, *judged_by[:1], verdict)))
    return "\n".join(lines).rstrip() + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def told(case: CheckedCase) -> str:
    """The reason without the figures that would tell cases of one kind apart."""
    return case.brief or case.reason


def _reasons(report: CheckReport) -> list[str]:
    """The reasons, those of one wording together."""
    found: dict[tuple[Verdict, str], list[str]] = {}
    for case in report.cases:
        if case.reason:
            found.setdefault((case.verdict, told(case)), []).append(case.case)
    lines = []
    for (verdict, reason), cases in found.items():
        more = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
        lines.append(f"{cases[0]}{more}: {verdict}: {reason}")
    return lines


def _cells(case: CheckedCase, scores: Judged) -> list[str]:
    """Change and least change of the speed, and of the score where any case has one."""
    cells = [""] * (4 if scores.scales else 2)
    if case.speed:
        cells[:2] = f"{case.speed.change:+.1%}", percent(case.speed.smallest)
    if case.score:
        scale, smallest = case.scale, case.score.smallest
        least = f"{scale.change(smallest):{'+' * (scale.fall == 'rise')}.1f}{scale.sign}"
        never = scale.unit is None and smallest >= 1
        change = scale.change(case.score.change)
        cells[2:] = scores.cell(scale, change), "never" if never else least
    return cells


def _smallest(report: CheckReport) -> dict[Scale, float]:
    """The least change for the worse that is found in any case of a score, by that score."""
    found: dict[Scale, float] = {}
    for case in report.cases:
        if case.score:
            # The unit differs between cases; whether there is one counts.
            scale = replace(case.scale, unit=case.scale.unit and 1.0)
            found[scale] = max(found.get(scale, 0.0), case.score.smallest)
    return found


def _size(scale: Scale, share: float) -> str:
    return scale.sized(share) if share < 1 or scale.unit is not None else "no size"


def _printable(text: str) -> str:
    """XML 1.0 knows no control characters."""
    return "".join(c if c.isprintable() else " " for c in text)
