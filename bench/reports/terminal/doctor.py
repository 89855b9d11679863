"""The table of `doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.verdicts.validity import Report, Verdict

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {
    Verdict.OK: "green",
    Verdict.WARNING: "yellow",
    Verdict.FAILED: "bold red",
    Verdict.NOT_APPLICABLE: "dim",
}


def render(report: Report, console: Console) -> None:
    """Print the checks as a table for 80 columns, and one line with their counts."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("finding", overflow="fold")
    for check in report.checks:
        style = _STYLES[check.verdict]
        finding = Text(check.finding)
        if check.remedy:
            finding.append(f"\nremedy: {check.remedy}", style="bold")
        verdict = Text(check.verdict.replace("_", " "), style=style)
        table.add_row(Text(check.name), verdict, finding)
    console.print(table)
    count = {verdict: sum(c.verdict is verdict for c in report.checks) for verdict in Verdict}
    console.print(
        f"{report.device}: "
        + ", ".join(f"{number} {verdict.replace('_', ' ')}" for verdict, number in count.items()),
        highlight=False,
    )
