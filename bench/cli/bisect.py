"""`fmnist-bench bisect`: finds the commit that made training slower."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from bench.cli.declared import SIZE_OPTIONS
from bench.cli.duel import DUEL_HELPS, DUEL_OPTIONS
from bench.cli.options import Verb, options
from bench.cli.verb import command_line, console_of
from bench.schema.bisect import What

_HELPS = {
    **DUEL_HELPS,
    "output": "the bisection's folder [default: a new one under results/]",
    "resume": "finish the bisection in this folder",
}


@click.command(cls=Verb)
@click.argument("good", required=False, metavar="GOOD")
@click.argument("bad", required=False, metavar="BAD")
@click.argument("paths", nargs=-1, metavar="[PATH...]")
@click.option("--checkout", metavar="REPO", help="repository that holds your model")
@click.option(
    "--what", metavar="WORD", help=f"{' or '.join(What)}: what became worse [default: speed]"
)
@click.option("--first-parent", is_flag=True, help="follow only the first parent of a merge")
@click.option(
    "--setup",
    metavar="COMMAND",
    help="run in each checkout first, with a virtual environment of its own",
)
@options(lambda option: option.name in DUEL_OPTIONS, helps=_HELPS)
@options(lambda option: option.name == "margin", SIZE_OPTIONS, _HELPS)
@click.option("--rows", type=int, metavar="N", help="train on the first N images only, to be quick")
def bisect(**values: Any) -> int:
    """Find the commit between GOOD and BAD that made training slower, by duels.

    GOOD and BAD are revisions of the repository REPO, which holds your model (--models) or is a
    checkout of this suite. With PATHs, which are relative to REPO, only commits that touch them
    are tried.

    A duel of GOOD and BAD confirms the change first. Each step then tries a commit between them
    against GOOD, until no change, or one as large as that, is ruled out. At the end the commit is
    tried against its own parent. A wrong commit is named in at most 1% of bisections. A commit
    that cannot be set up, imported or trained is skipped.

    --resume finishes a bisection that was stopped, and shows the result of one that has ended.

    Exit codes: 1, the commit is named; 2, wrong use, or GOOD or BAD cannot be measured; 3, no
    change is confirmed between GOOD and BAD, or the commit is one of several.

    Default case: relu_mlp, adam, compiled, cpu, batch 512, 2 epochs.
    """
    from bench.cli.bisect_plan import plan_of_bisect, resumed
    from bench.reports.terminal.bisect import BisectLines, print_bisect
    from bench.session import bisect as bisecting
    from bench.session.commits import GitHistory
    from bench.session.preflight import new_folder_name

    console, new = console_of(), not values["resume"]
    if new:
        folder = Path(values["output"]) if values["output"] else new_folder_name("bisect", None)
        plan = bisecting.fixed(plan_of_bisect(values, command_line()), folder)
    else:
        folder = Path(values["resume"])
        plan = resumed(bisecting.resume(folder), values, folder)
    report = bisecting.bisect(plan, folder, BisectLines(console), wait=values["wait"], new=new)
    print_bisect(report, console, GitHistory.of(plan).told)
    if report.was_stopped:
        again = ["fmnist-bench", "bisect", "--resume", str(folder)]
        again += ["--setup", plan.setup] if plan.setup else []
        click.echo(f"resume it: {shlex.join(again)}")
    click.echo(folder / "verdict.json")
    return report.exit_code
