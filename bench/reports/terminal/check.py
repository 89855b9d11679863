"""What a check shows: a table, check.json, JUnit XML and Markdown for CI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.reports.formatting import disturbed_line
from bench.schema.cells import finite, finite_fields
from bench.schema.errors import ExitCode
from bench.store.files import CHECK_JSON, CHECK_JUNIT, CHECK_MARKDOWN
from bench.store.tables import write_json, write_text
from bench.verdicts.check import (
    ACCURACY_LEVEL,
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
LEGEND = (
    "slower: time added; points: of validation accuracy; least: the smallest change that is "
    f"found {OFTEN}"
)
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
    for name in ("slower", "least", "points", "least"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for case in report.cases:
        table.add_row(Text(case.case), *_cells(case), str(case.verdict))
    console.print(table)
    for line in (LEGEND, *_reasons(report), *summary_lines(report)):
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
    if report.smallest_drop is not None:
        seen += (
            f"; a drop of accuracy from {_points(report.smallest_drop)} on; its gate is "
            f"{_points(sizes.accuracy_gate)}, its margin {_points(sizes.accuracy_margin)}"
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
        "level": SPEED_LEVEL,
        "accuracy_gate": report.sizes.accuracy_gate,
        "accuracy_margin": report.sizes.accuracy_margin,
        "accuracy_level": ACCURACY_LEVEL,
        "power": POWER,
        "smallest": finite(report.smallest),
        "smallest_drop": finite(report.smallest_drop),
        "cases": [
            {
                "case": case.case,
                "verdict": str(case.verdict),
                "reason": case.reason,
                "speed": finite_fields(case.speed),
                "accuracy": finite_fields(case.accuracy),
            }
            for case in report.cases
        ],
    }


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
    if shown:
        lines += ["| case | slower | accuracy points | verdict |", "|---|---|---|---|"]
    for case in shown:
        slower, _, points, _ = _cells(case)
        reason = case.reason.replace("|", "\\|")
        lines.append(f"| `{case.case}` | {slower} | {points} | {case.verdict}: {reason} |")
    return "\n".join(lines).rstrip() + "\n"


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


def _cells(case: CheckedCase) -> Sequence[str]:
    cells = ["", "", "", ""]
    if case.speed:
        cells[:2] = f"{case.speed.change:+.1%}", percent(case.speed.smallest)
    if case.accuracy:
        drop = 100 * case.accuracy.smallest
        # Adding 0.0 turns a negative zero into a positive one.
        points = round(-100 * case.accuracy.change, 2) + 0.0
        cells[2:] = f"{points:+.2f}", f"{-drop:.1f}" if drop < 100 else "never"
    return cells


def _points(share: float) -> str:
    return f"{100 * share:.1f} points" if share < 1 else "no size"


def _printable(text: str) -> str:
    """XML 1.0 knows no control characters."""
    return "".join(c if c.isprintable() else " " for c in text)
