"""`fmnist-bench duel`: measures two sides in turns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.cli.declared import AXES, SIZE_OPTIONS
from bench.cli.options import Verb, options
from bench.cli.verb import command_line, console_of
from bench.schema.matrix import DUEL_AXES, SWEPT_MODEL

DUEL_OPTIONS = (
    *(axis.replace("_", "-") for axis in AXES),
    "processes",
    "scaling",
    "epochs",
    "seed",
    "steps",
    "cache-stream",
    "data",
    "timeout",
    "fresh",
    "output",
    "resume",
    "wait",
)
# Help texts of options that differ from those of a run.
DUEL_HELPS = {
    **{
        axis.replace("_", "-"): f"comma-separated [default: {only[0]}]"
        for axis in AXES
        if (only := getattr(DUEL_AXES, axis))
    },
    "models": "or module:function or path/to/file.py:function of your own; comma-separated "
    f"[default: {SWEPT_MODEL}]",
    "precisions": "comma-separated [default: float32]",
    "threads": "inside an operation; comma-separated [default: the framework's]",
    "backends": "comma-separated [default: the first that is installed]",
    "epochs": "documented epochs [default: 2]",
    "output": "the duel's folder [default: a new one under results/]",
    "resume": "finish the duel in this folder",
    "gate": "slow-down that must be ruled out, as a share [default: 0.05, which is 5%]",
    "accuracy-gate": "drop of accuracy that must be ruled out, in points, or of another score in "
    "points or percent [default: 2]",
}


@click.command(cls=Verb)
@click.option("--a", metavar="SIDE", help="what B is measured against")
@click.option("--b", metavar="SIDE", help="what is judged")
@options(lambda option: option.name in DUEL_OPTIONS, helps=DUEL_HELPS)
@options(lambda _: True, SIZE_OPTIONS, DUEL_HELPS)
@click.option(
    "--budget",
    type=float,
    metavar="S",
    help="seconds after which no block begins, but the first with its repeats; with --resume, "
    "counted anew",
)
@click.option("--rows", type=int, metavar="N", help="train on the first N images only, to be quick")
def duel(**values: Any) -> int:
    """Measure A and B in turns, on a noisy machine, and say whether B is worse.

    \b
    SIDE is the word here, or any of these, with spaces between them:
      python=INTERPRETER         or the folder of a virtual environment
      checkout=FOLDER@REVISION   of a repository that holds your model, or of this suite;
                                 without @REVISION as it is now; a side's working folder
                                 is the checkout that holds its model
      backend=NAME               tensorflow, jax or torch, from the same weights
      NAME=VALUE                 an environment variable

    A block is one fresh launch of each side, in random order. After 4, 6, 8, 12, 16 and 24 blocks
    there is a look at each case, which ends when it is decided. It is a regression where B is
    slower by more than the margin, or its accuracy, or another score from 0 to 1 that is good when
    high, is lower by more than 0.5 points (any other score worse by more than 0.5%), beyond doubt
    (1% for all cases and looks together). It passes where a change as large as the gate is ruled
    out: a B that is worse by the gate passes in at most one duel of ten. Before every round, a
    control that no side can influence measures the memory; where it differs, there is no verdict.

    --resume finishes a duel in the orders that were drawn when it began. Only --budget may be
    changed then.

    Exit codes: 0, B is not worse by the gate; 1, it is worse; 2, wrong use, or a launch failed;
    3, not decided after the last block or the budget, or the control differs.

    Default case: relu_mlp, adam, compiled, cpu, batch 512, 2 epochs.
    """  # noqa: D301 - click keeps the lines of a paragraph that begins with a backspace
    from bench.cli.duel_plan import plan_of_duel, resumed
    from bench.reports.terminal.duel import DuelLines, print_duel
    from bench.session import duel as duelling
    from bench.session.preflight import new_folder_name

    console, report, new = console_of(), None, not values["resume"]
    if new:
        plan = plan_of_duel(values, command_line())
        folder = Path(values["output"]) if values["output"] else new_folder_name("duel", None)
    else:
        folder = Path(values["resume"])
        plan = resumed(duelling.resume(folder), values, folder)
        report = duelling.finished(plan, folder)
    if report is None:
        lines = DuelLines(console)
        report = duelling.fight(plan, folder, lines, wait=values["wait"], new=new)
    else:
        click.echo(f"the duel in {folder} has ended; its result:")
    print_duel(report, console)
    if report.stopped:
        click.echo(f"resume it: fmnist-bench duel --resume {folder} (--budget S for a new budget)")
    click.echo(folder / "verdict.json")
    return report.exit_code
